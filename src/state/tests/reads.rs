//! What is read, what is refused, and what is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::AtomicBool;

use super::super::blocks::BlockReader;
use super::super::reader::Counters;
use super::super::write::SlabWriter;
use super::*;

#[test]
fn untouched_blocks_are_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 0, 3000);
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    assert_eq!(reader.take_stats(), ReadStats::default());
    // Keys outside the slab, and keys no row can lie between.
    reader.get_many(&[0, 0, 9, 9, u64::MAX, 0], &mut |_, _| panic!("nothing there")).unwrap();
    reader.scan_prefix_many(&[0, u64::MAX], &mut |_| panic!("nothing there")).unwrap();
    assert_eq!(reader.take_stats().blocks, 0);

    let all: Vec<&Vec<u64>> = rows.keys().collect();
    for step in [7, 100, 2999] {
        // A block holds three rows; every key is in the block of its position.
        let asked: Vec<usize> = (0..3000).step_by(step).collect();
        let touched: BTreeSet<usize> = asked.iter().map(|at| at / 3).collect();
        let keys: Vec<u64> = asked.iter().flat_map(|at| all[*at]).copied().collect();
        let mut hits = 0;
        reader.get_many(&keys, &mut |_, _| hits += 1).unwrap();
        assert_eq!(hits, asked.len());
        let (stats, blocks) = (reader.take_stats(), touched.len() as u64);
        assert_eq!((stats.blocks, stats.block_bytes), (blocks, blocks * 96));
    }
    // Rows 598 and 599 begin with 3000: block 199, and the one before where they might begin.
    let mut rows = 0;
    reader.scan_prefix_many(&[3000], &mut |_| rows += 1).unwrap();
    assert_eq!(rows, 2);
    assert!(reader.take_stats().blocks <= 2);
}

#[test]
fn neighbouring_blocks_are_read_with_one_call_of_a_mebibyte_at_most() {
    let dir = tempfile::tempdir().unwrap();
    // Three rows of 24 bytes in a block of 96.
    let (layout, meta, _) = simple(dir.path(), 0, 36_000);
    let slab = Slab::open(dir.path(), &layout, &meta).unwrap();
    let counters = Counters::default();
    let runs = |blocks: &[usize]| {
        let mut reader = BlockReader::new(&slab, &counters, blocks.iter().copied());
        let mut runs = Vec::new();
        while let Some(run) = reader.next_run().unwrap() {
            runs.push(run);
        }
        runs
    };
    let all: Vec<usize> = (0..12_000).collect();
    assert_eq!(runs(&all), [0..(1 << 20) / 96, (1 << 20) / 96..12_000]);
    assert_eq!(runs(&[3, 3, 4, 7, 8, 8, 11]), [3..5, 7..9, 11..12]);
    assert!(runs(&[]).is_empty());
}

#[test]
fn more_keys_than_are_looked_up_together_are_found_each_at_its_place() {
    let dir = tempfile::tempdir().unwrap();
    // Two rows for each first word: more first words than 65,536, too.
    let (layout, meta, rows) = simple(dir.path(), 1, 140_000);
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let mut found = vec![0; rows.len()];
    reader
        .get_many(&keys, &mut |at, row| {
            assert_eq!(row[..2], keys[at * 2..at * 2 + 2]);
            found[at] += 1;
        })
        .unwrap();
    assert!(found.iter().all(|times| *times == 1));
    let words: BTreeSet<u64> = rows.keys().map(|key| key[0]).collect();
    let words: Vec<u64> = words.into_iter().collect();
    let mut scanned = Vec::new();
    reader.scan_prefix_many(&words, &mut |row| scanned.push(row[2])).unwrap();
    assert_eq!(scanned, rows.values().map(|row| row[2]).collect::<Vec<_>>());
}

