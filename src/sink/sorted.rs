//! The parts of a commit, sorted by what the committer does with them.

use std::collections::BTreeMap;

use super::finished::{Counts, Finished, Leaf, TableIndex};
use crate::lake::data_file::WrittenFile;
use crate::source::feed::Role;
use crate::state::{ReadStats, SlabMeta};

/// The parts of a commit, sorted out.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub added: BTreeMap<TableIndex, Vec<WrittenFile>>,
    pub removed: BTreeMap<TableIndex, Vec<String>>,
    pub leaves: BTreeMap<TableIndex, Vec<Leaf>>,
    pub slabs: Vec<SlabMeta>,
    /// By collection of state.
    pub reads: Vec<(String, ReadStats)>,
    pub counts: BTreeMap<(Role, i32), Counts>,
    pub generations: BTreeMap<u64, u64>,
    pub changes: u64,
}

impl Sorted {
    /// Sorts out what the workers have finished.
    pub(super) fn new(parts: Vec<Finished>) -> Self {
        let mut sorted = Sorted::default();
        for part in parts {
            match part {
                Finished::File { table, file } => sorted.added.entry(table).or_default().push(file),
                Finished::Leaves { table, removed, added, directory, changes } => {
                    sorted.added.entry(table).or_default().extend(added);
                    sorted.removed.insert(table, removed);
                    sorted.leaves.insert(table, directory);
                    sorted.changes += changes;
                }
                Finished::Slab(slab) => sorted.slabs.push(slab),
                Finished::Read { collection, read } => sorted.reads.push((collection, read)),
                Finished::Counts(counts) => {
                    for (key, counts) in counts {
                        sorted.counts.entry(key).or_default().add(&counts);
                    }
                }
                Finished::Generations(sizes) => {
                    for (generation, ids) in sizes {
                        *sorted.generations.entry(generation).or_default() += ids;
                    }
                }
            }
        }
        sorted
    }

    /// The tables whose files change. Whoever removes files of a table names it among the added ones too.
    pub(super) fn touched(&self) -> impl Iterator<Item = TableIndex> {
        let removes = |table| self.removed.get(table).is_some_and(|gone| !gone.is_empty());
        let touched =
            self.added.iter().filter(move |(table, added)| !added.is_empty() || removes(table));
        touched.map(|(table, _)| *table)
    }
}
