//! What the parts of a commit report to the committer: files that exist, and what was counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lake::data_file::WrittenFile;
use crate::model::Value;
use crate::source::feed::Role;
use crate::state::{ReadStats, Reader, SlabMeta};

/// Index of a table in [`TableSet`](super::TableSet).
pub type TableIndex = usize;

/// One finished part of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Finished {
    /// A data file that is added to a table.
    File {
        /// The table.
        table: TableIndex,
        /// The file.
        file: WrittenFile,
    },
    /// The rewritten part of a current table.
    Leaves {
        /// The table.
        table: TableIndex,
        /// Data files that are replaced.
        removed: Vec<String>,
        /// Data files that replace them.
        added: Vec<WrittenFile>,
        /// The whole leaf directory after the commit.
        directory: Vec<Leaf>,
        /// Rows that entered or left the table.
        changes: u64,
    },
    /// A slab of state.
    Slab(SlabMeta),
    /// What was counted, by Kafka partition.
    Counts(BTreeMap<(Role, i32), Counts>),
    /// What look-ups in a collection of state have cost.
    Read {
        /// The collection.
        collection: String,
        /// The cost.
        read: ReadStats,
    },
    /// How many ids each generation of the dedup state holds that this commit added.
    Generations(BTreeMap<u64, u64>),
}

/// A data file of a current table that owns the rows from `lower` to the next leaf's `lower`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaf {
    /// The least key that the leaf may hold; empty for the first leaf.
    pub lower: Vec<Value>,
    /// The data file.
    pub path: String,
    /// Its rows.
    pub rows: u64,
}

/// Counts of one Kafka partition in one commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Records that did not decode.
    pub dead_letters: u64,
    /// Events admitted.
    pub events: u64,
    /// Events that lost against an earlier copy.
    pub duplicates: u64,
    /// Those of them whose content differs from the winner's.
    pub conflicts: u64,
}

impl Counts {
    /// Adds `other` to this.
    pub fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.dead_letters += other.dead_letters;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
    }
}

impl Finished {
    /// What look-ups through `reader` have cost since the last call.
    pub fn read(reader: &Reader) -> Finished {
        let collection = reader.layout().collection.clone();
        Finished::Read { collection, read: reader.take_stats() }
    }

    /// The slab, if this is one.
    pub fn slab(&self) -> Option<&SlabMeta> {
        match self {
            Finished::Slab(slab) => Some(slab),
            _ => None,
        }
    }
}
