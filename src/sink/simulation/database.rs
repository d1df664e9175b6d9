//! The catalog's rows in memory, behind a connection that loses replies, breaks, and is busy at times.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rusqlite::{Error, Result};

use super::sim::{Mutant, Shared, Sim};
use crate::lake::catalog::{self, Database, JobRow, JobSwap, NewTable, Swap};

/// The rows: of one job, and of its tables by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) job: Option<JobRow>,
    pub(super) tables: BTreeMap<String, String>,
}

/// A run's connection to the catalog.
pub(super) struct SimDatabase {
    pub(super) shared: Shared,
    pub(super) run: usize,
    broken: bool,
}

impl fmt::Debug for SimDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the catalog of run {}", self.run)
    }
}

/// A transaction: the rows as it sees them.
#[derive(Debug)]
pub(super) struct SimTransaction<'a> {
    database: &'a mut SimDatabase,
    rows: Rows,
    /// What moves the job's row, if anything does.
    mover: Option<JobSwap>,
}

fn failed() -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    Error::SqliteFailure(code, Some("the line went dead".to_owned()))
}

fn busy() -> Error {
    Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

impl SimDatabase {
    pub(super) fn new(shared: &Shared, run: usize) -> Self {
        SimDatabase { shared: Arc::clone(shared), run, broken: false }
    }

    fn call<T>(&self, work: impl FnOnce(&mut Sim) -> Result<T>) -> Result<T> {
        let mut sim = self.shared.lock().unwrap();
        if self.broken || !sim.goes_on(self.run) {
            return Err(failed());
        }
        work(&mut sim)
    }

    fn mutant(&self) -> Option<Mutant> {
        self.shared.lock().unwrap().mutant
    }
}

impl Database for SimDatabase {
    type Transaction<'a> = SimTransaction<'a>;

    fn begin(&mut self) -> Result<SimTransaction<'_>> {
        let rows = self.call(|sim| {
            let is_busy = !sim.calm && sim.random.chance(3);
            if is_busy { Err(busy()) } else { Ok(sim.rows.clone()) }
        })?;
        Ok(SimTransaction { database: self, rows, mover: None })
    }

    fn reconnect(&mut self) -> Result<()> {
        self.broken = false;
        self.call(|sim| {
            // Another run may have begun before this one is connected again.
            if !sim.calm && sim.random.chance(20) {
                let row = sim.rows.job.as_mut().map(|job| &mut job.incarnation);
                row.into_iter().for_each(|incarnation| *incarnation += 1);
            }
            if !sim.calm && sim.random.chance(30) { Err(failed()) } else { Ok(()) }
        })
    }

    fn place(&self) -> String {
        String::new()
    }

    fn job(&self, _: &str) -> Result<Option<JobRow>> {
        self.call(|sim| Ok(sim.rows.job.clone()))
    }

    fn table(&self, _: &str, table: &str) -> Result<Option<String>> {
        self.call(|sim| Ok(sim.rows.tables.get(table).cloned()))
    }
}

impl catalog::Rows for SimTransaction<'_> {
    fn job(&self, _: &str) -> Result<Option<JobRow>> {
        Ok(self.rows.job.clone())
    }

    fn table(&self, _: &str, table: &str) -> Result<Option<String>> {
        Ok(self.rows.tables.get(table).cloned())
    }

    fn begin_run(&mut self, _: &str) -> Result<()> {
        match &mut self.rows.job {
            Some(job) => job.incarnation += 1,
            none => *none = Some(JobRow { incarnation: 1, commit: 0, body: None }),
        }
        Ok(())
    }

    fn swap_job(&mut self, swap: &JobSwap) -> Result<usize> {
        let mutant = self.database.mutant();
        let (any_incarnation, any_commit) =
            (mutant == Some(Mutant::AnyIncarnation), mutant == Some(Mutant::AnyCommit));
        let Some(job) = &mut self.rows.job else { return Ok(0) };
        if (job.incarnation != swap.incarnation && !any_incarnation)
            || (job.commit != swap.from_commit && !any_commit)
        {
            return Ok(0);
        }
        job.commit = swap.to_commit;
        job.body = Some(swap.body.clone());
        self.mover = Some(swap.clone());
        Ok(1)
    }

    fn swap_table(&mut self, swap: &Swap) -> Result<usize> {
        let mutant = self.database.mutant();
        let any = matches!(mutant, Some(Mutant::AnyPointer | Mutant::AnyCommit));
        match self.rows.tables.get_mut(&swap.table) {
            Some(location) if *location == swap.from || any => {
                location.clone_from(&swap.to);
                Ok(1)
            }
            _ => Ok(0),
        }
    }

    fn insert_table(&mut self, table: &NewTable) -> Result<()> {
        self.rows.tables.insert(table.table.clone(), table.metadata_location.clone());
        Ok(())
    }

    fn commit(self) -> Result<()> {
        let SimTransaction { database, rows, mover } = self;
        let (lost_before, lost_after) = database.call(|sim| {
            let loses = |sim: &mut Sim| !sim.calm && sim.random.chance(8);
            Ok((loses(sim), loses(sim)))
        })?;
        if lost_before {
            database.broken = true;
            return Err(failed());
        }
        let mut sim = database.shared.lock().unwrap();
        let torn = sim.mutant == Some(Mutant::TornCommit) && sim.random.chance(10);
        if torn {
            sim.fates[database.run].dead = true;
            let job = sim.rows.job.clone();
            sim.apply(Rows { job, ..rows }, None);
        } else {
            sim.apply(rows, mover.as_ref());
        }
        drop(sim);
        database.broken = lost_after;
        // A run that is killed here has made its commit and never learns of it.
        database.call(|_| Ok(()))
    }
}
