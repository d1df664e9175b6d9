//! The state folder as a whole: random histories against a map, damage, and what is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

const TINY: WriteOptions = WriteOptions {
    block_bytes: 96,
    chunk_blocks: 3,
};

/// Key to row: what a collection should hold.
type Oracle = BTreeMap<Vec<u64>, Vec<u64>>;

fn write(dir: &Path, layout: &Layout, commit: u64, worker: usize, rows: &Oracle) -> SlabMeta {
    let origin = Origin::of_commit(1, worker, commit, 0);
    write_slab(
        dir,
        layout,
        &origin,
        rows.values().map(Vec::as_slice),
        &TINY,
    )
    .unwrap()
    .unwrap()
}

fn get_all(reader: &Reader, keys: &[Vec<u64>]) -> Oracle {
    let mut found = Oracle::new();
    let mut add = |at: usize, row: &[u64]| {
        assert_eq!(row[..reader.layout().key], keys[at]);
        assert!(
            found.insert(keys[at].clone(), row.to_vec()).is_none(),
            "found twice"
        );
    };
    reader.get_many(&keys.concat(), &mut add).unwrap();
    found
}

fn scan(reader: &Reader, words: &[u64]) -> Vec<Vec<u64>> {
    let mut rows = Vec::new();
    reader
        .scan_prefix_many(words, &mut |row| rows.push(row.to_vec()))
        .unwrap();
    rows
}

/// Every answer of the reader against the oracle, for keys that exist and ones that don't.
fn check(reader: &Reader, oracle: &Oracle, asked: &BTreeSet<Vec<u64>>) {
    let keys: Vec<Vec<u64>> = asked.iter().cloned().collect();
    let expected: Oracle = oracle
        .clone()
        .into_iter()
        .filter(|(key, _)| asked.contains(key))
        .collect();
    assert_eq!(get_all(reader, &keys), expected);

    let words: BTreeSet<u64> = asked.iter().map(|key| key[0]).collect();
    let expected: Vec<_> = oracle
        .values()
        .filter(|row| words.contains(&row[0]))
        .cloned()
        .collect();
    assert_eq!(
        scan(reader, &words.into_iter().collect::<Vec<_>>()),
        expected
    );
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
    let gone = collect_orphans(dir, &live, 3, later).unwrap();
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

/// A slab of `rows` rows with two key words: 10, 20, …; two rows for each first word.
fn simple(dir: &Path, filter: usize, rows: u64) -> (Layout, SlabMeta, Oracle) {
    let layout = Layout::new("simple", 3, 2, filter).unwrap();
    let row = |i: u64| vec![i / 2 * 10, i % 2, i];
    let rows: Oracle = (2..rows + 2)
        .map(|i| (row(i)[..2].to_vec(), row(i)))
        .collect();
    let meta = write(dir, &layout, 1, 0, &rows);
    (layout, meta, rows)
}

/// Reads everything there is to read, filters too.
fn read_all(dir: &Path, layout: &Layout, meta: &SlabMeta, rows: &Oracle) -> Result<(), StateError> {
    let reader = Reader::open(dir, layout, std::slice::from_ref(meta))?;
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let mut found = Oracle::new();
    for _ in 0..2 {
        for _ in 0..slab::FILTER_AFTER_PROBES {
            reader.get_many(&keys, &mut |_, row| {
                found.insert(row[..2].to_vec(), row.to_vec());
            })?;
        }
    }
    assert_eq!(&found, rows, "a wrong answer");
    assert!(layout.filter == 0 || reader.stats().filters > 0);
    Ok(())
}

#[test]
fn every_flipped_bit_of_a_file_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    for filter in 0..=2 {
        let (layout, meta, rows) = simple(dir.path(), filter, 31);
        let file = dir.path().join(&meta.file);
        let good = fs::read(&file).unwrap();
        read_all(dir.path(), &layout, &meta, &rows).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&file, &bad).unwrap();
            let error = read_all(dir.path(), &layout, &meta, &rows).expect_err("a changed byte");
            assert!(
                matches!(&error, StateError::Damaged { file: of, .. } if *of == file),
                "{at}: {error}"
            );
        }
    }
}

