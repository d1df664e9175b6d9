//! The border between the threads outside the dataflow and a worker: raw batches and closings, in epoch
//! order.

use super::RawBatch;
use crate::model::Epoch;

/// Which topic of the job a record comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Role {
    /// The event topic.
    Events,
    /// The dimension topic.
    Dimension,
}

/// What a worker is fed. All batches of an epoch come before the closing that names a later one.
#[derive(Debug)]
pub enum Feed {
    /// Records of one Kafka partition.
    Batch {
        /// The topic.
        role: Role,
        /// The epoch to which the records belong.
        epoch: Epoch,
        /// The records.
        batch: RawBatch,
    },
    /// No record of an epoch before `next` will follow.
    Close {
        /// The first epoch that is still open.
        next: Epoch,
    },
}
