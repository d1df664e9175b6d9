//! Walking slabs row by row, and several at once: each key once, from the newest slab that has it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

use super::blocks::BlockReader;
use super::error::StateError;

/// Rows of one slab, in order: all rows of the blocks it reads, or those with a wanted first word.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    reader: BlockReader<'a>,
    width: usize,
    key: usize,
    /// Sorted first words still to come; None for every row.
    wanted: Option<&'a [u64]>,
    /// Blocks of the run in hand that are not decoded yet.
    run: Range<usize>,
    /// The decoded block, from which rows before `at` are gone.
    rows: Vec<u64>,
    at: usize,
    /// Greater for newer slabs.
    age: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(
        reader: BlockReader<'a>,
        width: usize,
        key: usize,
        wanted: Option<&'a [u64]>,
        age: usize,
    ) -> Self {
        Self { reader, width, key, wanted, run: 0..0, rows: Vec::new(), at: 0, age }
    }

    fn row(&self) -> &[u64] {
        &self.rows[self.at..self.at + self.width]
    }

    fn key(&self) -> &[u64] {
        &self.rows[self.at..self.at + self.key]
    }

    /// Moves to the next row; false at the end.
    fn advance(&mut self) -> Result<bool, StateError> {
        if !self.rows.is_empty() {
            self.at += self.width;
        }
        loop {
            if self.at >= self.rows.len() {
                if !self.fill()? {
                    return Ok(false);
                }
                continue;
            }
            let Some(wanted) = self.wanted else {
                return Ok(true);
            };
            let word = self.rows[self.at];
            let wanted = &wanted[wanted.partition_point(|want| *want < word)..];
            self.wanted = Some(wanted);
            match wanted.first() {
                None => return Ok(false),
                Some(want) if *want == word => return Ok(true),
                Some(want) => self.skip_to(*want),
            }
        }
    }

    /// Moves to the first row of the block whose first word is not below `word`.
    fn skip_to(&mut self, word: u64) {
        let (mut low, mut high) = (self.at / self.width, self.rows.len() / self.width);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.rows[middle * self.width] < word {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.at = low * self.width;
    }

    fn fill(&mut self) -> Result<bool, StateError> {
        if self.run.is_empty() {
            match self.reader.next_run()? {
                Some(run) => self.run = run,
                None => return Ok(false),
            }
        }
        self.rows.clear();
        self.at = 0;
        if let Some(block) = self.run.next() {
            self.reader.rows(block)?.append_to(&mut self.rows);
        }
        Ok(true)
    }
}

// A heap gives its greatest: the least key, and among equal keys the newest slab.
impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(self.key()).then(self.age.cmp(&other.age))
    }
}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Cursor<'_> {}

/// The rows of several slabs as if they were one.
#[derive(Debug)]
pub(crate) struct Merged<'a> {
    /// Cursors that stand on a row.
    heap: BinaryHeap<Cursor<'a>>,
    key: usize,
    /// The row given last.
    row: Vec<u64>,
}

impl<'a> Merged<'a> {
    pub(crate) fn new(
        cursors: impl IntoIterator<Item = Cursor<'a>>,
        key: usize,
    ) -> Result<Self, StateError> {
        let mut heap = BinaryHeap::new();
        for mut cursor in cursors {
            if cursor.advance()? {
                heap.push(cursor);
            }
        }
        Ok(Self { heap, key, row: Vec::new() })
    }

    /// The next row by key.
    pub(crate) fn next(&mut self) -> Result<Option<&[u64]>, StateError> {
        while let Some(mut top) = self.heap.peek_mut() {
            // Another slab's row of the key given last is an older version.
            let superseded = !self.row.is_empty() && top.key() == &self.row[..self.key];
            if !superseded {
                self.row.clear();
                self.row.extend_from_slice(top.row());
            }
            match top.advance() {
                Ok(true) => {}
                // It stands on no row, so the heap must not compare it again.
                ended => {
                    PeekMut::pop(top);
                    ended?;
                }
            }
            if !superseded {
                return Ok(Some(&self.row));
            }
        }
        Ok(None)
    }
}
