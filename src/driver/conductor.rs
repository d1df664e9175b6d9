//! The conductor: closes the epochs and the commits of a run, for all its processes alike.
//!
//! Each process's [pacing](super::pacing) tells the conductor of process 0 what it has read, and the
//! conductor orders what is closed. So all processes agree on epochs, whichever of them has something to
//! read; and a commit's cut is put together from the parts of all.
//!
//! ```text
//!   pacing of process 0 ──told──►┌───────────┐──orders──► pacing of every process
//!   pacing of process 1 ──told──►│ conductor │──cuts────► committer
//! ```
//!
//! *Owns* the epoch at hand. *Backpressure*: no commit is closed while too many are on their way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};

use super::progress::Progress;
use super::standstill::Standstill;
use crate::model::{Commit, Epoch};
use crate::sink::Cuts;
use crate::worker::Failure;

/// How long anything is awaited before flags and clocks are looked at again.
const LOOK: Duration = Duration::from_millis(50);
/// The same, while a commit waits for earlier ones.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A following run closes an epoch that is this old.
const STEP_AGE_MAX: Duration = Duration::from_millis(20);

/// What the pacing of a process tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Told {
    /// The epoch has its first records or positions.
    Began {
        /// The epoch.
        epoch: Epoch,
    },
    /// The epoch has the process's share of records.
    Full {
        /// The epoch.
        epoch: Epoch,
        /// Its records so far.
        records: u64,
    },
    /// An epoch was closed.
    Closed {
        /// The epoch.
        epoch: Epoch,
        /// Its records.
        records: u64,
    },
    /// A commit was closed with these positions.
    Cut(Cuts),
    /// The dimension is read to its end.
    DimensionRead,
    /// There is nothing more to read.
    Ended,
    /// Someone wishes the run to stop.
    Stop,
}

/// What the conductor orders, to all processes alike.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Close all epochs before `next`.
    Close {
        /// The first epoch that is still open.
        next: Epoch,
    },
    /// All processes have read the dimension.
    ReadEvents,
    /// Nothing more is read.
    End,
    /// The last commit stands: other processes may go.
    Done,
}

/// How epochs and commits are closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Records of a commit.
    pub commit_records: u64,
    /// Age of a commit.
    pub commit_interval: Duration,
    /// The run goes on when the sources have nothing more.
    pub follow: bool,
}

/// Conducts a run until its input ends or someone wishes it to stop.
pub(super) struct Conductor {
    pace: Pace,
    told: Receiver<(usize, Told)>,
    /// To the pacing of every process.
    orders: Vec<Sender<Order>>,
    cuts: Sender<Cuts>,
    progress: Arc<Progress>,
    failure: Arc<Failure>,
    epoch: Epoch,
    step_started: Option<Instant>,
    /// Records of the epoch at hand, once a process has its share of them.
    step_full: Option<u64>,
    commit_started: Option<Instant>,
    commit_records: u64,
    /// Processes that have read the dimension, and all.
    dimension_read: usize,
    ended: usize,
    stop: bool,
    /// Parts of the cuts of closed commits.
    closed: BTreeMap<Commit, Vec<Cuts>>,
    standstill: Standstill,
    looked: Instant,
}

impl Conductor {
    /// The conductor of a run that goes on after commit `start`.
    pub(super) fn new(
        pace: Pace,
        told: Receiver<(usize, Told)>,
        orders: Vec<Sender<Order>>,
        cuts: Sender<Cuts>,
        progress: Arc<Progress>,
        failure: Arc<Failure>,
        start: Commit,
    ) -> Self {
        Conductor {
            pace,
            told,
            orders,
            cuts,
            progress,
            failure,
            epoch: start.next().first_epoch(),
            step_started: None,
            step_full: None,
            commit_started: None,
            commit_records: 0,
            dimension_read: 0,
            ended: 0,
            stop: false,
            closed: BTreeMap::new(),
            standstill: Standstill::default(),
            looked: Instant::now(),
        }
    }

