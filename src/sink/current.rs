//! Current: the changes of a commit are worked into the leaves of a current table.
//!
//! A current table is a row of sorted leaves: data files with disjoint ranges of the table's key. A commit
//! rewrites the leaves that its changes touch and no others. The old row and the new row of every change go
//! to the changelog.
//!
//! *Owns* the leaf directory of its tables; each table belongs to one worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::{Int64Array, RecordBatch};
use thiserror::Error;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::current_rows::{CurrentRow, CurrentShape, RowError};
use super::finished::{Finished, Leaf, TableIndex};
use crate::changes::{Changes, Delta, GroupKey};
use crate::frontier::{CommitHold, open_epoch};
use crate::lake::data_file::{FilePartition, WrittenFile};
use crate::lake::parquet::{DataFileWriter, WriteError};
use crate::lake::read::{ReadError, read_data_file};
use crate::model::{Commit, Epoch, Value};
use crate::offload::Mailbox;
use crate::worker::WorkerContext;

/// Its name among the stages, and that of its jobs on the lane.
const STAGE: &str = "current::leaves";
const LANE: &str = "lane: leaves and changelogs";

/// Why a current table can't be rewritten.
#[derive(Debug, Error)]
pub enum CurrentError {
    /// A leaf can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A leaf can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A row can't be.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A leaf is not what was written.
    #[error("data file {path} of table {table} does not have the columns that this job writes")]
    Columns {
        /// The table.
        table: String,
        /// The file.
        path: String,
    },
    /// Columns that don't make a batch.
    #[error("rows of table {table} can't be made: {error}")]
    Batch {
        /// The table.
        table: String,
        /// What Arrow says.
        error: arrow_schema::ArrowError,
    },
}

/// Works `changes` into the current tables and their changelogs.
pub fn current<'s>(
    changes: Stream<'s, Epoch, Vec<(GroupKey, Delta)>>,
    context: &Arc<WorkerContext>,
) -> Stream<'s, Epoch, Vec<Finished>> {
    let scope = changes.scope();
    let workers = context.workers as u64;
    let mut builder = OperatorBuilder::new(STAGE.to_owned(), scope);
    let by_table = Exchange::new(move |change: &(GroupKey, Delta)| change.0.table as u64 % workers);
    let mut input = builder.new_input(changes, by_table);
    let (finished, finished_stream) = builder.new_output();
    let mut finished = OutputBuilder::from(finished);
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let mut state = State::new(Arc::clone(context), Mailbox::new(wake, context.meters.stage(LANE)));
    let stage = context.meters.stage(STAGE);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            let _at_work = stage.at_work();
            input.for_each(|capability, changes| {
                stage.took(changes.len());
                state.commits.hold(&capability, 0);
                if let Some(epoch) = capability.least() {
                    let waiting = state.waiting.entry(Commit::of(*epoch)).or_default();
                    changes.drain(..).for_each(|(group, delta)| waiting.add(group, &delta));
                }
            });
            state.advance(open_epoch(&frontiers[0]));
            let mut output = finished.activate();
            for (commit, parts) in state.mailbox.take() {
                if let Some(capability) = state.writing.remove(&commit) {
                    output.session(&capability).give_iterator(parts.into_iter());
                }
            }
        }
    });
    finished_stream
}

struct State {
    context: Arc<WorkerContext>,
    commits: CommitHold,
    waiting: BTreeMap<Commit, Changes>,
    mailbox: Mailbox<(Commit, Vec<Finished>)>,
    writing: BTreeMap<Commit, Capability<Epoch>>,
    tables: Arc<Mutex<BTreeMap<TableIndex, CurrentTable>>>,
}

impl State {
    fn new(context: Arc<WorkerContext>, mailbox: Mailbox<(Commit, Vec<Finished>)>) -> Self {
        State {
            context,
            commits: CommitHold::default(),
            waiting: BTreeMap::new(),
            mailbox,
            writing: BTreeMap::new(),
            tables: Arc::default(),
        }
    }

