//! A following run whose tables or job are taken over: its next commit is refused, and nothing is doubled.

use std::time::Duration;

use rustix::process::Signal;

use super::super::fixture::{Fixture, assert_says, output_of, tidewater};
use super::super::running::{Ended, Running, await_true};
use super::super::small;
use super::{meddle, newest_commit};

/// Starts to follow and waits until the topics are read.
fn follow(fixture: &Fixture) -> Running {
    let following = Running::start(fixture.command(&["--follow", "--workers=2", "--output=json"]));
    await_true("the first commit", || fixture.catalog().exists() && has_committed(fixture));
    following
}

/// The newest commit, once no other follows.
fn commit_at_rest(fixture: &Fixture) -> i64 {
    await_true("all of the input", || {
        let commit = newest_commit(fixture);
        std::thread::sleep(Duration::from_millis(200));
        commit == newest_commit(fixture)
    });
    newest_commit(fixture)
}

fn has_committed(fixture: &Fixture) -> bool {
    let Ok(catalog) = rusqlite::Connection::open(fixture.catalog()) else { return false };
    let sql = "SELECT upper > 0 FROM tidewater_job";
    catalog.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
}

#[test]
fn a_following_run_ends_at_a_commit_when_it_is_interrupted() {
    let fixture = small::fixture();
    let following = follow(&fixture);
    let commit = newest_commit(&fixture);
    fixture.append("events", 0, small::event(500));
    await_true("a commit of what was appended", || newest_commit(&fixture) > commit);
    following.signal(Signal::INT);
    let Ended { code, out, err } = following.end();
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["tables"]["small.events"]["rows"], 41, "{report:#}");
    assert_eq!(fixture.report(&[])["records"], 0);
}

#[test]
fn a_following_run_is_refused_when_a_table_is_changed_under_it() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let newest = "SELECT metadata_location FROM iceberg_tables WHERE table_name = 'events'";
    let before: String = rusqlite::Connection::open(fixture.catalog())
        .unwrap()
        .query_row(newest, [], |row| row.get(0))
        .unwrap();
    let following = follow(&fixture);
    fixture.append("users", 0, small::user(3, "moved"));
    fixture.append("events", 0, small::event(500));
    await_true("a commit", || {
        let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
        let rows = "SELECT metadata_location <> ?1 FROM iceberg_tables WHERE table_name = 'events'";
        catalog.query_row(rows, [&before], |row| row.get(0)).unwrap_or(false)
    });
    meddle(
        &fixture,
        "UPDATE iceberg_tables SET metadata_location = previous_metadata_location
         WHERE table_name = 'events'",
    );
    fixture.append("events", 0, small::event(501));
    let Ended { code, out, err } = following.end();
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert_says(&err, &["small.events"]);
}

#[test]
fn a_run_that_was_overtaken_cannot_commit() {
    let fixture = small::fixture();
    let following = follow(&fixture);
    let commit = commit_at_rest(&fixture);
    meddle(&fixture, "UPDATE tidewater_job SET incarnation = incarnation + 1");
    fixture.append("events", 0, small::event(500));
    let Ended { code, out, err } = following.end();
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert_says(&err, &["job small"]);
    assert_eq!(newest_commit(&fixture), commit);
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 41, "{report:#}");
}

#[test]
fn a_run_whose_state_is_lost_and_recovered_under_it_cannot_commit() {
    let fixture = small::fixture();
    let following = follow(&fixture);
    let commit = commit_at_rest(&fixture);
    let recover = || {
        let mut command = tidewater();
        command.arg("recover").arg(fixture.path("job.toml"));
        let output = output_of(command);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, err) = recover();
    assert_eq!(code, Some(3), "{err}");
    assert_says(&err, &["another run of job small"]);
    // The lock goes with its folder, but not the fence.
    std::fs::remove_dir_all(fixture.path(small::STATE)).unwrap();
    let (code, err) = recover();
    assert_eq!(code, Some(0), "{err}");
    fixture.append("events", 0, small::event(500));
    let Ended { code, out, err } = following.end();
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert_says(&err, &["job small"]);
    assert_eq!(newest_commit(&fixture), commit);
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 41, "{report:#}");
}
