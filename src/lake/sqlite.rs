//! The catalog's rows in SQLite. What a commit may change, and under which conditions, says
//! [`super::catalog`]; here are the statements.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fail::fail_point;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::catalog::{Database, JobRow, JobSwap, NewTable, Rows, Swap};
use super::catalog_error::cannot_open;

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

/// One file with a catalog in it.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// The name of the catalog in that file.
    name: String,
    busy_timeout: Duration,
    pub(super) connection: Connection,
}

impl Sqlite {
    /// Opens the file, and makes it where there is none.
    pub(super) fn open(path: &Path, name: &str, busy_timeout: Duration) -> rusqlite::Result<Self> {
        let connection = connect(path, busy_timeout)?;
        Ok(Sqlite { path: path.to_owned(), name: name.to_owned(), busy_timeout, connection })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn list_tables(&self, namespace: &str) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.connection.prepare_cached(LIST_TABLES)?;
        let names = statement.query_map(params![self.name, namespace], |row| row.get(0))?;
        names.collect()
    }
}

/// A transaction that nobody else writes beside; dropped, it is rolled back.
#[derive(Debug)]
pub struct SqliteRows<'a> {
    transaction: Transaction<'a>,
    catalog: &'a str,
}

impl Database for Sqlite {
    type Transaction<'a> = SqliteRows<'a>;

    fn begin(&mut self) -> rusqlite::Result<SqliteRows<'_>> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        Ok(SqliteRows { transaction, catalog: &self.name })
    }

    fn reconnect(&mut self) -> rusqlite::Result<()> {
        // The old connection goes first: with it ends a transaction that may still be open on it.
        let placeholder = Connection::open_in_memory()?;
        drop(std::mem::replace(&mut self.connection, placeholder));
        self.connection = connect(&self.path, self.busy_timeout)?;
        Ok(())
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn job(&self, job: &str) -> rusqlite::Result<Option<JobRow>> {
        find_job(&self.connection, job)
    }

    fn table(&self, namespace: &str, table: &str) -> rusqlite::Result<Option<String>> {
        find_table(&self.connection, &self.name, namespace, table)
    }
}

impl Rows for SqliteRows<'_> {
    fn job(&self, job: &str) -> rusqlite::Result<Option<JobRow>> {
        find_job(&self.transaction, job)
    }

    fn table(&self, namespace: &str, table: &str) -> rusqlite::Result<Option<String>> {
        find_table(&self.transaction, self.catalog, namespace, table)
    }

    fn begin_run(&mut self, job: &str) -> rusqlite::Result<()> {
        self.transaction.execute(BEGIN_RUN, params![job]).map(drop)
    }

    fn swap_job(&mut self, swap: &JobSwap) -> rusqlite::Result<usize> {
        let numbers = [swap.to_commit, swap.incarnation, swap.from_commit].map(u64::cast_signed);
        let [to, incarnation, from] = numbers;
        let row = params![to, swap.body, swap.job, incarnation, from];
        self.transaction.prepare_cached(SWAP_JOB)?.execute(row)
    }

    fn swap_table(&mut self, swap: &Swap) -> rusqlite::Result<usize> {
        let row = params![swap.to, swap.from, self.catalog, swap.namespace, swap.table];
        self.transaction.prepare_cached(SWAP_TABLE)?.execute(row)
    }

    fn insert_table(&mut self, table: &NewTable) -> rusqlite::Result<()> {
        let NewTable { namespace, table, metadata_location } = table;
        self.transaction.execute(INSERT_NAMESPACE, params![self.catalog, namespace])?;
        let row = params![self.catalog, namespace, table, metadata_location];
        self.transaction.execute(INSERT_TABLE, row).map(drop)
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.transaction.commit()
    }
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
fn connect(path: &Path, busy_timeout: Duration) -> rusqlite::Result<Connection> {
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
}
