//! Tests of [`super`]: appends, replacements, merging, and what a reload finds.

use super::*;
use crate::lake::data_file::FilePartition;
use crate::lake::metadata_file;
use crate::lake::read::live_files;
use crate::lake::schema::Partitioning;
use crate::lake::testing::{Bench, origin, spec};

fn bench(folder: &tempfile::TempDir) -> Bench {
    Bench::new(folder.path(), spec("t", Partitioning::None, true))
}

/// What the cache holds must be what a reload finds.
fn check_reload(bench: &Bench) {
    let fresh = bench.reload();
    assert_eq!(fresh.metadata, bench.table.metadata);
    assert_eq!(fresh.manifests, bench.table.manifests);
    for manifest in fresh.manifests.iter() {
        if let Some(cached) = bench.table.entries.get(&manifest.manifest_path) {
            let read = manifests::read_live(&bench.store, manifest).unwrap();
            let key = |e: &Arc<LiveEntry>| {
                let numbers = (e.snapshot_id, e.sequence_number, e.file_sequence_number);
                (e.file.file_path().to_owned(), numbers)
            };
            let sorted = |entries: &[Arc<LiveEntry>]| {
                let mut keys: Vec<_> = entries.iter().map(key).collect();
                keys.sort();
                keys
            };
            assert_eq!(sorted(cached), sorted(&read));
        }
    }
}

fn summary(bench: &Bench, key: &str) -> u64 {
    bench.table.summary().get(key).map_or(0, |value| value.parse().unwrap())
}

#[test]
fn appends_carry_manifests_over_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    for commit in 0..5 {
        let file = bench.file(commit * 10..commit * 10 + 10, None);
        let change = bench.change(vec![file], Vec::new());
        let staged = bench.apply(&change);
        assert_eq!(staged.swap().to, bench.table.metadata_location);
        let version = i32::try_from(commit + 1).unwrap();
        assert_eq!(metadata_version(&bench.table.metadata_location), version);
        assert!(bench.table.entries.is_empty(), "an append reads no manifest and keeps none");
        check_reload(&bench);
    }
    assert_eq!((bench.table.manifest_count(), bench.table.file_count()), (5, 5));
    assert_eq!(bench.table.row_count(), 50);
    let files = live_files(&bench.store, &bench.table).unwrap();
    assert_eq!(files.iter().map(|f| f.rows).sum::<u64>(), 50);
    assert_eq!(summary(&bench, "total-records"), 50);
    assert_eq!(summary(&bench, "total-files-size"), files.iter().map(|f| f.bytes).sum::<u64>());
    assert_eq!(summary(&bench, "added-data-files"), 1);
    assert_eq!(bench.table.summary()["tidewater.commit"], "5");
    let operation = &bench.table.metadata.current_snapshot().unwrap().summary().operation;
    assert_eq!(*operation, iceberg::spec::Operation::Append);
}

#[test]
fn a_replaced_file_is_gone_and_its_neighbours_keep_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    let files: Vec<WrittenFile> =
        (0..4).map(|at| bench.file(at * 10..at * 10 + 10, None)).collect();
    let change = bench.change(files.clone(), Vec::new());
    let first = bench.apply(&change).snapshot_id;
    let new = bench.file(10..15, None);
    // Another program may have written the location in its other form.
    let removed = files[1].path.replace("file:///", "file:/");
    let change = bench.change(vec![new.clone()], vec![removed]);
    let second = bench.apply(&change).snapshot_id;
    check_reload(&bench);
    let manifests = bench.table.manifests.iter().map(|manifest| &manifest.manifest_path);
    assert!(bench.table.entries.keys().eq(manifests), "what was replaced will be so again");
    let mut live: Vec<String> =
        live_files(&bench.store, &bench.table).unwrap().into_iter().map(|f| f.path).collect();
    let mut expected: Vec<String> =
        [&files[0], &files[2], &files[3], &new].map(|f| f.path.clone()).into();
    live.sort();
    expected.sort();
    assert_eq!(live, expected);
    let entries = manifests::read_live(&bench.store, &bench.table.manifests[0]).unwrap();
    for entry in entries {
        let (snapshot, sequence) =
            if entry.file.file_path() == new.path { (second, 2) } else { (first, 1) };
        assert_eq!((entry.snapshot_id, entry.sequence_number), (snapshot, sequence));
    }
    let deleted = manifests::read_deleted(&bench.store, &bench.table.manifests[0], second).unwrap();
    assert_eq!(deleted, [files[1].path.clone()]);
    assert_eq!((summary(&bench, "deleted-records"), summary(&bench, "total-records")), (10, 35));
}

#[test]
fn a_removed_path_that_is_not_live_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    let file = bench.file(0..10, None);
    let change = bench.change(vec![file.clone()], Vec::new());
    bench.apply(&change);
    let change = bench.change(Vec::new(), vec![file.path.clone()]);
    bench.apply(&change);
    assert_eq!((bench.table.file_count(), summary(&bench, "total-records")), (0, 0));
    let again = stage(&bench.store, &bench.table, &change, 0).unwrap_err();
    assert!(matches!(again, TableError::NotLive { missing: 1, .. }), "{again}");
    assert!(again.to_string().contains("lake.t"), "{again}");
    // The manifest of deletions is left out of the next list.
    let file = bench.file(0..10, None);
    let change = bench.change(vec![file], Vec::new());
    bench.apply(&change);
    assert_eq!(bench.table.manifest_count(), 1);
    let nothing = bench.change(Vec::new(), Vec::new());
    let refused = stage(&bench.store, &bench.table, &nothing, 0);
    assert!(matches!(refused, Err(TableError::Empty { .. })));
}

