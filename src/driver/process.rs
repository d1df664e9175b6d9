//! What every process of a run has: sources, pacing and workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Sender, bounded};
use fail::fail_point;

use super::RunOptions;
use super::open::{OpenSource, Opened};
use super::pacing::{Inlet, Pacing, Surroundings};
use super::workers::{Workers, start_workers};
use crate::cluster::Link;
use crate::job::Job;
use crate::meters::Stage;
use crate::sink::CommitParts;
use crate::source::cut::Cut;
use crate::source::{Poll, Share, Source, SourceError};
use crate::worker::Failure;

/// Batches that wait between a source and pacing.
const POLLS_MAX: usize = 8;
/// How long a source waits for a record before it looks at the flags again.
const LOOK: Duration = Duration::from_millis(50);

/// The threads that every process has.
pub(super) struct Running {
    workers: Workers,
    threads: Vec<std::thread::JoinHandle<()>>,
    alone: bool,
}

impl Running {
    /// Waits for the end of the threads.
    pub(super) fn end(self, failure: &Failure) -> anyhow::Result<()> {
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a thread of the run panicked"))?;
        }
        while self.workers.guards().iter().any(|worker| !worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if failure.happened() && !self.alone {
            // Connections to processes that are gone can't be ended well; the end of this process does it.
            std::mem::forget(self.workers);
            return Ok(());
        }
        for worker in self.workers.join() {
            worker.map_err(|error| anyhow!("a worker failed: {error}"))?;
        }
        Ok(())
    }
}

/// Starts workers, sources and pacing.
pub(super) fn start(
    job: &Arc<Job>,
    options: &RunOptions,
    mut opened: Opened,
    around: Surroundings,
    links: Option<Vec<Option<Link>>>,
    parts: Sender<CommitParts>,
) -> anyhow::Result<(Running, Opened)> {
    let sources = std::mem::take(&mut opened.sources);
    let (failure, progress) = (Arc::clone(&around.failure), Arc::clone(&around.progress));
    let alone = links.is_none();
    let share = options.share();
    let (workers, outlets) =
        start_workers(job, options, &opened, parts, links, &failure, &progress)?;
    let cut = &opened.stored.cut;
    let (inlets, mut threads) = start_sources(sources, share, cut, &around)?;
    let step_records = options.step_records.min(options.commit_records);
    let step_records = step_records.div_ceil(share.processes as u64);
    let pacing = Pacing::new(around, options.follow, step_records, inlets, outlets, opened.commit);
    threads.push(spawn("pacing".to_owned(), move || pacing.run())?);
    Ok((Running { workers, threads, alone }, opened))
}

/// Starts a thread.
pub(super) fn spawn(
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.clone());
    thread.spawn(body).with_context(|| format!("cannot start the thread {name}"))
}

type Reader = std::thread::JoinHandle<()>;

fn start_sources(
    sources: Vec<OpenSource>,
    share: Share,
    cut: &Cut,
    around: &Surroundings,
) -> anyhow::Result<(Vec<Inlet>, Vec<Reader>)> {
    let (mut inlets, mut readers) = (Vec::new(), Vec::new());
    for OpenSource { role, mut source, marks, dropped } in sources {
        let (polls, queue) = bounded::<Poll>(POLLS_MAX);
        let topic = source.topic();
        let (start, ends) = (source.start(), source.ends());
        let mut saved = cut.offsets(&topic);
        saved.retain(|partition, _| share.has(*partition));
        inlets.push(Inlet {
            role,
            topic: Arc::clone(&topic),
            saved,
            start,
            ends,
            marks,
            marks_dropped: dropped,
            polls: queue,
        });
        let (failure, progress) = (Arc::clone(&around.failure), Arc::clone(&around.progress));
        let (stop, ended) = (Arc::clone(&around.stop), Arc::clone(&around.read));
        let stage = progress.meters.stage(&format!("source::{topic}"));
        readers.push(spawn(format!("source-{topic}"), move || {
            let set = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
            let over = || failure.happened() || set(&stop) || set(&ended);
            if let Err(error) = read(&mut *source, &polls, &stage, over) {
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
    stage: &Stage,
    over: impl Fn() -> bool,
) -> Result<(), SourceError> {
    while !over() {
        // Waiting for a broker counts as work, waiting for those who take the batches does not.
        let at_work = stage.at_work();
        let poll = source.poll(LOOK)?;
        drop(at_work);
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
