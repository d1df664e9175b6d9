//! Enrich: events meet the dimension as it is now, and every answer follows.
//!
//! ```text
//!   facts (by user) ─────►┌──────────┐──► verdicts   (to the payload's worker: admitted, with which columns)
//!                         │  enrich  │──► changes    (differences by group, once a commit)
//!   versions (by user) ──►└──────────┘──► finished   (slabs of rows, step events and versions)
//! ```
//!
//! *Frontiers.* With several processes an epoch waits until all of them know its symbols (`symbols`, which
//! carries no data). It is worked off when neither input can add to it: first its dimension changes, then
//! its facts. Verdicts leave with their epoch, changes and slabs with their commit.
//!
//! *Invariants.* (1) `changes` summed up to a commit are the aggregates and funnels of the records below its
//! cut.
//! (2) A row is read from slabs at most once in a run, unless memory was freed. (3) Memory is freed only when
//! all that it held stands in slabs.

mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};

use crate::changes::{Changes, Delta, GroupKey};
use crate::frontier::{CommitHold, Next, Stash, next_complete, open_epoch_of_all};
use crate::groups::DimensionGroups;
use crate::hydrate::Hydration;
use crate::model::hash::owner;
use crate::model::{Commit, DimensionChange, Epoch, Fact, Parcel, Parcels};
use crate::offload::Mailbox;
use crate::sink::{Finished, Verdict};
use crate::state::SlabMeta;
use crate::worker::WorkerContext;

pub use self::tables::Tables;

/// Its name among the stages, and that of its jobs on the lane.
const STAGE: &str = "enrich::users";
const LANE: &str = "lane: users and rows to slabs";

/// What enrich gives on.
pub struct Enriched<'s> {
    /// One for each admitted event, if the job writes the events table.
    pub verdicts: Stream<'s, Epoch, Vec<Parcel<Verdict>>>,
    /// Differences of the current tables.
    pub changes: Stream<'s, Epoch, Vec<(GroupKey, Delta)>>,
    /// Slabs.
    pub finished: Stream<'s, Epoch, Vec<Finished>>,
}

/// Maintains aggregates and funnels of `facts` joined with `versions`. The frontier of `symbols`, if there
/// are several processes, passes an epoch when all of them know its symbols.
pub fn enrich<'s>(
    facts: Stream<'s, Epoch, Vec<Parcel<Fact>>>,
    versions: Stream<'s, Epoch, Vec<DimensionChange>>,
    symbols: Option<Stream<'s, Epoch, Vec<()>>>,
    context: &Arc<WorkerContext>,
) -> Enriched<'s> {
    let scope = facts.scope();
    let workers = context.workers;
    let mut builder = OperatorBuilder::new(STAGE.to_owned(), scope);
    let by_user = Exchange::new(|parcel: &Parcel<Fact>| parcel.to);
    let mut facts = builder.new_input(facts, by_user);
    let by_user = Exchange::new(move |change: &DimensionChange| owner(change.user, workers));
    let mut versions = builder.new_input(versions, by_user);
    // Only its frontier counts: it is among those that say which epochs are complete.
    let _symbols = symbols.map(|symbols| builder.new_input(symbols, Pipeline));
    let (verdicts, verdicts_stream) = builder.new_output();
    let (changes, changes_stream) = builder.new_output();
    let (finished, finished_stream) = builder.new_output();
    let mut verdicts = OutputBuilder::from(verdicts);
    let mut changes = OutputBuilder::from(changes);
    let mut finished = OutputBuilder::from(finished);
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let mut state = State::new(Arc::clone(context), Mailbox::new(wake, context.meters.stage(LANE)));
    let stage = context.meters.stage(STAGE);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            let _at_work = stage.at_work();
            facts.for_each(|capability, facts| {
                stage.took(Parcel::rows_of(facts));
                state.absorb_facts(&capability, facts);
            });
            versions.for_each(|capability, changes| {
                stage.took(changes.len());
                state.absorb_versions(&capability, changes);
            });
            let mut parts_out = finished.activate();
            for (capability, parts) in state.finished() {
                parts_out.session(&capability).give_iterator(parts.into_iter());
            }
            let (mut verdicts_out, mut changes_out) = (verdicts.activate(), changes.activate());
            state.advance(open_epoch_of_all(frontiers), &mut |output| match output {
                Output::Verdicts(capability, verdicts) => {
                    verdicts_out.session(&capability).give_iterator(verdicts.pack());
                }
                Output::Changes(capability, changes) => {
                    changes_out.session(&capability).give_iterator(changes.into_iter_nonzero());
                }
            });
        }
    });
    Enriched { verdicts: verdicts_stream, changes: changes_stream, finished: finished_stream }
}

enum Output {
    Verdicts(Capability<Epoch>, Parcels<Verdict>),
    Changes(Capability<Epoch>, Changes),
}

/// What waits for its epoch: facts, and dimension changes.
type Waiting = (Vec<Vec<Fact>>, Vec<DimensionChange>);

struct State {
    context: Arc<WorkerContext>,
    tables: Tables,
    hydration: Hydration,
    groups: DimensionGroups,
    stash: Stash<Waiting>,
    /// Hold the commit open on the ports of changes and of finished parts.
    changes_hold: CommitHold,
    finished_hold: CommitHold,
    changes: Changes,
    mailbox: Mailbox<(Commit, Vec<Finished>)>,
    writing: BTreeMap<Commit, Capability<Epoch>>,
    written: Vec<SlabMeta>,
    evicting: Option<Commit>,
}

