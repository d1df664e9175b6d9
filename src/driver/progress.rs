//! How far a run is: written by the workers and the committer, awaited by pacing, shown by the command line.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::meters::Meters;
use crate::model::{Commit, Epoch};

/// The state of a run, shared by its threads.
#[derive(Debug)]
pub struct Progress {
    /// Where time and memory go.
    pub meters: Meters,
    state: Mutex<State>,
    moved: Condvar,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// The first epoch that is not worked off.
    pub open_epoch: Epoch,
    /// The newest commit.
    pub commit: Commit,
    /// Commits of this run.
    pub commits: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records known to wait at the sources (bytes for a directory).
    pub lag: u64,
    /// The newest commit that is closed: nothing is added to it any more.
    pub closed: Commit,
    /// Since when the oldest commit that is closed waits to stand.
    pub closed_since: Option<Instant>,
    /// The run has failed or is over: nothing will move any more.
    pub ended: bool,
}

impl Progress {
    /// A run that starts after `commit`.
    pub fn new(commit: Commit) -> Self {
        let open_epoch = commit.next().first_epoch();
        let state = State { open_epoch, commit, ..State::default() };
        Progress { meters: Meters::default(), state: Mutex::new(state), moved: Condvar::new() }
    }

    /// How far the run is now.
    pub fn now(&self) -> State {
        *self.lock()
    }

    /// Notes a change and wakes who waits.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.moved.notify_all();
    }

    /// Waits until `reached`, or until `timeout`; says how far the run is then.
    pub fn wait(&self, timeout: Duration, reached: impl Fn(&State) -> bool) -> State {
        let waiting = |state: &mut State| !reached(state) && !state.ended;
        let waited = self.moved.wait_timeout_while(self.lock(), timeout, waiting);
        *waited.unwrap_or_else(|held| held.into_inner()).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|held| held.into_inner())
    }
}
