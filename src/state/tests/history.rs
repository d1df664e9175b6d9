//! Random histories of commits, merges and questions against a map.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

fn get_all(reader: &Reader, keys: &[Vec<u64>]) -> Oracle {
    let mut found = Oracle::new();
    let mut add = |at: usize, row: &[u64]| {
        assert_eq!(row[..reader.layout().key], keys[at]);
        assert!(found.insert(keys[at].clone(), row.to_vec()).is_none(), "found twice");
    };
    reader.get_many(&keys.concat(), &mut add).unwrap();
    found
}

fn scan(reader: &Reader, words: &[u64]) -> Vec<Vec<u64>> {
    let mut rows = Vec::new();
    reader.scan_prefix_many(words, &mut |row| rows.push(row.to_vec())).unwrap();
    rows
}

/// Every answer of the reader against the oracle, for keys that exist and ones that don't.
fn check(reader: &Reader, oracle: &Oracle, asked: &BTreeSet<Vec<u64>>) {
    let keys: Vec<Vec<u64>> = asked.iter().cloned().collect();
    let expected: Oracle =
        oracle.clone().into_iter().filter(|(key, _)| asked.contains(key)).collect();
    assert_eq!(get_all(reader, &keys), expected);

    let words: BTreeSet<u64> = asked.iter().map(|key| key[0]).collect();
    let expected: Vec<_> = oracle.values().filter(|row| words.contains(&row[0])).cloned().collect();
    assert_eq!(scan(reader, &words.into_iter().collect::<Vec<_>>()), expected);
}

#[derive(Debug, Clone)]
enum Step {
    /// Rows of a commit, each (key, worker); the rest of a row is drawn from the commit.
    Commit(Vec<(Vec<u64>, usize)>),
    Ask(Vec<Vec<u64>>),
    Merge(bool),
}

fn history() -> impl Strategy<Value = (Layout, Vec<Step>)> {
    (1..=3_usize, 0..=3_usize, 0..=3_usize).prop_flat_map(|(key, more, filter)| {
        let layout = Layout::new("base.regional", key + more, key, filter.min(key)).unwrap();
        // Few first words with many rows each, so that keys of one word straddle blocks.
        let word = prop_oneof![4 => 0..12_u64, 1 => Just(u64::MAX), 1 => any::<u64>()];
        let keys = prop::collection::vec(word, key);
        let commit = prop::collection::vec((keys.clone(), 0..3_usize), 0..80);
        let step = prop_oneof![
            4 => commit.prop_map(Step::Commit),
            2 => prop::collection::vec(keys, 0..80).prop_map(Step::Ask),
            2 => any::<bool>().prop_map(Step::Merge),
        ];
        (Just(layout), prop::collection::vec(step, 1..24))
    })
}

/// Merges what `choose_merge` says, or else (if `force`) some neighbouring commits.
fn merge_some(dir: &Path, layout: &Layout, manifest: &mut Manifest, force: bool) {
    let slabs = manifest.collection(&layout.collection).to_vec();
    let chosen = choose_merge(&slabs).or_else(|| {
        let commits: BTreeSet<_> = slabs.iter().map(|slab| slab.commit_to).collect();
        let from = *commits.iter().nth(commits.len() / 3)?;
        let to = *commits.iter().nth(commits.len() * 2 / 3)?;
        let begin = slabs.partition_point(|slab| slab.commit_to < from);
        let end = slabs.partition_point(|slab| slab.commit_to <= to);
        force.then_some(begin..end)
    });
    let Some(chosen) = chosen.filter(|range| !range.is_empty()) else {
        return;
    };
    let inputs = &slabs[chosen];
    let stop = AtomicBool::new(false);
    let merged = merge(dir, layout, inputs, (2, 0), &TINY, &stop).unwrap();
    assert!(merged.rows <= inputs.iter().map(|slab| slab.rows).sum());
    manifest.replace(inputs, merged).unwrap();
    let live = manifest.files();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let gone = collect_orphans(dir, |name| !live.contains(name), later).unwrap();
    assert_eq!(gone.len(), inputs.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_reads_like_a_map((layout, steps) in history()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut oracle, mut manifest) = (Oracle::new(), Manifest::default());
        let mut pinned = None;
        for (commit, step) in steps.into_iter().enumerate() {
            let name = &layout.collection;
            match step {
                Step::Commit(rows) => {
                    let mut by_worker = [const { Oracle::new() }; 3];
                    let rows: BTreeMap<_, _> = rows.into_iter().collect();
                    for (key, worker) in rows {
                        let mut row = key.clone();
                        row.resize(layout.width, commit as u64 + 1);
                        oracle.insert(key.clone(), row.clone());
                        by_worker[worker].insert(key, row);
                    }
                    for (worker, rows) in by_worker.iter().enumerate().filter(|(_, r)| !r.is_empty()) {
                        manifest.add(write(dir.path(), &layout, commit as u64, worker, rows)).unwrap();
                    }
                }
                Step::Ask(keys) => {
                    let reader = Reader::open(dir.path(), &layout, manifest.collection(name)).unwrap();
                    // Twice, so that filters come into play that were not read at first.
                    for _ in 0..2 {
                        check(&reader, &oracle, &keys.iter().cloned().collect());
                        check(&reader, &oracle, &oracle.keys().cloned().collect());
                    }
                    pinned = Some((reader, oracle.clone()));
                }
                Step::Merge(force) => merge_some(dir.path(), &layout, &mut manifest, force),
            }
        }
        let reader = Reader::open(dir.path(), &layout, manifest.collection(&layout.collection)).unwrap();
        check(&reader, &oracle, &oracle.keys().cloned().collect());
        // A reader goes on seeing the commit it was opened at, deleted files or not.
        if let Some((reader, oracle)) = pinned {
            check(&reader, &oracle, &oracle.keys().cloned().collect());
        }
    }
}
