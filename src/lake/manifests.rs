//! Manifests: reading and writing their entries, and the plan that keeps them few.
//!
//! Manifests are merged in tiers. Tier `k` holds manifests of [`FAN_IN`]^k up to [`FAN_IN`]^(k+1) live
//! files; as soon as a tier would hold [`FAN_IN`] manifests they become one of the next tier. A manifest
//! of half the full size or more stays as it is, so an entry is rewritten two or three times in its life
//! and no commit rewrites more than a few thousand entries. The full size grows with the table, so the
//! number of manifests stays below [`MANIFESTS_MAX`].

use std::sync::Arc;

use fail::fail_point;
use futures::executor::block_on;
use iceberg::spec::{
    DataFile, ManifestContentType, ManifestFile, ManifestStatus, ManifestWriterBuilder,
    TableMetadata, UNASSIGNED_SEQUENCE_NUMBER,
};
use iceberg::{Error, ErrorKind};

use super::storage::Store;

/// A tier holds fewer manifests than this.
pub const FAN_IN: u64 = 12;
/// A table has fewer manifests than this.
pub const MANIFESTS_MAX: usize = 100;
/// Live files of a full manifest, as long as the table is small.
const FULL_LEAST: u64 = 1024;
/// How many times its full size a table may hold.
const FULL_MANIFESTS: u64 = 16;

/// A live file of a table and what its manifest entry must keep saying.
#[derive(Debug, Clone)]
pub(crate) struct LiveEntry {
    pub(crate) file: DataFile,
    pub(crate) snapshot_id: i64,
    pub(crate) sequence_number: i64,
    pub(crate) file_sequence_number: i64,
}

/// The entries of a manifest that is to be written.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) added: Vec<DataFile>,
    pub(crate) existing: Vec<Arc<LiveEntry>>,
    pub(crate) deleted: Vec<Arc<LiveEntry>>,
}

impl Entries {
    pub(crate) fn live(&self) -> u64 {
        (self.added.len() + self.existing.len()) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live() == 0 && self.deleted.is_empty()
    }

    /// Splits into parts of about equal size, none with more than `full` live files.
    pub(crate) fn split(mut self, full: u64) -> Vec<Entries> {
        let parts = self.live().div_ceil(full).max(1);
        let size = usize::try_from(self.live().div_ceil(parts)).unwrap_or(usize::MAX);
        let mut split = Vec::new();
        while self.live() as usize > size {
            let added: Vec<_> = self.added.drain(..size.min(self.added.len())).collect();
            let rest = (size - added.len()).min(self.existing.len());
            let existing = self.existing.drain(..rest).collect();
            split.push(Entries { added, existing, deleted: Vec::new() });
        }
        split.push(self);
        split
    }
}

/// Live files of a manifest; counts may be absent in lists of format version 1 only.
pub(crate) fn live_files(manifest: &ManifestFile) -> u64 {
    let count = |files: Option<u32>| u64::from(files.unwrap_or(0));
    count(manifest.added_files_count) + count(manifest.existing_files_count)
}

/// Rows of the live files of a manifest.
pub(crate) fn live_rows(manifest: &ManifestFile) -> u64 {
    manifest.added_rows_count.unwrap_or(0) + manifest.existing_rows_count.unwrap_or(0)
}

