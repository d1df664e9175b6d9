//! Ingest: the feed of a worker becomes facts, payload, dimension versions and dead letters.
//!
//! It is the only stage without an input: it holds the epochs open that the feed has not closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use crossbeam_channel::{Receiver, TryRecvError};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::SyncActivator;

use crate::decode::{DimensionDecoder, EventDecoder};
use crate::model::hash::owner;
use crate::model::{Commit, DimensionChange, Epoch, Fact, Parcel, Parcels};
use crate::record_rows::{letter_rows, raw_rows};
use crate::share::{Content, Sharing};
use crate::sink::{Counts, Finished, Payload};
use crate::source::RawBatch;
use crate::source::feed::{Feed, Role};
use crate::worker::WorkerContext;

/// Its name among the stages.
const STAGE: &str = "ingest::decode";
/// Batches decoded before other operators get their turn.
const BATCHES_PER_TURN: usize = 2;

/// What the feed becomes.
pub struct Ingested<'s> {
    /// Events.
    pub facts: Stream<'s, Epoch, Vec<Parcel<Fact>>>,
    /// Their columns, if the job writes the events table.
    pub payloads: Stream<'s, Epoch, Vec<Payload>>,
    /// Versions of the dimension.
    pub versions: Stream<'s, Epoch, Vec<DimensionChange>>,
    /// Rows of the dimension's changelog.
    pub version_rows: Stream<'s, Epoch, Vec<RecordBatch>>,
    /// Rows of the dead letters.
    pub letters: Stream<'s, Epoch, Vec<RecordBatch>>,
    /// Rows of the raw table, if the job writes it.
    pub raw: Stream<'s, Epoch, Vec<RecordBatch>>,
    /// Symbols for the other processes, if there are any.
    pub symbols: Stream<'s, Epoch, Vec<Parcel<Content>>>,
    /// Counts of records and dead letters.
    pub finished: Stream<'s, Epoch, Vec<Finished>>,
    /// Wakes the operator when the feed has more.
    pub wake: SyncActivator,
}

/// Decodes the feed of this worker.
pub fn ingest<'s>(
    scope: Scope<'s, Epoch>,
    feed: Receiver<Feed>,
    context: &Arc<WorkerContext>,
) -> Ingested<'s> {
    let mut builder = OperatorBuilder::new(STAGE.to_owned(), scope);
    let (facts, facts_stream) = builder.new_output();
    let (payloads, payloads_stream) = builder.new_output();
    let (versions, versions_stream) = builder.new_output();
    let (version_rows, version_rows_stream) = builder.new_output();
    let (letters, letters_stream) = builder.new_output();
    let (raw, raw_stream) = builder.new_output();
    let (finished, finished_stream) = builder.new_output();
    let (symbols, symbols_stream) = builder.new_output();
    let mut outputs = Outputs {
        facts: OutputBuilder::from(facts),
        payloads: OutputBuilder::from(payloads),
        versions: OutputBuilder::from(versions),
        version_rows: OutputBuilder::from(version_rows),
        letters: OutputBuilder::from(letters),
        raw: OutputBuilder::from(raw),
        finished: OutputBuilder::from(finished),
        symbols: OutputBuilder::from(symbols),
    };
    let address = builder.operator_info().address;
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let again = scope.activator_for(address);
    let mut state = State::new(Arc::clone(context), feed);
    let stage = context.meters.stage(STAGE);
    builder.build(move |mut held| {
        held.iter_mut().for_each(|held| held.downgrade(&state.open));
        move |_frontiers| {
            let _at_work = stage.at_work();
            for _ in 0..BATCHES_PER_TURN {
                match state.next() {
                    Step::Decoded(epoch, decoded) => {
                        stage.took(decoded.records);
                        outputs.give(&held, epoch, *decoded);
                    }
                    Step::Closed(next, counts) => {
                        outputs.give_counts(&held[FINISHED], counts);
                        held.iter_mut().for_each(|held| held.downgrade(&next));
                    }
                    Step::Ended => return held.clear(),
                    Step::Nothing => return,
                }
            }
            again.activate();
        }
    });
    Ingested {
        facts: facts_stream,
        payloads: payloads_stream,
        versions: versions_stream,
        version_rows: version_rows_stream,
        letters: letters_stream,
        raw: raw_stream,
        finished: finished_stream,
        symbols: symbols_stream,
        wake,
    }
}

/// The port of the counts.
const FINISHED: usize = 6;

type Output<D> = OutputBuilder<Epoch, CapacityContainerBuilder<Vec<D>>>;

/// The ports, in their order.
struct Outputs {
    facts: Output<Parcel<Fact>>,
    payloads: Output<Payload>,
    versions: Output<DimensionChange>,
    version_rows: Output<RecordBatch>,
    letters: Output<RecordBatch>,
    raw: Output<RecordBatch>,
    finished: Output<Finished>,
    symbols: Output<Parcel<Content>>,
}

