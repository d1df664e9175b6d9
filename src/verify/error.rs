//! Why tables can't be verified, and that they are wrong.

use std::ops::Range;

use thiserror::Error;

use crate::lake::at_commit::AtCommitError;
use crate::lake::read::ReadError;
use crate::lake::table::TableError;
use crate::source::SourceError;

/// Why tables can't be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A table can't be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A table no longer keeps the commit.
    #[error(transparent)]
    AtCommit(#[from] AtCommitError),
    /// A sum leaves 128 bits.
    #[error("the sum of column {column} can't be computed: it has more than 38 digits")]
    Sum {
        /// The column.
        column: String,
    },
    /// There is nothing to compute from.
    #[error(
        "job {job} keeps no table of events (events = false), so there is nothing in the tables to compute \
         from; tidewater verify --from source computes its tables from the topics"
    )]
    NoEvents {
        /// The job.
        job: String,
    },
    /// The source no longer has what the tables were made of.
    #[error(
        "topic {topic}, partition {partition}: the records from offset {} up to {} can't be read again: \
         {why}; --from tables verifies without the topics", offsets.start, offsets.end
    )]
    Gone {
        /// The topic.
        topic: String,
        /// The Kafka partition.
        partition: i32,
        /// Where the records stood.
        offsets: Range<i64>,
        /// What is there instead.
        why: String,
    },
    /// The source can't be read.
    #[error("the topics can't be read again: {0}; --from tables verifies without them")]
    Source(#[from] SourceError),
    /// Some tables are wrong.
    #[error("{faults} faults in the tables of job {job}, named above")]
    Wrong {
        /// The job.
        job: String,
        /// How many.
        faults: usize,
    },
}

impl VerifyError {
    pub(super) fn gone(topic: &str, partition: i32, offsets: Range<i64>, why: &str) -> Self {
        let (topic, why) = (topic.to_owned(), why.to_owned());
        VerifyError::Gone { topic, partition, offsets, why }
    }
}
