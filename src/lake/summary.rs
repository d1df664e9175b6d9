//! The summary of a snapshot: what the commit did, and what the table holds after it.
//!
//! Totals of files and rows are counted from the manifests of the new list, so they are right whatever
//! an earlier summary said; the total size is carried on from the previous one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{ManifestFile, Operation, Struct, Summary};

use super::manifests::{LiveEntry, live_files, live_rows};
use super::snapshot::Change;
use super::table::LoadedTable;

/// What the counts of a commit are made from.
#[derive(Debug)]
pub(crate) struct Counts<'a> {
    /// The table before the commit.
    pub(crate) table: &'a LoadedTable,
    pub(crate) change: &'a Change,
    pub(crate) deleted: Vec<Arc<LiveEntry>>,
    /// The table's manifests after the commit.
    pub(crate) manifests: &'a [ManifestFile],
}

impl Counts<'_> {
    /// The summary of the commit's snapshot, the caller's own keys included.
    pub(crate) fn summary(&self) -> Summary {
        let added = &self.change.added;
        let added_bytes: u64 = added.iter().map(|file| file.bytes).sum();
        let deleted = || self.deleted.iter().map(|entry| &entry.file);
        let deleted_bytes: u64 = deleted().map(|file| file.file_size_in_bytes()).sum();
        let before = self.table.summary().get("total-files-size").and_then(|s| s.parse().ok());
        let bytes = (before.unwrap_or(0) + added_bytes).saturating_sub(deleted_bytes);
        let always = [
            ("total-data-files", self.manifests.iter().map(live_files).sum()),
            ("total-records", self.manifests.iter().map(live_rows).sum()),
            ("total-files-size", bytes),
            ("total-delete-files", 0),
            ("total-position-deletes", 0),
            ("total-equality-deletes", 0),
            ("changed-partition-count", self.changed_partitions()),
        ];
        let sometimes = [
            ("added-data-files", added.len() as u64),
            ("added-records", added.iter().map(|file| file.rows).sum()),
            ("added-files-size", added_bytes),
            ("deleted-data-files", self.deleted.len() as u64),
            ("deleted-records", deleted().map(|file| file.record_count()).sum()),
            ("removed-files-size", deleted_bytes),
        ];
        let counts = always.into_iter().chain(sometimes.into_iter().filter(|(_, n)| *n > 0));
        let mut properties: HashMap<String, String> =
            counts.map(|(key, count)| (key.to_owned(), count.to_string())).collect();
        properties.extend(self.change.summary.clone());
        Summary { operation: self.operation(), additional_properties: properties }
    }

    fn operation(&self) -> Operation {
        match (self.change.added.is_empty(), self.change.removed.is_empty()) {
            (_, true) => Operation::Append,
            (true, false) => Operation::Delete,
            (false, false) => Operation::Overwrite,
        }
    }

    fn changed_partitions(&self) -> u64 {
        let added = self.change.added.iter().map(|file| file.partition.to_struct());
        let deleted = self.deleted.iter().map(|entry| entry.file.partition().clone());
        added.chain(deleted).collect::<HashSet<Struct>>().len() as u64
    }
}
