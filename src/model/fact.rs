//! What travels between workers: fixed-size rows without a pointer in them.

use serde::{Deserialize, Serialize};

use super::Symbol;

/// Words of a fact that the job's aggregates and funnels may use.
pub const SLOTS: usize = 8;

/// Where a record stands in the log of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The Kafka partition's number.
    pub partition: i32,
    /// Offset of the record in it.
    pub offset: i64,
}

/// The fixed-size part of an event (128 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fact {
    /// 128-bit hash of the event id.
    pub id: [u64; 2],
    /// 64-bit hash of the user.
    pub user: u64,
    /// Event time, microseconds since 1970 UTC.
    pub time: i64,
    /// Offset of the record in its Kafka partition.
    pub offset: i64,
    /// As the job's [`FactLayout`](crate::job::FactLayout) says: group symbols, sums, funnel steps.
    pub slots: [u64; SLOTS],
    /// Kafka partition of the record.
    pub partition: i32,
    /// Hash of the content (user, time and all columns), to tell copies from conflicts.
    pub content: u32,
    /// Number of the decoded batch on its worker, counted from the start of the run.
    pub batch: u32,
    /// Row of that batch.
    pub row: u32,
    /// Index of the worker that keeps the payload.
    pub worker: u16,
    /// Bit `i` set: `slots[i]` is NULL (for a decimal, the bit of its first slot).
    pub nulls: u8,
}

/// One version of a dimension's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DimensionChange {
    /// 64-bit hash of the key, the same hash as [`Fact::user`].
    pub user: u64,
    /// Where the record stands; the greatest position of a key holds.
    pub position: Position,
    /// The tuple of all dimension columns; the all-NULL tuple where the key was deleted.
    pub columns: Symbol,
    /// The version deletes the key.
    pub deleted: bool,
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A fact of nothing, for tests to fill in.
    pub(crate) const NOTHING: Fact = Fact {
        id: [0; 2],
        user: 0,
        time: 0,
        offset: 0,
        slots: [0; SLOTS],
        partition: 0,
        content: 0,
        batch: 0,
        row: 0,
        worker: 0,
        nulls: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_fits_128_bytes() {
        assert_eq!(size_of::<Fact>(), 128);
    }
}
