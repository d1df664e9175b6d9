//! What the files of a table mean. Their content is not written: a file's meaning is looked up by its
//! name, which is never given twice. Versions of tables are staged as `lake::snapshot` stages them, in the
//! same order of files; which snapshots are forgotten and which files are dead is decided by the real
//! code.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::sim::{JOB, Shared, Sim};
use crate::lake::maintain::Retention;
use crate::lake::reach::{self, Dead, Named, Node};
use crate::lake::storage::{StorageError, Store};

pub(super) const TABLES: usize = 3;
/// An append table, a table whose files are replaced, and the table of cuts.
pub(super) const NAMES: [&str; TABLES] = ["events", "current", "cuts"];
pub(super) const EVENTS: usize = 0;
pub(super) const CURRENT: usize = 1;
pub(super) const CUTS: usize = 2;

const SNAPSHOTS_MIN: usize = 3;
const OLD_METADATA_MAX: usize = 2;
const MANIFESTS_MAX: usize = 3;

/// What a file means.
#[derive(Debug, Clone)]
pub(super) enum Object {
    /// The rows of a commit: records from an offset to another one.
    Data {
        commit: u64,
        from: u64,
        to: u64,
    },
    /// One of two leaves of the current table, which counts the records that belong to it.
    Leaf {
        leaf: u64,
        count: u64,
    },
    /// Its content stands in the lists that name it.
    Manifest,
    List(Arc<Vec<Named<Arc<Manifest>>>>),
    Meta(Arc<Meta>),
}

/// The files of a manifest, by their paths.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) live: Vec<String>,
    removed: Vec<String>,
}

/// A version of a table.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) location: String,
    /// The snapshots that are kept, oldest first.
    pub(super) nodes: Vec<Node>,
    /// Earlier metadata files that are kept.
    log: Vec<String>,
    /// The version that this one was made from.
    pub(super) made_from: Option<String>,
    /// The commit that made it.
    pub(super) commit: u64,
}

/// A version that waits for its swap, and what can be deleted then.
#[derive(Debug)]
pub(super) struct StagedTable {
    pub(super) table: usize,
    pub(super) meta: Arc<Meta>,
    pub(super) replaces: Arc<Meta>,
    expired: Vec<Node>,
    old_metadata: Vec<String>,
}

/// Where a table is.
pub(super) fn location(table: usize) -> String {
    format!("/w/n/{}", NAMES[table])
}

/// Writes files of one run, with names of its incarnation.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) shared: &'a Shared,
    pub(super) store: &'a Store,
    pub(super) run: usize,
    pub(super) incarnation: u64,
    pub(super) commit: u64,
}

impl Writer<'_> {
    /// Writes a file of a kind, and says what it means.
    pub(super) fn write(
        &self,
        table: usize,
        kind: &str,
        object: impl FnOnce(&str) -> Object,
    ) -> Result<String, StorageError> {
        let path = {
            let mut sim = self.shared.lock().unwrap();
            let (number, location) = (sim.unique(), location(table));
            let stem = format!("{JOB}-{:08}-{:012}", self.incarnation, self.commit);
            let path = match kind {
                "data" => format!("{location}/data/{stem}-000-{number}.parquet"),
                "snap" => format!("{location}/metadata/snap-{number}-{stem}-{number}.avro"),
                kind => format!("{location}/metadata/{stem}-{kind}-{number}.avro"),
            };
            let object = object(&path);
            sim.objects.insert(path.clone(), object);
            sim.in_flight[self.run].files.insert(path.clone());
            path
        };
        self.store.write_new(&path, super::disk::CONTENT)?;
        Ok(path)
    }

    /// The first version of a table.
    pub(super) fn create(&self, table: usize) -> Result<Arc<Meta>, StorageError> {
        let (nodes, log, commit) = (Vec::new(), Vec::new(), 0);
        let meta = Meta { location: String::new(), nodes, log, made_from: None, commit };
        self.write_meta(table, meta)
    }

    fn write_meta(&self, table: usize, mut meta: Meta) -> Result<Arc<Meta>, StorageError> {
        let mut written = None;
        self.write(table, "meta", |path| {
            meta.location = path.to_owned();
            let meta = Arc::new(meta);
            written = Some(Arc::clone(&meta));
            Object::Meta(meta)
        })?;
        Ok(written.unwrap())
    }

    /// Stages the version of a table that has these files more, and those less.
    pub(super) fn stage(
        &self,
        table: usize,
        from: &Arc<Meta>,
        added: &[String],
        removed: &[String],
    ) -> Result<StagedTable, StorageError> {
        let (id, now_ms) = {
            let mut sim = self.shared.lock().unwrap();
            (sim.unique().cast_signed(), sim.now_ms)
        };
        let newest = from.nodes.last();
        let present = newest.map_or_else(Vec::new, |node| self.shared.lock().unwrap().list(node));
        let new = plan(present, added, removed);
        let mut list = new.carried;
        if !new.manifest.live.is_empty() || !new.manifest.removed.is_empty() {
            let manifest = Arc::new(new.manifest);
            let path = self.write(table, "m00", |_| Object::Manifest)?;
            let removes = !manifest.removed.is_empty();
            list.insert(0, Named { path, by: id, removes, manifest });
        }
        let list = self.write(table, "snap", |_| Object::List(Arc::new(list)))?;
        let (parent, sequence) = (newest.map(|n| n.id), newest.map_or(1, |n| n.sequence + 1));
        let at_ms = now_ms.max(newest.map_or(0, |n| n.at_ms + 1));
        let retention = Retention { snapshots_min: SNAPSHOTS_MIN, age_min: Duration::ZERO };
        let forgotten = reach::surplus(&from.nodes, retention, now_ms, || {
            newest.iter().map(|node| node.id).collect::<BTreeSet<_>>()
        });
        let (expired, mut nodes): (Vec<Node>, Vec<Node>) =
            from.nodes.iter().cloned().partition(|node| forgotten.contains(&node.id));
        nodes.push(Node { id, parent, sequence, at_ms, list });
        let mut log = from.log.clone();
        log.push(from.location.clone());
        let old_metadata = log.drain(..log.len().saturating_sub(OLD_METADATA_MAX)).collect();
        let made_from = Some(from.location.clone());
        let meta = Meta { location: String::new(), nodes, log, made_from, commit: self.commit };
        let meta = self.write_meta(table, meta)?;
        Ok(StagedTable { table, meta, replaces: Arc::clone(from), expired, old_metadata })
    }
}

