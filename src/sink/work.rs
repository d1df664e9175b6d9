//! What commits cost: their input, what they read and wrote of state, what they wrote to tables, and time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::finished::Counts;
use super::sorted::Sorted;
use super::tables::TableSet;
use crate::model::Commit;
use crate::source::feed::Role;
use crate::state::{ReadStats, SlabMeta};

/// The work of one commit, or of all commits of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Work {
    /// The newest commit.
    pub commit: u64,
    /// What came in, and what came of it.
    #[serde(flatten)]
    pub totals: Totals,
    /// By collection of state: `ids`, `users`, and one for each aggregate and funnel.
    pub state: BTreeMap<String, StateWork>,
    /// By table.
    pub tables: BTreeMap<String, TableWork>,
    /// Wall time since the commit before it, or since the run was ready to read.
    pub seconds: f64,
}

/// What came in, and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Records of the event topic.
    pub records: u64,
    /// Events admitted.
    pub events: u64,
    /// Copies of admitted events.
    pub duplicates: u64,
    /// Copies whose content differs.
    pub conflicts: u64,
    /// Records of both topics that did not decode.
    pub dead_letters: u64,
    /// Records of the dimension topic.
    pub dimension_records: u64,
    /// Rows that entered or left current tables.
    pub changes: u64,
}

/// What was read and written of a collection of state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWork {
    /// Keys looked up in a slab, once for each slab that may have them.
    pub keys_sought: u64,
    /// Blocks of slabs that were read for them.
    pub blocks_read: u64,
    /// Bytes of those blocks, and of filters.
    pub bytes_read: u64,
    /// Rows that were new or changed.
    pub rows_written: u64,
    /// Bytes of their slabs.
    pub bytes_written: u64,
    /// Bytes of slabs that were made of older ones beside the run.
    pub bytes_merged: u64,
}

/// What was written to a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableWork {
    /// Data files that it gained.
    pub files_added: u64,
    /// Data files that were replaced.
    pub files_removed: u64,
    /// Rows of the new files: for a current table those of whole leaves, changed or not.
    pub rows_written: u64,
    /// Bytes of the new files.
    pub bytes_written: u64,
}

impl Work {
    /// The work of a commit, but for its time.
    pub(super) fn of_commit(commit: Commit, sorted: &Sorted, tables: &TableSet) -> Self {
        let mut work = Work { commit: commit.0, ..Work::default() };
        work.totals.changes = sorted.changes;
        for ((role, _), counts) in &sorted.counts {
            work.totals.count(*role, counts);
        }
        for slab in &sorted.slabs {
            let state = work.state.entry(slab.collection.clone()).or_default();
            state.rows_written += slab.rows;
            state.bytes_written += slab.bytes;
        }
        for (collection, read) in &sorted.reads {
            work.state.entry(collection.clone()).or_default().read(read);
        }
        for (table, files) in &sorted.added {
            let table = work.tables.entry(tables.get(*table).spec.name.clone()).or_default();
            table.files_added += files.len() as u64;
            table.rows_written += files.iter().map(|file| file.rows).sum::<u64>();
            table.bytes_written += files.iter().map(|file| file.bytes).sum::<u64>();
        }
        for (table, files) in &sorted.removed {
            let table = work.tables.entry(tables.get(*table).spec.name.clone()).or_default();
            table.files_removed += files.len() as u64;
        }
        work
    }

    /// A slab was made of older ones.
    pub(super) fn merged(&mut self, slab: &SlabMeta) {
        self.state.entry(slab.collection.clone()).or_default().bytes_merged += slab.bytes;
    }

    /// Takes the work of the next commit in.
    pub fn add(&mut self, next: &Work) {
        self.commit = next.commit;
        self.totals.add(&next.totals);
        for (collection, next) in &next.state {
            self.state.entry(collection.clone()).or_default().add(next);
        }
        for (table, next) in &next.tables {
            self.tables.entry(table.clone()).or_default().add(next);
        }
        self.seconds += next.seconds;
    }
}

impl Totals {
    fn count(&mut self, role: Role, counts: &Counts) {
        match role {
            Role::Events => self.records += counts.records,
            Role::Dimension => self.dimension_records += counts.records,
        }
        self.events += counts.events;
        self.duplicates += counts.duplicates;
        self.conflicts += counts.conflicts;
        self.dead_letters += counts.dead_letters;
    }

    fn add(&mut self, next: &Totals) {
        self.records += next.records;
        self.events += next.events;
        self.duplicates += next.duplicates;
        self.conflicts += next.conflicts;
        self.dead_letters += next.dead_letters;
        self.dimension_records += next.dimension_records;
        self.changes += next.changes;
    }
}

impl StateWork {
    fn read(&mut self, read: &ReadStats) {
        self.keys_sought += read.probes;
        self.blocks_read += read.blocks;
        self.bytes_read += read.block_bytes + read.filter_bytes;
    }

    fn add(&mut self, next: &StateWork) {
        self.keys_sought += next.keys_sought;
        self.blocks_read += next.blocks_read;
        self.bytes_read += next.bytes_read;
        self.rows_written += next.rows_written;
        self.bytes_written += next.bytes_written;
        self.bytes_merged += next.bytes_merged;
    }
}

impl TableWork {
    fn add(&mut self, next: &TableWork) {
        self.files_added += next.files_added;
        self.files_removed += next.files_removed;
        self.rows_written += next.rows_written;
        self.bytes_written += next.bytes_written;
    }
}
