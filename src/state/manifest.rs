//! Which slabs are the state: the part of a commit that the commit's transaction swaps.
//!
//! Invariant: the slabs of a collection are sorted by generation and commit, oldest first, and two
//! slabs of one generation have the same commits (workers of one commit) or none in common. So
//! "the newest slab wins" has one meaning, and a merge of neighbours never changes it.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::error::StateError;

/// The version of the manifest's JSON.
pub const MANIFEST_VERSION: u32 = 1;

/// What the manifest knows of a slab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabMeta {
    pub collection: String,
    /// The file's name in the state folder.
    pub file: String,
    pub rows: u64,
    pub bytes: u64,
    /// The least key.
    pub lower: Vec<u64>,
    /// The greatest key, itself in the slab.
    pub upper: Vec<u64>,
    /// The first and the last commit whose rows are in the slab.
    pub commit_from: u64,
    pub commit_to: u64,
    /// Slabs of different generations are never merged.
    pub generation: u64,
    /// Of the index, directory and footer: ties the file to this entry.
    pub checksum: u64,
}

impl SlabMeta {
    /// Sorts slabs from the oldest to the newest.
    pub(crate) fn age(&self) -> (u64, u64, u64) {
        (self.generation, self.commit_to, self.commit_from)
    }

    pub(crate) fn same_commits(&self, other: &Self) -> bool {
        self.age() == other.age()
    }
}

/// The live slabs of all collections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub slabs: BTreeMap<String, Vec<SlabMeta>>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { version: MANIFEST_VERSION, slabs: BTreeMap::new() }
    }
}

impl Manifest {
    /// The slabs of a collection, oldest first.
    pub fn collection(&self, name: &str) -> &[SlabMeta] {
        self.slabs.get(name).map_or(&[], Vec::as_slice)
    }

    /// Adds a slab in its place; one that no longer fits is an error and changes nothing.
    pub fn add(&mut self, slab: SlabMeta) -> Result<(), StateError> {
        self.replace(&[], slab)
    }

    /// Puts the result of a merge in the place of its inputs, all of which must still be there.
    pub fn replace(&mut self, merged: &[SlabMeta], slab: SlabMeta) -> Result<(), StateError> {
        let mut slabs = self.collection(&slab.collection).to_vec();
        slabs.retain(|old| !merged.contains(old));
        if slabs.len() + merged.len() != self.collection(&slab.collection).len() {
            let what = format!("{} replaces slabs that are not in the manifest", slab.file);
            return Err(StateError::misuse(&slab.collection, what));
        }
        let name = slab.collection.clone();
        slabs.push(slab);
        slabs.sort_by_key(SlabMeta::age);
        check_order(&slabs)?;
        self.slabs.insert(name, slabs);
        Ok(())
    }

    /// The names of all live files.
    pub fn files(&self) -> HashSet<String> {
        self.slabs.values().flatten().map(|slab| slab.file.clone()).collect()
    }

    /// Checks the version and the invariant; to be called on a manifest that was read.
    pub fn check(&self) -> Result<(), StateError> {
        if self.version != MANIFEST_VERSION {
            let what = format!(
                "the state manifest has version {}, this program reads {MANIFEST_VERSION}; use the \
                 program that wrote it or a newer one",
                self.version
            );
            return Err(StateError::misuse("", what));
        }
        self.slabs.values().try_for_each(|slabs| check_order(slabs))
    }
}

/// The invariant, for slabs of one collection, oldest first.
pub(crate) fn check_order(slabs: &[SlabMeta]) -> Result<(), StateError> {
    for pair in slabs.windows(2) {
        let [older, newer] = pair else { continue };
        let apart = older.generation < newer.generation
            || (older.generation == newer.generation && older.commit_to < newer.commit_from);
        if !apart && !older.same_commits(newer) {
            return Err(StateError::Overlap {
                collection: newer.collection.clone(),
                older: older.file.clone(),
                newer: newer.file.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A slab that exists only on paper.
    pub(crate) fn paper(generation: u64, commits: (u64, u64), worker: u64, bytes: u64) -> SlabMeta {
        SlabMeta {
            collection: "ids".to_owned(),
            file: format!("ids-{generation}-{}-{}-{worker}", commits.0, commits.1),
            rows: bytes / 8,
            bytes,
            lower: vec![0],
            upper: vec![u64::MAX],
            commit_from: commits.0,
            commit_to: commits.1,
            generation,
            checksum: u64::MAX - worker,
        }
    }

    #[test]
    fn a_manifest_survives_json_with_every_word_intact() {
        let mut manifest = Manifest::default();
        manifest.add(paper(0, (2, 2), 0, 80)).unwrap();
        manifest.add(paper(0, (1, 1), 0, 80)).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        let read: Manifest = serde_json::from_str(&json).unwrap();
        assert_eq!(read, manifest);
        read.check().unwrap();
        assert_eq!(read.collection("ids")[0].commit_to, 1);
        assert!(read.collection("none").is_empty());
        assert_eq!(read.files().len(), 2);
    }

    #[test]
    fn a_merge_takes_the_place_of_its_inputs_once() {
        let mut manifest = Manifest::default();
        for commit in 1..=4 {
            for worker in 0..2 {
                manifest.add(paper(0, (commit, commit), worker, 80)).unwrap();
            }
        }
        let inputs = manifest.collection("ids")[2..6].to_vec();
        let merged = paper(0, (2, 3), 9, 300);
        manifest.replace(&inputs, merged.clone()).unwrap();
        let commits: Vec<u64> = manifest.collection("ids").iter().map(|s| s.commit_to).collect();
        assert_eq!(commits, [1, 1, 3, 4, 4]);
        assert!(manifest.replace(&inputs, merged).is_err());
        manifest.check().unwrap();
    }

    #[test]
    fn overlapping_commits_are_refused() {
        let mut manifest = Manifest::default();
        manifest.add(paper(0, (1, 3), 0, 80)).unwrap();
        assert!(matches!(manifest.add(paper(0, (3, 4), 0, 80)), Err(StateError::Overlap { .. })));
        assert!(matches!(manifest.add(paper(0, (3, 3), 0, 80)), Err(StateError::Overlap { .. })));
        manifest.add(paper(1, (3, 4), 0, 80)).unwrap();
        assert_eq!(manifest.collection("ids").len(), 2);
        manifest.version = 2;
        assert!(manifest.check().is_err());
    }
}
