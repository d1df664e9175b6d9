//! Dedup: one event for every id.
//!
//! `dedup(facts)(e)` holds, for every id in the facts up to epoch `e`, the copy of the earliest epoch, and
//! among copies of that epoch the one of the least (partition, offset). Once admitted it is never replaced.
//!
//! *Owns* the ids of this run in memory, and a view of the slabs that hold older ones. When the ids in memory
//! exceed their budget at the end of a commit, they are dropped and found again in the slabs that this worker
//! wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::frontier::{CommitHold, Next, Stash, next_complete, open_epoch};
use crate::ids::{IdSet, Seen};
use crate::model::hash::owner;
use crate::model::{Commit, Epoch, Fact};
use crate::offload::Mailbox;
use crate::sink::{Counts, Finished};
use crate::source::feed::Role;
use crate::worker::WorkerContext;

/// What dedup gives on.
pub struct Deduplicated<'s> {
    /// The winners.
    pub facts: Stream<'s, Epoch, Vec<Fact>>,
    /// Slabs of new ids, and counts.
    pub finished: Stream<'s, Epoch, Vec<Finished>>,
}

/// Admits one fact for every id.
pub fn dedup<'s>(
    facts: Stream<'s, Epoch, Vec<Fact>>,
    context: &Arc<WorkerContext>,
) -> Deduplicated<'s> {
    let scope = facts.scope();
    let peers = scope.peers();
    let mut builder = OperatorBuilder::new("dedup::admit".to_owned(), scope);
    let route = Exchange::new(move |fact: &Fact| owner(fact.id[0], peers));
    let mut input = builder.new_input(facts, route);
    let (admitted, admitted_stream) = builder.new_output();
    let (finished, finished_stream) = builder.new_output();
    let (mut admitted, mut finished) =
        (OutputBuilder::from(admitted), OutputBuilder::from(finished));
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let mut state = State::new(Arc::clone(context), Mailbox::new(wake));
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            input.for_each(|capability, facts| state.absorb(&capability, facts));
            let mut parts_out = finished.activate();
            for (capability, parts) in state.finished() {
                parts_out.session(&capability).give_iterator(parts.into_iter());
            }
            let mut facts_out = admitted.activate();
            state.advance(open_epoch(&frontiers[0]), &mut |capability, facts| {
                facts_out.session(capability).give_container(facts);
            });
        }
    });
    Deduplicated { facts: admitted_stream, finished: finished_stream }
}

struct State {
    context: Arc<WorkerContext>,
    ids: IdSet,
    stash: Stash<Vec<Vec<Fact>>>,
    commits: CommitHold,
    counts: BTreeMap<Commit, BTreeMap<(Role, i32), Counts>>,
    mailbox: Mailbox<(Commit, Vec<Finished>)>,
    writing: BTreeMap<Commit, Capability<Epoch>>,
    /// The commit after which memory is freed, once its slabs are written.
    evicting: Option<Commit>,
}

impl State {
    fn new(context: Arc<WorkerContext>, mailbox: Mailbox<(Commit, Vec<Finished>)>) -> Self {
        State {
            ids: IdSet::new(&context),
            context,
            stash: Stash::new(),
            commits: CommitHold::default(),
            counts: BTreeMap::new(),
            mailbox,
            writing: BTreeMap::new(),
            evicting: None,
        }
    }

    fn absorb(
        &mut self,
        capability: &timely::dataflow::operators::InputCapability<Epoch>,
        facts: &mut Vec<Fact>,
    ) {
        if let Some(waiting) = self.stash.entry(capability, 0) {
            waiting.push(std::mem::take(facts));
        }
        self.commits.hold(capability, 1);
    }

    /// Admits the facts of every complete epoch, in order, and writes the slabs of every complete commit.
    fn advance(
        &mut self,
        open: Option<Epoch>,
        give: &mut dyn FnMut(&Capability<Epoch>, &mut Vec<Fact>),
    ) {
        while self.evicting.is_none() {
            let epoch = self.stash.first_complete(open);
            match next_complete(epoch, self.commits.first_complete(open)) {
                Next::Commit(_) => self.write(open),
                Next::Epoch(_) => {
                    let Some((capability, facts)) = self.stash.take_complete(open) else { break };
                    let mut admitted = self.admit(Commit::of(*capability.time()), facts);
                    give(&capability, &mut admitted);
                }
                Next::Nothing => break,
            }
        }
    }

    fn admit(&mut self, commit: Commit, facts: Vec<Vec<Fact>>) -> Vec<Fact> {
        self.ids.hydrate(&facts);
        let mut admitted = Vec::with_capacity(facts.iter().map(Vec::len).sum());
        let mut losers = Vec::new();
        for fact in facts.into_iter().flatten() {
            match self.ids.insert(&fact) {
                Seen::First => admitted.push(fact),
                Seen::Before => losers.push(fact),
            }
        }
        self.ids.settle(&mut admitted, &mut losers);
        self.ids.remember(&admitted);
        let counts = self.counts.entry(commit).or_default();
        for run in admitted.chunk_by(|a, b| a.partition == b.partition) {
            counts.entry((Role::Events, run[0].partition)).or_default().events += run.len() as u64;
        }
        for fact in &losers {
            let conflict = self.ids.content(fact).is_some_and(|content| content != fact.content);
            let counts = counts.entry((Role::Events, fact.partition)).or_default();
            counts.duplicates += 1;
            counts.conflicts += u64::from(conflict);
        }
        admitted
    }

    /// Hands the new ids of the first complete commit to the lane.
    fn write(&mut self, open: Option<Epoch>) {
        let Some((commit, capability)) = self.commits.take_complete(open) else { return };
        let counts = self.counts.remove(&commit).unwrap_or_default();
        let fresh = self.ids.take_fresh();
        let context = Arc::clone(&self.context);
        self.writing.insert(commit, capability);
        self.context.lane.submit(&self.mailbox, move || {
            let mut parts = fresh.write(&context, commit);
            parts.push(Finished::Counts(counts));
            (commit, parts)
        });
        if self.ids.over_budget() {
            self.evicting = Some(commit);
        }
    }

    /// The parts of commits whose slabs are written.
    fn finished(&mut self) -> Vec<(Capability<Epoch>, Vec<Finished>)> {
        let mut ready = Vec::new();
        for (commit, parts) in self.mailbox.take() {
            let slabs = parts.iter().filter_map(|part| match part {
                Finished::Slab(slab) => Some(slab.clone()),
                _ => None,
            });
            self.ids.written(slabs.collect());
            if self.evicting == Some(commit) {
                self.ids.evict();
                self.evicting = None;
            }
            if let Some(capability) = self.writing.remove(&commit) {
                ready.push((capability, parts));
            }
        }
        ready
    }
}
