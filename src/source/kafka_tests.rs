//! Tests against a real broker, at the address in `TIDEWATER_KAFKA` (`scripts/kafka` starts one). Without
//! it they say so and pass, except in CI.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{
    KafkaSource, NO_TIMESTAMP, OffsetReporter, Offsets, OpenOptions, Poll, RawBatch, Source,
    SourceError,
};
use crate::job::{KafkaSpec, SourceSpec};

mod again;

const SOON: Duration = Duration::from_secs(20);

fn brokers() -> Option<String> {
    let brokers = std::env::var("TIDEWATER_KAFKA").ok().filter(|brokers| !brokers.is_empty());
    if brokers.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "TIDEWATER_KAFKA is not set: eval \"$(scripts/kafka env)\""
        );
        eprintln!("skipped: TIDEWATER_KAFKA is not set (scripts/kafka start)");
    }
    brokers
}

fn options() -> OpenOptions {
    OpenOptions {
        saved: Offsets::new(),
        follow: false,
        accept_loss: false,
        connect_timeout: SOON,
        share: crate::source::Share::ALL,
        headers: false,
    }
}

fn saved(offsets: impl Into<Offsets>) -> OpenOptions {
    OpenOptions { saved: offsets.into(), ..options() }
}

/// A topic of its own for one test.
struct Topic {
    brokers: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Topic {
    fn new(brokers: &str, partitions: i32) -> Topic {
        let name = format!("test-{}", uuid::Uuid::new_v4());
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let made = block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("made");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        Topic { brokers: brokers.to_owned(), name, admin }
    }

    fn spec(&self) -> KafkaSpec {
        let (brokers, topic) = (self.brokers.clone(), self.name.clone());
        KafkaSpec { brokers, topic, options: BTreeMap::new() }
    }

    fn producer(&self, transactional: bool) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("linger.ms", "1");
        if transactional {
            config.set("transactional.id", &self.name);
        }
        config.create().expect("a producer")
    }

    /// Sends `count` records whose values are `text` and a number.
    fn send(&self, producer: &BaseProducer, partition: i32, count: usize, text: &str) {
        for number in 0..count {
            let value = format!("{text}{number}");
            let record = BaseRecord::<(), _>::to(&self.name).partition(partition).payload(&value);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(SOON).expect("delivered");
    }

    fn delete_below(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))
            .expect("an offset");
        block_on(self.admin.delete_records(&list, &AdminOptions::new())).expect("deleted");
    }

    fn open(&self, options: &OpenOptions) -> KafkaSource {
        KafkaSource::open(&self.spec(), options).expect("opens")
    }

    fn loss(&self, options: &OpenOptions) -> String {
        match KafkaSource::open(&self.spec(), options) {
            Err(SourceError::Loss(text)) => text,
            other => panic!("{other:?}"),
        }
    }
}

fn values(batch: &RawBatch) -> impl Iterator<Item = (i64, String)> {
    let text = |span| String::from_utf8_lossy(batch.get(span).expect("a value")).into_owned();
    batch.records.iter().map(move |record| (record.offset, text(record.value)))
}

/// Reads a bounded source to its end: offset and value by partition, and the positions.
fn read(source: &mut KafkaSource) -> (BTreeMap<i32, Vec<(i64, String)>>, Offsets) {
    let mut all = BTreeMap::<i32, Vec<_>>::new();
    let mut next = source.start();
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < SOON, "at {next:?} of {:?}", source.ends());
        match source.poll(Duration::from_millis(100)).expect("polls") {
            Poll::Batch(batch) => {
                all.entry(batch.partition).or_default().extend(values(&batch));
                assert!(next.insert(batch.partition, batch.next) < Some(batch.next));
            }
            Poll::Advanced { partition, next: to } => {
                assert!(next.insert(partition, to) < Some(to));
            }
            Poll::Idle => {}
            Poll::End => return (all, next),
        }
    }
}

/// Polls a following source until a batch of `partition` comes.
fn batch_of(source: &mut KafkaSource, partition: i32) -> RawBatch {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        if let Poll::Batch(batch) = source.poll(Duration::from_millis(100)).expect("polls")
            && batch.partition == partition
        {
            return batch;
        }
    }
    panic!("no batch of partition {partition}");
}

