//! Why the catalog did not do what it was asked for, by what is known of it.

use rusqlite::ErrorCode;

use super::catalog::JobSwap;

/// SQLite failed at something other than a commit.
#[derive(Debug, thiserror::Error)]
#[error("catalog {catalog}: cannot {action}: {source}{}", way_out(.source))]
pub struct CatalogError {
    pub catalog: String,
    pub action: String,
    pub source: rusqlite::Error,
}

impl CatalogError {
    /// Another program keeps the catalog locked: it may be done soon.
    pub fn is_locked(&self) -> bool {
        is_locked(&self.source)
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What a person can do about this error, as the tail of a message.
fn way_out(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        _ if is_locked(error) => "; another program keeps it locked: let it finish, then run again",
        Some(ErrorCode::DiskFull) => "; free space there and run again: the last commit is intact",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "; check the owner and the mode of the file and of its directory"
        }
        Some(ErrorCode::NotADatabase) => "; the path names a file of another kind",
        Some(ErrorCode::DatabaseCorrupt) => "; the file is damaged: restore it from a copy",
        _ => "",
    }
}

/// Why a commit did not happen, by what is known of it.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(
        "catalog {catalog}: table {table} was changed by another program: expected {expected}, \
         found {}", .found.as_deref().unwrap_or("no such table")
    )]
    TableChanged { catalog: String, table: String, expected: String, found: Option<String> },
    #[error(
        "catalog {catalog}: job {job} was taken over: this is incarnation {ours}, the current one is \
         {}", .found.map_or("gone".to_owned(), |i| i.to_string())
    )]
    Fenced { catalog: String, job: String, ours: u64, found: Option<u64> },
    #[error("catalog {catalog}: job {job} stands at commit {found}, not at {expected}")]
    CommitMoved { catalog: String, job: String, expected: u64, found: u64 },
    #[error(
        "catalog {catalog}: another run of job {job} began or committed while this one was opening; \
         run again when it has ended"
    )]
    Overtaken { catalog: String, job: String },
    #[error("catalog {catalog}: tables {tables} exist already; give the job another namespace")]
    Exists { catalog: String, tables: String },
    /// Nothing was applied.
    #[error(transparent)]
    NotSent(#[from] CatalogError),
    /// `COMMIT` failed and so did finding out what became of it. Staged files must stay.
    #[error(
        "catalog {catalog}: it is not known whether commit {commit} of job {job} happened: {cause}; \
         the next run finds out by itself"
    )]
    Unknown { catalog: String, job: String, commit: u64, cause: String },
}

/// A fact that was not as the commit expects it.
pub(super) enum Refusal {
    TableChanged { table: String, expected: String, found: Option<String> },
    Exists { tables: String },
    Fenced { found: Option<u64> },
    CommitMoved { found: u64 },
}

impl Refusal {
    pub(super) fn into_error(self, catalog: String, swap: &JobSwap) -> CommitError {
        let job = swap.job.clone();
        match self {
            Refusal::TableChanged { table, expected, found } => {
                CommitError::TableChanged { catalog, table, expected, found }
            }
            Refusal::Exists { tables } => CommitError::Exists { catalog, tables },
            Refusal::Fenced { found } => {
                CommitError::Fenced { catalog, job, ours: swap.incarnation, found }
            }
            Refusal::CommitMoved { found } => {
                CommitError::CommitMoved { catalog, job, expected: swap.from_commit, found }
            }
        }
    }
}

pub(super) fn error_at(catalog: &str, action: String, source: rusqlite::Error) -> CatalogError {
    CatalogError { catalog: catalog.to_owned(), action, source }
}

pub(super) fn cannot_open(error: &std::io::Error) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
}
