//! The state folder as a whole, by purpose.

mod damage;
mod history;
mod reads;

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const TINY: WriteOptions = WriteOptions { block_bytes: 96, chunk_blocks: 3 };

/// Key to row: what a collection should hold.
type Oracle = BTreeMap<Vec<u64>, Vec<u64>>;

fn write(dir: &Path, layout: &Layout, commit: u64, worker: usize, rows: &Oracle) -> SlabMeta {
    let origin = Origin::of_commit(1, worker, commit, 0);
    slab_rows(layout, rows).write(dir, &origin, &TINY).unwrap().unwrap()
}

/// The rows, taken in from the last to the first.
fn slab_rows(layout: &Layout, rows: &Oracle) -> SlabRows {
    let mut unsorted = SlabRows::new(layout.clone());
    rows.values().rev().for_each(|row| unsorted.push(row));
    unsorted
}

/// A slab of `rows` rows with two key words: 10, 20, …; two rows for each first word.
fn simple(dir: &Path, filter: usize, rows: u64) -> (Layout, SlabMeta, Oracle) {
    let layout = Layout::new("simple", 3, 2, filter).unwrap();
    let row = |i: u64| vec![i / 2 * 10, i % 2, i];
    let rows: Oracle = (2..rows + 2).map(|i| (row(i)[..2].to_vec(), row(i))).collect();
    let meta = write(dir, &layout, 1, 0, &rows);
    (layout, meta, rows)
}
