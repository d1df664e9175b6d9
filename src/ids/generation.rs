//! The ids of one generation in memory: rows in the order in which they came, found through hash tables.
//!
//! An id takes a row of 20 bytes (128 bits of hash and a 32-bit fingerprint of the winner's content) and, in
//! a table, a slot of 8 and a control byte. Rows lie in pieces; a full one never changes once its commit is
//! closed, so the rows of a commit go to the slab's writer without being copied.

use std::mem;
use std::sync::{Arc, LazyLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::WIDTH;
use crate::model::Fact;

/// An id and the content of its winner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    words: [u32; 4],
    pub content: u32,
}

impl Id {
    pub fn of(fact: &Fact) -> Id {
        Id::new(fact.id, fact.content)
    }

    pub fn new(id: [u64; 2], content: u32) -> Id {
        let half = |word: u64| [(word >> 32) as u32, word as u32];
        let ([a, b], [c, d]) = (half(id[0]), half(id[1]));
        Id { words: [a, b, c, d], content }
    }

    fn first(&self) -> u64 {
        u64::from(self.words[0]) << 32 | u64::from(self.words[1])
    }

    /// The row of a slab.
    fn row(&self) -> [u64; WIDTH] {
        let second = u64::from(self.words[2]) << 32 | u64::from(self.words[3]);
        [self.first(), second, self.content.into()]
    }
}

/// Tables of a generation.
const TABLES: usize = 64;
/// Bits of an id that choose its table.
const CHOICE_BITS: u32 = 10;

/// The table of an id, by its [`CHOICE_BITS`]; no table has lesser ids than the one before.
///
/// The shares of the tables differ, up to twofold and evenly on a logarithmic scale: a table doubles when it
/// is full, and so at any time each is at another point between half full and full.
static CHOICE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let choices = f64::from(1 << CHOICE_BITS);
    let table = |choice| ((1.0 + f64::from(choice) / choices).log2() * TABLES as f64) as u8;
    (0..1 << CHOICE_BITS).map(table).collect()
});

/// Ids in many tables: one that grows needs little memory beside itself, and takes what the one before gave
/// back.
#[derive(Debug)]
pub(super) struct Generation {
    tables: Vec<Table>,
    workers: u64,
}

impl Generation {
    /// No ids, on one of so many workers.
    pub fn new(workers: usize) -> Self {
        let tables = (0..TABLES).map(|_| Table::default()).collect();
        Generation { tables, workers: workers as u64 }
    }

    /// Workers own ranges of ids ([`owner`](crate::model::hash::owner)): this is the place in the range.
    fn table(&self, id: &Id) -> usize {
        let place = id.first().wrapping_mul(self.workers);
        CHOICE[(place >> (u64::BITS - CHOICE_BITS)) as usize].into()
    }

    pub fn find(&self, id: &Id) -> Option<&Id> {
        let table = &self.tables[self.table(id)];
        table.find(id).map(|row| table.rows.get(row))
    }

    /// Takes in `id` unless it is known; true if it is new.
    pub fn insert(&mut self, id: Id) -> bool {
        let table = self.table(&id);
        self.tables[table].insert(id)
    }

    /// Forgets an id that came since the last [`take_fresh`](Self::take_fresh).
    pub fn remove(&mut self, id: &Id) {
        let table = self.table(id);
        self.tables[table].remove(id);
    }

    /// The ids that came since the last call.
    pub fn take_fresh(&mut self) -> Vec<FreshRows> {
        self.tables.iter_mut().map(Table::take_fresh).collect()
    }

    pub fn bytes(&self) -> usize {
        let of = |table: &Table| table.rows.bytes() + table.slots.allocation_size();
        self.tables.iter().map(of).sum()
    }
}

#[derive(Debug, Default)]
struct Table {
    rows: Rows,
    slots: HashTable<Slot>,
    /// Rows before this one were fresh once.
    taken: u32,
}

#[derive(Debug)]
struct Slot {
    /// A word of the id that neither routes nor chooses the table.
    word: u32,
    row: u32,
}

impl Slot {
    /// A hash table looks at the first bits and at the last.
    fn hash(word: u32) -> u64 {
        u64::from(word) << 32 | u64::from(word)
    }
}

impl Table {
    fn find(&self, id: &Id) -> Option<u32> {
        let word = id.words[3];
        let same = |slot: &Slot| slot.word == word && self.rows.get(slot.row).words == id.words;
        self.slots.find(Slot::hash(word), same).map(|slot| slot.row)
    }

