//! Verification finds what is wrong and nothing else; `diff` and `explain` say what is behind a row.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::fixture::{Fixture, assert_says};
use super::small;
use super::tables::Tables;

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The files of a table's newest snapshot.
pub fn files_of(fixture: &Fixture, table: &str) -> Vec<PathBuf> {
    let mut tables = Tables::open(&fixture.catalog(), "small");
    let newest = tables.snapshots(table).pop().unwrap();
    let files = tables.files(&newest).into_iter();
    files.map(|file| PathBuf::from(file.trim_start_matches("file://"))).collect()
}

/// Changes a column of a file, given as an array, to another array of its type.
pub fn change(path: &PathBuf, column: &str, other: impl Fn(&ArrayRef) -> ArrayRef) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let batch = builder.build().unwrap().next().unwrap().unwrap();
    let place = batch.schema().index_of(column).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[place] = other(&columns[place]);
    let changed = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&changed).unwrap();
    writer.close().unwrap();
}

/// Adds one to a column of the first row of a file.
pub fn add_one(path: &PathBuf, column: &str) {
    change(path, column, |numbers| {
        let mut numbers = numbers.as_primitive::<Int64Type>().values().to_vec();
        numbers[0] += 1;
        Arc::new(Int64Array::from(numbers))
    });
}

/// The small job after two runs; ten users, of whom one moved before the second.
fn moved() -> Fixture {
    let fixture = small::fixture();
    fixture.report(&[]);
    fixture.append("users", 0, small::user(0, "south"));
    fixture.append("events", 0, small::event(100));
    fixture.report(&[]);
    fixture
}

#[test]
fn right_tables_are_right_at_every_commit() {
    let fixture = moved();
    let commits = lines(&fixture.verb("verify", &["--all", "--output=json"]));
    let newest = commits.last().unwrap();
    assert_eq!(commits.len() as i64, newest["commit"].as_i64().unwrap());
    assert_eq!(newest["events"], 41);
    assert!(commits.iter().all(|commit| commit["faults"] == json!([])), "{commits:?}");
    let said = text(&fixture.verb("verify", &[]).stdout);
    assert_says(&said, &["right (41 events", "1 commits verified"]);
    let ahead = fixture.verb("verify", &["--commit=99"]);
    assert_eq!(ahead.status.code(), Some(2), "{}", text(&ahead.stderr));
}

#[test]
fn a_row_that_was_changed_by_hand_is_named_with_the_records_behind_it() {
    let fixture = moved();
    add_one(&files_of(&fixture, "regional")[0], "events");
    let wrong = fixture.verb("verify", &[]);
    assert_eq!(wrong.status.code(), Some(4));
    let said = text(&wrong.stdout);
    let row = "window_start=2026-01-01T05:00:00Z, region=north, step=buy: expected events=";
    assert_says(
        &said,
        &[row, ", found events=", "behind it: topic events, partition ", "were noted"],
    );
    assert_says(&said, &["small.regional_changes: window_start=2026-01-01T05:00:00Z", "add up to"]);
    assert_says(&text(&wrong.stderr), &["faults in the tables of job small"]);
}

#[test]
fn an_event_that_stands_twice_and_a_file_that_is_gone_are_named() {
    let fixture = moved();
    let events = files_of(&fixture, "events");
    let copy = fs::read(&events[0]).unwrap();
    fs::write(&events[1], copy).unwrap();
    let wrong = fixture.verb("verify", &[]);
    assert_eq!(wrong.status.code(), Some(4));
    assert_says(&text(&wrong.stdout), &["one event id stands twice: topic events, partition"]);
    fs::remove_file(&events[1]).unwrap();
    let gone = fixture.verb("verify", &[]);
    assert_eq!(gone.status.code(), Some(4), "{}", text(&gone.stderr));
    assert_says(
        &text(&gone.stdout),
        &[&events[1].display().to_string(), "can't be read: No such file"],
    );
}

#[test]
fn a_difference_is_what_two_commits_do_not_share() {
    let fixture = moved();
    let newest = fixture.report(&[])["commit"].as_i64().unwrap().to_string();
    let all = |from: &str, to: &str| {
        lines(&fixture.verb("diff", &[from, to, "--table=path", "--output=json"]))
    };
    let users = |row: &Value, side: &str| row[side]["users"].as_i64().unwrap_or(0);
    let (there, back) = (all("0", &newest), all(&newest, "0"));
    assert!(!there.is_empty() && there.len() == back.len());
    assert!(there.iter().all(|row| users(row, "before") == 0 && users(row, "after") > 0));
    assert!(
        there.iter().zip(&back).all(|(a, b)| a["after"] == b["before"] && a["key"] == b["key"])
    );
    assert!(all(&newest, &newest).is_empty());
    let csv = text(&fixture.verb("diff", &["0", &newest, "--table=path", "--output=csv"]).stdout);
    assert!(csv.starts_with("table,region,step,step_name_before,users_before,"), "{csv}");
    let people = text(&fixture.verb("diff", &["0", &newest]).stdout);
    assert_says(&people, &["no row → ", "regional: ", "path: 4 of 4 rows that differ"]);
}

#[test]
fn the_events_behind_a_row_are_as_many_as_it_counts() {
    let fixture = moved();
    let mut tables = Tables::open(&fixture.catalog(), "small");
    for row in tables.current("regional") {
        let region = format!("region={}", row["region"].as_text());
        let step = format!("step={}", row["step"].as_text());
        let behind = fixture.verb("explain", &["regional", &region, &step, "--output=json"]);
        assert_eq!(lines(&behind).len() as i64, row["events"].as_number());
    }
    let people = text(&fixture.verb("explain", &["path", "region=south", "step=2"]).stdout);
    assert_says(&people, &["step_name=buy, users=", "events behind it", "u0"]);
    let refused = |arguments: &[&str], says: &str| {
        let output = fixture.verb("explain", arguments);
        assert_eq!(output.status.code(), Some(2));
        assert_says(&text(&output.stderr), &[says]);
    };
    refused(&["regional", "region=south"], "rows of regional fit, among them (window_start=");
    refused(&["regional", "region=west"], "regional has no row with region=west");
    refused(&["regional", "plan=pro"], "the key of regional has no column plan");
    refused(&["regonal"], "did you mean regional?");
}
