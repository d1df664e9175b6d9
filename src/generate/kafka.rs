//! Topics in Kafka: a record's key is the user's id, its partition is ours, a deleted user is a null payload.
//!
//! *Owns* the producer. Records get the time at which they are sent: with the times of their events,
//! retention could remove them at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, FromClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::{Record, Topic, World, render};

#[cfg(test)]
mod tests;

/// How long a broker may take for a question, or a topic to appear.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a record may wait for its acknowledgement, in the client's own unit.
const DELIVERY_MS_MAX: &str = "60000";
/// What makes a producer fast, unless the options say otherwise.
const PRODUCER_OPTIONS: [(&str, &str); 8] = [
    ("message.timeout.ms", DELIVERY_MS_MAX),
    ("enable.idempotence", "true"),
    ("linger.ms", "10"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "50000"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "262144"),
    ("compression.type", "lz4"),
];
/// How long to wait for room in the producer's queue.
const ROOM_TIMEOUT: Duration = Duration::from_millis(100);
/// Records between two looks at what the client reports.
const POLL_RECORDS: u64 = 10_000;

/// Where the topics are.
#[derive(Clone)]
pub struct Connection {
    pub brokers: String,
    pub events_topic: String,
    pub users_topic: String,
    /// Options for librdkafka, in the order in which they were given.
    pub options: Vec<(String, String)>,
}

/// Why records can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum KafkaTargetError {
    #[error("the options for the brokers {brokers} are refused")]
    Options { brokers: String, source: KafkaError },
    #[error("no answer from the brokers {brokers}: {reason}")]
    Unreachable { brokers: String, reason: String },
    #[error("topic {topic} doesn't exist; make it with --create-topics")]
    NoTopic { topic: String },
    #[error("topic {topic} has {found} partitions, not {wanted}; say so, or choose another topic")]
    Partitions { topic: String, found: usize, wanted: u32 },
    #[error("topic {topic} can't be created: {reason}")]
    Create { topic: String, reason: String },
    #[error("topic {topic}: a record can't be sent")]
    Send { topic: String, source: KafkaError },
    #[error("{failed} records were not delivered; the first: {first}")]
    Delivery { failed: u64, first: String },
    #[error("the brokers {brokers} left {waiting} records unacknowledged: {reason}")]
    Flush { brokers: String, waiting: i32, reason: String },
}

/// The topics, and the producer that fills them.
pub struct Kafka {
    connection: Connection,
    producer: BaseProducer<Deliveries>,
    sent: u64,
}

/// What the client reports in passing.
#[derive(Debug, Default)]
struct Deliveries {
    failed: AtomicU64,
    first: Mutex<Option<String>>,
    /// The latest trouble with a broker.
    trouble: Mutex<Option<String>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.options.iter().map(|(name, _)| name).collect();
        f.debug_struct("Connection")
            .field("brokers", &self.brokers)
            .field("events_topic", &self.events_topic)
            .field("users_topic", &self.users_topic)
            .field("options", &names)
            .finish()
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("connection", &self.connection)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, _: &str, message: &str) {
        tracing::debug!(message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = Some(format!("{error}: {reason}"));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else {
            return;
        };
        if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            *first = Some(format!(
                "topic {}, partition {}: {error}",
                message.topic(),
                message.partition()
            ));
        }
    }
}

impl Deliveries {
    /// An error together with the latest trouble, which is often its cause.
    fn explain(&self, error: &KafkaError) -> String {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &*trouble {
            Some(text) => format!("{error} ({text})"),
            None => error.to_string(),
        }
    }
}

