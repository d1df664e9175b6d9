//! Tests of [`super`]: the order of commits, what they write of themselves, and a catalog that is locked.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use rusqlite::Connection;
use tracing::span;

use super::super::testing::{Lake, NOW_MS, StoppedClock};
use super::*;
use crate::lake::read::{live_files, read_data_file};
use crate::source::Offsets;

/// Nothing but a cut: the events of one partition up to the commit's number.
fn cuts(commit: u64) -> Cuts {
    let end = i64::try_from(commit).unwrap();
    let row =
        CutRow { role: Role::Events, topic: "events".into(), partition: 0, start: end - 1, end };
    let mut cut = Cut::default();
    cut.set("events", Offsets::from([(0, end)]));
    Cuts { commit: Commit(commit), moved: vec![row], end: cut, marks: BTreeMap::new() }
}

fn parts(commit: u64) -> CommitParts {
    CommitParts { commit: Commit(commit), parts: Vec::new() }
}

/// The commit at which the catalog has the job.
fn committed(committer: &Committer) -> u64 {
    committer.catalog.read_job(&committer.job.name).unwrap().unwrap().commit
}

#[test]
fn commits_are_made_in_their_order_and_each_once() {
    let lake = Lake::new();
    let mut committer = lake.committer();
    for (of_parts, of_cuts, wrong) in [(2, 2, 2), (2, 1, 2), (1, 2, 2), (0, 1, 0), (1, 0, 0)] {
        let refused = committer.commit(parts(of_parts), cuts(of_cuts)).unwrap_err();
        let CommitterError::Order { got, expected } = refused else { panic!("{refused}") };
        assert_eq!((got, expected), (Commit(wrong), Commit(1)), "{of_parts} {of_cuts}");
    }
    assert_eq!(committed(&committer), 0);
    for commit in 1..=3 {
        let work = committer.commit(parts(commit), cuts(commit)).unwrap();
        assert_eq!((work.commit, committed(&committer)), (commit, commit));
        let again = committer.commit(parts(commit), cuts(commit));
        assert!(matches!(again, Err(CommitterError::Order { .. })));
    }
    assert_eq!(committer.stored.cut, cuts(3).end);
}

#[test]
fn a_commit_says_when_it_was_made() {
    let lake = Lake::new();
    let mut committer = lake.committer();
    committer.commit(parts(1), cuts(1)).unwrap();
    let table = &committer.loaded[committer.tables.cuts()];
    let files = live_files(&committer.store, table).unwrap();
    let rows = read_data_file(&files[0].path, None).unwrap().remove(0);
    assert_eq!((files.len(), rows.num_rows()), (1, 1));
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let at = column("committed_at").as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(at, NOW_MS * 1_000);
    assert_eq!(column("_commit").as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(column("end_offset").as_primitive::<Int64Type>().value(0), 1);
}

#[test]
fn what_only_expired_snapshots_needed_is_deleted() {
    let mut lake = Lake::new();
    lake.job.lake.keep_snapshots = 2;
    let mut committer = lake.committer();
    for commit in 1..=6 {
        committer.clock = Arc::new(StoppedClock(NOW_MS + 1_000 * commit as i64));
        committer.commit(parts(commit), cuts(commit)).unwrap();
    }
    let table = &committer.loaded[committer.tables.cuts()];
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let snapshots = table.metadata.snapshots();
    let known: BTreeSet<String> = snapshots.map(|s| name(s.manifest_list())).collect();
    let folder = lake.job.lake.warehouse.join("small/cuts/metadata");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let files = files.map(|file| file.into_string().unwrap());
    let lists: BTreeSet<String> = files.filter(|file| file.starts_with("snap-")).collect();
    assert_eq!(lists, known);
    assert!(lists.len() < 4, "{lists:?}");
}

/// Hears of every failed try of a commit on its thread.
struct Listener<F>(F);

impl<F: Fn() + Send + Sync + 'static> tracing::Subscriber for Listener<F> {
    fn enabled(&self, line: &tracing::Metadata<'_>) -> bool {
        line.target() == "tidewater::sink::committer"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        (self.0)();
    }
}

/// Makes the first commit while another connection is in the way, which `gives_way` after so many failed
/// tries; gives how many failed, beside the last.
fn commit_beside(
    committer: &mut Committer,
    other: Connection,
    gives_way: Option<u32>,
) -> (Result<Work, CommitterError>, u32) {
    let (other, failed) = (Mutex::new(other), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&failed);
    let listener = Listener(move || {
        let failed = count.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(failed < 20, "the commit is tried for ever");
        if gives_way == Some(failed) {
            other.lock().unwrap().execute_batch("ROLLBACK").unwrap();
        }
    });
    let done = tracing::subscriber::with_default(listener, || committer.commit(parts(1), cuts(1)));
    (done, failed.load(Ordering::Relaxed))
}

#[test]
fn a_locked_catalog_is_tried_so_often_and_no_more() {
    let lake = Lake::new();
    let mut committer = lake.committer();
    let locked = || {
        let other = Connection::open(lake.folder().join("catalog.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    };
    let (refused, failed) = commit_beside(&mut committer, locked(), None);
    let Err(CommitterError::Commit(CommitError::NotSent(error))) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.is_locked());
    assert_eq!((failed, committed(&committer)), (SWAPS_MAX - 1, 0));
    // The last try comes through, with the commit that could not be made before.
    let (done, failed) = commit_beside(&mut committer, locked(), Some(SWAPS_MAX - 1));
    done.unwrap();
    assert_eq!((failed, committed(&committer)), (SWAPS_MAX - 1, 1));
}

#[test]
fn a_catalog_that_fails_in_another_way_is_not_tried_again() {
    let lake = Lake::new();
    let mut committer = lake.committer();
    let other = Connection::open(lake.folder().join("catalog.db")).unwrap();
    other.execute_batch("DROP TABLE tidewater_job").unwrap();
    let (refused, failed) = commit_beside(&mut committer, other, None);
    let Err(CommitterError::Commit(CommitError::NotSent(error))) = refused else {
        panic!("{refused:?}")
    };
    assert!(!error.is_locked());
    assert_eq!(failed, 0);
}
