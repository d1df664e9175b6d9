//! Rows to bytes and back: the one place that knows `abomonation`, and the one with `unsafe`.
//!
//! A row is a `#[repr(C)]` array of `u64`, encoded row by row and never as a `Vec`, so the bytes are
//! exactly the words of the row one after the other: no pointer, no length, no padding. The width is
//! known only at run time; [`Codec::of_width`] picks the functions compiled for it from one table.
//!
//! A block is `rows | padding | checksum`. [`Rows::verify`] is the only way to a [`Rows`], so no row
//! is ever decoded from bytes whose checksum has not been compared.

#![allow(unsafe_code, reason = "abomonation's encode and decode are unsafe functions")]

use abomonation::Abomonation;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The widest row, in words.
pub const WIDTH_MAX: usize = 24;

/// Bytes of a word of a row.
pub(crate) const WORD: usize = size_of::<u64>();

/// Bytes of the checksum that ends a block.
pub(crate) const CHECKSUM: usize = 8;

/// A row as it lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Row<const W: usize> {
    words: [u64; W],
}

// Nothing is owned and nothing is pointed to: the default methods, which do nothing, are right.
impl<const W: usize> Abomonation for Row<W> {}

/// The functions for rows of one width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec {
    width: usize,
    encode: fn(&[u64], &mut Vec<u8>),
    row: for<'a> fn(&'a mut [u8], usize) -> &'a [u64],
    all: fn(&mut [u8], &mut Vec<u64>),
}

impl Codec {
    const fn of<const W: usize>() -> Self {
        Self { width: W, encode: encode::<W>, row: row::<W>, all: all::<W> }
    }

    /// The codec of rows of `width` words, if there is one.
    pub(crate) fn of_width(width: usize) -> Option<Self> {
        TABLE.get(width.checked_sub(1)?).copied()
    }

    /// Bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.width * WORD
    }

    /// Appends `row`, which has as many words as the codec's width, to `out`.
    pub(crate) fn encode(&self, row: &[u64], out: &mut Vec<u8>) {
        (self.encode)(row, out);
    }
}

static TABLE: [Codec; WIDTH_MAX] = [
    Codec::of::<1>(),
    Codec::of::<2>(),
    Codec::of::<3>(),
    Codec::of::<4>(),
    Codec::of::<5>(),
    Codec::of::<6>(),
    Codec::of::<7>(),
    Codec::of::<8>(),
    Codec::of::<9>(),
    Codec::of::<10>(),
    Codec::of::<11>(),
    Codec::of::<12>(),
    Codec::of::<13>(),
    Codec::of::<14>(),
    Codec::of::<15>(),
    Codec::of::<16>(),
    Codec::of::<17>(),
    Codec::of::<18>(),
    Codec::of::<19>(),
    Codec::of::<20>(),
    Codec::of::<21>(),
    Codec::of::<22>(),
    Codec::of::<23>(),
    Codec::of::<24>(),
];

fn encode<const W: usize>(row: &[u64], out: &mut Vec<u8>) {
    let words = row.try_into().expect("the writer checks the width of every row");
    // SAFETY: `Row<W>` is `repr(C)` over `u64`s: every byte is initialised, none is padding, and
    // there is nothing behind a pointer for `entomb` to write.
    unsafe { abomonation::encode(&Row::<W> { words }, out) }.expect("a Vec takes every byte");
}

fn row<const W: usize>(bytes: &mut [u8], at: usize) -> &[u64] {
    let size = size_of::<Row<W>>();
    let bytes = &mut bytes[at * size..(at + 1) * size];
    assert!(bytes.as_ptr().cast::<Row<W>>().is_aligned(), "blocks lie in an aligned buffer");
    // SAFETY: the slice holds exactly one row (sliced above, with bounds checks), it is aligned
    // (asserted), every bit pattern is a valid `[u64; W]`, and the default `exhume` neither writes
    // nor follows anything. The reference lives as long as the exclusive borrow of the bytes.
    let (row, _) = unsafe { abomonation::decode::<Row<W>>(bytes) }.expect("one whole row");
    &row.words
}

fn all<const W: usize>(bytes: &mut [u8], out: &mut Vec<u64>) {
    for at in 0..bytes.len() / size_of::<Row<W>>() {
        out.extend_from_slice(row::<W>(bytes, at));
    }
}

/// The verified rows of a block.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    codec: Codec,
    bytes: &'a mut [u8],
}

