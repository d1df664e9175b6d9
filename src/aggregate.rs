//! Aggregate: measures by group and window, as sums over rows of (user, window, event group).
//!
//! Let `row(u, w, g)` be the count and the sums over the events of user `u` in window `w` with event-side
//! group `g`. Then `aggregate(w, g, d)` is the sum of all `row(u, w, g)` with `dimension(u) = d`, and its
//! distinct users are the number of such rows. A fact adds to one row; a user who moves takes all of their
//! rows along. Both change the answer by a difference, which is what this stage hands on.
//!
//! *Owns* the rows that this run touched; `hydrate` brings them in from slabs.

use hashbrown::HashTable;

use crate::changes::{Changes, GroupKey};
use crate::groups::dimension_columns;
use crate::job::{AggregateLayout, AggregateSpec, SumSlot};
use crate::model::time::window_start;
use crate::model::{Fact, Symbol};
use crate::rows::{END, Link, Rows};
use crate::state::{Layout, SlabRows};
use crate::users::UserIndex;

/// Words of a row's key: user, window, event group.
pub const KEY: usize = 3;
/// Word of the count of events.
const COUNT: usize = 3;
/// The first word of the sums: for each one its value (two words if wide) and its number of values.
const SUMS: usize = 4;

/// The layout of the slabs of an aggregate's rows, which are `width` words long.
pub fn layout(name: &str, width: usize) -> Layout {
    Layout { collection: format!("rows.{name}"), width, key: KEY, filter: KEY }
}

/// The rows of one aggregate on one worker.
#[derive(Debug)]
pub struct Aggregate {
    /// Index of the table that the differences go to.
    table: usize,
    has_dimension: bool,
    window_us: Option<i64>,
    layout: AggregateLayout,
    rows: Rows,
    /// Rows that differ from their newest slab.
    dirty_rows: Vec<u32>,
    by_key: HashTable<u32>,
    /// Per user of the run: the first row.
    heads: Vec<u32>,
}

/// Where a fact is counted.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    row: u32,
    /// It is the first fact of its row.
    first: bool,
}

/// What the events of a row have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// Hash of the user.
    pub user: u64,
    /// Start of the window, as [`order_bits`]; 0 without windows.
    pub window: u64,
    /// Symbol of the event-side group.
    pub group: u64,
}

