//! Which copy of an id is admitted, as far as the log says, and which the tables chose.
//!
//! Of the copies of an id the one wins that was read first. Across commits and within a Kafka partition the
//! log says which that is. Between partitions it does not within one commit, since their records are read in
//! turns: any copy may have won that is the first of its partition and came in the first commit in which a
//! copy came. The table of events says which one did.
//!
//! With a horizon an id may be admitted once more: a copy that is the first of its partition in a later
//! commit, if by then an event had come that is the whole horizon newer than the one that was admitted.
//! Whether the id was forgotten by then is left to the tables.

use std::collections::{BTreeMap, HashSet};

use super::copies::{Copies, place};
use super::found::Found;
use super::history::{Event, History, ValueId};
use crate::job::Job;

/// The table of events.
const EVENTS: &str = "events";

/// What the table of events says.
#[derive(Debug)]
pub(super) struct Claims {
    /// How many rows name each copy.
    pub(super) rows: Vec<u8>,
    /// Ids of rows that name none.
    pub(super) strangers: HashSet<u128>,
}

/// The winners.
#[derive(Debug, Default)]
pub(super) struct Winners {
    pub(super) won: Vec<bool>,
    /// Without a table of events: how many winners less and more a partition may have had in a commit.
    pub(super) open: BTreeMap<(i32, u64), (i64, i64)>,
    /// Without a table of events: ids whose content is not known for sure.
    pub(super) unsure: usize,
}

/// Settles who has won, given what the table says, if there is one.
pub(super) fn settle(
    job: &Job,
    copies: &Copies,
    topic: ValueId,
    claims: Option<&Claims>,
    found: &mut Found,
) -> Winners {
    let horizon_us = job.dedup_horizon_us;
    let newest = if horizon_us.is_some() { newest_before(copies) } else { BTreeMap::new() };
    let winners = Winners { won: vec![false; copies.copies.len()], ..Winners::default() };
    let mut settling = Settling { copies, topic, claims, horizon_us, newest, winners, found };
    copies.groups(|group| match group {
        [only] => settling.settle_one(*only),
        group => settling.settle_group(group),
    });
    settling.winners
}

/// For each commit the newest event time that had come before it.
fn newest_before(copies: &Copies) -> BTreeMap<u32, i64> {
    let mut of_commit: BTreeMap<u32, i64> = BTreeMap::new();
    for copy in &copies.copies {
        let newest = of_commit.entry(copy.commit).or_insert(copy.time);
        *newest = copy.time.max(*newest);
    }
    let mut before = i64::MIN;
    let step = |(commit, newest): (u32, i64)| {
        let known = (commit, before);
        before = before.max(newest);
        known
    };
    of_commit.into_iter().map(step).collect()
}

struct Settling<'a> {
    copies: &'a Copies,
    topic: ValueId,
    claims: Option<&'a Claims>,
    horizon_us: Option<i64>,
    newest: BTreeMap<u32, i64>,
    winners: Winners,
    found: &'a mut Found,
}

