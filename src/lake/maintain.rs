//! Keeps a table small: which snapshots to forget, and which files nobody needs any more.
//!
//! Snapshots are forgotten by a commit ([`super::snapshot::Change::expire`]); their files are deleted
//! after its swap, never before and never when the swap's outcome is unknown. What a crash leaves in
//! between is found by [`sweep_orphans`].

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fail::fail_point;
use iceberg::spec::{Snapshot, SnapshotRef, TableMetadata};

use super::manifests;
use super::names::{incarnation_of, normal_path};
use super::snapshot::Garbage;
use super::storage::{StorageError, Store};
use super::table::{LoadedTable, TableError, read_list};

/// How long snapshots are kept. A snapshot goes only when it is past both bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many snapshots stay, the current one among them.
    pub snapshots_min: usize,
    /// Younger snapshots stay.
    pub age_min: Duration,
}

/// The snapshots that the next commit may forget, oldest first: never the head of a branch or a tag, and
/// always the oldest ones, so that history keeps no gap.
pub fn expired_snapshots(metadata: &TableMetadata, retention: Retention, now_ms: i64) -> Vec<i64> {
    let age_min = i64::try_from(retention.age_min.as_millis()).unwrap_or(i64::MAX);
    let snapshots = in_order(metadata);
    // The snapshot of the commit that forgets counts as well.
    let surplus = (snapshots.len() + 1).saturating_sub(retention.snapshots_min.max(1));
    let old = |s: &&SnapshotRef| s.timestamp_ms() <= now_ms.saturating_sub(age_min);
    let mut expired: Vec<i64> =
        snapshots.iter().take(surplus).take_while(old).map(|s| s.snapshot_id()).collect();
    if !expired.is_empty() {
        let named = named_snapshots(metadata);
        let keep = |id: &i64| Some(*id) == metadata.current_snapshot_id() || named.contains(id);
        if let Some(first) = expired.iter().position(keep) {
            expired.truncate(first);
        }
    }
    expired
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
/// In a history without forks a file is out of reach exactly when it was removed by an expired snapshot
/// or by the oldest that is kept, so the cost is that of the garbage. Where the history forks (another
/// program rolled back or branched) nothing is deleted.
pub fn delete_expired(
    store: &Store,
    table: &LoadedTable,
    garbage: &Garbage,
) -> Result<Deleted, TableError> {
    let mut deleted = Deleted::default();
    for path in &garbage.metadata_files {
        deleted.metadata += usize::from(store.delete(path)?);
    }
    let kept = in_order(&table.metadata);
    let Some(oldest) = kept.first().filter(|_| !garbage.snapshots.is_empty()) else {
        return Ok(deleted);
    };
    if !is_one_line(&garbage.snapshots, &kept) {
        return Ok(deleted);
    }
    let wrap = table.iceberg_error("find the files of its expired snapshots");
    let reachable: HashSet<String> = paths(&read_list(store, oldest).map_err(&wrap)?);
    let mut dead_manifests = BTreeSet::new();
    let mut dead_data = BTreeSet::new();
    for snapshot in garbage.snapshots.iter().chain([oldest]) {
        // A list that is gone was deleted by an earlier try, and with it all that it named.
        let Ok(list) = read_list(store, snapshot) else { continue };
        let id = snapshot.snapshot_id();
        for manifest in &list {
            if manifest.added_snapshot_id == id && manifest.has_deleted_files() {
                dead_data.extend(manifests::read_deleted(store, manifest, id).map_err(&wrap)?);
            }
        }
        dead_manifests.extend(paths(&list).difference(&reachable).cloned());
    }
    for path in &dead_data {
        deleted.data += usize::from(store.delete(path)?);
    }
    for path in &dead_manifests {
        deleted.manifests += usize::from(store.delete(path)?);
    }
    for snapshot in &garbage.snapshots {
        deleted.manifest_lists += usize::from(store.delete(snapshot.manifest_list())?);
    }
    Ok(deleted)
}

fn paths(list: &[iceberg::spec::ManifestFile]) -> HashSet<String> {
    list.iter().map(|manifest| manifest.manifest_path.clone()).collect()
}

/// Whether all these snapshots follow one another, each the parent of the next.
fn is_one_line(expired: &[SnapshotRef], kept: &[SnapshotRef]) -> bool {
    let mut line: Vec<&SnapshotRef> = expired.iter().chain(kept).collect();
    line.sort_by_key(|s| s.sequence_number());
    let follows =
        |pair: &[&SnapshotRef]| pair[1].parent_snapshot_id() == Some(pair[0].snapshot_id());
    line.windows(2).all(follows)
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
        files.extend(earlier_files(&root.join(folder), orphans)?);
    }
    let mut swept = Swept::default();
    if files.is_empty() {
        return Ok(swept);
    }
    let referenced = referenced_files(store, table)?;
    files.retain(|(path, _)| !referenced.contains(path));
    for (path, modified) in files {
        if modified < orphans.older_than {
            fail_point!("orphan.delete");
            store.delete(&path)?;
            swept.deleted.push(path);
        } else {
            swept.young += 1;
        }
    }
    swept.deleted.sort();
    Ok(swept)
}

/// Files of this folder that may be orphans by their names, and when they were written.
fn earlier_files(
    folder: &Path,
    orphans: Orphans<'_>,
) -> Result<Vec<(String, SystemTime)>, StorageError> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| StorageError::new("list", folder, e))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StorageError::new("list", folder, e))?;
        let name = entry.file_name();
        let incarnation = name.to_str().and_then(|name| incarnation_of(name, orphans.job));
        if incarnation.is_none_or(|found| found >= orphans.before_incarnation) {
            continue;
        }
        match entry.metadata().and_then(|m| m.modified()) {
            Ok(modified) => files.push((entry.path().display().to_string(), modified)),
            // It expired since the folder was listed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StorageError::new("look at", entry.path(), e)),
        }
    }
    Ok(files)
}

/// Every file that a retained snapshot or the metadata itself needs, as normal paths.
pub fn referenced_files(store: &Store, table: &LoadedTable) -> Result<HashSet<String>, TableError> {
    let wrap = table.iceberg_error("list the files of its snapshots");
    let normal = |path: &str| normal_path(path).to_owned();
    let mut referenced = HashSet::from([normal(&table.metadata_location)]);
    referenced.extend(table.metadata.metadata_log().iter().map(|log| normal(&log.metadata_file)));
    let statistics = table.metadata.statistics_iter().map(|s| normal(&s.statistics_path));
    referenced.extend(statistics);
    let mut seen = HashSet::new();
    for snapshot in table.metadata.snapshots() {
        let snapshot: &Snapshot = snapshot;
        referenced.insert(normal(snapshot.manifest_list()));
        for manifest in read_list(store, snapshot).map_err(&wrap)? {
            if seen.insert(manifest.manifest_path.clone()) {
                referenced.insert(normal(&manifest.manifest_path));
                let live = manifests::read_live(store, &manifest).map_err(&wrap)?;
                referenced.extend(live.iter().map(|entry| normal(entry.file.file_path())));
            }
        }
    }
    Ok(referenced)
}

#[cfg(test)]
#[path = "maintain_tests.rs"]
mod tests;
