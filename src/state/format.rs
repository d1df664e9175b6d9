//! The bytes of a slab file.
//!
//! ```text
//! blocks      rows sorted strictly by key; every block but the last has the same length:
//!             row words … | zeros up to the block length | xxh3-64 of the block, seeded
//! index       the key of the first row of each block
//! filters     one binary fuse filter after another, in the order of their chunks
//! directory   per chunk of blocks: offset, length and xxh3-64 of its filter (length 0: none)
//! footer      layout, counts, commits, seed, byte order, least and greatest key, collection name
//! trailer     u32 length of the footer, u32 format version, u64 checksum, magic
//! ```
//!
//! Integers are little-endian and words start at multiples of eight bytes, except that the byte-order
//! mark is written as the machine has it: rows are memory, so a file belongs to one byte order.
//! The trailer's checksum is over index, directory, footer and the trailer before it. Blocks and
//! filters have their own, so that opening a slab reads neither. A block's checksum is seeded with
//! the slab's seed and the block's number: the right bytes in the wrong place are wrong.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::codec::{CHECKSUM, WORD};
use super::error::StateError;

const _: () = assert!(usize::BITS == 64, "offsets in slabs are usize");

const MAGIC: [u8; 8] = *b"tidslab\n";
const VERSION: u32 = 1;
const BYTE_ORDER: u64 = 0x0102_0304_0506_0708;
const TRAILER: usize = 24;

/// Bytes of a directory entry.
const ENTRY: usize = 24;

/// What is read first when a slab is opened: footers are far smaller.
const TAIL_READ: usize = 4096;

/// Where things are in a slab; a function of four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) rows: usize,
    /// Words of a row.
    pub(crate) width: usize,
    /// Bytes of a full block.
    pub(crate) block_bytes: usize,
    /// Blocks of a full chunk.
    pub(crate) chunk_blocks: usize,
}

impl Geometry {
    /// The length of a full block that has at least one row and keeps words aligned.
    pub(crate) fn block_bytes(wanted: usize, width: usize) -> usize {
        wanted.max(width * WORD + CHECKSUM).next_multiple_of(WORD)
    }

    pub(crate) fn rows_per_block(&self) -> usize {
        (self.block_bytes - CHECKSUM) / (self.width * WORD)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.rows.div_ceil(self.rows_per_block())
    }

    pub(crate) fn chunks(&self) -> usize {
        self.blocks().div_ceil(self.chunk_blocks)
    }

    /// Rows of a block; only the last may have fewer than the others.
    pub(crate) fn rows_of(&self, block: usize) -> usize {
        self.rows_per_block().min(self.rows - block * self.rows_per_block())
    }

    pub(crate) fn offset_of(&self, block: usize) -> u64 {
        (block * self.block_bytes) as u64
    }

    /// Bytes of a block; one that is not full isn't filled up.
    pub(crate) fn bytes_of(&self, block: usize) -> usize {
        match self.rows_of(block) {
            rows if rows == self.rows_per_block() => self.block_bytes,
            rows => rows * self.width * WORD + CHECKSUM,
        }
    }

    /// Bytes of all blocks, which is where the index starts.
    pub(crate) fn all_blocks(&self) -> usize {
        let last = self.blocks() - 1;
        last * self.block_bytes + self.bytes_of(last)
    }

    /// Numbers that a damaged footer may hold must not overflow above.
    fn is_sound(&self, file_bytes: usize) -> bool {
        let plausible = |number: usize| (1..=file_bytes).contains(&number);
        let block = self.block_bytes;
        plausible(self.rows)
            && plausible(self.width)
            && (self.width * WORD + CHECKSUM..=1 << 40).contains(&block)
            && block.is_multiple_of(WORD)
            && self.chunk_blocks > 0
    }
}

/// Where a chunk's filter is, counted from the first filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FilterEntry {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) checksum: u64,
}

/// The footer's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) geometry: Geometry,
    pub(crate) collection: String,
    pub(crate) key: usize,
    pub(crate) filter: usize,
    pub(crate) filter_bytes: usize,
    pub(crate) commit_from: u64,
    pub(crate) commit_to: u64,
    pub(crate) generation: u64,
    pub(crate) seed: u64,
    pub(crate) lower: Vec<u64>,
    pub(crate) upper: Vec<u64>,
}

