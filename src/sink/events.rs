//! Events: the payload of admitted events meets its verdicts, and becomes rows of the events table.
//!
//! The payload never left the worker that decoded it. A verdict says that a row was admitted and which
//! version of the dimension held; a row without a verdict by the end of its epoch was a duplicate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{ArrowError, Schema};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::append::{AppendFiles, pick_rows};
use super::current_rows::array_of;
use super::finished::{Finished, TableIndex};
use crate::frontier::{CommitHold, Next, Stash, next_complete, open_epoch_of_all};
use crate::model::value::decode_tuple;
use crate::model::{ColumnType, Commit, Epoch, Parcel, Symbol, Value};
use crate::offload::Mailbox;
use crate::worker::WorkerContext;

/// Its name among the stages, and that of its jobs on the lane.
const STAGE: &str = "events::stamp";
const LANE: &str = "lane: events to Parquet";

/// The decoded columns of a raw batch: they stay on their worker.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The number that the facts of the batch carry.
    pub batch: u32,
    /// Row `i` belongs to the fact of row `i`.
    pub rows: RecordBatch,
}

/// An event was admitted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Verdict {
    /// The payload's batch on its worker.
    pub batch: u32,
    /// The row of that batch.
    pub row: u32,
    /// The dimension columns as they stood in the event's epoch.
    pub columns: Symbol,
}

/// What the events writer gives on.
pub struct EventsWritten<'s> {
    /// Data files.
    pub finished: Stream<'s, Epoch, Vec<Finished>>,
    /// Carries no data; its frontier passes an epoch when the epoch's rows are encoded.
    pub encoded: Stream<'s, Epoch, Vec<()>>,
}

/// Writes the events table.
pub fn events<'s>(
    payloads: Stream<'s, Epoch, Vec<Payload>>,
    verdicts: Stream<'s, Epoch, Vec<Parcel<Verdict>>>,
    table: TableIndex,
    context: &Arc<WorkerContext>,
) -> EventsWritten<'s> {
    let scope = payloads.scope();
    let mut builder = OperatorBuilder::new(STAGE.to_owned(), scope);
    let mut payloads = builder.new_input(payloads, Pipeline);
    let home = Exchange::new(|parcel: &Parcel<Verdict>| parcel.to);
    let mut verdicts = builder.new_input(verdicts, home);
    let (finished, finished_stream) = builder.new_output();
    let (_encoded, encoded_stream) = builder.new_output::<Vec<()>>();
    let mut finished =
        OutputBuilder::<_, timely::container::CapacityContainerBuilder<_>>::from(finished);
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let mut state =
        State::new(Arc::clone(context), table, Mailbox::new(wake, context.meters.stage(LANE)));
    let stage = context.meters.stage(STAGE);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            let _at_work = stage.at_work();
            payloads.for_each(|capability, payloads| {
                state.commits.hold(&capability, 0);
                if let Some(waiting) = state.stash.entry(&capability, 1) {
                    waiting.payloads.append(payloads);
                }
            });
            verdicts.for_each(|capability, parcels| {
                stage.took(Parcel::rows_of(parcels));
                state.commits.hold(&capability, 0);
                if let Some(waiting) = state.stash.entry(&capability, 1) {
                    waiting.verdicts.extend(parcels.drain(..).map(|parcel| parcel.rows));
                }
            });
            state.advance(open_epoch_of_all(frontiers));
            let mut output = finished.activate();
            for (capability, parts) in state.finished() {
                output.session(&capability).give_iterator(parts.into_iter());
            }
        }
    });
    EventsWritten { finished: finished_stream, encoded: encoded_stream }
}

#[derive(Default)]
struct Waiting {
    payloads: Vec<Payload>,
    verdicts: Vec<Vec<Verdict>>,
}

/// The lane has done a job.
enum Done {
    /// The rows of an epoch are encoded.
    Encoded(Epoch),
    /// The files of a commit exist.
    Written(Commit, Vec<Finished>),
}

struct State {
    context: Arc<WorkerContext>,
    stash: Stash<Waiting>,
    commits: CommitHold,
    mailbox: Mailbox<Done>,
    encoding: BTreeMap<Epoch, Capability<Epoch>>,
    writing: BTreeMap<Commit, Capability<Epoch>>,
    files: Arc<Mutex<(Stamper, AppendFiles)>>,
}

impl State {
    fn new(context: Arc<WorkerContext>, table: TableIndex, mailbox: Mailbox<Done>) -> Self {
        let files = (Stamper::new(&context, table), AppendFiles::new(&context, table));
        State {
            context,
            stash: Stash::new(),
            commits: CommitHold::default(),
            mailbox,
            encoding: BTreeMap::new(),
            writing: BTreeMap::new(),
            files: Arc::new(Mutex::new(files)),
        }
    }

    fn advance(&mut self, open: Option<Epoch>) {
        loop {
            let epoch = self.stash.first_complete(open);
            match next_complete(epoch, self.commits.first_complete(open)) {
                Next::Epoch(epoch) => {
                    let Some((capability, waiting)) = self.stash.take_complete(open) else { break };
                    self.encoding.insert(epoch, capability);
                    self.encode(epoch, waiting);
                }
                Next::Commit(_) => {
                    let Some((commit, capability)) = self.commits.take_complete(open) else {
                        break;
                    };
                    self.writing.insert(commit, capability);
                    let files = Arc::clone(&self.files);
                    self.context.lane.submit(&self.mailbox, move || {
                        let mut files = files.lock().unwrap_or_else(|held| held.into_inner());
                        Done::Written(commit, files.1.finish(commit))
                    });
                }
                Next::Nothing => break,
            }
        }
    }