impl State {
    fn new(context: Arc<WorkerContext>, mailbox: Mailbox<(Commit, Vec<Finished>)>) -> Self {
        let tables = Tables::new(&context);
        State {
            hydration: Hydration::open(&context, &tables, &[]),
            tables,
            groups: DimensionGroups::new(&context.job, &context.interner),
            context,
            stash: Stash::new(),
            changes_hold: CommitHold::default(),
            finished_hold: CommitHold::default(),
            changes: Changes::default(),
            mailbox,
            writing: BTreeMap::new(),
            written: Vec::new(),
            evicting: None,
        }
    }

    fn absorb_facts(
        &mut self,
        capability: &InputCapability<Epoch>,
        parcels: &mut Vec<Parcel<Fact>>,
    ) {
        self.hold(capability);
        if let Some((waiting, _)) = self.stash.entry(capability, 0) {
            waiting.extend(parcels.drain(..).map(|parcel| parcel.rows));
        }
    }

    fn absorb_versions(
        &mut self,
        capability: &InputCapability<Epoch>,
        changes: &mut Vec<DimensionChange>,
    ) {
        self.hold(capability);
        if let Some((_, waiting)) = self.stash.entry(capability, 0) {
            waiting.append(changes);
        }
    }

    fn hold(&mut self, capability: &InputCapability<Epoch>) {
        self.changes_hold.hold(capability, 1);
        self.finished_hold.hold(capability, 2);
    }

    fn advance(&mut self, open: Option<Epoch>, give: &mut dyn FnMut(Output)) {
        while self.evicting.is_none() {
            let epoch = self.stash.first_complete(open);
            match next_complete(epoch, self.finished_hold.first_complete(open)) {
                Next::Commit(_) => self.close_commit(open, give),
                Next::Epoch(_) => {
                    let Some((capability, waiting)) = self.stash.take_complete(open) else { break };
                    let verdicts = self.work_off(waiting);
                    give(Output::Verdicts(capability, verdicts));
                }
                Next::Nothing => break,
            }
        }
    }

    /// Works off an epoch and returns its verdicts.
    fn work_off(&mut self, (facts, mut versions): Waiting) -> Parcels<Verdict> {
        let hydrated = self.hydration.hydrate(&mut self.tables, &facts, &versions);
        self.context.check(hydrated);
        versions.sort_unstable_by_key(|change| change.position);
        for change in &versions {
            self.tables.apply_version(change, &mut self.groups, &mut self.changes);
        }
        self.apply_facts(&facts)
    }

    /// Takes in the facts of an epoch.
    fn apply_facts(&mut self, epoch: &[Vec<Fact>]) -> Parcels<Verdict> {
        let columns = self.tables.apply_facts(epoch, &mut self.groups, &mut self.changes);
        if !self.context.job.lake.events {
            return Parcels::new(self.context.workers, 0);
        }
        let mut verdicts = Parcels::new(self.context.workers, columns.len());
        for (fact, columns) in epoch.iter().flatten().zip(columns) {
            let verdict = Verdict { batch: fact.batch, row: fact.row, columns };
            verdicts.push(fact.worker.into(), verdict);
        }
        verdicts
    }

    /// Hands on the changes of the first complete commit, and its new state to the lane.
    fn close_commit(&mut self, open: Option<Epoch>, give: &mut dyn FnMut(Output)) {
        if let Some((_, capability)) = self.changes_hold.take_complete(open) {
            give(Output::Changes(capability, std::mem::take(&mut self.changes)));
        }
        let Some((commit, capability)) = self.finished_hold.take_complete(open) else { return };
        self.writing.insert(commit, capability);
        let strays = self.tables.users.take_strays();
        if strays > 0 {
            tracing::warn!(
                %commit, strays,
                "keys of the dimension stand in several partitions; the greatest (partition, offset) holds"
            );
        }
        self.tables.meter(&self.context);
        let mut parts: Vec<Finished> = self.hydration.take_reads().collect();
        let fresh = self.tables.take_fresh(&self.context.job);
        let context = Arc::clone(&self.context);
        self.context.lane.submit(&self.mailbox, move || {
            for rows in fresh {
                let layout = rows.layout().clone();
                let slab = context.write_slab(&layout, rows.into_buckets(), commit, 0);
                parts.extend(slab.map(Finished::Slab));
            }
            (commit, parts)
        });
        if self.tables.bytes() > self.context.users_bytes_max {
            self.evicting = Some(commit);
        }
    }

    fn finished(&mut self) -> Vec<(Capability<Epoch>, Vec<Finished>)> {
        let mut ready = Vec::new();
        for (commit, parts) in self.mailbox.take() {
            self.written.extend(parts.iter().filter_map(Finished::slab).cloned());
            self.context.live.prune(&mut self.written);
            if self.evicting == Some(commit) {
                self.tables.evict();
                self.hydration = Hydration::open(&self.context, &self.tables, &self.written);
                self.evicting = None;
            }
            if let Some(capability) = self.writing.remove(&commit) {
                ready.push((capability, parts));
            }
        }
        ready
    }
}