#[test]
fn the_end_is_reached_behind_control_records_and_aborted_transactions() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 4);
    topic.send(&topic.producer(false), 0, 10, "plain");
    topic.send(&topic.producer(false), 1, 3, "plain");
    let producer = topic.producer(true);
    producer.init_transactions(SOON).expect("ready");
    producer.begin_transaction().expect("begun");
    topic.send(&producer, 0, 5, "kept");
    producer.commit_transaction(SOON).expect("committed");
    producer.begin_transaction().expect("begun");
    topic.send(&producer, 0, 7, "dropped");
    topic.send(&producer, 3, 2, "dropped");
    producer.abort_transaction(SOON).expect("aborted");

    let (all, next) = read(&mut topic.open(&options()));
    // Ten records, five and a marker, seven and a marker; three records; nothing; two and a marker.
    assert_eq!(next, Offsets::from([(0, 24), (1, 3), (2, 0), (3, 3)]));
    let plain = (0..10).map(|i| (i, format!("plain{i}")));
    let kept = (0..5).map(|i| (10 + i, format!("kept{i}")));
    assert_eq!(all[&0], plain.chain(kept).collect::<Vec<_>>());
    assert_eq!((all[&1].len(), all.len()), (3, 2));

    let mut again = topic.open(&saved(next.clone()));
    assert!(matches!(again.poll(Duration::ZERO), Ok(Poll::End)), "nothing is new");
    assert_eq!(again.start(), next);

    // An open transaction is beyond the end as it stands; what comes later is beyond it too.
    producer.begin_transaction().expect("begun");
    topic.send(&producer, 1, 4, "open");
    let mut source = topic.open(&saved(next.clone()));
    assert_eq!(source.ends(), next);
    assert!(matches!(source.poll(Duration::ZERO), Ok(Poll::End)));
    producer.commit_transaction(SOON).expect("committed");
    let (all, next) = read(&mut topic.open(&saved(next)));
    assert_eq!(all[&1].iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [3, 4, 5, 6]);
    assert_eq!(next[&1], 8);
}

#[test]
fn a_following_source_passes_markers_and_finds_new_partitions() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 1);
    let mut source = topic.open(&OpenOptions { follow: true, ..options() });
    let producer = topic.producer(true);
    producer.init_transactions(SOON).expect("ready");
    producer.begin_transaction().expect("begun");
    topic.send(&producer, 0, 2, "dropped");
    producer.abort_transaction(SOON).expect("aborted");
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < SOON, "the markers are passed");
        match source.poll(Duration::from_millis(100)).expect("polls") {
            Poll::Advanced { partition: 0, next: 3 } => break,
            Poll::Idle => {}
            other => panic!("{other:?}"),
        }
    }
    let more = [NewPartitions::new(&topic.name, 3)];
    block_on(topic.admin.create_partitions(&more, &AdminOptions::new())).expect("made");
    let plain = topic.producer(false);
    topic.send(&plain, 2, 1_000, "new");
    let batch = batch_of(&mut source, 2);
    assert_eq!(values(&batch).next(), Some((0, "new0".to_owned())));
    topic.send(&plain, 0, 1, "old");
    assert_eq!(values(&batch_of(&mut source, 0)).collect::<Vec<_>>(), [(3, "old0".to_owned())]);
    topic.send(&plain, 1, 1, "also");
    assert_eq!(batch_of(&mut source, 1).next, 1);
}

#[test]
fn positions_outside_of_the_log_are_a_loss() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 2);
    topic.send(&topic.producer(false), 0, 20, "x");
    let text = topic.loss(&saved([(0, 21)]));
    for word in [&*topic.name, "partition 0", "offset 21", "0 to 20", "--accept-loss"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    topic.delete_below(0, 5);
    assert!(topic.loss(&saved([(0, 2)])).contains("5 to 20"));
    let text = topic.loss(&saved([(0, 5), (7, 3)]));
    assert!(text.contains("partition 7"), "{text}");
    for (offset, goes_on) in [(2, 5), (21, 20)] {
        let options = OpenOptions { accept_loss: true, ..saved([(0, offset), (7, 3)]) };
        assert_eq!(topic.open(&options).start(), Offsets::from([(0, goes_on), (1, 0)]));
    }
}