    fn insert(&mut self, id: Id) -> bool {
        let (rows, word) = (&mut self.rows, id.words[3]);
        let same = |slot: &Slot| slot.word == word && rows.get(slot.row).words == id.words;
        match self.slots.entry(Slot::hash(word), same, |slot| Slot::hash(slot.word)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(slot) => {
                slot.insert(Slot { word, row: rows.push(id) });
                true
            }
        }
    }

    fn remove(&mut self, id: &Id) {
        let Some(row) = self.find(id) else { return };
        debug_assert!(row >= self.taken, "an id of an earlier commit stays");
        let of_row = |row: u32| move |slot: &Slot| slot.row == row;
        if let Ok(slot) = self.slots.find_entry(Slot::hash(id.words[3]), of_row(row)) {
            slot.remove();
        }
        let (last, moved) = self.rows.pop();
        if last != row {
            let slot = self.slots.find_mut(Slot::hash(moved.words[3]), of_row(last));
            slot.into_iter().for_each(|slot| slot.row = row);
            *self.rows.get_mut(row) = moved;
        }
    }

    fn take_fresh(&mut self) -> FreshRows {
        let from = mem::replace(&mut self.taken, self.rows.len());
        self.rows.since(from)
    }
}

/// Rows, numbered from 0 on.
#[derive(Debug, Default)]
struct Rows {
    full: Vec<Arc<Vec<Id>>>,
    open: Vec<Id>,
}

/// Bits of a row's number that stand for its place in a piece.
const PIECE_BITS: u32 = 9;
/// Rows of a full piece.
const PIECE: usize = 1 << PIECE_BITS;

fn place(row: u32) -> (usize, usize) {
    ((row >> PIECE_BITS) as usize, row as usize % PIECE)
}

impl Rows {
    fn len(&self) -> u32 {
        (self.full.len() * PIECE + self.open.len()) as u32
    }

    fn get(&self, row: u32) -> &Id {
        let (piece, place) = place(row);
        &self.full.get(piece).map_or(&self.open, |full| &**full)[place]
    }

    fn get_mut(&mut self, row: u32) -> &mut Id {
        let (piece, place) = place(row);
        &mut self.full.get_mut(piece).map_or(&mut self.open, Arc::make_mut)[place]
    }

    fn push(&mut self, id: Id) -> u32 {
        let row = self.len();
        assert!(row < u32::MAX - 1, "a worker holds at most 2^37 ids; use more workers");
        if self.open.is_empty() && !self.full.is_empty() {
            // The first piece grows: most runs meet few ids.
            self.open.reserve_exact(PIECE);
        }
        self.open.push(id);
        if self.open.len() == PIECE {
            self.full.push(Arc::new(mem::take(&mut self.open)));
        }
        row
    }

    /// Takes the last row off, of which there must be one.
    fn pop(&mut self) -> (u32, Id) {
        if self.open.is_empty() {
            self.open = self.full.pop().map(Arc::unwrap_or_clone).unwrap_or_default();
        }
        let id = self.open.pop().unwrap_or_else(|| panic!("there is no row to take off"));
        (self.len(), id)
    }

    fn since(&self, row: u32) -> FreshRows {
        let (piece, skip) = place(row);
        let (full, open) = if piece < self.full.len() {
            (self.full[piece..].to_vec(), self.open.clone())
        } else {
            (Vec::new(), self.open[skip..].to_vec())
        };
        FreshRows { skip: if full.is_empty() { 0 } else { skip }, full, open }
    }

    fn bytes(&self) -> usize {
        (self.full.len() * PIECE + self.open.capacity()) * size_of::<Id>()
    }
}

/// Rows of a commit.
#[derive(Debug)]
pub(super) struct FreshRows {
    full: Vec<Arc<Vec<Id>>>,
    /// Rows of the first full piece that are older.
    skip: usize,
    open: Vec<Id>,
}

impl FreshRows {
    pub fn len(&self) -> usize {
        self.full.len() * PIECE - self.skip + self.open.len()
    }

    /// The rows of a slab, one after the other.
    pub fn into_words(self) -> Vec<u64> {
        let mut words = Vec::with_capacity(self.len() * WIDTH);
        let ids = self.full.iter().flat_map(|full| full.iter()).skip(self.skip).chain(&self.open);
        ids.for_each(|id| words.extend_from_slice(&id.row()));
        words
    }
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
