//! The broker of the tests: topics, producers, and what a topic holds, read without tidewater.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::json;

use super::super::running::await_true;

/// The broker answers within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Partition to the offset of the next record.
pub type Offsets = BTreeMap<i32, i64>;

/// A record to send; without a value it is a tombstone.
#[derive(Debug, Clone)]
pub struct Sent {
    pub topic: String,
    pub partition: i32,
    pub key: String,
    pub value: Option<String>,
}

/// A broker that runs already.
pub struct Broker {
    pub address: String,
    admin: AdminClient<DefaultClientContext>,
}

/// A name that no other test and no other run of this one uses.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4())
}

impl Broker {
    /// The broker at `TIDEWATER_KAFKA`. Without one the test is skipped and says so, except in CI.
    pub fn connect() -> Option<Broker> {
        let address = std::env::var("TIDEWATER_KAFKA").ok().filter(|address| !address.is_empty());
        let Some(address) = address else {
            let ci = std::env::var("CI").as_deref() == Ok("true");
            assert!(!ci, "TIDEWATER_KAFKA is not set: eval \"$(scripts/kafka env)\"");
            eprintln!("skipped: TIDEWATER_KAFKA is not set (scripts/kafka start)");
            return None;
        };
        Some(Broker::at(address))
    }

    /// The broker at an address.
    pub fn at(address: String) -> Broker {
        let admin = ClientConfig::new().set("bootstrap.servers", &address).create().unwrap();
        Broker { address, admin }
    }

    /// Makes a topic, and waits until one of that name that was deleted is gone.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        await_true("a new topic", || {
            let made = block_on(self.admin.create_topics([&new], &AdminOptions::new())).unwrap();
            made.iter().all(Result::is_ok)
        });
        await_true("the partitions of a new topic", || self.partitions(topic) == partitions);
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        block_on(self.admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
        await_true("the end of a topic", || self.partitions(topic) == 0);
    }

    /// Deletes the records of a partition below an offset.
    pub fn delete_below(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        block_on(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    fn partitions(&self, topic: &str) -> i32 {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32)
    }

    /// The ends of a topic's partitions.
    pub fn ends(&self, topic: &str) -> Offsets {
        let end =
            |partition| self.admin.inner().fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        (0..self.partitions(topic)).map(|partition| (partition, end(partition))).collect()
    }

    /// A producer; with a name, one of transactions.
    pub fn producer(&self, transactional: Option<&str>) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("linger.ms", "1");
        if let Some(name) = transactional {
            config.set("transactional.id", name);
        }
        let producer: BaseProducer = config.create().unwrap();
        if transactional.is_some() {
            producer.init_transactions(PATIENCE).unwrap();
        }
        producer
    }

    /// Reads the committed records of a topic from `from` to its end as it stands.
    fn read(
        &self,
        topic: &str,
        from: &Offsets,
        mut take: impl FnMut(i32, i64, Option<&[u8]>, Option<&[u8]>),
    ) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("group.id", "tidewater-tests")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let partitions = self.partitions(topic);
        for partition in 0..partitions {
            let offset = from.get(&partition).copied().unwrap_or(0);
            list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut open = partitions;
        while open > 0 {
            match consumer.poll(PATIENCE).expect("records or the ends of partitions") {
                Ok(record) => {
                    take(record.partition(), record.offset(), record.key(), record.payload());
                }
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => panic!("{topic}: {error}"),
            }
        }
    }

    /// The number of records that a topic still holds.
    pub fn count(&self, topic: &str) -> i64 {
        let mut records = 0;
        self.read(topic, &Offsets::new(), |_, _, _, _| records += 1);
        records
    }

    /// Writes the records of a topic from `from` on: `folder/topic/N.jsonl` has the lines of partition N,
    /// and `N.offsets` the byte at which each line begins with the record's offset. A tombstone is written
    /// as the deletion that it means. Gives the ends.
    pub fn dump(&self, topic: &str, from: &Offsets, folder: &Path) -> Offsets {
        let folder = folder.join(topic);
        fs::create_dir_all(&folder).unwrap();
        let ends = self.ends(topic);
        let file = |partition: &i32, kind: &str| {
            let path = folder.join(format!("{partition}.{kind}"));
            BufWriter::new(File::create(path).unwrap())
        };
        let mut files: Vec<_> =
            ends.keys().map(|number| (file(number, "jsonl"), file(number, "offsets"), 0)).collect();
        self.read(topic, from, |partition, offset, key, value| {
            let (lines, offsets, at) = &mut files[partition as usize];
            let tombstone = || {
                let key = std::str::from_utf8(key.expect("a tombstone has a key")).unwrap();
                json!({ "user_id": key, "deleted": true }).to_string().into_bytes()
            };
            let line = value.map_or_else(tombstone, <[u8]>::to_vec);
            assert!(!line.contains(&b'\n'), "a value of one line");
            writeln!(offsets, "{at},{offset}").unwrap();
            lines.write_all(&line).unwrap();
            lines.write_all(b"\n").unwrap();
            *at += line.len() + 1;
        });
        for (mut lines, mut offsets, _) in files {
            lines.flush().unwrap();
            offsets.flush().unwrap();
        }
        ends
    }
}

/// Sends records and waits until all are acknowledged.
pub fn send(producer: &BaseProducer, records: &[Sent]) {
    for record in records {
        let mut message =
            BaseRecord::to(&record.topic).partition(record.partition).key(&record.key);
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        producer.send(message).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Sends records in a transaction, and commits or aborts it.
pub fn transaction(producer: &BaseProducer, records: &[Sent], commit: bool) {
    producer.begin_transaction().unwrap();
    send(producer, records);
    if commit {
        producer.commit_transaction(PATIENCE).unwrap();
    } else {
        producer.abort_transaction(PATIENCE).unwrap();
    }
}
