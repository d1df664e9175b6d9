//! What must hold before state is rebuilt: catalog, warehouse and the job's row are of one moment, and nobody
//! else has changed a table.
//!
//! The job's row names the metadata of every table at its commit, so equal names are enough. The rest of this
//! file finds out what became of names that differ, so that whoever restored something learns what.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::RecoverError;
use crate::driver::{Refused, check_age, decode};
use crate::job::{Job, differences};
use crate::lake::catalog::{Catalog, JobRow};
use crate::lake::names::{metadata_version, normal_path};
use crate::lake::read::live_files;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Commit;
use crate::sink::{Stored, TableSet};

/// A job whose tables and row belong together.
pub(super) struct Checked {
    /// The row as it was read.
    pub(super) row: JobRow,
    pub(super) tables: Arc<TableSet>,
    pub(super) loaded: Vec<LoadedTable>,
    pub(super) stored: Stored,
    pub(super) commit: Commit,
}

/// Checks all that can be checked without reading a row.
pub(super) fn check(job: &Job, catalog: &Catalog, store: &Store) -> anyhow::Result<Checked> {
    let not_run = || RecoverError::NotRun {
        job: job.name.clone(),
        catalog: catalog.path().display().to_string(),
    };
    let row = catalog.read_job(&job.name)?.ok_or_else(not_run)?;
    let (stored, commit) = decode(job, &row)?.ok_or_else(not_run)?;
    let changes = differences(&stored.definition, &job.definition);
    if !changes.is_empty() {
        let changes = changes.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
        return Err(Refused::Definition { job: job.name.clone(), changes }.into());
    }
    if !job.lake.events {
        return Err(RecoverError::NoEvents { job: job.name.clone() }.into());
    }
    let tables = Arc::new(TableSet::new(job)?);
    let of = Of { job, catalog, store, stored: &stored, commit };
    let mut loaded = Vec::new();
    for (_, table) in tables.iter() {
        loaded.push(of.load(&table.spec.name, &table.location)?);
        table.spec.check(&loaded[loaded.len() - 1].metadata)?;
    }
    of.check_cuts(&loaded[tables.cuts()])?;
    of.check_leaves(&tables, &loaded)?;
    check_age(job, catalog, &row, &tables, &["data", "metadata"])?;
    Ok(Checked { row, tables, loaded, stored, commit })
}

/// Checks once more that all tables are where the job's row says.
pub(super) fn check_pointers(
    job: &Job,
    catalog: &Catalog,
    checked: &Checked,
) -> anyhow::Result<()> {
    for (name, table) in &checked.stored.tables {
        let found = catalog.table_location(&job.lake.namespace, name)?;
        if found.as_deref() != Some(&table.location) {
            let what = if found.is_some() { "changed" } else { "dropped" };
            return Err(changed(job, name, what, checked.commit, &table.location).into());
        }
    }
    Ok(())
}

fn changed(job: &Job, name: &str, what: &'static str, commit: Commit, expected: &str) -> Refused {
    let table = format!("{}.{name}", job.lake.namespace);
    let (job, expected) = (job.name.clone(), expected.to_owned());
    Refused::TableChanged { job, table, what, commit, expected }
}

/// The commit that a table says it stands at.
fn stands_at(table: &LoadedTable) -> Option<Commit> {
    let text = table.metadata.properties().get("tidewater.commit")?;
    text.parse().ok().map(Commit)
}

fn said(commit: Option<Commit>) -> String {
    commit.map_or_else(|| "no commit".to_owned(), |commit| format!("commit {commit}"))
}

/// What is checked.
struct Of<'a> {
    job: &'a Job,
    catalog: &'a Catalog,
    store: &'a Store,
    stored: &'a Stored,
    commit: Commit,
}

