//! The oracle: random histories, run in rounds with changing workers and sizes; after every run every table
//! at every commit is compared with a plain recomputation from the raw lines. It shares no code with the
//! stages.

mod answers;
mod check;
mod history;
pub mod log;
mod spec;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub use check::Check;
pub use history::History;
pub use spec::Spec;

use super::fixture::Fixture;
use super::random::Random;
use super::tables::Tables;

/// Histories of each test in a normal run; `TIDEWATER_ORACLE=FROM..TO` chooses others for the first test.
const HISTORIES: u64 = 10;

/// Runs one history, each round in as many processes and worker threads as `size` says.
fn play(seed: u64, size: impl Fn(&mut Random) -> (usize, usize)) {
    let mut random = Random::new(seed);
    let spec = Spec::random(&mut random);
    let mut history = History::new(&mut random);
    let fixture = Fixture::new(&spec.toml());
    let frees_memory = random.chance(50);
    for _ in 0..random.between(3, 6) {
        history.append(&fixture);
        let (processes, workers) = size(&mut random);
        let mut arguments = vec![
            format!("--workers={workers}"),
            format!("--step-records={}", random.pick(&[1, 7, 50, 1000])),
            format!("--commit-records={}", random.pick(&[1, 20, 100, 100_000])),
        ];
        if frees_memory && random.chance(70) {
            arguments.push("--dedup-memory=0".to_owned());
            arguments.push("--user-memory=0".to_owned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let report = fixture.report_of(processes, &arguments);
        let records = log::read(&fixture.path(""));
        if report["commit"] == 0 {
            assert!(records.is_empty(), "seed {seed}: records without a commit");
            continue;
        }
        let tables = Tables::open(&fixture.catalog(), "n");
        let (commit, cut) = Check::all(&spec, &records, tables);
        assert_eq!(report["commit"], commit, "the newest commit");
        for (topic, ends) in log::end_of(&records) {
            for (partition, end) in ends {
                assert_eq!(cut[&topic][&partition], end, "{topic} {partition} is read to its end");
            }
        }
        let reported = serde_json::to_value(&cut).unwrap();
        assert_eq!(report["cut"], reported, "the report's cut is the newest");
        for from in ["--from=source", "--from=tables"].iter().take(1 + usize::from(spec.events)) {
            let verified = fixture.verb("verify", &["--all", from, "--output=json"]);
            let said = [verified.stdout, verified.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert_eq!(verified.status.code(), Some(0), "{from}: {said}");
        }
    }
}

/// Runs the histories of these seeds, and says which one fails.
fn play_all(seeds: Range<u64>) {
    for seed in seeds {
        let threads = |random: &mut Random| (1, random.between(1, 4));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(seed, threads))) {
            eprintln!(
                "history {seed} fails: TIDEWATER_ORACLE={seed}..{} scripts/test oracle",
                seed + 1
            );
            resume_unwind(panic);
        }
    }
}

/// The seeds of the test number `part`.
fn seeds(part: u64) -> Range<u64> {
    match std::env::var("TIDEWATER_ORACLE") {
        Ok(_) if part > 0 => 0..0,
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("TIDEWATER_ORACLE=FROM..TO");
            from.parse().unwrap()..to.parse().unwrap()
        }
        Err(_) => part * HISTORIES..(part + 1) * HISTORIES,
    }
}

// Four tests, since tests run side by side.

#[test]
fn every_table_at_every_commit_equals_a_plain_recomputation_1() {
    play_all(seeds(0));
}

#[test]
fn every_table_at_every_commit_equals_a_plain_recomputation_2() {
    play_all(seeds(1));
}

#[test]
fn every_table_at_every_commit_equals_a_plain_recomputation_3() {
    play_all(seeds(2));
}

#[test]
fn every_table_at_every_commit_equals_a_plain_recomputation_4() {
    play_all(seeds(3));
}

#[test]
fn several_processes_give_the_same_answers() {
    for seed in 1_000..1_008 {
        let sizes = |random: &mut Random| *random.pick(&[(2, 1), (2, 2), (4, 1), (1, 2), (3, 1)]);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(seed, sizes))) {
            eprintln!("history {seed} fails in several processes");
            resume_unwind(panic);
        }
    }
}
