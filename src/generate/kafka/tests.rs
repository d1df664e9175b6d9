//! Against librdkafka's mock broker: what arrives, and what a wrong topic is called.

use super::*;
use crate::generate::{Round, Shares, Stream, target};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};

fn world() -> World {
    World { seed: 3, users: 60, regions: 3, unknown_users: 0.0, partitions: 3, user_partitions: 2 }
}

fn connection(brokers: String) -> Connection {
    let (events_topic, users_topic) = ("clicks".to_owned(), "people".to_owned());
    Connection { brokers, events_topic, users_topic, options: Vec::new() }
}

/// All of a topic: (partition, key, payload).
fn read(brokers: &str, topic: &str, parts: i32) -> Vec<(i32, Vec<u8>, Option<Vec<u8>>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..parts {
        let offsets = consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT).unwrap();
        left += offsets.1 - offsets.0;
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    (0..left)
        .map(|_| {
            let message = consumer.poll(ANSWER_TIMEOUT).unwrap().unwrap();
            let key = message.key().unwrap().to_vec();
            (message.partition(), key, message.payload().map(<[u8]>::to_vec))
        })
        .collect()
}

#[test]
fn records_arrive_with_key_partition_and_tombstones() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("clicks", 3, 1).unwrap();
    cluster.create_topic("people", 2, 1).unwrap();
    let round = Round {
        seed: 3,
        events: 2_000,
        moves: 5,
        plan_changes: 0,
        deletes: 4,
        start_ms: 1_767_225_600_000,
        duration_ms: 86_400_000,
        skew: 0,
        shares: Shares { across: 0.0, malformed: 0.0, ..Shares::default() },
    };
    let brokers = cluster.bootstrap_servers();
    let kafka = Kafka::open(connection(brokers.clone()), &world()).unwrap();
    let mut stream = Stream::new(&world(), &[], &round);
    target::run(&mut stream, &mut target::Target::Kafka(kafka), None, |_| {}).unwrap();

    let events = read(&brokers, "clicks", 3);
    assert_eq!(events.len() as u64, stream.counts().records);
    for (partition, key, payload) in &events {
        let user = [b"\"user_id\":\"", key.as_slice(), b"\""].concat();
        assert!(memchr::memmem::find(payload.as_ref().unwrap(), &user).is_some());
        let hash = crate::generate::users::murmur2(key) & 0x7fff_ffff;
        assert_eq!(*partition as u32, hash % 3);
    }
    let users = read(&brokers, "people", 2);
    let tombstones = users.iter().filter(|(_, _, payload)| payload.is_none()).count();
    assert_eq!((users.len() as u64, tombstones), (stream.counts().user_records, 4));
}

#[test]
fn a_topic_that_is_missing_or_has_other_partitions_is_named() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("clicks", 5, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let error = Kafka::open(connection(brokers.clone()), &world()).unwrap_err();
    assert!(error.to_string().contains("topic clicks has 5 partitions, not 3"), "{error}");
    let other = Connection { events_topic: "clocks".to_owned(), ..connection(brokers) };
    let error = Kafka::open(other, &world()).unwrap_err();
    assert!(error.to_string().contains("topic clocks doesn't exist"), "{error}");
}
