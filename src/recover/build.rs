//! Builders: each holds the users and ids of one range of hashes, as a worker of a run does, and writes them
//! as slabs.
//!
//! ```text
//!   Versions ─► ┌─────────┐     over budget      ┌──────┐   at the end   ┌─────────────────────────┐
//!   Facts ────► │ Builder │ ───────────────────► │ runs │ ─────────────► │ one slab per collection │
//!   Ids ──────► └─────────┘                      └──────┘     merged     └─────────────────────────┘
//! ```
//!
//! The rows are made by the code that makes them in a run, so they mean the same. A *run* here is what memory
//! held when it was full, written as a slab; rows that are needed again are read back from it, and the slabs
//! that stay are those that the runs of a collection are merged into.
//!
//! Invariant: all slabs that stay are of the commit that is recovered, so those of later commits are newer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::anyhow;

use crate::changes::Changes;
use crate::enrich::Tables;
use crate::groups::DimensionGroups;
use crate::hydrate::{Hydration, all_layouts};
use crate::ids;
use crate::model::{Commit, DimensionChange, Fact};
use crate::state::{self, Origin, SlabMeta, SlabRows, StateError, WriteOptions};
use crate::worker::WorkerContext;

/// What a builder takes in. All versions come before the first fact.
#[derive(Debug)]
pub(super) enum Work {
    /// Versions of its users.
    Versions(Vec<DimensionChange>),
    /// Events of its users.
    Facts(Vec<Fact>),
    /// Slab rows of its ids, each with its generation.
    Ids(Vec<(u64, [u64; ids::WIDTH])>),
}

/// What a builder has made.
pub(super) struct Built {
    pub(super) slabs: Vec<SlabMeta>,
    /// The rows of all current tables, as far as its users make them.
    pub(super) changes: Changes,
}

/// Builds the state of one range of hashes.
pub(super) struct Builder {
    context: Arc<WorkerContext>,
    tables: Tables,
    hydration: Hydration,
    groups: DimensionGroups,
    changes: Changes,
    ids: BTreeMap<u64, SlabRows>,
    runs: Vec<SlabMeta>,
    /// How often memory was full.
    spills: u64,
}

impl Builder {
    /// A builder with nothing in it.
    pub(super) fn new(context: WorkerContext) -> anyhow::Result<Self> {
        let context = Arc::new(context);
        let tables = Tables::new(&context);
        let builder = Builder {
            hydration: Hydration::open(&context, &tables, &[]),
            tables,
            groups: DimensionGroups::new(&context.job, &context.interner),
            context,
            changes: Changes::default(),
            ids: BTreeMap::new(),
            runs: Vec::new(),
            spills: 0,
        };
        builder.check()?;
        Ok(builder)
    }

    /// Takes in some of what it is to build.
    pub(super) fn absorb(&mut self, work: Work) -> anyhow::Result<()> {
        match work {
            Work::Versions(mut versions) => {
                self.hydration.hydrate(&mut self.tables, &[], &versions)?;
                versions.sort_unstable_by_key(|change| change.position);
                for change in &versions {
                    self.tables.apply_version(change, &mut self.groups, &mut self.changes);
                }
            }
            Work::Facts(facts) => {
                let facts = [facts];
                self.hydration.hydrate(&mut self.tables, &facts, &[])?;
                self.tables.apply_facts(&facts, &mut self.groups, &mut self.changes);
            }
            Work::Ids(rows) => {
                for (generation, row) in rows {
                    let ids = self.ids.entry(generation);
                    ids.or_insert_with(|| SlabRows::new(ids::layout())).push(&row);
                }
            }
        }
        if self.tables.bytes() > self.context.users_bytes_max {
            self.spill_users()?;
        }
        let ids: usize = self.ids.values().map(SlabRows::rows).sum();
        if ids * ids::WIDTH * size_of::<u64>() > self.context.dedup_bytes_max {
            self.spill_ids()?;
        }
        Ok(())
    }

