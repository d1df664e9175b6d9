//! `verify --from source`: the topics are read anew; what the tables hold of them is right, or named.

use std::fs::{self, File};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, StringArray};
use serde_json::json;

use super::fixture::{Fixture, assert_says};
use super::small;
use super::verify::{add_one, change, files_of, lines, text};

/// Appends copies within and across partitions, some of them conflicting, users who move, are deleted and
/// come back, and bad records of both topics.
fn append_round(fixture: &Fixture, round: usize) {
    let other = |line: String| line.replace("\"amount\":", "\"amount\":9");
    for number in 100 * round..100 * round + 20 {
        fixture.append("events", (number % 3) as i32, small::event(number));
        fixture.append("events", (number % 2) as i32, small::event(number));
        // The same id with another content, where it may come first.
        fixture.append("events", 2, other(small::event(number / 2)));
    }
    let region = ["east", "west", "north"][round % 3];
    for user in 0..10 {
        fixture.append("users", 0, small::user((user + round) % 10, region));
        if user % 4 == round % 4 {
            fixture.append("users", 0, format!("{{\"user\":\"u{user}\",\"deleted\":true}}\n"));
        }
    }
    for bad in
        ["{\"id\":\"x\",\"id\":\"y\"}", "", "{\"id\":\"b\",\"user\":7}", "{\"a\":\"\\ud800\"}"]
    {
        fixture.append("events", 1, format!("{bad}\n"));
    }
    fixture.append("users", 0, "{\"user\":null}\n");
}

/// A job in three runs of several commits each.
fn played(fixture: Fixture) -> Fixture {
    fixture.report(&[]);
    for round in 1..3 {
        append_round(&fixture, round);
        fixture.report(&["--workers=2", "--step-records=7", "--commit-records=20"]);
    }
    fixture
}

/// A text in the first row of a file's column becomes another.
fn rename(fixture: &Fixture, table: &str, column: &str, other: &str) {
    change(&files_of(fixture, table)[0], column, |texts| {
        let mut texts: Vec<_> = texts.as_string::<i32>().iter().collect();
        texts[0] = Some(other);
        Arc::new(StringArray::from(texts)) as ArrayRef
    });
}

/// What is said of a table that is wrong.
fn wrong(fixture: &Fixture) -> String {
    let output = fixture.verb("verify", &["--from=source", "--output=json"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_commit_is_what_its_records_say() {
    let fixture = played(small::fixture());
    let commits = lines(&fixture.verb("verify", &["--all", "--from=source", "--output=json"]));
    assert!(commits.len() > 5, "{commits:?}");
    let newest = commits.last().unwrap();
    assert!(commits.iter().all(|commit| commit["faults"] == json!([])), "{commits:#?}");
    assert_eq!((&newest["from"], &newest["notes"]), (&json!("source"), &json!([])));
    let rows = &newest["rows"];
    assert_eq!(rows["events"], newest["events"]);
    assert_eq!((&rows["users_changes"], &rows["dead_letters"]), (&json!(35), &json!(11)));
    for table in ["cuts", "regional", "path"] {
        assert!(rows[table].as_u64().unwrap() > 0, "{table} in {rows}");
    }
    let said = text(&fixture.verb("verify", &["--commit=2", "--from=source"]).stdout);
    assert_says(&said, &["commit 2: right (", "users_changes", "1 commits verified"]);
}

#[test]
fn a_row_that_was_changed_by_hand_is_named_with_its_record() {
    let fixture = played(small::fixture());
    add_one(&files_of(&fixture, "events")[0], "amount");
    let said = wrong(&fixture);
    assert_says(
        &said,
        &["event_id=e", ": amount: expected ", "the record behind it: topic events"],
    );

    let fixture = played(small::fixture());
    rename(&fixture, "events", "region", "nowhere");
    assert_says(
        &wrong(&fixture),
        &[": expected region=", "found region=nowhere; the record behind"],
    );

    let fixture = played(small::fixture());
    rename(&fixture, "events", "event_id", "nobody");
    let said = wrong(&fixture);
    assert_says(
        &said,
        &["event_id=nobody: expected no event with this id, found it at topic events"],
    );
    assert_says(&said, &["found no row; the record behind it: topic events, partition "]);

    let fixture = played(small::fixture());
    rename(&fixture, "dead_letters", "reason", "too_deep");
    assert_says(&wrong(&fixture), &["topic events, partition 1, offset ", "found too_deep"]);

    let fixture = played(small::fixture());
    rename(&fixture, "users_changes", "region", "nowhere");
    assert_says(
        &wrong(&fixture),
        &["user=u", "found user=", ": region=nowhere (commit 1, topic users"],
    );

    let fixture = played(small::fixture());
    for column in ["records", "dead_letters", "duplicates"] {
        add_one(&files_of(&fixture, "cuts")[0], column);
        assert_says(&wrong(&fixture), &["topic events, partition 0, offsets 0 to", column]);
    }
    add_one(&files_of(&fixture, "regional")[0], "events");
    assert_says(&wrong(&fixture), &["expected events=", "behind it: topic events, partition"]);
}

#[test]
fn a_record_that_was_changed_behind_the_tables_is_named() {
    let fixture = played(small::fixture());
    let path = fixture.partition("events", 0);
    // That user was deleted, so the answers move, too.
    let topic = fs::read_to_string(&path).unwrap();
    fs::write(&path, topic.replacen("\"user\":\"u0\"", "\"user\":\"u2\"", 1)).unwrap();
    let said = wrong(&fixture);
    assert_says(&said, &["event_id=e0: user_id: expected u2, found u0; ", "partition 0, offset 0"]);
    assert_says(&said, &["small.regional", "expected "]);
}

#[test]
fn records_that_are_gone_are_refused_by_name() {
    let fixture = played(small::fixture());
    let refused = |says: &[&str]| {
        let output = fixture.verb("verify", &["--from=source"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert_says(&said, says);
        assert_says(&said, &["can't be read again", "--from tables"]);
    };
    let path = fixture.partition("events", 1);
    let whole = fs::read(&path).unwrap();
    let short = whole.len() as u64 - 30;
    File::options().write(true).open(&path).unwrap().set_len(short).unwrap();
    let (from, to) = (format!("offset {short} "), format!("up to {} ", whole.len()));
    refused(&["topic events, partition 1", &from, &to, "ends at offset"]);
    fs::write(&path, "x".repeat(whole.len())).unwrap();
    refused(&["topic events, partition 1", "no line ends before offset"]);
    fs::remove_file(&path).unwrap();
    refused(&["topic events, partition 1", "1.jsonl can't be read: No such file"]);
    let output = fixture.verb("verify", &["--from=tables"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_job_without_a_table_of_events_is_verified_from_its_topics() {
    let job = small::job("small");
    let fixture = Fixture::new(&(job + "events = false\n"));
    for number in 0..40 {
        fixture.append("events", (number % 2) as i32, small::event(number));
        fixture.append("events", 0, small::event(number));
        fixture.append("users", 0, small::user(number % 10, "south"));
    }
    let fixture = played(fixture);
    let refused = fixture.verb("verify", &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert_says(&text(&refused.stderr), &["events = false", "--from source"]);
    let commits = lines(&fixture.verb("verify", &["--all", "--from=source", "--output=json"]));
    // Copies that conflict across partitions leave it open which of them counts.
    let is_right = |commit: &serde_json::Value| {
        commit["faults"] == json!([]) || commit["notes"].as_array().unwrap().len() == 1
    };
    assert!(commits.iter().all(is_right), "{commits:#?}");
    assert!(commits.last().unwrap()["rows"].get("events").is_none());
}
