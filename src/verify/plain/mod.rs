//! Records become events, versions of the dimension and dead letters, in a plain way.
//!
//! The meaning is that which the documentation of `decode` has; the code is another: a tree of the whole
//! document, looked into column by column. Nothing of `decode` is used, since it is what is checked.

mod json;
mod record;
mod scalars;
#[cfg(test)]
mod tests;

use xxhash_rust::xxh3::xxh3_128;

use crate::job::{DimensionSpec, EventsSpec};
use crate::source::{NO_TIMESTAMP, RawBatch};

/// The longest value of a record that is decoded, in bytes.
const RECORD_BYTES_MAX: usize = 8 << 20;

/// Why a record is refused, in the words of the table of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) word: &'static str,
    /// Another word that would be as right.
    pub(crate) or: Option<&'static str>,
}

impl Refused {
    fn new(word: &'static str) -> Refused {
        Refused { word, or: None }
    }

    /// True if a dead letter may give this reason.
    pub(crate) fn allows(&self, reason: &str) -> bool {
        self.word == reason || self.or == Some(reason)
    }
}

/// The topic of which a record is, and what it means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meaning<'j> {
    Events(&'j EventsSpec),
    Dimension(&'j DimensionSpec),
}

/// A value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Boolean(bool),
    Long(i64),
    Timestamp(i64),
    Decimal(i128),
    /// A part of [`Decoded::texts`].
    Text {
        start: usize,
        end: usize,
    },
}

/// A record that could be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) offset: i64,
    pub(crate) what: What,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// An event: a strong hash of its id, and its time.
    Event { id: u128, time: i64 },
    /// A version of the dimension.
    Version { deleted: bool },
}

/// A record that could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) offset: i64,
    pub(crate) timestamp_us: Option<i64>,
    pub(crate) refused: Refused,
    /// Strong hashes of key and value.
    pub(crate) key: Option<u128>,
    pub(crate) value: Option<u128>,
}

/// A batch of records of one Kafka partition, decoded.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) partition: i32,
    /// All texts of all cells.
    pub(crate) texts: String,
    pub(crate) rows: Vec<Row>,
    /// For each row its user or key, then the columns of the job.
    pub(crate) cells: Vec<Cell>,
    pub(crate) letters: Vec<Letter>,
}

impl Decoded {
    /// Decodes the records of a batch at the offsets below `end`.
    pub(crate) fn new(meaning: Meaning<'_>, batch: &RawBatch, end: i64) -> Decoded {
        let mut decoded = Decoded { partition: batch.partition, ..Decoded::default() };
        decoded.texts.reserve(batch.bytes.len() / 2);
        for record in batch.records.iter().filter(|record| record.offset < end) {
            let (key, value) = (batch.get(record.key), batch.get(record.value));
            let (texts, cells) = (decoded.texts.len(), decoded.cells.len());
            match record::read(meaning, key, value, &mut decoded) {
                Ok(what) => decoded.rows.push(Row { offset: record.offset, what }),
                Err(refused) => {
                    decoded.texts.truncate(texts);
                    decoded.cells.truncate(cells);
                    let timestamp_ms = record.timestamp_ms;
                    let has_time = timestamp_ms != NO_TIMESTAMP;
                    decoded.letters.push(Letter {
                        offset: record.offset,
                        timestamp_us: has_time.then(|| timestamp_ms.saturating_mul(1_000)),
                        refused,
                        key: key.map(xxh3_128),
                        value: value.map(xxh3_128),
                    });
                }
            }
        }
        decoded
    }

    /// The text of a cell.
    pub(crate) fn text(&self, start: usize, end: usize) -> &str {
        &self.texts[start..end]
    }

    fn push_text(&mut self, text: &str) {
        let start = self.texts.len();
        self.texts.push_str(text);
        self.cells.push(Cell::Text { start, end: self.texts.len() });
    }
}