#[test]
fn a_full_tier_becomes_one_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    for commit in 0..25_i64 {
        let file = bench.file(commit..commit + 1, None);
        let change = bench.change(vec![file], Vec::new());
        bench.apply(&change);
        check_reload(&bench);
        let commits = usize::try_from(commit + 1).unwrap();
        assert_eq!(bench.table.manifest_count(), commits / 12 + commits % 12);
        assert_eq!(bench.table.row_count(), commits as u64);
    }
    let sequences: Vec<i64> = bench.table.manifests.iter().map(|m| m.sequence_number).collect();
    assert!(sequences.is_sorted_by(|a, b| a >= b), "{sequences:?}");
}

#[test]
fn a_change_that_only_removes_files_folds_no_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    let files: Vec<WrittenFile> = (0..23).map(|at| bench.file(at..at + 1, None)).collect();
    for file in &files {
        let change = bench.change(vec![file.clone()], Vec::new());
        bench.apply(&change);
    }
    // The first twelve files share a manifest, which goes; the others have one each.
    let removed = files[..12].iter().map(|file| file.path.clone()).collect();
    let change = bench.change(Vec::new(), removed);
    bench.apply(&change);
    check_reload(&bench);
    assert_eq!((bench.table.manifest_count(), bench.table.file_count()), (12, 11));
    let file = bench.file(0..1, None);
    let change = bench.change(vec![file], Vec::new());
    bench.apply(&change);
    check_reload(&bench);
    assert_eq!((bench.table.manifest_count(), bench.table.file_count()), (1, 12));
}

#[test]
fn garbage_is_empty_without_snapshots_and_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    assert!(Garbage::default().is_empty());
    let metadata_files = vec!["old.metadata.json".to_owned()];
    assert!(!Garbage { metadata_files, ..Garbage::default() }.is_empty());
    let file = bench.file(0..1, None);
    let change = bench.change(vec![file], Vec::new());
    bench.apply(&change);
    let snapshots = bench.table.metadata.snapshots().cloned().collect();
    assert!(!Garbage { snapshots, ..Garbage::default() }.is_empty());
}

#[test]
fn a_day_partition_is_written_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::Day("at".into()), false));
    let files = vec![bench.file(0..10, Some(-1)), bench.file(10..20, None)];
    let change = bench.change(files.clone(), Vec::new());
    bench.apply(&change);
    check_reload(&bench);
    let partitions = bench.table.manifests[0].partitions.as_ref().unwrap();
    assert!(partitions[0].contains_null);
    assert_eq!(partitions[0].lower_bound.as_ref().unwrap().as_ref(), (-1_i32).to_le_bytes());
    let wrong = WrittenFile { partition: FilePartition::Unpartitioned, ..files[0].clone() };
    let change = bench.change(vec![wrong], Vec::new());
    assert!(stage(&bench.store, &bench.table, &change, 0).is_err());
}

#[test]
fn time_never_stands_still_and_properties_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    let mut times = Vec::new();
    for now in [5, 0, 3_000_000_000_000, 0] {
        let file = bench.file(0..1, None);
        let mut change = bench.change(vec![file], Vec::new());
        change.properties.insert("tidewater.cut".into(), now.to_string());
        let staged = stage(&bench.store, &bench.table, &change, now).unwrap();
        bench.table = staged.table;
        times.push(bench.table.metadata.last_updated_ms());
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert_eq!(bench.reload().metadata.properties()["tidewater.cut"], "0");
}

#[test]
fn a_discarded_commit_leaves_nothing_and_can_be_staged_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    let file = bench.file(0..10, None);
    let change = bench.change(vec![file], Vec::new());
    let count = || std::fs::read_dir(folder.path().join("t/metadata")).unwrap().count();
    let before = count();
    let staged = stage(&bench.store, &bench.table, &change, 0).unwrap();
    assert_eq!(count(), before + 3);
    staged.discard(&bench.store).unwrap();
    assert_eq!(count(), before);
    bench.apply(&change);
    check_reload(&bench);
    assert_eq!(change.origin, origin(1));
}

#[test]
fn equal_metadata_gives_equal_bytes_with_snapshots_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder);
    for commit in 0..8_i64 {
        let file = bench.file(commit..commit + 1, None);
        let change = bench.change(vec![file], Vec::new());
        bench.apply(&change);
    }
    let bytes = |table: &LoadedTable, gzip| metadata_file::encode(&table.metadata, gzip).unwrap();
    for gzip in [false, true] {
        assert_eq!(bytes(&bench.reload(), gzip), bytes(&bench.table, gzip));
    }
    let json: serde_json::Value = serde_json::from_slice(&bytes(&bench.table, false)).unwrap();
    let numbers: Vec<i64> = json["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["sequence-number"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}
