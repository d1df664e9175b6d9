//! Where the time and the memory of a run go: how long each stage was at work, how many records it took in,
//! and how much each collection held.
//!
//! Always on: a stage reads the clock when an operator or a job of a lane begins and ends, never for a
//! record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The meters of a process.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    stages: Arc<Mutex<BTreeMap<String, Stage>>>,
    memory: Arc<Mutex<BTreeMap<(String, usize), u64>>>,
}

/// The time that a stage was at work and the records that it took in, summed over threads.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    nanos: Arc<AtomicU64>,
    records: Arc<AtomicU64>,
}

/// A stage is at work until this is dropped.
#[derive(Debug)]
pub struct AtWork<'a> {
    stage: &'a Stage,
    since: Instant,
}

impl Meters {
    /// The stage of a name, the same one for all who ask.
    pub fn stage(&self, name: &str) -> Stage {
        let mut stages = self.stages.lock().unwrap_or_else(|held| held.into_inner());
        stages.entry(name.to_owned()).or_default().clone()
    }

    /// Notes that a worker holds so much of a collection.
    pub fn holds(&self, collection: &str, worker: usize, bytes: usize) {
        let mut memory = self.memory.lock().unwrap_or_else(|held| held.into_inner());
        let most = memory.entry((collection.to_owned(), worker)).or_default();
        *most = (*most).max(bytes as u64);
    }

    /// Seconds of each stage.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        let stages = self.stages.lock().unwrap_or_else(|held| held.into_inner());
        let seconds = |stage: &Stage| stage.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        stages.iter().map(|(name, stage)| (name.clone(), seconds(stage))).collect()
    }

    /// Records of each operator of the dataflow.
    pub fn records(&self) -> BTreeMap<String, u64> {
        let stages = self.stages.lock().unwrap_or_else(|held| held.into_inner());
        let records = |stage: &Stage| stage.records.load(Ordering::Relaxed);
        let all = stages.iter().map(|(name, stage)| (name.clone(), records(stage)));
        all.filter(|(_, records)| *records > 0).collect()
    }

    /// The most that each collection held at the end of a commit, summed over workers.
    pub fn memory(&self) -> BTreeMap<String, u64> {
        let memory = self.memory.lock().unwrap_or_else(|held| held.into_inner());
        let mut sums = BTreeMap::new();
        for ((collection, _), bytes) in memory.iter() {
            *sums.entry(collection.clone()).or_default() += bytes;
        }
        sums
    }
}

impl Stage {
    /// Begins work.
    pub fn at_work(&self) -> AtWork<'_> {
        AtWork { stage: self, since: Instant::now() }
    }

    /// Notes that so many records came in.
    pub fn took(&self, records: usize) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
    }

    fn add(&self, time: Duration) {
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.stage.add(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_records_of_a_stage_add_up_over_its_handles() {
        let meters = Meters::default();
        meters.stage("decode").add(Duration::from_millis(200));
        meters.clone().stage("decode").add(Duration::from_millis(300));
        drop(meters.stage("write").at_work());
        let seconds = meters.seconds();
        assert_eq!(seconds["decode"], 0.5);
        [2, 3].into_iter().for_each(|records| meters.stage("decode").took(records));
        assert_eq!(meters.records(), BTreeMap::from([("decode".to_owned(), 5)]));
        assert!(seconds["write"] < 0.1);
    }

    #[test]
    fn memory_is_the_most_of_each_worker_over_all_workers() {
        let meters = Meters::default();
        for (worker, bytes) in [(0, 100), (1, 50), (0, 70), (1, 60)] {
            meters.holds("ids", worker, bytes);
        }
        assert_eq!(meters.memory(), BTreeMap::from([("ids".to_owned(), 160)]));
    }
}