/// Maps signed to unsigned numbers so that their orders agree.
pub fn order_bits(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// The inverse of [`order_bits`].
pub fn from_order_bits(bits: u64) -> i64 {
    (bits ^ (1 << 63)) as i64
}

/// Words of a row of an aggregate with these sums.
pub fn row_width(sums: &[SumSlot]) -> usize {
    SUMS + sums.iter().map(sum_words).sum::<usize>()
}

fn sum_words(sum: &SumSlot) -> usize {
    if sum.wide { 3 } else { 2 }
}

impl RowKey {
    fn of(fact: &Fact, window_us: Option<i64>, layout: &AggregateLayout) -> RowKey {
        RowKey {
            user: fact.user,
            window: window_us.map_or(0, |size| order_bits(window_start(fact.time, size))),
            group: layout.group_slot.map_or(0, |slot| fact.slots[slot]),
        }
    }

    fn hash(&self) -> u64 {
        let mixed = (self.user ^ self.window.rotate_left(32) ^ self.group)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }

    /// The key's words, as a row begins.
    pub fn words(&self) -> [u64; KEY] {
        [self.user, self.window, self.group]
    }
}

impl Aggregate {
    /// An aggregate without rows.
    pub fn new(spec: &AggregateSpec, layout: AggregateLayout, table: usize) -> Self {
        Aggregate {
            table,
            has_dimension: !dimension_columns(&spec.group_by).is_empty(),
            window_us: spec.window_us,
            rows: Rows::new(row_width(&layout.sums)),
            layout,
            dirty_rows: Vec::new(),
            by_key: HashTable::new(),
            heads: Vec::new(),
        }
    }

    /// The key of the row that counts `fact`.
    pub fn key(&self, fact: &Fact) -> RowKey {
        RowKey::of(fact, self.window_us, &self.layout)
    }

    /// True if its groups depend on the dimension: only then do users move in it.
    pub fn has_dimension(&self) -> bool {
        self.has_dimension
    }

    /// True if the row is in memory.
    pub fn has(&self, key: &RowKey) -> bool {
        self.find(key).is_some()
    }

    /// Takes in a stored row, unless it is in memory already.
    pub fn load(&mut self, user: UserIndex, stored: &[u64]) {
        let key = RowKey { user: stored[0], window: stored[1], group: stored[2] };
        if self.find(&key).is_none() {
            let row = self.add(user, &key);
            self.rows.get_mut(row).0.copy_from_slice(stored);
        }
    }

    /// The row that counts `fact`, made if there is none.
    pub fn place(&mut self, user: UserIndex, fact: &Fact) -> Place {
        let key = self.key(fact);
        match self.find(&key) {
            Some(row) => Place { row, first: false },
            None => Place { row: self.add(user, &key), first: true },
        }
    }

    /// Adds `fact`, of a user whose dimension-side group is `group`, to its row.
    pub fn absorb(&mut self, place: Place, fact: &Fact, group: Symbol, changes: &mut Changes) {
        let (row, link) = self.rows.get_mut(place.row);
        if *link & Link::DIRTY == 0 {
            *link |= Link::DIRTY;
            self.dirty_rows.push(place.row);
        }
        let group =
            GroupKey { table: self.table, window: row[1], event: row[2], dimension: group.0 };
        let delta = changes.entry(group, self.layout.sums.len());
        delta.count += 1;
        delta.users += i64::from(place.first);
        row[COUNT] += 1;
        let mut word = SUMS;
        for (sum, total) in self.layout.sums.iter().zip(&mut delta.sums) {
            if fact.nulls >> sum.slot & 1 == 0 {
                let value = fact_value(fact, sum);
                total.value = add(total.value, value);
                total.values += 1;
                let stored = read_sum(&row[word..], sum.wide);
                write_sum(&mut row[word..], sum.wide, add(stored, value));
                row[word + sum_words(sum) - 1] += 1;
            }
            word += sum_words(sum);
        }
    }

    /// Moves all rows of a user, who are all in memory, from one dimension-side group to another.
    pub fn relocate(&self, user: UserIndex, from: Symbol, to: Symbol, changes: &mut Changes) {
        let mut row = self.heads.get(user.0 as usize).copied().unwrap_or(END);
        while row != END {
            self.contribute(row, from, -1, changes);
            self.contribute(row, to, 1, changes);
            row = Link::next(self.rows.get(row).1);
        }
    }

    /// Adds the rows that differ from their slabs to those of the next slab.
    pub fn take_dirty(&mut self, slab: &mut SlabRows) {
        for row in std::mem::take(&mut self.dirty_rows) {
            let (row, link) = self.rows.get_mut(row);
            *link &= !Link::DIRTY;
            slab.push(row);
        }
    }

    /// Words of a row.
    pub fn width(&self) -> usize {
        self.rows.width
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.by_key.capacity() * 5
    }

    /// Drops all rows; all of them stand in slabs.
    pub fn evict(&mut self) {
        assert!(self.dirty_rows.is_empty(), "rows that no slab holds must not be dropped");
        self.rows = Rows::new(self.rows.width);
        self.by_key = HashTable::new();
        self.heads = Vec::new();
    }

    fn contribute(&self, row: u32, group: Symbol, sign: i64, changes: &mut Changes) {
        let (row, _) = self.rows.get(row);
        let key = GroupKey { table: self.table, window: row[1], event: row[2], dimension: group.0 };
        let delta = changes.entry(key, self.layout.sums.len());
        delta.count += sign * row[COUNT] as i64;
        delta.users += sign;
        let mut word = SUMS;
        for (sum, total) in self.layout.sums.iter().zip(&mut delta.sums) {
            let value = read_sum(&row[word..], sum.wide);
            total.value = add(total.value, if sign < 0 { negate(value) } else { value });
            total.values += sign * row[word + sum_words(sum) - 1] as i64;
            word += sum_words(sum);
        }
    }

    fn find(&self, key: &RowKey) -> Option<u32> {
        let words = key.words();
        self.by_key.find(key.hash(), |row| self.rows.get(*row).0[..KEY] == words).copied()
    }

    fn add(&mut self, user: UserIndex, key: &RowKey) -> u32 {
        let user = user.0 as usize;
        if self.heads.len() <= user {
            self.heads.resize(user + 1, END);
        }
        let row = self.rows.add(&key.words(), Link::to(self.heads[user]));
        self.heads[user] = row;
        let rows = &self.rows;
        self.by_key.insert_unique(key.hash(), row, |row| {
            let (row, _) = rows.get(*row);
            RowKey { user: row[0], window: row[1], group: row[2] }.hash()
        });
        row
    }
}

fn fact_value(fact: &Fact, sum: &SumSlot) -> i128 {
    if sum.wide {
        read_sum(&fact.slots[sum.slot..], true)
    } else {
        i128::from(fact.slots[sum.slot] as i64)
    }
}

/// A sum as it stands in words: 64 bits, or 128 with the low half first.
fn read_sum(words: &[u64], wide: bool) -> i128 {
    if wide {
        (u128::from(words[1]) << 64 | u128::from(words[0])) as i128
    } else {
        i128::from(words[0] as i64)
    }
}

fn write_sum(words: &mut [u64], wide: bool, value: i128) {
    if wide {
        words[0] = value as u64;
        words[1] = (value >> 64) as u64;
    } else {
        let value = i64::try_from(value).unwrap_or_else(|_| {
            panic!("the sum of one user's longs in one window left the range of 64 bits: {value}")
        });
        words[0] = value as u64;
    }
}

fn add(a: i128, b: i128) -> i128 {
    a.checked_add(b).unwrap_or_else(|| panic!("a sum left the range of 128 bits"))
}

fn negate(value: i128) -> i128 {
    value.checked_neg().unwrap_or_else(|| panic!("a sum left the range of 128 bits"))
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
