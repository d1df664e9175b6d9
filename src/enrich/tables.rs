//! What a worker knows of its users, and how versions of the dimension and facts change it.
//!
//! *Owns* users, rows of aggregates and paths of funnels in memory. *Does not own* epochs and commits, nor
//! what is read from slabs.

use crate::aggregate::{self, Aggregate, Place};
use crate::changes::Changes;
use crate::funnel::{self, Funnel};
use crate::groups::{DimensionGroups, GroupsIndex};
use crate::job::Job;
use crate::model::{DimensionChange, Fact, Symbol};
use crate::state::SlabRows;
use crate::users::{self, UserIndex, Users};
use crate::worker::WorkerContext;

/// What a worker knows of its users.
#[derive(Debug)]
pub struct Tables {
    /// Their versions of the dimension.
    pub users: Users,
    /// Their rows in each aggregate.
    pub aggregates: Vec<Aggregate>,
    /// Their paths in each funnel.
    pub funnels: Vec<Funnel>,
}

impl Tables {
    /// Nobody is known yet.
    pub fn new(context: &WorkerContext) -> Self {
        let job = &context.job;
        let layout = &context.layout;
        let aggregates = job.aggregates.iter().zip(&layout.aggregates).enumerate();
        let funnels = job.funnels.iter().zip(&layout.funnels).enumerate();
        let slot = layout.funnel_slot.unwrap_or_default();
        let table = |index| context.tables.aggregate(index);
        Tables {
            users: Users::new(context.no_version),
            aggregates: aggregates
                .map(|(index, (spec, layout))| Aggregate::new(spec, layout.clone(), table(index)))
                .collect(),
            funnels: funnels
                .map(|(index, (spec, layout))| {
                    Funnel::new(spec, slot, *layout, context.tables.funnel(index))
                })
                .collect(),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let aggregates: usize = self.aggregates.iter().map(Aggregate::bytes).sum();
        let funnels: usize = self.funnels.iter().map(Funnel::bytes).sum();
        self.users.bytes() + aggregates + funnels
    }

    /// Says how much each collection holds.
    pub(super) fn meter(&self, context: &WorkerContext) {
        let holds = |name: &str, bytes| context.meters.holds(name, context.worker, bytes);
        holds(users::COLLECTION, self.users.bytes());
        let aggregates = context.job.aggregates.iter().zip(&self.aggregates);
        aggregates.for_each(|(spec, aggregate)| holds(&spec.name, aggregate.bytes()));
        let funnels = context.job.funnels.iter().zip(&self.funnels);
        funnels.for_each(|(spec, funnel)| holds(&spec.name, funnel.bytes()));
    }

    /// Drops all that is in memory; all of it stands in slabs.
    pub fn evict(&mut self) {
        self.users.evict();
        self.aggregates.iter_mut().for_each(Aggregate::evict);
        self.funnels.iter_mut().for_each(Funnel::evict);
    }

    /// Takes in a version of the dimension, and moves its user if it is news.
    pub fn apply_version(
        &mut self,
        change: &DimensionChange,
        groups: &mut DimensionGroups,
        changes: &mut Changes,
    ) {
        let user = self.users.index(change.user);
        if !self.users.is_news(user, change) {
            return;
        }
        let from = self.users.change(user, change);
        let to = self.users.get(user).columns;
        if from == to {
            return;
        }
        let (from, to) = (groups.index(from), groups.index(to));
        let (from, to) = (groups.get(from), groups.get(to));
        for (index, aggregate) in self.aggregates.iter().enumerate() {
            let (from, to) = (from.aggregates[index], to.aggregates[index]);
            if from != to {
                aggregate.relocate(user, from, to, changes);
            }
        }
        for (index, funnel) in self.funnels.iter().enumerate() {
            let (from, to) = (from.funnels[index], to.funnels[index]);
            if from != to {
                funnel.relocate(user, from, to, changes);
            }
        }
    }

    /// Takes in facts, in one pass for each table: within a pass no look-up waits for the one before, so that
    /// the processor overlaps their cache misses. Gives the dimension columns of each fact.
    pub fn apply_facts(
        &mut self,
        epoch: &[Vec<Fact>],
        groups: &mut DimensionGroups,
        changes: &mut Changes,
    ) -> Vec<Symbol> {
        let Tables { users, aggregates, funnels } = self;
        let facts = || epoch.iter().flatten();
        let who: Vec<UserIndex> = facts().map(|fact| users.index(fact.user)).collect();
        let columns: Vec<Symbol> = who.iter().map(|user| users.get(*user).columns).collect();
        let tuples: Vec<GroupsIndex> = columns.iter().map(|tuple| groups.index(*tuple)).collect();
        for (index, aggregate) in aggregates.iter_mut().enumerate() {
            let places: Vec<Place> =
                facts().zip(&who).map(|(fact, user)| aggregate.place(*user, fact)).collect();
            for ((fact, place), tuple) in facts().zip(places).zip(&tuples) {
                aggregate.absorb(place, fact, groups.get(*tuple).aggregates[index], changes);
            }
        }
        for (index, funnel) in funnels.iter_mut().enumerate() {
            let absorbed = facts().zip(who.iter().zip(&tuples));
            let mut walked: Vec<(UserIndex, GroupsIndex)> = absorbed
                .filter(|(fact, (user, _))| funnel.absorb(**user, fact))
                .map(|(_, (user, tuple))| (*user, *tuple))
                .collect();
            walked.sort_unstable_by_key(|(user, _)| *user);
            walked.dedup();
            for (user, tuple) in walked {
                funnel.settle(user, groups.get(tuple).funnels[index], changes);
            }
        }
        columns
    }

    /// What differs from the slabs: the rows of the next ones.
    pub fn take_fresh(&mut self, job: &Job) -> Vec<SlabRows> {
        let Tables { users, aggregates, funnels } = self;
        let mut versions = SlabRows::new(users::layout());
        users.take_dirty(&mut versions);
        let mut slabs = vec![versions];
        for (spec, aggregate) in job.aggregates.iter().zip(aggregates) {
            let mut rows = SlabRows::new(aggregate::layout(&spec.name, aggregate.width()));
            aggregate.take_dirty(&mut rows);
            slabs.push(rows);
        }
        for (spec, funnel) in job.funnels.iter().zip(funnels) {
            let mut events = SlabRows::new(funnel::layout(&spec.name));
            funnel.take_fresh(&mut events);
            slabs.push(events);
        }
        slabs
    }
}