    fn encode(&mut self, epoch: Epoch, waiting: Waiting) {
        let files = Arc::clone(&self.files);
        let context = Arc::clone(&self.context);
        self.context.lane.submit(&self.mailbox, move || {
            let mut files = files.lock().unwrap_or_else(|held| held.into_inner());
            let (stamper, files) = &mut *files;
            for rows in stamper.stamp(waiting) {
                let rows = context.check(rows);
                let written = rows.map(|rows| files.write(Commit::of(epoch), &rows));
                written.map(|written| context.check(written));
            }
            Done::Encoded(epoch)
        });
    }

    fn finished(&mut self) -> Vec<(Capability<Epoch>, Vec<Finished>)> {
        let mut ready = Vec::new();
        for done in self.mailbox.take() {
            match done {
                Done::Encoded(epoch) => drop(self.encoding.remove(&epoch)),
                Done::Written(commit, parts) => {
                    ready.extend(self.writing.remove(&commit).map(|held| (held, parts)));
                }
            }
        }
        ready
    }
}

/// In place of a tuple's number: the row was a duplicate.
const NOT_ADMITTED: u32 = u32::MAX;

/// Picks the admitted rows of payloads and adds the dimension's columns to them.
struct Stamper {
    context: Arc<WorkerContext>,
    /// The schema of the table without `_commit`.
    schema: Arc<Schema>,
    topic: String,
    kinds: Vec<ColumnType>,
    /// The event-side columns of a payload, before the position.
    event_columns: usize,
    known: HashMap<Symbol, u32>,
    /// Per dimension column: the values of the known tuples.
    values: Vec<Vec<Value>>,
}

impl Stamper {
    fn new(context: &Arc<WorkerContext>, table: TableIndex) -> Self {
        let fields = context.tables.get(table).layout.schema().fields();
        let schema = Schema::new(fields[..fields.len() - 1].to_vec());
        let columns = context.job.dimension.iter().flat_map(|dimension| &dimension.columns);
        let kinds: Vec<ColumnType> = columns.map(|column| column.kind).collect();
        Stamper {
            context: Arc::clone(context),
            schema: Arc::new(schema),
            topic: context.job.events.source.topic(),
            values: vec![Vec::new(); kinds.len()],
            kinds,
            event_columns: 3 + context.job.events.columns.len(),
            known: HashMap::new(),
        }
    }

    /// The rows of the events table (all columns but `_commit`), batch by batch.
    fn stamp(&mut self, waiting: Waiting) -> Vec<Result<RecordBatch, ArrowError>> {
        let Waiting { mut payloads, verdicts } = waiting;
        payloads.sort_unstable_by_key(|payload| payload.batch);
        // The batches of a worker in an epoch are numbered without a gap.
        let first = payloads.first().map_or(0, |payload| payload.batch);
        let mut tuples: Vec<Vec<u32>> =
            payloads.iter().map(|payload| vec![NOT_ADMITTED; payload.rows.num_rows()]).collect();
        for verdict in verdicts.iter().flatten() {
            let of_batch = &mut tuples[(verdict.batch - first) as usize];
            of_batch[verdict.row as usize] = self.tuple(verdict.columns);
        }
        let batches = payloads.iter().zip(tuples);
        batches.map(|(payload, tuples)| self.stamp_batch(&payload.rows, tuples)).collect()
    }

    /// The admitted rows of a batch, given the tuple of each of its rows.
    fn stamp_batch(
        &self,
        rows: &RecordBatch,
        mut tuples: Vec<u32>,
    ) -> Result<RecordBatch, ArrowError> {
        let whole = tuples.iter().all(|tuple| *tuple != NOT_ADMITTED);
        let rows = if whole {
            rows.clone()
        } else {
            let places = (0..).zip(&tuples).filter(|(_, tuple)| **tuple != NOT_ADMITTED);
            let picked = pick_rows(rows, places.map(|(place, _)| place))?;
            tuples.retain(|tuple| *tuple != NOT_ADMITTED);
            picked
        };
        let tuples = UInt32Array::from(tuples);
        let mut columns: Vec<ArrayRef> = rows.columns()[..self.event_columns].to_vec();
        for (kind, values) in self.kinds.iter().zip(&self.values) {
            let distinct = array_of(*kind, values.iter());
            columns.push(arrow_select::take::take(&distinct, &tuples as &dyn Array, None)?);
        }
        let topics = std::iter::repeat_n(self.topic.as_str(), rows.num_rows());
        columns.push(Arc::new(StringArray::from_iter_values(topics)));
        columns.extend_from_slice(&rows.columns()[self.event_columns..]);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    fn tuple(&mut self, columns: Symbol) -> u32 {
        if let Some(index) = self.known.get(&columns) {
            return *index;
        }
        let content = self.context.interner.content(columns);
        let tuple = content.and_then(|content| decode_tuple(&self.kinds, &content));
        let tuple = tuple.unwrap_or_else(|| panic!("symbol {:#018x} is unknown", columns.0));
        for (values, value) in self.values.iter_mut().zip(tuple) {
            values.push(value);
        }
        let index = self.known.len() as u32;
        self.known.insert(columns, index);
        index
    }
}
