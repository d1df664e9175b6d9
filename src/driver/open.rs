//! Opening a run: the catalog, the tables as the last commit left them, the state and the sources. Whatever
//! speaks against the run is found before anything is written.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fail::fail_point;

use super::RunOptions;
use super::age::check_age;
use super::lock::{Lock, ORPHAN_AGE_MIN};
use super::refusal::Refused;
use crate::clock::file_time;
use crate::job::{Job, SourceSpec, differences};
use crate::lake::catalog::{Catalog, JobRow, JobSwap, NewTable};
use crate::lake::names::{Origin, normal_path};
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::{Commit, Incarnation, Interner};
use crate::sink::{Stored, TableSet};
use crate::source::feed::Role;
use crate::source::mark::Marks;
use crate::source::{self, OpenOptions, Source};
use crate::state::{self, LiveSlabs};
use crate::symbols;

/// What a run starts with.
pub(super) struct Opened {
    pub catalog: Catalog,
    pub store: Store,
    pub tables: Arc<TableSet>,
    pub loaded: Vec<LoadedTable>,
    pub stored: Stored,
    pub live: LiveSlabs,
    pub commit: Commit,
    pub incarnation: Incarnation,
    pub interner: Arc<Interner>,
    pub sources: Vec<OpenSource>,
}

/// A source whose positions fit what is there.
pub(super) struct OpenSource {
    pub role: Role,
    pub source: Box<dyn Source>,
    /// The last records that were read of it.
    pub marks: Marks,
    /// Some of them were dropped, because a loss was accepted.
    pub dropped: bool,
}

/// The tables and the state of a job at its newest commit, for reading.
pub fn open_lake(job: &Job) -> anyhow::Result<Option<(Stored, Commit, Vec<LoadedTable>)>> {
    if !job.lake.catalog.exists() {
        return Ok(None);
    }
    let timeout = Duration::from_secs(10);
    let catalog = Catalog::open(&job.lake.catalog, &job.lake.catalog_name, timeout)?;
    let Some(row) = catalog.read_job(&job.name)? else { return Ok(None) };
    let Some((stored, commit)) = decode(job, &row)? else { return Ok(None) };
    let store = Store::local();
    let tables = stored
        .tables
        .iter()
        .map(|(name, table)| LoadedTable::load(&store, &job.lake.namespace, name, &table.location));
    let tables = tables.collect::<Result<Vec<_>, _>>()?;
    Ok(Some((stored, commit, tables)))
}

/// Opens what a process beside process 0 needs for the run `incarnation` that starts at `commit`.
pub(super) fn open_beside(
    job: &Arc<Job>,
    options: &RunOptions,
    incarnation: Incarnation,
    commit: Commit,
) -> anyhow::Result<Opened> {
    let lake = &job.lake;
    let other_catalog = || Refused::OtherCatalog {
        job: job.name.clone(),
        catalog: lake.catalog.display().to_string(),
        incarnation,
        commit,
    };
    if !lake.catalog.exists() {
        return Err(other_catalog().into());
    }
    let catalog = Catalog::open(&lake.catalog, &lake.catalog_name, options.busy_timeout)?;
    let row = catalog.read_job(&job.name)?;
    let row = row.filter(|row| row.incarnation == incarnation.0 && row.commit == commit.0);
    let body = row.and_then(|row| row.body).ok_or_else(other_catalog)?;
    let stored = Stored::decode(&job.name, &body)?;
    let interner = Arc::new(Interner::default());
    symbols::load(&lake.state, &stored.symbols, &interner)?;
    Ok(Opened {
        catalog,
        store: Store::local(),
        tables: Arc::new(TableSet::new(job)?),
        loaded: Vec::new(),
        sources: open_sources(job, options, &stored)?,
        live: LiveSlabs::new(commit.0, stored.slabs.clone()),
        stored,
        commit,
        incarnation,
        interner,
    })
}

