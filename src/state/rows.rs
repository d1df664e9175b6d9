//! Rows on their way into a slab: gathered in any order, sorted when the slab is written.

use std::path::Path;

use super::error::StateError;
use super::layout::Layout;
use super::manifest::SlabMeta;
use super::write::{Origin, SlabWriter, WriteOptions};

/// Bits of the first key word that choose a row's bucket.
const BUCKET_BITS: u32 = 9;

/// Rows of one slab to be, at most one for a key.
///
/// They lie in buckets by the first bits of their keys. So a bucket is sorted in the processor's cache,
/// nothing large ever grows by copying, and a bucket's memory is free again as soon as it is written.
#[derive(Debug)]
pub struct SlabRows {
    layout: Layout,
    /// Rows one after the other, by bucket.
    buckets: Vec<Vec<u64>>,
}

impl SlabRows {
    /// No rows yet.
    pub fn new(layout: Layout) -> Self {
        SlabRows { layout, buckets: vec![Vec::new(); 1 << BUCKET_BITS] }
    }

    /// Takes in a row of the layout's width.
    #[inline]
    pub fn push(&mut self, row: &[u64]) {
        debug_assert_eq!(row.len(), self.layout.width);
        self.buckets[(row[0] >> (u64::BITS - BUCKET_BITS)) as usize].extend_from_slice(row);
    }

    /// The shape of the rows.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum::<usize>() / self.layout.width
    }

    /// The buckets, as [`write_buckets`] wants them.
    pub fn into_buckets(self) -> Vec<Vec<u64>> {
        self.buckets
    }

    /// Writes the rows with [`write_buckets`].
    pub fn write(
        self,
        dir: &Path,
        origin: &Origin,
        options: &WriteOptions,
    ) -> Result<Option<SlabMeta>, StateError> {
        write_buckets(&self.layout, self.buckets, dir, origin, options)
    }
}

/// Sorts the rows of each bucket and writes all of them to a new file in `dir`; None, and no file, for no
/// rows. No bucket has a key less than one of the bucket before it.
///
/// The file is synced, its name is not: call [`sync_dir`](super::sync_dir) once for all slabs of a commit. On
/// an error the file is removed.
pub fn write_buckets(
    layout: &Layout,
    buckets: impl IntoIterator<Item = Vec<u64>>,
    dir: &Path,
    origin: &Origin,
    options: &WriteOptions,
) -> Result<Option<SlabMeta>, StateError> {
    let mut buckets = buckets.into_iter().filter(|bucket| !bucket.is_empty()).peekable();
    if buckets.peek().is_none() {
        return Ok(None);
    }
    let mut writer = SlabWriter::create(dir, layout, origin, options)?;
    let mut order = Vec::new();
    let mut sorted = Vec::new();
    for bucket in buckets {
        sort(&bucket, layout, &mut order, &mut sorted);
        sorted.chunks_exact(layout.width).try_for_each(|row| writer.push(row))?;
    }
    writer.finish().map(Some)
}

/// Puts the rows of `words` into `sorted` in the order of their keys; `order` is room to work in.
fn sort(words: &[u64], layout: &Layout, order: &mut Vec<(u64, u32)>, sorted: &mut Vec<u64>) {
    let row = |row: u32| &words[row as usize * layout.width..][..layout.width];
    let firsts = words.iter().step_by(layout.width).zip(0_u32..);
    order.clear();
    order.extend(firsts.map(|(first, row)| (*first, row)));
    // The first word decides nearly always, and lies in the pair: only ties look at the rows.
    order.sort_unstable();
    for equal in order.chunk_by_mut(|a, b| a.0 == b.0).filter(|equal| equal.len() > 1) {
        equal.sort_unstable_by(|a, b| row(a.1)[..layout.key].cmp(&row(b.1)[..layout.key]));
    }
    sorted.clear();
    order.iter().for_each(|(_, at)| sorted.extend_from_slice(row(*at)));
}
