//! Notices a catalog that is older than the files of its tables, as after restoring it from a backup: the
//! commits that it has forgotten were seen by readers.

use std::fs;
use std::path::Path;

use super::refusal::Refused;
use crate::job::Job;
use crate::lake::catalog::{Catalog, JobRow};
use crate::lake::names::{commit_of, incarnation_of, normal_path};
use crate::model::{Commit, Incarnation};
use crate::sink::TableSet;

/// Refuses a catalog that has never heard of a commit for which files of the table of cuts were written;
/// looks into these folders of the table.
///
/// An incarnation is taken in the catalog before its run writes a file, and a file for commit `c + 1` is
/// written only after commit `c` stands. So a file of a later incarnation, or one for a commit after the
/// next, proves that the catalog was newer once.
pub(crate) fn check_age(
    job: &Job,
    catalog: &Catalog,
    row: &JobRow,
    tables: &TableSet,
    folders: &[&str],
) -> Result<(), Refused> {
    let cuts = Path::new(normal_path(&tables.get(tables.cuts()).location));
    let listed = folders.iter().filter_map(|folder| fs::read_dir(cuts.join(folder)).ok());
    let newer = listed.flatten().flatten().filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let incarnation = incarnation_of(&name, &job.name)?;
        let commit = commit_of(&name, &job.name);
        let is_newer =
            incarnation > row.incarnation || commit.is_some_and(|commit| commit > row.commit + 1);
        is_newer.then(|| (commit, incarnation, file.path()))
    });
    let Some((commit, incarnation, file)) = newer.max() else { return Ok(()) };
    let commit = commit.map_or("no commit".to_owned(), |commit| format!("commit {commit}"));
    Err(Refused::CatalogOlder {
        catalog: catalog.path().display().to_string(),
        job: job.name.clone(),
        commit: Commit(row.commit),
        incarnation: Incarnation(row.incarnation),
        file: file.display().to_string(),
        found: format!("{commit} by incarnation {incarnation}"),
    })
}
