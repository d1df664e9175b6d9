//! The records of a round in the order in which they are written.
//!
//! The first round begins with the dimension as it stands; then sessions, changes of users and delayed
//! records take their turns by time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::faults::{Delay, Delayed, Fate, Faults, Malformed};
use super::random::{Purpose, Random, mix};
use super::render::{self, Event};
use super::sessions::{Sessions, Step};
use super::users::{Change, ChangeKind, Status, Users};
use super::{Round, World};

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Events,
    Users,
}

/// A record to write.
#[derive(Debug)]
pub struct Record<'a> {
    pub topic: Topic,
    pub partition: u32,
    /// The user's number: the record's key is `render::user_id` of it.
    pub user: u32,
    /// Deletes the user: a null payload in Kafka. `value` says the same for sources without null payloads.
    pub tombstone: bool,
    pub value: &'a [u8],
}

/// What was generated, in the words of tidewater's own report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Records of the event topic: `events + duplicates + malformed`.
    pub records: u64,
    /// Distinct events.
    pub events: u64,
    /// Copies of an event, conflicting ones included.
    pub duplicates: u64,
    /// Of the duplicates, those in another partition than the original.
    pub across: u64,
    /// Of the duplicates, those whose content differs.
    pub conflicts: u64,
    /// Events written seconds to minutes after their time, copies not counted.
    pub out_of_order: u64,
    /// Events written hours to days after their time, copies not counted.
    pub late: u64,
    pub malformed: u64,
    /// Malformed event records by kind.
    pub malformed_kinds: BTreeMap<&'static str, u64>,
    /// Distinct events by the step they stand for.
    pub steps: BTreeMap<&'static str, u64>,
    /// Records of the user topic, malformed ones included.
    pub user_records: u64,
    pub malformed_users: u64,
    pub moves: u64,
    pub plan_changes: u64,
    pub deletes: u64,
    pub returns: u64,
    pub event_bytes: u64,
    pub user_bytes: u64,
}

/// The records of a round.
#[derive(Debug)]
pub struct Stream {
    users: Users,
    changes: std::iter::Peekable<std::vec::IntoIter<Change>>,
    sessions: Sessions,
    faults: Faults,
    ids: Random,
    delayed: Delayed,
    partitions: u32,
    events: u64,
    /// Event records made so far, those that wait included.
    planned: u64,
    /// The next user whose first dimension record is to be written.
    first: u32,
    start_ms: i64,
    /// Time of the last session event or change.
    clock_ms: i64,
    /// A malformed dimension record that comes next.
    broken: Option<Place>,
    steps: [u64; Step::ALL.len()],
    malformed: [u64; Malformed::ALL.len()],
    counts: Counts,
    line: Vec<u8>,
    /// A conflicting copy of `line`.
    other: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    topic: Topic,
    partition: u32,
    user: u32,
    tombstone: bool,
}

const YEAR_MS: u64 = 365 * 86_400_000;

impl Stream {
    /// The records of `round`, which comes after the `earlier` ones.
    pub fn new(world: &World, earlier: &[Round], round: &Round) -> Stream {
        let mut users = Users::new(world);
        for (number, past) in earlier.iter().enumerate() {
            for change in users.changes(past, number as u64) {
                users.apply(&change);
            }
        }
        let number = earlier.len() as u64;
        let changes = users.changes(round, number);
        Stream {
            sessions: Sessions::new(round, number, &mut users),
            changes: changes.into_iter().peekable(),
            faults: Faults::new(round, number, world.partitions),
            ids: Random::new(round.seed, number, Purpose::Ids),
            delayed: Delayed::default(),
            partitions: world.partitions,
            events: round.events,
            planned: 0,
            first: if number == 0 { 0 } else { world.users },
            start_ms: round.start_ms,
            clock_ms: round.start_ms,
            broken: None,
            steps: [0; Step::ALL.len()],
            malformed: [0; Malformed::ALL.len()],
            counts: Counts::default(),
            users,
            line: Vec::with_capacity(1024),
            other: Vec::with_capacity(1024),
        }
    }