#[test]
fn every_shorter_or_longer_file_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 2, 31);
    let file = dir.path().join(&meta.file);
    let good = fs::read(&file).unwrap();
    for length in (0..good.len()).chain([good.len() + 1, good.len() + 24]) {
        let mut bad = good.clone();
        bad.resize(length, 0);
        fs::write(&file, &bad).unwrap();
        // With the length the manifest says, and with one that agrees with the file.
        let agreeing = SlabMeta {
            bytes: length as u64,
            ..meta.clone()
        };
        for meta in [&meta, &agreeing] {
            let error = read_all(dir.path(), &layout, meta, &rows).expect_err("a changed length");
            assert!(
                matches!(error, StateError::Damaged { .. }),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn a_file_cut_after_it_was_opened_and_a_missing_one_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 0, 31);
    let file = dir.path().join(&meta.file);
    let reader = Reader::open(dir.path(), &layout, std::slice::from_ref(&meta)).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(5)
        .unwrap();
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let error = reader.get_many(&keys, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    let error = reader.scan_prefix_many(&[10], &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&meta.file) && text.contains("tidewater recover"),
        "{text}"
    );

    fs::remove_file(&file).unwrap();
    let error = Reader::open(dir.path(), &layout, &[meta.clone()]).unwrap_err();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    assert!(error.to_string().contains(&meta.file));
}

#[test]
fn a_sound_file_in_the_place_of_another_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, first, rows) = simple(dir.path(), 2, 31);
    let (_, second, _) = simple(dir.path(), 2, 31);
    assert_eq!(first.bytes, second.bytes);
    let second = dir.path().join(&second.file);
    fs::copy(second, dir.path().join(&first.file)).unwrap();
    let error = read_all(dir.path(), &layout, &first, &rows).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");

    let (layout, meta, rows) = simple(dir.path(), 2, 31);
    for other in [
        Layout {
            filter: 1,
            ..layout.clone()
        },
        Layout {
            width: 4,
            ..layout.clone()
        },
    ] {
        let error = read_all(dir.path(), &other, &meta, &rows).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    }
}

#[test]
fn rows_in_the_file_are_plain_little_endian_words() {
    let dir = tempfile::tempdir().unwrap();
    let (_, meta, rows) = simple(dir.path(), 2, 31);
    let bytes = fs::read(dir.path().join(&meta.file)).unwrap();
    // 96 bytes a block: three rows of 24 bytes, 16 of padding, the checksum.
    let blocks = bytes.chunks(96).map(|block| &block[..block.len().min(72)]);
    let words: Vec<u64> = blocks
        .flat_map(|block| block.chunks_exact(8))
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .take(31 * 3)
        .collect();
    assert_eq!(words, rows.into_values().flatten().collect::<Vec<_>>());
}

#[test]
fn untouched_blocks_are_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 0, 3000);
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    assert_eq!(reader.stats(), ReadStats::default());
    // Keys outside the slab, and keys no row can lie between.
    reader
        .get_many(&[0, 0, 9, 9, u64::MAX, 0], &mut |_, _| {
            panic!("nothing there")
        })
        .unwrap();
    reader
        .scan_prefix_many(&[0, u64::MAX], &mut |_| panic!("nothing there"))
        .unwrap();
    assert_eq!(reader.stats().blocks, 0);

    let all: Vec<&Vec<u64>> = rows.keys().collect();
    let (mut blocks, mut bytes) = (0, 0);
    for step in [7, 100, 2999] {
        // A block holds three rows; every key is in the block of its position.
        let asked: Vec<usize> = (0..3000).step_by(step).collect();
        let touched: BTreeSet<usize> = asked.iter().map(|at| at / 3).collect();
        let keys: Vec<u64> = asked.iter().flat_map(|at| all[*at]).copied().collect();
        let mut hits = 0;
        reader.get_many(&keys, &mut |_, _| hits += 1).unwrap();
        assert_eq!(hits, asked.len());
        blocks += touched.len() as u64;
        bytes += touched.len() as u64 * 96;
        assert_eq!(
            (reader.stats().blocks, reader.stats().block_bytes),
            (blocks, bytes)
        );
    }
    // Rows 598 and 599 begin with 3000: block 199, and the one before where they might begin.
    assert_eq!(scan(&reader, &[3000]).len(), 2);
    assert!(reader.stats().blocks - blocks <= 2);
}

#[test]
fn filters_are_read_late_and_spare_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new("ids", 1, 1, 1).unwrap();
    let rows: Oracle = (0..4000).map(|i| (vec![i * 10], vec![i * 10])).collect();
    let origin = Origin::of_commit(1, 0, 1, 0);
    let options = WriteOptions {
        block_bytes: 96,
        chunk_blocks: 1000,
    };
    let slices = rows.values().map(Vec::as_slice);
    let meta = write_slab(dir.path(), &layout, &origin, slices, &options)
        .unwrap()
        .unwrap();
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    for key in 0..63 {
        reader
            .get_many(&[key * 600 + 1], &mut |_, _| panic!("nothing there"))
            .unwrap();
    }
    assert_eq!((reader.stats().filters, reader.stats().blocks), (0, 63));
    let strangers: Vec<u64> = (0..3000).map(|i| i * 13 * 10 / 13 + 1).collect();
    reader
        .get_many(&strangers, &mut |_, _| panic!("nothing there"))
        .unwrap();
    let stats = reader.stats();
    assert_eq!(stats.filters, 1);
    assert!(stats.blocks < 63 + 60, "{stats:?}");
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let mut hits = 0;
    reader.get_many(&keys, &mut |_, _| hits += 1).unwrap();
    assert_eq!(hits, rows.len());
}

