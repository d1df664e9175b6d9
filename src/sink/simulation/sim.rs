//! What all runs of a simulation share: the machine with its disk, catalog and clock, what the files mean,
//! and the first violation of an invariant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hashbrown::{HashMap, HashSet};

use super::database::Rows;
use super::disk::FileSystem;
use super::model::{Meta, Object, TABLES};
use super::random::Random;
use crate::lake::catalog::{JobSwap, Swap};

pub(super) type Shared = Arc<Mutex<Sim>>;

pub(super) const JOB: &str = "j";
pub(super) const NAMESPACE: &str = "n";
pub(super) const STATE: &str = "/w/_state/j";

/// Something that is done wrong on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The catalog moves the job's row whatever incarnation asks for it.
    AnyIncarnation,
    /// It moves it from whatever commit, and tables from wherever they are: the one would notice the other.
    AnyCommit,
    /// It moves the pointer of a table from wherever it is.
    AnyPointer,
    /// A crash in the middle of COMMIT leaves a part of it.
    TornCommit,
    /// Files are not synced.
    FileSyncsNothing,
    /// Folders are not synced.
    FolderSyncsNothing,
    /// The folders of the tables are not synced before the swap.
    NoLakeSync,
    /// The folder of the state is not synced before the swap.
    NoStateSync,
    /// A new table's folders are taken for durable if they are there.
    OldFoldersTrusted,
    /// The swap comes before the syncs.
    SwapFirst,
    /// What expires is deleted before the swap.
    DeleteFirst,
    /// Staged files are deleted when the outcome of a commit is unknown.
    DeleteAtUnknown,
    /// A commit whose reply was lost is taken for one that happened.
    LossTakenForSuccess,
    /// A run begins although the job has moved since it read the row.
    BlindBegin,
    /// Orphans of the state are collected before the run has begun.
    EarlyOrphans,
    /// Orphans of the state are those of any run.
    OrphansOfAnyRun,
    /// A sweep takes files of its own incarnation and of later ones.
    SweepOfAnyRun,
    /// A sweep takes files that are referred to.
    SweepOfReferenced,
}

/// How long a run still goes well.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate {
    pub(super) dead: bool,
    /// Calls to the machine until it is killed in the middle of one.
    pub(super) killed_after: Option<usize>,
    /// Calls until one gives an error.
    pub(super) fails_after: Option<usize>,
}

/// A commit on its way, which nobody else may disturb.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight {
    pub(super) incarnation: u64,
    pub(super) files: HashSet<String>,
}

/// What the body of a job's row refers to.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    pub(super) state_files: Vec<String>,
    pub(super) cut: u64,
}

/// A table that another program has changed, and what stood there before.
pub(super) type Foreign = BTreeMap<usize, String>;

#[derive(Debug)]
pub(super) struct Sim {
    pub(super) random: Random,
    pub(super) mutant: Option<Mutant>,
    pub(super) now_ms: i64,
    /// The latest that the clock has said, before it went back.
    pub(super) latest_ms: i64,
    pub(super) files: FileSystem,
    pub(super) rows: Rows,
    /// What the files of tables mean, by path.
    pub(super) objects: HashMap<String, Object>,
    /// What the bodies of the job's row mean.
    pub(super) bodies: HashMap<String, Body>,
    pub(super) fates: Vec<Fate>,
    pub(super) in_flight: Vec<InFlight>,
    /// The requests that were ever sent to the catalog.
    pub(super) requests: Vec<(Vec<Swap>, JobSwap)>,
    pub(super) foreign: Foreign,
    /// The incarnation that made each commit, from the first.
    pub(super) history: Vec<u64>,
    /// The files that the tables need as they are, and those that the state needs.
    pub(super) needed: [HashSet<String>; TABLES],
    pub(super) needed_state: HashSet<String>,
    /// The versions of the tables that need them.
    pub(super) needed_by: [String; TABLES],
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    /// Names that were given so far.
    pub(super) names: u64,
    pub(super) violation: Option<String>,
}

impl Sim {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        Sim {
            random: Random::new(seed),
            mutant,
            now_ms: 1_800_000_000_000,
            latest_ms: 0,
            files: FileSystem::new(&["/w", "/w/n", "/w/_state", STATE]),
            rows: Rows::default(),
            objects: HashMap::new(),
            bodies: HashMap::new(),
            fates: Vec::new(),
            in_flight: Vec::new(),
            requests: Vec::new(),
            foreign: Foreign::new(),
            history: Vec::new(),
            needed: Default::default(),
            needed_state: HashSet::new(),
            needed_by: Default::default(),
            calm: false,
            names: 0,
            violation: None,
        }
    }

    /// Notes a violation; the first one counts.
    pub(super) fn violate(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Whether a call of this run is carried out; if not, the run is dead or the call fails.
    pub(super) fn goes_on(&mut self, run: usize) -> bool {
        let fate = &mut self.fates[run];
        if fate.dead {
            return false;
        }
        if self.calm {
            return true;
        }
        fate.dead = count_down(&mut fate.killed_after);
        !fate.dead && !count_down(&mut fate.fails_after)
    }

    /// A name that no file has.
    pub(super) fn unique(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// The metadata at a location.
    pub(super) fn meta(&self, location: &str) -> Option<Arc<Meta>> {
        match self.objects.get(location) {
            Some(Object::Meta(meta)) => Some(Arc::clone(meta)),
            _ => None,
        }
    }
}

/// True when the count has come to its end, once.
fn count_down(count: &mut Option<usize>) -> bool {
    match count {
        Some(0) => {
            *count = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}
