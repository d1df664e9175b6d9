//! An open slab: its footer and index in memory, its blocks and filters in the file.
//!
//! Owns the open file, which survives deletion: a reader that pinned a slab is not concerned by
//! merges and collection. Shared by all workers behind an `Arc`.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use fail::fail_point;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::{Codec, Rows};
use super::error::StateError;
use super::filter::Filter;
use super::format::{FilterEntry, Geometry, Tail};
use super::layout::Layout;
use super::manifest::SlabMeta;
use super::reader::Counters;

/// A chunk's filter is read when so many probes have fallen into the chunk: by then reading blocks
/// in vain has cost about as much as the filter.
pub(crate) const FILTER_AFTER_PROBES: usize = 16;

/// An open slab.
#[derive(Debug)]
pub struct Slab {
    meta: SlabMeta,
    path: PathBuf,
    file: File,
    codec: Codec,
    geometry: Geometry,
    key: usize,
    seed: u64,
    /// The first keys of the blocks, one after the other.
    index: Vec<u64>,
    filters_at: u64,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    entry: FilterEntry,
    probes: AtomicUsize,
    filter: OnceLock<Filter>,
}

impl Slab {
    /// Opens the file that `meta` describes and checks that it is that one.
    pub fn open(dir: &Path, layout: &Layout, meta: &SlabMeta) -> Result<Self, StateError> {
        fail_point!("slab.open");
        let path = dir.join(&meta.file);
        let file = File::open(&path).map_err(|source| StateError::read(&path, source))?;
        let bytes = file.metadata().map_err(|source| StateError::read(&path, source))?.len();
        if bytes != meta.bytes {
            let what = format!("it is {bytes} bytes long, the manifest says {}", meta.bytes);
            return Err(StateError::damaged(&path, what));
        }
        let (tail, checksum) = Tail::read(&file, &path, bytes as usize)?;
        if let Some(what) = difference(&tail, checksum, layout, meta) {
            let what = format!("its {what} differs from what the manifest or the job says");
            return Err(StateError::damaged(&path, what));
        }
        let footer = &tail.footer;
        let Some(codec) = Codec::of_width(footer.geometry.width) else {
            return Err(StateError::damaged(&path, "its rows are too wide"));
        };
        let chunk = |entry| Chunk { entry, probes: AtomicUsize::new(0), filter: OnceLock::new() };
        Ok(Self {
            codec,
            geometry: footer.geometry,
            key: footer.key,
            seed: footer.seed,
            filters_at: footer.filters_at() as u64,
            index: tail.index,
            chunks: tail.directory.into_iter().map(chunk).collect(),
            meta: meta.clone(),
            path,
            file,
        })
    }

    /// What the manifest knows of it.
    pub fn meta(&self) -> &SlabMeta {
        &self.meta
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn chunk_of(&self, block: usize) -> usize {
        block / self.geometry.chunk_blocks
    }

    pub(crate) fn first_key(&self, block: usize) -> &[u64] {
        &self.index[block * self.key..(block + 1) * self.key]
    }

    /// The block that holds `key` if any does, at `from` or behind; `key` is not below the slab's
    /// least. Gallops, so that a sorted batch costs little per key.
    pub(crate) fn block_of(&self, key: &[u64], from: usize) -> usize {
        let blocks = self.geometry.blocks();
        let (mut below, mut step) = (from, 1);
        while below + step < blocks && self.first_key(below + step) <= key {
            below += step;
            step *= 2;
        }
        // The first block in `below + 1 .. below + step` that begins behind the key ends the search.
        let (mut low, mut high) = (below + 1, (below + step).min(blocks));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - 1
    }

    /// The blocks that may hold rows whose key begins with `word`: those that begin with it, and the
    /// one before, in which such rows may begin.
    pub(crate) fn blocks_of_prefix(&self, word: u64) -> Range<usize> {
        if word < self.meta.lower[0] || word > self.meta.upper[0] {
            return 0..0;
        }
        let first = |wanted: &dyn Fn(u64) -> bool| {
            let (mut low, mut high) = (0, self.geometry.blocks());
            while low < high {
                let middle = low + (high - low) / 2;
                if wanted(self.first_key(middle)[0]) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        };
        first(&|begin| begin >= word).saturating_sub(1)..first(&|begin| begin > word)
    }

    /// The filter of a chunk into which `probes` more probes fall, if it has one and is worth it.
    pub(crate) fn filter(
        &self,
        chunk: usize,
        probes: usize,
        counters: &Counters,
    ) -> Result<Option<&Filter>, StateError> {
        let Chunk { entry, probes: so_far, filter } = &self.chunks[chunk];
        if entry.bytes == 0 || filter.get().is_some() {
            return Ok(filter.get());
        }
        if so_far.fetch_add(probes, Ordering::Relaxed).saturating_add(probes) < FILTER_AFTER_PROBES
        {
            return Ok(None);
        }
        let damaged = |what| StateError::damaged(&self.path, format!("filter {chunk}: {what}"));
        let end = entry.offset.checked_add(entry.bytes).filter(|end| *end <= self.meta.bytes);
        if end.is_none() {
            return Err(damaged("it lies outside the file"));
        }
        let mut bytes = vec![0; entry.bytes as usize];
        self.read(&mut bytes, self.filters_at + entry.offset)?;
        if xxh3_64(&bytes) != entry.checksum {
            return Err(damaged("its checksum does not match"));
        }
        let read = Filter::from_bytes(bytes).ok_or_else(|| damaged("it makes no sense"))?;
        counters.filter_read(entry.bytes);
        // Two workers may have read it at once; either copy will do.
        Ok(Some(filter.get_or_init(|| read)))
    }

    /// Reads bytes of the file; too few are damage.
    pub(crate) fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), StateError> {
        let read = self.file.read_exact_at(buffer, at);
        read.map_err(|source| StateError::read(&self.path, source))
    }

    /// Checks a block that was read and gives its rows.
    pub(crate) fn verify<'a>(
        &self,
        block: usize,
        bytes: &'a mut [u8],
    ) -> Result<Rows<'a>, StateError> {
        let rows = self.geometry.rows_of(block);
        Rows::verify(self.codec, bytes, rows, self.seed.wrapping_add(block as u64))
            .map_err(|what| StateError::damaged(&self.path, format!("block {block}: {what}")))
    }
}

/// The first thing in which a file differs from what it should be.
fn difference(
    tail: &Tail,
    checksum: u64,
    layout: &Layout,
    meta: &SlabMeta,
) -> Option<&'static str> {
    let footer = &tail.footer;
    let checks = [
        ("checksum", checksum == meta.checksum),
        ("collection", footer.collection == layout.collection),
        ("collection", footer.collection == meta.collection),
        ("row width", footer.geometry.width == layout.width),
        ("key width", footer.key == layout.key),
        ("filter width", footer.filter == layout.filter),
        ("number of rows", footer.geometry.rows as u64 == meta.rows),
        ("least key", footer.lower == meta.lower),
        ("greatest key", footer.upper == meta.upper),
        ("first commit", footer.commit_from == meta.commit_from),
        ("last commit", footer.commit_to == meta.commit_to),
        ("generation", footer.generation == meta.generation),
    ];
    checks.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}
