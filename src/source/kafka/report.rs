//! Tells Kafka's consumer group how far a job is, for the tools that watch lag. Nothing is ever read back.
//!
//! *Owns* a client of its own, so that the committer can report while a source reads. Best effort: what fails
//! is warned about once it is known, and nobody waits for it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use super::super::{Offsets, SourceError};
use super::client::create;
use super::context::Context;
use super::options::{consumer_config, group};
use crate::job::SourceSpec;

/// How long the last report may take to leave when a reporter is dropped.
const LEAVE: Duration = Duration::from_secs(1);

/// Reports offsets of one topic to one consumer group.
pub struct OffsetReporter {
    /// Taken only when the reporter is dropped.
    consumer: Option<BaseConsumer<Context>>,
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
        Ok(Some(OffsetReporter { consumer: Some(consumer), topic: kafka.topic.clone() }))
    }

    /// Sends the offsets of the next records to read, and returns at once.
    pub fn report(&self, offsets: &Offsets) {
        let Some(consumer) = &self.consumer else { return };
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        let added = offsets.iter().try_for_each(|(&partition, &next)| {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(next))
        });
        let sent = added.and_then(|()| consumer.commit(&list, CommitMode::Async));
        if let Err(error) = sent {
            warn!(topic = self.topic, %error, "the consumer group was not told the offsets");
        }
        // Hears what became of earlier reports.
        if let Some(Err(error)) = consumer.poll(Duration::ZERO) {
            warn!(topic = self.topic, %error, "trouble with kafka while telling it offsets");
        }
    }
}

impl Drop for OffsetReporter {
    /// Closing waits for answers, which a broker that hangs gives late or never: another thread does that.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let (closed, wait) = mpsc::sync_channel::<()>(1);
        thread::spawn(move || {
            drop(consumer);
            drop(closed);
        });
        if wait.recv_timeout(LEAVE) == Err(mpsc::RecvTimeoutError::Timeout) {
            warn!(topic = self.topic, "kafka does not answer: the consumer group may lag behind");
        }
    }
}
