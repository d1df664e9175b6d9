//! The catalog: where the current metadata of every table is, in SQLite, in the layout that PyIceberg's
//! `SqlCatalog` and Java's `JdbcCatalog` read, and the row of each job beside it.
//!
//! One transaction swaps the pointers of all tables of a commit and the job's row. Each swap names the
//! value it replaces; a count other than one rolls everything back, and the error says which fact was
//! not as expected. An error of `COMMIT` itself says nothing: the job's row, read again, does.
//!
//! Invariant: readers see all tables of a commit or none; an instance that was fenced off moves nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fail::fail_point;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use super::catalog_error::{CatalogError, CommitError};
use super::catalog_error::{Refusal, cannot_open, error_at};

/// The tables of the catalog, ours last.
const DDL: &str = "
CREATE TABLE IF NOT EXISTS iceberg_tables (
  catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL,
  table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000),
  previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
  PRIMARY KEY (catalog_name, table_namespace, table_name));
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
  catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL,
  property_key VARCHAR(255), property_value VARCHAR(1000),
  PRIMARY KEY (catalog_name, namespace, property_key));
CREATE TABLE IF NOT EXISTS tidewater_job (
  id TEXT PRIMARY KEY, incarnation INTEGER NOT NULL, upper INTEGER NOT NULL, body TEXT);
";

const FIND_TABLE: &str = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ?1
  AND table_namespace = ?2 AND table_name = ?3 AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)";
const LIST_TABLES: &str = "SELECT table_name FROM iceberg_tables WHERE catalog_name = ?1
  AND table_namespace = ?2 AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL) ORDER BY table_name";
const SWAP_TABLE: &str = "UPDATE iceberg_tables
  SET metadata_location = ?1, previous_metadata_location = ?2 WHERE catalog_name = ?3
  AND table_namespace = ?4 AND table_name = ?5 AND metadata_location = ?2
  AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)";
const SWAP_JOB: &str = "UPDATE tidewater_job SET upper = ?1, body = ?2
  WHERE id = ?3 AND incarnation = ?4 AND upper = ?5";
const BEGIN_RUN: &str = "INSERT INTO tidewater_job (id, incarnation, upper, body)
  VALUES (?1, 1, 0, NULL) ON CONFLICT (id) DO UPDATE SET incarnation = incarnation + 1";
const FIND_JOB: &str = "SELECT incarnation, upper, body FROM tidewater_job WHERE id = ?1";
const INSERT_TABLE: &str = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name,
  metadata_location, previous_metadata_location, iceberg_type) VALUES (?1, ?2, ?3, ?4, NULL, 'TABLE')";
const INSERT_NAMESPACE: &str = "INSERT OR IGNORE INTO iceberg_namespace_properties
  (catalog_name, namespace, property_key, property_value) VALUES (?1, ?2, 'exists', 'true')";

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

/// One catalog file, under one catalog name.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    name: String,
    busy_timeout: Duration,
    connection: Connection,
}

impl Catalog {
    /// Opens the catalog, and makes it where there is none.
    pub fn open(path: &Path, name: &str, busy_timeout: Duration) -> Result<Self, CatalogError> {
        let connection = connect(path, busy_timeout)?;
        Ok(Self { path: path.to_owned(), name: name.to_owned(), busy_timeout, connection })
    }

    /// The file of the catalog.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the next incarnation of a job; from now on no earlier one can commit.
    pub fn begin_run(&mut self, job: &str) -> Result<JobRow, CatalogError> {
        let action = format!("begin a run of job {job}");
        let path = self.path.clone();
        let begun = (|| {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute(BEGIN_RUN, params![job])?;
            let row = find_job(&tx, job)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            fail_point!("open.begin");
            tx.commit()?;
            fail_point!("open.begun");
            Ok(row)
        })();
        begun.map_err(|source| error_at(&path, action, source))
    }

    /// The job's row as it is.
    pub fn read_job(&self, job: &str) -> Result<Option<JobRow>, CatalogError> {
        find_job(&self.connection, job).map_err(|e| self.error(format!("read job {job}"), e))
    }

    /// Where the current metadata of a table is.
    pub fn table_location(
        &self,
        namespace: &str,
        table: &str,
    ) -> Result<Option<String>, CatalogError> {
        find_table(&self.connection, &self.name, namespace, table)
            .map_err(|e| self.error(format!("look up table {namespace}.{table}"), e))
    }

    /// The names of the tables of a namespace, in order.
    pub fn list_tables(&self, namespace: &str) -> Result<Vec<String>, CatalogError> {
        let list = || {
            let mut statement = self.connection.prepare_cached(LIST_TABLES)?;
            let names = statement.query_map(params![self.name, namespace], |row| row.get(0))?;
            names.collect::<rusqlite::Result<Vec<String>>>()
        };
        list().map_err(|e| self.error(format!("list the tables of {namespace}"), e))
    }

