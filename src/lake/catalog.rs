//! The catalog: where the current metadata of every table is, in SQLite, in the layout that PyIceberg's
//! `SqlCatalog` and Java's `JdbcCatalog` read, and the row of each job beside it.
//!
//! One transaction swaps the pointers of all tables of a commit and the job's row. Each swap names the
//! value it replaces; a count other than one rolls everything back, and the error says which fact was
//! not as expected. An error of `COMMIT` itself says nothing: the job's row, read again, does.
//!
//! What is decided here is decided over a [`Database`]: SQLite, or in the simulation one that loses replies.
//!
//! Invariant: readers see all tables of a commit or none; an instance that was fenced off moves nothing.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use fail::fail_point;

pub use super::catalog_error::{CatalogError, CommitError};
use super::catalog_error::{Refusal, error_at};
pub use super::sqlite::Sqlite;

/// A job as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The run that may commit.
    pub incarnation: u64,
    /// The newest commit.
    pub commit: u64,
    /// What the job keeps there: cut and state manifest.
    pub body: Option<String>,
}

/// A table that moves from one metadata location to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    pub namespace: String,
    pub table: String,
    pub from: String,
    pub to: String,
}

/// A job that moves from one commit to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSwap {
    pub job: String,
    pub incarnation: u64,
    pub from_commit: u64,
    pub to_commit: u64,
    pub body: String,
}

/// A table to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTable {
    pub namespace: String,
    pub table: String,
    pub metadata_location: String,
}

/// Where the rows of the catalog are.
pub trait Database: Debug {
    /// A transaction; dropped, it is rolled back.
    type Transaction<'a>: Rows
    where
        Self: 'a;

    /// Begins a transaction beside which nobody else writes.
    fn begin(&mut self) -> rusqlite::Result<Self::Transaction<'_>>;
    /// Connects anew. A transaction that was under way is over then, one way or the other.
    fn reconnect(&mut self) -> rusqlite::Result<()>;
    /// What messages call it.
    fn place(&self) -> String;
    /// The row of a job.
    fn job(&self, job: &str) -> rusqlite::Result<Option<JobRow>>;
    /// The pointer of a table.
    fn table(&self, namespace: &str, table: &str) -> rusqlite::Result<Option<String>>;
}

/// The rows inside of a transaction. Swaps give the number of rows that were as expected and have moved.
pub trait Rows {
    fn job(&self, job: &str) -> rusqlite::Result<Option<JobRow>>;
    fn table(&self, namespace: &str, table: &str) -> rusqlite::Result<Option<String>>;
    fn begin_run(&mut self, job: &str) -> rusqlite::Result<()>;
    fn swap_job(&mut self, swap: &JobSwap) -> rusqlite::Result<usize>;
    fn swap_table(&mut self, swap: &Swap) -> rusqlite::Result<usize>;
    fn insert_table(&mut self, table: &NewTable) -> rusqlite::Result<()>;
    fn commit(self) -> rusqlite::Result<()>;
}

/// One catalog.
#[derive(Debug)]
pub struct Catalog<D: Database = Sqlite> {
    database: D,
}

impl Catalog {
    /// Opens the catalog, and makes it where there is none.
    pub fn open(path: &Path, name: &str, busy_timeout: Duration) -> Result<Self, CatalogError> {
        let database = Sqlite::open(path, name, busy_timeout);
        let failed = |e| error_at(&path.display().to_string(), "open it".to_owned(), e);
        database.map(Catalog::over).map_err(failed)
    }

    /// The file of the catalog.
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// The names of the tables of a namespace, in order.
    pub fn list_tables(&self, namespace: &str) -> Result<Vec<String>, CatalogError> {
        let list = self.database.list_tables(namespace);
        list.map_err(|e| self.error(format!("list the tables of {namespace}"), e))
    }
}

impl<D: Database> Catalog<D> {
    /// The catalog in this database.
    pub fn over(database: D) -> Self {
        Catalog { database }
    }

    /// Takes the next incarnation of a job; from now on no earlier one can commit. The job must still be
    /// as it is `known` to the run: another one may have begun or committed since the row was read.
    pub fn begin_run(&mut self, job: &str, known: Option<&JobRow>) -> Result<u64, CommitError> {
        let begun = self.try_begin(job, known);
        let begun = begun.map_err(|e| self.error(format!("begin a run of job {job}"), e))?;
        let catalog = || self.database.place();
        begun.ok_or_else(|| CommitError::Overtaken { catalog: catalog(), job: job.to_owned() })
    }

    fn try_begin(&mut self, job: &str, known: Option<&JobRow>) -> rusqlite::Result<Option<u64>> {
        let mut tx = self.database.begin()?;
        if tx.job(job)?.as_ref() != known {
            return Ok(None);
        }
        tx.begin_run(job)?;
        let row = tx.job(job)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        fail_point!("open.begin");
        tx.commit()?;
        fail_point!("open.begun");
        Ok(Some(row.incarnation))
    }

