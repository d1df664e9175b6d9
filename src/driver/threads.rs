//! The threads of a run: sources, pacing, workers with their lanes, the committer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use fail::fail_point;
use timely::scheduling::SyncActivator;

use super::RunOptions;
use super::open::Opened;
use super::pacing::{Inlet, Outlet, Pace, Pacing};
use super::progress::Progress;
use crate::clock::SystemClock;
use crate::dataflow;
use crate::groups::no_version;
use crate::hydrate::all_layouts;
use crate::job::{FactLayout, Job};
use crate::model::Epoch;
use crate::offload::Lane;
use crate::sink::{CommitParts, Committer, Counts, Cuts, Merger};
use crate::source::cut::Cut;
use crate::source::feed::{Feed, Role};
use crate::source::{OffsetReporter, Poll, Source, SourceError};
use crate::worker::{Failure, WorkerContext};

/// Batches that wait between a source and pacing.
const POLLS_MAX: usize = 8;
/// Batches that wait for a worker.
const FEED_MAX: usize = 64;
/// Commits that wait for the committer.
const COMMITS_MAX: usize = 4;
/// How long a source waits for a record, and a worker for work, before they look at the flags again.
const LOOK: Duration = Duration::from_millis(50);

/// What a run did.
#[derive(Debug)]
pub(super) struct Finished {
    pub committer: Committer,
    pub counts: BTreeMap<(Role, i32), Counts>,
    pub changes: u64,
}

/// Runs until pacing ends and the last commit stands.
pub(super) fn run(
    job: &Arc<Job>,
    options: &RunOptions,
    mut opened: Opened,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Finished> {
    let failure = Arc::new(Failure::default());
    let (cuts, cuts_queue) = bounded::<Cuts>(COMMITS_MAX);
    let (parts, parts_queue) = bounded::<CommitParts>(COMMITS_MAX);
    let sources = std::mem::take(&mut opened.sources);
    let start = opened.commit;
    let (workers, outlets) = start_workers(job, options, &opened, parts, &failure, progress)?;
    let (inlets, readers) = start_sources(sources, &opened.stored.cut, &failure, progress, stop)?;
    let pace = Pace {
        step_records: options.step_records,
        commit_records: options.commit_records,
        commit_interval: job.lake.commit_interval,
        follow: options.follow,
    };
    let pacing = Pacing::new(
        pace,
        inlets,
        outlets,
        cuts,
        Arc::clone(progress),
        Arc::clone(&failure),
        Arc::clone(stop),
        start,
    );
    let pacing = spawn("pacing".to_owned(), move || pacing.run())?;
    let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels)?;
    let layouts = all_layouts(job, &layout);
    let mut merger = Merger::new(job.lake.state.clone(), opened.incarnation, layouts);
    merger.start(&opened.stored.slabs);
    let committer = Committer {
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
    };
    let reports = GroupReports::new(job)?;
    // The committer has the thread of the caller.
    let finished = commit_all(committer, &reports, &parts_queue, &cuts_queue, &failure, progress);
    drop((parts_queue, cuts_queue));
    for thread in readers.into_iter().chain([pacing]) {
        thread.join().map_err(|_| anyhow!("a thread of the run panicked"))?;
    }
    for worker in workers.join() {
        worker.map_err(|error| anyhow!("a worker failed: {error}"))?;
    }
    progress.update(|state| state.ended = true);
    match failure.take() {
        Some(error) => Err(error),
        None => Ok(finished),
    }
}

fn spawn(
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.clone());
    thread.spawn(body).with_context(|| format!("cannot start the thread {name}"))
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

/// Makes the commits of the run, in order.
fn commit_all(
    mut committer: Committer,
    reports: &GroupReports,
    parts: &Receiver<CommitParts>,
    cuts: &Receiver<Cuts>,
    failure: &Failure,
    progress: &Progress,
) -> Finished {
    let mut counts: BTreeMap<(Role, i32), Counts> = BTreeMap::new();
    let mut changes = 0;
    for parts in parts {
        let Ok(cut) = cuts.recv() else { break };
        if failure.happened() {
            break;
        }
        match committer.commit(parts, cut) {
            Ok(committed) => {
                for (key, of_commit) in &committed.counts {
                    counts.entry(*key).or_default().add(of_commit);
                }
                changes += committed.changes;
                reports.report(&committer.stored.cut);
                progress.update(|state| {
                    state.commit = committed.commit;
                    state.commits += 1;
                });
            }
            Err(error) => {
                failure.fail(error.into());
                progress.update(|state| state.ended = true);
                break;
            }
        }
    }
    Finished { committer, counts, changes }
}

type Reader = std::thread::JoinHandle<()>;

