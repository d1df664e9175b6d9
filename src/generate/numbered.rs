//! Records by number: each is a function of the seed and its number, so any of them can be made without those
//! before it.
//!
//! They look like those of [`Stream`](super::Stream) but know no sessions and no one's progress: steps are
//! drawn one by one. One event of twenty is a copy of one up to 4,096 numbers before it, one of
//! fifty is minutes late and one of five hundred is hours late. Each user has a record, and as many as a
//! fiftieth of them move.

use super::random::{mix, pick, scale};
use super::render::{self, Event};
use super::sessions::{Action, Amount, Step};
use super::users::{PLANS, Status, User, region_weights};

const REGIONS: u16 = 12;
/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1_440 * MINUTE_MS;
/// The most numbers between a copy and what it copies.
const COPIED_FROM: u64 = 4_096;
/// How often each step occurs, in percent.
const STEPS: [u32; Step::ALL.len()] = [66, 10, 7, 6, 5, 4, 2];

/// All records of an event topic and of a topic of users.
#[derive(Debug, Clone)]
pub struct Numbered {
    seed: u64,
    users: u32,
    rate: u64,
    regions: Vec<u32>,
}

impl Numbered {
    /// Events of so many users, `rate` of them in a second of event time.
    pub fn new(seed: u64, users: u32, rate: u64) -> Numbered {
        let (users, rate) = (users.max(1), rate.max(1));
        Numbered { seed: mix(seed), users, rate, regions: region_weights(REGIONS) }
    }

    /// How many records the topic of users has.
    pub fn user_records(&self) -> u64 {
        let users = u64::from(self.users);
        users + users / 50
    }

    /// Appends the event record of a number, without a line end.
    pub fn event(&self, number: u64, out: &mut Vec<u8>) {
        let mut number = number;
        let mut bits = mix(self.seed ^ number);
        while number > 0 && bits.is_multiple_of(20) {
            number -= 1 + mix(!bits) % number.min(COPIED_FROM);
            bits = mix(self.seed ^ number);
        }
        let (who, what, when) = (mix(bits ^ 1), mix(bits ^ 2), mix(bits ^ 3));
        // The lesser of two: the first users are preferred.
        let user = scale(who as u32, self.users).min(scale((who >> 32) as u32, self.users));
        let at = number.saturating_mul(1_000) / self.rate;
        let delay = match when % 500 {
            0 => MINUTE_MS + (when >> 32) % (600 * MINUTE_MS),
            1..=10 => (when >> 32) % (10 * MINUTE_MS),
            _ => 0,
        };
        let time_ms = START_MS + at.saturating_sub(delay) as i64;
        let step = Step::ALL[pick(scale(what as u32, 100), &STEPS)];
        let amount = match step {
            Step::Payment => Amount::Cents(PLANS[(what >> 32) as usize % PLANS.len()].price_cents),
            Step::Subscribed => Amount::Null,
            _ => Amount::Absent,
        };
        let choice = |shift: u32, bound: u8| ((what >> shift) % u64::from(bound)) as u8;
        let session = mix(u64::from(user) << 32 ^ (time_ms as u64 / (30 * MINUTE_MS)));
        let (page, device) = (choice(40, render::PAGES), choice(48, render::DEVICES));
        let referrer = choice(56, render::REFERRERS);
        let action = Action { time_ms, user, session, step, amount, page, device, referrer };
        // `mix` never gives the same for two numbers.
        let id = (bits, mix(!bits));
        let currency = render::currency(&self.first_version(user));
        render::event(&Event { id, action, currency }, out);
    }

    /// Appends the user record of a number, without a line end.
    pub fn user(&self, number: u64, out: &mut Vec<u8>) {
        let users = u64::from(self.users);
        if number < users {
            render::user(number as u32, &self.first_version(number as u32), START_MS, out);
            return;
        }
        let bits = mix(self.seed ^ number << 1);
        let mover = (bits % users) as u32;
        let mut user = self.first_version(mover);
        user.region = (user.region + 1 + (bits >> 32) as u16 % (REGIONS - 1)) % REGIONS;
        let at = (bits >> 16) % DAY_MS;
        render::user(mover, &user, START_MS + at as i64, out);
    }

    fn first_version(&self, number: u32) -> User {
        let bits = mix(self.seed.rotate_left(17) ^ u64::from(number));
        let total: u32 = self.regions.iter().sum();
        User {
            region: pick(scale(bits as u32, total), &self.regions) as u16,
            partition: 0,
            user_partition: 0,
            plan: pick(scale((bits >> 32) as u32, 100), &PLANS.map(|plan| plan.weight())) as u8,
            status: Status::Known,
            stage: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn event(records: &Numbered, number: u64) -> serde_json::Value {
        let mut line = Vec::new();
        records.event(number, &mut line);
        serde_json::from_slice(&line).expect("JSON")
    }

    #[test]
    fn a_record_depends_on_seed_and_number_alone() {
        let records = Numbered::new(5, 500, 60);
        let again = Numbered::new(5, 500, 60);
        assert_eq!(event(&records, 4_711), event(&again, 4_711));
        assert_ne!(event(&records, 4_711), event(&Numbered::new(6, 500, 60), 4_711));
    }

    #[test]
    fn one_of_twenty_is_a_copy_and_copies_are_the_same_all_over() {
        let records = Numbered::new(5, 500, 60);
        let mut seen = BTreeMap::new();
        let mut copies = 0;
        for number in 0..50_000 {
            let event = event(&records, number);
            let id = event["event_id"].as_str().expect("an id").to_owned();
            match seen.get(&id) {
                Some(first) => {
                    assert_eq!(*first, event);
                    copies += 1;
                }
                None => drop(seen.insert(id, event)),
            }
        }
        assert!((2_300..2_700).contains(&copies), "{copies}");
    }

    #[test]
    fn users_have_a_record_each_and_some_move() {
        let records = Numbered::new(1, 1_000, 60);
        assert_eq!(records.user_records(), 1_020);
        let mut regions = BTreeMap::new();
        for number in 0..1_020 {
            let mut line = Vec::new();
            records.user(number, &mut line);
            let user: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
            let (id, region) = (user["user_id"].to_string(), user["region"].to_string());
            if number < 1_000 {
                assert!(regions.insert(id, region).is_none());
            } else {
                assert_ne!(regions.insert(id, region.clone()), Some(region));
            }
        }
        assert_eq!(regions.len(), 1_000);
    }
}
