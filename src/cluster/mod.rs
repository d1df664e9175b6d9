//! Several processes of one run: how they find, prove and watch each other.
//!
//! ```text
//!   process 0                                        process i
//!   opens the job, makes the run's key  ──(state folder)──►  reads the key
//!   listens  ◄───────────── hello, proofs of the key ───────  joins: control connection
//!            ─────────────── incarnation, commit ───────────►  sees the same catalog and warehouse?
//!            ◄──────────────────── ready ───────────────────  opens the job at that commit
//!            ───────────────────── start ───────────────────►  data connections between all pairs
//! ```
//!
//! The key is random for each run and lies in the state folder, readable by its owner: who can't read the
//! job's state can't join its run, and who reads another folder finds that out before anything is written.
//! After the start nobody listens any more. Control connections carry what [`driver`](crate::driver) has to
//! say, and a heartbeat; data connections belong to timely. Nothing is encrypted: the addresses belong on a
//! network that is trusted.
//!
//! *Invariant.* A process that is killed, frozen or cut off ends the run everywhere within
//! [`SILENCE_MAX`] and a few seconds.

mod control;
mod error;
mod frames;
mod handshake;
mod key;
mod link;
mod setup;

use std::time::Duration;

pub use control::{Channels, Controls};
pub use error::ClusterError;
#[cfg(fuzzing)]
pub use handshake::stranger_joins;
pub use link::Link;
pub use setup::{Cluster, Listener};

/// A process that says nothing for so long is taken for dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(12);
/// How often a process says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The processes of a run, from the view of one of them.
#[derive(Debug, Clone)]
pub struct Processes {
    /// Index of this process.
    pub process: usize,
    /// Where each process listens, `host:port`.
    pub addresses: Vec<String>,
    /// How long the others may take to join.
    pub join_timeout: Duration,
}

impl Processes {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.addresses.len()
    }
}
