//! What is refused (exit code 3), with the numbers that speak against it and the way out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use super::super::fixture::{Fixture, assert_says, files_of, output_of};
use super::super::small;
use super::super::tables::Tables;
use super::{command, fixture, recover, small_job, stderr};

/// A recovery that must end with exit code `code`, and say all of `wanted`.
fn refused(fixture: &Fixture, code: i32, wanted: &[&str]) {
    let output = output_of(command(fixture, &[]));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "a refusal has no report");
    assert_says(&said, wanted);
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    assert!(output_of(command).status.success());
}

/// Changes the catalog behind the program's back.
fn meddle(fixture: &Fixture, sql: &str) {
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    assert_ne!(catalog.execute(sql, []).unwrap(), 0, "{sql} changes nothing");
}

/// The job's row: incarnation, commit and body.
fn row(fixture: &Fixture) -> (i64, i64, String) {
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    let sql = "SELECT incarnation, upper, body FROM tidewater_job WHERE id = 'small'";
    catalog.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
}

/// Runs over so many events, one after the other.
fn runs(fixture: &Fixture, events: std::ops::Range<usize>) {
    for number in events {
        fixture.append("events", 0, small::event(number));
        fixture.report(&[]);
    }
}

/// A job at commit 1 and a copy of its lake, brought to commit 4 since.
fn with_backup() -> (Fixture, PathBuf) {
    let fixture = fixture();
    fixture.report(&[]);
    let backup = fixture.path("backup");
    copy(&fixture.path("lake"), &backup);
    runs(&fixture, 100..103);
    (fixture, backup)
}

fn restore_catalog(fixture: &Fixture, backup: &Path) {
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        fs::remove_file(fixture.path("lake").join(file)).ok();
        if backup.join(file).exists() {
            fs::copy(backup.join(file), fixture.path("lake").join(file)).unwrap();
        }
    }
}

#[test]
fn a_job_that_was_never_run_has_nothing_to_recover() {
    let fixture = fixture();
    refused(&fixture, 1, &["small", "has not been run yet", "catalog.db"]);
    assert!(!fixture.path("lake").exists(), "nothing is made");
}

#[test]
fn a_job_without_a_table_of_events_is_refused() {
    let fixture = fixture();
    fixture.write_job(&(small_job() + "events = false\n"));
    fixture.report(&[]);
    refused(&fixture, 3, &["job small", "events = false", "new namespace", "backup"]);
    fixture.report(&[]);
}

#[test]
fn a_changed_definition_is_refused() {
    let fixture = fixture();
    fixture.report(&[]);
    fixture.write_job(&small_job().replace("window = \"1h\"", "window = \"2h\""));
    refused(&fixture, 3, &["aggregate.regional.window changed from 1h to 2h"]);
}

#[test]
fn a_row_of_the_job_that_is_damaged_or_gone_can_only_be_restored() {
    let fixture = fixture();
    fixture.report(&[]);
    meddle(&fixture, "UPDATE tidewater_job SET body = substr(body, 2)");
    refused(&fixture, 3, &["the state of job small in the catalog", "restore the catalog"]);
    meddle(&fixture, "DELETE FROM tidewater_job");
    refused(&fixture, 1, &["has not been run yet", "restore the catalog"]);
}

