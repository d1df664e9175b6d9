//! Funnel: how many users reached each step, along their earliest path.
//!
//! For a user, `t1` is the time of the first event of step 1, and `t(k+1)` that of the first event of step
//! `k+1` at or after `t(k)`. A user counts in step `k`, under the dimension as it is now, if they have `t(k)`
//! and it is at most the job's bound after `t1`.
//!
//! Events are only ever added, and an added event can make every `t(k)` earlier but never later: an event of
//! step `k` after `t(k)` can't matter any more, and is not kept. What is left, mostly one event a step, is
//! kept for late events that change the path.
//!
//! *Owns* the paths of the users that this run touched; `hydrate` brings them in from slabs.

use crate::changes::{Changes, GroupKey};
use crate::job::{FunnelLayout, FunnelSpec};
use crate::model::{Fact, Symbol};
use crate::state::{Layout, SlabRows};
use crate::users::UserIndex;

/// Words of a slab row, all of them key: the user, and a step event as [`pack`] makes it.
pub const WIDTH: usize = 2;

/// The time of a step that is not on the path.
const NEVER: i64 = i64::MAX;

/// The layout of the slabs of a funnel's step events.
pub fn layout(name: &str) -> Layout {
    Layout { collection: format!("steps.{name}"), width: WIDTH, key: WIDTH, filter: 1 }
}

/// The paths of one funnel on one worker.
#[derive(Debug)]
pub struct Funnel {
    table: usize,
    slot: usize,
    byte: usize,
    steps: usize,
    within_us: Option<i64>,
    users: Vec<User>,
    /// Per user, for every step: when the path takes it, without regard to the bound.
    times: Vec<i64>,
    /// New step events of the commit: rows of the next slab.
    fresh: Vec<[u64; WIDTH]>,
}

/// The step events of a user.
#[derive(Debug, Clone, Default)]
struct User {
    /// Those that can matter: sorted, distinct.
    events: Vec<u64>,
    /// The furthest step reached.
    reached: u8,
    /// All stored events of the user are here.
    loaded: bool,
}

/// A step event in a word: time first, so that words are in the order of time.
fn pack(time_us: i64, step: u8) -> u64 {
    (((time_us as u64) << 8) | u64::from(step)) ^ (1 << 63)
}

fn unpack(word: u64) -> (i64, u8) {
    let word = word ^ (1 << 63);
    ((word as i64) >> 8, word as u8)
}

