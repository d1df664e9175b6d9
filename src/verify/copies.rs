//! What the topics hold, read record by record: copies of events, versions of the dimension, dead letters.
//!
//! A copy is an event as one record has it; which of the copies of an id is admitted is settled afterwards
//! ([`winners`](super::winners)). Within a Kafka partition the first copy wins, so the others are only
//! counted, unless the job forgets ids after a horizon.

use std::collections::BTreeMap;

use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};

use super::history::{Place, ValueId, Values, Version};
use super::log::Ranges;
use super::plain::{Cell, Decoded, Letter, What};
use crate::model::Value;

/// An event as a record has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventCopy {
    /// A strong hash of its id.
    pub(super) id: u128,
    pub(super) time: i64,
    pub(super) offset: i64,
    pub(super) partition: i32,
    pub(super) user: ValueId,
    pub(super) commit: u32,
    /// Another copy of the id; [`NO_COPY`] for none.
    next: u32,
}

const NO_COPY: u32 = u32::MAX;

/// What was counted of one Kafka partition in one commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) records: i64,
    pub(super) letters: i64,
    pub(super) events: i64,
}

/// Topic, Kafka partition and commit.
pub(super) type Moved = (ValueId, i32, u64);

/// All that the topics hold below a cut.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) values: Values,
    pub(super) copies: Vec<EventCopy>,
    /// For every copy the columns of the job, one after the other.
    cells: Vec<ValueId>,
    /// How many columns an event has.
    width: usize,
    /// One copy of each id; the others follow from it.
    heads: HashTable<u32>,
    /// Later copies in a partition may be admitted too: the job has a horizon.
    keeps_all: bool,
    pub(super) versions: Vec<Version>,
    pub(super) letters: HashMap<Place, (u64, Letter)>,
    pub(super) counts: BTreeMap<Moved, Counts>,
}

impl Copies {
    /// Nothing yet, of events with `width` columns.
    pub(super) fn new(width: usize, keeps_all: bool) -> Copies {
        Copies { width, keeps_all, ..Copies::default() }
    }

    /// Takes in a batch of `topic`. A record that no commit has read is none.
    pub(super) fn absorb(&mut self, topic: ValueId, ranges: &Ranges, batch: &Decoded) {
        let width = if batch.rows.is_empty() { 1 } else { batch.cells.len() / batch.rows.len() };
        for (row, cells) in batch.rows.iter().zip(batch.cells.chunks_exact(width)) {
            let Some(commit) = ranges.commit(batch.partition, row.offset) else { continue };
            let counts = self.counts.entry((topic, batch.partition, commit)).or_default();
            counts.records += 1;
            match row.what {
                What::Event { id, time } => {
                    counts.events += 1;
                    let (partition, offset) = (batch.partition, row.offset);
                    let (user, commit) = (0, u32::try_from(commit).unwrap_or(u32::MAX));
                    let next = NO_COPY;
                    let copy = EventCopy { id, time, offset, partition, user, commit, next };
                    self.absorb_copy(copy, cells, batch);
                }
                What::Version { deleted } => {
                    let mut cells = cells.iter().map(|cell| number(&mut self.values, *cell, batch));
                    let key = cells.next().unwrap_or_default();
                    let columns: Vec<ValueId> = cells.collect();
                    let place = place(topic, batch.partition, row.offset);
                    let columns = (!deleted).then_some(columns);
                    self.versions.push(Version { key, columns, commit, place });
                }
            }
        }
        for letter in &batch.letters {
            let Some(commit) = ranges.commit(batch.partition, letter.offset) else { continue };
            let counts = self.counts.entry((topic, batch.partition, commit)).or_default();
            counts.records += 1;
            counts.letters += 1;
            let place = place(topic, batch.partition, letter.offset);
            self.letters.insert(place, (commit, letter.clone()));
        }
    }

    fn absorb_copy(&mut self, mut copy: EventCopy, cells: &[Cell], batch: &Decoded) {
        let number_of_copy = self.copies.len() as u32;
        let copies = &self.copies;
        let is_it = |head: &u32| copies[*head as usize].id == copy.id;
        let hash_of = |head: &u32| copies[*head as usize].id as u64;
        match self.heads.entry(copy.id as u64, is_it, hash_of) {
            Entry::Vacant(place) => {
                place.insert(number_of_copy);
            }
            Entry::Occupied(mut head) => {
                let mut others = chain(copies, *head.get());
                if !self.keeps_all && others.any(|of| copies[of].partition == copy.partition) {
                    return;
                }
                copy.next = *head.get();
                *head.get_mut() = number_of_copy;
            }
        }
        let mut numbers = cells.iter().map(|cell| number(&mut self.values, *cell, batch));
        copy.user = numbers.next().unwrap_or_default();
        self.cells.extend(numbers);
        self.copies.push(copy);
    }

    /// The copies of each id, a group at a time.
    pub(super) fn groups(&self, mut give: impl FnMut(&[usize])) {
        let mut group = Vec::new();
        for head in &self.heads {
            group.clear();
            group.extend(chain(&self.copies, *head));
            give(&group);
        }
    }

    /// The copy of an id that stands in a place.
    pub(super) fn find(&self, id: u128, partition: i64, offset: i64) -> Option<usize> {
        let head = self.heads.find(id as u64, |head| self.copies[*head as usize].id == id)?;
        let mut group = chain(&self.copies, *head);
        group.find(|copy| {
            let copy = &self.copies[*copy];
            i64::from(copy.partition) == partition && copy.offset == offset
        })
    }

    /// The columns of a copy.
    pub(super) fn cells(&self, copy: usize) -> &[ValueId] {
        &self.cells[copy * self.width..(copy + 1) * self.width]
    }

    /// Where a copy stands in `topic`, for people.
    pub(super) fn described(&self, topic: ValueId, copy: usize) -> String {
        let copy = &self.copies[copy];
        self.values.place_text(place(topic, copy.partition, copy.offset))
    }

    /// True if two copies have the same content.
    pub(super) fn is_same(&self, one: usize, other: usize) -> bool {
        let of = |copy: usize| (self.copies[copy].user, self.copies[copy].time);
        of(one) == of(other) && self.cells(one) == self.cells(other)
    }
}

fn chain(copies: &[EventCopy], head: u32) -> impl Iterator<Item = usize> {
    let some = |copy: u32| (copy != NO_COPY).then_some(copy as usize);
    std::iter::successors(some(head), move |copy| some(copies[*copy].next))
}

pub(super) fn place(topic: ValueId, partition: i32, offset: i64) -> Place {
    Place { topic, partition: partition.into(), offset }
}

fn number(values: &mut Values, cell: Cell, batch: &Decoded) -> ValueId {
    match cell {
        Cell::Null => 0,
        Cell::Text { start, end } => values.text(batch.text(start, end)),
        Cell::Boolean(value) => values.other(Value::Boolean(value)),
        Cell::Long(value) => values.other(Value::Long(value)),
        Cell::Timestamp(value) => values.other(Value::Timestamp(value)),
        Cell::Decimal(value) => values.other(Value::Decimal(value)),
    }
}
