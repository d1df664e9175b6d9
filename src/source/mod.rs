//! Bytes in log order: a source reads one topic on a thread of its own and hands out raw batches.
//!
//! *Owns* the read positions of its topic. *Does not own* cuts, epochs or decoding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::job::SourceSpec;

pub mod cut;
mod directory;
pub mod feed;
mod kafka;
#[cfg(test)]
mod kafka_tests;
pub mod mark;
mod synthetic;

pub use cut::{Cut, CutError};
pub use directory::{DirectorySource, Unfinished};
pub use kafka::{KafkaSource, OffsetReporter};
use mark::Marks;
use synthetic::SyntheticSource;

/// Kafka partition → offset of the next record to read.
pub type Offsets = BTreeMap<i32, i64>;

/// Some records of one Kafka partition, in log order.
#[derive(Debug, Clone, Default)]
pub struct RawBatch {
    /// The Kafka partition.
    pub partition: i32,
    /// Keys and values of the records, one after the other.
    pub bytes: Vec<u8>,
    /// The records, in log order.
    pub records: Vec<RawRecord>,
    /// The position behind the batch: the offset of the next record to read.
    pub next: i64,
}

/// One record of a [`RawBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord {
    /// Offset in the Kafka partition.
    pub offset: i64,
    /// Timestamp of the record in milliseconds since 1970 UTC; `NO_TIMESTAMP` where it has none.
    pub timestamp_ms: i64,
    /// The key in `bytes`; `NO_BYTES` for none.
    pub key: Span,
    /// The value in `bytes`; `NO_BYTES` for a null payload.
    pub value: Span,
    /// Headers in `bytes`, as a JSON array of `["name", "base64 of the value" or null]`; `NO_BYTES` for
    /// none.
    pub headers: Span,
}

/// A range of a batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes; `u32::MAX` stands for "no bytes at all", which is not the same as empty.
    pub length: u32,
}

/// The span of a missing key or value.
pub const NO_BYTES: Span = Span { start: 0, length: u32::MAX };

/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = i64::MIN;

impl RawBatch {
    /// The bytes of `span`; `None` for [`NO_BYTES`].
    pub fn get(&self, span: Span) -> Option<&[u8]> {
        let start = span.start as usize;
        (span != NO_BYTES).then(|| &self.bytes[start..start + span.length as usize])
    }
}

/// What a source has to say.
#[derive(Debug)]
pub enum Poll {
    /// Records.
    Batch(RawBatch),
    /// The position moved past records that nobody sees (control records, compacted tails).
    Advanced {
        /// The Kafka partition.
        partition: i32,
        /// The offset of the next record to read.
        next: i64,
    },
    /// Nothing new within the time given.
    Idle,
    /// The end as it stood at the start is reached in all partitions (bounded runs only).
    End,
}

/// How a source is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The positions that the last commit recorded; empty on a first run.
    pub saved: Offsets,
    /// Keep reading past the end, and look for new partitions.
    pub follow: bool,
    /// Read on where records are lost (offsets out of range, files cut short, partitions gone).
    pub accept_loss: bool,
    /// How long to try a broker that does not answer.
    pub connect_timeout: Duration,
    /// Which partitions are read.
    pub share: Share,
    /// Hand out the headers of records (Kafka only): they cost a copy more, so only who stores them asks.
    pub headers: bool,
}

/// The partitions of a topic that a process reads: those whose number leaves `process` when it is divided by
/// `processes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The process.
    pub process: usize,
    /// All of them.
    pub processes: usize,
}

impl Share {
    /// The only process reads all.
    pub const ALL: Share = Share { process: 0, processes: 1 };

    /// Whether the partition belongs to the share.
    pub fn has(&self, partition: i32) -> bool {
        partition as usize % self.processes == self.process
    }
}

/// Reads one topic in log order. A source lives on one thread; it may block for the time given to `poll`.
pub trait Source: Send {
    /// The topic's name in cuts and tables.
    fn topic(&self) -> Arc<str>;
    /// Where reading starts, for every partition known at the start.
    fn start(&self) -> Offsets;
    /// The ends as far as they are known (the ends at the start in a bounded run), for lag and progress.
    fn ends(&self) -> Offsets;
    /// Compares the marks of the last commit with what is there now; see [`mark`]. To be called once,
    /// between opening and the first `poll`. [`SourceError::Loss`] where the log is another one than
    /// before, unless `accept_loss` was asked for: then those marks are dropped. True if any was dropped:
    /// the run is to commit without them, even if it reads nothing, so that what was accepted is settled.
    fn verify(&mut self, marks: &mut Marks) -> Result<bool, SourceError> {
        let _ = marks;
        Ok(false)
    }
    /// The next batch, waiting at most `timeout` for one.
    fn poll(&mut self, timeout: Duration) -> Result<Poll, SourceError>;
}

/// Why a source can't go on.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Reading on would lose or repeat records: the run is refused (exit code 3).
    #[error("{0}")]
    Loss(String),
    /// The topic does not exist, or access to it was refused (exit code 3).
    #[error("{0}")]
    Refused(String),
    /// Anything else: a broker that stays away, a file that can't be read (exit code 1).
    #[error("{0}")]
    Failed(String),
}

/// Opens the source that a job file names.
///
/// Positions are checked before anything is read: [`SourceError::Loss`] where `options.saved` does not fit
/// what is there, [`SourceError::Refused`] where there is nothing to read or no right to read it.
pub fn open(spec: &SourceSpec, options: &OpenOptions) -> Result<Box<dyn Source>, SourceError> {
    Ok(match spec {
        SourceSpec::Directory(path) => Box::new(DirectorySource::open(path, options)?),
        SourceSpec::Kafka(kafka) => Box::new(KafkaSource::open(kafka, options)?),
        SourceSpec::Synthetic(synthetic) => Box::new(SyntheticSource::open(synthetic, options)?),
    })
}