    /// The next record, in the order in which they are to be written.
    #[inline]
    pub fn next_record(&mut self) -> Option<Record<'_>> {
        let place = self.advance()?;
        let bytes = self.line.len() as u64;
        match place.topic {
            Topic::Events => {
                self.counts.records += 1;
                self.counts.event_bytes += bytes;
            }
            Topic::Users => {
                self.counts.user_records += 1;
                self.counts.user_bytes += bytes;
            }
        }
        let Place { topic, partition, user, tombstone } = place;
        Some(Record { topic, partition, user, tombstone, value: &self.line })
    }

    /// What was handed out so far.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        for (kind, count) in Malformed::ALL.iter().zip(self.malformed) {
            counts.malformed_kinds.insert(kind.name(), count);
            counts.malformed += count;
        }
        for (step, count) in Step::ALL.iter().zip(self.steps) {
            counts.steps.insert(step.name(), count);
            counts.events += count;
        }
        counts
    }

    /// A time after everything that this round made in order.
    pub fn end_ms(&self) -> i64 {
        self.clock_ms + 1
    }

    /// Renders the next record into `line`, and says where it goes.
    #[inline]
    fn advance(&mut self) -> Option<Place> {
        if let Some(place) = self.broken.take() {
            self.faults.break_user(&mut self.line);
            self.counts.malformed_users += 1;
            return Some(place);
        }
        if let Some(place) = self.first_record() {
            return Some(place);
        }
        loop {
            let event_ms =
                if self.planned < self.events { self.sessions.next_ms() } else { i64::MAX };
            let change_ms = self.changes.peek().map_or(i64::MAX, |change| change.time_ms);
            let delayed_ms = self.delayed.next_ms();
            if change_ms <= event_ms && change_ms <= delayed_ms {
                let change = self.changes.next()?;
                return Some(self.change(&change));
            }
            if delayed_ms <= event_ms {
                let (partition, user) = self.delayed.pop(&mut self.line)?;
                return Some(Place { topic: Topic::Events, partition, user, tombstone: false });
            }
            if let Some(place) = self.event() {
                return Some(place);
            }
        }
    }

    /// The first dimension record of the next user who has one.
    fn first_record(&mut self) -> Option<Place> {
        while let Some(user) = self.users.all.get(self.first as usize) {
            let number = self.first;
            self.first += 1;
            if user.status == Status::Known {
                let age_ms = (mix(u64::from(number)) % YEAR_MS) as i64;
                let since_ms = (self.start_ms - 1 - age_ms).max(0);
                return Some(self.dimension(number, since_ms));
            }
        }
        None
    }

    fn change(&mut self, change: &Change) -> Place {
        self.clock_ms = self.clock_ms.max(change.time_ms);
        self.users.apply(change);
        match change.kind {
            ChangeKind::Move { .. } => self.counts.moves += 1,
            ChangeKind::Plan { .. } => self.counts.plan_changes += 1,
            ChangeKind::Delete => self.counts.deletes += 1,
            ChangeKind::Return => self.counts.returns += 1,
        }
        self.dimension(change.user, change.time_ms)
    }

    fn dimension(&mut self, number: u32, time_ms: i64) -> Place {
        let user = &self.users.all[number as usize];
        let tombstone = user.status == Status::Deleted;
        self.line.clear();
        if tombstone {
            render::deleted_user(number, time_ms, &mut self.line);
        } else {
            render::user(number, user, time_ms, &mut self.line);
        }
        let partition = u32::from(user.user_partition);
        let place = Place { topic: Topic::Users, partition, user: number, tombstone };
        if !tombstone && self.faults.breaks_user() {
            self.broken = Some(place);
        }
        place
    }

    /// The next event of a session; none if it is to be written later.
    #[inline]
    fn event(&mut self) -> Option<Place> {
        let action = self.sessions.next(&mut self.users);
        let number = action.user;
        let user = &self.users.all[number as usize];
        let partition = u32::from(user.partition);
        let mut event = Event {
            id: (self.ids.bits(), self.ids.bits()),
            currency: render::currency(user),
            action,
        };
        let (fate, delay) = self.faults.decide();
        self.planned += 1;
        self.clock_ms = action.time_ms;
        self.line.clear();
        render::event(&event, &mut self.line);
        if fate == Fate::Malformed {
            let kind = self.faults.break_event(&mut self.line);
            self.malformed[kind as usize] += 1;
        } else {
            self.steps[action.step as usize] += 1;
        }
        let delay_ms = match delay {
            Delay::None => 0,
            Delay::OutOfOrder(ms) | Delay::Late(ms) => ms,
        };
        let write_ms = action.time_ms + delay_ms;
        if delay != Delay::None {
            self.delayed.push(write_ms, partition, number, &self.line);
        }
        if matches!(fate, Fate::Copied { .. } | Fate::Conflict) && self.planned < self.events {
            self.copy(fate, &mut event, partition, write_ms);
        }
        match delay {
            Delay::None => {
                return Some(Place {
                    topic: Topic::Events,
                    partition,
                    user: number,
                    tombstone: false,
                });
            }
            _ if fate == Fate::Malformed => {}
            Delay::OutOfOrder(_) => self.counts.out_of_order += 1,
            Delay::Late(_) => self.counts.late += 1,
        }
        None
    }

    /// Makes the second record of an event that has one; `line` holds the first.
    fn copy(&mut self, fate: Fate, event: &mut Event, partition: u32, write_ms: i64) {
        let user = event.action.user;
        let copy_ms = write_ms + self.faults.copy_lag_ms();
        if let Fate::Copied { across } = fate {
            let target = (partition + across) % self.partitions;
            self.counts.across += u64::from(across != 0);
            self.delayed.push(copy_ms, target, user, &self.line);
        } else {
            self.faults.contradict(event);
            self.counts.conflicts += 1;
            self.other.clear();
            render::event(event, &mut self.other);
            self.delayed.push(copy_ms, partition, user, &self.other);
        }
        self.counts.duplicates += 1;
        self.planned += 1;
    }
}
