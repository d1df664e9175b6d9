//! A commit of a run on its way: first the parts that workers write, then the steps of the committer in their
//! real order.

use std::sync::Arc;

use super::model::{CURRENT, CUTS, EVENTS, NAMES, Object, StagedTable, TABLES};
use super::run::{Run, Stopped};
use super::sim::{Mutant, STATE};
use crate::lake::catalog::{CommitError, Swap};
use crate::lake::disk::Disk;
use crate::sink::steps::{STEPS, Step};
use crate::sink::stored::Stored;

const TOPIC: &str = "events";

/// The offset behind the last record of a cut.
pub(super) fn position(stored: &Stored) -> u64 {
    stored.cut.offsets(TOPIC).get(&0).map_or(0, |offset| offset.cast_unsigned())
}

/// Whether a record is an event; the others leave the table of events as it is.
pub(super) fn is_event(offset: u64) -> bool {
    !offset.is_multiple_of(3)
}

/// The records below `cut` that a leaf of the current table counts.
pub(super) fn counted(leaf: u64, cut: u64) -> u64 {
    (0..cut).filter(|offset| leaf_of(*offset) == leaf).count() as u64
}

fn leaf_of(offset: u64) -> u64 {
    offset / 2 % 2
}

/// What workers write for a commit.
#[derive(Debug, Clone, Copy)]
enum Part {
    Events,
    Leaf(u64),
    Slab,
}

/// A commit on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    from: u64,
    to: u64,
    parts: Vec<Part>,
    steps: std::vec::IntoIter<Step>,
    added: [Vec<String>; TABLES],
    removed: [Vec<String>; TABLES],
    staged: Vec<StagedTable>,
    stored: Stored,
}

impl Attempt {
    /// The next commit of a run: a few records more.
    pub(super) fn new(run: &Run) -> Self {
        let from = position(&run.stored);
        let to = from + run.shared.lock().unwrap().random.between(1, 4) as u64;
        let mut parts = vec![Part::Slab];
        if (from..to).any(is_event) {
            parts.push(Part::Events);
        }
        let touched = |leaf: &u64| (from..to).any(|offset| leaf_of(offset) == *leaf);
        parts.extend((0..2).filter(touched).map(Part::Leaf));
        Attempt {
            from,
            to,
            parts,
            steps: order(run.mutant()).into_iter(),
            added: Default::default(),
            removed: Default::default(),
            staged: Vec::new(),
            stored: run.stored.clone(),
        }
    }

    /// Does the next step; true when the commit is done.
    pub(super) fn step(&mut self, run: &mut Run) -> Result<bool, Stopped> {
        if let Some(part) = self.parts.pop() {
            self.write(part, run)?;
            return Ok(false);
        }
        match self.steps.next() {
            Some(step) => self.take(step, run).map(|()| false),
            None => Ok(true),
        }
    }

    /// A worker's part of the commit.
    fn write(&mut self, part: Part, run: &Run) -> Result<(), Stopped> {
        let commit = run.commit + 1;
        let writer = run.writer(commit);
        let (from, to) = (self.from, self.to);
        match part {
            Part::Events => {
                let object = |_: &str| Object::Data { commit, from, to };
                self.added[EVENTS].push(writer.write(EVENTS, "data", object)?);
            }
            Part::Leaf(leaf) => {
                let is_old = |path: &String| {
                    let sim = run.shared.lock().unwrap();
                    matches!(sim.objects.get(path), Some(Object::Leaf { leaf: of, .. }) if *of == leaf)
                };
                let live = run.shared.lock().unwrap().live(&run.loaded[CURRENT]);
                self.removed[CURRENT].extend(live.into_iter().filter(is_old));
                let object = |_: &str| Object::Leaf { leaf, count: counted(leaf, to) };
                self.added[CURRENT].push(writer.write(CURRENT, "data", object)?);
            }
            Part::Slab => self.stored.slabs.add(run.write_slab((commit, commit))?)?,
        }
        Ok(())
    }

