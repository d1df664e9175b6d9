//! The worker threads of a process: each runs the dataflow, with a feed of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::scheduling::SyncActivator;

use super::RunOptions;
use super::open::Opened;
use super::pacing::Outlet;
use super::progress::Progress;
use crate::cluster::Link;
use crate::dataflow;
use crate::groups::no_version;
use crate::job::{FactLayout, Job};
use crate::meters::Meters;
use crate::model::Epoch;
use crate::offload::Lane;
use crate::sink::{CommitParts, Stored};
use crate::source::feed::Feed;
use crate::worker::{Failure, WorkerContext};

/// Batches that wait for a worker.
const FEED_MAX: usize = 64;
/// How long a worker waits for work before it looks at the failure flag again.
const LOOK: Duration = Duration::from_millis(50);

/// What a worker thread takes along.
type Seat = (Receiver<Feed>, Arc<WorkerContext>);
pub(super) type Workers = timely::communication::WorkerGuards<()>;

/// Starts the workers; `parts` is where complete commits go.
pub(super) fn start_workers(
    job: &Arc<Job>,
    options: &RunOptions,
    opened: &Opened,
    parts: Sender<CommitParts>,
    links: Option<Vec<Option<Link>>>,
    failure: &Arc<Failure>,
    progress: &Arc<Progress>,
) -> anyhow::Result<(Workers, Vec<Outlet>)> {
    let (mut feeds, mut seats) = (Vec::new(), Vec::new());
    let stored = Arc::new(opened.stored.clone());
    let first = options.share().process * options.workers;
    for worker in first..first + options.workers {
        let (feed, queue) = bounded::<Feed>(FEED_MAX);
        let channels = (&parts, failure, &progress.meters);
        let context = context(job, options, opened, &stored, worker, channels)?;
        feeds.push(feed);
        seats.push(Mutex::new(Some((queue, Arc::new(context)))));
    }
    drop(parts);
    let (wakes, wakes_queue) = bounded::<(usize, SyncActivator)>(options.workers);
    let progress = Arc::clone(progress);
    let config = timely::WorkerConfig::default().idle_spin(Duration::ZERO);
    let (allocators, connections) = communication(options, links)?;
    let guards = timely::execute::execute_from(allocators, connections, config, move |worker| {
        let seat = &seats[worker.index() - first];
        let seat = seat.lock().unwrap_or_else(|held| held.into_inner()).take();
        if let Some(seat) = seat {
            work(worker, seat, first, &wakes, &progress);
        }
    })
    .map_err(|error| anyhow!("cannot start the workers: {error}"))?;
    let mut woken: Vec<(usize, SyncActivator)> = wakes_queue.iter().take(options.workers).collect();
    woken.sort_by_key(|(worker, _)| *worker);
    let pairs = feeds.into_iter().zip(woken);
    Ok((guards, pairs.map(|(feed, (_, wake))| Outlet { feed, wake }).collect()))
}

/// How the workers of this process reach each other and those of other processes.
fn communication(
    options: &RunOptions,
    links: Option<Vec<Option<Link>>>,
) -> anyhow::Result<(Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>)> {
    let Some(links) = links else {
        let config = timely::CommunicationConfig::Process(options.workers);
        return config.try_build().map_err(|error| anyhow!("cannot start the workers: {error}"));
    };
    let hooks = Hooks::default();
    let (threads, process) = (options.workers, options.share().process);
    let local =
        ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    let (allocators, guard) =
        initialize_networking_from_sockets(local, links, process, threads, hooks)
            .context("cannot start the connections between processes")?;
    Ok((allocators.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

fn context(
    job: &Arc<Job>,
    options: &RunOptions,
    opened: &Opened,
    stored: &Arc<Stored>,
    worker: usize,
    (parts, failure, meters): (&Sender<CommitParts>, &Arc<Failure>, &Meters),
) -> anyhow::Result<WorkerContext> {
    let columns = job.dimension.as_ref().map_or(0, |dimension| dimension.columns.len());
    Ok(WorkerContext {
        worker,
        workers: options.workers * options.share().processes,
        workers_of_process: options.workers,
        job: Arc::clone(job),
        layout: FactLayout::new(&job.events, &job.aggregates, &job.funnels)?,
        tables: Arc::clone(&opened.tables),
        interner: Arc::clone(&opened.interner),
        no_version: no_version(&opened.interner, columns),
        incarnation: opened.incarnation,
        start: opened.commit,
        stored: Arc::clone(stored),
        live: opened.live.clone(),
        state_dir: job.lake.state.clone(),
        store: opened.store.clone(),
        lane: Lane::start(format!("lane-{worker}")).context("cannot start a lane")?,
        committer: parts.clone(),
        failure: Arc::clone(failure),
        meters: meters.clone(),
        dedup_bytes_max: options.dedup_bytes_max / options.workers,
        users_bytes_max: options.users_bytes_max / options.workers,
    })
}

/// The life of a worker thread.
fn work(
    worker: &mut timely::worker::Worker,
    (feed, context): Seat,
    first: usize,
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
        if index == first && open != published {
            published = open;
            let open = open.unwrap_or(Epoch::MAX);
            progress.update(|state| state.open_epoch = state.open_epoch.max(open));
        }
    }
}
