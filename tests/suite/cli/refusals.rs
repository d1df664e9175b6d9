//! What is refused before anything is written (exit code 3), and how to go on.

use std::fs;

use rustix::fs::{FlockOperation, flock};

use super::super::fixture::assert_says;
use super::super::small;
use super::{meddle, newest_commit};

#[test]
fn a_changed_definition_is_refused_with_what_changed() {
    let fixture = small::fixture();
    let before = fixture.report(&[]);
    fixture.append("events", 0, small::event(100));
    let job = small::job("small");
    for (from, to, says) in [
        ("window = \"1h\"", "window = \"2h\"", "aggregate.regional.window changed from 1h to 2h"),
        ("amount = \"sum(amount)\" }", "}", "aggregate.regional.measures changed"),
        (
            "[[funnel]]",
            "[[aggregate]]\nname = \"more\"\nmeasures = { n = \"count\" }\n[[funnel]]",
            "more added",
        ),
        ("id = \"/id\"", "id = \"/other\"", "events.id changed from /id to /other"),
    ] {
        fixture.write_job(&job.replace(from, to));
        let stderr = fixture.refused(3, &[]);
        assert_says(&stderr, &["job small", says, "take the change back", "new job"]);
    }
    // What decides no answer may change.
    fixture.write_job(
        &job.replace("commit_interval = \"50ms\"", "commit_interval = \"1m\"\nleaf_rows = 7"),
    );
    let after = fixture.report(&[]);
    assert_eq!(after["commit"].as_u64().unwrap(), before["commit"].as_u64().unwrap() + 1);
}

#[test]
fn a_second_run_of_a_job_at_work_is_refused() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let lock = fs::File::open(fixture.path(small::STATE).join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let stderr = fixture.refused(3, &[]);
    assert_says(&stderr, &["another run of job small", "lock"]);
    drop(lock);
    fixture.report(&[]);
}

#[test]
fn tables_of_another_job_are_refused() {
    let fixture = small::fixture();
    fixture.report(&[]);
    fixture.write_job(&small::job("intruder"));
    let stderr = fixture.refused(3, &[]);
    assert_says(&stderr, &["small.", "job small", "job intruder", "another namespace"]);
    fixture.write_job(&small::job("small"));
    fixture.report(&[]);
}

#[test]
fn a_folder_with_files_that_the_catalog_does_not_know_is_refused() {
    let fixture = small::fixture();
    fixture.report(&[]);
    fs::rename(fixture.catalog(), fixture.path("catalog.elsewhere")).unwrap();
    let stderr = fixture.refused(3, &[]);
    assert_says(&stderr, &["is not empty", "never heard of job small", "another catalog"]);
    fs::rename(fixture.path("catalog.elsewhere"), fixture.catalog()).unwrap();
    fixture.report(&[]);
}

#[test]
fn a_table_that_someone_else_changed_is_refused() {
    let fixture = small::fixture();
    fixture.report(&[]);
    fs::copy(fixture.catalog(), fixture.path("catalog.copy")).unwrap();
    fixture.append("events", 0, small::event(100));
    let commit = newest_commit(&fixture);
    for (sql, what) in [
        ("DELETE FROM iceberg_tables WHERE table_name = 'regional'", "small.regional was dropped"),
        (
            "UPDATE iceberg_tables SET metadata_location = previous_metadata_location
             WHERE table_name = 'events'",
            "small.events was changed",
        ),
        (
            "UPDATE iceberg_tables SET table_name = 'path_old' WHERE table_name = 'path'",
            "small.path was dropped",
        ),
    ] {
        meddle(&fixture, sql);
        let stderr = fixture.refused(3, &[]);
        assert_says(&stderr, &[what, "job small", "restore"]);
        assert_eq!(newest_commit(&fixture), commit);
        fs::copy(fixture.path("catalog.copy"), fixture.catalog()).unwrap();
    }
    let report = fixture.report(&[]);
    assert_eq!(report["events"], 1, "with the catalog restored the run goes on");
}

#[test]
fn a_file_that_is_shorter_than_its_offset_is_refused_until_the_loss_is_accepted() {
    let fixture = small::fixture();
    let report = fixture.report(&[]);
    let saved = report["cut"]["events"]["1"].to_string();
    let path = fixture.partition("events", 1);
    let bytes = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let kept = lines[..5].concat();
    fs::write(&path, &kept).unwrap();
    let stderr = fixture.refused(3, &[]);
    let (end, file) = (kept.len().to_string(), path.display().to_string());
    assert_says(&stderr, &["topic events", "partition 1", &saved, &end, &file, "--accept-loss"]);
    fixture.append("events", 1, small::event(200));
    let stderr = fixture.refused(3, &[]);
    assert_says(&stderr, &["topic events", "partition 1", "--accept-loss"]);
    // Reading goes on at the end of the file as it stands when the loss is accepted.
    fs::write(&path, &kept).unwrap();
    fixture.report(&["--accept-loss"]);
    // It is accepted once and for all: what follows is read as ever.
    fixture.append("events", 1, small::event(201));
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 41, "{report:#}");
    fixture.append("events", 0, small::event(202));
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 42, "{report:#}");
}

#[test]
fn an_offset_that_is_no_start_of_a_line_is_refused() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let path = fixture.partition("events", 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, [b"{}", &bytes[..]].concat()).unwrap();
    let stderr = fixture.refused(3, &[]);
    assert_says(
        &stderr,
        &["topic events", "partition 0", "no line starting there", "--accept-loss"],
    );
}

#[test]
fn a_partition_file_that_is_gone_is_refused_until_the_loss_is_accepted() {
    let fixture = small::fixture();
    let report = fixture.report(&[]);
    let saved = report["cut"]["events"]["0"].to_string();
    fs::rename(fixture.partition("events", 0), fixture.path("away")).unwrap();
    let stderr = fixture.refused(3, &[]);
    assert_says(&stderr, &["topic events", "partition 0", &saved, "0.jsonl", "--accept-loss"]);
    fixture.append("events", 1, small::event(300));
    let report = fixture.report(&["--accept-loss"]);
    assert_eq!(report["tables"]["small.events"]["rows"], 41);
    fs::rename(fixture.path("away"), fixture.partition("events", 0)).unwrap();
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 41, "nothing is doubled");
}
