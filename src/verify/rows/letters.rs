//! The table of dead letters: each row is a record that can't be decoded, with its bytes and the reason.
//!
//! The texts of `detail` are for people and are not compared.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_128;

use super::cuts::Gone;
use crate::lake::cells::value_at;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Value;
use crate::verify::VerifyError;
use crate::verify::copies::Copies;
use crate::verify::found::Found;
use crate::verify::history::{Place, ValueId};
use crate::verify::log::Ranges;
use crate::verify::plain::Letter;
use crate::verify::scan::{long, scan};

const TABLE: &str = "dead_letters";
const NAMES: [&str; 8] =
    ["_topic", "_partition", "_offset", "_timestamp", "reason", "key", "value", "_commit"];

/// A topic of which records may be gone, and what is.
pub(crate) type MayLack<'a> = Option<(ValueId, &'a Ranges, &'a mut Gone)>;

/// Compares the rows of the table of dead letters with those of both topics.
pub(crate) fn compare(
    copies: &mut Copies,
    store: &Store,
    table: &LoadedTable,
    mut may_lack: MayLack<'_>,
    found: &mut Found,
) -> Result<(), VerifyError> {
    let mut counted: BTreeMap<u64, usize> = BTreeMap::new();
    let mut unmet = std::mem::take(&mut copies.letters);
    let versions = may_lack.iter().flat_map(|_| &copies.versions);
    let versions: HashSet<Place> = versions.map(|version| version.place).collect();
    scan(store, table, &NAMES, &mut |columns, rows| {
        for row in 0..rows {
            let commit = long(&columns[7], row).cast_unsigned();
            *counted.entry(commit).or_default() += 1;
            let place = copies.values.place(columns, row);
            let shown = || copies.values.place_text(place);
            if let Some((of, letter)) = unmet.remove(&place) {
                let differences = differences(&letter, of, columns, row, commit);
                if !differences.is_empty() {
                    let differences = differences.join("; ");
                    found.fault(TABLE, commit, format!("{}: {differences}", shown()));
                }
                continue;
            }
            let partition = i32::try_from(place.partition).unwrap_or(-1);
            match &mut may_lack {
                Some((topic, ranges, gone))
                    if place.topic == *topic
                        && ranges.commit(partition, place.offset) == Some(commit)
                        && !versions.contains(&place) =>
                {
                    gone.letter(partition, commit);
                }
                _ => {
                    let reason = value_at(&columns[4], row).text(0);
                    let what = format!("{}: expected no row, found reason={reason}", shown());
                    found.fault(TABLE, commit, what);
                }
            }
        }
    })?;
    for (place, (commit, letter)) in unmet {
        let (place, word) = (copies.values.place_text(place), letter.refused.word);
        let what = format!("{place}: expected reason={word}, found no row");
        found.fault(TABLE, commit, what);
    }
    found.count(TABLE, counted);
    Ok(())
}

/// What is wrong with a row.
fn differences(
    letter: &Letter,
    of: u64,
    columns: &[ArrayRef],
    row: usize,
    commit: u64,
) -> Vec<String> {
    let mut said = Vec::new();
    let reason = value_at(&columns[4], row).text(0);
    if !letter.refused.allows(&reason) {
        said.push(format!("reason: expected {}, found {reason}", letter.refused.word));
    }
    let expected = letter.timestamp_us.map_or(Value::Null, Value::Timestamp);
    let held = value_at(&columns[3], row);
    if held != expected {
        said.push(format!("_timestamp: expected {}, found {}", expected.text(0), held.text(0)));
    }
    for (name, column, expected) in
        [("key", &columns[5], letter.key), ("value", &columns[6], letter.value)]
    {
        let held = bytes_at(column, row);
        if held.map(xxh3_128) != expected {
            let held = held.map_or("NULL".to_owned(), |bytes| format!("{} bytes", bytes.len()));
            said.push(format!(
                "{name}: expected the bytes of the record, found {held}, other ones"
            ));
        }
    }
    if of != commit {
        said.push(format!("_commit: expected {of}, found {commit}"));
    }
    said
}

fn bytes_at(column: &ArrayRef, row: usize) -> Option<&[u8]> {
    let bytes = column.as_binary_opt::<i32>()?;
    bytes.is_valid(row).then(|| bytes.value(row))
}
