//! A job file that fits the data, ready to run.

use super::kafka::Connection;

/// Options that both a producer and a consumer need to reach a broker.
const SHARED_OPTIONS: [&str; 4] = ["security.", "sasl.", "ssl.", "client."];
/// Words in the names of options whose values must not stand in a file.
const SECRETS: [&str; 4] = ["password", "secret", "pem", "oauthbearer.config"];

/// The job of the handbook, reading from the folders `events` and `users` beside the job file, or from Kafka.
pub fn text(name: &str, kafka: Option<&Connection>) -> String {
    let (events, users) = match kafka {
        None => ("{ directory = \"events\" }".to_owned(), "{ directory = \"users\" }".to_owned()),
        Some(connection) => (
            kafka_source(connection, &connection.events_topic),
            kafka_source(connection, &connection.users_topic),
        ),
    };
    let name = quoted(name);
    format!(
        r#"[job]
name = {name}

[events]
source = {events}
id   = "/event_id"
user = "/user_id"
time = "/ts"

[events.columns]
step     = "/type"
amount   = {{ path = "/amount_cents", type = "long", default = 0 }}
currency = "/currency"
os       = "/device/os"

[dimension]
name    = "users"
source  = {users}
key     = "/user_id"
deleted = "/deleted"

[dimension.columns]
region = "/region"
plan   = "/plan"

[[aggregate]]
name     = "regional"
group_by = ["region", "step"]
window   = "1h"
measures = {{ events = "count", users = "distinct", amount = "sum(amount)" }}

[[funnel]]
name     = "signup_funnel"
group_by = ["region"]
column   = "step"
steps    = ["page_view", "signup_started", "signup_completed", "trial_started", "subscribed"]
within   = "7d"

[lake]
catalog   = "sqlite:lake/catalog.db"
warehouse = "lake/warehouse"
namespace = {name}
commit_interval = "10s"
"#
    )
}

fn kafka_source(connection: &Connection, topic: &str) -> String {
    let mut source = format!(
        "{{ kafka = {{ brokers = {}, topic = {}",
        quoted(&connection.brokers),
        quoted(topic)
    );
    let mut options = Vec::new();
    for (name, value) in &connection.options {
        if !SHARED_OPTIONS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let secret = SECRETS.iter().any(|word| name.contains(word));
        let variable = format!("${{env:{}}}", name.to_uppercase().replace(['.', '-'], "_"));
        let value = if secret { &variable } else { value };
        options.push(format!("{} = {}", quoted(name), quoted(value)));
    }
    if !options.is_empty() {
        source.push_str(&format!(", options = {{ {} }}", options.join(", ")));
    }
    source.push_str(" } }");
    source
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_toml_and_keeps_secrets_out() {
        let connection = Connection {
            brokers: "a:9092,b:9092".to_owned(),
            events_topic: "clicks".to_owned(),
            users_topic: "people".to_owned(),
            options: [
                ("security.protocol", "SASL_SSL"),
                ("sasl.password", "hunter2"),
                ("linger.ms", "5"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        };
        let job: toml::Table = text("try \"it\"", Some(&connection)).parse().unwrap();
        assert_eq!(job["job"]["name"].as_str(), Some("try \"it\""));
        let kafka = &job["events"]["source"]["kafka"];
        assert_eq!(kafka["topic"].as_str(), Some("clicks"));
        let options = kafka["options"].as_table().unwrap();
        assert_eq!(options["sasl.password"].as_str(), Some("${env:SASL_PASSWORD}"));
        assert_eq!((options.len(), options["security.protocol"].as_str()), (2, Some("SASL_SSL")));

        let job: toml::Table = text("subscriptions", None).parse().unwrap();
        assert_eq!(job["dimension"]["source"]["directory"].as_str(), Some("users"));
    }
}
