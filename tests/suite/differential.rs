//! A second oracle: differential dataflow's own `reduce` and `join` as dedup and aggregate. Conflicting
//! copies in several Kafka partitions are in it too, so that it says which copy wins.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use differential_dataflow::input::InputSession;

use super::fixture::Fixture;
use super::random::Random;
use super::small;
use super::tables::{Cell, Tables};

const ROUNDS: u64 = 5;
const HOUR_US: i64 = 3_600_000_000;

/// A copy in the order in which copies win: round, Kafka partition, offset; then user, hour, step and amount.
type Copy = (u64, i64, i64, String, i64, String, i64);
/// A version: its offset, and the region unless it is deleted.
type Version = (i64, Option<String>);
/// Of hour, region and step: events, users, amount.
type Group = ((i64, Option<String>, String), (i64, i64, i64));
/// A winner: id, partition, offset.
type Winner = (String, i64, i64);

/// What was appended in all rounds.
#[derive(Debug, Default, Clone)]
struct Input {
    copies: Vec<(String, Copy)>,
    versions: Vec<(u64, String, Version)>,
}

/// Everything that holds after each round.
#[derive(Debug, Default)]
struct Output {
    winners: Vec<(Winner, u64, isize)>,
    groups: Vec<(Group, u64, isize)>,
}

/// What a list of updates adds up to at a time.
fn at<T: Ord + Clone>(updates: &[(T, u64, isize)], time: u64) -> BTreeSet<T> {
    let mut sums: BTreeMap<T, isize> = BTreeMap::new();
    for (item, _, diff) in updates.iter().filter(|(_, when, _)| *when <= time) {
        *sums.entry(item.clone()).or_default() += diff;
    }
    sums.retain(|_, sum| *sum != 0);
    assert!(sums.values().all(|sum| *sum == 1));
    sums.into_keys().collect()
}

fn compute(input: Input) -> Output {
    timely::execute_directly(move |worker| {
        let found = Rc::new(RefCell::new(Output::default()));
        let (winners_out, groups_out) = (Rc::clone(&found), Rc::clone(&found));
        let mut copies = InputSession::<u64, (String, Copy), isize>::new();
        let mut versions = InputSession::<u64, (String, Version), isize>::new();
        worker.dataflow(|scope| {
            let winners = copies.to_collection(scope).reduce(|_, copies, first| {
                first.push((copies[0].0.clone(), 1));
            });
            let newest = versions.to_collection(scope).reduce(|_, versions, last| {
                last.push((versions[versions.len() - 1].0.1.clone(), 1));
            });
            winners.clone().inspect(move |((id, copy), time, diff)| {
                let winner = (id.clone(), copy.1, copy.2);
                winners_out.borrow_mut().winners.push((winner, *time, *diff));
            });
            let by_user =
                winners.map(|(id, copy)| (copy.3.clone(), (copy.4, copy.5, copy.6, copy.3, id)));
            let unknown = by_user.clone().antijoin(newest.clone().map(|(user, _)| user));
            let unknown = unknown.map(|(_, event)| (event, None));
            let known =
                by_user.join_map(newest, |_, event, region| (event.clone(), region.clone()));
            let keyed = known.concat(unknown);
            let keyed = keyed.map(|((hour, step, amount, user, id), region)| {
                ((hour, region, step), (user, amount, id))
            });
            let groups = keyed.reduce(|_, events, sums| {
                let users: BTreeSet<&String> = events.iter().map(|((user, ..), _)| user).collect();
                let amount = events.iter().map(|((_, amount, _), _)| amount).sum::<i64>();
                sums.push(((events.len() as i64, users.len() as i64, amount), 1));
            });
            groups.inspect(move |(group, time, diff)| {
                groups_out.borrow_mut().groups.push((group.clone(), *time, *diff));
            });
        });
        for (id, copy) in input.copies {
            let round = copy.0;
            copies.update_at((id, copy), round, 1);
        }
        for (round, user, version) in input.versions {
            versions.update_at((user, version), round, 1);
        }
        copies.close();
        versions.close();
        while worker.step() {}
        found.take()
    })
}

