//! The ids that a worker has seen: in memory those of this run, older ones in slabs that are asked on demand.
//!
//! With a dedup horizon the ids are kept by *generation*, a quarter of the horizon of event time, so that
//! memory and slabs are freed as a whole.

mod generation;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use self::generation::{FreshRows, Generation, Id};
use crate::model::{Commit, Fact};
use crate::sink::Finished;
use crate::state::{Layout, Reader, SlabMeta};
use crate::worker::WorkerContext;

/// Name of the collection in the state manifest.
pub const COLLECTION: &str = "ids";
/// Words of a slab row: two of the id's hash, one with the content's fingerprint.
pub const WIDTH: usize = 3;
/// Generations that cover the horizon.
pub const GENERATIONS_OF_HORIZON: i64 = 4;
/// Ids whose places in memory are fetched together; they fit into a core's first cache.
const OVERLAPPED: usize = 64;

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

/// The ids of one worker.
pub struct IdSet {
    context: Arc<WorkerContext>,
    horizon_us: Option<i64>,
    /// Ids that came in this run.
    resident: BTreeMap<u64, Generation>,
    /// Ids that slabs knew, of whatever generation.
    hydrated: Generation,
    older: Reader,
    /// Slabs written in this run, to be asked once memory is freed.
    written: Vec<SlabMeta>,
}

impl IdSet {
    /// No id in memory; older ones in the slabs of the last commit.
    pub fn new(context: &Arc<WorkerContext>) -> Self {
        IdSet {
            context: Arc::clone(context),
            horizon_us: context.job.dedup_horizon_us,
            resident: BTreeMap::new(),
            hydrated: Generation::new(context.workers),
            older: context.open_slabs(&layout(), &[]),
            written: Vec::new(),
        }
    }

    /// Brings into memory those ids of `facts` that only slabs know.
    pub fn hydrate(&mut self, facts: &[Vec<Fact>]) {
        if self.older.is_empty() {
            return;
        }
        let mut unknown: Vec<[u64; 2]> = facts
            .iter()
            .flatten()
            .filter(|f| self.find(&Id::of(f)).is_none())
            .map(|f| f.id)
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let hydrated = &mut self.hydrated;
        let asked = self.older.get_many(unknown.as_flattened(), &mut |_, row| {
            hydrated.insert(Id::new([row[0], row[1]], row[2] as u32));
        });
        self.context.check(asked);
    }

    /// Takes in the ids that are not known; says of each fact whether it brought one.
    pub fn insert(&mut self, facts: &[&Fact]) -> Vec<bool> {
        let mut new = Vec::with_capacity(facts.len());
        let horizon_us = self.horizon_us;
        let of = |fact: &Fact| generation(fact.time, horizon_us);
        for run in facts.chunk_by(|a, b| of(a) == of(b)) {
            let mut ids = self.resident.remove(&of(run[0])).unwrap_or_else(|| self.no_ids());
            for facts in run.chunks(OVERLAPPED) {
                // No look-up waits for the one before, so the processor overlaps their cache misses.
                facts.iter().for_each(|fact| {
                    black_box(ids.find(&Id::of(fact)));
                });
                new.extend(facts.iter().map(|fact| {
                    let id = Id::of(fact);
                    self.find(&id).is_none() && ids.insert(id)
                }));
            }
            self.resident.insert(of(run[0]), ids);
        }
        new
    }

    /// Another copy of an id that came in this epoch is the winner, and its time decides the generation.
    pub fn replace(&mut self, winner: &Fact) {
        let id = Id::of(winner);
        self.resident.values_mut().for_each(|ids| ids.remove(&id));
        let of = generation(winner.time, self.horizon_us);
        let workers = self.context.workers;
        self.resident.entry(of).or_insert_with(|| Generation::new(workers)).insert(id);
    }

    fn no_ids(&self) -> Generation {
        Generation::new(self.context.workers)
    }

    /// True if the content of a copy is another than that of the winner.
    pub fn conflicts(&self, copy: &Fact) -> bool {
        self.find(&Id::of(copy)).is_some_and(|id| id.content != copy.content)
    }

    /// What reading slabs has cost since the last call.
    pub fn take_read(&self) -> Finished {
        Finished::read(&self.older)
    }

    /// The new ids since the last call.
    pub fn take_fresh(&mut self) -> Fresh {
        Fresh { rows: self.resident.iter_mut().map(|(of, ids)| (*of, ids.take_fresh())).collect() }
    }

    /// Notes slabs that now hold ids of this run.
    pub fn written(&mut self, slabs: Vec<SlabMeta>) {
        self.written.extend(slabs);
        self.context.live.prune(&mut self.written);
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.resident.values().chain([&self.hydrated]).map(Generation::bytes).sum()
    }

    /// Drops the ids in memory; all of them stand in slabs.
    pub fn evict(&mut self) {
        self.resident.clear();
        self.hydrated = self.no_ids();
        self.older = self.context.open_slabs(&layout(), &self.written);
    }

    fn find(&self, id: &Id) -> Option<&Id> {
        let hydrated = self.hydrated.find(id);
        hydrated.or_else(|| self.resident.values().find_map(|ids| ids.find(id)))
    }
}

/// New ids of a commit, by generation.
pub struct Fresh {
    rows: BTreeMap<u64, Vec<FreshRows>>,
}

impl Fresh {
    /// Writes them as slabs, one for each generation.
    pub fn write(self, context: &WorkerContext, commit: Commit) -> Vec<Finished> {
        let mut parts = Vec::new();
        let mut sizes = BTreeMap::new();
        for (generation, rows) in self.rows {
            let count: usize = rows.iter().map(FreshRows::len).sum();
            if count > 0 {
                sizes.insert(generation, count as u64);
            }
            let rows = rows.into_iter().map(FreshRows::into_words);
            let slab = context.write_slab(&layout(), rows, commit, generation);
            parts.extend(slab.map(Finished::Slab));
        }
        parts.push(Finished::Generations(sizes));
        parts
    }
}

#[cfg(test)]
mod tests;
