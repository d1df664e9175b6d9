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

use hashbrown::HashMap;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::frontier::{CommitHold, Next, Stash, next_complete, open_epoch};
use crate::ids::{self, IdSet};
use crate::model::hash::owner;
use crate::model::{Commit, Epoch, Fact, Parcel, Parcels};
use crate::offload::Mailbox;
use crate::sink::{Counts, Finished};
use crate::source::feed::Role;
use crate::worker::WorkerContext;

/// Its name among the stages, and that of its jobs on the lane.
const STAGE: &str = "dedup::admit";
const LANE: &str = "lane: ids to slabs";

/// What dedup gives on.
pub struct Deduplicated<'s> {
    /// The winners.
    pub facts: Stream<'s, Epoch, Vec<Parcel<Fact>>>,
    /// Slabs of new ids, and counts.
    pub finished: Stream<'s, Epoch, Vec<Finished>>,
}

/// Admits one fact for every id.
pub fn dedup<'s>(
    facts: Stream<'s, Epoch, Vec<Parcel<Fact>>>,
    context: &Arc<WorkerContext>,
) -> Deduplicated<'s> {
    let scope = facts.scope();
    let mut builder = OperatorBuilder::new(STAGE.to_owned(), scope);
    let by_id = Exchange::new(|parcel: &Parcel<Fact>| parcel.to);
    let mut input = builder.new_input(facts, by_id);
    let (admitted, admitted_stream) = builder.new_output();
    let (finished, finished_stream) = builder.new_output();
    let (mut admitted, mut finished) =
        (OutputBuilder::from(admitted), OutputBuilder::from(finished));
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let mut state = State::new(Arc::clone(context), Mailbox::new(wake, context.meters.stage(LANE)));
    let stage = context.meters.stage(STAGE);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            let _at_work = stage.at_work();
            input.for_each(|capability, facts| {
                stage.took(Parcel::rows_of(facts));
                state.absorb(&capability, facts);
            });
            let mut parts_out = finished.activate();
            for (capability, parts) in state.finished() {
                parts_out.session(&capability).give_iterator(parts.into_iter());
            }
            let mut facts_out = admitted.activate();
            state.advance(open_epoch(&frontiers[0]), &mut |capability, facts| {
                facts_out.session(capability).give_iterator(facts.pack());
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
        parcels: &mut Vec<Parcel<Fact>>,
    ) {
        if let Some(waiting) = self.stash.entry(capability, 0) {
            waiting.extend(parcels.drain(..).map(|parcel| parcel.rows));
        }
        self.commits.hold(capability, 1);
    }

    /// Admits the facts of every complete epoch, in order, and writes the slabs of every complete commit.
    fn advance(
        &mut self,
        open: Option<Epoch>,
        give: &mut dyn FnMut(&Capability<Epoch>, Parcels<Fact>),
    ) {
        while self.evicting.is_none() {
            let epoch = self.stash.first_complete(open);
            match next_complete(epoch, self.commits.first_complete(open)) {
                Next::Commit(_) => self.write(open),
                Next::Epoch(_) => {
                    let Some((capability, facts)) = self.stash.take_complete(open) else { break };
                    let admitted = self.admit(Commit::of(*capability.time()), &facts);
                    give(&capability, admitted);
                }
                Next::Nothing => break,
            }
        }
    }

    /// The winners among the facts of an epoch, by the worker that owns their user.
    fn admit(&mut self, commit: Commit, epoch: &[Vec<Fact>]) -> Parcels<Fact> {
        self.ids.hydrate(epoch);
        let facts: Vec<&Fact> = epoch.iter().flatten().collect();
        let mut first = self.ids.insert(&facts);
        for winner in settle(&facts, &mut first) {
            self.ids.replace(facts[winner]);
        }
        let counts = self.counts.entry(commit).or_default();
        let workers = self.context.workers;
        let mut admitted = Parcels::new(workers, facts.len());
        let mut verdicts = first.iter();
        for run in facts.chunk_by(|a, b| a.partition == b.partition) {
            let counts = counts.entry((Role::Events, run[0].partition)).or_default();
            for (fact, first) in run.iter().zip(&mut verdicts) {
                if *first {
                    admitted.push(owner(fact.user, workers), **fact);
                    counts.events += 1;
                } else {
                    counts.duplicates += 1;
                    counts.conflicts += u64::from(self.ids.conflicts(fact));
                }
            }
        }
        admitted
    }

    /// Hands the new ids of the first complete commit to the lane.
    fn write(&mut self, open: Option<Epoch>) {
        let Some((commit, capability)) = self.commits.take_complete(open) else { return };
        let counts = self.counts.remove(&commit).unwrap_or_default();
        let read = self.ids.take_read();
        let fresh = self.ids.take_fresh();
        let context = Arc::clone(&self.context);
        self.writing.insert(commit, capability);
        self.context.lane.submit(&self.mailbox, move || {
            let mut parts = fresh.write(&context, commit);
            parts.extend([Finished::Counts(counts), read]);
            (commit, parts)
        });
        let bytes = self.ids.bytes();
        self.context.meters.holds(ids::COLLECTION, self.context.worker, bytes);
        if bytes > self.context.dedup_bytes_max {
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

/// Within one epoch the copy of the least (partition, offset) wins: hands the place of a winner (`first`) to
/// a loser that comes before it in the log. Returns the new winners.
fn settle(facts: &[&Fact], first: &mut [bool]) -> Vec<usize> {
    let losers: Vec<usize> = (0..facts.len()).filter(|index| !first[*index]).collect();
    if losers.is_empty() {
        return Vec::new();
    }
    let mut winner_of: HashMap<[u64; 2], Option<usize>> =
        losers.iter().map(|loser| (facts[*loser].id, None)).collect();
    for (index, fact) in facts.iter().enumerate().filter(|(index, _)| first[*index]) {
        if let Some(winner) = winner_of.get_mut(&fact.id) {
            *winner = Some(index);
        }
    }
    let place = |index: usize| (facts[index].partition, facts[index].offset);
    let mut won = Vec::new();
    for loser in losers {
        let Some(Some(winner)) = winner_of.get_mut(&facts[loser].id) else { continue };
        if place(loser) < place(*winner) {
            (first[loser], first[*winner]) = (true, false);
            *winner = loser;
            won.push(loser);
        }
    }
    won
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::fact::testing::NOTHING;

    proptest! {
        #[test]
        fn in_one_epoch_the_copy_of_the_least_place_wins_and_of_equal_places_the_first(
            copies in prop::collection::vec((0..6_u64, 0..3_i32, 0..4_i64), 0..30),
            known in prop::collection::btree_set(0..6_u64, 0..3),
        ) {
            let fact = |(id, partition, offset)| Fact { id: [id, 7], partition, offset, ..NOTHING };
            let facts: Vec<Fact> = copies.into_iter().map(fact).collect();
            let facts: Vec<&Fact> = facts.iter().collect();
            // Whoever comes first brings an id that no earlier epoch had.
            let is_first = |index: usize| {
                let id = facts[index].id;
                !known.contains(&id[0]) && facts[..index].iter().all(|fact| fact.id != id)
            };
            let came_first: Vec<bool> = (0..facts.len()).map(is_first).collect();
            let mut first = came_first.clone();
            let won = settle(&facts, &mut first);
            for (index, fact) in facts.iter().enumerate() {
                let copies = (0..facts.len()).filter(|copy| facts[*copy].id == fact.id);
                let least = copies.min_by_key(|copy| (facts[*copy].partition, facts[*copy].offset));
                let wins = least == Some(index) && !known.contains(&fact.id[0]);
                prop_assert_eq!(first[index], wins, "copy {} of {:?}", index, facts);
                // The last one that is said to have won an id has won it.
                let said = won.iter().rfind(|winner| facts[**winner].id == fact.id);
                if wins {
                    prop_assert_eq!(said.copied(), (!came_first[index]).then_some(index));
                }
            }
            prop_assert!(won.iter().all(|winner| !known.contains(&facts[*winner].id[0])));
        }
    }
}
