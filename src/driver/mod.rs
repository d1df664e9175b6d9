//! The driver: opens what a run needs, starts its threads, and waits for their end.
//!
//! ```text
//!                       conductor
//!                        ▲     │ closes epochs and commits
//!                        │     ▼
//!   source threads ──► pacing ──► workers (timely) ──► committer
//!         one a topic    one      one a core, each      one
//!                                 with a lane
//! ```
//!
//! With several processes each has all of this but conductor and committer, which are in process 0.

mod age;
mod conductor;
mod lock;
mod open;
mod pacing;
mod process;
mod progress;
mod refusal;
mod report;
mod standstill;
mod sweep;
mod threads;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub(crate) use age::check_age;
pub(crate) use lock::{Leftovers, Lock};
pub(crate) use open::decode;
pub use open::open_lake;
pub use progress::{Progress, State};
pub use refusal::{Refused, is_refusal};
pub use report::{Outcome, Report, TableReport, Usage};

use self::sweep::Sweep;
use crate::clock::{Clock, SystemClock};
use crate::cluster::{Listener, Processes};
use crate::job::Job;
use crate::model::Commit;
use crate::source::Share;

/// How a job is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Worker threads of this process.
    pub workers: usize,
    /// The processes of the run, if there are several.
    pub processes: Option<Processes>,
    /// Go on when the sources have nothing more.
    pub follow: bool,
    /// Read on where records are lost.
    pub accept_loss: bool,
    /// Start although another run holds the lock; that run can't commit any more.
    pub take_over: bool,
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
    /// A file for the work of each commit, one JSON object a line.
    pub work: Option<PathBuf>,
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
            processes: None,
            follow: false,
            accept_loss: false,
            take_over: false,
            connect_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(10),
            step_records: STEP_RECORDS,
            commit_records: COMMIT_RECORDS,
            dedup_bytes_max: 2 << 30,
            users_bytes_max: 2 << 30,
            work: None,
        }
    }
}

impl RunOptions {
    /// The partitions that this process reads.
    fn share(&self) -> Share {
        let of = |processes: &Processes| Share {
            process: processes.process,
            processes: processes.count(),
        };
        self.processes.as_ref().map_or(Share::ALL, of)
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

/// Runs a job to the end of its input, or until it is stopped. The report comes from process 0.
pub fn run(job: Job, options: &RunOptions, controls: &Controls) -> anyhow::Result<Outcome> {
    let job = Arc::new(job);
    let listen = |processes| Listener::bind(processes, &job, options.workers, options.follow);
    let listener = options.processes.as_ref().map(listen).transpose()?;
    match listener {
        Some(listener) if options.share().process > 0 => {
            run_beside(&job, options, controls, listener).map(Outcome::Beside)
        }
        listener => {
            lead(&job, options, controls, listener).map(|report| Outcome::Report(Box::new(report)))
        }
    }
}

/// Runs the only process, or process 0.
fn lead(
    job: &Arc<Job>,
    options: &RunOptions,
    controls: &Controls,
    listener: Option<Listener>,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let (opened, lock) = open::open(job, options)?;
    let left = lock.found();
    let sweep = left.are_due(SystemClock.now_ms()).then(|| Sweep::start(job, &opened));
    let cluster = listener.map(|listener| listener.lead(job, opened.incarnation, opened.commit));
    let cluster = cluster.transpose()?;
    let progress = Arc::new(Progress::new(opened.commit));
    controls.progress.set(Arc::clone(&progress)).ok();
    let first: Commit = opened.commit;
    let finished = threads::lead(job, options, opened, cluster, &progress, &controls.stop)?;
    lock.release(sweep.map_or(left, Sweep::end));
    Ok(Report::new(job, first, finished, &progress.meters, started.elapsed()))
}

/// Runs a process beside process 0.
fn run_beside(
    job: &Arc<Job>,
    options: &RunOptions,
    controls: &Controls,
    listener: Listener,
) -> anyhow::Result<Usage> {
    let mut joined = listener.join(job)?;
    let opened = match open::open_beside(job, options, joined.incarnation, joined.commit) {
        Ok(opened) => opened,
        Err(error) => return Err(joined.fail(error, is_refusal)),
    };
    let cluster = joined.ready()?;
    let progress = Arc::new(Progress::new(opened.commit));
    controls.progress.set(Arc::clone(&progress)).ok();
    threads::run_beside(job, options, opened, cluster, &progress, &controls.stop)?;
    Ok(Usage::of(&progress.meters))
}
