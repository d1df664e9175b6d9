//! Logical time: an epoch is `commit << 20 | step`, one `u64` that timely orders totally.

use serde::{Deserialize, Serialize};

/// The timely timestamp of everything in the dataflow.
pub type Epoch = u64;

/// Bits of an epoch that number the step inside a commit.
const STEP_BITS: u32 = 20;

/// The number of a commit; 0 means "nothing committed yet", the first commit is 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Commit(pub u64);

impl Commit {
    /// The commit to which `epoch` belongs.
    pub fn of(epoch: Epoch) -> Commit {
        Commit(epoch >> STEP_BITS)
    }

    /// The first epoch of this commit.
    pub fn first_epoch(self) -> Epoch {
        self.0 << STEP_BITS
    }

    /// The commit after this one.
    pub fn next(self) -> Commit {
        Commit(self.0 + 1)
    }
}

impl std::fmt::Display for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a run that may commit; each start of a job takes the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl std::fmt::Display for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_belongs_to_the_commit_of_its_high_bits() {
        let commit = Commit(7);
        assert_eq!(Commit::of(commit.first_epoch()), commit);
        assert_eq!(Commit::of(commit.first_epoch() + 5), commit);
        assert_eq!(Commit::of(commit.next().first_epoch() - 1), commit);
    }
}
