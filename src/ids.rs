//! The ids that a worker has seen: in memory those of this run, older ones in slabs that are asked on demand.
//!
//! An id takes 21 bytes of a table slot: 128 bits of hash, a 32-bit fingerprint of the winner's content, and
//! a control byte. With a dedup horizon the ids are kept by *generation*, a quarter of the horizon of event
//! time, so that memory and slabs are freed as a whole.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::model::{Commit, Fact};
use crate::sink::Finished;
use crate::state::{Layout, Reader, SlabMeta, SlabRows};
use crate::worker::WorkerContext;

/// Name of the collection in the state manifest.
pub const COLLECTION: &str = "ids";
/// Words of a slab row: two of the id's hash, one with the content's fingerprint.
pub const WIDTH: usize = 3;
/// Generations that cover the horizon.
pub const GENERATIONS_OF_HORIZON: i64 = 4;

/// The layout of the slabs of ids.
pub fn layout() -> Layout {
    Layout { collection: COLLECTION.to_owned(), width: WIDTH, key: 2, filter: 1 }
}

/// The generation of an event time; all times share one if ids are kept for ever.
pub fn generation(time_us: i64, horizon_us: Option<i64>) -> u64 {
    let Some(horizon_us) = horizon_us else { return 0 };
    let size_us = (horizon_us / GENERATIONS_OF_HORIZON).max(1);
    // Shifted so that the order of generations is the order of unsigned numbers.
    (time_us.div_euclid(size_us) as u64) ^ (1 << 63)
}

/// The slab row of an admitted event.
pub fn row(winner: &Fact) -> [u64; WIDTH] {
    [winner.id[0], winner.id[1], winner.content.into()]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    words: [u32; 4],
    content: u32,
}

impl Id {
    fn of(fact: &Fact) -> Id {
        Id::new(fact.id, fact.content)
    }

    fn new(id: [u64; 2], content: u32) -> Id {
        let half = |word: u64| [(word >> 32) as u32, word as u32];
        let ([a, b], [c, d]) = (half(id[0]), half(id[1]));
        Id { words: [a, b, c, d], content }
    }

    /// The half that does not route: within a worker its bits are all spread.
    fn hash(&self) -> u64 {
        u64::from(self.words[2]) << 32 | u64::from(self.words[3])
    }
}

/// Tables of a generation.
const TABLES: usize = 64;
/// Bits of an id that choose its table.
const CHOICE_BITS: u32 = 10;

/// The table of an id, by its [`CHOICE_BITS`].
///
/// The shares of the tables differ, up to twofold and evenly on a logarithmic scale: a table doubles when it
/// is full, and so at any time each is at another point between half full and full.
static CHOICE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let choices = f64::from(1 << CHOICE_BITS);
    let table = |choice| ((1.0 + f64::from(choice) / choices).log2() * TABLES as f64) as u8;
    (0..1 << CHOICE_BITS).map(table).collect()
});

/// The ids of one generation, in many tables: one that grows needs little memory beside itself, and takes
/// what the one before gave back.
struct Generation(Vec<HashTable<Id>>);

impl Default for Generation {
    fn default() -> Self {
        Generation((0..TABLES).map(|_| HashTable::new()).collect())
    }
}

impl Generation {
    /// By bits that neither route between workers nor choose a slot.
    fn table(id: &Id) -> usize {
        CHOICE[(id.words[1] >> (u32::BITS - CHOICE_BITS)) as usize].into()
    }

    fn find(&self, id: &Id) -> Option<&Id> {
        self.0[Self::table(id)].find(id.hash(), |known| known.words == id.words)
    }

    fn find_mut(&mut self, id: &Id) -> Option<&mut Id> {
        self.0[Self::table(id)].find_mut(id.hash(), |known| known.words == id.words)
    }

    /// Takes in `id` unless it is known; true if it is new.
    fn insert(&mut self, id: Id) -> bool {
        let table = &mut self.0[Self::table(&id)];
        match table.entry(id.hash(), |known| known.words == id.words, Id::hash) {
            Entry::Occupied(_) => false,
            Entry::Vacant(slot) => {
                slot.insert(id);
                true
            }
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(HashTable::allocation_size).sum()
    }
}

/// The ids of one worker.
pub struct IdSet {
    context: Arc<WorkerContext>,
    horizon_us: Option<i64>,
    resident: BTreeMap<u64, Generation>,
    older: Reader,
    /// Slabs written in this run, to be asked once memory is freed.
    written: Vec<SlabMeta>,
    fresh: Fresh,
}

impl IdSet {
    /// No id in memory; older ones in the slabs of the last commit.
    pub fn new(context: &Arc<WorkerContext>) -> Self {
        IdSet {
            context: Arc::clone(context),
            horizon_us: context.job.dedup_horizon_us,
            resident: BTreeMap::new(),
            older: context.open_slabs(&layout(), &[]),
            written: Vec::new(),
            fresh: Fresh::default(),
        }
    }

