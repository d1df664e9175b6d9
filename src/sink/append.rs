//! Append: rows of a stream become data files of an append-only table, one set of files for each commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, Int64Array, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::finished::{Finished, TableIndex};
use crate::frontier::{CommitHold, open_epoch};
use crate::lake::data_file::{FilePartition, WrittenFile};
use crate::lake::parquet::{DataFileWriter, WriteError};
use crate::lake::schema::Partitioning;
use crate::model::{Commit, Epoch};
use crate::offload::Mailbox;
use crate::worker::WorkerContext;

/// Files of one table that a worker has open at once: late events may belong to any day.
const OPEN_FILES_MAX: usize = 64;
/// A file that reaches this size is finished.
const FILE_BYTES_MAX: usize = 256 << 20;

/// Writes rows (all columns but `_commit`) to `table`.
pub fn append<'s>(
    name: &str,
    rows: Stream<'s, Epoch, Vec<RecordBatch>>,
    table: TableIndex,
    context: &Arc<WorkerContext>,
) -> Stream<'s, Epoch, Vec<Finished>> {
    let scope = rows.scope();
    let mut builder = OperatorBuilder::new(format!("append::{name}"), scope);
    let mut input = builder.new_input(rows, Pipeline);
    let (finished, finished_stream) = builder.new_output();
    let mut finished = OutputBuilder::from(finished);
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let mut state = State {
        files: Arc::new(Mutex::new(AppendFiles::new(context, table))),
        context: Arc::clone(context),
        commits: CommitHold::default(),
        mailbox: Mailbox::new(wake, context.meters.stage(&format!("lane: append::{name}"))),
        writing: BTreeMap::new(),
    };
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            input.for_each(|capability, rows| {
                state.commits.hold(&capability, 0);
                if let Some(epoch) = capability.least() {
                    state.absorb(Commit::of(*epoch), std::mem::take(rows));
                }
            });
            state.advance(open_epoch(&frontiers[0]));
            let mut output = finished.activate();
            for (capability, parts) in state.finished() {
                output.session(&capability).give_iterator(parts.into_iter());
            }
        }
    });
    finished_stream
}

struct State {
    context: Arc<WorkerContext>,
    files: Arc<Mutex<AppendFiles>>,
    commits: CommitHold,
    mailbox: Mailbox<Option<(Commit, Vec<Finished>)>>,
    writing: BTreeMap<Commit, Capability<Epoch>>,
}

impl State {
    fn absorb(&mut self, commit: Commit, rows: Vec<RecordBatch>) {
        let files = Arc::clone(&self.files);
        let context = Arc::clone(&self.context);
        self.context.lane.submit(&self.mailbox, move || {
            let mut files = files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let written = rows.iter().try_for_each(|rows| files.write(commit, rows));
            context.check(written);
            None
        });
    }

    fn advance(&mut self, open: Option<Epoch>) {
        while let Some((commit, capability)) = self.commits.take_complete(open) {
            self.writing.insert(commit, capability);
            let files = Arc::clone(&self.files);
            self.context.lane.submit(&self.mailbox, move || {
                let mut files = files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                Some((commit, files.finish(commit)))
            });
        }
    }

    fn finished(&mut self) -> Vec<(Capability<Epoch>, Vec<Finished>)> {
        let done = self.mailbox.take().into_iter().flatten();
        done.filter_map(|(commit, parts)| Some((self.writing.remove(&commit)?, parts))).collect()
    }
}

/// The open files of one table on one worker. Lives on the lane.
#[derive(Debug)]
pub(super) struct AppendFiles {
    context: Arc<WorkerContext>,
    table: TableIndex,
    /// Index of the column whose day partitions the table.
    day_column: Option<usize>,
    open: BTreeMap<(Commit, FilePartition), DataFileWriter>,
    done: BTreeMap<Commit, Vec<WrittenFile>>,
}

impl AppendFiles {
    /// No file is open.
    pub(super) fn new(context: &Arc<WorkerContext>, table: TableIndex) -> Self {
        let spec = &context.tables.get(table).spec;
        let day_column = match &spec.partitioning {
            Partitioning::None => None,
            Partitioning::Day(name) => spec.columns.iter().position(|column| column.name == *name),
        };
        let (open, done) = (BTreeMap::new(), BTreeMap::new());
        AppendFiles { context: Arc::clone(context), table, day_column, open, done }
    }

