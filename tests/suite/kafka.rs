//! Jobs on a real broker at `TIDEWATER_KAFKA`: `scripts/kafka` starts one, `scripts/test` does
//! it by itself. Without it these tests say that they are skipped, except in CI.
//!
//! The large test writes a million events to 8 partitions, beside a compacted topic of users with
//! tombstones and transactions of both kinds, in three rounds: the first two are read by bounded runs, the
//! third while it is written. After each round `kafka/answers.py` computes the tables from a dump of the
//! topics and compares every row.
//!
//! | module | what it proves |
//! | --- | --- |
//! | `security` | SASL and TLS, and that no secret is told |
//! | `outages` | a broker that dies, hangs or comes back costs time and nothing else |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rdkafka::producer::BaseProducer;
use rustix::process::Signal;
use serde_json::{Value, json};

use self::broker::{Broker, Offsets, Sent, send, transaction, unique};
use super::fixture::{Fixture, assert_says, output_of, tidewater};
use super::running::{Ended, Running, await_true};
use super::small;
use super::tables::Tables;

mod broker;
mod node;
mod outages;
mod security;

/// Partitions of the large event topic.
const PARTITIONS: i32 = 8;
/// Small segments that are compacted as soon as they are full. Tombstones stay for a day.
const COMPACTED: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "200"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "1000"),
];

/// The topics of a job, its lake, and what was dumped of the topics so far.
struct Topics<'b> {
    broker: &'b Broker,
    fixture: Fixture,
    events: String,
    users: String,
    dumped: [Offsets; 2],
    rounds: usize,
}

impl<'b> Topics<'b> {
    fn new(broker: &'b Broker) -> Self {
        let (events, users) = (unique("events"), unique("users"));
        let fixture = Fixture::new("");
        Topics { broker, fixture, events, users, dumped: Default::default(), rounds: 0 }
    }

    /// `tidewater generate` into the topics.
    fn generate(&self, arguments: &[&str]) {
        let mut command = tidewater();
        command.args(["generate", "--brokers", &self.broker.address, "--out"]);
        command.arg(self.fixture.path(""));
        command.args(["--events-topic", &self.events, "--users-topic", &self.users]);
        command.args(arguments);
        let output = output_of(command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The cut of all that is there.
    fn ends(&self) -> Value {
        let [events, users] = [&self.events, &self.users].map(|topic| self.broker.ends(topic));
        json!({ &*self.events: events, &*self.users: users })
    }

    /// The cut of the newest commit.
    fn cut(&self) -> Value {
        let tables = Tables::open(&self.fixture.catalog(), "subscriptions");
        let snapshots = tables.snapshots("cuts");
        json!(snapshots.last().map(|newest| &newest.cut))
    }

    /// Users and events in transactions; the aborted ones contradict what was committed, and are the last
    /// records of their partitions.
    fn transactions(&self, producer: &BaseProducer, round: usize) {
        let record = |topic: &str, partition: i32, key: &str, value: Option<Value>| Sent {
            topic: topic.to_owned(),
            partition,
            key: key.to_owned(),
            value: value.map(|value| value.to_string()),
        };
        let user = |number: i32| format!("t{number}");
        let version = |number: i32, region: &str| {
            let value = json!({ "user_id": user(number), "region": region, "plan": "pro" });
            record(&self.users, 0, &user(number), Some(value))
        };
        let deletion = |number: i32| record(&self.users, 0, &user(number), None);
        let event = |id: String, number: i32, shift: i32, step: &str| {
            let value = json!({
                "event_id": id, "user_id": user(number % 20), "ts": "2026-01-15T10:00:00Z",
                "type": step, "amount_cents": 100 * number, "currency": "EUR",
            });
            record(&self.events, (number + shift) % PARTITIONS, &user(number % 20), Some(value))
        };
        let kept = |number: i32| format!("kept-{round}-{number}");
        let regions = ["emea", "amer", "apac"];

        let mut commit: Vec<Sent> =
            (0..20).map(|number| version(number, regions[round % 3])).collect();
        // Every round deletes others; those of the last one come back.
        commit.extend((0..3).map(|number| deletion(number + 3 * round as i32)));
        commit.extend((0..200).map(|number| event(kept(number), number, 0, "page_view")));
        transaction(producer, &commit, true);

        let mut abort: Vec<Sent> = (5..20).map(|number| version(number, "nowhere")).collect();
        abort.extend((0..5).map(deletion));
        abort.extend((0..200).map(|number| event(kept(number), number, 1, "cancelled")));
        let lost = |number: i32| format!("aborted-{round}-{number}");
        abort.extend((0..200).map(|number| event(lost(number), number, 0, "payment")));
        transaction(producer, &abort, false);
    }

    /// Dumps what is new in the topics, and compares all tables with a recomputation from all dumps.
    fn check(&mut self) {
        let dumps = self.fixture.path("dumps");
        let folder = dumps.join(self.rounds.to_string());
        self.rounds += 1;
        let topics = [&self.events, &self.users];
        for (topic, from) in topics.into_iter().zip(&mut self.dumped) {
            *from = self.broker.dump(topic, from, &folder);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(python());
        command.arg(root.join("tests/suite/kafka/answers.py")).arg(root.join("scripts/expected"));
        command.arg(dumps).arg(self.fixture.path("job.toml")).arg(self.fixture.path("lake"));
        // It computes for longer than a run may take, and can't hang.
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "round {}:\n{}\n{}", self.rounds, said[0], said[1]);
        eprintln!("round {}: {}", self.rounds, said[0].trim());
    }
}

impl Topics<'_> {
    /// Verifies the tables from the topics, of which compaction has taken versions of users.
    fn verify(&self) {
        let verified = self.fixture.verb("verify", &["--from=source"]);
        let said = [verified.stdout, verified.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(verified.status.code(), Some(0), "{}\n{}", said[0], said[1]);
        eprint!("{}", said[0]);
        assert_says(&said[0], &["versions of the dimension are no longer in the log"]);
    }
}

/// The Python environment that `scripts/test` makes.
fn python() -> PathBuf {
    let named = std::env::var_os("TIDEWATER_PYTHON").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
            Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache")
        });
        cache.join("tidewater/venv/bin/python")
    })
}