#[test]
fn records_that_are_deleted_while_they_are_read_are_a_loss() {
    let Some(brokers) = brokers() else { return };
    for accept_loss in [false, true] {
        let topic = Topic::new(&brokers, 1);
        let filler = "x".repeat(10_000);
        topic.send(&topic.producer(false), 0, 2_000, &filler);
        let mut spec = topic.spec();
        // Small buffers, so that nearly all is still to be fetched when it is deleted.
        for option in ["queued.max.messages.kbytes", "queued.min.messages"] {
            spec.options.insert(option.into(), "10".into());
        }
        spec.options.insert("fetch.message.max.bytes".into(), "20000".into());
        spec.options.insert("fetch.max.bytes".into(), "1000000".into());
        let mut source =
            KafkaSource::open(&spec, &OpenOptions { accept_loss, ..options() }).expect("opens");
        topic.delete_below(0, 1_990);
        if accept_loss {
            let (all, next) = read(&mut source);
            assert!(
                all[&0].len() < 2_000 && all[&0].ends_with(&[(1_999, format!("{filler}1999"))])
            );
            assert_eq!(next, Offsets::from([(0, 2_000)]));
            continue;
        }
        let begun = Instant::now();
        let text = loop {
            assert!(begun.elapsed() < SOON);
            match source.poll(Duration::from_millis(100)) {
                Ok(Poll::End) => panic!("the end, with records lost"),
                Ok(_) => {}
                Err(SourceError::Loss(text)) => break text,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert!(text.contains("1990 to 2000") && text.contains(&topic.name), "{text}");
    }
}

#[test]
fn keys_null_payloads_timestamps_and_headers_arrive() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 1);
    let producer = topic.producer(false);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("foob") })
        .insert(Header::<&[u8]> { key: "b", value: None });
    let send = |record: BaseRecord<'_, str, str>| {
        producer.send(record.partition(0)).map_err(|(error, _)| error).expect("queued");
    };
    send(BaseRecord::to(&topic.name).key("k").timestamp(1_700_000_000_123));
    send(BaseRecord::to(&topic.name).payload("").headers(headers));
    producer.flush(SOON).expect("delivered");

    let mut source = topic.open(&OpenOptions { headers: true, ..options() });
    let Poll::Batch(batch) = source.poll(SOON).expect("polls") else { panic!("a batch") };
    let [first, second] = batch.records[..] else { panic!("two records: {batch:?}") };
    assert_eq!((batch.get(first.key), batch.get(first.value)), (Some(&b"k"[..]), None));
    assert_eq!((first.timestamp_ms, batch.get(first.headers)), (1_700_000_000_123, None));
    assert_eq!((batch.get(second.key), batch.get(second.value)), (None, Some(&b""[..])));
    assert_eq!(batch.get(second.headers), Some(&br#"[["a","Zm9vYg=="],["b",null]]"#[..]));
    assert_ne!(second.timestamp_ms, NO_TIMESTAMP);
    let Poll::Batch(batch) = topic.open(&options()).poll(SOON).expect("polls") else { panic!() };
    assert_eq!(batch.get(batch.records[1].headers), None, "nobody asked for headers");
}

#[test]
fn a_missing_topic_is_refused_by_name() {
    let Some(brokers) = brokers() else { return };
    let (topic, options) = ("no-such-topic".to_owned(), options());
    let begun = Instant::now();
    let spec = KafkaSpec { brokers, topic, options: BTreeMap::new() };
    match KafkaSource::open(&spec, &options) {
        Err(SourceError::Refused(text)) => assert!(text.contains("no-such-topic"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < options.connect_timeout, "at once, not after trying for long");
}

#[test]
fn a_broker_that_does_not_answer_is_given_up_by_name() {
    // Nothing listens on the port that was just free, and the password is nobody's business.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let brokers = free.local_addr().expect("an address").to_string();
    drop(free);
    let secret = ("ssl.key.password".to_owned(), "hunter2".to_owned());
    let spec = KafkaSpec { brokers, topic: "events".into(), options: BTreeMap::from([secret]) };
    let begun = Instant::now();
    let patience = Duration::from_secs(2);
    match KafkaSource::open(&spec, &OpenOptions { connect_timeout: patience, ..options() }) {
        Err(SourceError::Failed(text)) => {
            assert!(text.contains(&spec.brokers) && text.contains("refused"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let took = begun.elapsed();
    assert!(took >= patience && took < patience * 4, "{took:?}");
}

#[test]
fn options_that_librdkafka_refuses_are_named_without_their_value() {
    for (key, value) in [("no.such.option", "hunter2"), ("fetch.max.bytes", "hunter2")] {
        let options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let spec = KafkaSpec { brokers: "localhost:1".into(), topic: "events".into(), options };
        match KafkaSource::open(&spec, &self::options()) {
            Err(SourceError::Refused(text)) => {
                assert!(text.contains(key) && !text.contains(value), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_group_hears_of_offsets() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 1);
    topic.send(&topic.producer(false), 0, 9, "x");
    let mut spec = topic.spec();
    assert!(OffsetReporter::new(&SourceSpec::Kafka(spec.clone())).expect("fine").is_none());
    spec.options.insert("group.id".into(), topic.name.clone());
    let reporter =
        OffsetReporter::new(&SourceSpec::Kafka(spec)).expect("fine").expect("a reporter");
    let begun = Instant::now();
    reporter.report(&Offsets::from([(0, 7)]));
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits");
    drop(reporter);

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &brokers).set("group.id", &topic.name);
    let reader: BaseConsumer = config.create().expect("a consumer");
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic.name, 0);
        let told = reader.committed_offsets(list, SOON).expect("answered");
        if told.elements()[0].offset() == Offset::Offset(7) {
            break;
        }
        assert!(begun.elapsed() < SOON, "{told:?}");
    }
}
