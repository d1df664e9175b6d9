//! Named questions about frontiers, and the capabilities that hold a commit open.

use std::collections::BTreeMap;

use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

use crate::model::{Commit, Epoch};

/// The least epoch that may still come; `None` once the input is closed.
pub fn open_epoch(frontier: &MutableAntichain<Epoch>) -> Option<Epoch> {
    frontier.frontier().first().copied()
}

/// The least epoch that may still come on any of the inputs.
pub fn open_epoch_of_all(frontiers: &[MutableAntichain<Epoch>]) -> Option<Epoch> {
    frontiers.iter().filter_map(open_epoch).min()
}

/// True once nothing of `epoch` can come any more.
pub fn is_complete(epoch: Epoch, open: Option<Epoch>) -> bool {
    open.is_none_or(|open| epoch < open)
}

/// True once nothing of `commit` can come any more.
pub fn is_commit_complete(commit: Commit, open: Option<Epoch>) -> bool {
    open.is_none_or(|open| commit < Commit::of(open))
}

/// Data that waits for its epoch to be complete.
#[derive(Debug)]
pub struct Stash<T> {
    epochs: BTreeMap<Epoch, (Capability<Epoch>, T)>,
}

impl<T: Default> Stash<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Stash { epochs: BTreeMap::new() }
    }

    /// The place of the message's epoch. Its capability for output `port` is kept until the epoch is taken.
    /// `None` for a message without any time, which carries no data.
    pub fn entry(&mut self, capability: &InputCapability<Epoch>, port: usize) -> Option<&mut T> {
        let epoch = *capability.least()?;
        let slot = self.epochs.entry(epoch);
        Some(&mut slot.or_insert_with(|| (capability.delayed(&epoch, port), T::default())).1)
    }

    /// The first epoch, if it is complete.
    pub fn first_complete(&self, open: Option<Epoch>) -> Option<Epoch> {
        self.epochs.keys().next().copied().filter(|epoch| is_complete(*epoch, open))
    }

    /// Takes the first epoch if it is complete.
    pub fn take_complete(&mut self, open: Option<Epoch>) -> Option<(Capability<Epoch>, T)> {
        let first = self.epochs.first_entry()?;
        is_complete(*first.key(), open).then(|| first.remove())
    }
}

/// One capability for each commit that an operator took part in: while it is held, the commit stays open.
#[derive(Debug, Default)]
pub struct CommitHold {
    commits: BTreeMap<Commit, Capability<Epoch>>,
}

impl CommitHold {
    /// Holds the commit of a message open on output `port`.
    pub fn hold(&mut self, capability: &InputCapability<Epoch>, port: usize) {
        if let Some(epoch) = capability.least() {
            self.commits
                .entry(Commit::of(*epoch))
                .or_insert_with(|| capability.delayed(epoch, port));
        }
    }

    /// The first commit held, if it is complete.
    pub fn first_complete(&self, open: Option<Epoch>) -> Option<Commit> {
        self.commits.keys().next().copied().filter(|commit| is_commit_complete(*commit, open))
    }

    /// Takes the first commit held if it is complete.
    pub fn take_complete(&mut self, open: Option<Epoch>) -> Option<(Commit, Capability<Epoch>)> {
        let first = self.commits.first_entry()?;
        is_commit_complete(*first.key(), open).then(|| first.remove_entry())
    }
}

/// What an operator does next: epochs and commits are worked off in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// All that was stashed for this epoch.
    Epoch(Epoch),
    /// This commit is complete, and all its epochs were worked off.
    Commit(Commit),
    /// Wait.
    Nothing,
}

/// The next complete thing: an epoch comes before its commit, and a commit before the epochs of later ones.
pub fn next_complete(epoch: Option<Epoch>, commit: Option<Commit>) -> Next {
    match (epoch, commit) {
        (Some(epoch), Some(commit)) if commit < Commit::of(epoch) => Next::Commit(commit),
        (Some(epoch), _) => Next::Epoch(epoch),
        (None, Some(commit)) => Next::Commit(commit),
        (None, None) => Next::Nothing,
    }
}
