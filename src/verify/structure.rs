//! What must hold of the tables themselves, whatever their rows say: files, snapshots, ids and cuts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use super::history::History;
use super::scan::{long, scan};
use super::{Fault, VerifyError};
use crate::lake::at_commit::{AtCommit, commit_of};
use crate::lake::cells::value_at;
use crate::lake::names::normal_path;
use crate::lake::read::live_files;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Value;

/// Files stand where they should, once, as long as was noted. False if one is missing.
pub(crate) fn check_files(
    store: &Store,
    at: &AtCommit,
    faults: &mut Vec<Fault>,
) -> Result<bool, VerifyError> {
    let name = at.table.full_name();
    let mut fault = |what: String| faults.push(Fault::new(&name, what));
    let files = live_files(store, &at.table)?;
    let (mut met, mut all_there) = (HashSet::new(), true);
    for file in &files {
        if !met.insert(&file.path) {
            fault(format!("file {} is there twice", file.path));
        }
        match fs::metadata(normal_path(&file.path)) {
            Err(error) => {
                all_there = false;
                fault(format!("file {} can't be read: {error}", file.path));
            }
            Ok(found) if found.len() != file.bytes => {
                let (found, noted) = (found.len(), file.bytes);
                fault(format!("file {} has {found} bytes, {noted} were noted", file.path));
            }
            Ok(_) => {}
        }
    }
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let summary = at.snapshot.as_ref().map(|s| &s.summary().additional_properties);
    let noted = summary.and_then(|summary| summary.get("total-records")?.parse().ok());
    if noted.is_some_and(|noted: u64| noted != rows) {
        fault(format!("its files have {rows} rows, and its snapshot says {}", noted.unwrap_or(0)));
    }
    Ok(all_there)
}

/// All tables stand at one commit: that of the table of cuts, with the same cut where they name one.
pub(crate) fn check_moment(tables: &[AtCommit], commit: u64, faults: &mut Vec<Fault>) {
    let said = |at: &AtCommit| {
        let summary = &at.snapshot.as_ref()?.summary().additional_properties;
        Some((commit_of(summary)?, summary.get("tidewater.cut")?.clone()))
    };
    let cuts = tables.iter().find(|at| at.table.name == "cuts").and_then(said);
    let Some((of_cuts, cut)) = cuts else {
        return faults.push(Fault::new("cuts", format!("no snapshot names commit {commit}")));
    };
    if of_cuts != commit {
        let what = format!("the newest snapshot up to commit {commit} is that of commit {of_cuts}");
        faults.push(Fault::new("cuts", what));
    }
    for at in tables {
        if let Some((of, other)) = said(at)
            && of == of_cuts
            && other != cut
        {
            let what =
                format!("its snapshot of commit {of} names another cut than the table of cuts");
            faults.push(Fault::new(&at.table.full_name(), what));
        }
    }
}

/// Every id is there once.
pub(crate) fn check_ids(history: &History, commit: u64, faults: &mut Vec<Fault>) {
    let mut first: HashMap<u128, usize> = HashMap::with_capacity(history.events.len());
    for (index, event) in history.events.iter().enumerate().filter(|(_, e)| e.commit <= commit) {
        if let Some(other) = first.insert(event.id, index) {
            let places = [other, index].map(|event| history.described(event));
            let what = format!("one event id stands twice: {} and {}", places[0], places[1]);
            faults.push(Fault::new("events", what));
        }
    }
}

/// Offsets go on where they stood.
pub(crate) fn check_cuts(
    store: &Store,
    cuts: &LoadedTable,
    faults: &mut Vec<Fault>,
) -> Result<(), VerifyError> {
    let names = ["_commit", "topic", "partition", "start_offset", "end_offset"];
    let mut rows: Vec<(u64, Value, i64, i64, i64)> = Vec::new();
    scan(store, cuts, &names, &mut |columns, count| {
        rows.extend((0..count).map(|row| {
            let number = |column: usize| long(&columns[column], row);
            let topic = value_at(&columns[1], row);
            (number(0).cast_unsigned(), topic, number(2), number(3), number(4))
        }));
    })?;
    rows.sort();
    let mut ends: BTreeMap<(Value, i64), i64> = BTreeMap::new();
    for (commit, topic, partition, start, end) in rows {
        let name = topic.text(0);
        let place = format!("topic {name}, partition {partition}, commit {commit}");
        if end < start {
            let what = format!("{place}: it ends at offset {end}, before its start {start}");
            faults.push(Fault::new(&cuts.full_name(), what));
        }
        match ends.insert((topic, partition), end) {
            Some(stood) if stood != start => {
                let what =
                    format!("{place}: it starts at offset {start}, where {stood} was reached");
                faults.push(Fault::new(&cuts.full_name(), what));
            }
            _ => {}
        }
    }
    Ok(())
}