impl<'a> Rows<'a> {
    /// Checks a block that should hold `rows` rows; on failure says what is wrong with it.
    pub(crate) fn verify(
        codec: Codec,
        block: &'a mut [u8],
        rows: usize,
        seed: u64,
    ) -> Result<Self, &'static str> {
        let Some(content) = block.len().checked_sub(CHECKSUM) else {
            return Err("it is shorter than its checksum");
        };
        let (content, checksum) = block.split_at_mut(content);
        if xxh3_64_with_seed(content, seed).to_le_bytes() != *checksum {
            return Err("its checksum does not match");
        }
        let Some(bytes) = content.get_mut(..rows * codec.row_bytes()) else {
            return Err("it holds fewer rows than the footer says");
        };
        Ok(Self { codec, bytes })
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.codec.row_bytes()
    }

    /// The words of row `at`.
    pub(crate) fn row(&mut self, at: usize) -> &[u64] {
        (self.codec.row)(self.bytes, at)
    }

    /// Appends the words of all rows.
    pub(crate) fn append_to(&mut self, out: &mut Vec<u64>) {
        (self.codec.all)(self.bytes, out);
    }
}

/// Appends to a block of encoded rows, which starts at `start` of `out`, the checksum that ends it.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize, seed: u64) {
    let checksum = xxh3_64_with_seed(&out[start..], seed);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// A buffer for blocks whose first byte is aligned for words; it only grows.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// The first `len` bytes, with whatever was in them.
    pub(crate) fn slice(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + WORD {
            self.bytes.resize(len + WORD, 0);
        }
        let start = self.bytes.as_ptr().align_offset(align_of::<u64>());
        &mut self.bytes[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(codec: Codec, rows: &[Vec<u64>], seed: u64) -> Vec<u8> {
        let mut out = Vec::new();
        rows.iter().for_each(|row| codec.encode(row, &mut out));
        seal(&mut out, 0, seed);
        out
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<u64>>> {
        (1..=WIDTH_MAX).prop_flat_map(|width| {
            prop::collection::vec(prop::collection::vec(any::<u64>(), width), 1..20)
        })
    }

    proptest! {
        #[test]
        fn rows_come_back_and_their_bytes_are_little_endian_words(rows in rows(), seed: u64) {
            let codec = Codec::of_width(rows[0].len()).unwrap();
            let bytes = sealed(codec, &rows, seed);
            let plain: Vec<u64> =
                bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
            prop_assert_eq!(&plain[..plain.len() - 1], rows.concat());

            let mut buffer = Buffer::default();
            let block = buffer.slice(bytes.len());
            block.copy_from_slice(&bytes);
            let mut read = Rows::verify(codec, block, rows.len(), seed).unwrap();
            prop_assert_eq!(read.len(), rows.len());
            for (at, row) in rows.iter().enumerate() {
                prop_assert_eq!(read.row(at), &row[..]);
            }
            let mut all = Vec::new();
            read.append_to(&mut all);
            prop_assert_eq!(all, rows.concat());
        }

        #[test]
        fn a_changed_bit_is_refused(rows in rows(), seed: u64, at: prop::sample::Index, bit in 0..8) {
            let codec = Codec::of_width(rows[0].len()).unwrap();
            let mut bytes = sealed(codec, &rows, seed);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Rows::verify(codec, &mut bytes, rows.len(), seed).is_err());
        }
    }

    #[test]
    fn a_block_of_another_place_or_length_is_refused() {
        let codec = Codec::of_width(2).unwrap();
        let mut bytes = sealed(codec, &[vec![1, 2], vec![3, 4]], 7);
        assert!(Rows::verify(codec, &mut bytes, 2, 8).is_err());
        assert!(Rows::verify(codec, &mut bytes, 3, 7).is_err());
        assert!(Rows::verify(codec, &mut bytes[..5], 0, 7).is_err());
        assert!(Rows::verify(codec, &mut bytes, 2, 7).is_ok());
    }

    #[test]
    fn a_buffer_has_every_length_that_is_asked_for() {
        let mut buffer = Buffer::default();
        for len in (0..300).chain([5, 1000, 1001, 1007, 1008, 1009, 1016, 1017, 0]) {
            let slice = buffer.slice(len);
            assert_eq!(slice.len(), len);
            assert!(slice.as_ptr().cast::<u64>().is_aligned());
        }
    }

    #[test]
    fn widths_outside_the_table_have_no_codec() {
        assert!(Codec::of_width(0).is_none());
        assert!(Codec::of_width(WIDTH_MAX + 1).is_none());
        for width in 1..=WIDTH_MAX {
            assert_eq!(Codec::of_width(width).unwrap().row_bytes(), width * WORD);
        }
    }
}
