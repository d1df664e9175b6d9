//! A table as it stood at an earlier commit, as long as a snapshot of that time is kept.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use iceberg::spec::SnapshotRef;

use super::storage::Store;
use super::table::{LoadedTable, TableError, read_list};

/// Why a table can't be had as it stood at a commit.
#[derive(Debug, thiserror::Error)]
pub enum AtCommitError {
    /// The commit's snapshot is gone.
    #[error(
        "table {table} no longer keeps commit {commit}, its oldest is {oldest}; \
         the job's keep_snapshots says how many snapshots a table keeps"
    )]
    Expired { table: String, commit: u64, oldest: u64 },
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A table at a commit.
#[derive(Debug)]
pub struct AtCommit {
    /// The table with the files of that commit; without any where it was still empty.
    pub table: LoadedTable,
    /// The snapshot that showed it; `None` where it was still empty.
    pub snapshot: Option<SnapshotRef>,
}

impl LoadedTable {
    /// The table as it stood at `commit`.
    pub fn at_commit(&self, store: &Store, commit: u64) -> Result<AtCommit, AtCommitError> {
        let mut snapshots: Vec<SnapshotRef> = self.metadata.snapshots().cloned().collect();
        snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
        let of = |snapshot: &SnapshotRef| commit_of(&snapshot.summary().additional_properties);
        let shown = |snapshot: &&SnapshotRef| of(snapshot).is_some_and(|of| of <= commit);
        let snapshot = snapshots.iter().rev().find(shown).cloned();
        if let (None, Some(oldest)) = (&snapshot, snapshots.first())
            && oldest.parent_snapshot_id().is_some()
        {
            let (table, oldest) = (self.full_name(), of(oldest).unwrap_or_default());
            return Err(AtCommitError::Expired { table, commit, oldest });
        }
        let manifests = snapshot.iter().map(|snapshot| read_list(store, snapshot));
        let manifests = manifests.collect::<Result<Vec<_>, _>>();
        let manifests = manifests.map_err(self.iceberg_error("read its manifest list"))?;
        let table = LoadedTable { manifests: Arc::new(manifests.concat()), ..self.clone() };
        Ok(AtCommit { table, snapshot })
    }
}

/// The commit that a snapshot's summary names.
pub fn commit_of<S: BuildHasher>(summary: &HashMap<String, String, S>) -> Option<u64> {
    summary.get("tidewater.commit")?.parse().ok()
}
