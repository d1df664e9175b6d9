//! The driver: opens what a run needs, starts its threads, and waits for their end.
//!
//! ```text
//!   source threads ──► pacing ──► workers (timely) ──► committer
//!         one a topic    one      one a core, each      one
//!                                 with a lane
//! ```

mod lock;
mod open;
mod pacing;
mod progress;
mod report;
mod sweep;
mod threads;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub(crate) use lock::Lock;
pub(crate) use open::read_stored;
pub use open::{Refused, open_lake};
pub use progress::{Progress, State};
pub use report::{Report, TableReport};

use self::sweep::Sweep;
use crate::job::Job;
use crate::model::Commit;

/// How a job is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Worker threads.
    pub workers: usize,
    /// Go on when the sources have nothing more.
    pub follow: bool,
    /// Read on where records are lost.
    pub accept_loss: bool,
    /// How long to try a broker that does not answer.
    pub connect_timeout: Duration,
    /// How long to wait for a locked catalog.
    pub busy_timeout: Duration,
    /// Records of an epoch.
    pub step_records: u64,
    /// Records of a commit.
    pub commit_records: u64,
    /// Ids in memory may take this many bytes, over all workers.
    pub dedup_bytes_max: usize,
    /// Users, rows and paths in memory may take this many bytes, over all workers.
    pub users_bytes_max: usize,
}

/// Records of an epoch, unless asked for otherwise. A few epochs are in memory at once, with all that is made
/// of their records; smaller ones cost more rounds between the workers.
pub const STEP_RECORDS: u64 = 25_000;
/// Records of a commit, unless asked for otherwise.
pub const COMMIT_RECORDS: u64 = 4_000_000;

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            follow: false,
            accept_loss: false,
            connect_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(10),
            step_records: STEP_RECORDS,
            commit_records: COMMIT_RECORDS,
            dedup_bytes_max: 2 << 30,
            users_bytes_max: 2 << 30,
        }
    }
}

/// What the command line may watch and stop.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    /// Set to end a following run at a commit.
    pub stop: Arc<AtomicBool>,
    /// Filled once the run has started.
    pub progress: Arc<std::sync::OnceLock<Arc<Progress>>>,
}

/// Runs a job to the end of its input, or until it is stopped.
pub fn run(job: Job, options: &RunOptions, controls: &Controls) -> anyhow::Result<Report> {
    let started = Instant::now();
    let job = Arc::new(job);
    let (opened, lock) = open::open(&job, options)?;
    let sweep = lock.tells_of_crash().then(|| Sweep::start(&job, &opened));
    let progress = Arc::new(Progress::new(opened.commit));
    controls.progress.set(Arc::clone(&progress)).ok();
    let first: Commit = opened.commit;
    let finished = threads::run(&job, options, opened, &progress, &controls.stop)?;
    let nothing_left = sweep.is_none_or(Sweep::end);
    lock.release(nothing_left);
    Ok(Report::new(&job, first, finished, started.elapsed()))
}
