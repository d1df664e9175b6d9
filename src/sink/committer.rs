//! The committer: all parts of a commit become visible in all tables at once, or not at all.
//!
//! It runs on a thread of its own. For commit `c` it takes the parts from the dataflow and the cut from
//! pacing, stages a snapshot of every touched table, and swaps everything in one SQL transaction: table
//! pointers, cut, state manifest. Staged files are never deleted before it is known what became of the
//! transaction.
//!
//! Invariant: readers see all tables at commit `c`, or all at `c - 1`.
//! Invariant: state and tables can't disagree, for one transaction swaps both.
//! Invariant: a run that was overtaken can't commit, for the fence is inside the transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use fail::fail_point;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::cuts::{CutRow, cut_rows};
use super::finished::{Counts, TableIndex};
use super::gather::CommitParts;
use super::merger::Merger;
use super::sorted::Sorted;
use super::steps::{STEPS, Step};
use super::stored::Stored;
use super::tables::TableSet;
use super::work::Work;
use crate::clock::Clock;
use crate::job::Job;
use crate::lake::catalog::{Catalog, CommitError, JobSwap};
use crate::lake::data_file::{FilePartition, WrittenFile};
use crate::lake::maintain::{Retention, delete_expired, expired_snapshots};
use crate::lake::names::Origin;
use crate::lake::parquet::{DataFileWriter, WriteError};
use crate::lake::snapshot::{Change, Garbage, Staged, stage};
use crate::lake::storage::{StorageError, Store};
use crate::lake::table::{LoadedTable, TableError};
use crate::model::{Commit, Incarnation, Interner};
use crate::source::cut::Cut;
use crate::source::feed::Role;
use crate::source::mark::Marks;
use crate::state::{self, StateError};
use crate::symbols;

/// So often a commit is tried while others keep the catalog locked; each try waits for it.
const SWAPS_MAX: u32 = 6;

/// Why a commit did not happen.
#[derive(Debug, Error)]
pub enum CommitterError {
    /// The transaction was refused, or its fate is unknown.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A table can't be staged.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A folder can't be synced.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A state file can't be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The symbol dictionary can't be written.
    #[error(transparent)]
    Symbols(#[from] symbols::SymbolsError),
    /// Parts of a commit that pacing did not close.
    #[error("commit {got} is complete where commit {expected} was expected")]
    Order {
        /// The commit that came.
        got: Commit,
        /// The commit that should have come.
        expected: Commit,
    },
}

/// The cut of a commit, from pacing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cuts {
    /// The commit.
    pub commit: Commit,
    /// The partitions that it moved.
    pub moved: Vec<CutRow>,
    /// All positions at its end.
    pub end: Cut,
    /// The last records before them, by topic.
    pub marks: BTreeMap<String, Marks>,
}

/// Makes commits of one run.
#[derive(Debug)]
pub struct Committer {
    /// The job.
    pub job: Arc<Job>,
    /// Its tables.
    pub tables: Arc<TableSet>,
    /// Their newest versions, by number.
    pub loaded: Vec<LoadedTable>,
    /// The job at the newest commit.
    pub stored: Stored,
    /// The newest commit.
    pub commit: Commit,
    /// The run.
    pub incarnation: Incarnation,
    /// The catalog.
    pub catalog: Catalog,
    /// The files of the lake.
    pub store: Store,
    /// The symbols of the process.
    pub interner: Arc<Interner>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Merges slabs beside the run.
    pub merger: Merger,
}

/// A commit on its way.
#[derive(Debug)]
struct Attempt {
    sorted: Sorted,
    cuts: Cuts,
    /// The next version of each touched table.
    staged: Vec<(TableIndex, Staged)>,
    /// The job at this commit.
    stored: Stored,
    work: Work,
}

