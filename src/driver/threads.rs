//! A run from its start to its last commit, as process 0 and as the others see it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::RunOptions;
use super::conductor::{Conductor, Order, Pace, Told};
use super::open::Opened;
use super::pacing::Surroundings;
use super::process::{spawn, start};
use super::progress::Progress;
use super::refusal::is_refusal;
use crate::clock::SystemClock;
use crate::cluster::{Channels, Cluster, Controls, Link};
use crate::hydrate::all_layouts;
use crate::job::{FactLayout, Job};
use crate::sink::{CommitParts, Committer, Cuts, Merger, Work};
use crate::source::cut::Cut;
use crate::source::{OffsetReporter, SourceError};
use crate::state::LiveSlabs;
use crate::worker::Failure;

/// Commits that wait for the committer.
const COMMITS_MAX: usize = 4;
/// What waits for the conductor, from all processes.
const TOLD_MAX: usize = 1024;
/// Orders that wait for a process: it is told of every epoch that is closed, and reads little ahead.
const ORDERS_MAX: usize = 1024;
/// How long anything is awaited before the failure flag is looked at again.
const LOOK: Duration = Duration::from_millis(50);

/// What a run did.
#[derive(Debug)]
pub(super) struct Finished {
    pub committer: Committer,
    /// Of all its commits.
    pub work: Work,
}

/// Runs the only process, or process 0, until the last commit stands.
pub(super) fn lead(
    job: &Arc<Job>,
    options: &RunOptions,
    opened: Opened,
    cluster: Option<Cluster>,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Finished> {
    let log = options.work.as_deref().map(WorkLog::open).transpose()?;
    let failure = Arc::new(Failure::default());
    let (told, told_queue) = bounded::<(usize, Told)>(TOLD_MAX);
    let mut others = Others::connect(cluster, &told, &failure)?;
    let (own_orders, orders) = bounded::<Order>(ORDERS_MAX);
    let (cuts, cuts_queue) = bounded::<Cuts>(COMMITS_MAX);
    let pace = Pace {
        commit_records: options.commit_records,
        commit_interval: job.lake.commit_interval,
        follow: options.follow,
    };
    let all_orders = std::iter::once(own_orders).chain(others.orders.iter().cloned()).collect();
    let (shared, stopped) = (Arc::clone(progress), Arc::clone(&failure));
    let conductor =
        Conductor::new(pace, told_queue, all_orders, cuts, shared, stopped, opened.commit);
    let conductor = spawn("conductor".to_owned(), move || conductor.run())?;
    let around = Surroundings {
        process: 0,
        told,
        orders,
        progress: Arc::clone(progress),
        failure: Arc::clone(&failure),
        stop: Arc::clone(stop),
        read: Arc::default(),
    };
    let (parts, parts_queue) = bounded::<CommitParts>(COMMITS_MAX);
    let (running, opened) = start(job, options, opened, around, others.links.take(), parts)?;
    let live = opened.live.clone();
    let committer = committer(job, opened)?;
    let reports = GroupReports::new(job)?;
    // The committer has the thread of the caller.
    let queues = (&parts_queue, &cuts_queue);
    let finished = commit_all(committer, &live, &reports, log, queues, &failure, progress);
    drop((parts_queue, cuts_queue));
    running.end(&failure)?;
    conductor.join().map_err(|_| anyhow!("the conductor panicked"))?;
    progress.update(|state| state.ended = true);
    others.end(&failure);
    failure.take().map_or(Ok(finished), Err)
}

/// The other processes, from the view of process 0.
#[derive(Default)]
struct Others {
    /// Timely's connections, by process; none for a process alone.
    links: Option<Vec<Option<Link>>>,
    orders: Vec<Sender<Order>>,
    controls: Option<Controls>,
    cluster: Option<Cluster>,
    over: Arc<AtomicBool>,
}

impl Others {
    fn connect(
        cluster: Option<Cluster>,
        told: &Sender<(usize, Told)>,
        failure: &Arc<Failure>,
    ) -> anyhow::Result<Self> {
        let mut others = Others::default();
        let Some(mut cluster) = cluster else { return Ok(others) };
        others.links = Some(cluster.links(failure));
        let mut channels = Vec::new();
        for (process, stream) in std::mem::take(&mut cluster.controls) {
            let (sender, queue) = bounded::<Order>(ORDERS_MAX);
            others.orders.push(sender);
            channels.push(Channels { process, stream, queue });
        }
        let told = told.clone();
        let hear = move |process, (_, message): (usize, Told)| {
            // A conductor that is gone has ended the run.
            told.send((process, message)).ok();
        };
        let controls = Controls::start(0, channels, hear, failure, is_refusal, &others.over);
        others.controls = Some(controls.context("cannot start the threads of a connection")?);
        others.cluster = Some(cluster);
        Ok(others)
    }

    /// The run is over: the others may go, or are told why it failed.
    fn end(self, failure: &Failure) {
        self.over.store(!failure.happened(), Ordering::SeqCst);
        for process in self.orders {
            process.send(Order::Done).ok();
        }
        if let Some(controls) = self.controls {
            controls.join();
        }
    }
}

/// Runs a process beside process 0, until process 0 says that the last commit stands.
pub(super) fn run_beside(
    job: &Arc<Job>,
    options: &RunOptions,
    opened: Opened,
    mut cluster: Cluster,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let failure = Arc::new(Failure::default());
    let me = cluster.processes.process;
    let links = Some(cluster.links(&failure));
    let (told, told_queue) = bounded::<(usize, Told)>(TOLD_MAX);
    let (orders, orders_queue) = bounded::<Order>(ORDERS_MAX);
    let (done, is_done) = bounded::<()>(1);
    let over = Arc::new(AtomicBool::new(false));
    let controls = std::mem::take(&mut cluster.controls).into_iter();
    let channels = controls
        .map(|(process, stream)| Channels { process, stream, queue: told_queue.clone() })
        .collect();
    let (woken, ending) = (Arc::clone(progress), Arc::clone(&over));
    let hear = move |_, order: Order| {
        if matches!(order, Order::Done) {
            ending.store(true, Ordering::SeqCst);
            done.try_send(()).ok();
        }
        orders.send(order).ok();
        // Wakes pacing where it waits for room.
        woken.update(|_| ());
    };
    let controls = Controls::start(me, channels, hear, &failure, is_refusal, &over)
        .context("cannot start the threads of a connection")?;
    let around = Surroundings {
        process: me,
        told,
        orders: orders_queue,
        progress: Arc::clone(progress),
        failure: Arc::clone(&failure),
        stop: Arc::clone(stop),
        read: Arc::default(),
    };
    // No part of a commit comes here: they meet on worker 0.
    let (parts, _parts_queue) = bounded::<CommitParts>(1);
    let (running, _opened) = start(job, options, opened, around, links, parts)?;
    running.end(&failure)?;
    while !failure.happened() && is_done.recv_timeout(LOOK).is_err() {}
    progress.update(|state| state.ended = true);
    controls.join();
    failure.take().map_or(Ok(()), Err)
}

fn committer(job: &Arc<Job>, opened: Opened) -> anyhow::Result<Committer> {
    let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels)?;
    let layouts = all_layouts(job, &layout);
    let mut merger = Merger::new(job.lake.state.clone(), opened.incarnation, layouts);
    merger.start(&opened.stored.slabs);
    Ok(Committer {
        job: Arc::clone(job),
        tables: opened.tables,
        loaded: opened.loaded,
        stored: opened.stored,
        commit: opened.commit,
        incarnation: opened.incarnation,
        catalog: opened.catalog,
        store: opened.store,
        interner: opened.interner,
        clock: Arc::new(SystemClock),
        merger,
    })
}

