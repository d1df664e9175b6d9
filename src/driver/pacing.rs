//! Pacing: one thread of a process gives every batch its epoch, hands it to a worker, and does what the
//! [conductor](super::conductor) says of epochs and commits.
//!
//! Epochs are closed by count, by time or by the end of input, never by data, and the closing is announced to
//! every worker; so an idle partition never holds the frontier. The positions behind the last batch of a
//! commit are this process's part of its cut.
//!
//! *Owns* the positions of this process's sources in this run. *Backpressure* is one number: nothing is read
//! while [`STEPS_IN_FLIGHT_MAX`] epochs are open, or once the epoch at hand has its share of records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};
use timely::scheduling::SyncActivator;

use super::conductor::{Order, Told};
use super::progress::{Progress, State};
use crate::model::{Commit, Epoch};
use crate::sink::{CutRow, Cuts};
use crate::source::cut::Cut;
use crate::source::feed::{Feed, Role};
use crate::source::mark::Marks;
use crate::source::{Offsets, Poll, RawBatch};
use crate::worker::Failure;

/// Epochs that may be open before reading waits.
const STEPS_IN_FLIGHT_MAX: u64 = 6;
/// How long anything is awaited before the stop and failure flags are looked at again.
const LOOK: Duration = Duration::from_millis(50);

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
    /// The last record that was read of each partition.
    pub marks: Marks,
    /// Some marks were dropped at the start.
    pub marks_dropped: bool,
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

/// What pacing shares with the rest of its process.
pub(super) struct Surroundings {
    /// Of the process in the run.
    pub process: usize,
    /// To the conductor.
    pub told: Sender<(usize, Told)>,
    /// From the conductor.
    pub orders: Receiver<Order>,
    /// How far the run is.
    pub progress: Arc<Progress>,
    /// How it ends when something fails.
    pub failure: Arc<Failure>,
    /// Set to end it at a commit.
    pub stop: Arc<AtomicBool>,
    /// Set by pacing when nothing more is read.
    pub read: Arc<AtomicBool>,
}

/// Paces a process until the conductor ends the run.
pub(super) struct Pacing {
    around: Surroundings,
    follow: bool,
    /// This process's share of the records of an epoch.
    step_records_max: u64,
    inlets: Vec<Inlet>,
    outlets: Vec<Outlet>,
    turn: usize,
    epoch: Epoch,
    step_records: u64,
    /// The conductor knows that the epoch at hand has something.
    began: bool,
    /// The epoch at hand has its share: nothing is read until it is closed.
    full: bool,
    /// The conductor knows that the run is to be stopped here.
    stopping: bool,
    may_read_events: bool,
    /// Positions at the last closed commit, and now.
    committed: Vec<Offsets>,
    positions: Vec<Offsets>,
}

/// The run is over for pacing: it was ended, or it has failed.
struct Over;

impl Pacing {
    /// Pacing of a run that goes on after commit `start`.
    pub(super) fn new(
        around: Surroundings,
        follow: bool,
        step_records_max: u64,
        inlets: Vec<Inlet>,
        outlets: Vec<Outlet>,
        start: Commit,
    ) -> Self {
        let positions: Vec<Offsets> = inlets.iter().map(|inlet| inlet.start.clone()).collect();
        let since = |inlet: &Inlet| {
            let mut committed = inlet.start.clone();
            committed.extend(inlet.saved.iter().map(|(partition, offset)| (*partition, *offset)));
            committed
        };
        Pacing {
            around,
            follow,
            step_records_max,
            committed: inlets.iter().map(since).collect(),
            positions,
            inlets,
            outlets,
            turn: 0,
            epoch: start.next().first_epoch(),
            step_records: 0,
            began: false,
            full: false,
            stopping: false,
            may_read_events: false,
        }
    }

    /// Runs to the end. The end of the feeds ends the workers.
    pub(super) fn run(mut self) {
        // A loss that was accepted is committed, even if nothing follows it.
        let moved = |inlet: &Inlet| {
            inlet.marks_dropped || !inlet.saved.is_empty() && inlet.saved != inlet.start
        };
        if self.inlets.iter().any(moved) {
            self.begin();
        }
        let Err(Over) = self.read_dimension().and_then(|()| self.read_all());
        self.around.read.store(true, Ordering::Relaxed);
        for Outlet { feed, wake } in self.outlets {
            // In this order: a worker that is woken must find its feed ended.
            drop(feed);
            wake.activate().ok();
        }
    }

    /// The dimension is read to its end in all processes before the first event, so that events are stamped
    /// with what is known.
    fn read_dimension(&mut self) -> Result<(), Over> {
        let dimension = self.inlets.iter().position(|inlet| inlet.role == Role::Dimension);
        if let Some(index) = dimension {
            while !self.at_end(index) {
                match self.take(index)? {
                    Some(Poll::End) => break,
                    Some(poll) => self.absorb(index, poll),
                    None => {}
                }
            }
        }
        self.tell(Told::DimensionRead);
        while !self.may_read_events {
            self.await_order()?;
        }
        Ok(())
    }

    fn at_end(&self, index: usize) -> bool {
        let position = |partition: &i32| self.positions[index].get(partition).copied().unwrap_or(0);
        self.inlets[index].ends.iter().all(|(partition, end)| position(partition) >= *end)
    }