#[test]
fn a_run_at_work_is_not_disturbed() {
    let fixture = fixture();
    fixture.report(&[]);
    let before = row(&fixture);
    let lock = fs::File::open(fixture.path(small::STATE).join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    refused(&fixture, 3, &["another run of job small"]);
    assert_eq!(row(&fixture), before);
}

#[test]
fn a_catalog_that_is_older_than_the_files_is_refused() {
    let (fixture, backup) = with_backup();
    restore_catalog(&fixture, &backup);
    let before = row(&fixture);
    let wanted =
        ["commit 1, incarnation 1", "commit 4 by incarnation 4", "older", "move the newer"];
    refused(&fixture, 3, &wanted);
    // A run is refused as well: readers have seen what the catalog has forgotten.
    assert_says(&fixture.refused(3, &[]), &wanted);
    assert_eq!(row(&fixture), before);
    // The way out: without the newer files commit 1 holds.
    let cuts = fixture.path("lake/warehouse/small/cuts");
    let lake = backup.join("warehouse/small/cuts");
    copy(&lake, &cuts);
    recover(&fixture, &[]);
    assert_eq!(fixture.report(&[])["records"], 3);
}

#[test]
fn a_warehouse_that_is_older_than_the_catalog_is_refused() {
    let (fixture, backup) = with_backup();
    copy(&backup.join("warehouse"), &fixture.path("lake/warehouse"));
    let before = row(&fixture);
    let wanted = ["stands at commit 1", "small at commit 4", "is missing", "of one moment"];
    refused(&fixture, 3, &wanted);
    assert_eq!(row(&fixture), before);
}

#[test]
fn tables_and_a_state_of_different_commits_are_refused() {
    let (fixture, backup) = with_backup();
    let (_, _, newer) = row(&fixture);
    let pointer = |name: &str| Tables::open(&fixture.catalog(), "small").location(name);
    let newest = pointer("cuts");
    // The job's row of the backup, the tables of today.
    let old = rusqlite::Connection::open(backup.join("catalog.db")).unwrap();
    let sql = "SELECT body FROM tidewater_job";
    let body: String = old.query_row(sql, [], |row| row.get(0)).unwrap();
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    catalog.execute("UPDATE tidewater_job SET upper = 1, body = ?1", [&body]).unwrap();
    refused(&fixture, 3, &["at commit 4", "small at commit 1", "the state is older"]);
    // The row of today, one table of the backup.
    catalog.execute("UPDATE tidewater_job SET upper = 4, body = ?1", [&newer]).unwrap();
    let sql = "SELECT metadata_location FROM iceberg_tables WHERE table_name = 'cuts'";
    let older: String = old.query_row(sql, [], |row| row.get(0)).unwrap();
    let move_to = "UPDATE iceberg_tables SET metadata_location = ?1 WHERE table_name = 'cuts'";
    catalog.execute(move_to, [&older]).unwrap();
    refused(&fixture, 3, &["small.cuts stands at commit 1", "small at commit 4", "older"]);
    catalog.execute(move_to, [&newest]).unwrap();
    recover(&fixture, &[]);
}

#[test]
fn a_table_that_someone_else_changed_or_dropped_is_refused() {
    let fixture = fixture();
    fixture.report(&[]);
    let path = Tables::open(&fixture.catalog(), "small").location("regional");
    let foreign = path.replace("/00001-", "/00002-");
    let plain = |path: &str| path.trim_start_matches("file://").to_owned();
    fs::copy(plain(&path), plain(&foreign)).unwrap();
    let sql = format!(
        "UPDATE iceberg_tables SET metadata_location = '{foreign}' WHERE table_name = 'regional'"
    );
    meddle(&fixture, &sql);
    refused(&fixture, 3, &["small.regional was changed by another program", "commit 1"]);
    meddle(&fixture, "DELETE FROM iceberg_tables WHERE table_name = 'regional'");
    refused(&fixture, 3, &["small.regional was dropped by another program", "commit 1"]);
}

#[test]
fn data_files_that_are_gone_damaged_or_exchanged_are_refused() {
    let fixture = fixture();
    fixture.report(&[]);
    fixture.append("users", 0, small::user(1, "west"));
    fixture.append("events", 0, small::event(900));
    fixture.report(&[]);
    let before = row(&fixture);
    for table in ["events", "users_changes", "regional", "path"] {
        let files = files_of(&fixture.path(&format!("lake/warehouse/small/{table}/data")));
        let newest = files.iter().max().unwrap();
        let name = newest.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(newest).unwrap();
        fs::remove_file(newest).unwrap();
        refused(&fixture, 3, &[name, "only be rebuilt from whole tables"]);
        fs::write(newest, &bytes[..bytes.len() / 2]).unwrap();
        refused(&fixture, 3, &[name, "damaged"]);
        fs::write(newest, &bytes).unwrap();
    }
    // The same number of rows of the same table, but not the same.
    let files = files_of(&fixture.path("lake/warehouse/small/events/data"));
    let of_commit = |commit: &str| files.iter().find(|f| f.to_str().unwrap().contains(commit));
    let newest = of_commit("-000000000002-").unwrap();
    let bytes = fs::read(newest).unwrap();
    let twin = self::fixture();
    twin.report(&[]);
    twin.append("events", 0, small::event(901));
    twin.report(&[]);
    let of_twin = files_of(&twin.path("lake/warehouse/small/events/data"));
    let other = of_twin.iter().find(|file| file.to_str().unwrap().contains("-000000000002-"));
    fs::copy(other.unwrap(), newest).unwrap();
    refused(&fixture, 3, &["small.regional shows", "make", "another program"]);
    fs::write(newest, bytes).unwrap();
    assert_eq!(row(&fixture).2, before.2, "the old state stands");
    recover(&fixture, &[]);
}