struct Plan {
    carried: Vec<Named<Arc<Manifest>>>,
    manifest: Manifest,
}

/// Which manifests stay, and what is in the new one.
fn plan(present: Vec<Named<Arc<Manifest>>>, added: &[String], removed: &[String]) -> Plan {
    let mut manifest = Manifest { live: added.to_vec(), removed: Vec::new() };
    let mut carried = Vec::new();
    let full = present.len() >= MANIFESTS_MAX;
    for old in present.into_iter().filter(|old| !old.manifest.live.is_empty()) {
        let (gone, stay): (Vec<String>, Vec<String>) =
            old.manifest.live.iter().cloned().partition(|path| removed.contains(path));
        if gone.is_empty() && !full {
            carried.push(old);
        } else {
            manifest.live.extend(stay);
            manifest.removed.extend(gone);
        }
    }
    Plan { carried, manifest }
}

impl StagedTable {
    /// Deletes what nobody needs once the swap is done, as `lake::maintain::delete_expired` does.
    pub(super) fn delete_expired(
        &self,
        shared: &Shared,
        store: &Store,
    ) -> Result<(), StorageError> {
        self.old_metadata.iter().try_for_each(|path| store.delete(path).map(drop))?;
        let manifests = |node: &Node| {
            store.read(&node.list)?;
            Ok(shared.lock().unwrap().list(node))
        };
        let removed = |_: &Node, manifest: &Arc<Manifest>| Ok(manifest.removed.clone());
        let dead: Dead = reach::dead_files(&self.expired, &self.meta.nodes, manifests, removed)?;
        let all = dead.data.iter().chain(&dead.manifests).chain(&dead.lists);
        all.cloned().try_for_each(|path| store.delete(&path).map(drop))
    }
}

impl Meta {
    /// What a sweep leaves alone, as `lake::maintain::referenced_files` finds it on the disk.
    pub(super) fn needed_by_sweep(
        &self,
        shared: &Shared,
        store: &Store,
    ) -> Result<HashSet<String>, StorageError> {
        let manifests = |node: &Node| {
            store.read(&node.list)?;
            let list = shared.lock().unwrap().list(node);
            let with_path = |named: Named<Arc<Manifest>>| {
                let Named { path, by, removes, manifest } = named;
                Named { manifest: (path.clone(), manifest), path, by, removes }
            };
            Ok(list.into_iter().map(with_path).collect())
        };
        let live = |(path, manifest): &(String, Arc<Manifest>)| {
            store.read(path)?;
            Ok(manifest.live.clone())
        };
        let gone = |path: &str| !store.exists(path);
        let mut needed = reach::needed_files(&self.nodes, manifests, live, gone)?;
        needed.insert(self.location.clone());
        needed.extend(self.log.iter().cloned());
        Ok(needed)
    }
}

impl Sim {
    /// The manifests of a snapshot.
    pub(super) fn list(&self, node: &Node) -> Vec<Named<Arc<Manifest>>> {
        self.peek(node).to_vec()
    }

    fn peek(&self, node: &Node) -> &[Named<Arc<Manifest>>] {
        match self.objects.get(&node.list) {
            Some(Object::List(list)) => list,
            _ => &[],
        }
    }

    /// The live files of the newest snapshot.
    pub(super) fn live(&self, meta: &Meta) -> Vec<String> {
        let list = meta.nodes.last().map_or(&[][..], |node| self.peek(node));
        list.iter().flat_map(|named| named.manifest.live.iter().cloned()).collect()
    }

    /// Every file that a version needs, as `lake::maintain::referenced_files` finds them.
    pub(super) fn referenced(&self, meta: &Meta) -> hashbrown::HashSet<String> {
        let mut files = hashbrown::HashSet::from([meta.location.clone()]);
        files.extend(meta.log.iter().cloned());
        for node in &meta.nodes {
            files.insert(node.list.clone());
            for named in self.peek(node) {
                if files.insert(named.path.clone()) {
                    files.extend(named.manifest.live.iter().cloned());
                }
            }
        }
        files
    }
}