impl Outputs {
    fn give(&mut self, held: &[Capability<Epoch>], epoch: Epoch, mut decoded: Decoded) {
        fn one<D: 'static>(
            output: &mut Output<D>,
            held: &Capability<Epoch>,
            epoch: Epoch,
            data: Option<D>,
        ) {
            if let Some(data) = data {
                output.activate().session(&held.delayed(&epoch)).give(data);
            }
        }
        if let Some(facts) = decoded.facts {
            self.facts.activate().session(&held[0].delayed(&epoch)).give_iterator(facts.pack());
        }
        one(&mut self.payloads, &held[1], epoch, decoded.payload);
        let versions = held[2].delayed(&epoch);
        self.versions.activate().session(&versions).give_container(&mut decoded.versions);
        one(&mut self.version_rows, &held[3], epoch, decoded.version_rows);
        one(&mut self.letters, &held[4], epoch, decoded.letters);
        one(&mut self.raw, &held[5], epoch, decoded.raw);
        let symbols = held[7].delayed(&epoch);
        self.symbols.activate().session(&symbols).give_iterator(decoded.symbols.into_iter());
    }

    fn give_counts(&mut self, held: &Capability<Epoch>, counts: Option<PartitionCounts>) {
        if let Some(counts) = counts {
            self.finished.activate().session(held).give(Finished::Counts(counts));
        }
    }
}

type PartitionCounts = BTreeMap<(Role, i32), Counts>;

/// What a batch becomes.
#[derive(Default)]
struct Decoded {
    /// Of the batch.
    records: usize,
    facts: Option<Parcels<Fact>>,
    payload: Option<Payload>,
    versions: Vec<DimensionChange>,
    version_rows: Option<RecordBatch>,
    letters: Option<RecordBatch>,
    raw: Option<RecordBatch>,
    symbols: Vec<Parcel<Content>>,
}

/// What the feed had.
enum Step {
    /// A batch.
    Decoded(Epoch, Box<Decoded>),
    /// Epochs before this one are closed; counts follow if a commit is.
    Closed(Epoch, Option<PartitionCounts>),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    Ended,
}

struct State {
    context: Arc<WorkerContext>,
    feed: Receiver<Feed>,
    events: EventDecoder,
    dimension: Option<DimensionDecoder>,
    topics: BTreeMap<Role, String>,
    sharing: Option<Sharing>,
    batches: u32,
    open: Epoch,
    counts: PartitionCounts,
}

impl State {
    fn new(context: Arc<WorkerContext>, feed: Receiver<Feed>) -> Self {
        let job = &context.job;
        let interner = || Arc::clone(&context.interner);
        let worker = context.worker as u16;
        let events = EventDecoder::new(
            &job.events,
            &job.funnels,
            &context.layout,
            worker,
            interner(),
            job.lake.events,
        );
        let mut topics = BTreeMap::from([(Role::Events, job.events.source.topic())]);
        let dimension = job.dimension.as_ref().map(|spec| {
            topics.insert(Role::Dimension, spec.source.topic());
            DimensionDecoder::new(spec, &spec.source.topic(), interner())
        });
        let open = context.start.next().first_epoch();
        let sharing = (context.processes() > 1).then(|| Sharing::new(&context));
        let (batches, counts) = (0, BTreeMap::new());
        State { context, feed, events, dimension, topics, sharing, batches, open, counts }
    }

    fn next(&mut self) -> Step {
        match self.feed.try_recv() {
            Ok(Feed::Batch { role, epoch, batch }) => {
                Step::Decoded(epoch, Box::new(self.decode(role, &batch)))
            }
            Ok(Feed::Close { next }) => {
                let commit_closed = Commit::of(self.open) < Commit::of(next);
                self.open = next;
                Step::Closed(next, commit_closed.then(|| std::mem::take(&mut self.counts)))
            }
            Err(TryRecvError::Empty) => Step::Nothing,
            Err(TryRecvError::Disconnected) => Step::Ended,
        }
    }

    fn decode(&mut self, role: Role, batch: &RawBatch) -> Decoded {
        let mut decoded = Decoded { records: batch.records.len(), ..Decoded::default() };
        let mut letters = Vec::new();
        match (role, &mut self.dimension) {
            (Role::Events, _) => {
                let number = self.batches;
                self.batches += 1;
                let workers = self.context.workers;
                let mut facts = Parcels::new(workers, batch.records.len());
                let give = |fact: Fact| facts.push(owner(fact.id[0], workers), fact);
                let rows = self.events.decode(batch, number, give, &mut letters);
                decoded.facts = Some(facts);
                decoded.payload = rows.map(|rows| Payload { batch: number, rows });
            }
            (Role::Dimension, Some(decoder)) => {
                decoded.version_rows =
                    Some(decoder.decode(batch, &mut decoded.versions, &mut letters));
            }
            (Role::Dimension, None) => {}
        }
        let met = self.events.take_met();
        if let Some(sharing) = &mut self.sharing {
            decoded.symbols = sharing.parcels(met, &decoded.versions);
        }
        let counts = self.counts.entry((role, batch.partition)).or_default();
        counts.records += batch.records.len() as u64;
        counts.dead_letters += letters.len() as u64;
        let topic = &self.topics[&role];
        if !letters.is_empty() {
            decoded.letters = self.context.check(letter_rows(topic, letters));
        }
        if self.context.job.lake.raw {
            decoded.raw = self.context.check(raw_rows(topic, batch));
        }
        decoded
    }
}
