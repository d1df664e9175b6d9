//! The oracle: what must hold after every change of the catalog's rows and at every removal of a file.
//!
//! 1. Readers see all tables at one commit, which is that of the job's row; each table holds what follows
//!    from the records below that commit's cut, each once.
//! 2. Cuts follow one another without a gap.
//! 3. Every file that a retained snapshot or the state needs is there, whole and durable.
//! 4. A commit is made once, on top of the one before, by the newest incarnation, and of the tables as
//!    they are.
//! 5. No file is deleted that a table, the state, or a commit under way of the newest incarnation needs.

use hashbrown::HashSet;

use super::attempt::{counted, is_event};
use super::database::Rows;
use super::model::{CURRENT, EVENTS, Meta, NAMES, Object};
use super::sim::{Body, Sim};
use crate::lake::catalog::JobSwap;

impl Sim {
    /// A transaction comes into force; `mover` is what moved the job's row in it.
    pub(super) fn apply(&mut self, rows: Rows, mover: Option<&JobSwap>) {
        let before = std::mem::replace(&mut self.rows, rows);
        if let Some(mover) = mover {
            self.check_order(&before, mover);
        }
        for (table, name) in NAMES.into_iter().enumerate() {
            if before.tables.get(name) != self.rows.tables.get(name) {
                self.check_descent(table, before.tables.get(name));
            }
        }
        if before.tables != self.rows.tables || mover.is_some() {
            self.check_readers();
        }
    }

    /// Rule 4.
    fn check_order(&mut self, before: &Rows, mover: &JobSwap) {
        let Some(job) = before.job.clone() else { return };
        let (to, of) = (mover.to_commit, mover.incarnation);
        if of != job.incarnation {
            self.violate(|| format!("incarnation {of} commits {to} under {}", job.incarnation));
        }
        if to == 0 {
            return;
        }
        if job.commit + 1 != to || self.history.len() as u64 != job.commit {
            self.violate(|| format!("commit {to} is made on top of {}", job.commit));
        }
        self.history.push(of);
    }

    /// A version that we have made must follow the one that it replaces.
    fn check_descent(&mut self, table: usize, before: Option<&String>) {
        let location = self.rows.tables.get(NAMES[table]);
        let made_from =
            location.and_then(|at| self.meta(at)).and_then(|meta| meta.made_from.clone());
        if made_from.as_ref() != before {
            let name = NAMES[table];
            self.violate(|| format!("{name}: {before:?} is lost: {made_from:?} was built upon"));
        }
    }

    /// Whether this incarnation has made this commit.
    pub(super) fn stands(&self, commit: u64, incarnation: u64) -> bool {
        let index = usize::try_from(commit).unwrap().checked_sub(1);
        index.and_then(|index| self.history.get(index)) == Some(&incarnation)
    }

    /// Rules 1 to 3, for the rows as they are.
    pub(super) fn check_readers(&mut self) {
        let Some(job) = self.rows.job.clone() else { return };
        let Some(body) = &job.body else {
            if !self.rows.tables.is_empty() {
                self.violate(|| "there are tables without a state".to_owned());
            }
            return;
        };
        let Some(Body { state_files, cut }) = self.bodies.get(body).cloned() else {
            return self.violate(|| "nobody has written the job's body".to_owned());
        };
        let state = state_files.into_iter().collect();
        let before = std::mem::replace(&mut self.needed_state, state);
        self.check_durable(&before, None);
        for (table, name) in NAMES.into_iter().enumerate() {
            let location = self.rows.tables.get(name);
            let Some(meta) = location.and_then(|location| self.meta(location)) else {
                if !self.foreign.contains_key(&table) {
                    self.violate(|| format!("{name} is gone"));
                }
                continue;
            };
            if self.needed_by[table] != meta.location {
                self.needed_by[table].clone_from(&meta.location);
                let needed = self.referenced(&meta);
                let before = std::mem::replace(&mut self.needed[table], needed);
                self.check_durable(&before, Some(table));
            }
            if !self.foreign.contains_key(&table) {
                self.check_table(table, &meta, job.commit, cut);
            }
        }
    }