    /// Registers new tables with their namespaces and moves the job's row, all or nothing.
    pub fn create_tables(&mut self, tables: &[NewTable], job: &JobSwap) -> Result<(), CommitError> {
        self.transact(job, |tx, catalog| {
            let mut present = Vec::new();
            for t in tables {
                if find_table(tx, catalog, &t.namespace, &t.table)?.is_some() {
                    present.push(format!("{}.{}", t.namespace, t.table));
                    continue;
                }
                tx.execute(INSERT_NAMESPACE, params![catalog, t.namespace])?;
                let row = params![catalog, t.namespace, t.table, t.metadata_location];
                tx.execute(INSERT_TABLE, row)?;
            }
            let tables = present.join(", ");
            Ok((!present.is_empty()).then_some(Refusal::Exists { tables }))
        })
    }

    /// Moves all tables and the job's row, or nothing.
    pub fn commit(&mut self, swaps: &[Swap], job: &JobSwap) -> Result<(), CommitError> {
        self.transact(job, |tx, catalog| {
            for swap in swaps {
                fail_point!("commit.table");
                let row = params![swap.to, swap.from, catalog, swap.namespace, swap.table];
                if tx.prepare_cached(SWAP_TABLE)?.execute(row)? != 1 {
                    let found = find_table(tx, catalog, &swap.namespace, &swap.table)?;
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
        work: impl FnOnce(&Transaction<'_>, &str) -> rusqlite::Result<Option<Refusal>>,
    ) -> Result<(), CommitError> {
        let action = format!("prepare commit {} of job {}", job.to_commit, job.job);
        let not_sent = |path: &Path, e| CommitError::from(error_at(path, action.clone(), e));
        fail_point!("commit.begin");
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| not_sent(&self.path, e))?;
        let prepared = swap_job(&tx, job).and_then(|refusal| match refusal {
            None => work(&tx, &self.name),
            some => Ok(some),
        });
        match prepared {
            Err(e) => Err(not_sent(&self.path, e)),
            Ok(Some(refusal)) => Err(refusal.into_error(self.path.display().to_string(), job)),
            Ok(None) => match commit(tx) {
                Ok(()) => Ok(()),
                Err(cause) => self.resolve(job, cause),
            },
        }
    }

    /// `COMMIT` failed: the job's row tells whether it happened. The connection is replaced first, which
    /// also ends a transaction that may still be open on it.
    fn resolve(&mut self, job: &JobSwap, cause: rusqlite::Error) -> Result<(), CommitError> {
        let catalog = self.path.display().to_string();
        let unknown = |cause: String| CommitError::Unknown {
            catalog: catalog.clone(),
            job: job.job.clone(),
            commit: job.to_commit,
            cause,
        };
        let placeholder = Connection::open_in_memory().map_err(|e| unknown(e.to_string()))?;
        drop(std::mem::replace(&mut self.connection, placeholder));
        self.connection =
            connect(&self.path, self.busy_timeout).map_err(|e| unknown(format!("{cause}; {e}")))?;
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
        error_at(&self.path, action, source)
    }
}

/// `COMMIT`. The failpoints lose its reply: in one case nothing was applied, in the other all was.
fn commit(tx: Transaction<'_>) -> rusqlite::Result<()> {
    fail_point!("commit.swap", |_| Err(rusqlite::Error::InvalidQuery));
    tx.commit()?;
    fail_point!("commit.reply", |_| Err(rusqlite::Error::InvalidQuery));
    Ok(())
}

/// Moves the job's row first: a fenced instance learns that it is fenced, whatever else has moved.
fn swap_job(tx: &Transaction<'_>, swap: &JobSwap) -> rusqlite::Result<Option<Refusal>> {
    let numbers = [swap.to_commit, swap.incarnation, swap.from_commit].map(u64::cast_signed);
    let [to, incarnation, from] = numbers;
    let row = params![to, swap.body, swap.job, incarnation, from];
    fail_point!("commit.job");
    if tx.prepare_cached(SWAP_JOB)?.execute(row)? == 1 {
        return Ok(None);
    }
    Ok(Some(match find_job(tx, &swap.job)? {
        Some(row) if row.incarnation == swap.incarnation => {
            Refusal::CommitMoved { found: row.commit }
        }
        other => Refusal::Fenced { found: other.map(|row| row.incarnation) },
    }))
}

fn find_job(connection: &Connection, job: &str) -> rusqlite::Result<Option<JobRow>> {
    let mut statement = connection.prepare_cached(FIND_JOB)?;
    let read = |row: &rusqlite::Row<'_>| {
        let [incarnation, commit] = [row.get::<_, i64>(0)?, row.get::<_, i64>(1)?];
        let unsigned = |column, n: i64| {
            u64::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, n))
        };
        let (incarnation, commit) = (unsigned(0, incarnation)?, unsigned(1, commit)?);
        Ok(JobRow { incarnation, commit, body: row.get(2)? })
    };
    statement.query_row(params![job], read).optional()
}

fn find_table(
    connection: &Connection,
    catalog: &str,
    namespace: &str,
    table: &str,
) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(FIND_TABLE)?;
    statement.query_row(params![catalog, namespace, table], |row| row.get(0)).optional()
}

/// Opens the file so that a commit, once reported, survives a power failure.
fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, CatalogError> {
    let open = || {
        fail_point!("catalog.open", |_| Err(rusqlite::Error::InvalidQuery));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| cannot_open(&e))?;
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(busy_timeout)?;
        // Readers go on while a commit is written; FULL syncs every commit, NORMAL may lose the last.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(DDL)?;
        Ok(connection)
    };
    open().map_err(|e| error_at(path, "open it".to_owned(), e))
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
