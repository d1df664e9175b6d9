//! Tests of [`super`]: retention, deletion of what is out of reach, orphans.

use std::path::Path;
use std::sync::Arc;

use iceberg::spec::{SnapshotReference, SnapshotRetention};

use super::*;
use crate::lake::schema::Partitioning;
use crate::lake::snapshot::{Staged, stage};
use crate::lake::testing::{Bench, origin, spec};

const KEEP: Retention = Retention { snapshots_min: 4, age_min: Duration::ZERO };

fn files_on_disk(folder: &Path) -> HashSet<String> {
    let folders = ["t/data", "t/metadata"].map(|f| folder.join(f));
    let entries = folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap());
    entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
}

/// Commits `commits` times, replacing a file now and then, forgetting and deleting as it goes.
fn run(bench: &mut Bench, commits: i64, collect: bool) {
    let mut live: Vec<String> = Vec::new();
    for commit in 0..commits {
        let file = bench.file(commit * 10..commit * 10 + 10, None);
        let removed = if commit % 3 == 2 { vec![live.remove(0)] } else { Vec::new() };
        live.push(file.path.clone());
        let mut change = bench.change(vec![file], removed);
        if commit % 5 == 4 {
            change.expire = expired_snapshots(&bench.table.metadata, KEEP, i64::MAX);
        }
        let Staged { garbage, .. } = bench.apply(&change);
        if collect {
            delete_expired(&bench.store, &bench.table, &garbage).unwrap();
        }
    }
}

#[test]
fn exactly_the_files_in_use_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, true));
    run(&mut bench, 40, true);
    assert_eq!(bench.table.metadata.snapshots().count(), 4);
    assert_eq!(bench.table.metadata.metadata_log().len(), 20);
    assert_eq!(files_on_disk(folder.path()), referenced_files(&bench.store, &bench.table).unwrap());
}

#[test]
fn what_a_table_needs_is_found_while_its_older_snapshots_expire() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, false));
    run(&mut bench, 6, true);
    let (before, there) = (bench.table.clone(), files_on_disk(folder.path()));
    let mut change = bench.change(vec![bench.file(0..5, None)], Vec::new());
    change.expire = expired_snapshots(&bench.table.metadata, KEEP, i64::MAX);
    let Staged { garbage, .. } = bench.apply(&change);
    assert!(delete_expired(&bench.store, &bench.table, &garbage).unwrap().manifest_lists > 0);
    let found = referenced_files(&bench.store, &before).unwrap();
    let needed = referenced_files(&bench.store, &bench.table).unwrap();
    assert!(needed.intersection(&there).all(|path| found.contains(path)));
    // Once the newest snapshot that was known is gone nothing can be said of what followed it.
    run(&mut bench, 5, true);
    assert!(referenced_files(&bench.store, &before).is_err());
}

#[test]
fn garbage_can_wait_and_is_then_deleted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, false));
    run(&mut bench, 10, false);
    let mut garbage = Garbage::default();
    for _ in 0..3 {
        let file = bench.file(0..5, None);
        let mut change = bench.change(vec![file], Vec::new());
        change.expire = expired_snapshots(&bench.table.metadata, KEEP, i64::MAX);
        garbage.absorb(bench.apply(&change).garbage);
    }
    assert!(!garbage.is_empty());
    let first = delete_expired(&bench.store, &bench.table, &garbage).unwrap();
    assert!(first.total() > 0 && first.manifest_lists == garbage.snapshots.len());
    let again = delete_expired(&bench.store, &bench.table, &garbage).unwrap();
    assert_eq!(again.total(), 0);
}

#[test]
fn a_snapshot_goes_only_when_it_is_surplus_and_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, false));
    run(&mut bench, 4, false);
    let metadata = &bench.table.metadata;
    let now = metadata.last_updated_ms();
    let expired = |snapshots_min, age_ms| {
        let age_min = Duration::from_millis(age_ms);
        expired_snapshots(metadata, Retention { snapshots_min, age_min }, now).len()
    };
    assert_eq!(expired(4, 0), 1);
    assert_eq!(expired(1, 0), 3, "the current snapshot stays");
    assert_eq!(expired(1, 2), 2);
    assert_eq!(expired(9, 0), 0);
}

#[test]
fn a_snapshot_that_a_tag_names_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, false));
    run(&mut bench, 3, false);
    let tagged = in_order(&bench.table.metadata)[1].snapshot_id();
    let retention = SnapshotRetention::Tag { max_ref_age_ms: None };
    let builder = TableMetadata::clone(&bench.table.metadata).into_builder(None);
    let tag = builder.set_ref("audit", SnapshotReference::new(tagged, retention)).unwrap();
    bench.table.metadata = Arc::new(tag.build().unwrap().metadata);
    let retention = Retention { snapshots_min: 1, age_min: Duration::ZERO };
    assert_eq!(expired_snapshots(&bench.table.metadata, retention, i64::MAX).len(), 1);
    let file = bench.file(0..1, None);
    let mut change = bench.change(vec![file], Vec::new());
    change.expire = vec![tagged];
    let refused = stage(&bench.store, &bench.table, &change, 0).unwrap_err();
    assert!(matches!(refused, TableError::InUse { .. }), "{refused}");
}

#[test]
fn orphans_of_earlier_runs_are_swept_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, false));
    run(&mut bench, 3, false);
    let used = files_on_disk(folder.path());
    let location = bench.table.metadata.location().to_owned();
    let mut older = origin(9);
    older.incarnation = 2;
    let orphans = [
        older.data_file(&location, 1),
        older.manifest(&location, 0),
        older.manifest_list(&location, 77),
        older.metadata(&location, 9, true),
    ];
    let newer = origin(9).data_file(&location, 1);
    let foreign = format!("{location}/data/part-0.parquet");
    for path in orphans.iter().chain([&newer, &foreign]) {
        bench.store.write_new(path, b"x").unwrap();
    }
    let sweep = |before_incarnation, older_than| {
        let orphans = Orphans { job: "job", before_incarnation, older_than };
        sweep_orphans(&bench.store, &bench.table, orphans).unwrap()
    };
    let future = SystemTime::now() + Duration::from_secs(60);
    let past = SystemTime::now() - Duration::from_secs(60);
    assert_eq!(sweep(3, past), Swept { deleted: Vec::new(), young: orphans.len() });
    assert_eq!(sweep(2, future), Swept::default());
    let mut expected: Vec<String> = orphans.iter().map(|p| normal_path(p).to_owned()).collect();
    expected.sort();
    assert_eq!(sweep(3, future), Swept { deleted: expected, young: 0 });
    assert!(files_on_disk(folder.path()).is_superset(&used));
    // A later run may take the newer one too, and still nothing that is in use.
    assert_eq!(sweep(4, future).deleted, [normal_path(&newer)]);
    assert!(files_on_disk(folder.path()).is_superset(&used));
}
