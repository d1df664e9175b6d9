//! What librdkafka says while it works: log lines, errors, and the ids of topics.
//!
//! *Owns* the last error that was reported, and the id of the topic. It retries by itself and for ever; what
//! it says meanwhile arrives as events on the consumer's queue. Option values never show: every text of
//! librdkafka is cleaned of them.

use std::sync::{Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, warn};

use super::options::without_secrets;
use crate::job::KafkaSpec;

/// Hears what librdkafka has to say.
pub(super) struct Context {
    spec: KafkaSpec,
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// The id of the topic, and the one that it has got since.
    ids: Mutex<(Option<String>, Option<String>)>,
}

impl Context {
    pub(super) fn new(spec: &KafkaSpec) -> Context {
        Context { spec: spec.clone(), last: Mutex::default(), ids: Mutex::default() }
    }

    /// The ids of the topic before and now, once, if it was made again.
    pub(super) fn changed_id(&self) -> Option<(String, String)> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let now = ids.1.take()?;
        Some((ids.0.replace(now.clone())?, now))
    }

    /// The id of the topic, as far as it is known.
    pub(super) fn id(&self) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Another client has met the topic with this id.
    pub(super) fn know_id(&self, id: Option<String>) {
        let Some(id) = id else { return };
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = ids.0.replace(id.clone()).filter(|heard| *heard != id) {
            ids.1 = Some(heard);
        }
    }

    /// Takes note of an id of the topic.
    fn hear_of_id(&self, message: &str) {
        let Some(id) = new_id(message, &self.spec.topic) else { return };
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *ids {
            (Some(known), _) if known == id => {}
            (Some(_), changed) => *changed = Some(id.to_owned()),
            (unknown, _) => *unknown = Some(id.to_owned()),
        }
    }

    /// The error that was reported last, with its reason.
    pub(super) fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.hear_of_id(message);
        let message = without_secrets(&self.spec, message);
        // Errors arrive as events too, and those are what people hear of.
        if level as i32 <= RDKafkaLogLevel::Critical as i32 {
            warn!(facility, message, "librdkafka");
        } else {
            debug!(facility, message, "librdkafka");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down comes after the reason, and says less.
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, without_secrets(&self.spec, reason)));
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            warn!(topic = self.spec.topic, %error, "the consumer group was not told the offsets");
        }
    }
}

/// The id in a message of librdkafka that says that `topic` has got one. No setting makes it tell ids in
/// another way; a test with a real broker knows when these words change.
fn new_id<'m>(message: &'m str, topic: &str) -> Option<&'m str> {
    let (_, said) = message.split_once("Topic ")?;
    let (_, id) =
        said.strip_prefix(topic)?.strip_prefix(" changed id from ")?.split_once(" to ")?;
    let id = id.trim();
    // Brokers that know no ids give zeros.
    id.bytes().any(|byte| byte != b'A').then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_heard_of_the_topic_alone() {
        let said =
            "[thrd:main]: Topic events changed id from AAAAAAAAAAAAAAAAAAAAAA to 7bqJ_2C_QnKA0EB1y";
        assert_eq!(new_id(said, "events"), Some("7bqJ_2C_QnKA0EB1y"));
        assert_eq!(new_id(said, "event"), None);
        assert_eq!(
            new_id("Topic events changed id from x to AAAAAAAAAAAAAAAAAAAAAA", "events"),
            None
        );
        assert_eq!(new_id("Topic events [0] Leader 1 Epoch 0", "events"), None);
    }

    #[test]
    fn the_second_id_is_a_change() {
        let (brokers, topic) = ("h:1".to_owned(), "t".to_owned());
        let spec = KafkaSpec { brokers, topic, options: Default::default() };
        let context = Context::new(&spec);
        let hear = |id: &str| context.hear_of_id(&format!("Topic t changed id from x to {id}"));
        hear("one");
        hear("one");
        assert_eq!(context.changed_id(), None);
        hear("two");
        assert_eq!(context.changed_id(), Some(("one".into(), "two".into())));
        assert_eq!(context.changed_id(), None, "told once");
        hear("three");
        assert_eq!(context.changed_id(), Some(("two".into(), "three".into())));
    }
}
