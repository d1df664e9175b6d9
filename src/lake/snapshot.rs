//! Stages one commit of one table: new manifests, their list and the metadata of the next version.
//!
//! Nothing is visible before the catalog points at the result; a staged commit that is thrown away
//! leaves unreferenced files only.
//!
//! * An append reads no manifest: the present ones are carried over, unless a tier of them is full.
//! * A manifest that holds a removed file is rewritten: survivors keep their numbers as `EXISTING`, the
//!   removed ones are listed once as `DELETED`.
//! * A manifest without live files is left out of the next list.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fail::fail_point;
use futures::executor::block_on;
use iceberg::spec::{
    DataFile, MAIN_BRANCH, ManifestContentType, ManifestFile, ManifestListWriter, Snapshot,
    SnapshotRef, TableMetadata,
};
use uuid::Uuid;

use super::catalog::Swap;
use super::data_file::WrittenFile;
use super::manifests::{self, Entries, LiveEntry, SnapshotNumbers};
use super::names::{Origin, metadata_version, normal_path};
use super::storage::{StorageError, Store};
use super::summary::Counts;
use super::table::{LoadedTable, TableError};

/// What one commit does to one table.
#[derive(Debug, Clone)]
pub struct Change {
    pub origin: Origin,
    pub added: Vec<WrittenFile>,
    /// Paths of live files whose rows are no longer in the table, or are in an added file.
    pub removed: Vec<String>,
    /// Our own words in the snapshot's summary, beside the counts that every snapshot has.
    pub summary: BTreeMap<String, String>,
    /// Table properties to set.
    pub properties: BTreeMap<String, String>,
    /// Snapshots to forget, as [`super::maintain::expired_snapshots`] chooses them.
    pub expire: Vec<i64>,
}

/// A commit of one table that only waits for its swap.
#[derive(Debug)]
pub struct Staged {
    /// The table as it is once the swap is done.
    pub table: LoadedTable,
    /// The metadata location that the swap replaces.
    pub replaces: String,
    pub snapshot_id: i64,
    /// What can be deleted once the swap is done.
    pub garbage: Garbage,
    written: Vec<String>,
}

/// What a commit leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Garbage {
    pub snapshots: Vec<SnapshotRef>,
    pub metadata_files: Vec<String>,
}

impl Garbage {
    /// Takes over the garbage of another commit of the same table.
    pub fn absorb(&mut self, other: Garbage) {
        self.snapshots.extend(other.snapshots);
        self.metadata_files.extend(other.metadata_files);
    }

    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.metadata_files.is_empty()
    }
}

impl Staged {
    /// The pointer swap that makes this commit visible.
    pub fn swap(&self) -> Swap {
        Swap {
            namespace: self.table.namespace.clone(),
            table: self.table.name.clone(),
            from: self.replaces.clone(),
            to: self.table.metadata_location.clone(),
        }
    }

    /// Deletes the staged files. Only for a commit that is known not to have happened.
    pub fn discard(self, store: &Store) -> Result<(), StorageError> {
        self.written.iter().try_for_each(|path| store.delete(path).map(drop))
    }
}

/// Writes the files of the next version of `table`. Times are in milliseconds since 1970.
pub fn stage(
    store: &Store,
    table: &LoadedTable,
    change: &Change,
    now_ms: i64,
) -> Result<Staged, TableError> {
    if change.added.is_empty() && change.removed.is_empty() {
        return Err(TableError::Empty { table: table.full_name() });
    }
    let metadata = &table.metadata;
    let snapshot = SnapshotNumbers {
        id: new_snapshot_id(metadata),
        sequence_number: metadata.next_sequence_number(),
    };
    let mut producer = Producer { store, table, change, snapshot, written: Vec::new() };
    let plan = producer.plan()?;
    let deleted = plan.new.values().flat_map(|entries| entries.deleted.iter().cloned()).collect();
    let (manifests, entries) = producer.write_manifests(plan)?;
    let list = producer.write_list(&manifests)?;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot.id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(snapshot.sequence_number)
        // Strictly rising times let readers tell any two versions apart.
        .with_timestamp_ms(now_ms.max(metadata.last_updated_ms() + 1))
        .with_manifest_list(list)
        .with_summary(Counts { table, change, deleted, manifests: &manifests }.summary())
        .with_schema_id(metadata.current_schema_id())
        .build();
    producer.finish(snapshot, manifests, entries)
}

/// A positive id that no snapshot of the table has.
fn new_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = ((high ^ low) & i64::MAX.cast_unsigned()).cast_signed();
        if id != 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

type EntryCache = BTreeMap<String, Arc<Vec<Arc<LiveEntry>>>>;

