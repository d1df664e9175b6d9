//! A run in the simulation: it opens the job, makes commits, merges slabs, sweeps, and may stop anywhere.
//! What it does and in which order is that of `driver::open`, `sink::committer` and `driver::sweep`; what
//! it decides it decides by the real code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::attempt::Attempt;
use super::database::SimDatabase;
use super::disk::{CONTENT, SimDisk};
use super::model::{Meta, NAMES, TABLES, Writer, location};
use super::sim::{Body, Fate, InFlight, JOB, Mutant, NAMESPACE, STATE, Shared};
use crate::lake::catalog::{Catalog, JobRow, JobSwap, NewTable};
use crate::lake::disk::Disk;
use crate::lake::maintain::Orphans;
use crate::lake::reach;
use crate::lake::storage::Store;
use crate::model::Incarnation;
use crate::sink::stored::Stored;
use crate::state::SlabMeta;

/// A file that nothing refers to is deleted when it is this old.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(3600);

/// A run stops: why is said by the messages of the real code, which nobody reads here.
#[derive(Debug)]
pub(super) struct Stopped;

impl<E: std::error::Error> From<E> for Stopped {
    fn from(_: E) -> Self {
        Stopped
    }
}

/// What a run does next.
#[derive(Debug)]
enum Phase {
    Read,
    Check,
    Begin,
    CollectState,
    Load,
    Create,
    Idle,
    Commit(Box<Attempt>),
    Ended,
}

/// A sweep of the tables beside the commits of a run.
#[derive(Debug)]
enum Sweep {
    /// The files of this table are next.
    List(usize),
    /// These are deleted, then the files of this table are next.
    Delete(Vec<String>, usize),
}

/// A run of the job.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: usize,
    pub(super) shared: Shared,
    pub(super) disk: SimDisk,
    pub(super) store: Store,
    pub(super) catalog: Catalog<SimDatabase>,
    phase: Phase,
    row: Option<JobRow>,
    pub(super) incarnation: u64,
    pub(super) commit: u64,
    pub(super) stored: Stored,
    pub(super) loaded: Vec<Arc<Meta>>,
    /// The tables as they were when the run began, and the time, for its sweep.
    swept: Vec<Arc<Meta>>,
    older_than: SystemTime,
    sweep: Option<Sweep>,
    /// A merge that is done: what was merged, and into what.
    pub(super) merged: Option<(Vec<SlabMeta>, SlabMeta)>,
    pub(super) commits: usize,
}

