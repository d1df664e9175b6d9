//! Behaviour: sessions arrive with the day, walk through pages, and sometimes take the funnel's next step.
//!
//! Only the sessions under way are kept: a small heap ordered by the time of their next event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::random::{Purpose, Random, mix, pick};
use super::users::{PLANS, Status, Users, region_of, region_weights};
use super::{Round, render};

/// A step of the funnel, in its order; the values of `/type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    PageView,
    SignupStarted,
    SignupCompleted,
    TrialStarted,
    Subscribed,
    Payment,
    Cancelled,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Step; 7] = [
        Step::PageView,
        Step::SignupStarted,
        Step::SignupCompleted,
        Step::TrialStarted,
        Step::Subscribed,
        Step::Payment,
        Step::Cancelled,
    ];

    /// The word in the event.
    pub fn name(self) -> &'static str {
        match self {
            Step::PageView => "page_view",
            Step::SignupStarted => "signup_started",
            Step::SignupCompleted => "signup_completed",
            Step::TrialStarted => "trial_started",
            Step::Subscribed => "subscribed",
            Step::Payment => "payment",
            Step::Cancelled => "cancelled",
        }
    }
}

/// What an event says of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// There is no such key.
    Absent,
    /// The key is there, its value is null.
    Null,
    Cents(i64),
}

/// Something a user does; the ids of the event are still to come.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    pub time_ms: i64,
    pub user: u32,
    pub session: u64,
    pub step: Step,
    pub amount: Amount,
    pub page: u8,
    pub device: u8,
    pub referrer: u8,
}

/// Relative activity by hour of the local day.
const HOURS: [u32; 24] =
    [18, 11, 7, 5, 5, 8, 16, 30, 46, 58, 64, 66, 68, 64, 62, 62, 64, 70, 80, 92, 100, 92, 68, 38];

/// The chance of the next step at an event, by stage, in parts of 10,000 for the average user.
const ADVANCE: [u32; 4] = [700, 3_500, 1_500, 900];
/// The stage of a subscriber; one before it is a trial, the others are the steps up to there.
const SUBSCRIBER: u8 = 4;
/// The stage that a subscriber falls back to by cancelling: signed up.
const SIGNED_UP: u8 = 2;
const PAYS: u32 = 1_200;
const CANCELS: u32 = 150;
/// How many users of 100 stand at which stage when a later round begins.
const LATER_STAGES: [u32; 5] = [40, 6, 24, 10, 20];

/// Mean number of events of a session beyond its first one, and the most.
const MORE_EVENTS_MEAN: u64 = 7;
const MORE_EVENTS_MAX: u64 = 60;
const EVENTS_PER_SESSION: u64 = 8;
/// Longest mean time between two events of a session.
const STEP_MS_MAX: u64 = 35_000;
const NS_PER_MS: u64 = 1_000_000;
const HOUR_MS: i64 = 3_600_000;

#[derive(Debug, Clone, Copy)]
struct Session {
    user: u32,
    remaining: u8,
    device: u8,
    referrer: u8,
    id: u64,
}

/// All sessions under way, and when the next one begins.
#[derive(Debug)]
pub struct Sessions {
    random: Random,
    start_ms: i64,
    skew: u32,
    /// Nanoseconds since the start of the round.
    arrival_ns: u64,
    arrival_mean_ns: u64,
    step_mean_ms: u64,
    /// Activity of all regions together by hour of the UTC day; its mean is 1,000.
    rhythm: [u64; 24],
    under_way: BinaryHeap<Reverse<(i64, u32)>>,
    slots: Vec<Session>,
    free: Vec<u32>,
}

impl Sessions {
    /// The sessions of a round; `users` get the stage at which they begin it.
    pub fn new(round: &Round, number: u64, users: &mut Users) -> Sessions {
        if number > 0 {
            for (index, user) in users.all.iter_mut().enumerate() {
                let bits = mix(mix(round.seed ^ number << 32) ^ index as u64);
                user.stage = pick((bits % 100) as u32, &LATER_STAGES) as u8;
            }
        }
        let duration_ms = round.duration_ms as u64;
        let sessions = (round.events / EVENTS_PER_SESSION).max(1);
        let mut sessions = Sessions {
            random: Random::new(round.seed, number, Purpose::Behaviour),
            start_ms: round.start_ms,
            skew: round.skew,
            arrival_ns: 0,
            arrival_mean_ns: (duration_ms * NS_PER_MS / sessions).max(1),
            step_mean_ms: (duration_ms / 200).clamp(1, STEP_MS_MAX),
            rhythm: rhythm(users.regions()),
            under_way: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        };
        sessions.schedule_arrival();
        sessions
    }

    /// When the next event happens.
    #[inline]
    pub fn next_ms(&self) -> i64 {
        let arrival = self.arrival_ms();
        match self.under_way.peek() {
            Some(&Reverse((time_ms, _))) => arrival.min(time_ms),
            None => arrival,
        }
    }