/// The next manifest list: what stays, and what is written, by partition spec.
#[derive(Debug)]
struct Plan {
    carried: Vec<ManifestFile>,
    new: BTreeMap<i32, Entries>,
    /// Entries that were read on the way, by manifest path.
    entries: EntryCache,
    full: u64,
}

struct Producer<'a> {
    store: &'a Store,
    table: &'a LoadedTable,
    change: &'a Change,
    snapshot: SnapshotNumbers,
    written: Vec<String>,
}

impl Producer<'_> {
    /// Finds the removed files, then decides which manifests are carried over and which are folded.
    fn plan(&self) -> Result<Plan, TableError> {
        let metadata = &self.table.metadata;
        let wrap = self.table.iceberg_error("describe its new files");
        let added = self.change.added.iter().map(|file| file.to_data_file(metadata));
        let added = added.collect::<Result<Vec<DataFile>, _>>().map_err(wrap)?;
        let spec_id = metadata.default_partition_spec_id();
        let mut plan = Plan {
            carried: Vec::new(),
            new: BTreeMap::from([(spec_id, Entries { added, ..Entries::default() })]),
            entries: EntryCache::new(),
            full: manifests::full_size(self.table.file_count() + self.change.added.len() as u64),
        };
        self.take_out_removed(&mut plan)?;
        let live = plan.new.get(&spec_id).map_or(0, Entries::live);
        if live > 0 {
            self.fold(&mut plan, spec_id, live)?;
        }
        Ok(plan)
    }

    fn take_out_removed(&self, plan: &mut Plan) -> Result<(), TableError> {
        let mut wanted: HashSet<&str> =
            self.change.removed.iter().map(|path| normal_path(path)).collect();
        for manifest in self.table.manifests.iter().filter(|m| manifests::has_live_files(m)) {
            if wanted.is_empty() || manifest.content != ManifestContentType::Data {
                plan.carried.push(manifest.clone());
                continue;
            }
            let live = self.live_entries(manifest, &mut plan.entries)?;
            let mut is_removed =
                |e: &Arc<LiveEntry>| wanted.remove(normal_path(e.file.file_path()));
            let (deleted, existing): (Vec<_>, Vec<_>) =
                live.iter().cloned().partition(|entry| is_removed(entry));
            if deleted.is_empty() {
                plan.carried.push(manifest.clone());
            } else {
                let new = plan.new.entry(manifest.partition_spec_id).or_default();
                new.existing.extend(existing);
                new.deleted.extend(deleted);
            }
        }
        match wanted.iter().min() {
            None => Ok(()),
            Some(example) => Err(TableError::NotLive {
                table: self.table.full_name(),
                missing: wanted.len(),
                example: (*example).to_owned(),
            }),
        }
    }

    /// Folds carried manifests of full tiers into the new one.
    fn fold(&self, plan: &mut Plan, spec_id: i32, live: u64) -> Result<(), TableError> {
        let (mergeable, mut carried): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.carried)
            .into_iter()
            .partition(|m| manifests::is_mergeable(m, spec_id));
        let sizes: Vec<u64> = mergeable.iter().map(manifests::live_files).collect();
        let folded: BTreeSet<usize> =
            manifests::plan_merge(&sizes, live, plan.full).into_iter().collect();
        for (at, manifest) in mergeable.into_iter().enumerate() {
            if folded.contains(&at) {
                let mut read = EntryCache::new();
                let entries = self.live_entries(&manifest, &mut read)?;
                plan.new.entry(spec_id).or_default().existing.extend(entries.iter().cloned());
            } else {
                carried.push(manifest);
            }
        }
        carried.sort_by_key(|m| std::cmp::Reverse(m.sequence_number));
        plan.carried = carried;
        Ok(())
    }

    fn live_entries(
        &self,
        manifest: &ManifestFile,
        read: &mut EntryCache,
    ) -> Result<Arc<Vec<Arc<LiveEntry>>>, TableError> {
        let path = &manifest.manifest_path;
        if let Some(known) = self.table.entries.get(path) {
            return Ok(Arc::clone(known));
        }
        let wrap = self.table.iceberg_error("read a manifest");
        let live = Arc::new(manifests::read_live(self.store, manifest).map_err(wrap)?);
        read.insert(path.clone(), Arc::clone(&live));
        Ok(live)
    }

    /// Writes the new manifests; the whole list, newest first, and the entries worth keeping.
    fn write_manifests(
        &mut self,
        plan: Plan,
    ) -> Result<(Vec<ManifestFile>, EntryCache), TableError> {
        let location = self.table.metadata.location();
        let mut list = Vec::new();
        let mut cache = self.table.entries.clone();
        cache.extend(plan.entries);
        for (spec_id, entries) in plan.new {
            if entries.is_empty() {
                continue;
            }
            for part in entries.split(plan.full) {
                let path = self.change.origin.manifest(location, self.written.len());
                self.written.push(path.clone());
                let metadata = &self.table.metadata;
                let manifest =
                    manifests::write(self.store, metadata, self.snapshot, spec_id, &path, &part)
                        .map_err(self.table.iceberg_error("write a manifest"))?;
                // Tables whose files are replaced have few of them and need them again.
                if !self.change.removed.is_empty() {
                    cache.insert(path, Arc::new(self.as_live(part)));
                }
                list.push(manifest);
            }
        }
        list.extend(plan.carried);
        let kept: HashSet<&str> = list.iter().map(|m| m.manifest_path.as_str()).collect();
        cache.retain(|path, _| kept.contains(path.as_str()));
        Ok((list, cache))
    }

    /// What a reader of the new manifest finds alive in it.
    fn as_live(&self, entries: Entries) -> Vec<Arc<LiveEntry>> {
        let added = entries.added.into_iter().map(|file| {
            Arc::new(LiveEntry {
                file,
                snapshot_id: self.snapshot.id,
                sequence_number: self.snapshot.sequence_number,
                file_sequence_number: self.snapshot.sequence_number,
            })
        });
        added.chain(entries.existing).collect()
    }

    fn write_list(&mut self, manifests: &[ManifestFile]) -> Result<String, TableError> {
        let SnapshotNumbers { id, sequence_number } = self.snapshot;
        let metadata = &self.table.metadata;
        let path = self.change.origin.manifest_list(metadata.location(), id);
        self.written.push(path.clone());
        let parent = metadata.current_snapshot_id();
        fail_point!("manifest_list.write");
        let written = block_on(async {
            let output = self.store.io().new_output(&path)?.writer().await?;
            let mut list = ManifestListWriter::v2(output, id, parent, sequence_number);
            list.add_manifests(manifests.iter().cloned())?;
            list.close().await
        });
        written.map_err(self.table.iceberg_error("write a manifest list"))?;
        Ok(path)
    }

    /// Writes the next metadata and puts everything together.
    fn finish(
        mut self,
        snapshot: Snapshot,
        manifests: Vec<ManifestFile>,
        entries: EntryCache,
    ) -> Result<Staged, TableError> {
        let table = self.table;
        let wrap = table.iceberg_error("make its next version");
        let snapshot_id = snapshot.snapshot_id();
        let expired = self.expired(snapshot_id)?;
        let properties: HashMap<String, String> =
            self.change.properties.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let builder = TableMetadata::clone(&table.metadata)
            .into_builder(Some(table.metadata_location.clone()))
            .set_branch_snapshot(snapshot, MAIN_BRANCH)
            .and_then(|builder| builder.set_properties(properties))
            .map_err(&wrap)?;
        let built = builder.remove_snapshots(&self.change.expire).build().map_err(&wrap)?;
        let version = metadata_version(&table.metadata_location) + 1;
        let origin = &self.change.origin;
        let location = table.write_metadata(self.store, &built.metadata, origin, version)?;
        self.written.push(location.clone());
        let logs = built.expired_metadata_logs.into_iter().map(|log| log.metadata_file);
        Ok(Staged {
            table: LoadedTable {
                namespace: table.namespace.clone(),
                name: table.name.clone(),
                metadata_location: location,
                metadata: Arc::new(built.metadata),
                manifests: Arc::new(manifests),
                entries,
            },
            replaces: table.metadata_location.clone(),
            snapshot_id,
            garbage: Garbage { snapshots: expired, metadata_files: logs.collect() },
            written: self.written,
        })
    }

    /// The snapshots to expire, none of which may be the head of a branch or a tag.
    fn expired(&self, new_head: i64) -> Result<Vec<SnapshotRef>, TableError> {
        let metadata = &self.table.metadata;
        let mut heads = if self.change.expire.is_empty() {
            BTreeSet::new()
        } else {
            super::maintain::named_snapshots(metadata)
        };
        // The main branch moves to the new snapshot.
        heads.retain(|id| Some(*id) != metadata.current_snapshot_id());
        heads.insert(new_head);
        let expired = self.change.expire.iter().filter_map(|id| metadata.snapshot_by_id(*id));
        let expired: Vec<SnapshotRef> = expired.cloned().collect();
        match expired.iter().find(|s| heads.contains(&s.snapshot_id())) {
            None => Ok(expired),
            Some(s) => {
                Err(TableError::InUse { table: self.table.full_name(), snapshot: s.snapshot_id() })
            }
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
