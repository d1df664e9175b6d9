//! Outages: a broker that dies, hangs, comes back or stays away costs time, and no record.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::BaseProducer;
use serde_json::{Value, json};

use super::super::fixture::{Fixture, assert_says};
use super::super::running::{Ended, Running, await_true};
use super::super::small;
use super::super::tables::{Cell, Row, Tables};
use super::broker::{Broker, Sent, send, unique};
use super::node::Node;
use super::{follow, send_events, send_users, small_job, terminate};

/// A run goes on this soon after its broker is back.
const SOON: Duration = Duration::from_secs(30);
/// How long a broker hangs: longer than people look at a screen, shorter than the patience of a run.
const HANGS: Duration = Duration::from_secs(20);
/// Events of a topic that takes a while to read.
const MANY: usize = 1_600;
/// No run takes longer than this once its broker is back, on a busy machine too.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

/// The rows of the current tables without the commits that made them, in order.
pub fn answers(fixture: &Fixture) -> Vec<Vec<Row>> {
    let mut tables = Tables::open(&fixture.catalog(), "small");
    let rows = ["regional", "path"].map(|table| {
        let mut rows = tables.current(table);
        rows.iter_mut().for_each(|row| drop(row.remove("_commit")));
        rows
    });
    rows.to_vec()
}

/// What the small job makes of these events, read from a folder.
fn expected(events: usize) -> Vec<Vec<Row>> {
    let fixture = Fixture::new(&small::job("small"));
    (0..10).for_each(|number| fixture.append("users", 0, small::user(number, "north")));
    (0..events).for_each(|number| fixture.append("events", 0, small::event(number)));
    fixture.report(&[]);
    answers(&fixture)
}

/// The small job on topics of its own with ten users, and the name of its event topic.
fn topics(broker: &Broker, options: &str) -> (Fixture, String) {
    let (events, users) = (unique("events"), unique("users"));
    broker.create(&events, 2, &[]);
    broker.create(&users, 1, &[]);
    send_users(broker, &users, 0..10, "north");
    let job = small_job(&broker.address, &events, &users);
    let job = job.replace("\" } }", &format!("\", options = {{ {options} }} }} }}"));
    (Fixture::new(&job), events)
}

/// The offsets of the event topic in the newest commit, summed up.
fn read_so_far(fixture: &Fixture, events: &str) -> i64 {
    if !fixture.catalog().exists() {
        return 0;
    }
    let Ok(catalog) = rusqlite::Connection::open(fixture.catalog()) else { return 0 };
    let sql = "SELECT count(*) FROM iceberg_tables WHERE table_name = 'cuts'";
    if catalog.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap_or(0) == 0 {
        return 0;
    }
    let snapshots = Tables::open(&fixture.catalog(), "small").snapshots("cuts");
    let newest = snapshots.last().and_then(|newest| newest.cut.get(events));
    newest.map_or(0, |offsets| offsets.values().sum())
}

fn a_following_run_outlives_its_broker(node: &Node) {
    let (fixture, events) = topics(&node.broker, "");
    let following = follow(&fixture);
    let mut sent = 0;
    let mut send_some = || {
        for partition in 0..2 {
            send_events(&node.broker, &events, partition, sent..sent + 20);
            sent += 20;
        }
        let begun = Instant::now();
        await_true("a commit of what was sent", || read_so_far(&fixture, &events) == sent as i64);
        begun.elapsed()
    };
    send_some();
    node.kill();
    std::thread::sleep(Duration::from_secs(2));
    node.resume();
    let took = send_some();
    assert!(took < SOON, "{took:?} after the broker was back");
    eprintln!("killed and started: read on after {:.1} s", took.as_secs_f64());
    node.freeze();
    std::thread::sleep(HANGS);
    node.thaw();
    let took = send_some();
    assert!(took < SOON, "{took:?} after the broker went on");
    eprintln!("hung for {} s: read on after {:.1} s", HANGS.as_secs(), took.as_secs_f64());
    let report = terminate(following).0;
    assert_eq!((&report["events"], &report["duplicates"]), (&json!(sent), &json!(0)), "{report:#}");
    assert_eq!(answers(&fixture), expected(sent));
}

