//! Brokers that ask who is there: SASL, TLS and both. A job that may read gives the answers of one that is
//! not asked; one that may not says which broker refused it and what to check. Neither tells a secret to
//! anyone.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::super::fixture::{Fixture, assert_says, output_of};
use super::broker::unique;
use super::node::{Node, SASL, SASL_TLS, TLS};
use super::outages::answers;
use super::{send_events, send_users, small_job};

/// The password of the user and of all stores: whatever holds it tells a secret.
const PASSWORD: &str = "Marker-of-the-right-1";
/// One that is wrong, and as secret.
const WRONG: &str = "Marker-of-the-wrong-1";
/// The broker asks for a password of this user.
const USER: (&str, &str) = ("sasl.username", "reader");

/// Kafka options of a job.
type Options<'o> = &'o [(&'o str, &'o str)];

/// Topics behind a broker that asks who is there.
struct Guarded {
    node: Node,
    events: String,
    users: String,
}

impl Guarded {
    /// With some events and users.
    fn start() -> Option<Guarded> {
        let node = Node::start(Some(PASSWORD))?;
        let (events, users) = (unique("events"), unique("users"));
        node.broker.create(&events, 2, &[]);
        node.broker.create(&users, 1, &[]);
        send_events(&node.broker, &events, 0, 0..40);
        send_events(&node.broker, &events, 1, 40..70);
        send_users(&node.broker, &users, 0..10, "north");
        Some(Guarded { node, events, users })
    }

    /// The small job, reading from a listener with options. Some secrets are written in it, some it refers
    /// to.
    fn job(&self, listener: u16, options: Options<'_>) -> Fixture {
        let job = small_job(&self.node.address(listener), &self.events, &self.users);
        let options: Vec<String> =
            options.iter().map(|(key, value)| format!("\"{key}\" = \"{value}\"")).collect();
        let options = format!("\", options = {{ {} }} }} }}", options.join(", "));
        let fixture = Fixture::new(&job.replace("\" } }", &options));
        fs::write(fixture.path("password"), format!("{PASSWORD}\n")).unwrap();
        fixture
    }

    fn key(&self, name: &str) -> String {
        self.node.key(name).display().to_string()
    }
}

/// Runs a job as talkative as it can be.
fn run(fixture: &Fixture, arguments: &[&str]) -> Output {
    let mut command = fixture.command(arguments);
    command.args(["--connect-timeout=2", "--output=json"]);
    command.env("TIDEWATER_LOG", "trace").env("THE_PASSWORD", PASSWORD);
    output_of(command)
}

