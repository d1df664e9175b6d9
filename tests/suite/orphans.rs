//! Orphans: the files that a crash leaves are deleted by a later run when they are old enough, and nothing
//! else ever is.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidewater::lake::names::Origin;

use super::fixture::{Fixture, files_of, output_of, set_times};
use super::small;
use super::tables::Tables;

const TABLES: [&str; 8] = [
    "cuts",
    "dead_letters",
    "events",
    "path",
    "path_changes",
    "regional",
    "regional_changes",
    "users_changes",
];

/// Old enough to be deleted.
fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3600 + 60)
}

fn set_time(path: &str, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The files that the tables need, and the others in their folders.
fn files(fixture: &Fixture) -> (HashSet<String>, HashSet<String>) {
    let tables = Tables::open(&fixture.catalog(), "small");
    let mut all = (HashSet::new(), HashSet::new());
    for table in TABLES {
        let (needed, others) = tables.needed_and_others(table);
        all.0.extend(needed);
        all.1.extend(others);
    }
    all
}

/// A run that crashes before its COMMIT; gives the files that it leaves.
fn crash(fixture: &Fixture, event: usize) -> HashSet<String> {
    let (_, before) = files(fixture);
    fixture.append("events", 0, small::event(event));
    let mut command = fixture.command(&[]);
    command.env("FAILPOINTS", "commit.swap=panic");
    let output = output_of(command);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, after) = files(fixture);
    let left: HashSet<String> = after.difference(&before).cloned().collect();
    for kind in [".parquet", "-m00-", "/snap-", ".metadata.json"] {
        assert!(left.iter().any(|file| file.contains(kind)), "no {kind} among {left:?}");
    }
    left
}

fn mark(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.path(small::STATE).join("lock")).unwrap()
}

/// An hour has passed for the mark, which must tell of files that were too young.
fn let_the_mark_come_due(fixture: &Fixture) {
    let mark = mark(fixture);
    let due_ms = mark.strip_prefix("later ").expect(&mark).trim_end().parse::<u64>().unwrap();
    let due = SystemTime::UNIX_EPOCH + Duration::from_millis(due_ms);
    let left = due.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600), "{left:?}");
    fs::write(fixture.path(small::STATE).join("lock"), "later 17\n").unwrap();
}

/// Files of another job and of other programs in the folders of a table.
fn foreign_files(fixture: &Fixture) -> HashSet<String> {
    let other = Origin { job: "smaller".to_owned(), incarnation: 1, commit: 1 };
    let folder = fixture.path("lake/warehouse/small/events");
    let folder = folder.display();
    let files = [
        other.data_file(&folder.to_string(), 0),
        format!("{folder}/data/part-0.parquet"),
        format!("{folder}/metadata/snap-1-1-2cd22b57-5127-4198-92ba-e4e67c79821b.avro"),
        format!("{folder}/metadata/00001-2cd22b57-5127-4198-92ba-e4e67c79821b.metadata.json"),
    ];
    files.iter().for_each(|file| fs::write(file, "x").unwrap());
    files.into()
}

#[test]
fn what_a_crash_leaves_is_deleted_when_it_is_old_and_nothing_else_is() {
    let fixture = small::fixture();
    fixture.report(&[]);
    assert_eq!(mark(&fixture), "", "a run that ended well leaves no mark");
    let foreign = foreign_files(&fixture);
    let orphans = crash(&fixture, 100);
    assert_eq!(mark(&fixture), "2\n");

    fixture.report(&[]);
    assert_eq!(files(&fixture).1, &orphans | &foreign, "all are too young");

    set_times(&fixture.path("lake/warehouse"), long_ago());
    let before = mark(&fixture);
    fixture.report(&[]);
    assert_eq!(files(&fixture).1, &orphans | &foreign, "no run looks again before the time");
    assert_eq!(mark(&fixture), before);

    let_the_mark_come_due(&fixture);
    let young = orphans.iter().min().unwrap();
    set_time(young, SystemTime::now());
    fixture.append("events", 0, small::event(101));
    fixture.report(&[]);
    let expected = &HashSet::from([young.clone()]) | &foreign;
    assert_eq!(files(&fixture).1, expected, "what is old is deleted");
    let_the_mark_come_due(&fixture);

    set_time(young, long_ago());
    let report = fixture.report(&[]);
    assert_eq!(files(&fixture).1, foreign);
    assert_eq!(mark(&fixture), "");
    assert_eq!(report["tables"]["small.events"]["rows"], 42, "{report:#}");
    let mut tables = Tables::open(&fixture.catalog(), "small");
    assert_eq!(tables.current("events").len(), 42);
}

#[test]
fn a_run_after_one_that_ended_well_looks_for_nothing() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let origin = Origin { job: "small".to_owned(), incarnation: 1, commit: 9 };
    let folder = fixture.path("lake/warehouse/small/cuts").display().to_string();
    let orphan = origin.data_file(&folder, 0);
    fs::write(&orphan, "x").unwrap();
    set_time(&orphan, long_ago());
    fixture.report(&[]);
    assert!(Path::new(&orphan).exists(), "there is no mark of a crash");
}

#[test]
fn symbols_and_slabs_of_a_crash_are_deleted_too() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let state = fixture.path(small::STATE);
    let before = HashSet::<PathBuf>::from_iter(files_of(&state));
    fixture.append("events", 0, small::event(100).replace("\"view\"", "\"new\""));
    let mut command = fixture.command(&[]);
    command.env("FAILPOINTS", "commit.swap=panic");
    assert_eq!(output_of(command).status.code(), Some(1));
    let left: Vec<PathBuf> =
        files_of(&state).into_iter().filter(|file| !before.contains(file)).collect();
    for kind in ["slab", "sym"] {
        let is_kind = |file: &PathBuf| file.extension().is_some_and(|is| is == kind);
        assert!(left.iter().any(is_kind), "no {kind} among {left:?}");
    }
    set_times(&state, long_ago());
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 41, "{report:#}");
    assert_eq!(left.iter().find(|file| file.exists()), None);
    assert!(before.iter().all(|file| file.exists()), "what the state refers to stays");
}
