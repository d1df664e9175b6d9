//! The order in which a commit is made. Everything that [`super::Committer`] does for a commit is one of
//! these steps, and the simulation crashes runs between and inside of them.
//!
//! A step that fails ends the run, and nothing is deleted: whether the transaction happened may not be known,
//! and the files are an orphan's at worst. The next run finds the job at this commit or at the one before.

/// A step on the way of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The rows of the table of cuts are written.
    Cuts,
    /// The next version of every touched table is written, and the symbols; the next state is put together.
    Stage,
    /// The folders of the tables are synced.
    SyncLake,
    /// The folder of the state is synced.
    SyncState,
    /// One transaction swaps everything. If its reply is lost the job's row is asked what became of it.
    Swap,
    /// The commit stands: the next one starts from it.
    Note,
    /// What only expired snapshots needed is deleted.
    Delete,
}

/// The steps of a commit. What the transaction points at is on disk before it; nothing goes before it stands.
pub(super) const STEPS: [Step; 7] = [
    Step::Cuts,
    Step::Stage,
    Step::SyncLake,
    Step::SyncState,
    Step::Swap,
    Step::Note,
    Step::Delete,
];