impl Funnel {
    /// A funnel without users; `slot` is the fact's slot of funnel steps.
    pub fn new(spec: &FunnelSpec, slot: usize, layout: FunnelLayout, table: usize) -> Self {
        Funnel {
            table,
            slot,
            byte: layout.byte,
            steps: spec.steps.len(),
            within_us: spec.within_us,
            users: Vec::new(),
            times: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// The step of `fact` in this funnel, from 1; `None` if it is no step.
    pub fn step(&self, fact: &Fact) -> Option<u8> {
        let step = (fact.slots[self.slot] >> (8 * self.byte)) as u8;
        (step > 0).then_some(step)
    }

    /// True if the stored events of `user` are in memory.
    pub fn is_loaded(&self, user: UserIndex) -> bool {
        self.users.get(user.0 as usize).is_some_and(|path| path.loaded)
    }

    /// Takes in a stored step event. Before any other use of the user, [`Funnel::loaded`] must follow.
    pub fn load(&mut self, user: UserIndex, stored: &[u64]) {
        self.user(user).events.push(stored[1]);
    }

    /// Says that all stored events of `user` were loaded.
    pub fn loaded(&mut self, user: UserIndex) {
        let state = self.user(user);
        state.loaded = true;
        state.events.sort_unstable();
        self.walk(user);
    }

    /// Adds a step event; true if it can matter. [`Funnel::settle`] must follow before the epoch ends.
    pub fn absorb(&mut self, user: UserIndex, fact: &Fact) -> bool {
        let Some(step) = self.step(fact) else { return false };
        let known = self.times.get(user.0 as usize * self.steps + usize::from(step) - 1);
        if known.is_some_and(|known| *known <= fact.time) {
            return false;
        }
        let event = pack(fact.time, step);
        let events = &mut self.user(user).events;
        let Err(place) = events.binary_search(&event) else { return false };
        events.insert(place, event);
        self.fresh.push([fact.user, event]);
        true
    }

    /// Finds the path of `user` again and hands on what changed.
    pub fn settle(&mut self, user: UserIndex, group: Symbol, changes: &mut Changes) {
        let before = self.user(user).reached;
        let after = self.walk(user);
        for step in after + 1..=before {
            self.count(step, group, -1, changes);
        }
        for step in before + 1..=after {
            self.count(step, group, 1, changes);
        }
    }

    /// Moves a user, whose events are in memory, from one group to another.
    pub fn relocate(&self, user: UserIndex, from: Symbol, to: Symbol, changes: &mut Changes) {
        let reached = self.users.get(user.0 as usize).map_or(0, |path| path.reached);
        for step in 1..=reached {
            self.count(step, from, -1, changes);
            self.count(step, to, 1, changes);
        }
    }

    /// Adds the new step events to those of the next slab.
    pub fn take_fresh(&mut self, slab: &mut SlabRows) {
        std::mem::take(&mut self.fresh).iter().for_each(|row| slab.push(row));
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let events: usize = self.users.iter().map(|user| user.events.capacity() * 8).sum();
        events + self.users.capacity() * size_of::<User>() + self.times.capacity() * 8
    }

    /// Drops all paths; all events that can matter stand in slabs.
    pub fn evict(&mut self) {
        assert!(self.fresh.is_empty(), "events that no slab holds must not be dropped");
        self.users = Vec::new();
        self.times = Vec::new();
    }

    fn count(&self, step: u8, group: Symbol, sign: i64, changes: &mut Changes) {
        let key =
            GroupKey { table: self.table, window: u64::from(step), event: 0, dimension: group.0 };
        let delta = changes.entry(key, 0);
        delta.count += sign;
        delta.users += sign;
    }

    /// Finds the path of `user`, forgets the events that can't matter, and gives the furthest step reached.
    fn walk(&mut self, user: UserIndex) -> u8 {
        let (steps, within_us) = (self.steps, self.within_us);
        let user = user.0 as usize;
        let state = &mut self.users[user];
        let times = &mut self.times[user * steps..][..steps];
        earliest_path(&state.events, times);
        state.events.retain(|event| {
            let (time, step) = unpack(*event);
            time <= times[usize::from(step) - 1]
        });
        state.reached = reached(times, within_us);
        state.reached
    }

    fn user(&mut self, user: UserIndex) -> &mut User {
        let user = user.0 as usize;
        if self.users.len() <= user {
            self.users.resize(user + 1, User::default());
            self.times.resize((user + 1) * self.steps, NEVER);
        }
        &mut self.users[user]
    }
}

/// Fills in when the earliest path through `events`, which are in the order of time, takes each step.
fn earliest_path(events: &[u64], times: &mut [i64]) {
    times.fill(NEVER);
    let mut at = i64::MIN;
    for (wanted, time) in (1..).zip(times) {
        // Events at the very time of the step before count too, wherever they stand among their equals.
        let rest = &events[events.partition_point(|event| unpack(*event).0 < at)..];
        let found = rest.iter().map(|event| unpack(*event)).find(|(_, step)| *step == wanted);
        let Some((found, _)) = found else { break };
        *time = found;
        at = found;
    }
}

/// The furthest step that a path takes within the bound.
fn reached(times: &[i64], within_us: Option<i64>) -> u8 {
    let deadline =
        within_us.map_or(NEVER - 1, |within| times[0].saturating_add(within).min(NEVER - 1));
    times.iter().take_while(|time| **time <= deadline).count() as u8
}

#[cfg(test)]
#[path = "funnel_tests.rs"]
mod tests;
