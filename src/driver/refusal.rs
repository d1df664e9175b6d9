//! Which errors are refusals.

use super::open::Refused;
use crate::cluster::ClusterError;
use crate::lake::catalog::CommitError;
use crate::sink::{CommitterError, StoredError};
use crate::source::SourceError;
use crate::state::StateError;
use crate::symbols::SymbolsError;

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
