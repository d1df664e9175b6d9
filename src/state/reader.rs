//! Reading a collection by key: newest slab first, batch by batch.
//!
//! Owns the open slabs of the commit it was opened at, and pins them: what is committed, merged or
//! collected later doesn't change what it finds. It is `Sync`; workers share it.
//!
//! Invariants:
//! 1. The newest slab that has a key decides; older ones aren't asked for it any more.
//! 2. A block is read only if a key asked for lies in its range; with a filter in memory, only if
//!    the filter can't rule that out. Untouched keys cost nothing.
//! 3. Memory is bounded by the size of a batch, not by the number of keys.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::blocks::BlockReader;
use super::codec::Rows;
use super::cursor::{Cursor, Merged};
use super::error::StateError;
use super::filter;
use super::layout::Layout;
use super::manifest::{SlabMeta, check_order};
use super::slab::Slab;

/// Keys that are looked up together.
const BATCH_KEYS: usize = 1 << 16;

/// What reading has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadStats {
    /// Keys looked up in the index of a slab, once per slab.
    pub probes: u64,
    /// Blocks read, and their bytes.
    pub blocks: u64,
    pub block_bytes: u64,
    /// Filters read, and their bytes.
    pub filters: u64,
    pub filter_bytes: u64,
}

/// Counts what is read; shared by the workers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    probes: AtomicU64,
    blocks: AtomicU64,
    block_bytes: AtomicU64,
    filters: AtomicU64,
    filter_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn blocks_read(&self, blocks: usize, bytes: usize) {
        self.blocks.fetch_add(blocks as u64, Ordering::Relaxed);
        self.block_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn filter_read(&self, bytes: u64) {
        self.filters.fetch_add(1, Ordering::Relaxed);
        self.filter_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The slabs of a collection at one commit.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
    /// Oldest first.
    slabs: Vec<Slab>,
    counters: Counters,
}

/// A key that may be in a block.
#[derive(Debug, Clone, Copy)]
struct Probe {
    block: usize,
    key: usize,
}

impl Reader {
    /// Opens slabs, oldest first as in the manifest; reads their footers and indices only.
    pub fn open(dir: &Path, layout: &Layout, slabs: &[SlabMeta]) -> Result<Self, StateError> {
        layout.check()?;
        check_order(slabs)?;
        let open = |meta| Slab::open(dir, layout, meta);
        let slabs = slabs.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { layout: layout.clone(), slabs, counters: Counters::default() })
    }

    /// The shape of the rows.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.slabs.is_empty()
    }

    /// What reading has cost since the last call, or since the reader was opened.
    pub fn take_stats(&self) -> ReadStats {
        let read = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        ReadStats {
            probes: read(&self.counters.probes),
            blocks: read(&self.counters.blocks),
            block_bytes: read(&self.counters.block_bytes),
            filters: read(&self.counters.filters),
            filter_bytes: read(&self.counters.filter_bytes),
        }
    }

    /// Looks up `keys`, which lie one after the other and are sorted, and calls `found` with the
    /// position of a key and its row for each that exists, in no particular order.
    pub fn get_many(
        &self,
        keys: &[u64],
        found: &mut impl FnMut(usize, &[u64]),
    ) -> Result<(), StateError> {
        let size = self.layout.key;
        self.layout.check_keys(keys, size, false)?;
        for (batch, keys) in keys.chunks(BATCH_KEYS * size).enumerate() {
            let base = batch * BATCH_KEYS;
            let mut pending: Vec<usize> = (0..keys.len() / size).collect();
            for slab in self.slabs.iter().rev() {
                if pending.is_empty() {
                    break;
                }
                let hits = self.get_from(slab, keys, &pending, &mut |at, row| {
                    found(base + at, row);
                })?;
                let mut hits = hits.into_iter().peekable();
                pending.retain(|at| hits.next_if_eq(at).is_none());
            }
        }
        Ok(())
    }

    /// Looks up the pending keys in one slab; which of them were found, sorted.
    fn get_from(
        &self,
        slab: &Slab,
        keys: &[u64],
        pending: &[usize],
        found: &mut impl FnMut(usize, &[u64]),
    ) -> Result<Vec<usize>, StateError> {
        let size = self.layout.key;
        let key = |at: usize| &keys[at * size..(at + 1) * size];
        let begin = pending.partition_point(|at| *key(*at) < *slab.meta().lower);
        let end = pending.partition_point(|at| *key(*at) <= *slab.meta().upper);
        let pending = &pending[begin..end];
        let mut probes = Vec::with_capacity(pending.len());
        let mut block = 0;
        for at in pending {
            block = slab.block_of(key(*at), block);
            probes.push(Probe { block, key: *at });
        }
        let words = self.layout.filter;
        self.rule_out(slab, &mut probes, |at| filter::hash(&key(at)[..words]))?;
        self.counters.probes.fetch_add(pending.len() as u64, Ordering::Relaxed);

        let blocks = probes.iter().map(|probe| probe.block);
        let mut reader = BlockReader::new(slab, &self.counters, blocks);
        let mut hits = Vec::new();
        let mut probes = &probes[..];
        while let Some(run) = reader.next_run()? {
            for block in run {
                let mut rows = reader.rows(block)?;
                let mut from = 0;
                let here = probes.partition_point(|probe| probe.block == block);
                for probe in &probes[..here] {
                    from = lower_bound(&mut rows, from, key(probe.key));
                    if from < rows.len() && rows.row(from)[..size] == *key(probe.key) {
                        found(probe.key, rows.row(from));
                        hits.push(probe.key);
                    }
                }
                probes = &probes[here..];
            }
        }
        Ok(hits)
    }

    /// Calls `found` with every row whose key begins with one of `words`, which are sorted and
    /// distinct: each key once, by key.
    pub fn scan_prefix_many(
        &self,
        words: &[u64],
        found: &mut impl FnMut(&[u64]),
    ) -> Result<(), StateError> {
        self.layout.check_keys(words, 1, true)?;
        for words in words.chunks(BATCH_KEYS) {
            let mut cursors = Vec::with_capacity(self.slabs.len());
            for (age, slab) in self.slabs.iter().enumerate() {
                let mut probes = Vec::new();
                for (key, word) in words.iter().enumerate() {
                    let blocks = slab.blocks_of_prefix(*word);
                    probes.extend(blocks.map(|block| Probe { block, key }));
                }
                self.counters.probes.fetch_add(words.len() as u64, Ordering::Relaxed);
                if self.layout.filter == 1 {
                    self.rule_out(slab, &mut probes, |at| filter::hash(&words[at..=at]))?;
                }
                let blocks = probes.iter().map(|probe| probe.block);
                let reader = BlockReader::new(slab, &self.counters, blocks);
                let Layout { width, key, .. } = self.layout;
                cursors.push(Cursor::new(reader, width, key, Some(words), age));
            }
            let mut merged = Merged::new(cursors, self.layout.key)?;
            while let Some(row) = merged.next()? {
                found(row);
            }
        }
        Ok(())
    }

    /// Drops the probes that the filters of their chunks rule out. Probes are sorted by block.
    fn rule_out(
        &self,
        slab: &Slab,
        probes: &mut Vec<Probe>,
        hash: impl Fn(usize) -> u64,
    ) -> Result<(), StateError> {
        let mut kept = Vec::with_capacity(probes.len());
        for chunk in probes.chunk_by(|a, b| slab.chunk_of(a.block) == slab.chunk_of(b.block)) {
            let at = slab.chunk_of(chunk[0].block);
            match slab.filter(at, chunk.len(), &self.counters)? {
                Some(filter) => {
                    kept.extend(chunk.iter().filter(|probe| filter.may_contain(hash(probe.key))));
                }
                None => kept.extend_from_slice(chunk),
            }
        }
        *probes = kept;
        Ok(())
    }
}

/// The first row at `from` or behind whose key is not below `key`.
fn lower_bound(rows: &mut Rows<'_>, from: usize, key: &[u64]) -> usize {
    let (mut low, mut high) = (from, rows.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if rows.row(middle)[..key.len()] < *key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
