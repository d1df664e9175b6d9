//! Work that may block (files, compression, sorting) runs on a lane: one thread beside each worker, first in,
//! first out. The worker hands over a closure and is woken when its result lies in the mailbox.
//!
//! *Owns* the lane's queue. It is bounded by [`LANE_JOBS_MAX`]; the steps in flight keep it far below.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{Sender, bounded};
use timely::scheduling::SyncActivator;

use crate::meters::Stage;

/// Jobs that may wait in one lane.
const LANE_JOBS_MAX: usize = 4096;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that runs a worker's blocking work in order.
#[derive(Debug, Clone)]
pub struct Lane {
    jobs: Sender<Work>,
}

impl Lane {
    /// Starts a lane; its thread ends when the last handle is dropped.
    pub fn start(name: String) -> std::io::Result<Lane> {
        let (jobs, queue) = bounded::<Work>(LANE_JOBS_MAX);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || queue.iter().for_each(|work| work()))?;
        Ok(Lane { jobs })
    }

    /// Runs `work` behind all that was submitted before, and puts its result into `mailbox`.
    pub fn submit<T: Send + 'static>(
        &self,
        mailbox: &Mailbox<T>,
        work: impl FnOnce() -> T + Send + 'static,
    ) {
        let mailbox = mailbox.clone();
        let job: Work = Box::new(move || {
            let at_work = mailbox.stage.at_work();
            let result = work();
            drop(at_work);
            mailbox.put(result);
        });
        // The lane's thread lives as long as a handle does, so the send can only fail after a panic there,
        // and a panic ends the process.
        self.jobs.send(job).unwrap_or_else(|_| panic!("the lane of this worker has ended"));
    }
}

/// Where the results of an operator's jobs arrive, in the order of submission.
#[derive(Debug)]
pub struct Mailbox<T> {
    results: Arc<Mutex<Vec<T>>>,
    wake: Arc<SyncActivator>,
    stage: Stage,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        let (results, wake) = (Arc::clone(&self.results), Arc::clone(&self.wake));
        Mailbox { results, wake, stage: self.stage.clone() }
    }
}

impl<T> Mailbox<T> {
    /// A mailbox that wakes the operator of `wake`; its jobs are work of `stage`.
    pub fn new(wake: SyncActivator, stage: Stage) -> Self {
        Mailbox { results: Arc::default(), wake: Arc::new(wake), stage }
    }

    /// Takes what has arrived.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn put(&self, result: T) {
        self.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(result);
        // A worker that is gone needs no waking.
        self.wake.activate().ok();
    }
}
