//! Tests of [`super`]: the plan of merges, splits, and what may be merged.

use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};
use proptest::prelude::*;

use super::*;
use crate::lake::schema::Partitioning;
use crate::lake::testing::{Bench, spec};

/// Appends `per_commit` files in each of `commits` commits; returns the manifests at the end, the
/// most manifests there ever were, and how many entries were written in all.
fn append(commits: usize, per_commit: u64) -> (Vec<u64>, usize, u64) {
    let (mut manifests, mut most, mut written) = (Vec::<u64>::new(), 0, 0);
    for _ in 0..commits {
        let total = manifests.iter().sum::<u64>() + per_commit;
        let full = full_size(total);
        let folded = plan_merge(&manifests, per_commit, full);
        let new = per_commit + folded.iter().map(|&at| manifests[at]).sum::<u64>();
        let mut at = 0..;
        manifests.retain(|_| !folded.contains(&at.next().unwrap()));
        let parts = new.div_ceil(full);
        manifests.extend((0..parts).map(|part| new / parts + u64::from(part < new % parts)));
        written += new;
        most = most.max(manifests.len());
    }
    (manifests, most, written)
}

#[test]
fn a_table_stays_below_a_hundred_manifests() {
    for (commits, per_commit) in [(100_000, 1), (20_000, 7), (3_000, 1000), (500, 3000)] {
        let (manifests, most, _) = append(commits, per_commit);
        assert!(most < MANIFESTS_MAX, "{commits} commits of {per_commit}: {most} manifests");
        assert_eq!(manifests.iter().sum::<u64>(), commits as u64 * per_commit);
    }
}

#[test]
fn an_entry_is_written_few_times() {
    let (_, _, written) = append(20_000, 1);
    assert!(written < 5 * 20_000, "{written} entries written for 20,000 files");
}

#[test]
fn the_first_commits_merge_nothing() {
    assert!(plan_merge(&[1; 10], 1, FULL_LEAST).is_empty());
    assert_eq!(plan_merge(&[1; 11], 1, FULL_LEAST).len(), 11);
    assert!(plan_merge(&[600; 40], 1, FULL_LEAST).is_empty());
}

#[test]
fn a_fold_can_set_off_the_next() {
    let carried: Vec<u64> = [vec![12; 11], vec![1; 11]].concat();
    assert_eq!(plan_merge(&carried, 1, FULL_LEAST).len(), 22);
}

#[test]
fn a_tier_begins_at_a_power_of_the_fan_in_and_half_a_full_manifest_is_in_none() {
    let tier = |live| tier_of(live, FULL_LEAST);
    assert_eq!([0, 1, 11, 12, 143, 144, 511].map(tier), [0, 0, 0, 1, 1, 2, 2].map(Some));
    assert_eq!([512, 513, 1024, u64::MAX].map(tier), [None; 4]);
    assert_eq!((full_size(0), full_size(16 * 1024), full_size(16 * 1024 + 1)), (1024, 1024, 1025));
}

fn data_file(name: String) -> DataFile {
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::Data)
        .file_path(name)
        .file_format(DataFileFormat::Parquet)
        .record_count(1)
        .file_size_in_bytes(1);
    builder.build().unwrap()
}

fn live_entry(name: String) -> Arc<LiveEntry> {
    let file = data_file(name);
    Arc::new(LiveEntry { file, snapshot_id: 1, sequence_number: 1, file_sequence_number: 1 })
}

/// The paths of added, existing and deleted files.
fn paths(entries: &[Entries]) -> [Vec<String>; 3] {
    let path = |file: &DataFile| file.file_path().to_owned();
    let live = |entry: &Arc<LiveEntry>| path(&entry.file);
    [
        entries.iter().flat_map(|part| &part.added).map(path).collect(),
        entries.iter().flat_map(|part| &part.existing).map(live).collect(),
        entries.iter().flat_map(|part| &part.deleted).map(live).collect(),
    ]
}

proptest! {
    #[test]
    fn a_split_keeps_every_entry_and_its_parts_are_few_and_not_too_large(
        added in 0..40_usize, existing in 0..40_usize, deleted in 0..4_usize, full in 1..30_usize,
    ) {
        let entries = Entries {
            added: (0..added).map(|at| data_file(format!("added-{at}"))).collect(),
            existing: (0..existing).map(|at| live_entry(format!("existing-{at}"))).collect(),
            deleted: (0..deleted).map(|at| live_entry(format!("deleted-{at}"))).collect(),
        };
        let live = added + existing;
        prop_assert_eq!(entries.live(), live as u64);
        prop_assert_eq!(entries.is_empty(), live + deleted == 0);
        prop_assert!(Entries::default().is_empty());
        let before = paths(std::slice::from_ref(&entries));
        let parts = entries.split(full as u64);
        prop_assert_eq!(paths(&parts), before);
        let sizes: Vec<usize> =
            parts.iter().map(|part| part.added.len() + part.existing.len()).collect();
        prop_assert_eq!(sizes.len(), live.div_ceil(full).max(1));
        prop_assert!(sizes.iter().all(|size| *size <= full), "{:?}", sizes);
        prop_assert!(sizes[1..].iter().rev().skip(1).all(|size| *size == sizes[0]), "{:?}", sizes);
    }
}

#[test]
fn only_our_own_plain_manifests_of_one_partition_spec_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), spec("t", Partitioning::None, false));
    let file = bench.file(0..1, None);
    let change = bench.change(vec![file], Vec::new());
    bench.apply(&change);
    let plain = bench.table.manifests[0].clone();
    let spec_id = plain.partition_spec_id;
    assert!(is_mergeable(&plain, spec_id));
    assert!(!is_mergeable(&plain, spec_id + 1));
    let deletes = ManifestFile { content: ManifestContentType::Deletes, ..plain.clone() };
    assert!(!is_mergeable(&deletes, spec_id));
    let encrypted = ManifestFile { key_metadata: Some(vec![1]), ..plain };
    assert!(!is_mergeable(&encrypted, spec_id));
}
