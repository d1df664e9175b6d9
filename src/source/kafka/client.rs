//! The connection to Kafka: questions with retries for a bounded time, and errors in our words.
//!
//! *Owns* the consumer. *Does not own* positions, nor what librdkafka says meanwhile ([`Context`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::warn;

use super::super::{Offsets, SourceError};
use super::context::Context;
use super::options::without_secrets;
use crate::job::KafkaSpec;

/// One try of a question.
const TRY: Duration = Duration::from_secs(2);
/// The rest between two tries.
const REST: Duration = Duration::from_millis(200);
/// A try and the rest after it never count for more: that is time in which this process was stopped.
const TURN_MAX: Duration = Duration::from_secs(10);
/// How often people hear that a broker does not answer.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A consumer of one topic.
pub(super) struct Client {
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) topic: Arc<str>,
    spec: KafkaSpec,
    config: ClientConfig,
    /// Partitions are assigned: events are for the reader, not for questions.
    reading: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(spec: &KafkaSpec, config: &ClientConfig) -> Result<Client, SourceError> {
        Ok(Client {
            consumer: create(spec, config)?,
            topic: spec.topic.as_str().into(),
            spec: spec.clone(),
            config: config.clone(),
            reading: false,
        })
    }

    /// Another client in the place of this one, which knows what this one knows of the topic.
    pub(super) fn anew(&self) -> Result<Client, SourceError> {
        let client = Client::new(&self.spec, &self.config)?;
        client.consumer.context().know_id(self.consumer.context().id());
        Ok(client)
    }

    /// Reads the partitions of `list` from the offsets given there, and no others.
    pub(super) fn assign(&mut self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        self.reading = true;
        self.consumer.assign(list)
    }

    /// The number of the topic's Kafka partitions.
    pub(super) fn partition_count(&self, timeout: Duration) -> Result<i32, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), timeout)?;
        let Some(topic) = metadata.topics().first() else {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic));
        };
        if let Some(error) = topic.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        match topic.partitions().len() {
            0 => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable)),
            count => Ok(count as i32),
        }
    }

    /// The first offsets of the first `count` partitions, and those behind their last stable records.
    pub(super) fn limits(
        &self,
        count: i32,
        timeout: Duration,
    ) -> Result<(Offsets, Offsets), KafkaError> {
        Ok((
            self.limit(0, count, Offset::Beginning, timeout)?,
            self.limit(0, count, Offset::End, timeout)?,
        ))
    }

    /// One limit of the partitions `[from, to)`, all in one question.
    pub(super) fn limit(
        &self,
        from: i32,
        to: i32,
        which: Offset,
        timeout: Duration,
    ) -> Result<Offsets, KafkaError> {
        // librdkafka takes an empty question for an error.
        if from == to {
            return Ok(Offsets::new());
        }
        let mut list = TopicPartitionList::with_capacity((to - from) as usize);
        for partition in from..to {
            list.add_partition_offset(&self.topic, partition, which)?;
        }
        let mut limits = Offsets::new();
        for element in self.consumer.offsets_for_times(list, timeout)?.elements() {
            element.error()?;
            match element.offset() {
                Offset::Offset(offset) => limits.insert(element.partition(), offset),
                _ => return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)),
            };
        }
        Ok(limits)
    }

    /// The positions that librdkafka has reached: behind the last message that was handed out, or behind
    /// control records that were passed since.
    pub(super) fn positions(&self) -> Offsets {
        let Ok(list) = self.consumer.position() else { return Offsets::new() };
        let reached = list.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        reached.collect()
    }

    /// Asks until there is an answer, a refusal, or `patience` is over.
    pub(super) fn ask<T>(
        &self,
        patience: Duration,
        question: impl Fn(Duration) -> Result<T, KafkaError>,
    ) -> Result<T, SourceError> {
        let mut waited = Duration::ZERO;
        let mut told: Option<Instant> = None;
        loop {
            let (begun, left) = (Instant::now(), patience.saturating_sub(waited));
            let error = match question(TRY.min(left).max(Duration::from_millis(50))) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.refuse(code)?;
            self.rest(REST.min(left))?;
            waited += begun.elapsed().min(TURN_MAX);
            let left = patience.saturating_sub(waited);
            if left.is_zero() {
                return Err(self.gave_up(waited, &describe(code)));
            }
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                let (topic, brokers) = (&self.spec.topic, &self.spec.brokers);
                let error = self.last_error().unwrap_or_else(|| describe(code));
                warn!(
                    topic,
                    brokers,
                    error,
                    seconds_left = left.as_secs(),
                    "no answer yet, trying again"
                );
            }
        }
    }

    /// Rests between two tries. Before anything is read, the events that come meanwhile are heard: they
    /// tell what librdkafka fails at.
    #[allow(clippy::disallowed_methods, reason = "a source has a thread of its own and may block")]
    fn rest(&self, time: Duration) -> Result<(), SourceError> {
        if self.reading {
            std::thread::sleep(time);
            return Ok(());
        }
        let begun = Instant::now();
        while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            if let Some(Err(error)) = self.consumer.poll(left) {
                self.refuse(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))?;
            }
        }
        Ok(())
    }

    /// The ids of the topic before and now, once, if it was made again since the client was.
    pub(super) fn changed_id(&self) -> Option<(String, String)> {
        self.consumer.context().changed_id()
    }

    /// What librdkafka said last, if it said anything.
    pub(super) fn last_error(&self) -> Option<String> {
        self.consumer.context().last().map(|(_, reason)| reason)
    }

    /// The error of brokers that stay away.
    pub(super) fn gave_up(&self, after: Duration, error: &str) -> SourceError {
        let KafkaSpec { brokers, topic, .. } = &self.spec;
        let error = self.last_error().unwrap_or_else(|| error.to_owned());
        SourceError::Failed(format!(
            "topic {topic}: brokers {brokers} did not answer for {:.1} s, the last error was: {error}; {}",
            after.as_secs_f64(),
            self.what_to_check()
        ))
    }

    /// What to look at where no connection comes about: librdkafka knows little of the reasons.
    fn what_to_check(&self) -> &'static str {
        let protocol = self.spec.options.get("security.protocol");
        match protocol.is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl")) {
            true => {
                "check that they run, that this port speaks what `security.protocol` says, whom \
                 `ssl.ca.location` trusts, and, where they ask for a certificate of the client, \
                 `ssl.certificate.location` and `ssl.key.location`, or `ssl.keystore.location`"
            }
            false => "check that they run, and that this port speaks what `security.protocol` says",
        }
    }

    /// An error where `code` says that waiting won't help.
    pub(super) fn refuse(&self, code: RDKafkaErrorCode) -> Result<(), SourceError> {
        use RDKafkaErrorCode as Code;
        let KafkaSpec { brokers, topic, .. } = &self.spec;
        Err(SourceError::Refused(match code {
            Code::UnknownTopic | Code::UnknownTopicOrPartition => format!(
                "topic {topic} does not exist at brokers {brokers}: make it, or correct the job's `topic`"
            ),
            Code::InvalidTopic => {
                format!("topic {topic} is no valid name of a topic: correct the job's `topic`")
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => format!(
                "topic {topic}: brokers {brokers} refuse to let this user read it ({}): grant READ and \
                 DESCRIBE on the topic",
                describe(code)
            ),
            Code::Authentication | Code::SaslAuthenticationFailed => format!(
                "topic {topic}: brokers {brokers} refuse the credentials of the job's kafka options ({}): \
                 check `sasl.mechanism`, `sasl.username` and `sasl.password`",
                self.last_error().unwrap_or_else(|| describe(code))
            ),
            _ => return Ok(()),
        }))
    }
}

/// Makes a consumer; errors name the option, never its value.
pub(super) fn create(
    spec: &KafkaSpec,
    config: &ClientConfig,
) -> Result<BaseConsumer<Context>, SourceError> {
    config.create_with_context(Context::new(spec)).map_err(|error| {
        let why = match error {
            KafkaError::ClientConfig(_, _, key, _) => {
                format!("librdkafka does not know the kafka option `{key}` or refuses its value")
            }
            KafkaError::ClientCreation(text) => without_secrets(spec, &text),
            other => without_secrets(spec, &other.to_string()),
        };
        SourceError::Refused(format!("topic {}: can't set up the connection: {why}", spec.topic))
    })
}

/// The words of an error code.
pub(super) fn describe(code: RDKafkaErrorCode) -> String {
    code.to_string()
}