    /// The job's row as it is.
    pub fn read_job(&self, job: &str) -> Result<Option<JobRow>, CatalogError> {
        self.database.job(job).map_err(|e| self.error(format!("read job {job}"), e))
    }

    /// Where the current metadata of a table is.
    pub fn table_location(
        &self,
        namespace: &str,
        table: &str,
    ) -> Result<Option<String>, CatalogError> {
        let location = self.database.table(namespace, table);
        location.map_err(|e| self.error(format!("look up table {namespace}.{table}"), e))
    }

    /// Registers new tables with their namespaces and moves the job's row, all or nothing.
    pub fn create_tables(&mut self, tables: &[NewTable], job: &JobSwap) -> Result<(), CommitError> {
        self.transact(job, |tx| {
            let mut present = Vec::new();
            for t in tables {
                if tx.table(&t.namespace, &t.table)?.is_some() {
                    present.push(format!("{}.{}", t.namespace, t.table));
                } else {
                    tx.insert_table(t)?;
                }
            }
            let tables = present.join(", ");
            Ok((!present.is_empty()).then_some(Refusal::Exists { tables }))
        })
    }

    /// Moves all tables and the job's row, or nothing.
    pub fn commit(&mut self, swaps: &[Swap], job: &JobSwap) -> Result<(), CommitError> {
        self.transact(job, |tx| {
            for swap in swaps {
                fail_point!("commit.table");
                if tx.swap_table(swap)? != 1 {
                    let found = tx.table(&swap.namespace, &swap.table)?;
                    let table = format!("{}.{}", swap.namespace, swap.table);
                    let expected = swap.from.clone();
                    return Ok(Some(Refusal::TableChanged { table, expected, found }));
                }
            }
            Ok(None)
        })
    }

    /// Runs one transaction that moves the job's row and does `work`, then finds out how it ended.
    fn transact(
        &mut self,
        job: &JobSwap,
        work: impl FnOnce(&mut D::Transaction<'_>) -> rusqlite::Result<Option<Refusal>>,
    ) -> Result<(), CommitError> {
        let place = self.database.place();
        let not_sent = |e| {
            let action = format!("prepare commit {} of job {}", job.to_commit, job.job);
            CommitError::from(error_at(&place, action, e))
        };
        fail_point!("commit.begin");
        let mut tx = self.database.begin().map_err(not_sent)?;
        let prepared = match swap_job(&mut tx, job) {
            Ok(None) => work(&mut tx),
            refused => refused,
        };
        match prepared.map_err(not_sent)? {
            Some(refusal) => Err(refusal.into_error(place, job)),
            None => match commit(tx) {
                Ok(()) => Ok(()),
                Err(cause) => self.resolve(job, cause),
            },
        }
    }

    /// `COMMIT` failed: the job's row tells whether it happened.
    fn resolve(&mut self, job: &JobSwap, cause: rusqlite::Error) -> Result<(), CommitError> {
        let catalog = self.database.place();
        let unknown = |cause: String| CommitError::Unknown {
            catalog: catalog.clone(),
            job: job.job.clone(),
            commit: job.to_commit,
            cause,
        };
        self.database
            .reconnect()
            .map_err(|e| unknown(format!("{cause}; cannot reconnect: {e}")))?;
        let row = self.read_job(&job.job).map_err(|e| unknown(format!("{cause}; {e}")))?;
        match row {
            Some(row) if row.incarnation == job.incarnation => {
                if row.commit == job.to_commit && row.body.as_deref() == Some(&job.body) {
                    return Ok(());
                }
                let action = format!("commit {} of job {}", job.to_commit, job.job);
                Err(self.error(action, cause).into())
            }
            // A newer run has begun: its row cannot tell our commit from one of its own.
            _ => Err(unknown(format!("{cause}; the job was taken over meanwhile"))),
        }
    }

    fn error(&self, action: String, source: rusqlite::Error) -> CatalogError {
        error_at(&self.database.place(), action, source)
    }
}

/// `COMMIT`. The failpoints lose its reply: in one case nothing was applied, in the other all was.
fn commit(tx: impl Rows) -> rusqlite::Result<()> {
    fail_point!("commit.swap", |_| Err(rusqlite::Error::InvalidQuery));
    tx.commit()?;
    fail_point!("commit.reply", |_| Err(rusqlite::Error::InvalidQuery));
    Ok(())
}

/// Moves the job's row first: a fenced instance learns that it is fenced, whatever else has moved.
fn swap_job(tx: &mut impl Rows, swap: &JobSwap) -> rusqlite::Result<Option<Refusal>> {
    fail_point!("commit.job");
    if tx.swap_job(swap)? == 1 {
        return Ok(None);
    }
    Ok(Some(match tx.job(&swap.job)? {
        Some(row) if row.incarnation == swap.incarnation => {
            Refusal::CommitMoved { found: row.commit }
        }
        other => Refusal::Fenced { found: other.map(|row| row.incarnation) },
    }))
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
