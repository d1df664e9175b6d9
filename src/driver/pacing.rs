//! Pacing: one thread gives every batch its epoch, hands it to a worker, and closes epochs and commits.
//!
//! Epochs are closed by count, by time or by the end of input, never by data, and the closing is announced to
//! every worker; so an idle partition never holds the frontier. The positions behind the last batch of a
//! commit are its cut.
//!
//! *Owns* the positions of all sources in this run. *Backpressure* is one number: nothing is read while
//! [`STEPS_IN_FLIGHT_MAX`] epochs are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use timely::scheduling::SyncActivator;

use super::progress::Progress;
use crate::model::{Commit, Epoch};
use crate::sink::{CutRow, Cuts};
use crate::source::cut::Cut;
use crate::source::feed::{Feed, Role};
use crate::source::{Offsets, Poll, RawBatch};
use crate::worker::Failure;

/// Epochs that may be open before reading waits.
const STEPS_IN_FLIGHT_MAX: u64 = 6;
/// Commits that may be on their way before reading waits.
const COMMITS_IN_FLIGHT_MAX: u64 = 2;
/// How long anything is awaited before the stop and failure flags are looked at again.
const LOOK: Duration = Duration::from_millis(50);
/// A following run closes an epoch that is this old.
const STEP_AGE_MAX: Duration = Duration::from_millis(20);

/// How epochs and commits are closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Records of an epoch.
    pub step_records: u64,
    /// Records of a commit.
    pub commit_records: u64,
    /// Age of a commit.
    pub commit_interval: Duration,
    /// The run goes on when the sources have nothing more.
    pub follow: bool,
}

/// A source as pacing sees it.
#[derive(Debug)]
pub(super) struct Inlet {
    /// Whose topic it is.
    pub role: Role,
    /// The topic.
    pub topic: Arc<str>,
    /// Where the last commit ended; empty on a first run.
    pub saved: Offsets,
    /// Where reading starts: elsewhere only if a loss was accepted.
    pub start: Offsets,
    /// The ends as they stood at the start.
    pub ends: Offsets,
    /// What the source's thread reads.
    pub polls: Receiver<Poll>,
}

/// The way to a worker.
#[derive(Debug)]
pub(super) struct Outlet {
    /// Its feed.
    pub feed: Sender<Feed>,
    /// Wakes it.
    pub wake: SyncActivator,
}

/// Paces a run until its input ends or `stop` is set.
pub(super) struct Pacing {
    pace: Pace,
    inlets: Vec<Inlet>,
    outlets: Vec<Outlet>,
    cuts: Sender<Cuts>,
    progress: Arc<Progress>,
    failure: Arc<Failure>,
    stop: Arc<AtomicBool>,
    turn: usize,
    epoch: Epoch,
    step_records: u64,
    step_started: Instant,
    commit_records: u64,
    commit_started: Option<Instant>,
    /// Positions at the last closed commit, and now.
    committed: Vec<Offsets>,
    positions: Vec<Offsets>,
}

/// The run is over for pacing: because of a failure, or at someone's wish.
struct Stopped;

impl Pacing {
    /// Pacing of a run whose last commit had the cut `cut`.
    pub(super) fn new(
        pace: Pace,
        inlets: Vec<Inlet>,
        outlets: Vec<Outlet>,
        cuts: Sender<Cuts>,
        progress: Arc<Progress>,
        failure: Arc<Failure>,
        stop: Arc<AtomicBool>,
        start: Commit,
    ) -> Self {
        let positions: Vec<Offsets> = inlets.iter().map(|inlet| inlet.start.clone()).collect();
        let since = |inlet: &Inlet| {
            let mut committed = inlet.start.clone();
            committed.extend(inlet.saved.iter().map(|(partition, offset)| (*partition, *offset)));
            committed
        };
        let committed = inlets.iter().map(since).collect();
        // A loss that was accepted is committed, even if nothing follows it.
        let moved = |inlet: &Inlet| !inlet.saved.is_empty() && inlet.saved != inlet.start;
        let commit_started = inlets.iter().any(moved).then(Instant::now);
        Pacing {
            pace,
            committed,
            positions,
            inlets,
            outlets,
            cuts,
            progress,
            failure,
            stop,
            turn: 0,
            epoch: start.next().first_epoch(),
            step_records: 0,
            step_started: Instant::now(),
            commit_records: 0,
            commit_started,
        }
    }

    /// Runs to the end. The end of the feeds ends the workers.
    pub(super) fn run(mut self) {
        let paced = self.read_dimension().and_then(|()| self.read_all());
        if paced.is_ok() || !self.failure.happened() {
            self.close_commit();
        }
        for Outlet { feed, wake } in self.outlets {
            // In this order: a worker that is woken must find its feed ended.
            drop(feed);
            wake.activate().ok();
        }
    }

    /// The dimension is read to its end before the first event, so that events are stamped with what is
    /// known.
    fn read_dimension(&mut self) -> Result<(), Stopped> {
        let Some(index) = self.inlets.iter().position(|inlet| inlet.role == Role::Dimension) else {
            return Ok(());
        };
        while !self.at_end(index) {
            match self.take(index)? {
                Some(Poll::End) => break,
                Some(poll) => self.absorb(index, poll)?,
                None => {}
            }
        }
        if self.step_records > 0 {
            self.close_step();
        }
        Ok(())
    }

    fn at_end(&self, index: usize) -> bool {
        let position = |partition: &i32| self.positions[index].get(partition).copied().unwrap_or(0);
        self.inlets[index].ends.iter().all(|(partition, end)| position(partition) >= *end)
    }

