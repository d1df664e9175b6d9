//! What every stage of a worker may use: the job, its tables, state and lane, and the way to stop a run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;

use crate::job::{FactLayout, Job};
use crate::lake::names::Origin;
use crate::lake::storage::Store;
use crate::meters::Meters;
use crate::model::{Commit, Incarnation, Interner, Symbol};
use crate::offload::Lane;
use crate::sink::{CommitParts, Leaf, Stored, TableIndex, TableSet};
use crate::state::{self, Layout, LiveSlabs, Reader, SlabMeta, WriteOptions, write_buckets};

/// What the stages of a worker share.
#[derive(Debug)]
pub struct WorkerContext {
    /// Index of the worker among all workers of the run.
    pub worker: usize,
    /// How many workers the run has.
    pub workers: usize,
    /// How many of them each process has.
    pub workers_of_process: usize,
    /// The job.
    pub job: Arc<Job>,
    /// Where things stand in its facts.
    pub layout: FactLayout,
    /// Its tables.
    pub tables: Arc<TableSet>,
    /// The symbols of the process.
    pub interner: Arc<Interner>,
    /// The columns of a user without a version of the dimension.
    pub no_version: Symbol,
    /// The run.
    pub incarnation: Incarnation,
    /// The commit where the run starts.
    pub start: Commit,
    /// The job at that commit.
    pub stored: Arc<Stored>,
    /// The slabs of the newest commit.
    pub live: LiveSlabs,
    /// The folder of state files.
    pub state_dir: PathBuf,
    /// The files of the lake.
    pub store: Store,
    /// The thread for this worker's blocking work.
    pub lane: Lane,
    /// The committer's queue.
    pub committer: Sender<CommitParts>,
    /// How the run ends when something fails.
    pub failure: Arc<Failure>,
    /// Where time and memory go.
    pub meters: Meters,
    /// Ids in memory on this worker may take this many bytes.
    pub dedup_bytes_max: usize,
    /// Users, rows and paths in memory on this worker may take this many bytes.
    pub users_bytes_max: usize,
}

impl WorkerContext {
    /// How many processes the run has.
    pub fn processes(&self) -> usize {
        self.workers / self.workers_of_process
    }

    /// The process of this worker.
    pub fn process(&self) -> usize {
        self.worker / self.workers_of_process
    }

    /// Hands on the value; an error stops the run.
    pub fn check<T, E: Into<anyhow::Error>>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.failure.fail(error.into())).ok()
    }

    /// Opens the slabs of a collection: those of the newest commit, and those `written` for later ones.
    pub fn open_slabs(&self, layout: &Layout, written: &[SlabMeta]) -> Reader {
        let slabs = self.live.with(&layout.collection, written);
        let opened = self.check(Reader::open(&self.state_dir, layout, &slabs));
        // The run stops; until then nothing is found, and nothing is committed.
        opened.unwrap_or_else(|| {
            Reader::open(&self.state_dir, layout, &[])
                .unwrap_or_else(|error| panic!("a view of no slabs can't be opened: {error}"))
        })
    }

    /// Writes the rows of a commit as a slab, given as [`write_buckets`] wants them; nothing for no rows.
    pub fn write_slab(
        &self,
        layout: &Layout,
        buckets: impl IntoIterator<Item = Vec<u64>>,
        commit: Commit,
        generation: u64,
    ) -> Option<SlabMeta> {
        let origin =
            state::Origin::of_commit(self.incarnation.0, self.worker, commit.0, generation);
        let options = WriteOptions::default();
        self.check(write_buckets(layout, buckets, &self.state_dir, &origin, &options)).flatten()
    }

    /// A new data file of `table`.
    pub fn data_file(&self, table: TableIndex, commit: Commit) -> String {
        let job = self.job.name.clone();
        let origin = Origin { job, incarnation: self.incarnation.0, commit: commit.0 };
        origin.data_file(&self.tables.get(table).location, self.worker)
    }

    /// The leaves of a current table at the start of the run.
    pub fn stored_leaves(&self, table: TableIndex) -> Vec<Leaf> {
        self.stored.leaves(&self.tables.get(table).spec.name)
    }

    /// Gives a complete commit to the committer, unless the run is stopping.
    pub fn hand_over(&self, parts: CommitParts) {
        if !self.failure.happened() {
            // The queue has room for the commits in flight; a committer that is gone has failed already.
            self.committer.send(parts).ok();
        }
    }
}

/// An error for people: what happened, and each cause that says something new.
pub fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The first error of a run. Once it is set nothing is committed any more.
#[derive(Debug, Default)]
pub struct Failure {
    happened: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

impl Failure {
    /// Stops the run with `error`, unless another error was first.
    pub fn fail(&self, error: anyhow::Error) {
        let mut first = self.error.lock().unwrap_or_else(|held| held.into_inner());
        first.get_or_insert(error);
        self.happened.store(true, Ordering::SeqCst);
    }

    /// True once the run is stopping.
    pub fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }

    /// What `look` sees in the error, if there was one.
    pub fn with<R>(&self, look: impl FnOnce(&anyhow::Error) -> R) -> Option<R> {
        let error = self.error.lock().unwrap_or_else(|held| held.into_inner());
        error.as_ref().map(look)
    }

    /// The error, if there was one.
    pub fn take(&self) -> Option<anyhow::Error> {
        self.error.lock().unwrap_or_else(|held| held.into_inner()).take()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::told;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let full = std::io::Error::other("no space left");
        let error = Err::<(), _>(full).context("cannot write a.parquet: no space left");
        let error = error.context("commit 4 failed").unwrap_err();
        assert_eq!(told(&error), "commit 4 failed: cannot write a.parquet: no space left");
        assert_eq!(told(&anyhow!("alone")), "alone");
    }
}