/// Tells Kafka's consumer groups how far the job is, for lag tools; the offsets are never read back.
struct GroupReports(Vec<(String, OffsetReporter)>);

impl GroupReports {
    fn new(job: &Job) -> Result<Self, SourceError> {
        let dimension = job.dimension.iter().map(|dimension| &dimension.source);
        let mut reports = Vec::new();
        for source in std::iter::once(&job.events.source).chain(dimension) {
            let reporter = OffsetReporter::new(source)?;
            reports.extend(reporter.map(|reporter| (source.topic(), reporter)));
        }
        Ok(GroupReports(reports))
    }

    fn report(&self, cut: &Cut) {
        self.0.iter().for_each(|(topic, reporter)| reporter.report(&cut.offsets(topic)));
    }
}

/// The file that a run writes the work of its commits to, one JSON object a line.
struct WorkLog {
    path: PathBuf,
    file: File,
}

impl WorkLog {
    /// Goes on at the end of what runs before have written.
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| cannot_write(path))?;
        Ok(WorkLog { path: path.to_owned(), file })
    }

    fn write(&mut self, work: &Work) -> anyhow::Result<()> {
        let line = serde_json::to_string(work)? + "\n";
        self.file.write_all(line.as_bytes()).with_context(|| cannot_write(&self.path))
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the work of commits to {}", path.display())
}

/// Makes the commits of the run, in order.
fn commit_all(
    mut committer: Committer,
    live: &LiveSlabs,
    reports: &GroupReports,
    mut log: Option<WorkLog>,
    (parts, cuts): (&Receiver<CommitParts>, &Receiver<Cuts>),
    failure: &Failure,
    progress: &Progress,
) -> Finished {
    let (mut work, mut before) = (Work::default(), Instant::now());
    let stage = progress.meters.stage("commit");
    for parts in parts {
        let Ok(cut) = cuts.recv() else { break };
        if failure.happened() {
            break;
        }
        let at_work = stage.at_work();
        let committed = committer.commit(parts, cut).map_err(anyhow::Error::from);
        drop(at_work);
        let noted = committed.and_then(|mut of_commit| {
            of_commit.seconds =
                std::mem::replace(&mut before, Instant::now()).elapsed().as_secs_f64();
            work.add(&of_commit);
            log.as_mut().map_or(Ok(()), |log| log.write(&of_commit))
        });
        if let Err(error) = noted {
            failure.fail(error);
            progress.update(|state| state.ended = true);
            break;
        }
        live.publish(committer.commit.0, &committer.stored.slabs);
        reports.report(&committer.stored.cut);
        let commit = committer.commit;
        progress.update(|state| {
            state.commit = commit;
            state.commits += 1;
            state.closed_since = (state.closed > commit).then(Instant::now);
        });
    }
    Finished { committer, work }
}
