//! Recover: the state of a job, rebuilt from its tables.
//!
//! State is a cache of the tables. The table `events` holds every admitted event, the table of versions every
//! version of the dimension, and from these the rows of state are made as a run makes them:
//!
//! ```text
//!   <dimension>_changes ──► versions ──┐               ┌──► slabs ───┐
//!                                      ├──► builders ──┤             ├──► one transaction: the job's row
//!   events ───────────────► facts ─────┘   (by hash)   └──► symbols ─┘    names the new files
//!                                              │
//!                                              └──► totals, compared with every current table
//! ```
//!
//! What the catalog keeps (cut, tables, leaves, fence) is not lost with the state folder and is not rebuilt.
//!
//! Invariants:
//! 1. Nothing of the tables is changed. The job stays at its commit; its row gets other slabs and symbols.
//! 2. The old state stands until the one transaction that swaps in the new. A crash leaves files that no row
//!    names; a later run deletes them.
//! 3. It has the job's lock and the next incarnation, so a run that is at work or frozen can't commit.
//! 4. What was rebuilt adds up to every row of every current table, or it is not swapped in.

mod build;
mod check;
mod error;
mod facts;
mod feed;
mod generations;
mod report;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};

use self::build::{Builder, Built, Work, remove};
use self::check::{Checked, check, check_pointers};
pub use self::error::RecoverError;
use self::feed::Feed;
use self::generations::Remembered;
pub use self::report::Report;
use crate::changes::Changes;
use crate::driver::{Leftovers, Lock};
use crate::groups::no_version;
use crate::job::{FactLayout, Job};
use crate::lake::catalog::{Catalog, JobSwap};
use crate::lake::names::Origin;
use crate::lake::read::{LiveFile, live_files};
use crate::lake::storage::Store;
use crate::meters::Meters;
use crate::model::{Commit, Incarnation, Interner};
use crate::offload::Lane;
use crate::sink::{Stored, TableIndex};
use crate::state::{self, LiveSlabs, Manifest, SlabMeta};
use crate::symbols;
use crate::worker::{Failure, WorkerContext};

/// Parts that wait for a builder.
const QUEUE_MAX: usize = 4;

/// How state is rebuilt.
#[derive(Debug, Clone)]
pub struct RecoverOptions {
    /// Threads that read, and as many that build.
    pub workers: usize,
    /// How long to wait for a locked catalog.
    pub busy_timeout: Duration,
    /// Ids in memory may take this many bytes, over all workers.
    pub dedup_bytes_max: usize,
    /// Users, rows and paths in memory may take this many bytes, over all workers.
    pub users_bytes_max: usize,
}

/// How far it is; for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows read.
    pub read: AtomicU64,
    /// Rows to read.
    pub rows: AtomicU64,
}

/// What is being recovered.
struct Recovery<'a> {
    job: &'a Arc<Job>,
    options: &'a RecoverOptions,
    store: Store,
    checked: Checked,
    incarnation: Incarnation,
    interner: Arc<Interner>,
}

/// Rebuilds the state of `job` and puts it in place.
pub fn recover(job: Job, options: &RecoverOptions, progress: &Progress) -> anyhow::Result<Report> {
    let started = Instant::now();
    let job = Arc::new(job);
    let lake = &job.lake;
    if !lake.catalog.exists() {
        let catalog = lake.catalog.display().to_string();
        return Err(RecoverError::NotRun { job: job.name.clone(), catalog }.into());
    }
    let mut catalog = Catalog::open(&lake.catalog, &lake.catalog_name, options.busy_timeout)?;
    let store = Store::local();
    check(&job, &catalog, &store)?;
    let what = || format!("cannot make the state folder {}", lake.state.display());
    state::make_dir(&lake.state).with_context(what)?;
    let lock = Lock::take(&job, false)?;
    // Once more, for what a run may have done before the lock was free.
    let checked = check(&job, &catalog, &store)?;
    let [versions, events] = source_files(&store, &checked)?;
    let rows: u64 = versions.iter().chain(&events).map(|file| file.rows).sum();
    progress.rows.store(rows, Ordering::Relaxed);
    let remembered = Remembered::of(&events, checked.commit, job.dedup_horizon_us)?;
    check_ids(&job, &checked, &remembered)?;

    let incarnation = Incarnation(catalog.begin_run(&job.name, Some(&checked.row))?);
    lock.mark(incarnation)?;
    let interner = Arc::new(Interner::default());
    let recovery = Recovery { job: &job, options, store, checked, incarnation, interner };
    let built = recovery.build(&versions, &events, &remembered, progress)?;
    let slabs = recovery.verified(built)?;
    let stored = recovery.next_stored(&slabs)?;
    check_pointers(&job, &catalog, &recovery.checked)?;
    recovery.swap(&mut catalog, &stored)?;
    // The mark of an earlier crash may have been lost with the folder: the next run looks for what is left.
    lock.release(Leftovers::Unknown);
    let rows = [&versions, &events].map(|files| files.iter().map(|file| file.rows).sum());
    Ok(Report::new(&recovery, &stored, &slabs, rows, started.elapsed()))
}

/// The files of the tables of versions and of events.
fn source_files(store: &Store, checked: &Checked) -> anyhow::Result<[Vec<LiveFile>; 2]> {
    let files = |table: Option<TableIndex>| match table {
        Some(table) => live_files(store, &checked.loaded[table]).map_err(RecoverError::Table),
        None => Ok(Vec::new()),
    };
    Ok([files(checked.tables.versions())?, files(checked.tables.events())?])
}

