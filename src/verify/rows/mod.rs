//! The tables that rows are only added to, row by row against what the topics say.

mod cuts;
mod events;
mod letters;
mod versions;

pub(super) use cuts::{Gone, compare as compare_cuts};
pub(super) use events::claim;
pub(super) use letters::compare as compare_letters;
pub(super) use versions::compare as compare_versions;

use super::VerifyError;
use super::found::Found;
use crate::lake::at_commit::AtCommit;
use crate::lake::read::live_files;
use crate::lake::storage::Store;

/// Rows that a table of an earlier commit must have: those that the newest one has of the commits up to then.
pub(super) fn check_earlier(
    store: &Store,
    tables: &[AtCommit],
    commit: u64,
    found: &mut Found,
) -> Result<(), VerifyError> {
    let rows = found.rows(commit);
    for at in tables {
        let name = &at.table.name;
        let Some(wanted) = rows.get(name) else { continue };
        let held: u64 = live_files(store, &at.table)?.iter().map(|file| file.rows).sum();
        if held != *wanted as u64 {
            let what =
                format!("{wanted} rows are of the commits up to {commit}, {held} stood there then");
            found.fault(name, commit, what);
        }
    }
    Ok(())
}
