//! The commit protocol in a simulated world: the real decisions over a disk that forgets, a catalog that
//! loses replies, and a clock that jumps.
//!
//! ```text
//!   World ── turns ──► Run ──► Attempt ──► STEPS of the committer ──► Store ───► SimDisk ───┐
//!     │ kills, power,   │                                       └───► Catalog ─► SimDatabase ┤
//!     │ time, others    └─ begin_run, Stored, reach: the real ones                           ▼
//!     └──────────────────────────────────────────────────────────────────────────► Sim ──► check
//! ```
//!
//! Real are `lake::catalog` (the transaction, its conditions, what becomes of a lost reply, the fence),
//! the order of `sink::steps`, `lake::storage::Store` with its barrier of folders, `sink::stored` with the
//! manifest of the state, and `lake::reach` (what expires, what is dead, what is an orphan). A model are
//! what files contain, how a version of a table is staged (`model`), and the sequence in which a run opens
//! (`run`).
//!
//! A run is killed between steps and inside of them, at any call to the disk or the catalog. Several are
//! there at once: there is no lock, so every older one is a zombie that wakes up some time. At the end,
//! when nothing goes wrong any more, a last run must come through and sweep what the others have left.
//!
//! `TIDEWATER_SIM_SEEDS=1000000 scripts/test simulation` plays so many seeds; `FROM..TO` those. A seed that
//! fails is said, and is to be kept in [`KEPT`]. Each mutant does one thing wrong, and must be caught.

mod agreement;
mod attempt;
mod check;
mod database;
mod disk;
mod model;
mod random;
mod run;
mod sim;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sim::Mutant;
use world::play;

/// Seeds of a normal run.
const SEEDS: u64 = 100_000;
/// Seeds that have failed once.
const KEPT: [u64; 0] = [];
/// A mutant must be caught within so many seeds.
const MUTANT_SEEDS: u64 = 20_000;

/// Plays these seeds on all cores; gives the least that fails, and how.
fn play_all(seeds: Range<u64>, mutant: Option<Mutant>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut found: Option<(u64, String)> = None;
        while found.is_none() && !failed.load(Ordering::Relaxed) {
            let from = next.fetch_add(64, Ordering::Relaxed);
            if from >= seeds.end {
                break;
            }
            let until = seeds.end.min(from + 64);
            found = (from..until).find_map(|seed| Some((seed, play(seed, mutant)?)));
        }
        failed.fetch_or(found.is_some(), Ordering::Relaxed);
        found
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    })
}

/// The seeds that are asked for.
fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("TIDEWATER_SIM_SEEDS") else { return 0..SEEDS };
    match asked.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..asked.parse().unwrap(),
    }
}

#[test]
fn no_seed_violates_an_invariant() {
    for seed in KEPT {
        assert_eq!(play(seed, None), None, "seed {seed}");
    }
    if let Some((seed, violation)) = play_all(seeds(), None) {
        panic!("seed {seed} (TIDEWATER_SIM_SEEDS={seed}..{}): {violation}", seed + 1);
    }
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..200 {
        let mutant = Some(Mutant::FileSyncsNothing);
        assert_eq!(play(seed, mutant), play(seed, mutant));
    }
}

#[test]
fn every_mutant_is_caught() {
    use Mutant::*;
    let mutants = [
        AnyIncarnation,
        AnyCommit,
        AnyPointer,
        TornCommit,
        FileSyncsNothing,
        FolderSyncsNothing,
        NoLakeSync,
        NoStateSync,
        OldFoldersTrusted,
        SwapFirst,
        DeleteFirst,
        DeleteAtUnknown,
        LossTakenForSuccess,
        BlindBegin,
        EarlyOrphans,
        OrphansOfAnyRun,
        SweepOfAnyRun,
        SweepOfReferenced,
    ];
    let mut alive = Vec::new();
    for mutant in mutants {
        match play_all(0..MUTANT_SEEDS, Some(mutant)) {
            Some((seed, violation)) => eprintln!("{mutant:?}: seed {seed}: {violation}"),
            None => alive.push(mutant),
        }
    }
    assert!(alive.is_empty(), "nothing notices {alive:?}");
}
