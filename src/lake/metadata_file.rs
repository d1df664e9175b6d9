//! The bytes of a table's metadata file: the same for the same metadata, whatever the process.
//!
//! The iceberg crate keeps snapshots, schemas, partition specs and sort orders in hash maps and writes
//! them in their order, which differs from run to run; readers list snapshots as they stand in the file.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use iceberg::spec::TableMetadata;
use iceberg::{Error, ErrorKind};
use serde_json::Value;

/// Arrays of the metadata whose order means nothing, and the numbers to sort them by.
const UNORDERED: [(&str, &str); 6] = [
    ("snapshots", "sequence-number"),
    ("schemas", "schema-id"),
    ("partition-specs", "spec-id"),
    ("sort-orders", "order-id"),
    ("statistics", "snapshot-id"),
    ("partition-statistics", "snapshot-id"),
];

/// The JSON of this metadata, in a fixed order.
pub(crate) fn encode(metadata: &TableMetadata, gzip: bool) -> Result<Vec<u8>, Error> {
    let mut json = serde_json::to_value(metadata)?;
    for (array, number) in UNORDERED {
        if let Some(Value::Array(items)) = json.get_mut(array) {
            items.sort_by_key(|item| item.get(number).and_then(Value::as_i64));
        }
    }
    let plain = serde_json::to_vec(&json)?;
    if !gzip {
        return Ok(plain);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let zipped = encoder.write_all(&plain).and_then(|()| encoder.finish());
    zipped.map_err(|e| Error::new(ErrorKind::Unexpected, "cannot compress it").with_source(e))
}