impl Committer {
    /// Makes the next commit from its parts and its cut; gives what it cost, but for its time.
    pub fn commit(&mut self, parts: CommitParts, cuts: Cuts) -> Result<Work, CommitterError> {
        let expected = self.commit.next();
        if parts.commit != expected || cuts.commit != expected {
            let got = if parts.commit == expected { cuts.commit } else { parts.commit };
            return Err(CommitterError::Order { got, expected });
        }
        let sorted = Sorted::new(parts.parts);
        let work = Work::of_commit(expected, &sorted, &self.tables);
        let stored = Stored::default();
        let mut attempt = Attempt { sorted, cuts, staged: Vec::new(), stored, work };
        for step in STEPS {
            self.take(step, &mut attempt)?;
        }
        Ok(attempt.work)
    }

    fn take(&mut self, step: Step, attempt: &mut Attempt) -> Result<(), CommitterError> {
        let Attempt { sorted, cuts, staged, stored, work } = attempt;
        match step {
            Step::Cuts => {
                fail_point!("commit.cuts");
                let file = self.write_cuts(cuts, &sorted.counts)?;
                sorted.added.entry(self.tables.cuts()).or_default().push(file);
            }
            Step::Stage => {
                fail_point!("commit.stage");
                *staged = self.stage(sorted, cuts)?;
                *stored = self.next_stored(sorted, cuts, staged, work)?;
            }
            Step::SyncLake => self.store.sync_directories()?,
            Step::SyncState => state::sync_dir(&self.job.lake.state)?,
            Step::Swap => self.swap(staged, stored)?,
            Step::Note => {
                fail_point!("commit.done");
                self.stored = std::mem::take(stored);
                self.commit = self.commit.next();
                self.merger.start(&self.stored.slabs);
            }
            Step::Delete => {
                for (table, Staged { table: loaded, garbage, .. }) in staged.drain(..) {
                    self.delete_expired(&loaded, &garbage);
                    self.loaded[table] = loaded;
                }
            }
        }
        Ok(())
    }

    fn origin(&self) -> Origin {
        let commit = self.commit.next().0;
        Origin { job: self.job.name.clone(), incarnation: self.incarnation.0, commit }
    }

    fn write_cuts(
        &self,
        cuts: &Cuts,
        counts: &BTreeMap<(Role, i32), Counts>,
    ) -> Result<WrittenFile, CommitterError> {
        let table = self.tables.get(self.tables.cuts());
        let now_us = self.clock.now_ms() * 1_000;
        let rows = cut_rows(
            table.layout.schema(),
            &cuts.moved,
            counts,
            cuts.commit,
            self.incarnation,
            now_us,
        );
        let name = || table.spec.full_name();
        let rows =
            rows.map_err(|error| WriteError::Encode { table: name(), source: error.into() })?;
        let path = self.origin().data_file(&table.location, 0);
        let partition = FilePartition::Unpartitioned;
        let mut file = DataFileWriter::new(&table.layout, partition, &self.store, path)?;
        file.write(&rows)?;
        Ok(file.finish()?)
    }

