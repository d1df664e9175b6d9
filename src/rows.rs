//! The rows of an aggregate in memory: fixed-size, numbered, linked by user.

/// End of a chain of rows.
pub const END: u32 = u32::MAX;

/// What memory adds to a row: the next row of the same user, and whether the row is among the dirty ones.
pub struct Link;

impl Link {
    /// The row differs from its newest slab.
    pub const DIRTY: u64 = 1 << 32;

    /// A link to the row `next`; not dirty.
    pub fn to(next: u32) -> u64 {
        u64::from(next)
    }

    /// The row that a link leads to.
    pub fn next(word: u64) -> u32 {
        word as u32
    }
}

/// Rows of `width` words, each with a word of [`Link`]; in pieces, so that nothing is copied when they grow.
#[derive(Debug)]
pub struct Rows {
    /// Words of a row.
    pub width: usize,
    pieces: Vec<Vec<u64>>,
}

impl Rows {
    /// Bits of a row's number that stand for its place in a piece.
    const PIECE_BITS: u32 = 14;

    /// No rows of `width` words.
    pub fn new(width: usize) -> Self {
        Rows { width, pieces: Vec::new() }
    }

    /// Adds a row that begins with `key`, all else 0, and returns its number.
    ///
    /// # Panics
    /// When there are 2³² − 1 rows already.
    pub fn add(&mut self, key: &[u64], link: u64) -> u32 {
        let stride = self.width + 1;
        let whole = stride << Self::PIECE_BITS;
        if self.pieces.last().is_none_or(|piece| piece.len() == whole) {
            // The first piece grows: most runs touch few rows.
            let room = if self.pieces.is_empty() { 0 } else { whole };
            self.pieces.push(Vec::with_capacity(room));
        }
        let number = self.pieces.len() - 1;
        let piece = &mut self.pieces[number];
        let row = (number << Self::PIECE_BITS) + piece.len() / stride;
        assert!(
            row < END as usize,
            "a worker holds at most 2^32 - 1 rows of an aggregate; use more workers"
        );
        piece.extend_from_slice(key);
        piece.resize(piece.len() + self.width - key.len(), 0);
        piece.push(link);
        row as u32
    }

    fn place(&self, row: u32) -> (usize, usize) {
        let row = row as usize;
        let within = row & ((1 << Self::PIECE_BITS) - 1);
        (row >> Self::PIECE_BITS, within * (self.width + 1))
    }

    /// A row and its link.
    pub fn get(&self, row: u32) -> (&[u64], u64) {
        let (piece, start) = self.place(row);
        let row = &self.pieces[piece][start..=start + self.width];
        (&row[..self.width], row[self.width])
    }

    /// A row and its link.
    pub fn get_mut(&mut self, row: u32) -> (&mut [u64], &mut u64) {
        let (piece, start) = self.place(row);
        let (row, link) = self.pieces[piece][start..=start + self.width].split_at_mut(self.width);
        (row, &mut link[0])
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.capacity() * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_from_0_and_stay_what_they_are_as_more_come() {
        let mut rows = Rows::new(3);
        let key = |row: u32| [u64::from(row) * 3, u64::MAX - u64::from(row)];
        for row in 0..40_000 {
            assert_eq!(rows.add(&key(row), Link::to(row / 2)), row);
            let (words, link) = rows.get_mut(row);
            assert_eq!(*words, [key(row)[0], key(row)[1], 0]);
            words[2] = row.into();
            *link |= if row % 5 == 0 { Link::DIRTY } else { 0 };
        }
        for row in 0..40_000 {
            let (words, link) = rows.get(row);
            assert_eq!(*words, [key(row)[0], key(row)[1], row.into()]);
            assert_eq!((Link::next(link), link & Link::DIRTY != 0), (row / 2, row % 5 == 0));
        }
    }

    #[test]
    fn memory_is_that_of_the_rows_and_of_room_for_a_piece() {
        let mut rows = Rows::new(3);
        assert_eq!(rows.bytes(), 0);
        for row in 0..40_000 {
            rows.add(&[row], Link::to(END));
        }
        let bytes_of = |rows: usize| rows * 4 * 8;
        let room = bytes_of(40_000)..=bytes_of(40_000 + (1 << Rows::PIECE_BITS));
        assert!(room.contains(&rows.bytes()), "{} bytes", rows.bytes());
    }
}