/// The table of events and the job's row agree on how many ids are remembered.
fn check_ids(job: &Job, checked: &Checked, remembered: &Remembered) -> Result<(), RecoverError> {
    if remembered.generations == checked.stored.generations {
        return Ok(());
    }
    Err(RecoverError::Ids {
        job: job.name.clone(),
        table: format!("{}.events", job.lake.namespace),
        commit: checked.commit,
        found: remembered.generations.values().sum(),
        expected: checked.stored.generations.values().sum(),
    })
}

impl Recovery<'_> {
    /// Reads the tables and makes slabs of their rows.
    fn build(
        &self,
        versions: &[LiveFile],
        events: &[LiveFile],
        remembered: &Remembered,
        progress: &Progress,
    ) -> anyhow::Result<Vec<Built>> {
        let layout = FactLayout::new(&self.job.events, &self.job.aggregates, &self.job.funnels)?;
        let workers = 0..self.options.workers;
        let contexts = workers.map(|worker| self.context(worker, &layout));
        let contexts = contexts.collect::<anyhow::Result<Vec<_>>>()?;
        let given_up = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (mut builders, mut threads) = (Vec::new(), Vec::new());
            for context in contexts {
                let (builder, queue) = bounded(QUEUE_MAX);
                let (given_up, commit) = (&given_up, self.checked.commit);
                builders.push(builder);
                threads.push(scope.spawn(move || build_one(context, &queue, commit, given_up)));
            }
            let (job, interner) = (self.job, &self.interner);
            let feed = Feed { job, layout: &layout, interner, remembered, builders, progress };
            let fed = feed.read(versions, events);
            given_up.store(fed.is_err(), Ordering::Relaxed);
            drop(feed);
            let ends = threads.into_iter().map(|thread| thread.join());
            let ends = ends.map(|end| end.unwrap_or_else(|p| std::panic::resume_unwind(p)));
            let built = ends.collect::<anyhow::Result<Vec<_>>>();
            fed?;
            Ok(built?.into_iter().flatten().collect())
        })
    }

    /// What the stages want to know of a worker: it starts from nothing.
    fn context(&self, worker: usize, layout: &FactLayout) -> anyhow::Result<WorkerContext> {
        let (job, options) = (self.job, self.options);
        let columns = job.dimension.as_ref().map_or(0, |dimension| dimension.columns.len());
        Ok(WorkerContext {
            worker,
            workers: options.workers,
            workers_of_process: options.workers,
            job: Arc::clone(job),
            layout: layout.clone(),
            tables: Arc::clone(&self.checked.tables),
            interner: Arc::clone(&self.interner),
            no_version: no_version(&self.interner, columns),
            incarnation: self.incarnation,
            start: Commit(0),
            stored: Arc::new(Stored::new(job.definition.clone())),
            live: LiveSlabs::default(),
            state_dir: job.lake.state.clone(),
            store: self.store.clone(),
            lane: Lane::start(format!("lane-{worker}")).context("cannot start a lane")?,
            committer: bounded(0).0,
            failure: Arc::new(Failure::default()),
            meters: Meters::default(),
            dedup_bytes_max: options.dedup_bytes_max / options.workers,
            users_bytes_max: options.users_bytes_max / options.workers,
        })
    }

    /// The slabs, if they add up to the current tables. If not they go.
    fn verified(&self, built: Vec<Built>) -> anyhow::Result<Vec<SlabMeta>> {
        let (mut slabs, mut made) = (Vec::new(), Changes::default());
        for part in built {
            slabs.extend(part.slabs);
            part.changes.into_iter_nonzero().for_each(|(group, delta)| made.add(group, &delta));
        }
        let Checked { tables, stored, .. } = &self.checked;
        match verify::verify(tables, stored, made, &self.interner) {
            Ok(()) => Ok(slabs),
            Err(differs) => {
                remove(&self.job.lake.state, slabs);
                Err(differs)
            }
        }
    }

    /// The job's row with the new state, all of whose files are on disk.
    fn next_stored(&self, slabs: &[SlabMeta]) -> anyhow::Result<Stored> {
        let mut stored = self.checked.stored.clone();
        stored.slabs = Manifest::default();
        for slab in slabs {
            stored.slabs.add(slab.clone())?;
        }
        stored.symbols.clear();
        let (incarnation, commit) = (self.incarnation.0, self.checked.commit.0);
        let origin = Origin { job: self.job.name.clone(), incarnation, commit };
        let dir = &self.job.lake.state;
        symbols::persist(dir, &self.interner, &origin, &mut stored.symbols)?;
        state::sync_dir(dir)?;
        Ok(stored)
    }

    /// Puts the new state in the place of the old: the same commit, fenced as a commit is.
    fn swap(&self, catalog: &mut Catalog, stored: &Stored) -> anyhow::Result<()> {
        let commit = self.checked.commit.0;
        let swap = JobSwap {
            job: self.job.name.clone(),
            incarnation: self.incarnation.0,
            from_commit: commit,
            to_commit: commit,
            body: stored.encode(),
        };
        Ok(catalog.commit(&[], &swap)?)
    }
}

/// The life of a builder's thread. Nothing comes of it if reading was given up.
fn build_one(
    context: WorkerContext,
    queue: &Receiver<Work>,
    commit: Commit,
    given_up: &AtomicBool,
) -> anyhow::Result<Option<Built>> {
    let mut builder = Builder::new(context)?;
    for work in queue {
        builder.absorb(work)?;
    }
    if given_up.load(Ordering::Relaxed) {
        return Ok(None);
    }
    builder.finish(commit).map(Some)
}