impl Settling<'_> {
    /// How many rows name a copy.
    fn rows(&self, copy: usize) -> u8 {
        self.claims.map_or(1, |claims| claims.rows[copy])
    }

    fn described(&self, copy: usize) -> String {
        self.copies.described(self.topic, copy)
    }

    fn fault(&mut self, copy: usize, what: String) {
        self.found.fault(EVENTS, self.copies.copies[copy].commit.into(), what);
    }

    fn settle_one(&mut self, copy: usize) {
        self.winners.won[copy] = true;
        match self.rows(copy) {
            1 => {}
            0 => self.missing(copy),
            _ => self.twice(copy, copy),
        }
    }

    /// No row names a copy of this id; `copy` should have one.
    fn missing(&mut self, copy: usize) {
        let of = self.copies.copies[copy];
        // A row with this id that is somewhere else was told of.
        if self.claims.is_some_and(|claims| claims.strangers.contains(&of.id)) {
            return;
        }
        let user = self.copies.values.get(of.user).text(0);
        let what = format!(
            "expected the event of user {user} at {} us, found no row; the record behind it: {}",
            of.time,
            self.described(copy)
        );
        self.fault(copy, what);
    }

    fn twice(&mut self, one: usize, other: usize) {
        let (first, second) = (self.described(one), self.described(other));
        self.fault(other, format!("one event id stands twice: {first} and {second}"));
    }

    fn settle_group(&mut self, group: &[usize]) {
        let copy = |index: usize| &self.copies.copies[index];
        let of = |index: usize| (copy(index).commit, copy(index).partition, copy(index).offset);
        let mut ordered = group.to_vec();
        ordered.sort_unstable_by_key(|index| of(*index));
        // The first of each partition in each commit.
        ordered.dedup_by_key(|index| (copy(*index).commit, copy(*index).partition));
        let first = copy(ordered[0]).commit;
        let (candidates, later) =
            ordered.split_at(ordered.partition_point(|index| copy(*index).commit == first));
        let Some(claims) = self.claims else { return self.assume(candidates, later) };
        let mut claimed: Vec<usize> =
            group.iter().copied().filter(|index| claims.rows[*index] > 0).collect();
        claimed.sort_unstable_by_key(|index| of(*index));
        let chosen = claimed.iter().find(|index| candidates.contains(index)).copied();
        let winner = chosen.unwrap_or(candidates[0]);
        self.winners.won[winner] = true;
        match (chosen, claimed.first().copied()) {
            (Some(_), _) => {}
            (None, None) => self.missing(winner),
            (None, Some(other)) => {
                let (expected, found) = (self.described(winner), self.described(other));
                let what =
                    format!("expected the first copy, {expected}, found a later one, {found}");
                self.fault(other, what);
            }
        }
        let mut last = winner;
        for claim in claimed {
            if claims.rows[claim] > 1 {
                self.twice(claim, claim);
            }
            if claim == last || chosen.is_none() {
                continue;
            }
            if later.contains(&claim) && self.may_be_forgotten(last, claim) {
                self.winners.won[claim] = true;
                last = claim;
            } else {
                self.twice(winner, claim);
            }
        }
    }

    /// True if the id of `admitted` may have been forgotten when `copy` came.
    fn may_be_forgotten(&self, admitted: usize, copy: usize) -> bool {
        let (admitted, copy) = (&self.copies.copies[admitted], &self.copies.copies[copy]);
        let newest = self.newest.get(&copy.commit).copied().unwrap_or(i64::MIN);
        // Generations are whole microseconds long, four to a horizon.
        let is_old = |horizon_us: i64| newest.saturating_sub(admitted.time) >= horizon_us / 4 * 4;
        copy.commit > admitted.commit && self.horizon_us.is_some_and(is_old)
    }

    /// Without a table of events: the copy of the least partition has won, and what is not known is noted.
    fn assume(&mut self, candidates: &[usize], later: &[usize]) {
        let winner = candidates[0];
        self.winners.won[winner] = true;
        let forgotten: Vec<usize> =
            later.iter().copied().filter(|copy| self.may_be_forgotten(winner, *copy)).collect();
        let differs = |copy: &&usize| !self.copies.is_same(winner, **copy);
        let is_unsure = !forgotten.is_empty() || candidates.iter().any(|copy| differs(&copy));
        self.winners.unsure += usize::from(is_unsure);
        let others = &candidates[1..];
        for copy in others.iter().chain(&forgotten).chain(others.first().map(|_| &winner)) {
            let of = &self.copies.copies[*copy];
            let open = self.winners.open.entry((of.partition, of.commit.into())).or_default();
            if *copy == winner {
                open.0 += 1;
            } else {
                open.1 += 1;
            }
        }
    }
}

impl Winners {
    /// How many events of each Kafka partition each commit has admitted.
    pub(super) fn counted(&self, copies: &Copies) -> BTreeMap<(i32, u64), i64> {
        let mut counted: BTreeMap<(i32, u64), i64> = BTreeMap::new();
        for (copy, _) in copies.copies.iter().zip(&self.won).filter(|(_, won)| **won) {
            *counted.entry((copy.partition, copy.commit.into())).or_default() += 1;
        }
        counted
    }

    /// What happened: the events that won, and the versions.
    pub(super) fn history(&self, job: &Job, mut copies: Copies, topic: ValueId) -> History {
        let won = || self.won.iter().enumerate().filter(|(_, won)| **won).map(|(copy, _)| copy);
        let event = |copy: usize| {
            let of = &copies.copies[copy];
            Event {
                id: of.id,
                user: of.user,
                time: of.time,
                commit: of.commit.into(),
                place: place(topic, of.partition, of.offset),
            }
        };
        let events: Vec<Event> = won().map(event).collect();
        let values = std::mem::take(&mut copies.values);
        let versions = std::mem::take(&mut copies.versions);
        let rows = won().map(|copy| copies.cells(copy));
        History::of(job, values, events, rows, versions)
    }
}