    fn read_all(&mut self) -> Result<(), Stopped> {
        let mut ended = vec![false; self.inlets.len()];
        if !self.pace.follow {
            for (index, inlet) in self.inlets.iter().enumerate() {
                ended[index] = inlet.role == Role::Dimension && self.at_end(index);
            }
        }
        while ended.iter().any(|ended| !ended) {
            for (index, ended) in ended.iter_mut().enumerate() {
                if *ended {
                    continue;
                }
                match self.take(index)? {
                    Some(Poll::End) => *ended = true,
                    Some(poll) => self.absorb(index, poll)?,
                    None => {}
                }
            }
            self.close_by_time();
        }
        Ok(())
    }

    /// What a source has next; `None` when it has nothing now.
    fn take(&mut self, index: usize) -> Result<Option<Poll>, Stopped> {
        self.await_room()?;
        // Several sources share the wait, so that none delays another by more than its part.
        let wait = if self.pace.follow { Duration::from_millis(2) } else { LOOK };
        match self.inlets[index].polls.recv_timeout(wait) {
            Ok(poll) => Ok(Some(poll)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Stopped),
        }
    }

    /// Waits while too much is open.
    fn await_room(&self) -> Result<(), Stopped> {
        let commit = Commit::of(self.epoch);
        loop {
            if self.failure.happened() || self.stop.load(Ordering::Relaxed) {
                return Err(Stopped);
            }
            let has_room = |state: &super::progress::State| {
                let open = state.open_epoch.max(commit.first_epoch());
                self.epoch - open.min(self.epoch) < STEPS_IN_FLIGHT_MAX
                    && Commit::of(state.open_epoch).0.saturating_add(1) >= commit.0
                    && state.commit.0 + COMMITS_IN_FLIGHT_MAX >= commit.0
            };
            if has_room(&self.progress.wait(LOOK, has_room)) {
                return Ok(());
            }
        }
    }

    fn absorb(&mut self, index: usize, poll: Poll) -> Result<(), Stopped> {
        match poll {
            Poll::Batch(batch) => self.forward(index, batch)?,
            Poll::Advanced { partition, next } => {
                self.positions[index].insert(partition, next);
                self.commit_started.get_or_insert_with(Instant::now);
            }
            Poll::Idle | Poll::End => {}
        }
        if self.step_records >= self.pace.step_records {
            self.close_step();
        }
        self.close_by_time();
        Ok(())
    }

    fn forward(&mut self, index: usize, batch: RawBatch) -> Result<(), Stopped> {
        let (records, bytes) = (batch.records.len() as u64, batch.bytes.len() as u64);
        self.positions[index].insert(batch.partition, batch.next);
        if self.step_records == 0 {
            self.step_started = Instant::now();
        }
        self.step_records += records;
        self.commit_records += records;
        self.commit_started.get_or_insert_with(Instant::now);
        let role = self.inlets[index].role;
        let outlet = &self.outlets[self.turn % self.outlets.len()];
        self.turn += 1;
        outlet.feed.send(Feed::Batch { role, epoch: self.epoch, batch }).map_err(|_| Stopped)?;
        outlet.wake.activate().ok();
        let lag = self.lag();
        self.progress.update(|state| {
            state.records += records;
            state.bytes += bytes;
            state.lag = lag;
        });
        Ok(())
    }

    fn lag(&self) -> u64 {
        let behind = |(inlet, positions): (&Inlet, &Offsets)| -> i64 {
            let position = |partition: &i32| positions.get(partition).copied().unwrap_or(0);
            inlet.ends.iter().map(|(partition, end)| (end - position(partition)).max(0)).sum()
        };
        self.inlets.iter().zip(&self.positions).map(behind).sum::<i64>() as u64
    }

    fn close_by_time(&mut self) {
        let old = |started: Instant, age| started.elapsed() >= age;
        let due = self.commit_records >= self.pace.commit_records
            || self.commit_started.is_some_and(|at| old(at, self.pace.commit_interval));
        if due {
            self.close_commit();
        } else if self.pace.follow && self.step_records > 0 && old(self.step_started, STEP_AGE_MAX)
        {
            self.close_step();
        }
    }

    fn close_step(&mut self) {
        self.step_records = 0;
        self.announce(self.epoch + 1);
    }

    /// Closes the commit at hand, if anything moved in it.
    fn close_commit(&mut self) {
        if self.commit_started.take().is_none() {
            return;
        }
        let commit = Commit::of(self.epoch);
        let mut end = Cut::default();
        let mut moved = Vec::new();
        for (index, inlet) in self.inlets.iter().enumerate() {
            end.set(&inlet.topic, self.positions[index].clone());
            for (partition, end) in &self.positions[index] {
                let start = self.committed[index].get(partition).copied().unwrap_or(0);
                if start != *end {
                    let (role, topic) = (inlet.role, Arc::clone(&inlet.topic));
                    moved.push(CutRow { role, topic, partition: *partition, start, end: *end });
                }
            }
        }
        self.committed.clone_from(&self.positions);
        (self.step_records, self.commit_records) = (0, 0);
        // A committer that is gone has failed, and the run is stopping.
        self.cuts.send(Cuts { commit, moved, end }).ok();
        self.announce(commit.next().first_epoch());
    }

    fn announce(&mut self, next: Epoch) {
        self.epoch = next;
        for outlet in &self.outlets {
            outlet.feed.send(Feed::Close { next }).ok();
            outlet.wake.activate().ok();
        }
    }
}