fn start_sources(
    sources: Vec<(Role, Box<dyn Source>)>,
    cut: &Cut,
    failure: &Arc<Failure>,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<(Vec<Inlet>, Vec<Reader>)> {
    let (mut inlets, mut readers) = (Vec::new(), Vec::new());
    for (role, mut source) in sources {
        let (polls, queue) = bounded::<Poll>(POLLS_MAX);
        let topic = source.topic();
        let (start, ends) = (source.start(), source.ends());
        let saved = cut.offsets(&topic);
        inlets.push(Inlet { role, topic: Arc::clone(&topic), saved, start, ends, polls: queue });
        let (failure, progress) = (Arc::clone(failure), Arc::clone(progress));
        let stop = Arc::clone(stop);
        readers.push(spawn(format!("source-{topic}"), move || {
            let over = || failure.happened() || stop.load(Ordering::Relaxed);
            if let Err(error) = read(&mut *source, &polls, over) {
                failure.fail(error.into());
                progress.update(|state| state.ended = true);
            }
        })?);
    }
    Ok((inlets, readers))
}

/// Reads a source until its end, or until nobody wants more.
fn read(
    source: &mut dyn Source,
    polls: &Sender<Poll>,
    over: impl Fn() -> bool,
) -> Result<(), SourceError> {
    while !over() {
        let poll = source.poll(LOOK)?;
        let ended = matches!(poll, Poll::End);
        if matches!(poll, Poll::Idle) {
            continue;
        }
        fail_point!("source.read");
        if polls.send(poll).is_err() || ended {
            break;
        }
    }
    Ok(())
}

/// What a worker thread takes along.
type Seat = (Receiver<Feed>, Arc<WorkerContext>);
type Workers = timely::communication::WorkerGuards<()>;

fn start_workers(
    job: &Arc<Job>,
    options: &RunOptions,
    opened: &Opened,
    parts: Sender<CommitParts>,
    failure: &Arc<Failure>,
    progress: &Arc<Progress>,
) -> anyhow::Result<(Workers, Vec<Outlet>)> {
    let (mut feeds, mut seats) = (Vec::new(), Vec::new());
    let stored = Arc::new(opened.stored.clone());
    for worker in 0..options.workers {
        let (feed, queue) = bounded::<Feed>(FEED_MAX);
        let context = context(job, options, opened, &stored, worker, &parts, failure)?;
        feeds.push(feed);
        seats.push(Mutex::new(Some((queue, Arc::new(context)))));
    }
    drop(parts);
    let (wakes, wakes_queue) = bounded::<(usize, SyncActivator)>(options.workers);
    let progress = Arc::clone(progress);
    let mut config = timely::Config::process(options.workers);
    config.worker = config.worker.idle_spin(Duration::ZERO);
    let guards = timely::execute(config, move |worker| {
        let seat = seats[worker.index()].lock().unwrap_or_else(|held| held.into_inner()).take();
        if let Some(seat) = seat {
            work(worker, seat, &wakes, &progress);
        }
    })
    .map_err(|error| anyhow!("cannot start the workers: {error}"))?;
    let mut woken: Vec<(usize, SyncActivator)> = wakes_queue.iter().take(options.workers).collect();
    woken.sort_by_key(|(worker, _)| *worker);
    let pairs = feeds.into_iter().zip(woken);
    Ok((guards, pairs.map(|(feed, (_, wake))| Outlet { feed, wake }).collect()))
}

fn context(
    job: &Arc<Job>,
    options: &RunOptions,
    opened: &Opened,
    stored: &Arc<crate::sink::Stored>,
    worker: usize,
    parts: &Sender<CommitParts>,
    failure: &Arc<Failure>,
) -> anyhow::Result<WorkerContext> {
    let columns = job.dimension.as_ref().map_or(0, |dimension| dimension.columns.len());
    Ok(WorkerContext {
        worker,
        workers: options.workers,
        job: Arc::clone(job),
        layout: FactLayout::new(&job.events, &job.aggregates, &job.funnels)?,
        tables: Arc::clone(&opened.tables),
        interner: Arc::clone(&opened.interner),
        no_version: no_version(&opened.interner, columns),
        incarnation: opened.incarnation,
        start: opened.commit,
        stored: Arc::clone(stored),
        state_dir: job.lake.state.clone(),
        store: opened.store.clone(),
        lane: Lane::start(format!("lane-{worker}")).context("cannot start a lane")?,
        committer: parts.clone(),
        failure: Arc::clone(failure),
        dedup_bytes_max: options.dedup_bytes_max / options.workers,
        users_bytes_max: options.users_bytes_max / options.workers,
    })
}

/// The life of a worker thread.
fn work(
    worker: &mut timely::worker::Worker,
    (feed, context): Seat,
    wakes: &Sender<(usize, SyncActivator)>,
    progress: &Progress,
) {
    let index = worker.index();
    let failure = Arc::clone(&context.failure);
    let built = worker.dataflow_named("tidewater", |scope| dataflow::build(scope, feed, &context));
    drop(context);
    wakes.send((index, built.wake)).ok();
    let mut published: Option<Epoch> = None;
    while worker.has_dataflows() {
        if failure.happened() {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
            break;
        }
        worker.step_or_park(Some(LOOK));
        let open = built.steps.with_frontier(|frontier| frontier.first().copied());
        if index == 0 && open != published {
            published = open;
            let open = open.unwrap_or(Epoch::MAX);
            progress.update(|state| state.open_epoch = state.open_epoch.max(open));
        }
    }
}