impl Footer {
    fn to_bytes(&self) -> Vec<u8> {
        let geometry = &self.geometry;
        let numbers = [
            geometry.rows as u64,
            geometry.width as u64,
            geometry.block_bytes as u64,
            geometry.chunk_blocks as u64,
            self.key as u64,
            self.filter as u64,
            self.filter_bytes as u64,
            self.commit_from,
            self.commit_to,
            self.generation,
            self.seed,
        ];
        let mut out = BYTE_ORDER.to_ne_bytes().to_vec();
        put_words(&mut out, &numbers);
        put_words(&mut out, &self.lower);
        put_words(&mut out, &self.upper);
        out.extend_from_slice(self.collection.as_bytes());
        out
    }

    fn from_bytes(bytes: &[u8], file_bytes: usize) -> Option<Self> {
        let mut words = bytes.chunks_exact(WORD).map(word);
        let _byte_order = words.next()?;
        let mut number = || words.next().and_then(|word| usize::try_from(word).ok());
        let geometry = Geometry {
            rows: number()?,
            width: number()?,
            block_bytes: number()?,
            chunk_blocks: number()?,
        };
        let (key, filter, filter_bytes) = (number()?, number()?, number()?);
        let (commit_from, commit_to) = (words.next()?, words.next()?);
        let (generation, seed) = (words.next()?, words.next()?);
        if !geometry.is_sound(file_bytes) || key == 0 || key > geometry.width || filter > key {
            return None;
        }
        let lower: Vec<u64> = words.by_ref().take(key).collect();
        let upper: Vec<u64> = words.by_ref().take(key).collect();
        let name = bytes.get((12 + 2 * key) * WORD..)?;
        Some(Self {
            geometry,
            collection: String::from_utf8(name.to_vec()).ok()?,
            key,
            filter,
            filter_bytes,
            commit_from,
            commit_to,
            generation,
            seed,
            lower,
            upper,
        })
    }

    /// Where the filters start.
    pub(crate) fn filters_at(&self) -> usize {
        self.geometry.all_blocks() + self.geometry.blocks() * self.key * WORD
    }
}

/// Everything behind the blocks but the filters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) footer: Footer,
    /// The first keys of the blocks, one after the other.
    pub(crate) index: Vec<u64>,
    pub(crate) directory: Vec<FilterEntry>,
}

impl Tail {
    /// The bytes before and behind the filters, and the checksum.
    pub(crate) fn to_bytes(&self) -> (Vec<u8>, Vec<u8>, u64) {
        let mut before = Vec::with_capacity(self.index.len() * WORD);
        put_words(&mut before, &self.index);
        let mut behind = Vec::new();
        for entry in &self.directory {
            put_words(&mut behind, &[entry.offset, entry.bytes, entry.checksum]);
        }
        let footer = self.footer.to_bytes();
        behind.extend_from_slice(&footer);
        behind.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        behind.extend_from_slice(&VERSION.to_le_bytes());
        let checksum = checksum(&before, &behind);
        behind.extend_from_slice(&checksum.to_le_bytes());
        behind.extend_from_slice(&MAGIC);
        (before, behind, checksum)
    }

