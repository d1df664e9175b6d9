//! Keeps a table small: which snapshots to forget, and which files nobody needs any more.
//!
//! Snapshots are forgotten by a commit ([`super::snapshot::Change::expire`]); their files are deleted
//! after its swap, never before and never when the swap's outcome is unknown. What a crash leaves in
//! between is found by [`sweep_orphans`].

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fail::fail_point;
use iceberg::spec::{ManifestFile, Snapshot, SnapshotRef, TableMetadata};

use super::manifests;
use super::names::normal_path;
use super::reach::{self, Dead, Named, Node};
use super::snapshot::Garbage;
use super::storage::Store;
use super::table::{LoadedTable, TableError, read_list_at};

/// How long snapshots are kept. A snapshot goes only when it is past both bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many snapshots stay, the current one among them.
    pub snapshots_min: usize,
    /// Younger snapshots stay.
    pub age_min: Duration,
}

/// The snapshots that the next commit may forget, oldest first: never the head of a branch or a tag.
pub fn expired_snapshots(metadata: &TableMetadata, retention: Retention, now_ms: i64) -> Vec<i64> {
    let snapshots: Vec<Node> = in_order(metadata).iter().map(|s| node(s)).collect();
    reach::surplus(&snapshots, retention, now_ms, || {
        let mut kept = named_snapshots(metadata);
        kept.extend(metadata.current_snapshot_id());
        kept
    })
}

/// The snapshot among others.
fn node(snapshot: &Snapshot) -> Node {
    Node {
        id: snapshot.snapshot_id(),
        parent: snapshot.parent_snapshot_id(),
        sequence: snapshot.sequence_number(),
        at_ms: snapshot.timestamp_ms(),
        list: snapshot.manifest_list().to_owned(),
    }
}

/// Snapshots that a branch or a tag points at.
pub(crate) fn named_snapshots(metadata: &TableMetadata) -> BTreeSet<i64> {
    // The crate gives references by name only; its JSON gives the names.
    let json = serde_json::to_value(metadata).unwrap_or_default();
    let references = json.get("refs").and_then(|refs| refs.as_object());
    let ids = references.into_iter().flatten().filter_map(|(_, r)| r.get("snapshot-id")?.as_i64());
    ids.collect()
}

fn in_order(metadata: &TableMetadata) -> Vec<SnapshotRef> {
    let mut snapshots: Vec<SnapshotRef> = metadata.snapshots().cloned().collect();
    snapshots.sort_by_key(|s| s.sequence_number());
    snapshots
}

/// How many files were deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    pub data: usize,
    pub manifests: usize,
    pub manifest_lists: usize,
    pub metadata: usize,
}

impl Deleted {
    pub fn total(&self) -> usize {
        self.data + self.manifests + self.manifest_lists + self.metadata
    }
}

/// Deletes what only expired snapshots needed. `table` is the table after the swap that expired them.
///
/// The cost is that of the garbage. Where the history forks (another program rolled back or branched) only
/// old metadata is deleted.
pub fn delete_expired(
    store: &Store,
    table: &LoadedTable,
    garbage: &Garbage,
) -> Result<Deleted, TableError> {
    let mut deleted = Deleted::default();
    for path in &garbage.metadata_files {
        deleted.metadata += usize::from(store.delete(path)?);
    }
    let kept: Vec<Node> = in_order(&table.metadata).iter().map(|s| node(s)).collect();
    let expired: Vec<Node> = garbage.snapshots.iter().map(|s| node(s)).collect();
    let dead = dead_files(store, &expired, &kept);
    let dead = dead.map_err(table.iceberg_error("find the files of its expired snapshots"))?;
    for path in &dead.data {
        deleted.data += usize::from(store.delete(path)?);
    }
    for path in &dead.manifests {
        deleted.manifests += usize::from(store.delete(path)?);
    }
    for path in &dead.lists {
        deleted.manifest_lists += usize::from(store.delete(path)?);
    }
    Ok(deleted)
}

/// The files that only `expired` snapshots needed.
fn dead_files(store: &Store, expired: &[Node], kept: &[Node]) -> Result<Dead, iceberg::Error> {
    let removed = |snapshot: &Node, manifest: &ManifestFile| {
        manifests::read_deleted(store, manifest, snapshot.id)
    };
    reach::dead_files(expired, kept, |snapshot| named_manifests(store, snapshot), removed)
}

/// Which unreferenced files of a table are ours to delete.
#[derive(Debug, Clone, Copy)]
pub struct Orphans<'a> {
    /// Only files of this job…
    pub job: &'a str,
    /// …written by a run before this one…
    pub before_incarnation: u64,
    /// …and not touched since.
    pub older_than: SystemTime,
}

/// What became of the orphans of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The paths of those that were deleted, sorted.
    pub deleted: Vec<String>,
    /// How many stay since they are too young.
    pub young: usize,
}

/// Deletes files that a crashed run left in the table's folders. `table` may be an older version of a table
/// whose newer ones come from the incarnation `orphans.before_incarnation` alone.
pub fn sweep_orphans(
    store: &Store,
    table: &LoadedTable,
    orphans: Orphans<'_>,
) -> Result<Swept, TableError> {
    let root = PathBuf::from(normal_path(table.metadata.location()));
    let mut files = Vec::new();
    for folder in ["data", "metadata"] {
        files.extend(reach::earlier_files(store.list(&root.join(folder))?, orphans));
    }
    if files.is_empty() {
        return Ok(Swept::default());
    }
    let referenced = referenced_files(store, table)?;
    let (deleted, young) = reach::old_orphans(files, orphans.older_than, &referenced);
    for path in &deleted {
        fail_point!("orphan.delete");
        store.delete(path)?;
    }
    Ok(Swept { deleted, young })
}

/// Every file that a retained snapshot or the metadata itself needs, as normal paths.
pub fn referenced_files(store: &Store, table: &LoadedTable) -> Result<HashSet<String>, TableError> {
    let wrap = table.iceberg_error("list the files of its snapshots");
    let normal = |path: &str| normal_path(path).to_owned();
    let mut referenced = HashSet::from([normal(&table.metadata_location)]);
    referenced.extend(table.metadata.metadata_log().iter().map(|log| normal(&log.metadata_file)));
    let statistics = table.metadata.statistics_iter().map(|s| normal(&s.statistics_path));
    referenced.extend(statistics);
    let snapshots: Vec<Node> = in_order(&table.metadata).iter().map(|s| node(s)).collect();
    let live = |manifest: &ManifestFile| {
        let live = manifests::read_live(store, manifest)?;
        Ok(live.iter().map(|entry| entry.file.file_path().to_owned()).collect())
    };
    let needed = reach::needed_files(
        &snapshots,
        |snapshot| named_manifests(store, snapshot),
        live,
        |path| !store.exists(path),
    );
    referenced.extend(needed.map_err(&wrap)?);
    Ok(referenced)
}

/// The manifests of a snapshot.
fn named_manifests(
    store: &Store,
    snapshot: &Node,
) -> Result<Vec<Named<ManifestFile>>, iceberg::Error> {
    let named = |manifest: ManifestFile| Named {
        path: manifest.manifest_path.clone(),
        by: manifest.added_snapshot_id,
        removes: manifest.has_deleted_files(),
        manifest,
    };
    Ok(read_list_at(store, &snapshot.list)?.into_iter().map(named).collect())
}

#[cfg(test)]
#[path = "maintain_tests.rs"]
mod tests;