    /// As `Committer::take` does.
    fn take(&mut self, step: Step, run: &mut Run) -> Result<(), Stopped> {
        let commit = run.commit + 1;
        match step {
            Step::Cuts => {
                let (from, to) = (self.from, self.to);
                let object = |_: &str| Object::Data { commit, from, to };
                self.added[CUTS].push(run.writer(commit).write(CUTS, "data", object)?);
            }
            Step::Stage => self.stage(run)?,
            Step::SyncLake => run.store.sync_directories()?,
            Step::SyncState => run.disk.sync_dir(STATE.as_ref())?,
            Step::Swap => self.swap(run)?,
            Step::Note => {
                run.stored = std::mem::take(&mut self.stored);
                run.commit = commit;
                run.commits += 1;
            }
            Step::Delete => {
                for staged in &self.staged {
                    // What can't be deleted now stays behind as an orphan.
                    staged.delete_expired(&run.shared, &run.store).ok();
                    run.loaded[staged.table] = Arc::clone(&staged.meta);
                }
            }
        }
        Ok(())
    }

    fn stage(&mut self, run: &mut Run) -> Result<(), Stopped> {
        let commit = run.commit + 1;
        for (table, name) in NAMES.into_iter().enumerate() {
            let (added, removed) = (&self.added[table], &self.removed[table]);
            if !added.is_empty() {
                let staged = run.writer(commit).stage(table, &run.loaded[table], added, removed)?;
                let entry = self.stored.tables.entry(name.to_owned()).or_default();
                entry.location.clone_from(&staged.meta.location);
                self.staged.push(staged);
            }
        }
        self.stored.cut.set(TOPIC, [(0, self.to.cast_signed())].into());
        if let Some((merged, slab)) = run.merged.take() {
            self.stored.slabs.replace(&merged, slab)?;
        }
        let has_symbols = run.shared.lock().unwrap().random.chance(30);
        if has_symbols {
            let number = run.shared.lock().unwrap().unique();
            let file = format!("symbols-{:08}-{commit:012}-{number}.sym", run.incarnation);
            run.write_state(&file)?;
            if self.stored.symbols.len() >= 2 {
                self.stored.symbols.clear();
            }
            self.stored.symbols.push(file);
        }
        Ok(())
    }

    fn swap(&mut self, run: &mut Run) -> Result<(), Stopped> {
        let swaps: Vec<Swap> = self.staged.iter().map(swap_of).collect();
        let job = run.job_swap(run.commit, run.commit + 1, &self.stored);
        run.shared.lock().unwrap().requests.push((swaps.clone(), job.clone()));
        let swapped = run.catalog.commit(&swaps, &job);
        let mut sim = run.shared.lock().unwrap();
        if sim.fates[run.number].dead {
            return Err(Stopped);
        }
        let stands = sim.stands(job.to_commit, run.incarnation);
        let believed = match &swapped {
            Ok(()) => Some(true),
            Err(CommitError::Unknown { .. }) => None,
            Err(_) => Some(false),
        };
        if believed.is_some_and(|believed| believed != stands) {
            sim.violate(|| {
                format!("commit {} of run {}: {swapped:?}, but {stands}", job.to_commit, run.number)
            });
        }
        let mutant = sim.mutant;
        drop(sim);
        if believed.is_none() && mutant == Some(Mutant::DeleteAtUnknown) {
            let written = self.staged.iter().map(|staged| &staged.meta.location);
            written.for_each(|path| drop(run.store.delete(path)));
        }
        if believed != Some(true) && mutant == Some(Mutant::LossTakenForSuccess) {
            return Ok(());
        }
        Ok(swapped?)
    }
}

fn swap_of(staged: &StagedTable) -> Swap {
    Swap {
        namespace: super::sim::NAMESPACE.to_owned(),
        table: NAMES[staged.table].to_owned(),
        from: staged.replaces.location.clone(),
        to: staged.meta.location.clone(),
    }
}

/// The steps of a commit, as they are or as a mutant has them.
fn order(mutant: Option<Mutant>) -> Vec<Step> {
    let mut steps = STEPS.to_vec();
    let mut to_front_of = |step: Step, other: Step| {
        steps.retain(|at| *at != step);
        let at = steps.iter().position(|at| *at == other).unwrap();
        steps.insert(at, step);
    };
    match mutant {
        Some(Mutant::SwapFirst) => to_front_of(Step::Swap, Step::SyncLake),
        Some(Mutant::DeleteFirst) => to_front_of(Step::Delete, Step::Swap),
        Some(Mutant::NoLakeSync) => steps.retain(|step| *step != Step::SyncLake),
        Some(Mutant::NoStateSync) => steps.retain(|step| *step != Step::SyncState),
        _ => {}
    }
    steps
}