/// Whether this manifest can still hold a live file.
pub(crate) fn has_live_files(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

/// Live files of a full manifest in a table of so many.
pub(crate) fn full_size(live_in_table: u64) -> u64 {
    live_in_table.div_ceil(FULL_MANIFESTS).max(FULL_LEAST)
}

/// Which of the carried manifests are folded into a new one of `new_live` files: their indices.
pub(crate) fn plan_merge(carried: &[u64], new_live: u64, full: u64) -> Vec<usize> {
    let mut folded: Vec<usize> = Vec::new();
    let mut live = new_live;
    while let Some(tier) = tier_of(live, full) {
        let same: Vec<usize> = (0..carried.len())
            .filter(|at| !folded.contains(at) && tier_of(carried[*at], full) == Some(tier))
            .collect();
        if (same.len() as u64) + 1 < FAN_IN {
            break;
        }
        live += same.iter().map(|&at| carried[at]).sum::<u64>();
        folded.extend(same);
    }
    folded
}

fn tier_of(live: u64, full: u64) -> Option<u32> {
    (live < full / 2).then(|| live.max(1).ilog(FAN_IN))
}

/// The live entries of a manifest, with what they inherit from its place in the list filled in.
pub(crate) fn read_live(
    store: &Store,
    manifest: &ManifestFile,
) -> Result<Vec<Arc<LiveEntry>>, Error> {
    let loaded = block_on(manifest.load_manifest(store.io()))?;
    let live = loaded.entries().iter().filter(|entry| entry.is_alive()).map(|entry| {
        let unassigned = || {
            let message = format!("{} has an entry without numbers", manifest.manifest_path);
            Error::new(ErrorKind::DataInvalid, message)
        };
        Ok(Arc::new(LiveEntry {
            file: entry.data_file().clone(),
            snapshot_id: entry.snapshot_id().ok_or_else(unassigned)?,
            sequence_number: entry.sequence_number().ok_or_else(unassigned)?,
            file_sequence_number: entry.file_sequence_number.ok_or_else(unassigned)?,
        }))
    });
    live.collect()
}

/// Paths of the files that snapshot `snapshot_id` removed, as this manifest tells.
pub(crate) fn read_deleted(
    store: &Store,
    manifest: &ManifestFile,
    snapshot_id: i64,
) -> Result<Vec<String>, Error> {
    let loaded = block_on(manifest.load_manifest(store.io()))?;
    let deleted = loaded.entries().iter().filter(|entry| {
        entry.status() == ManifestStatus::Deleted && entry.snapshot_id() == Some(snapshot_id)
    });
    Ok(deleted.map(|entry| entry.file_path().to_owned()).collect())
}

/// The snapshot for which manifests are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotNumbers {
    pub(crate) id: i64,
    pub(crate) sequence_number: i64,
}

/// Writes a manifest and returns its list entry, as a reload of the list would give it.
pub(crate) fn write(
    store: &Store,
    metadata: &TableMetadata,
    snapshot: SnapshotNumbers,
    spec_id: i32,
    path: &str,
    entries: &Entries,
) -> Result<ManifestFile, Error> {
    let spec = metadata.partition_spec_by_id(spec_id).ok_or_else(|| {
        Error::new(ErrorKind::DataInvalid, format!("there is no partition spec {spec_id}"))
    })?;
    fail_point!("manifest.write");
    let output = store.io().new_output(path)?;
    let schema = Arc::clone(metadata.current_schema());
    let builder =
        ManifestWriterBuilder::new(output, Some(snapshot.id), schema, spec.as_ref().clone());
    let mut writer = builder.build_v2_data();
    for file in &entries.added {
        writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER)?;
    }
    for e in &entries.existing {
        let file_sequence = Some(e.file_sequence_number);
        let file = e.file.clone();
        writer.add_existing_file(file, e.snapshot_id, e.sequence_number, file_sequence)?;
    }
    for e in &entries.deleted {
        let file_sequence = Some(e.file_sequence_number);
        writer.add_delete_file(e.file.clone(), e.sequence_number, file_sequence)?;
    }
    let mut manifest = block_on(writer.write_manifest_file())?;
    // The list writer fills these in a copy of its own; the cached list must have them too.
    for number in [&mut manifest.sequence_number, &mut manifest.min_sequence_number] {
        if *number == UNASSIGNED_SEQUENCE_NUMBER {
            *number = snapshot.sequence_number;
        }
    }
    Ok(manifest)
}

/// Whether we may merge this manifest with others of `spec_id`.
pub(crate) fn is_mergeable(manifest: &ManifestFile, spec_id: i32) -> bool {
    manifest.content == ManifestContentType::Data
        && manifest.partition_spec_id == spec_id
        && manifest.key_metadata.is_none()
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