    /// Reads and checks the tail of a file; also gives its checksum.
    pub(crate) fn read(file: &File, path: &Path, bytes: usize) -> Result<(Self, u64), StateError> {
        let damaged = |what: &str| StateError::damaged(path, what);
        let read = |buffer: &mut [u8], at: usize| {
            file.read_exact_at(buffer, at as u64).map_err(|source| StateError::read(path, source))
        };
        let mut end = vec![0; TAIL_READ.min(bytes)];
        let end_at = bytes - end.len();
        read(&mut end, end_at)?;

        let Some((_, trailer)) = end.split_last_chunk::<TRAILER>() else {
            return Err(damaged("it is shorter than a trailer"));
        };
        let (lengths, rest) = trailer.split_at(WORD);
        let (stored, magic) = (word(&rest[..WORD]), &rest[WORD..]);
        if magic != MAGIC {
            return Err(damaged("it does not end as a slab does"));
        }
        let lengths = word(lengths);
        let version = lengths >> 32;
        if version != u64::from(VERSION) {
            let what = format!("its format version is {version}, this program reads {VERSION}");
            return Err(damaged(&what));
        }
        let footer_bytes = (lengths & u64::from(u32::MAX)) as usize;
        let wrong = || damaged("its footer makes no sense");
        let footer_at = end.len().checked_sub(TRAILER + footer_bytes).ok_or_else(wrong)?;
        let footer = &end[footer_at..end.len() - TRAILER];
        // Not verified yet: `sections` accepts it only if every length adds up to the file's.
        let footer = Footer::from_bytes(footer, bytes).ok_or_else(wrong)?;
        let behind_at = directory_at(&footer, bytes, TRAILER + footer_bytes).ok_or_else(wrong)?;

        let mut index = vec![0; footer.geometry.blocks() * footer.key * WORD];
        read(&mut index, footer.geometry.all_blocks())?;
        let mut behind = end.split_off(behind_at.saturating_sub(end_at));
        if behind.len() < bytes - behind_at {
            behind = vec![0; bytes - behind_at];
            read(&mut behind, behind_at)?;
        }
        if checksum(&index, &behind[..behind.len() - 2 * WORD]) != stored {
            return Err(damaged("the checksum of its index does not match"));
        }
        let directory = &behind[..footer.geometry.chunks() * ENTRY];
        let order = &behind[directory.len()..directory.len() + WORD];
        if order != BYTE_ORDER.to_ne_bytes() {
            return Err(damaged("it was written on a machine of the other byte order"));
        }
        let directory = directory.chunks_exact(ENTRY).map(entry).collect();
        let index = index.chunks_exact(WORD).map(word).collect();
        Ok((Self { footer, index, directory }, stored))
    }
}

/// Where the directory starts, if the sections fill the file exactly.
fn directory_at(footer: &Footer, bytes: usize, behind: usize) -> Option<usize> {
    let geometry = &footer.geometry;
    let blocks = geometry.rows.div_ceil(geometry.rows_per_block());
    let full = (blocks - 1).checked_mul(geometry.block_bytes)?;
    if full > bytes {
        return None;
    }
    let at = footer.filters_at().checked_add(footer.filter_bytes)?;
    let directory = geometry.chunks().checked_mul(ENTRY)?;
    (at.checked_add(directory)?.checked_add(behind)? == bytes).then_some(at)
}

fn checksum(before: &[u8], behind: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(before);
    hasher.update(behind);
    hasher.digest()
}

fn entry(bytes: &[u8]) -> FilterEntry {
    let (offset, rest) = bytes.split_at(WORD);
    let (length, checksum) = rest.split_at(WORD);
    FilterEntry { offset: word(offset), bytes: word(length), checksum: word(checksum) }
}

fn put_words(out: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word has eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::codec::WIDTH_MAX;
    use super::*;

    #[test]
    fn a_block_has_room_for_a_row_of_any_width_and_keeps_words_aligned() {
        for width in 1..=WIDTH_MAX {
            let row = width * WORD + CHECKSUM;
            for wanted in [1, 8, 95, 96, 97, 4096] {
                let block_bytes = Geometry::block_bytes(wanted, width);
                let geometry = Geometry { rows: 1, width, block_bytes, chunk_blocks: 1 };
                assert!(geometry.rows_per_block() >= 1 && block_bytes.is_multiple_of(WORD));
                assert!((wanted.max(row)..wanted.max(row) + WORD).contains(&block_bytes));
            }
        }
    }

    #[test]
    fn numbers_that_no_slab_can_have_are_not_sound() {
        for width in 1..=WIDTH_MAX {
            let row = width * WORD + CHECKSUM;
            let good = Geometry { rows: 1, width, block_bytes: row, chunk_blocks: 1 };
            assert!(good.is_sound(1000));
            for bad in [
                Geometry { rows: 0, ..good },
                Geometry { rows: 1001, ..good },
                Geometry { width: 0, ..good },
                Geometry { block_bytes: row - WORD, ..good },
                Geometry { block_bytes: row + 1, ..good },
                Geometry { block_bytes: (1 << 40) + WORD, ..good },
                Geometry { chunk_blocks: 0, ..good },
            ] {
                assert!(!bad.is_sound(1000), "{bad:?}");
            }
        }
    }
}
