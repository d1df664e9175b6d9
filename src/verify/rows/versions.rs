//! The table of the dimension's versions: each row is the record at its position.
//!
//! A compacted topic lacks older versions. A row whose record is no longer there can't be compared; it is
//! counted, and taken for true where the answers need it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::cuts::Gone;
use crate::job::{Column, DimensionSpec};
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::verify::VerifyError;
use crate::verify::compare::{NamedColumn, Shape};
use crate::verify::copies::Copies;
use crate::verify::found::Found;
use crate::verify::history::{Place, Values, Version, version_columns};
use crate::verify::log::Ranges;
use crate::verify::scan::scan;

/// Compares the rows of a table of versions. What is gone from the log is noted in `gone`, if it may be.
pub(crate) fn compare(
    spec: &DimensionSpec,
    copies: &mut Copies,
    ranges: &Ranges,
    store: &Store,
    table: &LoadedTable,
    mut gone: Option<&mut Gone>,
    found: &mut Found,
) -> Result<(), VerifyError> {
    let named = |column: &Column| NamedColumn::new(&column.name, column.kind);
    let columns: Vec<NamedColumn> = spec.columns.iter().map(named).collect();
    let places = copies.versions.iter().enumerate().map(|(index, of)| (of.place, index));
    let mut unmet: HashMap<Place, usize> = places.collect();
    let mut counted: BTreeMap<u64, usize> = BTreeMap::new();
    let known = copies.versions.len();
    scan(store, table, &version_columns(spec), &mut |cells, rows| {
        for row in 0..rows {
            let (mut version, deleted) = copies.values.version(cells, row);
            // A deleted version has no columns; one that shows some equals none.
            if deleted && version.columns.iter().flatten().all(|column| *column == 0) {
                version.columns = None;
            }
            *counted.entry(version.commit).or_default() += 1;
            let (place, commit) = (version.place, version.commit);
            let said = |version: &Version| described(&copies.values, spec, &columns, version);
            let partition = i32::try_from(place.partition).unwrap_or(-1);
            let is_read = ranges.commit(partition, place.offset) == Some(commit);
            match (unmet.remove(&place), &mut gone) {
                (Some(index), _) if is_same(&copies.versions[index], &version) => {}
                (Some(index), _) => {
                    let (expected, held) = (said(&copies.versions[index]), said(&version));
                    let what = format!("expected {expected}, found {held}");
                    found.fault(&table.name, commit, what);
                }
                (None, Some(gone)) if is_read && !copies.letters.contains_key(&place) => {
                    gone.version(partition, commit);
                    copies.versions.push(version);
                }
                (None, _) => {
                    let what =
                        format!("expected no row or another place, found {}", said(&version));
                    found.fault(&table.name, commit, what);
                }
            }
        }
    })?;
    debug_assert!(unmet.values().all(|index| *index < known));
    for index in unmet.into_values() {
        let version = &copies.versions[index];
        let expected = described(&copies.values, spec, &columns, version);
        found.fault(&table.name, version.commit, format!("expected {expected}, found no row"));
    }
    found.count(&table.name, counted);
    Ok(())
}

fn is_same(expected: &Version, found: &Version) -> bool {
    (expected.key, expected.commit) == (found.key, found.commit)
        && expected.columns == found.columns
}

fn described(
    values: &Values,
    spec: &DimensionSpec,
    columns: &[NamedColumn],
    version: &Version,
) -> String {
    let key = values.get(version.key).text(0);
    let cells = version.columns.iter().flatten().map(|cell| values.get(*cell).clone());
    let what = match &version.columns {
        None => "deleted".to_owned(),
        Some(_) => Shape::named(columns, &cells.collect::<Vec<_>>()),
    };
    let place = values.place_text(version.place);
    format!("{}={key}: {what} (commit {}, {place})", spec.key_name, version.commit)
}
