//! What librdkafka is told: the settings that the source's promises rest on, and the options of the job
//! file except those that it may not give.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::super::SourceError;
use crate::job::{KafkaSpec, is_secret_option, refused_option};

/// Settings that exact positions rest on. A job file can't give them.
const FIXED: [(&str, &str); 7] = [
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
];

/// Defaults for reading much at a time, which a job file may change.
const TUNED: [(&str, &str); 8] = [
    ("enable.metrics.push", "false"),
    ("fetch.error.backoff.ms", "100"),
    // With 32 MiB a run was no faster, and took 30 MiB more.
    ("fetch.max.bytes", "4194304"),
    // Without this a full queue rests for a second.
    ("fetch.queue.backoff.ms", "5"),
    // With 64 MiB a run was slower, and took 100 MiB more.
    ("queued.max.messages.kbytes", "8192"),
    // The bound in bytes decides, not this one.
    ("queued.min.messages", "1000000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// A fetch waits for this many bytes, but no longer than the time below.
const FETCH_BYTES_MIN: &str = "65536";
/// Bounds the latency of a following source.
const FETCH_WAIT_MS_MAX: &str = "10";

/// librdkafka assigns partitions only to members of a group; nothing is joined or committed under this
/// name.
const NO_GROUP: &str = "tidewater";

/// The settings of a consumer for `spec`.
pub(super) fn consumer_config(spec: &KafkaSpec) -> Result<ClientConfig, SourceError> {
    check(spec)?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &spec.brokers).set("client.id", "tidewater");
    config.set("group.id", NO_GROUP);
    config.set("fetch.min.bytes", FETCH_BYTES_MIN).set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX);
    for (key, value) in TUNED {
        config.set(key, value);
    }
    for (key, value) in &spec.options {
        config.set(key, value);
    }
    for (key, value) in FIXED {
        config.set(key, value);
    }
    let debug = spec.options.contains_key("debug");
    config.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning });
    Ok(config)
}

/// Lets librdkafka tell of the ids of topics: it does so nowhere but on its debug log.
pub(super) fn hear_of_ids(config: &mut ClientConfig) {
    let asked = config.get("debug").filter(|debug| !debug.is_empty());
    let debug = asked.map_or("metadata".to_owned(), |debug| format!("{debug},metadata"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
}

/// The settings of a consumer that reads one record of each partition.
pub(super) fn little(spec: &KafkaSpec) -> Result<ClientConfig, SourceError> {
    let mut config = consumer_config(spec)?;
    config.set("fetch.message.max.bytes", "65536").set("queued.min.messages", "1");
    config.set("fetch.min.bytes", "1");
    config.remove("max.partition.fetch.bytes");
    Ok(config)
}

/// The consumer group that the job names, if any.
pub(super) fn group(spec: &KafkaSpec) -> Option<&str> {
    spec.options.get("group.id").map(String::as_str).filter(|group| !group.is_empty())
}

/// `text` without any value that the job file gave as an option, but for the plain words of settings.
pub(super) fn without_secrets(spec: &KafkaSpec, text: &str) -> String {
    // What is quoted from these may be a part of the value.
    if ["oauthbearer", "jaas"].iter().any(|word| text.contains(word)) {
        return "an option of SASL was refused by librdkafka".into();
    }
    let hidden = |(key, value): &(&String, &String)| is_secret_option(key) || !is_plain(value);
    let values = spec.options.iter().filter(hidden);
    // A value of several lines is quoted a line at a time.
    let mut values: Vec<&str> =
        values.flat_map(|(_, value)| value.lines().chain([&**value])).collect();
    values.retain(|value| value.len() >= 3);
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values.iter().fold(text.to_owned(), |text, value| text.replace(value, "***"))
}

/// True for a number or a word that librdkafka itself uses in what it says.
fn is_plain(value: &str) -> bool {
    const WORDS: [&str; 13] = [
        "true",
        "false",
        "all",
        "none",
        "https",
        "plaintext",
        "ssl",
        "sasl_plaintext",
        "sasl_ssl",
        "plain",
        "scram-sha-256",
        "scram-sha-512",
        "metadata",
    ];
    value.bytes().all(|byte| byte.is_ascii_digit()) || WORDS.contains(&&*value.to_ascii_lowercase())
}

fn check(spec: &KafkaSpec) -> Result<(), SourceError> {
    let refused = |why: String| Err(SourceError::Refused(format!("topic {}: {why}", spec.topic)));
    if spec.brokers.trim().is_empty() {
        return refused("no brokers are named: `brokers = \"host:port\"`".into());
    }
    if spec.brokers.contains('\0') || spec.topic.contains('\0') || spec.topic.is_empty() {
        return refused(
            "the name of the topic or of its brokers is empty or has a null character".into(),
        );
    }
    for (key, value) in &spec.options {
        if let Some(why) = refused_option(key) {
            return refused(format!("the kafka option `{key}` can't be set: {why}"));
        }
        if key.contains('\0') || value.contains('\0') {
            return refused("a kafka option has a null character".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn spec(options: &[(&str, &str)]) -> KafkaSpec {
        let options: BTreeMap<_, _> =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        KafkaSpec { brokers: "localhost:9092".into(), topic: "events".into(), options }
    }

    #[test]
    fn options_that_load_code_or_move_positions_are_refused() {
        let fixed = FIXED.iter().map(|(key, _)| *key);
        let others =
            ["plugin.library.paths", "ssl.engine.id", " ssl.providers", "SSL.engine.location"];
        for key in fixed.chain(others).chain(["group.protocol", "test.mock.num.brokers"]) {
            match consumer_config(&spec(&[(key, "hidden-value")])) {
                Err(SourceError::Refused(text)) => {
                    assert!(text.contains(key) && text.contains("events"), "{text}");
                    assert!(!text.contains("hidden-value"), "{text}");
                }
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn settings_that_positions_rest_on_are_there() {
        let options = [("fetch.max.bytes", "1000000")];
        let config = consumer_config(&spec(&options)).expect("fine");
        let expected = [
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            ("allow.auto.create.topics", "false"),
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("enable.partition.eof", "true"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.max.bytes", "1000000"),
            ("bootstrap.servers", "localhost:9092"),
        ];
        for (key, value) in expected {
            assert_eq!(config.get(key), Some(value), "{key}");
        }
    }

    #[test]
    fn values_of_options_never_show() {
        let spec = spec(&[("sasl.password", "hunter2"), ("ssl.key.password", "hunter22")]);
        let text = without_secrets(&spec, "failed with hunter22 and hunter2");
        assert_eq!(text, "failed with *** and ***");
        let options =
            [("security.protocol", "SSL"), ("sasl.password", "true"), ("ssl.key.pem", "one\ntwo")];
        let text = without_secrets(&self::spec(&options), "ssl://h:1 is true: two");
        assert_eq!(text, "ssl://h:1 is ***: ***");
        assert!(
            !without_secrets(&spec, "bad sasl.oauthbearer.config at: unter2").contains("unter2")
        );
    }
}