impl Of<'_> {
    /// Loads the table of this name and folder, which must be the version that the job's row names.
    fn load(&self, name: &str, folder: &str) -> anyhow::Result<LoadedTable> {
        let (job, namespace) = (self.job, &self.job.lake.namespace);
        let stored = self.stored.tables.get(name);
        let expected = stored.map(|table| table.location.as_str()).unwrap_or_default();
        let Some(found) = self.catalog.table_location(namespace, name)? else {
            return Err(changed(job, name, "dropped", self.commit, expected).into());
        };
        if !Path::new(normal_path(&found)).exists() {
            let newest = newest_metadata(Path::new(normal_path(folder)));
            let newest = newest.and_then(|path| {
                LoadedTable::load(self.store, namespace, name, &path.display().to_string()).ok()
            });
            let detail = format!("its metadata file {found} is missing");
            return Err(self.older(name, newest.as_ref().and_then(stands_at), detail).into());
        }
        let table = LoadedTable::load(self.store, namespace, name, &found);
        let table = table.map_err(RecoverError::Table)?;
        if found == expected {
            return Ok(table);
        }
        match stands_at(&table) {
            Some(found) if found > self.commit => {
                let (job, table) = (job.name.clone(), table.full_name());
                Err(RecoverError::StateOlder { job, table, found, commit: self.commit }.into())
            }
            found if found < self.of_version(expected, name) => {
                let detail = format!("the catalog points to {}", table.metadata_location);
                Err(self.older(name, found, detail).into())
            }
            _ => Err(changed(job, name, "changed", self.commit, expected).into()),
        }
    }

    /// Where the version that the job's row names stands; where it is gone, the job's commit.
    fn of_version(&self, location: &str, name: &str) -> Option<Commit> {
        match LoadedTable::load(self.store, &self.job.lake.namespace, name, location) {
            Ok(table) => stands_at(&table),
            Err(_) => Some(self.commit),
        }
    }

    fn older(&self, name: &str, found: Option<Commit>, detail: String) -> RecoverError {
        RecoverError::TableOlder {
            job: self.job.name.clone(),
            table: format!("{}.{name}", self.job.lake.namespace),
            found: said(found),
            commit: self.commit,
            detail,
        }
    }

    /// The newest commit of the table of cuts is that of the job's row, and so is its cut.
    fn check_cuts(&self, cuts: &LoadedTable) -> Result<(), RecoverError> {
        let of_row = |file: &crate::lake::read::LiveFile| {
            let bound = file.upper.get(&1)?.as_slice().try_into().ok()?;
            Some(Commit(i64::from_le_bytes(bound).cast_unsigned()))
        };
        let in_rows = live_files(self.store, cuts)?.iter().filter_map(of_row).max();
        let summary = cuts.summary();
        let in_head = summary.get("tidewater.commit").and_then(|text| text.parse().ok());
        let in_head = in_head.map(Commit);
        // A commit that moved no position has no rows.
        let newest = in_head.max(in_rows).unwrap_or_default();
        if newest > self.commit {
            let (job, table) = (self.job.name.clone(), cuts.full_name());
            return Err(RecoverError::StateOlder {
                job,
                table,
                found: newest,
                commit: self.commit,
            });
        }
        if newest < self.commit {
            let detail = "its newest snapshot says so".to_owned();
            return Err(self.older(&cuts.name, in_head, detail));
        }
        let cut = summary.get("tidewater.cut");
        if cut.is_some_and(|cut| *cut != self.stored.cut.encode()) {
            let detail = "its newest cut is another one".to_owned();
            return Err(self.older(&cuts.name, in_rows, detail));
        }
        Ok(())
    }

    /// The leaves of every current table are its files.
    fn check_leaves(&self, tables: &TableSet, loaded: &[LoadedTable]) -> Result<(), RecoverError> {
        for (index, table) in tables.iter().filter(|(_, table)| table.shape.is_some()) {
            let files = live_files(self.store, &loaded[index])?;
            let mut leaves = self.stored.leaves(&table.spec.name);
            leaves.sort_by(|a, b| a.path.cmp(&b.path));
            let pairs = files.iter().zip(&leaves);
            let same = |(file, leaf): (&crate::lake::read::LiveFile, &crate::sink::Leaf)| {
                file.path == leaf.path && file.rows == leaf.rows
            };
            if files.len() != leaves.len() || !pairs.into_iter().all(same) {
                return Err(RecoverError::Leaves {
                    job: self.job.name.clone(),
                    table: table.spec.full_name(),
                    found: files.len(),
                    expected: leaves.len(),
                });
            }
        }
        Ok(())
    }
}

/// The files of a folder; none where it can't be read.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).collect()
}

/// The metadata file of the greatest version in a table's folder.
fn newest_metadata(folder: &Path) -> Option<PathBuf> {
    let metadata = |path: &PathBuf| path.to_str().is_some_and(|p| p.ends_with(".metadata.json"));
    let files = files_of(&folder.join("metadata")).into_iter().filter(metadata);
    files.max_by_key(|path| path.to_str().map(metadata_version))
}