impl Run {
    pub(super) fn new(shared: &Shared) -> Self {
        let number = {
            let mut sim = shared.lock().unwrap();
            sim.fates.push(Fate::default());
            sim.in_flight.push(InFlight::default());
            sim.fates.len() - 1
        };
        let disk = || SimDisk { shared: Arc::clone(shared), run: number };
        Run {
            number,
            shared: Arc::clone(shared),
            disk: disk(),
            store: Store::on(Arc::new(disk())),
            catalog: Catalog::over(SimDatabase::new(shared, number)),
            phase: Phase::Read,
            row: None,
            incarnation: 0,
            commit: 0,
            stored: Stored::new(Default::default()),
            loaded: Vec::new(),
            swept: Vec::new(),
            older_than: SystemTime::UNIX_EPOCH,
            sweep: None,
            merged: None,
            commits: 0,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Whether the run could commit if nothing stopped it: it is between two commits.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(super) fn has_swept(&self) -> bool {
        self.sweep.is_none()
    }

    pub(super) fn mutant(&self) -> Option<Mutant> {
        self.shared.lock().unwrap().mutant
    }

    /// Does the next step; a run that fails ends.
    pub(super) fn step(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        if let Ok(next) = self.advance(phase) {
            self.phase = next;
        }
        let mut sim = self.shared.lock().unwrap();
        if sim.fates[self.number].dead {
            self.phase = Phase::Ended;
        }
        if self.has_ended() || self.is_idle() {
            sim.in_flight[self.number].files.clear();
        }
        if self.has_ended() {
            sim.fates[self.number].dead = true;
        }
    }

    fn advance(&mut self, phase: Phase) -> Result<Phase, Stopped> {
        match phase {
            Phase::Read => {
                self.row = self.catalog.read_job(JOB)?;
                Ok(Phase::Check)
            }
            Phase::Check => {
                self.check()?;
                Ok(Phase::Begin)
            }
            Phase::Begin => {
                self.begin()?;
                Ok(Phase::CollectState)
            }
            Phase::CollectState => {
                self.collect_state(self.incarnation)?;
                let is_new = self.stored.tables.is_empty();
                Ok(if is_new { Phase::Create } else { Phase::Load })
            }
            Phase::Create => {
                self.create_tables()?;
                self.opened()
            }
            Phase::Load => {
                self.load_tables()?;
                self.opened()
            }
            Phase::Idle => self.idle(),
            Phase::Commit(mut attempt) => {
                let done = attempt.step(self)?;
                Ok(if done { Phase::Idle } else { Phase::Commit(attempt) })
            }
            Phase::Ended => Ok(Phase::Ended),
        }
    }

    fn check(&mut self) -> Result<(), Stopped> {
        let body = self.row.as_ref().and_then(|row| row.body.clone());
        let Some(body) = body else {
            for name in NAMES {
                if self.catalog.table_location(NAMESPACE, name)?.is_some() {
                    return Err(Stopped);
                }
            }
            return Ok(());
        };
        self.stored = Stored::decode(JOB, &body)?;
        self.commit = self.row.as_ref().map_or(0, |row| row.commit);
        let look_up = |name: &str| self.catalog.table_location(NAMESPACE, name);
        match self.stored.changed_table(look_up)? {
            Some(_) => Err(Stopped),
            None => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), Stopped> {
        if self.mutant() == Some(Mutant::EarlyOrphans) {
            self.collect_state(u64::MAX)?;
        }
        if self.mutant() == Some(Mutant::BlindBegin) {
            self.row = self.catalog.read_job(JOB)?;
        }
        self.incarnation = self.catalog.begin_run(JOB, self.row.as_ref())?;
        self.shared.lock().unwrap().in_flight[self.number].incarnation = self.incarnation;
        Ok(())
    }

    /// As `driver::open` does.
    fn collect_state(&mut self, before: u64) -> Result<(), Stopped> {
        let older_than = self.old();
        let any = self.mutant() == Some(Mutant::OrphansOfAnyRun);
        let orphan = self.stored.state_orphans(Incarnation(if any { u64::MAX } else { before }));
        for (name, modified) in self.disk.list(Path::new(STATE))? {
            if orphan(&name) && modified < older_than {
                self.disk.remove(&Path::new(STATE).join(name))?;
            }
        }
        Ok(())
    }

    fn old(&self) -> SystemTime {
        self.shared.lock().unwrap().file_time() - ORPHAN_AGE_MIN
    }

    pub(super) fn writer(&self, commit: u64) -> Writer<'_> {
        let (shared, store, run) = (&self.shared, &self.store, self.number);
        Writer { shared, store, run, incarnation: self.incarnation, commit }
    }

    fn create_tables(&mut self) -> Result<(), Stopped> {
        let mut rows = Vec::new();
        for (table, name) in NAMES.into_iter().enumerate() {
            if self.mutant() != Some(Mutant::OldFoldersTrusted) {
                self.store.create_table_folders(&location(table))?;
            }
            let meta = self.writer(0).create(table)?;
            let (namespace, metadata_location) = (NAMESPACE.to_owned(), meta.location.clone());
            rows.push(NewTable { namespace, table: name.to_owned(), metadata_location });
            let entry = self.stored.tables.entry(name.to_owned()).or_default();
            entry.location.clone_from(&meta.location);
            self.loaded.push(meta);
        }
        self.store.sync_directories()?;
        let swap = self.job_swap(0, 0, &self.stored);
        Ok(self.catalog.create_tables(&rows, &swap)?)
    }

    fn load_tables(&mut self) -> Result<(), Stopped> {
        for name in NAMES {
            let location = &self.stored.tables[name].location;
            let whole = self.store.read(location)?.len() == CONTENT.len();
            let meta = self.shared.lock().unwrap().meta(location);
            self.loaded.push(meta.filter(|_| whole).ok_or(Stopped)?);
        }
        Ok(())
    }

    /// What the job's row is to become.
    pub(super) fn job_swap(&self, from: u64, to: u64, stored: &Stored) -> JobSwap {
        let body = stored.encode();
        let state_files = stored.slabs.files().into_iter().chain(stored.symbols.iter().cloned());
        let state_files = state_files.map(|file| format!("{STATE}/{file}")).collect();
        let cut = super::attempt::position(stored);
        self.shared.lock().unwrap().bodies.insert(body.clone(), Body { state_files, cut });
        let (job, incarnation) = (JOB.to_owned(), self.incarnation);
        JobSwap { job, incarnation, from_commit: from, to_commit: to, body }
    }

    /// The run has begun: its sweep starts from what it has loaded.
    fn opened(&mut self) -> Result<Phase, Stopped> {
        self.swept.clone_from(&self.loaded);
        self.older_than = self.old();
        self.sweep = Some(Sweep::List(0));
        Ok(Phase::Idle)
    }

    fn idle(&mut self) -> Result<Phase, Stopped> {
        let choice = self.shared.lock().unwrap().random.below(10);
        match choice {
            0..2 => {
                // A sweep that fails is given up; the run goes on.
                self.sweep().ok();
                Ok(Phase::Idle)
            }
            2 => self.merge().map(|()| Phase::Idle),
            3 if self.commits > 0 && !self.shared.lock().unwrap().calm => Ok(Phase::Ended),
            _ => Ok(Phase::Commit(Box::new(Attempt::new(self)))),
        }
    }

    /// Goes on with the sweep, as `driver::sweep` does beside the commits.
    pub(super) fn sweep(&mut self) -> Result<(), Stopped> {
        match self.sweep.take() {
            Some(Sweep::List(table)) if table < TABLES => {
                let any = self.mutant() == Some(Mutant::SweepOfAnyRun);
                let before_incarnation = if any { u64::MAX } else { self.incarnation };
                let older_than = self.older_than;
                let orphans = Orphans { job: JOB, before_incarnation, older_than };
                let mut files = Vec::new();
                for folder in ["data", "metadata"] {
                    let folder = PathBuf::from(format!("{}/{folder}", location(table)));
                    files.extend(reach::earlier_files(self.store.list(&folder)?, orphans));
                }
                let mut needed = self.swept[table].needed_by_sweep(&self.shared, &self.store)?;
                if self.mutant() == Some(Mutant::SweepOfReferenced) {
                    needed.clear();
                }
                let (old, _) = reach::old_orphans(files, older_than, &needed);
                self.sweep = Some(Sweep::Delete(old, table + 1));
            }
            Some(Sweep::Delete(mut files, next)) => {
                for path in files.split_off(files.len().saturating_sub(3)) {
                    self.store.delete(&path)?;
                }
                let is_done = files.is_empty();
                self.sweep =
                    Some(if is_done { Sweep::List(next) } else { Sweep::Delete(files, next) });
            }
            _ => {}
        }
        Ok(())
    }

    /// Merges the slabs of the newest commit, as `sink::merger` does beside the commits.
    fn merge(&mut self) -> Result<(), Stopped> {
        let slabs = self.stored.slabs.collection("ids");
        if self.merged.is_some() || slabs.len() < 3 {
            return Ok(());
        }
        let merged = slabs[..slabs.len() - 1].to_vec();
        let commits = (merged[0].commit_from, merged[merged.len() - 1].commit_to);
        let slab = self.write_slab(commits)?;
        self.merged = Some((merged, slab));
        Ok(())
    }

    /// Writes a slab of the rows of these commits.
    pub(super) fn write_slab(
        &self,
        (commit_from, commit_to): (u64, u64),
    ) -> Result<SlabMeta, Stopped> {
        let number = {
            let mut sim = self.shared.lock().unwrap();
            sim.unique()
        };
        let incarnation = self.incarnation;
        let uuid = uuid::Uuid::from_u64_pair(0, number).simple();
        let file =
            format!("ids.i{incarnation:08}.c{commit_from:010}-{commit_to:010}.w0000.{uuid}.slab");
        self.write_state(&file)?;
        Ok(SlabMeta {
            collection: "ids".to_owned(),
            file,
            rows: 1,
            bytes: 1,
            lower: Vec::new(),
            upper: Vec::new(),
            commit_from,
            commit_to,
            generation: 0,
            checksum: number,
        })
    }

    /// Writes a file of the state; its folder waits for the commit.
    pub(super) fn write_state(&self, file: &str) -> Result<(), Stopped> {
        let path = Path::new(STATE).join(file);
        let text = super::disk::text(&path).to_owned();
        self.shared.lock().unwrap().in_flight[self.number].files.insert(text);
        let mut written = self.disk.create_new(&path)?;
        written.write_all(CONTENT)?;
        Ok(written.sync_data()?)
    }
}