    /// Adds rows (all columns but `_commit`) to the files of their commit and day.
    pub(super) fn write(&mut self, commit: Commit, rows: &RecordBatch) -> Result<(), WriteError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let stamp = Int64Array::from_value(commit.0 as i64, rows.num_rows());
        let schema = Arc::clone(self.context.tables.get(self.table).layout.schema());
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(stamp));
        let rows = RecordBatch::try_new(schema, columns).map_err(|error| self.misfit(error))?;
        for (partition, rows) in self.split(rows)? {
            self.write_part(commit, partition, &rows)?;
        }
        Ok(())
    }

    /// Finishes all files of `commit`.
    pub(super) fn finish(&mut self, commit: Commit) -> Vec<Finished> {
        while let Some(key) = self.open.keys().find(|(of, _)| *of == commit).copied() {
            let closed = self.close(key);
            self.context.check(closed);
        }
        let files = self.done.remove(&commit).unwrap_or_default();
        files.into_iter().map(|file| Finished::File { table: self.table, file }).collect()
    }

    fn write_part(
        &mut self,
        commit: Commit,
        partition: FilePartition,
        rows: &RecordBatch,
    ) -> Result<(), WriteError> {
        let key = (commit, partition);
        if !self.open.contains_key(&key) {
            if self.open.len() >= OPEN_FILES_MAX {
                let largest = self.open.iter().max_by_key(|(_, file)| file.bytes());
                if let Some(largest) = largest.map(|(key, _)| *key) {
                    self.close(largest)?;
                }
            }
            let layout = &self.context.tables.get(self.table).layout;
            let path = self.context.data_file(self.table, commit);
            let file = DataFileWriter::new(layout, partition, &self.context.store, path)?;
            self.open.insert(key, file);
        }
        let Some(file) = self.open.get_mut(&key) else { return Ok(()) };
        file.write(rows)?;
        if file.bytes() >= FILE_BYTES_MAX {
            self.close(key)?;
        }
        Ok(())
    }

    fn close(&mut self, key: (Commit, FilePartition)) -> Result<(), WriteError> {
        let Some(file) = self.open.remove(&key) else { return Ok(()) };
        self.done.entry(key.0).or_default().push(file.finish()?);
        Ok(())
    }

    fn split(&self, rows: RecordBatch) -> Result<Vec<(FilePartition, RecordBatch)>, WriteError> {
        let Some(column) = self.day_column else {
            return Ok(vec![(FilePartition::Unpartitioned, rows)]);
        };
        let times = rows.column(column).as_primitive::<TimestampMicrosecondType>();
        let of_rows: Vec<FilePartition> = times.iter().map(FilePartition::day_of).collect();
        if of_rows.iter().all(|day| *day == of_rows[0]) {
            return Ok(vec![(of_rows[0], rows)]);
        }
        let mut days: BTreeMap<FilePartition, Vec<u32>> = BTreeMap::new();
        for (row, day) in (0..).zip(of_rows) {
            days.entry(day).or_default().push(row);
        }
        let pick = |(day, places): (_, Vec<u32>)| {
            Ok((day, pick_rows(&rows, places).map_err(|error| self.misfit(error))?))
        };
        days.into_iter().map(pick).collect()
    }

    fn misfit(&self, error: ArrowError) -> WriteError {
        let table = self.context.tables.get(self.table).spec.full_name();
        WriteError::Encode { table, source: error.into() }
    }
}

/// The rows of `rows` at these places, which rise.
pub(super) fn pick_rows(
    rows: &RecordBatch,
    places: impl IntoIterator<Item = u32>,
) -> Result<RecordBatch, ArrowError> {
    let mut picked = BooleanBufferBuilder::new(rows.num_rows());
    picked.append_n(rows.num_rows(), false);
    places.into_iter().for_each(|place| picked.set_bit(place as usize, true));
    filter_record_batch(rows, &BooleanArray::new(picked.finish(), None))
}