    /// Rule 3, for the files that a table, or the state, did not need before.
    fn check_durable(&mut self, before: &HashSet<String>, table: Option<usize>) {
        let needed = table.map_or(&self.needed_state, |table| &self.needed[table]);
        let mut fresh = needed.iter().filter(|path| !before.contains(*path));
        let missing = fresh.find(|path| !self.files.is_durable(path)).cloned();
        if let Some(path) = missing {
            let found = format!("{:?}", self.files.file(&path));
            self.violate(|| format!("{path} is needed and not safe on disk: {found}"));
        }
    }

    /// Rules 1 and 2, of one table.
    fn check_table(&mut self, table: usize, meta: &Meta, commit: u64, cut: u64) {
        if meta.commit > commit {
            self.violate(|| format!("{} is ahead, at {}", NAMES[table], meta.commit));
        }
        let live = self.live(meta);
        let objects: Vec<&Object> = live.iter().filter_map(|path| self.objects.get(path)).collect();
        let fault = match table {
            EVENTS => fault_of_events(&objects, cut),
            CURRENT => fault_of_current(&objects, cut),
            _ => fault_of_cuts(&objects, commit, cut),
        };
        if let Some(fault) = fault {
            self.violate(|| format!("{} at commit {commit}, cut {cut}: {fault}", NAMES[table]));
        }
    }

    /// Rule 5.
    pub(super) fn check_removal(&mut self, run: usize, path: &str) {
        let is_whole = self.files.is_finished(path);
        let is_needed = self.needed_state.contains(path)
            || self.needed.iter().any(|needed: &HashSet<String>| needed.contains(path));
        if is_needed {
            self.violate(|| format!("run {run} deletes {path}, which is needed"));
        }
        let newest = self.rows.job.as_ref().map_or(0, |job| job.incarnation);
        for (other, commit) in self.in_flight.iter().enumerate() {
            let works = !self.fates[other].dead && commit.incarnation == newest;
            // A file that could not be finished may be taken back by whoever wrote it.
            let is_own = other == run && !is_whole;
            if works && !is_own && commit.files.contains(path) {
                let what =
                    format!("run {run} deletes {path}, which run {other} is about to commit");
                return self.violate(|| what);
            }
        }
    }
}

/// Every event below the cut is in one file.
fn fault_of_events(objects: &[&Object], cut: u64) -> Option<String> {
    let mut times = vec![0; usize::try_from(cut).unwrap()];
    for object in objects {
        let Object::Data { from, to, .. } = object else { return Some(format!("{object:?}")) };
        for offset in (*from..*to).filter(|offset| is_event(*offset)) {
            match times.get_mut(usize::try_from(offset).unwrap()) {
                Some(times) => *times += 1,
                None => return Some(format!("{offset} is there too early")),
            }
        }
    }
    let wrong = (0..cut).zip(times).find(|(offset, times)| *times != u32::from(is_event(*offset)));
    wrong.map(|(offset, times)| format!("{offset} is there {times} times"))
}

/// Each leaf is there once, and has counted what is below the cut.
fn fault_of_current(objects: &[&Object], cut: u64) -> Option<String> {
    (0..2).find_map(|leaf| {
        let counts: Vec<u64> = objects
            .iter()
            .filter_map(|object| match object {
                Object::Leaf { leaf: of, count } if *of == leaf => Some(*count),
                _ => None,
            })
            .collect();
        let expected = Some(counted(leaf, cut)).filter(|count| *count > 0);
        let is_right = counts == expected.into_iter().collect::<Vec<_>>();
        (!is_right).then(|| format!("leaf {leaf} has {counts:?}, not {expected:?}"))
    })
}

/// Commits and offsets follow one another up to the newest.
fn fault_of_cuts(objects: &[&Object], commit: u64, cut: u64) -> Option<String> {
    let mut rows: Vec<(u64, u64, u64)> = objects
        .iter()
        .filter_map(|object| match object {
            Object::Data { commit, from, to } => Some((*commit, *from, *to)),
            _ => None,
        })
        .collect();
    rows.sort_unstable();
    let mut stood = (0, 0);
    for (of, from, to) in &rows {
        if *of != stood.0 + 1 || *from != stood.1 || to <= from {
            return Some(format!("commit {of} moved {from} to {to} after {stood:?}"));
        }
        stood = (*of, *to);
    }
    (stood != (commit, cut)).then(|| format!("they end at {stood:?}"))
}