/// Opens a run; the lock is to be held until it ends.
pub(super) fn open(job: &Arc<Job>, options: &RunOptions) -> anyhow::Result<(Opened, Lock)> {
    let lake = &job.lake;
    let nothing = Stored::new(job.definition.clone());
    // The first run makes nothing before its sources are found.
    let first =
        (!lake.catalog.exists()).then(|| open_sources(job, options, &nothing)).transpose()?;
    for dir in [lake.catalog.parent().unwrap_or(Path::new(".")), &lake.warehouse, &lake.state] {
        state::make_dir(dir).with_context(|| format!("cannot create folder {}", dir.display()))?;
    }
    let lock = Lock::take(job, options.take_over)?;
    let mut catalog = Catalog::open(&lake.catalog, &lake.catalog_name, options.busy_timeout)?;
    let store = Store::local();
    let tables = Arc::new(TableSet::new(job)?);
    let row = catalog.read_job(&job.name)?;
    let known = row.as_ref().map_or(Ok(None), |row| decode(job, row))?;
    match &known {
        Some((stored, commit)) => check_stored(job, stored, *commit, &catalog)?,
        None => check_new(job, row.is_some(), &tables, &catalog, &store)?,
    }
    if let Some(row) = &row {
        check_age(job, &catalog, row, &tables, &["metadata"])?;
    }
    let sources = match (first, &known) {
        (Some(sources), None) => sources,
        (_, known) => {
            let stored = known.as_ref().map_or(&nothing, |(stored, _)| stored);
            open_sources(job, options, stored)?
        }
    };
    let (stored, commit) = known.unwrap_or((nothing, Commit(0)));
    let interner = Arc::new(Interner::default());
    fail_point!("open.state");
    symbols::load(&lake.state, &stored.symbols, &interner)?;
    let incarnation = Incarnation(catalog.begin_run(&job.name, row.as_ref())?);
    // Not earlier: until here another run might still have committed.
    collect_orphans(job, &stored, incarnation);
    // From here on there may be files that only a commit makes part of a table.
    lock.mark(incarnation)?;
    let mut opened = Opened {
        catalog,
        store,
        tables,
        loaded: Vec::new(),
        live: LiveSlabs::new(commit.0, stored.slabs.clone()),
        stored,
        commit,
        incarnation,
        interner,
        sources,
    };
    if opened.stored.tables.is_empty() {
        create_tables(job, &mut opened)?;
    } else {
        load_tables(job, &mut opened)?;
    }
    Ok((opened, lock))
}

/// Deletes state files that the newest commit does not refer to: superseded ones and those of crashed runs.
/// The folder is small, so every run does it; what can't be deleted now is tried again by the next one. The
/// files of tables are the business of `sweep`.
fn collect_orphans(job: &Job, stored: &Stored, incarnation: Incarnation) {
    let Some(horizon) = file_time().checked_sub(ORPHAN_AGE_MIN) else { return };
    let orphan = stored.state_orphans(incarnation);
    if let Err(error) = state::collect_orphans(&job.lake.state, orphan, horizon) {
        tracing::warn!(job = job.name, %error, "superseded state files stay behind");
    }
}

/// What a job's row says; nothing if no run has come to make its tables.
pub(crate) fn decode(job: &Job, row: &JobRow) -> anyhow::Result<Option<(Stored, Commit)>> {
    let Some(body) = &row.body else { return Ok(None) };
    Ok(Some((Stored::decode(&job.name, body)?, Commit(row.commit))))
}

/// The job goes on from a commit: its definition and its tables must be those of that commit.
fn check_stored(
    job: &Job,
    stored: &Stored,
    commit: Commit,
    catalog: &Catalog,
) -> anyhow::Result<()> {
    let changes = differences(&stored.definition, &job.definition);
    if !changes.is_empty() {
        let changes = changes.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
        return Err(Refused::Definition { job: job.name.clone(), changes }.into());
    }
    let changed = stored.changed_table(|name| catalog.table_location(&job.lake.namespace, name))?;
    let Some((name, table, what)) = changed else { return Ok(()) };
    let (job, namespace) = (job.name.clone(), &job.lake.namespace);
    let (table, expected) = (format!("{namespace}.{name}"), table.location.clone());
    Err(Refused::TableChanged { job, table, what, commit, expected }.into())
}

