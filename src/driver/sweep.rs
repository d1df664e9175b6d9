//! The sweep: what a run that crashed has left in the folders of the tables is deleted beside a later run.
//!
//! A crash leaves files that no table refers to. They do no harm but for the space that they take. The mark
//! in the lock file tells the next run of the crash; that run lists the folders of all tables, on a thread of
//! its own, and deletes each file that is of an older incarnation of this job, that no snapshot needs, and
//! that is older than [`ORPHAN_AGE_MIN`]. If some are too young, the mark says from when on a run is to sweep
//! again; one before that, and one that finds no mark, lists nothing.
//!
//! Invariant: a sweep never fails a run and never delays a commit.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::lock::{Leftovers, ORPHAN_AGE_MIN};
use super::open::Opened;
use crate::clock::{Clock, SystemClock, file_time};
use crate::job::Job;
use crate::lake::maintain::{Orphans, sweep_orphans};
use crate::lake::storage::Store;
use crate::lake::table::{LoadedTable, TableError};

/// A run that is done waits so long for its sweep, and then leaves the rest to the next one.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// A sweep under way.
#[derive(Debug)]
pub(super) struct Sweep {
    swept: Receiver<bool>,
}

impl Sweep {
    /// Starts to sweep the tables of `opened`, as they are at its start.
    pub(super) fn start(job: &Arc<Job>, opened: &Opened) -> Self {
        let (result, swept) = bounded(1);
        let (job, store, tables) = (Arc::clone(job), opened.store.clone(), opened.loaded.clone());
        let incarnation = opened.incarnation.0;
        let thread = std::thread::Builder::new().name("sweep".to_owned()).spawn(move || {
            let nothing_left = sweep_all(&job, incarnation, &store, &tables);
            result.send(nothing_left.unwrap_or_else(|error| {
                tracing::warn!(job = job.name, %error, "files of a crashed run stay behind");
                false
            }))
        });
        if let Err(error) = thread {
            tracing::warn!(%error, "files of a crashed run stay behind: no thread can be started");
        }
        Sweep { swept }
    }

    /// What crashed runs have left that is still there.
    pub(super) fn end(self) -> Leftovers {
        match self.swept.recv_timeout(END_WAIT_MAX) {
            Ok(true) => Leftovers::None,
            Ok(false) => Leftovers::Until(SystemClock.now_ms() + ORPHAN_AGE_MIN.as_millis() as i64),
            Err(_) => Leftovers::Unknown,
        }
    }
}

/// Sweeps every table; false if a file is too young.
fn sweep_all(
    job: &Job,
    incarnation: u64,
    store: &Store,
    tables: &[LoadedTable],
) -> Result<bool, TableError> {
    let Some(older_than) = file_time().checked_sub(ORPHAN_AGE_MIN) else { return Ok(false) };
    let orphans = Orphans { job: &job.name, before_incarnation: incarnation, older_than };
    let mut nothing_left = true;
    for table in tables {
        let swept = sweep_orphans(store, table, orphans)?;
        nothing_left &= swept.young == 0;
        if !swept.deleted.is_empty() {
            let (table, files) = (table.full_name(), swept.deleted.len());
            tracing::info!(table, files, "deleted what a crashed run had left");
        }
    }
    Ok(nothing_left)
}