    fn advance(&mut self, open: Option<Epoch>) {
        while let Some((commit, capability)) = self.commits.take_complete(open) {
            self.writing.insert(commit, capability);
            let changes = self.waiting.remove(&commit).unwrap_or_default();
            let (context, tables) = (Arc::clone(&self.context), Arc::clone(&self.tables));
            self.context.lane.submit(&self.mailbox, move || {
                let mut by_table: BTreeMap<TableIndex, Vec<(GroupKey, Delta)>> = BTreeMap::new();
                for (group, delta) in changes.into_iter_nonzero() {
                    by_table.entry(group.table).or_default().push((group, delta));
                }
                let mut tables = tables.lock().unwrap_or_else(|held| held.into_inner());
                let mut parts = Vec::new();
                for (index, changes) in by_table {
                    let table =
                        tables.entry(index).or_insert_with(|| CurrentTable::new(&context, index));
                    let applied = table.apply(commit, changes);
                    parts.extend(context.check(applied).unwrap_or_default());
                }
                (commit, parts)
            });
        }
    }
}

/// A current table and its leaves.
#[derive(Debug)]
pub struct CurrentTable {
    context: Arc<WorkerContext>,
    index: TableIndex,
    leaves: Vec<Leaf>,
}

/// A changed row: its key, what readers saw, and −1 or +1.
type ShownChange = (Vec<Value>, Vec<Value>, i32);

/// What a commit does to a table.
#[derive(Default)]
struct Rewrite {
    leaves: Vec<Leaf>,
    removed: Vec<String>,
    added: Vec<WrittenFile>,
    changes: Vec<ShownChange>,
}

impl CurrentTable {
    /// The table as the last commit left it.
    pub fn new(context: &Arc<WorkerContext>, index: TableIndex) -> Self {
        let leaves = context.stored_leaves(index);
        CurrentTable { context: Arc::clone(context), index, leaves }
    }

    /// Applies the changes of `commit` and writes the files that it needs.
    pub fn apply(
        &mut self,
        commit: Commit,
        changes: Vec<(GroupKey, Delta)>,
    ) -> Result<Vec<Finished>, CurrentError> {
        let shape = self.shape();
        let interner = &self.context.interner;
        let keyed =
            changes.into_iter().map(|(group, delta)| Ok((shape.key(&group, interner)?, delta)));
        let mut keyed = keyed.collect::<Result<Vec<_>, RowError>>()?;
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let rewrite = self.rewrite(commit, keyed)?;
        self.leaves.clone_from(&rewrite.leaves);
        self.report(commit, rewrite)
    }

    fn rewrite(
        &self,
        commit: Commit,
        changes: Vec<(Vec<Value>, Delta)>,
    ) -> Result<Rewrite, CurrentError> {
        let mut rewrite = Rewrite::default();
        let whole = [Leaf { lower: Vec::new(), path: String::new(), rows: 0 }];
        let leaves = if self.leaves.is_empty() { &whole[..] } else { &self.leaves[..] };
        let mut changes = changes.into_iter().peekable();
        // Rows of leaves that shrank too far join the next leaf.
        let mut carried: Option<(Vec<Value>, Vec<CurrentRow>)> = None;
        for (index, leaf) in leaves.iter().enumerate() {
            let upper = leaves.get(index + 1).map(|next| &next.lower);
            let mut mine = Vec::new();
            while let Some(change) =
                changes.next_if(|(key, _)| upper.is_none_or(|upper| key < upper))
            {
                mine.push(change);
            }
            if mine.is_empty() && carried.is_none() {
                rewrite.leaves.push(leaf.clone());
                continue;
            }
            let stored = self.read(leaf, &mut rewrite)?;
            let merged = self.merge(commit, stored, mine, &mut rewrite.changes)?;
            let (lower, mut rows) =
                carried.take().unwrap_or_else(|| (leaf.lower.clone(), Vec::new()));
            rows.extend(merged);
            if rows.len() < self.context.job.lake.leaf_rows / 4 && upper.is_some() {
                carried = Some((lower, rows));
            } else {
                self.write_leaves(commit, lower, &rows, &mut rewrite)?;
            }
        }
        if let Some(first) = rewrite.leaves.first_mut() {
            first.lower.clear();
        }
        Ok(rewrite)
    }

    fn read(&self, leaf: &Leaf, rewrite: &mut Rewrite) -> Result<Vec<CurrentRow>, CurrentError> {
        if leaf.path.is_empty() {
            return Ok(Vec::new());
        }
        rewrite.removed.push(leaf.path.clone());
        let schema = self.context.tables.get(self.index).layout.schema();
        let mut rows = Vec::with_capacity(leaf.rows as usize);
        for batch in read_data_file(&leaf.path, None)? {
            let read = self.shape().read_leaf(schema, &batch);
            rows.extend(read.ok_or_else(|| CurrentError::Columns {
                table: self.name(),
                path: leaf.path.clone(),
            })?);
        }
        Ok(rows)
    }

