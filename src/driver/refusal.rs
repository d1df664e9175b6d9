//! Runs that would not be safe: why they are refused, and which errors are refusals.

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::lake::catalog::CommitError;
use crate::model::{Commit, Incarnation};
use crate::sink::{CommitterError, StoredError};
use crate::source::SourceError;
use crate::state::StateError;
use crate::symbols::SymbolsError;

/// A run that would not be safe. Exit code 3.
#[derive(Debug, Error)]
pub enum Refused {
    /// Another run holds the job's lock.
    #[error(
        "another run of job {job} is at work (it holds {lock}); stop it first, or if it is \
         frozen or out of reach, start with --take-over: it can't commit after that"
    )]
    AtWork {
        /// The job.
        job: String,
        /// The lock file.
        lock: String,
    },
    /// The job file is not the one that made the state.
    #[error(
        "the definition of job {job} has changed since its tables and state were made:\n{changes}\n\
         take the change back, or run it as a new job (another name and namespace), \
         or remove the old tables and state"
    )]
    Definition {
        /// The job.
        job: String,
        /// One line for each change.
        changes: String,
    },
    /// A table is not at the version that the job committed.
    #[error(
        "table {table} was {what} by another program since commit {commit} of job {job} \
         (expected {expected}); restore it, or run the job in a new namespace"
    )]
    TableChanged {
        /// The job.
        job: String,
        /// The table.
        table: String,
        /// What happened to it.
        what: &'static str,
        /// The job's newest commit.
        commit: Commit,
        /// The metadata that was expected.
        expected: String,
    },
    /// The warehouse holds files of commits that the catalog has never heard of.
    #[error(
        "catalog {catalog} knows job {job} at commit {commit}, incarnation {incarnation}, and file {file} \
         was written for {found}: the catalog is older than the files, as after restoring it from a backup; \
         restore its newest copy, or, if commit {commit} is to hold, move the newer files away"
    )]
    CatalogOlder {
        /// The catalog.
        catalog: String,
        /// The job.
        job: String,
        /// The catalog's commit of it.
        commit: Commit,
        /// And its incarnation.
        incarnation: Incarnation,
        /// The newer file.
        file: String,
        /// What its name says.
        found: String,
    },
    /// A process sees another catalog than process 0.
    #[error(
        "catalog {catalog} does not have job {job} at commit {commit} of incarnation {incarnation}, as \
         process 0 sees it: put catalog, state and warehouse on storage that all processes reach"
    )]
    OtherCatalog {
        /// The job.
        job: String,
        /// The catalog of this process.
        catalog: String,
        /// What process 0 sees.
        incarnation: Incarnation,
        /// What process 0 sees.
        commit: Commit,
    },
    /// A folder that is to be a new table's holds files.
    #[error(
        "folder {folder} of table {table} is not empty, though the catalog has never heard of job {job}; \
         if another catalog knows this table, give the job another namespace or warehouse; \
         if it is a leftover, remove the folder"
    )]
    Occupied {
        /// The job.
        job: String,
        /// The table.
        table: String,
        /// Its folder.
        folder: String,
    },
    /// Tables of that name exist and are not this job's.
    #[error(
        "table {table} exists already and belongs to {owner}; give job {job} another namespace"
    )]
    Foreign {
        /// The job.
        job: String,
        /// The table.
        table: String,
        /// Whose it is.
        owner: String,
    },
}

/// True for an error that says that going on would not be safe: exit code 3.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(refuses)
}

fn refuses(cause: &(dyn std::error::Error + 'static)) -> bool {
    let refused_commit = |error: &CommitError| {
        use CommitError::{NotSent, Unknown};
        !matches!(error, NotSent(_) | Unknown { .. })
    };
    let refused_source =
        |error: &SourceError| matches!(error, SourceError::Loss(_) | SourceError::Refused(_));
    let refused_state = |error: &StateError| {
        matches!(error, StateError::Damaged { .. } | StateError::Missing { .. })
    };
    cause.is::<Refused>()
        || cause.downcast_ref().is_some_and(ClusterError::is_refusal)
        || cause.is::<StoredError>()
        || matches!(
            cause.downcast_ref(),
            Some(SymbolsError::Damaged { .. } | SymbolsError::Missing { .. })
        )
        || cause.downcast_ref().is_some_and(refused_source)
        || cause.downcast_ref().is_some_and(refused_state)
        || cause.downcast_ref().is_some_and(refused_commit)
        || matches!(cause.downcast_ref(), Some(CommitterError::Commit(error)) if refused_commit(error))
        || matches!(cause.downcast_ref(), Some(CommitterError::State(error)) if refused_state(error))
}
