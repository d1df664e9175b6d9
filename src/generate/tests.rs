//! What the generator promises: the same bytes for the same options, counts that are true, rounds that fit.

use std::collections::{HashMap, HashSet};

use super::random::{Purpose, Random};
use super::users::{Users, murmur2};
use super::*;

fn world() -> World {
    World {
        seed: 7,
        users: 500,
        regions: 4,
        unknown_users: 0.02,
        partitions: 3,
        user_partitions: 2,
    }
}

fn round(events: u64) -> Round {
    Round {
        seed: 7,
        events,
        moves: 40,
        plan_changes: 20,
        deletes: 12,
        start_ms: 1_767_225_600_000,
        duration_ms: 10 * 86_400_000,
        skew: 1,
        shares: Shares { conflicts: 0.01, malformed: 0.02, late: 0.01, ..Shares::default() },
    }
}

/// Every record as (topic is users, partition, user, tombstone, bytes).
fn records(
    world: &World,
    earlier: &[Round],
    round: &Round,
) -> Vec<(bool, u32, u32, bool, Vec<u8>)> {
    let mut stream = Stream::new(world, earlier, round);
    let mut records = Vec::new();
    while let Some(record) = stream.next_record() {
        let users = record.topic == Topic::Users;
        let Record { partition, user, tombstone, value, .. } = record;
        records.push((users, partition, user, tombstone, value.to_vec()));
    }
    records
}

fn field(line: &[u8], path: &str) -> Option<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    value.pointer(path).cloned()
}

#[test]
fn the_same_options_give_the_same_bytes() {
    assert_eq!(records(&world(), &[], &round(5_000)), records(&world(), &[], &round(5_000)));
    let other = Round { seed: 8, ..round(5_000) };
    assert_ne!(records(&world(), &[], &round(5_000)), records(&world(), &[], &other));
}

#[test]
fn the_bytes_never_change_between_versions() {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for (_, partition, _, _, bytes) in records(&world(), &[], &round(20_000)) {
        hash.update(&partition.to_le_bytes());
        hash.update(&bytes);
    }
    assert_eq!(hash.digest(), 0xcabc_aad6_e93f_5938, "{:#x}", hash.digest());
}

#[test]
fn the_counts_are_those_of_the_records() {
    let mut stream = Stream::new(&world(), &[], &round(20_000));
    let mut first: HashMap<String, (u32, Vec<u8>)> = HashMap::new();
    let (mut total, mut users, mut duplicates, mut across, mut conflicts) = (0, 0, 0, 0, 0);
    let (mut malformed, mut bytes) = (0, 0);
    while let Some(record) = stream.next_record() {
        if record.topic == Topic::Users {
            users += 1;
            continue;
        }
        total += 1;
        bytes += record.value.len() as u64;
        assert!(!record.value.contains(&b'\n') && !record.value.is_empty());
        let decodes = decodes(record.value);
        let Some(id) = decodes else {
            malformed += 1;
            continue;
        };
        match first.get(&id) {
            None => drop(first.insert(id, (record.partition, record.value.to_vec()))),
            Some((partition, value)) => {
                duplicates += 1;
                across += u64::from(*partition != record.partition);
                conflicts += u64::from(value != record.value);
            }
        }
    }
    let counts = stream.counts();
    assert_eq!(counts.records, 20_000);
    assert_eq!((total, users, bytes), (counts.records, counts.user_records, counts.event_bytes));
    assert_eq!(first.len() as u64, counts.events);
    assert_eq!(
        (duplicates, across, conflicts),
        (counts.duplicates, counts.across, counts.conflicts)
    );
    assert_eq!(malformed, counts.malformed);
    assert_eq!(counts.records, counts.events + counts.duplicates + counts.malformed);
    assert_eq!((counts.moves, counts.plan_changes, counts.deletes), (40, 20, 12));
    assert!(counts.malformed_kinds.values().all(|&count| count > 0), "{counts:?}");
    assert!(counts.steps.values().all(|&count| count > 0), "{counts:?}");
    assert!(counts.late > 100 && counts.out_of_order > 200 && counts.conflicts > 100);
    let size = counts.event_bytes / counts.records;
    assert!((290..330).contains(&size), "{size} bytes an event");
}