/// Many events in small pieces, for a reader that takes a few at a time.
fn many(node: &Node) -> (Fixture, String) {
    let options = "queued.min.messages = 1, fetch.message.max.bytes = 2000, fetch.max.bytes = 20000, \
                   fetch.min.bytes = 1, message.max.bytes = 20000";
    let (fixture, events) = topics(&node.broker, options);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &node.broker.address).set("batch.num.messages", "10");
    let producer: BaseProducer = config.create().unwrap();
    let record = |number: usize| Sent {
        topic: events.clone(),
        partition: (number % 2) as i32,
        key: String::new(),
        value: Some(small::event(number).trim_end().to_owned()),
    };
    send(&producer, &(0..MANY).map(record).collect::<Vec<_>>());
    (fixture, events)
}

/// Starts a bounded run that reads slowly, and waits until it is in the midst of it.
fn start_slowly(fixture: &Fixture, events: &str, patience: &str) -> Running {
    let before = read_so_far(fixture, events);
    let mut command = fixture.command(&["--output=json", patience, "--step-records=50"]);
    command.env("FAILPOINTS", "source.read=delay(10)").stdin(Stdio::null());
    let run = Running::start(command);
    await_true("the midst of a run", || read_so_far(fixture, events) > before + 100);
    run
}

fn a_bounded_run_waits_for_its_broker_but_not_for_ever(node: &Node) {
    let (fixture, events) = many(node);
    let run = start_slowly(&fixture, &events, "--connect-timeout=6");
    node.kill();
    let killed = Instant::now();
    let Ended { code, err, .. } = run.end();
    let took = killed.elapsed();
    let error = err.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
    assert_eq!(code, Some(1), "{err}");
    assert_says(error, &[&events, &node.broker.address, "did not answer", "check that they run"]);
    eprintln!("gone for good: given up after {:.1} s: {error}", took.as_secs_f64());
    let stopped = read_so_far(&fixture, &events);
    assert!(stopped > 0 && stopped < MANY as i64, "{stopped}");

    node.resume();
    let run = start_slowly(&fixture, &events, "--connect-timeout=90");
    node.kill();
    std::thread::sleep(Duration::from_secs(2));
    node.resume();
    let resumed = Instant::now();
    let Ended { code, out, err } = run.end_within(RUN_TIME_MAX);
    assert_eq!(code, Some(0), "{err}");
    eprintln!("killed and started: ended after {:.1} s", resumed.elapsed().as_secs_f64());
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["cut"][&*events], json!({ "0": MANY / 2, "1": MANY / 2 }));
    assert_eq!(report["records"], json!(MANY as i64 - stopped), "{report:#}");
    assert_eq!(answers(&fixture), expected(MANY));
}

#[test]
fn a_broker_that_dies_or_hangs_costs_time_and_no_record() {
    let Some(node) = Node::start(None) else { return };
    a_following_run_outlives_its_broker(&node);
    a_bounded_run_waits_for_its_broker_but_not_for_ever(&node);
}

#[test]
fn records_of_many_megabytes_are_read() {
    let Some(broker) = Broker::connect() else { return };
    let (events, users) = (unique("events"), unique("users"));
    broker.create(&events, 1, &[("max.message.bytes", "33554432")]);
    broker.create(&users, 1, &[]);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker.address).set("message.max.bytes", "33554432");
    let producer: BaseProducer = config.create().unwrap();
    let record = |number: usize, megabytes: usize| {
        let padding = format!("{{\"padding\":\"{}\",", "x".repeat(megabytes << 20));
        let value = small::event(number).trim_end().replacen('{', &padding, 1);
        Sent { topic: events.clone(), partition: 0, key: String::new(), value: Some(value) }
    };
    // More than 8 MiB are not decoded; they are kept like all bad records, and what follows is read.
    send(&producer, &[record(0, 7), record(1, 20), record(2, 0), record(3, 12)]);
    let fixture = Fixture::new(&small_job(&broker.address, &events, &users));
    let report = fixture.report(&[]);
    assert_eq!((&report["events"], &report["dead_letters"]), (&json!(2), &json!(2)), "{report:#}");
    assert_eq!(report["cut"][&*events], json!({ "0": 4 }));
    let letters = Tables::open(&fixture.catalog(), "small").current("dead_letters");
    let kept = letters.iter().map(|row| match &row["value"] {
        Cell::Bytes(bytes) => {
            (row["_offset"].as_number(), row["reason"].as_text(), bytes.len() >> 20)
        }
        other => panic!("{other:?}"),
    });
    // Two workers write them, in no order.
    let kept: BTreeSet<_> = kept.collect();
    assert_eq!(kept, BTreeSet::from([(1, "too_large", 20), (3, "too_large", 12)]));
    assert_eq!(fixture.report(&[])["commits"], 0, "nothing is new");
}
