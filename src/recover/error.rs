//! Why state is not rebuilt. What would not be safe is refused with the numbers that speak against it and the
//! way out.

use thiserror::Error;

use crate::lake::read::ReadError;
use crate::lake::table::TableError;
use crate::model::Commit;

/// Why state is not rebuilt.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// There is no commit to recover.
    #[error(
        "job {job} has not been run yet: {catalog} knows no state of it, so there is nothing to rebuild; \
         run it, or restore the catalog if it was lost"
    )]
    NotRun {
        /// The job.
        job: String,
        /// Its catalog.
        catalog: String,
    },
    /// The tables do not hold the events.
    #[error(
        "job {job} writes no table of events (`events = false`), and without it its state can't be rebuilt; \
         restore the state folder from a backup, or run the job afresh from its source in a new namespace"
    )]
    NoEvents {
        /// The job.
        job: String,
    },
    /// A table is behind the job's row.
    #[error(
        "table {table} stands at {found} and the state of job {job} at commit {commit}: the table is older \
         ({detail}); restore catalog and warehouse from backups of one moment, or run the job afresh in a \
         new namespace"
    )]
    TableOlder {
        /// The job.
        job: String,
        /// The table.
        table: String,
        /// Where the table stands.
        found: String,
        /// Where the job stands.
        commit: Commit,
        /// How that shows.
        detail: String,
    },
    /// A table is ahead of the job's row.
    #[error(
        "table {table} stands at commit {found} and the state of job {job} at commit {commit}: the state is \
         older, as after restoring a part of the catalog; restore catalog and warehouse from backups of one \
         moment, or run the job afresh in a new namespace"
    )]
    StateOlder {
        /// The job.
        job: String,
        /// The table.
        table: String,
        /// Where the table stands.
        found: Commit,
        /// Where the job stands.
        commit: Commit,
    },
    /// The table of events and the job's row count differently.
    #[error(
        "table {table} holds {found} ids that are to be remembered, and the state of job {job} at commit \
         {commit} {expected}: the table was changed by another program, or another version of this one wrote \
         the state; restore the table, or run the job afresh in a new namespace"
    )]
    Ids {
        /// The job.
        job: String,
        /// The table of events.
        table: String,
        /// The commit.
        commit: Commit,
        /// Ids by the table.
        found: u64,
        /// Ids by the job's row.
        expected: u64,
    },
    /// A current table is not what the events make.
    #[error(
        "table {table} shows {found} for {row}, and the rows of the tables of events and versions make \
         {expected}: one of them was changed by another program; restore the tables, or run the job afresh \
         in a new namespace"
    )]
    Differs {
        /// The current table.
        table: String,
        /// The key of the row.
        row: String,
        /// What the table shows.
        found: String,
        /// What the events make.
        expected: String,
    },
    /// The leaves that the job's row names are not those of the table.
    #[error(
        "table {table} consists of {found} files and the state of job {job} names {expected} leaves, which \
         are not the same; restore catalog and warehouse from backups of one moment, or run the job afresh \
         in a new namespace"
    )]
    Leaves {
        /// The job.
        job: String,
        /// The current table.
        table: String,
        /// Files of the table.
        found: usize,
        /// Leaves by the job's row.
        expected: usize,
    },
    /// A data file has other columns than this job writes.
    #[error(
        "data file {path} does not have the columns that this job writes; restore it from a backup"
    )]
    Columns {
        /// The file.
        path: String,
    },
    /// A data file has other rows than its table says.
    #[error(
        "data file {path} has {found} rows and its table says {expected}; restore it from a backup"
    )]
    Rows {
        /// The file.
        path: String,
        /// Rows of the file.
        found: u64,
        /// Rows by the manifest.
        expected: u64,
    },
    /// A data file can't be read.
    #[error("{0}; the state can only be rebuilt from whole tables")]
    Read(#[from] ReadError),
    /// A table can't be read.
    #[error("{0}; the state can only be rebuilt from whole tables")]
    Table(#[from] TableError),
}

impl RecoverError {
    /// True for what would not be safe.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, RecoverError::NotRun { .. })
    }
}