/// Starts a run with `--follow`.
fn follow(fixture: &Fixture) -> Running {
    Running::start(fixture.command(&["--follow", "--workers=2", "--output=json"]))
}

/// Terminates a run, which must end well: its report, and what it said.
fn terminate(following: Running) -> (Value, String) {
    following.signal(Signal::TERM);
    let Ended { code, out, err } = following.end();
    assert_eq!(code, Some(0), "a run that is terminated ends well: {err}");
    (serde_json::from_str(&out).unwrap(), err)
}

/// Terminates a run, which must have had no trouble, and gives its report.
fn terminate_untroubled(following: Running) -> Value {
    let (report, said) = terminate(following);
    assert!(!said.contains("trouble"), "{said}");
    report
}

#[test]
fn a_million_events_and_what_follows_equal_a_recomputation() {
    let Some(broker) = Broker::connect() else { return };
    let mut topics = Topics::new(&broker);
    broker.create(&topics.users, 3, &COMPACTED);
    let partitions = format!("--partitions={PARTITIONS}");
    let world = ["--events=1M", "--users=40k", &partitions, "--user-partitions=3"];
    let changes = ["--moves=4000", "--deletes=400", "--malformed=0.001", "--conflicts=0.001"];
    topics.generate(&[&world[..], &changes, &["--create-topics", "--job"]].concat());
    let producer = broker.producer(Some(&topics.events));
    topics.transactions(&producer, 0);
    let written = || broker.ends(&topics.users).values().sum::<i64>();
    // Markers are no records either: what is missing beyond them and the aborted was compacted away.
    await_true("compaction", || broker.count(&topics.users) < written() - 100);

    let report = topics.fixture.report(&["--workers=2"]);
    assert_eq!(report["cut"], topics.ends(), "a bounded run reads to the end as it stood");
    assert_eq!(topics.cut(), report["cut"], "the report's cut is the newest");
    topics.check();

    let round = ["--append", "--events=50k", "--moves=200", "--plan-changes=50", "--deletes=50"];
    topics.generate(&round);
    topics.transactions(&producer, 1);
    let report = topics.fixture.report(&["--workers=1"]);
    assert_eq!(report["cut"], topics.ends(), "the next run reads on");
    topics.check();
    assert_eq!(topics.fixture.report(&[])["commits"], 0, "nothing is new");

    let job = fs::read_to_string(topics.fixture.path("job.toml")).unwrap();
    topics.fixture.write_job(&job.replace("\"10s\"", "\"200ms\""));
    let following = follow(&topics.fixture);
    topics.generate(&round);
    topics.transactions(&producer, 2);
    await_true("a commit of all that was written", || topics.cut() == topics.ends());
    let report = terminate_untroubled(following);
    assert_eq!(report["cut"], topics.ends(), "a following run reads all that comes");
    topics.check();
    topics.verify();
}

/// The small job on topics of its own, with ten events in partition 0 and three in partition 1, run once.
fn small_topics(broker: &Broker) -> (Fixture, String) {
    let (events, users) = (unique("events"), unique("users"));
    broker.create(&events, 2, &[]);
    broker.create(&users, 1, &[]);
    let fixture = Fixture::new(&small_job(&broker.address, &events, &users));
    send_events(broker, &events, 0, 0..10);
    send_events(broker, &events, 1, 100..103);
    assert_eq!(fixture.report(&[])["events"], 13);
    (fixture, events)
}

