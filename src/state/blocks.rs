//! Reading chosen blocks of a slab, in order, a run of neighbours at a time.

use std::num::NonZeroU64;
use std::ops::Range;

use rustix::fs::{Advice, fadvise};

use super::codec::{Buffer, Rows};
use super::error::StateError;
use super::reader::Counters;
use super::slab::Slab;

/// The longest run that is read with one call.
const RUN_BYTES_MAX: usize = 1 << 20;

/// How far ahead of reading the kernel is told what will be read.
const ADVISE_BYTES_MAX: usize = 64 << 20;

/// Reads chosen blocks of a slab.
#[derive(Debug)]
pub(crate) struct BlockReader<'a> {
    slab: &'a Slab,
    counters: &'a Counters,
    /// What is left to read, the next run last.
    runs: Vec<Range<usize>>,
    /// How many of them, from the end, the kernel knows of, and their bytes.
    advised: usize,
    advised_bytes: usize,
    /// The run in the buffer.
    run: Range<usize>,
    buffer: Buffer,
}

impl<'a> BlockReader<'a> {
    /// Will read `blocks`, which are sorted; the same one may come several times in a row.
    pub(crate) fn new(
        slab: &'a Slab,
        counters: &'a Counters,
        blocks: impl Iterator<Item = usize>,
    ) -> Self {
        let longest = (RUN_BYTES_MAX / slab.geometry().block_bytes).max(1);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for block in blocks {
            match runs.last_mut() {
                Some(run) if block < run.end => {}
                Some(run) if block == run.end && run.len() < longest => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        runs.reverse();
        Self {
            slab,
            counters,
            runs,
            advised: 0,
            advised_bytes: 0,
            run: 0..0,
            buffer: Buffer::default(),
        }
    }

    /// Reads the next run; its blocks, or None at the end.
    pub(crate) fn next_run(&mut self) -> Result<Option<Range<usize>>, StateError> {
        self.advise();
        let Some(run) = self.runs.pop() else {
            return Ok(None);
        };
        let bytes = self.bytes_of(&run);
        self.advised = self.advised.saturating_sub(1);
        self.advised_bytes = self.advised_bytes.saturating_sub(bytes);
        let at = self.slab.geometry().offset_of(run.start);
        self.slab.read(self.buffer.slice(bytes), at)?;
        self.counters.blocks_read(run.len(), bytes);
        self.run = run.clone();
        Ok(Some(run))
    }

    /// The verified rows of a block of the run that was read last.
    pub(crate) fn rows(&mut self, block: usize) -> Result<Rows<'_>, StateError> {
        let geometry = self.slab.geometry();
        let start = (block - self.run.start) * geometry.block_bytes;
        let end = start + geometry.bytes_of(block);
        self.slab.verify(block, &mut self.buffer.slice(end)[start..])
    }

    fn bytes_of(&self, run: &Range<usize>) -> usize {
        let geometry = self.slab.geometry();
        (run.len() - 1) * geometry.block_bytes + geometry.bytes_of(run.end - 1)
    }

    /// Tells the kernel of the runs ahead, so that it reads several at once. Alone, a run would not
    /// be read sooner for it.
    fn advise(&mut self) {
        let unknown = self.runs.len() - self.advised;
        if self.runs.len() < 2 || self.advised_bytes > ADVISE_BYTES_MAX / 2 {
            return;
        }
        for at in (0..unknown).rev() {
            if self.advised_bytes > ADVISE_BYTES_MAX {
                break;
            }
            let bytes = self.bytes_of(&self.runs[at]);
            let offset = self.slab.geometry().offset_of(self.runs[at].start);
            // Advice that is not taken costs time only.
            fadvise(self.slab.file(), offset, NonZeroU64::new(bytes as u64), Advice::WillNeed).ok();
            self.advised += 1;
            self.advised_bytes += bytes;
        }
    }
}