/// Nothing that a run said or wrote has a secret in it.
fn assert_tells_no_secret(what: &str, output: &Output, fixture: &Fixture) {
    let mut places = vec![("standard output".to_owned(), output.stdout.clone())];
    places.push(("standard error".to_owned(), output.stderr.clone()));
    collect(&fixture.path("lake"), &mut places);
    for (place, bytes) in places {
        for secret in [PASSWORD, WRONG] {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())];
                panic!("{what}: {place}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// The bytes of all files below a folder.
fn collect(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, places);
        } else {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

fn jobs_that_may_read_give_the_plain_answers(guarded: &Guarded) {
    let plain = guarded.job(0, &[]);
    let report = plain.report(&[]);
    assert_eq!(report["events"], 70, "{report:#}");
    let (ca, certificate, key) =
        (guarded.key("ca.pem"), guarded.key("client.pem"), guarded.key("client.key"));
    let store = guarded.key("client.p12");
    let trust = ("ssl.ca.location", &*ca);
    let from_file = ("sasl.password", "${file:password}");
    let from_environment = ("sasl.password", "${env:THE_PASSWORD}");
    let cases: [(&str, u16, Options<'_>); 6] = [
        ("sasl_plaintext", SASL, &[("sasl.mechanism", "PLAIN"), USER, from_file]),
        ("sasl_plaintext", SASL, &[("sasl.mechanisms", "SCRAM-SHA-256"), USER, from_environment]),
        ("sasl_ssl", SASL_TLS, &[("sasl.mechanism", "SCRAM-SHA-512"), USER, from_file, trust]),
        (
            "SASL_SSL",
            SASL_TLS,
            &[("sasl.mechanism", "PLAIN"), USER, ("sasl.password", PASSWORD), trust],
        ),
        (
            "ssl",
            TLS,
            &[trust, ("ssl.certificate.location", &certificate), ("ssl.key.location", &key)],
        ),
        (
            "ssl",
            TLS,
            &[trust, ("ssl.keystore.location", &store), ("ssl.keystore.password", PASSWORD)],
        ),
    ];
    for (protocol, listener, options) in cases {
        // librdkafka tells all that it does.
        let said = [("security.protocol", protocol), ("debug", "all")];
        let fixture = guarded.job(listener, &[&said[..], options].concat());
        let what = format!("{protocol} {options:?}");
        let output = run(&fixture, &[]);
        assert_tells_no_secret(&what, &output, &fixture);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {stderr}");
        let of_guarded: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(of_guarded["cut"], report["cut"], "{what}");
        assert_eq!(answers(&fixture), answers(&plain), "{what}");
    }
}

fn jobs_that_may_not_read_say_what_to_check(guarded: &Guarded) {
    let (ca, other) = (guarded.key("ca.pem"), guarded.key("other-ca.pem"));
    let trust = ("ssl.ca.location", &*ca);
    let wrong = ("sasl.password", WRONG);
    let plain = ("sasl.mechanism", "PLAIN");
    let refused = &["refuse the credentials", "sasl.password"][..];
    let unknown = ("sasl.username", "nobody");
    let scram = ("sasl.mechanism", "SCRAM-SHA-256");
    let right = ("sasl.password", PASSWORD);
    let cases: [(&str, u16, Options<'_>, i32, &[&str]); 8] = [
        ("sasl_plaintext", SASL, &[plain, USER, wrong], 3, refused),
        ("sasl_plaintext", SASL, &[("sasl.mechanism", "SCRAM-SHA-512"), USER, wrong], 3, refused),
        ("sasl_ssl", SASL_TLS, &[scram, USER, wrong, trust], 3, refused),
        ("sasl_ssl", SASL_TLS, &[scram, unknown, right, trust], 3, refused),
        (
            "sasl_ssl",
            SASL_TLS,
            &[plain, USER, right, ("ssl.ca.location", &other)],
            1,
            &["certificate verify failed", "ssl.ca.location"],
        ),
        ("ssl", TLS, &[trust], 1, &["ssl.certificate.location"]),
        ("plaintext", TLS, &[], 1, &["security.protocol"]),
        ("ssl", 0, &[trust], 1, &["security.protocol"]),
    ];
    for (protocol, listener, options, code, words) in cases {
        let fixture =
            guarded.job(listener, &[&[("security.protocol", protocol)], options].concat());
        let what = format!("{protocol} at listener {listener}, {words:?}");
        let begun = std::time::Instant::now();
        let output = run(&fixture, &[]);
        assert_tells_no_secret(&what, &output, &fixture);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let error = stderr.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
        assert_says(error, &[&guarded.node.address(listener), &guarded.events]);
        assert_says(error, words);
        assert!(begun.elapsed().as_secs() < 20, "{what}: {:?}", begun.elapsed());
        assert!(!fixture.path("lake").exists(), "{what}: something was written");
        eprintln!("{what}: {error}");
    }
}

/// What is wrong with a job file is shown at its place, with the secrets beside it covered.
fn mistakes_beside_secrets_do_not_show_them(guarded: &Guarded) {
    let options = [("sasl.mechanism", "PLAIN"), USER, ("sasl.password", WRONG)];
    for (option, code, words) in [
        (
            ("plugin.library.paths", "x.so"),
            2,
            ["`plugin.library.paths` can't be set", "load or start"],
        ),
        (
            ("enable.auto.commit", "true"),
            2,
            ["`enable.auto.commit` can't be set", "would not be exact"],
        ),
        (("no.such.option", WRONG), 3, ["no.such.option", "librdkafka does not know"]),
        (("security.protocol", WRONG), 3, ["security.protocol", "refuses its value"]),
    ] {
        let fixture = guarded.job(SASL, &[&options[..], &[option]].concat());
        let output = run(&fixture, &[]);
        assert_tells_no_secret(option.0, &output, &fixture);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_says(&stderr, &words);
    }
    let fixture = guarded.job(SASL, &options);
    let job = fs::read_to_string(fixture.path("job.toml")).unwrap();
    fixture.write_job(&job.replace("options = {", "options == {"));
    let output = run(&fixture, &[]);
    assert_tells_no_secret("not TOML", &output, &fixture);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn guarded_brokers_are_read_by_those_who_may_and_nobody_hears_a_secret() {
    let Some(guarded) = Guarded::start() else { return };
    jobs_that_may_read_give_the_plain_answers(&guarded);
    jobs_that_may_not_read_say_what_to_check(&guarded);
    mistakes_beside_secrets_do_not_show_them(&guarded);
}