/// Appends a round's lines to the topics.
fn append(fixture: &Fixture, random: &mut Random, round: u64, input: &mut Input) {
    for _ in 0..random.between(0, 8) {
        let user = random.below(7);
        let region =
            random.chance(80).then(|| (*random.pick(&["north", "south", "east"])).to_owned());
        let line = match &region {
            Some(region) => small::user(user, region),
            None => format!("{{\"user\":\"u{user}\",\"deleted\":true}}\n"),
        };
        let offset = append_line(fixture, "users", 0, &line);
        input.versions.push((round, format!("u{user}"), (offset, region)));
    }
    for _ in 0..random.between(0, 50) {
        let (id, user) = (format!("e{}", random.below(60)), format!("u{}", random.below(9)));
        let (hour, amount) = (random.between(0, 5) as i64, random.below(100) as i64);
        let step = *random.pick(&["view", "buy"]);
        let line = format!(
            "{{\"id\":\"{id}\",\"user\":\"{user}\",\"ts\":\"2026-01-01T{hour:02}:30:00Z\",\
             \"step\":\"{step}\",\"amount\":{amount}}}\n"
        );
        let partition = random.below(4) as i32;
        let offset = append_line(fixture, "events", partition, &line);
        let start = 1_767_225_600_000_000 + hour * HOUR_US;
        let copy = (round, partition.into(), offset, user, start, step.to_owned(), amount);
        input.copies.push((id, copy));
    }
}

/// Appends a line and gives its offset.
fn append_line(fixture: &Fixture, topic: &str, partition: i32, line: &str) -> i64 {
    let file = fixture.partition(topic, partition);
    let offset = std::fs::metadata(file).map_or(0, |file| file.len() as i64);
    fixture.append(topic, partition, line);
    offset
}

fn play(seed: u64) {
    let mut random = Random::new(seed);
    let fixture = Fixture::new(&small::job("small").replace("\"50ms\"", "\"1h\""));
    let mut input = Input::default();
    let mut commits = Vec::new();
    for round in 0..ROUNDS {
        append(&fixture, &mut random, round, &mut input);
        let report = fixture.report(&[&format!("--workers={}", random.between(1, 4))]);
        commits.push(report["commit"].as_u64().unwrap());
    }
    let output = compute(input);
    let mut tables = Tables::open(&fixture.catalog(), "small");
    for (round, commit) in (0..).zip(commits) {
        let mut rows = |table: &str| {
            let snapshots = tables.snapshots(table);
            let newest = snapshots.iter().rfind(|snapshot| snapshot.commit <= commit);
            newest.map_or_else(Vec::new, |newest| tables.rows(newest))
        };
        let events = rows("events");
        let winner = |row: &super::tables::Row| {
            let place = (row["_partition"].as_number(), row["_offset"].as_number());
            (row["event_id"].as_text().to_owned(), place.0, place.1)
        };
        let winners: BTreeSet<Winner> = events.iter().map(winner).collect();
        assert_eq!(winners, at(&output.winners, round), "seed {seed}, round {round}");
        let group = |row: &super::tables::Row| {
            let number = |name: &str| row[name].as_number();
            let region = (row["region"] != Cell::Null).then(|| row["region"].as_text().to_owned());
            let key = (number("window_start"), region, row["step"].as_text().to_owned());
            (key, (number("events"), number("users"), number("amount")))
        };
        let groups: BTreeSet<Group> = rows("regional").iter().map(group).collect();
        assert_eq!(groups, at(&output.groups, round), "seed {seed}, round {round}");
    }
}

#[test]
fn differential_dataflow_computes_the_same() {
    (0..6).for_each(play);
}