    /// The next event.
    #[inline]
    pub fn next(&mut self, users: &mut Users) -> Action {
        let arrival = self.arrival_ms();
        match self.under_way.peek() {
            Some(&Reverse((time_ms, slot))) if time_ms <= arrival => {
                self.under_way.pop();
                self.act(time_ms, slot, users)
            }
            _ => {
                let slot = self.open(arrival, users);
                self.schedule_arrival();
                self.act(arrival, slot, users)
            }
        }
    }

    #[inline]
    fn arrival_ms(&self) -> i64 {
        self.start_ms + (self.arrival_ns / NS_PER_MS) as i64
    }

    fn schedule_arrival(&mut self) {
        let hour = hour_of(self.arrival_ms());
        let gap_ns = self.random.waiting(self.arrival_mean_ns);
        self.arrival_ns += gap_ns * 1_000 / self.rhythm[hour];
    }

    fn open(&mut self, time_ms: i64, users: &Users) -> u32 {
        let bits = self.random.bits();
        let session = Session {
            user: self.choose_user(time_ms, users),
            remaining: self
                .random
                .waiting(MORE_EVENTS_MEAN << 8)
                .min(MORE_EVENTS_MAX << 8)
                .div_euclid(256) as u8,
            device: (bits & 0xff) as u8 % render::DEVICES,
            referrer: (bits >> 8 & 0xff) as u8 % render::REFERRERS,
            id: self.random.bits(),
        };
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = session;
                slot
            }
            None => {
                self.slots.push(session);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// A user who is awake, not deleted, and more likely an active one.
    fn choose_user(&mut self, time_ms: i64, users: &Users) -> u32 {
        let count = users.all.len() as u32;
        let hour = hour_of(time_ms);
        let mut chosen = 0;
        for _ in 0..12 {
            let mut point = self.random.bits() >> 32;
            for _ in 0..self.skew {
                point = (point * (self.random.bits() >> 32)) >> 32;
            }
            chosen = ((point * u64::from(count)) >> 32) as u32;
            let user = &users.all[chosen as usize];
            let local = (hour + usize::from(region_of(user.region).utc_offset)) % 24;
            if user.status != Status::Deleted && self.random.below(100) < HOURS[local] {
                break;
            }
        }
        chosen
    }

    #[inline]
    fn act(&mut self, time_ms: i64, slot: u32, users: &mut Users) -> Action {
        let session = &mut self.slots[slot as usize];
        let user = &mut users.all[session.user as usize];
        let plan = &PLANS[usize::from(user.plan)];
        let readiness = region_of(user.region).conversion * plan.conversion;
        let bits = self.random.bits();
        let point = super::random::scale(bits as u32, 10_000) * 10_000;
        let (step, amount) = if user.stage < SUBSCRIBER {
            if point < ADVANCE[usize::from(user.stage)] * readiness {
                user.stage += 1;
                advanced(user.stage, plan.price_cents)
            } else {
                (Step::PageView, Amount::Absent)
            }
        } else if point < CANCELS * 10_000 {
            user.stage = SIGNED_UP;
            let refund = bits >> 62 == 0;
            let amount = if refund { Amount::Cents(-plan.price_cents) } else { Amount::Null };
            (Step::Cancelled, amount)
        } else if point < (CANCELS + PAYS) * 10_000 {
            (Step::Payment, Amount::Cents(plan.price_cents + (bits >> 40 & 0x7f) as i64))
        } else {
            (Step::PageView, Amount::Absent)
        };
        let action = Action {
            time_ms,
            user: session.user,
            session: session.id,
            step,
            amount,
            page: (bits >> 32 & 0xff) as u8 % render::PAGES,
            device: session.device,
            referrer: session.referrer,
        };
        if session.remaining == 0 {
            self.free.push(slot);
        } else {
            session.remaining -= 1;
            let pause = 1 + self.random.waiting(self.step_mean_ms) as i64;
            self.under_way.push(Reverse((time_ms + pause, slot)));
        }
        action
    }
}

/// The event of having reached a stage.
fn advanced(stage: u8, price_cents: i64) -> (Step, Amount) {
    match stage {
        1 => (Step::SignupStarted, Amount::Absent),
        2 => (Step::SignupCompleted, Amount::Absent),
        3 => (Step::TrialStarted, Amount::Cents(0)),
        _ => (Step::Subscribed, Amount::Cents(price_cents)),
    }
}

#[inline]
fn hour_of(time_ms: i64) -> usize {
    (time_ms.div_euclid(HOUR_MS).rem_euclid(24)) as usize
}

fn rhythm(regions: u16) -> [u64; 24] {
    let weights = region_weights(regions);
    let mut rhythm = [0_u64; 24];
    for (hour, activity) in rhythm.iter_mut().enumerate() {
        for (number, &weight) in weights.iter().enumerate() {
            let local = (hour + usize::from(region_of(number as u16).utc_offset)) % 24;
            *activity += u64::from(weight) * u64::from(HOURS[local]);
        }
    }
    let total: u64 = rhythm.iter().sum();
    rhythm.map(|activity| (activity * 24_000 / total).max(1))
}