    /// Merges sorted changes into sorted rows and notes what readers will see of it.
    fn merge(
        &self,
        commit: Commit,
        rows: Vec<CurrentRow>,
        changes: Vec<(Vec<Value>, Delta)>,
        seen: &mut Vec<ShownChange>,
    ) -> Result<Vec<CurrentRow>, RowError> {
        let shape = self.shape();
        let mut merged = Vec::with_capacity(rows.len() + changes.len());
        let mut rows = rows.into_iter().peekable();
        for (key, delta) in changes {
            while let Some(before) = rows.next_if(|row| row.key < key) {
                merged.push(before);
            }
            let old = rows.next_if(|row| row.key == key);
            let before = old.as_ref().map(|row| shape.shown(&row.totals));
            let mut row = old.unwrap_or_else(|| CurrentRow {
                key: key.clone(),
                totals: Delta::default(),
                commit: commit.0,
            });
            row.totals.add(&delta);
            shape.check(&row)?;
            let after = (row.totals.count > 0).then(|| shape.shown(&row.totals));
            if before != after {
                row.commit = commit.0;
                seen.extend(before.map(|shown| (key.clone(), shown, -1)));
                seen.extend(after.clone().map(|shown| (key, shown, 1)));
            }
            if after.is_some() {
                merged.push(row);
            }
        }
        merged.extend(rows);
        Ok(merged)
    }

    fn write_leaves(
        &self,
        commit: Commit,
        lower: Vec<Value>,
        rows: &[CurrentRow],
        rewrite: &mut Rewrite,
    ) -> Result<(), CurrentError> {
        let size = self.context.job.lake.leaf_rows;
        let parts = if rows.len() > size + size / 2 { rows.len().div_ceil(size) } else { 1 };
        for part in rows.chunks(rows.len().div_ceil(parts).max(1)) {
            let file = self.write(commit, self.index, self.shape().leaf_columns(part))?;
            let first = std::ptr::eq(part, &rows[..part.len()]);
            let lower = if first { lower.clone() } else { part[0].key.clone() };
            rewrite.leaves.push(Leaf { lower, path: file.path.clone(), rows: file.rows });
            rewrite.added.push(file);
        }
        Ok(())
    }

    fn report(&self, commit: Commit, rewrite: Rewrite) -> Result<Vec<Finished>, CurrentError> {
        let Rewrite { leaves, removed, added, changes } = rewrite;
        let mut parts = vec![Finished::Leaves {
            table: self.index,
            removed,
            added,
            directory: leaves,
            changes: changes.len() as u64,
        }];
        if !changes.is_empty() {
            let table = self.context.tables.changes_of(self.index);
            let mut columns = self.shape().change_columns(&changes);
            columns.push(Arc::new(Int64Array::from_value(commit.0 as i64, changes.len())));
            let file = self.write(commit, table, columns)?;
            parts.push(Finished::File { table, file });
        }
        Ok(parts)
    }

    fn write(
        &self,
        commit: Commit,
        table: TableIndex,
        columns: Vec<arrow_array::ArrayRef>,
    ) -> Result<WrittenFile, CurrentError> {
        let layout = &self.context.tables.get(table).layout;
        let batch = RecordBatch::try_new(Arc::clone(layout.schema()), columns)
            .map_err(|error| CurrentError::Batch { table: self.name(), error })?;
        let path = self.context.data_file(table, commit);
        let store = &self.context.store;
        let mut file = DataFileWriter::new(layout, FilePartition::Unpartitioned, store, path)?;
        file.write(&batch)?;
        Ok(file.finish()?)
    }

    fn shape(&self) -> &CurrentShape {
        let shape = self.context.tables.get(self.index).shape.as_ref();
        shape.unwrap_or_else(|| panic!("table {} is no current table", self.name()))
    }

    fn name(&self) -> String {
        self.context.tables.get(self.index).spec.full_name()
    }
}

#[cfg(test)]
#[path = "current_tests.rs"]
mod tests;