impl Connection {
    /// The options that were given, over `defaults`.
    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for &(name, value) in defaults {
            config.set(name, value);
        }
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config
    }

    fn refused(&self, source: KafkaError) -> KafkaTargetError {
        KafkaTargetError::Options { brokers: self.brokers.clone(), source }
    }

    /// Creates both topics, the users' one compacted. One that exists already is left as it is.
    pub fn create_topics(&self, world: &World, replication: i32) -> Result<(), KafkaTargetError> {
        let admin: AdminClient<DefaultClientContext> =
            AdminClient::from_config(&self.config(&[])).map_err(|error| self.refused(error))?;
        let new = |name, partitions| {
            NewTopic::new(name, partitions as i32, TopicReplication::Fixed(replication))
        };
        let topics = [
            new(&self.events_topic, world.partitions).set("retention.ms", "-1"),
            new(&self.users_topic, world.user_partitions).set("cleanup.policy", "compact"),
        ];
        let options = AdminOptions::new()
            .request_timeout(Some(ANSWER_TIMEOUT))
            .operation_timeout(Some(ANSWER_TIMEOUT));
        let results = futures::executor::block_on(admin.create_topics(&topics, &options));
        let results = results.map_err(|source| KafkaTargetError::Unreachable {
            brokers: self.brokers.clone(),
            reason: source.to_string(),
        })?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(KafkaTargetError::Create { topic, reason: code.to_string() });
                }
            }
        }
        Ok(())
    }
}

impl Kafka {
    /// Connects a producer and checks that both topics are there with the partitions of the world.
    pub fn open(connection: Connection, world: &World) -> Result<Kafka, KafkaTargetError> {
        let mut config = connection.config(&PRODUCER_OPTIONS);
        config.set("delivery.report.only.error", "true");
        let created = config.create_with_context(Deliveries::default());
        let producer: BaseProducer<Deliveries> =
            created.map_err(|error| connection.refused(error))?;
        let kafka = Kafka { connection, producer, sent: 0 };
        kafka.check(&kafka.connection.events_topic, world.partitions)?;
        kafka.check(&kafka.connection.users_topic, world.user_partitions)?;
        Ok(kafka)
    }

    /// Checks one topic. All topics are asked for, since asking for one may create it.
    fn check(&self, topic: &str, wanted: u32) -> Result<(), KafkaTargetError> {
        let metadata =
            self.producer.client().fetch_metadata(None, ANSWER_TIMEOUT).map_err(|source| {
                self.producer.poll(Duration::ZERO);
                KafkaTargetError::Unreachable {
                    brokers: self.connection.brokers.clone(),
                    reason: self.producer.context().explain(&source),
                }
            })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.map(|found| found.partitions().len()).unwrap_or_default();
        match found {
            0 => Err(KafkaTargetError::NoTopic { topic: topic.to_owned() }),
            _ if found != wanted as usize => {
                Err(KafkaTargetError::Partitions { topic: topic.to_owned(), found, wanted })
            }
            _ => Ok(()),
        }
    }

    /// Hands a record to the producer; waits where its queue is full.
    pub fn write(&mut self, record: &Record<'_>) -> Result<(), KafkaTargetError> {
        let topic = match record.topic {
            Topic::Events => &self.connection.events_topic,
            Topic::Users => &self.connection.users_topic,
        };
        let mut key = [0; render::USER_ID_BYTES];
        render::user_id(record.user, &mut key);
        let mut message: BaseRecord<'_, [u8; render::USER_ID_BYTES], [u8]> =
            BaseRecord::to(topic).partition(record.partition as i32).key(&key);
        if !record.tombstone {
            message = message.payload(record.value);
        }
        while let Err((error, refused)) = self.producer.send(message) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(KafkaTargetError::Send { topic: topic.clone(), source: error });
            }
            self.producer.poll(ROOM_TIMEOUT);
            self.delivered()?;
            message = refused;
        }
        self.sent += 1;
        if self.sent.is_multiple_of(POLL_RECORDS) {
            self.producer.poll(Duration::ZERO);
            self.delivered()?;
        }
        Ok(())
    }

    /// Waits until every record was acknowledged.
    pub fn flush(&mut self) -> Result<(), KafkaTargetError> {
        let flushed = self.producer.flush(Duration::from_secs(120));
        self.delivered()?;
        flushed.map_err(|source| KafkaTargetError::Flush {
            brokers: self.connection.brokers.clone(),
            waiting: self.producer.in_flight_count(),
            reason: self.producer.context().explain(&source),
        })
    }

    fn delivered(&self) -> Result<(), KafkaTargetError> {
        let context = self.producer.context();
        let failed = context.failed.load(Ordering::Relaxed);
        if failed == 0 {
            return Ok(());
        }
        let first = context.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(KafkaTargetError::Delivery { failed, first: first.unwrap_or_default() })
    }
}
