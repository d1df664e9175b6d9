//! The report of a run: one JSON object, or a few lines for people. Processes beside process 0 report what
//! they used.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::threads::Finished;
use crate::job::Job;
use crate::meters::Meters;
use crate::model::Commit;
use crate::sink::{StateWork, TableWork, Totals};
use crate::source::cut::Cut;

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The job.
    pub job: String,
    /// The run's incarnation.
    pub incarnation: u64,
    /// The newest commit.
    pub commit: u64,
    /// What came in, and what came of it.
    #[serde(flatten)]
    pub totals: Totals,
    /// Commits of this run.
    pub commits: u64,
    /// Wall time.
    pub seconds: f64,
    /// Event records by wall time.
    pub events_per_second: f64,
    /// What this process used.
    #[serde(flatten)]
    pub usage: Usage,
    /// What the tables contain.
    pub cut: Cut,
    /// The tables, by full name.
    pub tables: BTreeMap<String, TableReport>,
    /// What was read and written of state, by collection.
    pub state_work: BTreeMap<String, StateWork>,
    /// What was written to tables, by name.
    pub table_work: BTreeMap<String, TableWork>,
}

/// What a process used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Time on processors, of all threads.
    pub cpu_seconds: f64,
    /// The most memory that the process held.
    pub peak_rss_bytes: u64,
    /// How long each stage was at work, summed over threads.
    pub stage_seconds: BTreeMap<String, f64>,
    /// Records that each operator of the dataflow took in: events and versions, and at the end groups whose
    /// totals change.
    pub stage_records: BTreeMap<String, u64>,
    /// The most that each collection of state held in memory at the end of a commit.
    pub memory_bytes: BTreeMap<String, u64>,
}

/// What a process of a run has to say at its end.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// The only process, or process 0.
    Report(Box<Report>),
    /// A process beside process 0.
    Beside(Usage),
}

/// A table at the end of a run.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    /// Its newest snapshot, if it has one.
    pub snapshot_id: Option<i64>,
    /// Its rows.
    pub rows: u64,
}

impl Report {
    pub(super) fn new(
        job: &Job,
        start: Commit,
        finished: Finished,
        meters: &Meters,
        elapsed: Duration,
    ) -> Self {
        let Finished { committer, work } = finished;
        let tables = committer.loaded.iter().map(|table| {
            let snapshot_id = table.metadata.current_snapshot_id();
            (table.full_name(), TableReport { snapshot_id, rows: table.row_count() })
        });
        let seconds = elapsed.as_secs_f64();
        Report {
            job: job.name.clone(),
            incarnation: committer.incarnation.0,
            commit: committer.commit.0,
            totals: work.totals,
            commits: committer.commit.0 - start.0,
            seconds,
            events_per_second: work.totals.records as f64 / seconds.max(1e-9),
            usage: Usage::of(meters),
            cut: committer.stored.cut.clone(),
            tables: tables.collect(),
            state_work: work.state,
            table_work: work.tables,
        }
    }
}

impl Usage {
    /// What this process used until now.
    pub(super) fn of(meters: &Meters) -> Self {
        Usage {
            cpu_seconds: cpu_seconds(),
            peak_rss_bytes: peak_rss_bytes(),
            stage_seconds: meters.seconds(),
            stage_records: meters.records(),
            memory_bytes: meters.memory(),
        }
    }

    /// Adds what another process of the run used; peaks are added as if they had been at the same time.
    pub fn add(&mut self, other: Usage) {
        self.cpu_seconds += other.cpu_seconds;
        self.peak_rss_bytes += other.peak_rss_bytes;
        add_each(&mut self.stage_seconds, other.stage_seconds);
        add_each(&mut self.stage_records, other.stage_records);
        add_each(&mut self.memory_bytes, other.memory_bytes);
    }
}

fn add_each<T: Default + AddAssign>(sums: &mut BTreeMap<String, T>, more: BTreeMap<String, T>) {
    more.into_iter().for_each(|(name, value)| *sums.entry(name).or_default() += value);
}

/// What the kernel counts time in: hundredths of a second on all its platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Time on processors of this process, its own and the kernel's for it; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may have blanks in it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// The most memory that this process held, in bytes; 0 where the system does not tell.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