#[test]
fn filters_are_read_late_and_spare_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new("ids", 1, 1, 1).unwrap();
    let rows: Oracle = (0..4000).map(|i| (vec![i * 10], vec![i * 10])).collect();
    let origin = Origin::of_commit(1, 0, 1, 0);
    let options = WriteOptions { block_bytes: 96, chunk_blocks: 1000 };
    let meta = slab_rows(&layout, &rows).write(dir.path(), &origin, &options).unwrap().unwrap();
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    let too_few = slab::FILTER_AFTER_PROBES as u64 - 1;
    for key in 0..too_few {
        reader.get_many(&[key * 600 + 1], &mut |_, _| panic!("nothing there")).unwrap();
    }
    let stats = reader.take_stats();
    assert_eq!((stats.filters, stats.blocks), (0, too_few));
    let strangers: Vec<u64> = (0..3000).map(|i| i * 13 * 10 / 13 + 1).collect();
    reader.get_many(&strangers, &mut |_, _| panic!("nothing there")).unwrap();
    let stats = reader.take_stats();
    assert_eq!(stats.filters, 1);
    assert!(stats.blocks < 60, "{stats:?}");
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let mut hits = 0;
    reader.get_many(&keys, &mut |_, _| hits += 1).unwrap();
    assert_eq!(hits, rows.len());
    assert_eq!(reader.take_stats().filters, 0, "a filter is read once");
}

#[test]
fn slabs_without_filters_are_asked_however_often() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 0, 90);
    let reader = Reader::open(dir.path(), &layout, &[meta]).unwrap();
    assert!(!reader.is_empty());
    assert!(Reader::open(dir.path(), &layout, &[]).unwrap().is_empty());
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    for _ in 0..2 * slab::FILTER_AFTER_PROBES {
        let mut hits = 0;
        reader.get_many(&keys, &mut |_, _| hits += 1).unwrap();
        assert_eq!(hits, rows.len());
    }
    assert_eq!(reader.take_stats().filters, 0);
}

#[test]
fn a_slab_of_one_row_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new("ids", 3, 2, 1).unwrap();
    let rows: Oracle = [(vec![5, 6], vec![5, 6, 7])].into();
    let origin = Origin::of_commit(1, 0, 1, 0);
    let written = slab_rows(&layout, &rows).write(dir.path(), &origin, &WriteOptions::default());
    let reader = Reader::open(dir.path(), &layout, &[written.unwrap().unwrap()]).unwrap();
    let mut found = Vec::new();
    reader.get_many(&[5, 6], &mut |_, row| found.extend_from_slice(row)).unwrap();
    assert_eq!(found, [5, 6, 7]);
}

#[test]
fn a_stopped_or_refused_write_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new("ids", 2, 1, 1).unwrap();
    let origin = Origin::of_commit(1, 0, 1, 0);
    let count = || fs::read_dir(dir.path()).unwrap().count();
    let rows: Oracle = (0..3).map(|key| (vec![key], vec![key << 60, 0])).collect();
    assert_eq!(slab_rows(&layout, &rows).rows(), 3);
    let write = |rows: &[&[u64]]| {
        let mut writer = SlabWriter::create(dir.path(), &layout, &origin, &TINY)?;
        rows.iter().try_for_each(|row| writer.push(row))?;
        writer.finish()
    };
    for wrong in [&[&[2, 0][..], &[1, 0]][..], &[&[2, 0], &[2, 1]], &[&[1, 0], &[2]], &[]] {
        assert!(matches!(write(wrong), Err(StateError::Misuse { .. })));
    }
    assert!(SlabRows::new(layout.clone()).write(dir.path(), &origin, &TINY).unwrap().is_none());
    assert_eq!(count(), 0);
    let slabs = [write(&[&[1, 0], &[2, 0]]).unwrap()];
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
    reader.get_many(&[10, 0, 10, 0, 11, 0], &mut |at, _| found.push(at)).unwrap();
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
        assert!(Layout::new(name, width, key, filter).is_err(), "{name} {width} {key} {filter}");
    }
}