    /// Runs to the end of the run.
    pub(super) fn run(mut self) {
        while !self.failure.happened() {
            match self.told.recv_timeout(self.patience()) {
                Ok((process, told)) => self.hear(process, told),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.close_what_is_due();
            self.end_standstill();
            if self.is_ending() && self.commit_started.is_none() && self.closed.is_empty() {
                break;
            }
        }
        self.order(Order::End);
    }

    /// A worker that hangs can't be waited for: the process ends here.
    fn end_standstill(&mut self) {
        let (state, passed) = (self.progress.now(), self.looked.elapsed());
        self.looked = Instant::now();
        if self.standstill.look(state.open_epoch, self.epoch, passed) {
            panic!(
                "the run stands still: nothing was worked off for 5 min after commit {}",
                state.commit
            );
        }
    }

    fn is_ending(&self) -> bool {
        self.stop || self.ended == self.orders.len()
    }

    /// How long nothing needs to be done unless something is told.
    fn patience(&self) -> Duration {
        if self.is_commit_full() {
            return LOOK_AGAIN;
        }
        let left = |started: Option<Instant>, age: Duration| {
            started.map_or(LOOK, |started| age.saturating_sub(started.elapsed()))
        };
        let step = if self.pace.follow { left(self.step_started, STEP_AGE_MAX) } else { LOOK };
        step.min(left(self.commit_started, self.pace.commit_interval)).clamp(LOOK_AGAIN, LOOK)
    }

    fn hear(&mut self, process: usize, told: Told) {
        match told {
            Told::Began { epoch } => {
                if epoch == self.epoch {
                    self.step_started.get_or_insert_with(Instant::now);
                }
                if Commit::of(epoch) == Commit::of(self.epoch) {
                    self.commit_started.get_or_insert_with(Instant::now);
                }
            }
            Told::Full { epoch, records } if epoch == self.epoch => {
                *self.step_full.get_or_insert(0) += records;
            }
            Told::Full { .. } => {}
            Told::Closed { epoch, records } => {
                if Commit::of(epoch) == Commit::of(self.epoch) {
                    self.commit_records += records;
                }
                if process != 0 {
                    self.progress.update(|state| state.records += records);
                }
            }
            Told::Cut(cuts) => self.collect(cuts),
            Told::DimensionRead => {
                self.dimension_read += 1;
                if self.dimension_read == self.orders.len() {
                    if self.step_started.is_some() {
                        self.close(self.epoch + 1);
                    }
                    self.order(Order::ReadEvents);
                }
            }
            Told::Ended => self.ended += 1,
            Told::Stop => self.stop = true,
        }
    }

    /// Puts the cut of a commit together; the committer gets it once all processes have told their part.
    fn collect(&mut self, cuts: Cuts) {
        let commit = cuts.commit;
        let parts = self.closed.entry(commit).or_default();
        parts.push(cuts);
        if parts.len() < self.orders.len() {
            return;
        }
        let parts = self.closed.remove(&commit).unwrap_or_default();
        // A committer that is gone has failed, and the run is stopping.
        self.cuts.send(Cuts::join(commit, parts)).ok();
    }

    /// The commit at hand has its share of records: it grows no more, even if it must wait to be closed.
    fn is_commit_full(&self) -> bool {
        self.commit_records + self.step_full.unwrap_or(0) >= self.pace.commit_records
    }

    fn close_what_is_due(&mut self) {
        let old = |started: Option<Instant>, age| started.is_some_and(|at| at.elapsed() >= age);
        let commit_due =
            self.is_commit_full() || old(self.commit_started, self.pace.commit_interval);
        let close_commit =
            self.commit_started.is_some() && (self.is_ending() || commit_due && self.has_room());
        if close_commit {
            let commit = Commit::of(self.epoch);
            (self.commit_started, self.commit_records) = (None, 0);
            self.closed.entry(commit).or_default();
            self.progress.update(|state| {
                state.closed = commit;
                state.closed_since.get_or_insert_with(Instant::now);
            });
            self.close(commit.next().first_epoch());
        } else if !self.is_commit_full()
            && (self.step_full.is_some()
                || self.pace.follow && old(self.step_started, STEP_AGE_MAX))
        {
            self.close(self.epoch + 1);
        }
    }

    /// Whether a commit may be closed: the one before it must be worked off, and the one before that must
    /// stand.
    fn has_room(&self) -> bool {
        let (state, commit) = (self.progress.now(), Commit::of(self.epoch));
        Commit::of(state.open_epoch) >= commit && state.commit.next() >= commit
    }

    fn close(&mut self, next: Epoch) {
        self.epoch = next;
        (self.step_started, self.step_full) = (None, None);
        self.order(Order::Close { next });
    }

    fn order(&self, order: Order) {
        for orders in &self.orders {
            // A process that is gone has failed, and the run is stopping.
            orders.send(order).ok();
        }
        // Wakes pacing where it waits for room.
        self.progress.update(|_| ());
    }
}