    /// Writes the slabs that stay, of `commit`.
    pub(super) fn finish(mut self, commit: Commit) -> anyhow::Result<Built> {
        let of_ids = self.runs.iter().filter(|run| run.collection == ids::COLLECTION);
        for generation in of_ids.map(|run| run.generation).collect::<Vec<_>>() {
            self.ids.entry(generation).or_insert_with(|| SlabRows::new(ids::layout()));
        }
        let mut parts: Vec<(u64, SlabRows)> = std::mem::take(&mut self.ids).into_iter().collect();
        let users = self.tables.take_fresh(&self.context.job);
        parts.extend(users.into_iter().map(|rows| (0, rows)));
        self.spills += 1;
        let mut slabs = Vec::new();
        for (generation, rows) in parts {
            slabs.extend(self.write_last(generation, rows, commit)?);
        }
        Ok(Built { slabs, changes: self.changes })
    }

    fn spill_users(&mut self) -> anyhow::Result<()> {
        self.spills += 1;
        for rows in self.tables.take_fresh(&self.context.job) {
            let run = self.write(rows, 0, self.spills)?;
            self.runs.extend(run);
        }
        self.tables.evict();
        self.merge_runs()?;
        self.hydration = Hydration::open(&self.context, &self.tables, &self.runs);
        self.check()
    }

    fn spill_ids(&mut self) -> Result<(), StateError> {
        self.spills += 1;
        for (generation, rows) in std::mem::take(&mut self.ids) {
            let run = self.write(rows, generation, self.spills)?;
            self.runs.extend(run);
        }
        self.merge_runs()
    }

    /// Merges runs of collections that have many, so that they stay few and looking up in them cheap.
    fn merge_runs(&mut self) -> Result<(), StateError> {
        let context = &self.context;
        let by = (context.incarnation.0, context.worker);
        let (options, never) = (WriteOptions::default(), AtomicBool::new(false));
        for layout in all_layouts(&context.job, &context.layout) {
            let is_of = |run: &SlabMeta| run.collection == layout.collection;
            let runs = std::mem::take(&mut self.runs);
            let (mut runs, others): (Vec<_>, Vec<_>) = runs.into_iter().partition(is_of);
            runs.sort_by_key(SlabMeta::age);
            while let Some(due) = state::choose_merge(&runs) {
                let dir = &context.state_dir;
                let merged = state::merge(dir, &layout, &runs[due.clone()], by, &options, &never)?;
                remove(dir, runs.splice(due, [merged]));
            }
            self.runs = others;
            self.runs.append(&mut runs);
        }
        Ok(())
    }

    /// Writes the rows, merged with the earlier runs of their collection if there are any.
    fn write_last(
        &self,
        generation: u64,
        rows: SlabRows,
        commit: Commit,
    ) -> Result<Option<SlabMeta>, StateError> {
        let layout = rows.layout().clone();
        let earlier = self.runs.iter().filter(|run| run.collection == layout.collection);
        let mut runs: Vec<SlabMeta> =
            earlier.filter(|run| run.generation == generation).cloned().collect();
        if runs.is_empty() {
            return self.write(rows, generation, commit.0);
        }
        runs.sort_by_key(SlabMeta::age);
        runs.extend(self.write(rows, generation, self.spills)?);
        let context = &self.context;
        let (dir, options) = (&context.state_dir, WriteOptions::default());
        let origin = Origin::of_commit(context.incarnation.0, context.worker, commit.0, generation);
        let never = AtomicBool::new(false);
        let slab = state::merge_as(dir, &layout, &runs, &origin, &options, &never)?;
        remove(dir, runs);
        Ok(Some(slab))
    }

    fn write(
        &self,
        rows: SlabRows,
        generation: u64,
        number: u64,
    ) -> Result<Option<SlabMeta>, StateError> {
        let context = &self.context;
        let origin = Origin::of_commit(context.incarnation.0, context.worker, number, generation);
        rows.write(&context.state_dir, &origin, &WriteOptions::default())
    }

    /// The error that opening slabs met, if it met one.
    fn check(&self) -> anyhow::Result<()> {
        match (self.context.failure.happened(), self.context.failure.take()) {
            (false, _) => Ok(()),
            (true, Some(error)) => Err(error),
            (true, None) => Err(anyhow!("the slabs of another builder can't be opened")),
        }
    }
}

/// Removes slabs that are of no use any more. What stays behind is an orphan, and collected as one.
pub(super) fn remove(dir: &Path, slabs: impl IntoIterator<Item = SlabMeta>) {
    slabs.into_iter().for_each(|slab| {
        fs::remove_file(dir.join(slab.file)).ok();
    });
}