fn small_job(address: &str, events: &str, users: &str) -> String {
    let source =
        |topic: &str| format!("{{ kafka = {{ brokers = \"{address}\", topic = \"{topic}\" }} }}");
    small::job("small")
        .replace("{ directory = \"events\" }", &source(events))
        .replace("{ directory = \"users\" }", &source(users))
}

fn send_events(broker: &Broker, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let records = numbers.map(|number| Sent {
        topic: topic.to_owned(),
        partition,
        key: String::new(),
        value: Some(small::event(number).trim_end().to_owned()),
    });
    send(&broker.producer(None), &records.collect::<Vec<_>>());
}

fn send_users(broker: &Broker, topic: &str, numbers: std::ops::Range<usize>, region: &str) {
    let records = numbers.map(|number| Sent {
        topic: topic.to_owned(),
        partition: 0,
        key: format!("u{number}"),
        value: Some(small::user(number, region).trim_end().to_owned()),
    });
    send(&broker.producer(None), &records.collect::<Vec<_>>());
}

#[test]
fn a_position_below_the_log_is_refused_until_the_loss_is_accepted() {
    let Some(broker) = Broker::connect() else { return };
    let (fixture, events) = small_topics(&broker);
    send_events(&broker, &events, 0, 10..20);
    broker.delete_below(&events, 0, 15);
    let said = fixture.refused(3, &[]);
    let topic = format!("topic {events}");
    assert_says(&said, &[&topic, "partition 0", "offset 10", "15 to 20", "--accept-loss"]);
    let refused = fixture.verb("verify", &["--from=source"]);
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_says(&said, &[&topic, "partition 0", "the log begins at offset 15", "--from tables"]);
    let report = fixture.report(&["--accept-loss"]);
    assert_eq!((&report["commit"], &report["events"]), (&json!(2), &json!(5)), "{report:#}");
    assert_eq!(report["cut"][&*events], json!({ "0": 20, "1": 3 }));
    assert_eq!(fixture.report(&[])["commits"], 0, "what was accepted is settled");
}

#[test]
fn a_position_beyond_the_log_is_refused_until_the_loss_is_accepted() {
    let Some(broker) = Broker::connect() else { return };
    let (fixture, events) = small_topics(&broker);
    broker.delete(&events);
    broker.create(&events, 2, &[]);
    send_events(&broker, &events, 0, 200..206);
    let said = fixture.refused(3, &[]);
    let topic = format!("topic {events}");
    assert_says(&said, &[&topic, "partition 0", "offset 10", "0 to 6", "--accept-loss"]);
    fixture.report(&["--accept-loss"]);
    let report = fixture.report(&[]);
    assert_eq!(report["cut"][&*events], json!({ "0": 6, "1": 0 }), "what was accepted is settled");
    send_events(&broker, &events, 0, 206..208);
    let report = fixture.report(&[]);
    assert_eq!((&report["records"], &report["events"]), (&json!(2), &json!(2)), "{report:#}");
}

#[test]
fn fewer_partitions_than_before_are_refused() {
    let Some(broker) = Broker::connect() else { return };
    let (fixture, events) = small_topics(&broker);
    broker.delete(&events);
    broker.create(&events, 1, &[]);
    send_events(&broker, &events, 0, 200..220);
    let said = fixture.refused(3, &[]);
    let topic = format!("topic {events}");
    assert_says(&said, &[&topic, "partition 1", "offset 3", "--accept-loss"]);
    let report = fixture.report(&["--accept-loss"]);
    assert_eq!(report["cut"][&*events], json!({ "0": 20 }), "{report:#}");
}

#[test]
fn a_missing_topic_is_refused_by_name() {
    let Some(broker) = Broker::connect() else { return };
    let (present, missing) = (unique("present"), unique("missing"));
    broker.create(&present, 1, &[]);
    for (events, users) in [(&missing, &present), (&present, &missing)] {
        let fixture = Fixture::new(&small_job(&broker.address, events, users));
        let said = fixture.refused(3, &[]);
        assert_says(&said, &[&format!("topic {missing} does not exist"), &broker.address]);
    }
}

#[test]
fn a_broker_that_is_not_there_is_given_up_by_name() {
    // Nothing listens on a port that was just free.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let fixture = Fixture::new(&small_job(&address, "events", "users"));
    let said = fixture.refused(1, &["--connect-timeout=2"]);
    assert_says(&said, &["topic events", &address, "did not answer"]);
}