/// The event id of a record that is fine for the handbook's job, judged by another JSON library.
fn decodes(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    if text.contains("\"u00000000\",\"event_id\"") || text.starts_with("{\"type\"") {
        return None; // a duplicate key, which serde_json lets pass
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let string = |path| value.pointer(path)?.as_str().filter(|text| !text.is_empty());
    let id = string("/event_id")?;
    string("/user_id")?;
    string("/type")?;
    string("/device/os")?;
    let time: jiff::Timestamp = string("/ts")?.parse().ok()?;
    let years = 0..7_258_118_400_000;
    let amount = value.get("amount_cents");
    let whole = amount.is_none_or(|amount| amount.is_null() || amount.is_i64());
    (whole && years.contains(&time.as_millisecond())).then(|| id.to_owned())
}

#[test]
fn a_users_records_are_in_order_in_one_partition() {
    let shares = Shares {
        duplicates: 0.0,
        across: 0.0,
        conflicts: 0.0,
        out_of_order: 0.0,
        late: 0.0,
        malformed: 0.0,
    };
    let mut latest: HashMap<(bool, u32), (u32, String)> = HashMap::new();
    for (users, partition, user, _, line) in
        records(&world(), &[], &Round { shares, ..round(9_000) })
    {
        let path = if users { "/updated_at" } else { "/ts" };
        let time = field(&line, path).unwrap().as_str().unwrap().to_owned();
        let known = latest.entry((users, user)).or_insert((partition, String::new()));
        assert_eq!(known.0, partition);
        assert!(known.1 <= time, "{} {time}", known.1);
        known.1 = time;
    }
}

#[test]
fn a_later_round_has_fresh_ids_and_users_where_they_were_left() {
    let first = round(5_000);
    let mut stream = Stream::new(&world(), &[], &first);
    let (mut ids, mut regions) = (HashSet::new(), HashMap::new());
    while let Some(record) = stream.next_record() {
        match record.topic {
            Topic::Users => drop(regions.insert(record.user, field(record.value, "/region"))),
            Topic::Events => drop(ids.insert(decodes(record.value))),
        }
    }
    let later =
        Round { start_ms: stream.end_ms(), moves: 10, plan_changes: 0, deletes: 0, ..round(1_000) };
    let mut moved = 0;
    for (users, _, user, _, line) in records(&world(), std::slice::from_ref(&first), &later) {
        if users {
            let Some(region) = field(&line, "/region").filter(|region| region.is_string()) else {
                continue;
            };
            if field(&line, "/user_id").is_some() {
                assert_ne!(regions.insert(user, Some(region.clone())), Some(Some(region)));
                moved += 1;
            }
        } else if let Some(id) = decodes(&line) {
            assert!(!ids.contains(&Some(id)));
        }
    }
    assert_eq!(moved, 10);
}

#[test]
fn a_round_lasts_about_as_long_as_it_should() {
    let round = round(50_000);
    let mut stream = Stream::new(&world(), &[], &round);
    while stream.next_record().is_some() {}
    let share = (stream.end_ms() - round.start_ms) as f64 / round.duration_ms as f64;
    assert!((0.9..1.1).contains(&share), "{share}");
}

#[test]
fn partitions_are_those_of_kafkas_java_client() {
    // Values of org.apache.kafka.common.utils.Utils.murmur2, from its own unit test.
    for (key, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
    }
}

#[test]
fn times_and_ids_are_written_as_others_read_them() {
    let mut random = Random::new(5, 0, Purpose::Ids);
    for _ in 0..20_000 {
        let time_ms = random.below_u64(7_258_118_400_000) as i64;
        let mut text = [0; render::TIME_BYTES];
        render::time(time_ms, &mut text);
        let time: jiff::Timestamp = std::str::from_utf8(&text).unwrap().parse().unwrap();
        assert_eq!(time.as_millisecond(), time_ms);
    }
    let lines = records(&world(), &[], &round(300));
    for id in lines.iter().filter(|record| !record.0).filter_map(|record| decodes(&record.4)) {
        let parsed = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!((parsed.get_version_num(), parsed.to_string()), (4, id));
    }
}

#[test]
fn options_out_of_range_are_named() {
    let broken = World { regions: 1, ..world() };
    assert!(broken.check().unwrap_err().to_string().contains("`regions` is 1"));
    let shares = Shares { duplicates: 0.7, malformed: 0.4, ..Shares::default() };
    assert!(Round { shares, ..round(1) }.check().unwrap_err().to_string().contains("duplicates"));
    assert_eq!(round(1).check(), Ok(()));
    assert_eq!(Users::new(&world()).all.len(), 500);
}

/// Generates a round into a folder as the command does, without the memory of it.
fn write(
    folder: &std::path::Path,
    earlier: &[Round],
    round: &Round,
) -> Result<Counts, target::TargetError> {
    let directory = directory::Directory::open(folder, &world(), !earlier.is_empty())?;
    let mut stream = Stream::new(&world(), earlier, round);
    target::run(&mut stream, &mut target::Target::Directory(directory), None, |_| {})?;
    Ok(stream.counts())
}

#[test]
fn a_directory_holds_a_line_for_each_record_and_is_appended_to_only() {
    let folder = tempfile::tempdir().unwrap();
    let first = round(2_000);
    let counts = write(folder.path(), &[], &first).unwrap();
    let read = |topic: &str, number: u32| {
        std::fs::read(folder.path().join(topic).join(format!("{number}.jsonl"))).unwrap()
    };
    let lines = |topic: &str, partitions: u32| -> u64 {
        (0..partitions).map(|n| read(topic, n).split(|&b| b == b'\n').count() as u64 - 1).sum()
    };
    assert_eq!((lines("events", 3), lines("users", 2)), (counts.records, counts.user_records));
    let before: Vec<_> = (0..3).map(|n| read("events", n)).collect();

    let error = write(folder.path(), &[], &first).unwrap_err();
    assert!(error.to_string().contains("holds data already"), "{error}");

    let more = write(folder.path(), std::slice::from_ref(&first), &round(100)).unwrap();
    assert_eq!(lines("events", 3), counts.records + more.records);
    assert!((0..3).all(|n| read("events", n).starts_with(&before[n as usize])));

    std::fs::write(folder.path().join("events/1.jsonl"), "{\"half\":").unwrap();
    let error = write(folder.path(), std::slice::from_ref(&first), &round(100)).unwrap_err();
    assert!(error.to_string().contains("1.jsonl: ends within a line"), "{error}");
}

#[test]
fn a_round_that_was_broken_off_is_not_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::new(world());
    assert!(matches!(History::read(folder.path()), Err(HistoryError::Missing { .. })));
    history.rounds.push(round(10));
    history.write(folder.path()).unwrap();
    assert!(matches!(History::read(folder.path()), Err(HistoryError::Open { .. })));
    history.end_ms = Some(1);
    history.write(folder.path()).unwrap();
    assert_eq!(History::read(folder.path()).unwrap(), history);
    assert!(matches!(History::refuse_existing(folder.path()), Err(HistoryError::Exists { .. })));
}
