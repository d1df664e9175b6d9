//! Tells Kafka's consumer group how far a job is, for the tools that watch lag. Nothing is ever read back.
//!
//! *Owns* a client of its own, so that the committer can report while a source reads. Best effort: what fails
//! is warned about once it is known, and nobody waits for it.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use super::kafka_client::{Context, create};
use super::kafka_options::{consumer_config, group};
use super::{Offsets, SourceError};
use crate::job::SourceSpec;

/// Reports offsets of one topic to one consumer group.
pub struct OffsetReporter {
    consumer: BaseConsumer<Context>,
    topic: String,
}

impl std::fmt::Debug for OffsetReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OffsetReporter").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl OffsetReporter {
    /// A reporter where the source is Kafka and its options name a `group.id`; otherwise `None`.
    pub fn new(spec: &SourceSpec) -> Result<Option<OffsetReporter>, SourceError> {
        let SourceSpec::Kafka(kafka) = spec else { return Ok(None) };
        if group(kafka).is_none() {
            return Ok(None);
        }
        let consumer = create(kafka, &consumer_config(kafka)?)?;
        Ok(Some(OffsetReporter { consumer, topic: kafka.topic.clone() }))
    }

    /// Sends the offsets of the next records to read, and returns at once.
    pub fn report(&self, offsets: &Offsets) {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        let added = offsets.iter().try_for_each(|(&partition, &next)| {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(next))
        });
        let sent = added.and_then(|()| self.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = sent {
            warn!(topic = self.topic, %error, "the consumer group was not told the offsets");
        }
        // Hears what became of earlier reports.
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            warn!(topic = self.topic, %error, "trouble with kafka while telling it offsets");
        }
    }
}