#[test]
fn a_stopped_or_refused_write_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new("ids", 2, 1, 1).unwrap();
    let origin = Origin::of_commit(1, 0, 1, 0);
    let count = || fs::read_dir(dir.path()).unwrap().count();
    let put =
        |rows: &[&[u64]]| write_slab(dir.path(), &layout, &origin, rows.iter().copied(), &TINY);
    assert!(put(&[]).unwrap().is_none());
    for wrong in [
        &[&[2, 0][..], &[1, 0]][..],
        &[&[2, 0], &[2, 1]],
        &[&[1, 0], &[2]],
    ] {
        assert!(matches!(put(wrong), Err(StateError::Misuse { .. })));
    }
    assert_eq!(count(), 0);
    let slabs = [put(&[&[1, 0], &[2, 0]]).unwrap().unwrap()];
    let stop = AtomicBool::new(true);
    let stopped = merge(dir.path(), &layout, &slabs, (1, 0), &TINY, &stop);
    assert!(matches!(stopped, Err(StateError::Stopped { .. })));
    assert_eq!(count(), 1);
}

#[test]
fn keys_that_are_not_sorted_or_not_whole_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, _) = simple(dir.path(), 0, 31);
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    for keys in [&[20, 0, 10, 0][..], &[10, 0, 20]] {
        assert!(reader.get_many(keys, &mut |_, _| {}).is_err());
    }
    assert!(reader.scan_prefix_many(&[10, 10], &mut |_| {}).is_err());
    // The same key twice is found twice.
    let mut found = Vec::new();
    reader
        .get_many(&[10, 0, 10, 0, 11, 0], &mut |at, _| found.push(at))
        .unwrap();
    assert_eq!(found, [0, 1]);
}

#[test]
fn collections_have_sane_layouts() {
    for (name, width, key, filter) in [
        ("", 1, 1, 0),
        ("a/b", 1, 1, 0),
        ("a", 0, 0, 0),
        ("a", 25, 1, 1),
        ("a", 2, 3, 0),
        ("a", 2, 1, 2),
    ] {
        assert!(
            Layout::new(name, width, key, filter).is_err(),
            "{name} {width} {key} {filter}"
        );
    }
}

/// Figures; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let rows = 5_000_000_u64;
    let mix = |i: u64| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes());
    let cpu = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap() as f64 / 1e6
    };
    for (key, filter) in [(1, 0), (1, 1), (2, 2)] {
        let layout = Layout::new("figures", 5, key, filter).unwrap();
        let mut manifest = Manifest::default();
        for commit in 0..2 {
            let mut sorted: Vec<[u64; 5]> = (0..rows)
                .map(|i| [mix(i * 2 + commit), 1, 2, 3, i])
                .collect();
            sorted.sort_unstable();
            let origin = Origin::of_commit(1, 0, commit, 0);
            let options = WriteOptions::default();
            let started = cpu();
            let mut writer =
                write::SlabWriter::create(dir.path(), &layout, &origin, &options).unwrap();
            for row in &sorted {
                writer.push(row).unwrap();
            }
            let pushed = cpu();
            writer.write_tail().unwrap();
            let tail = cpu() - pushed;
            let wrote = cpu() - started;
            drop(writer);
            let slices = sorted.iter().map(|row| &row[..]);
            let meta = write_slab(dir.path(), &layout, &origin, slices, &options).unwrap().unwrap();
            println!(
                "key {key} filter {filter}: {:.1} M rows/s of CPU without sync (tail {tail:.0} ms)",
                rows as f64 / wrote / 1e3,
            );
            manifest.add(meta).unwrap();
        }
        let slabs = manifest.collection("figures");
        for round in 0..3 {
            let reader = Reader::open(dir.path(), &layout, slabs).unwrap();
            let mut keys: Vec<Vec<u64>> = (0..1000)
                .map(|i| vec![mix(mix(i + round * 1000) % (rows * 4)), 1, 2][..key].to_vec())
                .collect();
            keys.sort_unstable();
            let keys = keys.concat();
            let mut hits = 0;
            let (started, clock) = (cpu(), std::time::Instant::now());
            reader.get_many(&keys, &mut |_, _| hits += 1).unwrap();
            let (got, clock) = (cpu() - started, clock.elapsed());
            let words: Vec<u64> = keys.chunks(key).map(|key| key[0]).collect();
            let started = cpu();
            let mut scanned = 0;
            reader
                .scan_prefix_many(&words, &mut |_| scanned += 1)
                .unwrap();
            println!(
                "get 1000: {got:.1} ms CPU, {clock:?} ({hits} hits); scan 1000: {:.1} ms CPU ({scanned}); {:?}",
                cpu() - started,
                reader.stats()
            );
        }
        let started = cpu();
        let stop = AtomicBool::new(false);
        let options = WriteOptions::default();
        let merged = merge(dir.path(), &layout, slabs, (1, 0), &options, &stop).unwrap();
        println!(
            "merge: {:.0} ms CPU for {} rows (synced)",
            cpu() - started,
            merged.rows
        );
    }
}
