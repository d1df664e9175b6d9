//! Options of librdkafka that a job file can't set, and why; which options hold secrets.
//!
//! A job file is data: it must not load code into the process or start programs, and it must not change how
//! positions are kept.

/// Options by name, and why a job file can't set them.
const REFUSED: &[(&str, &str)] = &[
    ("plugin.library.paths", LOADS_CODE),
    ("sasl.kerberos.keytab", LOADS_CODE),
    ("sasl.kerberos.kinit.cmd", LOADS_CODE),
    ("sasl.kerberos.principal", LOADS_CODE),
    ("ssl.engine.id", LOADS_CODE),
    ("ssl.engine.location", LOADS_CODE),
    ("ssl.providers", LOADS_CODE),
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("auto.commit.enable", OFFSETS),
    ("auto.commit.interval.ms", OFFSETS),
    ("auto.offset.reset", OFFSETS),
    ("enable.auto.commit", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("offset.store.method", OFFSETS),
    ("offset.store.path", OFFSETS),
    ("offset.store.sync.interval.ms", OFFSETS),
    ("group.instance.id", GROUP),
    ("group.protocol", GROUP),
    ("group.protocol.type", GROUP),
    ("group.remote.assignor", GROUP),
    ("partition.assignment.strategy", GROUP),
    ("allow.auto.create.topics", "a misspelt topic must be an error, not a new topic"),
    ("check.crcs", "checksums are always verified"),
    ("enable.partition.eof", "tidewater sets it where it needs the end of a partition"),
    ("isolation.level", "only committed records are read, or answers would not be exact"),
    ("log.queue", "what librdkafka says is heard by tidewater"),
    ("topic.blacklist", "a topic that is to be read can't be hidden"),
];
const LOADS_CODE: &str = "a job file must not load or start other programs";
const BROKERS: &str = "write the brokers as `brokers` of the source";
const OFFSETS: &str =
    "offsets are committed with the tables, never by Kafka, or answers would not be exact";
const GROUP: &str = "no consumer group is joined: partitions are assigned by tidewater alone";
const POINTER: &str = "it is a pointer into a program, not a setting";
const MOCK: &str = "it replaces the brokers by made-up ones";

/// Parts of the names of options whose values nobody may see.
const SECRET: [&str; 9] = [
    "password",
    "passphrase",
    "secret",
    "token",
    ".pem",
    "oauthbearer.config",
    "jaas",
    "username",
    "assertion",
];

/// Why a job file can't set the option `name`; `None` where it can.
pub fn refused_option(name: &str) -> Option<&'static str> {
    let plain = name.trim().to_ascii_lowercase();
    let listed = REFUSED.iter().find(|(refused, _)| *refused == plain).map(|(_, why)| *why);
    listed.or_else(|| match () {
        () if plain.starts_with("test.") => Some(MOCK),
        // Among them is one that librdkafka takes from a text and calls.
        () if plain.starts_with("ut_") || plain.ends_with("_cb") => Some(POINTER),
        () if ["opaque", "default_topic_conf", "interceptors"].contains(&&*plain) => Some(POINTER),
        () if plain.starts_with("ssl_") => Some(POINTER),
        () => None,
    })
}

/// True where the value of the option `name` is nobody's business.
pub fn is_secret_option(name: &str) -> bool {
    let plain = name.to_ascii_lowercase();
    SECRET.iter().any(|part| plain.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_code_or_moves_positions_is_refused_however_it_is_written() {
        for name in
            ["plugin.library.paths", " ssl.providers", "SSL.engine.location", "ssl.engine.id"]
        {
            assert_eq!(refused_option(name), Some(LOADS_CODE), "{name}");
        }
        // librdkafka puts these into the command that it starts, without quotes.
        for name in ["kinit.cmd", "principal", "keytab"] {
            assert_eq!(
                refused_option(&format!("sasl.kerberos.{name}")),
                Some(LOADS_CODE),
                "{name}"
            );
        }
        for name in ["ut_handle_ProduceResponse", "open_cb", "ssl.certificate.verify_cb", "opaque"]
        {
            assert_eq!(refused_option(name), Some(POINTER), "{name}");
        }
        for name in ["enable.auto.commit", "auto.offset.reset", "offset.store.method"] {
            assert_eq!(refused_option(name), Some(OFFSETS), "{name}");
        }
        for name in ["group.protocol", "group.instance.id", "partition.assignment.strategy"] {
            assert_eq!(refused_option(name), Some(GROUP), "{name}");
        }
        assert_eq!(refused_option("test.mock.num.brokers"), Some(MOCK));
        assert!(refused_option("isolation.level").is_some());
    }

    #[test]
    fn what_says_how_to_connect_is_allowed() {
        for name in [
            "security.protocol",
            "sasl.mechanism",
            "sasl.username",
            "sasl.password",
            "ssl.ca.location",
            "ssl.certificate.location",
            "ssl.key.location",
            "ssl.keystore.location",
            "ssl.ca.pem",
            "group.id",
            "client.id",
            "client.rack",
            "debug",
            "fetch.max.bytes",
            "socket.timeout.ms",
        ] {
            assert_eq!(refused_option(name), None, "{name}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "sasl.password",
            "sasl.username",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.assertion.private.key.passphrase",
        ] {
            assert!(is_secret_option(name), "{name}");
        }
        for name in ["security.protocol", "ssl.ca.location", "sasl.mechanism", "fetch.max.bytes"] {
            assert!(!is_secret_option(name), "{name}");
        }
    }
}
