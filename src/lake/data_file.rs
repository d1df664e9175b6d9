//! What is known of a finished data file: enough to put it into a snapshot without opening it again.
//!
//! A [`WrittenFile`] crosses threads and processes, so it holds plain values only; bounds are bytes in
//! Iceberg's single-value serialisation.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, Schema, Struct,
    TableMetadata,
};
use iceberg::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// The partition that all rows of a file belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FilePartition {
    Unpartitioned,
    /// Days since 1970-01-01 UTC, or the null partition.
    Day(Option<i32>),
}

impl FilePartition {
    /// The partition of a row by its time in microseconds.
    pub fn day_of(micros: Option<i64>) -> Self {
        // Every i64 of microseconds is within 2^27 days.
        let day = |t: i64| i32::try_from(t.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX);
        FilePartition::Day(micros.map(day))
    }

    /// This partition as Iceberg writes it.
    pub(crate) fn to_struct(self) -> Struct {
        match self {
            FilePartition::Unpartitioned => Struct::empty(),
            FilePartition::Day(day) => Struct::from_iter([day.map(Literal::date)]),
        }
    }
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A data file that is on disk, and its metrics by field id. Hidden columns have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    pub partition: FilePartition,
    /// Compressed bytes.
    pub column_sizes: BTreeMap<i32, u64>,
    /// Values, nulls included.
    pub value_counts: BTreeMap<i32, u64>,
    pub null_counts: BTreeMap<i32, u64>,
    /// No value of the column is less; absent where nothing is known or all values are null.
    pub lower: BTreeMap<i32, Vec<u8>>,
    /// No value of the column is greater.
    pub upper: BTreeMap<i32, Vec<u8>>,
    /// Where the row groups start.
    pub split_offsets: Vec<i64>,
}

impl WrittenFile {
    /// This file as an entry of the table's manifests.
    pub(crate) fn to_data_file(&self, metadata: &TableMetadata) -> Result<DataFile, Error> {
        let schema = metadata.current_schema();
        let fields = metadata.default_partition_spec().fields().len();
        if fields != usize::from(self.partition != FilePartition::Unpartitioned) {
            let message =
                format!("{} has the partition {:?}, unlike its table", self.path, self.partition);
            return Err(Error::new(ErrorKind::DataInvalid, message));
        }
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(self.path.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(self.partition.to_struct())
            .partition_spec_id(metadata.default_partition_spec_id())
            .record_count(self.rows)
            .file_size_in_bytes(self.bytes)
            .column_sizes(to_hash(&self.column_sizes))
            .value_counts(to_hash(&self.value_counts))
            .null_value_counts(to_hash(&self.null_counts))
            .lower_bounds(bounds(&self.lower, schema)?)
            .upper_bounds(bounds(&self.upper, schema)?)
            .split_offsets(Some(self.split_offsets.clone()));
        if let Ok(order @ 1..) = i32::try_from(metadata.default_sort_order_id()) {
            builder.sort_order_id(order);
        }
        builder.build().map_err(|e| {
            Error::new(ErrorKind::Unexpected, format!("{}: {e}", self.path)).with_source(e)
        })
    }
}

fn to_hash(map: &BTreeMap<i32, u64>) -> HashMap<i32, u64> {
    map.iter().map(|(&id, &count)| (id, count)).collect()
}

fn bounds(map: &BTreeMap<i32, Vec<u8>>, schema: &Schema) -> Result<HashMap<i32, Datum>, Error> {
    let bound = |(&id, bytes): (&i32, &Vec<u8>)| {
        let kind = schema.field_by_id(id).and_then(|f| f.field_type.as_primitive_type()).cloned();
        let kind = kind.ok_or_else(|| {
            Error::new(ErrorKind::DataInvalid, format!("the table has no field {id}"))
        })?;
        Ok((id, Datum::try_from_bytes(bytes, kind)?))
    };
    map.iter().map(bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_floored_on_both_sides_of_1970() {
        assert_eq!(FilePartition::day_of(Some(-1)), FilePartition::Day(Some(-1)));
        assert_eq!(FilePartition::day_of(Some(0)), FilePartition::Day(Some(0)));
        assert_eq!(FilePartition::day_of(Some(MICROS_PER_DAY)), FilePartition::Day(Some(1)));
        assert_eq!(FilePartition::day_of(None), FilePartition::Day(None));
        assert_eq!(FilePartition::day_of(Some(i64::MIN)), FilePartition::Day(Some(-106_751_992)));
    }

    #[test]
    fn the_null_partition_survives_json() {
        let partition = FilePartition::Day(None);
        let text = serde_json::to_string(&partition).unwrap();
        assert_eq!(serde_json::from_str::<FilePartition>(&text).unwrap(), partition);
    }
}