/// The job is new: no table of it may exist, and nothing else may lie where they will be. A run that
/// `crashed` before it made the tables has left its row, and files of no table.
fn check_new(
    job: &Job,
    crashed: bool,
    tables: &TableSet,
    catalog: &Catalog,
    store: &Store,
) -> anyhow::Result<()> {
    for (_, table) in tables.iter() {
        let spec = &table.spec;
        let Some(location) = catalog.table_location(&spec.namespace, &spec.name)? else {
            let folder = normal_path(&table.location);
            if !crashed && fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()) {
                let (job, table) = (job.name.clone(), spec.full_name());
                return Err(Refused::Occupied { job, table, folder: folder.to_owned() }.into());
            }
            continue;
        };
        let owner = LoadedTable::load(store, &spec.namespace, &spec.name, &location).ok();
        let owner =
            owner.and_then(|table| table.metadata.properties().get("tidewater.job").cloned());
        return Err(Refused::Foreign {
            job: job.name.clone(),
            table: spec.full_name(),
            owner: owner.map_or("another program".to_owned(), |job| format!("job {job}")),
        }
        .into());
    }
    Ok(())
}

fn create_tables(job: &Job, opened: &mut Opened) -> anyhow::Result<()> {
    let origin = Origin { job: job.name.clone(), incarnation: opened.incarnation.0, commit: 0 };
    let mut rows = Vec::new();
    for (_, table) in opened.tables.iter() {
        let loaded = LoadedTable::create(&opened.store, &table.spec, &table.location, &origin)?;
        rows.push(NewTable {
            namespace: table.spec.namespace.clone(),
            table: table.spec.name.clone(),
            metadata_location: loaded.metadata_location.clone(),
        });
        let entry = opened.stored.tables.entry(table.spec.name.clone()).or_default();
        entry.location.clone_from(&loaded.metadata_location);
        opened.loaded.push(loaded);
    }
    opened.store.sync_directories()?;
    fail_point!("open.tables");
    let swap = JobSwap {
        job: job.name.clone(),
        incarnation: opened.incarnation.0,
        from_commit: 0,
        to_commit: 0,
        body: opened.stored.encode(),
    };
    Ok(opened.catalog.create_tables(&rows, &swap)?)
}

fn load_tables(job: &Job, opened: &mut Opened) -> anyhow::Result<()> {
    for (_, table) in opened.tables.iter() {
        let name = &table.spec.name;
        let location = opened.stored.tables.get(name).map(|stored| stored.location.as_str());
        let location = location.unwrap_or_default();
        let loaded = LoadedTable::load(&opened.store, &job.lake.namespace, name, location)?;
        table.spec.check(&loaded.metadata)?;
        opened.loaded.push(loaded);
    }
    Ok(())
}

fn open_sources(
    job: &Job,
    options: &RunOptions,
    stored: &Stored,
) -> anyhow::Result<Vec<OpenSource>> {
    let mut specs: Vec<(Role, &SourceSpec)> = vec![(Role::Events, &job.events.source)];
    specs.extend(job.dimension.iter().map(|dimension| (Role::Dimension, &dimension.source)));
    let mut sources = Vec::new();
    for (role, spec) in specs {
        let options = OpenOptions {
            saved: stored.cut.offsets(&spec.topic()),
            follow: options.follow,
            accept_loss: options.accept_loss,
            connect_timeout: options.connect_timeout,
            share: options.share(),
            headers: job.lake.raw,
        };
        let mut source = source::open(spec, &options)?;
        let mut marks = stored.marks.get(&spec.topic()).cloned().unwrap_or_default();
        marks.retain(|partition, _| options.share.has(*partition));
        let dropped = source.verify(&mut marks)?;
        sources.push(OpenSource { role, source, marks, dropped });
    }
    Ok(sources)
}