    fn read_all(&mut self) -> Result<std::convert::Infallible, Over> {
        let mut ended = vec![false; self.inlets.len()];
        if !self.follow {
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
                    Some(poll) => self.absorb(index, poll),
                    None => {}
                }
            }
        }
        self.tell(Told::Ended);
        loop {
            self.await_order()?;
        }
    }

    /// What a source has next; `None` when it has nothing now.
    fn take(&mut self, index: usize) -> Result<Option<Poll>, Over> {
        self.await_room()?;
        // Several sources share the wait, so that none delays another by more than its part.
        let wait = if self.follow { Duration::from_millis(2) } else { LOOK };
        let polls = &self.inlets[index].polls;
        select! {
            recv(self.around.orders) -> order => match order {
                Ok(order) => self.obey(order).map(|()| None),
                Err(_) => Err(Over),
            },
            recv(polls) -> poll => match poll {
                Ok(poll) => Ok(Some(poll)),
                // The source has failed, or it was stopped.
                Err(_) => self.await_order().map(|()| None),
            },
            default(wait) => Ok(None),
        }
    }

    /// Waits while too much is open.
    fn await_room(&mut self) -> Result<(), Over> {
        loop {
            while let Ok(order) = self.around.orders.try_recv() {
                self.obey(order)?;
            }
            if self.full || self.is_stopping() {
                self.await_order()?;
                continue;
            }
            let (epoch, orders) = (self.epoch, &self.around.orders);
            let has_room =
                |state: &State| epoch - state.open_epoch.min(epoch) < STEPS_IN_FLIGHT_MAX;
            let state =
                self.around.progress.wait(LOOK, |state| has_room(state) || !orders.is_empty());
            if self.around.failure.happened() {
                return Err(Over);
            }
            if has_room(&state) && self.around.orders.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits a moment for an order and does what it says.
    fn await_order(&mut self) -> Result<(), Over> {
        if self.around.failure.happened() {
            return Err(Over);
        }
        self.is_stopping();
        match self.around.orders.recv_timeout(LOOK) {
            Ok(order) => self.obey(order),
            Err(error) if error.is_timeout() => Ok(()),
            Err(_) => Err(Over),
        }
    }

    /// Whether someone wishes the run to stop, which the conductor is told once.
    fn is_stopping(&mut self) -> bool {
        if !self.stopping && self.around.stop.load(Ordering::Relaxed) {
            self.stopping = true;
            self.tell(Told::Stop);
        }
        self.stopping
    }

    fn obey(&mut self, order: Order) -> Result<(), Over> {
        match order {
            Order::Close { next } => {
                self.close(next);
                Ok(())
            }
            Order::ReadEvents => {
                self.may_read_events = true;
                Ok(())
            }
            Order::End | Order::Done => Err(Over),
        }
    }

    fn absorb(&mut self, index: usize, poll: Poll) {
        match poll {
            Poll::Batch(batch) => self.forward(index, batch),
            Poll::Advanced { partition, next } => {
                self.positions[index].insert(partition, next);
                self.begin();
            }
            Poll::Idle | Poll::End => {}
        }
        if self.step_records >= self.step_records_max && !self.full {
            self.full = true;
            self.tell(Told::Full { epoch: self.epoch, records: self.step_records });
        }
    }

    fn begin(&mut self) {
        if !self.began {
            self.began = true;
            self.tell(Told::Began { epoch: self.epoch });
        }
    }

    fn forward(&mut self, index: usize, batch: RawBatch) {
        let (records, bytes) = (batch.records.len() as u64, batch.bytes.len() as u64);
        self.positions[index].insert(batch.partition, batch.next);
        if let Some(mark) = batch.mark() {
            self.inlets[index].marks.insert(batch.partition, mark);
        }
        self.step_records += records;
        self.begin();
        let role = self.inlets[index].role;
        let outlet = &self.outlets[self.turn % self.outlets.len()];
        self.turn += 1;
        // A worker that is gone has failed, and the run is stopping.
        outlet.feed.send(Feed::Batch { role, epoch: self.epoch, batch }).ok();
        outlet.wake.activate().ok();
        let lag = self.lag();
        self.around.progress.update(|state| {
            state.records += records;
            state.bytes += bytes;
            state.lag = lag;
        });
    }

    fn lag(&self) -> u64 {
        let behind = |(inlet, positions): (&Inlet, &Offsets)| -> i64 {
            let position = |partition: &i32| positions.get(partition).copied().unwrap_or(0);
            inlet.ends.iter().map(|(partition, end)| (end - position(partition)).max(0)).sum()
        };
        self.inlets.iter().zip(&self.positions).map(behind).sum::<i64>() as u64
    }

    /// Closes all epochs before `next`, and the commit at hand if `next` belongs to another.
    fn close(&mut self, next: Epoch) {
        let epoch = std::mem::replace(&mut self.epoch, next);
        let commit = Commit::of(epoch);
        for outlet in &self.outlets {
            outlet.feed.send(Feed::Close { next }).ok();
            outlet.wake.activate().ok();
        }
        self.tell(Told::Closed { epoch, records: self.step_records });
        (self.step_records, self.began, self.full) = (0, false, false);
        if Commit::of(next) != commit {
            let cuts = self.cuts(commit);
            self.tell(Told::Cut(cuts));
        }
    }

    /// This process's part of the cut of the commit that ends here.
    fn cuts(&mut self, commit: Commit) -> Cuts {
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
        let marks = self.inlets.iter().map(|inlet| (inlet.topic.to_string(), inlet.marks.clone()));
        Cuts { commit, moved, end, marks: marks.collect() }
    }

    fn tell(&self, told: Told) {
        // A conductor that is gone has ended the run, or it has failed.
        self.around.told.send((self.around.process, told)).ok();
    }
}