    /// Stages the touched tables, on two threads.
    fn stage(
        &self,
        sorted: &Sorted,
        cuts: &Cuts,
    ) -> Result<Vec<(TableIndex, Staged)>, CommitterError> {
        let now_ms = self.clock.now_ms();
        let cut = cuts.end.encode();
        let changes: Vec<(TableIndex, Change)> = sorted
            .touched()
            .map(|table| (table, self.change(table, sorted, &cut, now_ms)))
            .collect();
        let (store, loaded) = (&self.store, &self.loaded);
        let stage_one = |(table, change): &(TableIndex, Change)| {
            Ok((*table, stage(store, &loaded[*table], change, now_ms)?))
        };
        let (left, right) = changes.split_at(changes.len() / 2);
        let run = |part: &[(TableIndex, Change)]| {
            part.iter().map(stage_one).collect::<Result<Vec<_>, TableError>>()
        };
        let (left, right) = std::thread::scope(|scope| {
            let left = scope.spawn(|| run(left));
            let right = run(right);
            (left.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), right)
        });
        let mut staged = left?;
        staged.extend(right?);
        Ok(staged)
    }

    fn change(&self, table: TableIndex, sorted: &Sorted, cut: &str, now_ms: i64) -> Change {
        let summary = [
            ("tidewater.job", self.job.name.clone()),
            ("tidewater.incarnation", self.incarnation.to_string()),
            ("tidewater.commit", self.commit.next().to_string()),
            ("tidewater.cut", cut.to_owned()),
        ];
        let owned = |(key, value): (&str, String)| (key.to_owned(), value);
        let properties = [
            ("tidewater.commit", self.commit.next().to_string()),
            ("tidewater.cut", cut.to_owned()),
        ];
        let retention = Retention {
            snapshots_min: self.job.lake.keep_snapshots,
            age_min: std::time::Duration::ZERO,
        };
        Change {
            origin: self.origin(),
            added: sorted.added.get(&table).cloned().unwrap_or_default(),
            removed: sorted.removed.get(&table).cloned().unwrap_or_default(),
            summary: summary.into_iter().map(owned).collect(),
            properties: properties.into_iter().map(owned).collect(),
            expire: expired_snapshots(&self.loaded[table].metadata, retention, now_ms),
        }
    }

    fn next_stored(
        &mut self,
        sorted: &Sorted,
        cuts: &Cuts,
        staged: &[(TableIndex, Staged)],
        work: &mut Work,
    ) -> Result<Stored, CommitterError> {
        let mut stored = self.stored.clone();
        stored.cut = cuts.end.clone();
        stored.marks.clone_from(&cuts.marks);
        for (table, staged) in staged {
            let name = &self.tables.get(*table).spec.name;
            let entry = stored.tables.entry(name.clone()).or_default();
            entry.location.clone_from(&staged.table.metadata_location);
            if let Some(leaves) = sorted.leaves.get(table) {
                entry.leaves.clone_from(leaves);
            }
        }
        for slab in &sorted.slabs {
            stored.slabs.add(slab.clone())?;
        }
        if let Some((merged, slab)) = self.merger.take()? {
            // Not if their generation was forgotten while they were merged: then the result is an orphan.
            let live = stored.slabs.collection(&slab.collection);
            if merged.iter().all(|old| live.contains(old)) {
                work.merged(&slab);
                stored.slabs.replace(&merged, slab)?;
            }
        }
        for (generation, ids) in &sorted.generations {
            *stored.generations.entry(*generation).or_default() += ids;
        }
        if self.job.dedup_horizon_us.is_some() {
            stored.forget_generations();
        }
        let dir = &self.job.lake.state;
        symbols::persist(dir, &self.interner, &self.origin(), &mut stored.symbols)?;
        Ok(stored)
    }

    fn swap(
        &mut self,
        staged: &[(TableIndex, Staged)],
        stored: &Stored,
    ) -> Result<(), CommitError> {
        let swaps: Vec<_> = staged.iter().map(|(_, staged)| staged.swap()).collect();
        let job = JobSwap {
            job: self.job.name.clone(),
            incarnation: self.incarnation.0,
            from_commit: self.commit.0,
            to_commit: self.commit.next().0,
            body: stored.encode(),
        };
        let mut failed = 0;
        loop {
            match self.catalog.commit(&swaps, &job) {
                Err(CommitError::NotSent(error)) if error.is_locked() && failed + 1 < SWAPS_MAX => {
                    failed += 1;
                    let (job, commit) = (&self.job.name, job.to_commit);
                    tracing::warn!(job, commit, failed, %error, "can't commit, trying again");
                }
                done => return done,
            }
        }
    }

    /// The commit stands; what can't be deleted now stays behind as an orphan.
    fn delete_expired(&self, table: &LoadedTable, garbage: &Garbage) {
        if garbage.is_empty() {
            return;
        }
        if let Err(error) = delete_expired(&self.store, table, garbage) {
            let name = table.full_name();
            tracing::warn!(table = name, %error, "expired files stay behind");
        }
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