    /// Brings into memory those ids of `facts` that only slabs know.
    pub fn hydrate(&mut self, facts: &[Vec<Fact>]) {
        if self.older.is_empty() {
            return;
        }
        let mut unknown: Vec<[u64; 2]> =
            facts.iter().flatten().filter(|fact| self.find(fact).is_none()).map(|f| f.id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let mut found = Vec::new();
        let asked = self.older.get_many(unknown.as_flattened(), &mut |_, row| {
            found.push(Id::new([row[0], row[1]], row[2] as u32));
        });
        self.context.check(asked);
        // Which generation they are in does not matter here: all tables are asked.
        let ids = self.resident.entry(0).or_default();
        for id in found {
            ids.insert(id);
        }
    }

    /// Takes in the ids that are not known; says of each fact whether it brought one.
    pub fn insert(&mut self, facts: &[&Fact]) -> Vec<bool> {
        let mut new = Vec::with_capacity(facts.len());
        let horizon_us = self.horizon_us;
        let of = |fact: &Fact| generation(fact.time, horizon_us);
        for run in facts.chunk_by(|a, b| of(a) == of(b)) {
            let mut ids = self.resident.remove(&of(run[0])).unwrap_or_default();
            let known = |id: &Id| self.resident.values().any(|others| others.find(id).is_some());
            new.extend(run.iter().map(|fact| {
                let id = Id::of(fact);
                !known(&id) && ids.insert(id)
            }));
            self.resident.insert(of(run[0]), ids);
        }
        new
    }

    /// Another copy of a known id is the winner.
    pub fn replace(&mut self, winner: &Fact) {
        if let Some(id) = self.find_mut(winner) {
            id.content = winner.content;
        }
    }

    /// Notes winners for the slabs of their commit.
    pub fn remember(&mut self, winners: &[&Fact]) {
        let of = |fact: &Fact| generation(fact.time, self.horizon_us);
        for run in winners.chunk_by(|a, b| of(a) == of(b)) {
            let rows = self.fresh.rows.entry(of(run[0]));
            let rows = rows.or_insert_with(|| SlabRows::new(layout()));
            run.iter().for_each(|winner| rows.push(&row(winner)));
        }
    }

    /// True if the content of a copy is another than that of the winner.
    pub fn conflicts(&self, copy: &Fact) -> bool {
        self.find(copy).is_some_and(|id| id.content != copy.content)
    }

    /// What reading slabs has cost since the last call.
    pub fn take_read(&self) -> Finished {
        Finished::read(&self.older)
    }

    /// The new ids since the last call.
    pub fn take_fresh(&mut self) -> Fresh {
        std::mem::take(&mut self.fresh)
    }

    /// Notes slabs that now hold ids of this run.
    pub fn written(&mut self, slabs: Vec<SlabMeta>) {
        self.written.extend(slabs);
    }

    /// True when the ids in memory exceed this worker's share of the budget.
    pub fn over_budget(&self) -> bool {
        let bytes: usize = self.resident.values().map(Generation::bytes).sum();
        bytes > self.context.dedup_bytes_max
    }

    /// Drops the ids in memory; all of them stand in slabs.
    pub fn evict(&mut self) {
        self.resident.clear();
        self.older = self.context.open_slabs(&layout(), &self.written);
    }

    fn find(&self, fact: &Fact) -> Option<&Id> {
        let id = Id::of(fact);
        self.resident.values().find_map(|ids| ids.find(&id))
    }

    fn find_mut(&mut self, fact: &Fact) -> Option<&mut Id> {
        let id = Id::of(fact);
        self.resident.values_mut().find_map(|ids| ids.find_mut(&id))
    }
}

/// New ids of a commit, by generation.
#[derive(Default)]
pub struct Fresh {
    rows: BTreeMap<u64, SlabRows>,
}

impl Fresh {
    /// Writes them as slabs, one for each generation.
    pub fn write(self, context: &WorkerContext, commit: Commit) -> Vec<Finished> {
        let mut parts = Vec::new();
        let mut sizes = BTreeMap::new();
        for (generation, rows) in self.rows {
            sizes.insert(generation, rows.rows() as u64);
            let slab = context.write_slab(rows, commit, generation);
            parts.extend(slab.map(Finished::Slab));
        }
        parts.push(Finished::Generations(sizes));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_less_than_40_bytes_however_many_there_are() {
        let mut ids = Generation::default();
        for number in 1..=600_000_u64 {
            let hash = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
            let id = Id::new([(hash >> 64) as u64, hash as u64], 0);
            assert!(ids.insert(id) && !ids.insert(id));
            if number >= 100_000 && number % 10_000 == 0 {
                let bytes = ids.bytes() as f64 / number as f64;
                assert!((24.0..40.0).contains(&bytes), "{bytes} bytes an id at {number} ids");
            }
        }
    }
}
