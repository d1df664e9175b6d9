//! Synthetic subscription events: who does what when, and everything that goes wrong on the way.
//!
//! ```text
//!  users (who)      ┐
//!  sessions (what)  ├─► stream: records in order of writing ─► directory | kafka
//!  faults (wrong)   ┘        │
//!                            └─► counts: what tidewater should find
//! ```
//!
//! A [`World`] is fixed for good: seed, users, regions, partitions. A [`Round`] adds events and changes;
//! [`History`] (`generator.json`) remembers the rounds, so that a later one goes on with fresh ids,
//! later times, and users where the earlier rounds left them.
//!
//! Invariant: the bytes of every partition are a function of the world and its rounds alone; sinks and
//! their speed have no say.

pub mod directory;
pub mod faults;
pub mod history;
pub mod job;
pub mod kafka;
pub mod numbered;
pub mod random;
pub mod render;
pub mod sessions;
pub mod stream;
pub mod target;
#[cfg(test)]
mod tests;
pub mod users;

pub use history::{History, HistoryError};
pub use stream::{Counts, Record, Stream, Topic};

use serde::{Deserialize, Serialize};

/// What never changes for a data set: every round must be given the same world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct World {
    pub seed: u64,
    pub users: u32,
    pub regions: u16,
    /// Share of users who have no record in the dimension.
    pub unknown_users: f64,
    /// Partitions of the event topic.
    pub partitions: u32,
    /// Partitions of the user topic.
    pub user_partitions: u32,
}

/// One run of the generator: what it adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    pub seed: u64,
    /// Records of the event topic to write, copies and malformed ones included.
    pub events: u64,
    /// Users who change their region.
    pub moves: u64,
    /// Users who change their plan.
    pub plan_changes: u64,
    /// Users who are deleted; every fourth of them comes back, where the time allows.
    pub deletes: u64,
    /// Milliseconds since 1970.
    pub start_ms: i64,
    pub duration_ms: i64,
    /// 0 makes all users equally active, 1 to 3 prefer the first ones more and more.
    pub skew: u32,
    pub shares: Shares,
}

/// What goes wrong, as shares of the event records in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Records that are sent once more, byte for byte.
    pub duplicates: f64,
    /// Of these, the share whose copy lands in another partition.
    pub across: f64,
    /// Records that are followed, in their partition, by one of the same id and other content.
    pub conflicts: f64,
    /// Records that are written seconds to minutes after their time.
    pub out_of_order: f64,
    /// Records that are written hours to days after their time.
    pub late: f64,
    /// Records that can't be decoded. The dimension gets the same share of its records in addition.
    pub malformed: f64,
}

/// Why options make no data set.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OptionsError {
    #[error("`{name}` is {value}, and must be from {least} to {most}")]
    Range { name: &'static str, value: String, least: String, most: String },
    #[error("`duplicates`, `conflicts` and `malformed` leave too few records to make copies of")]
    Copies,
    #[error("`out-of-order` and `late` are more than all records together")]
    Delays,
}

/// The greatest number of users: their ids have eight digits.
pub const USERS_MAX: u32 = 99_999_999;
/// The first and last instant at which a round may begin or end, so that late records stay in bounds too.
const TIMES: (i64, i64) = (31_536_000_000, 7_226_582_400_000);

impl World {
    /// Checks the ranges of all numbers.
    pub fn check(&self) -> Result<(), OptionsError> {
        range("users", self.users, 1, USERS_MAX)?;
        range("regions", self.regions, 2, 10_000)?;
        range("partitions", self.partitions, 1, 10_000)?;
        range("user-partitions", self.user_partitions, 1, 10_000)?;
        range("unknown-users", self.unknown_users, 0.0, 1.0)
    }
}

impl Round {
    /// Checks the ranges of all numbers.
    pub fn check(&self) -> Result<(), OptionsError> {
        let shares = &self.shares;
        range("skew", self.skew, 0, 3)?;
        range("start (ms since 1970)", self.start_ms, TIMES.0, TIMES.1)?;
        range("duration (ms)", self.duration_ms, 1, TIMES.1 - self.start_ms)?;
        for (name, share) in shares.named() {
            range(name, share, 0.0, 1.0)?;
        }
        let copies = shares.duplicates + shares.conflicts;
        if copies + shares.malformed > 1.0 - copies {
            return Err(OptionsError::Copies);
        }
        if shares.out_of_order + shares.late > 1.0 {
            return Err(OptionsError::Delays);
        }
        Ok(())
    }
}

impl Shares {
    /// Each share with the name of its option.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("duplicates", self.duplicates),
            ("across", self.across),
            ("conflicts", self.conflicts),
            ("out-of-order", self.out_of_order),
            ("late", self.late),
            ("malformed", self.malformed),
        ]
    }
}

impl Default for Shares {
    fn default() -> Shares {
        Shares {
            duplicates: 0.05,
            across: 0.3,
            conflicts: 0.0002,
            out_of_order: 0.02,
            late: 0.002,
            malformed: 0.0002,
        }
    }
}

fn range<T: PartialOrd + ToString>(
    name: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), OptionsError> {
    if value >= least && value <= most {
        return Ok(());
    }
    let text = |value: &T| value.to_string();
    Err(OptionsError::Range { name, value: text(&value), least: text(&least), most: text(&most) })
}
