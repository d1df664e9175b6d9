//! Recover: state is lost in all ways that there are, rebuilt from the tables, and what the job then makes is
//! right to the row.

mod crash;
mod refusals;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::fixture::{Fixture, files_of, output_of, tidewater};
use super::oracle::{Check, History, Spec, log};
use super::random::Random;
use super::small;
use super::tables::Tables;

/// The small job's file; each run makes one commit, however slow the machine is.
fn small_job() -> String {
    small::job("small").replace("\"50ms\"", "\"1h\"")
}

/// The small job with its records.
fn fixture() -> Fixture {
    let fixture = small::fixture();
    fixture.write_job(&small_job());
    fixture
}

/// The folder of the state of the oracle's jobs.
const ORACLE_STATE: &str = "lake/warehouse/_state/oracle";
/// Histories of each test.
const HISTORIES: u64 = 8;

/// `tidewater recover job.toml` with more arguments, not started yet.
fn command(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = tidewater();
    command.arg("recover").arg(fixture.path("job.toml")).args(arguments);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Recovers, which must succeed, and gives the report.
fn recover(fixture: &Fixture, arguments: &[&str]) -> Value {
    let mut command = command(fixture, arguments);
    command.args(["--output", "json"]);
    let output = output_of(command);
    assert!(output.status.success(), "{arguments:?}: {}\n{}", output.status, stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_kind(file: &PathBuf, kind: &str) -> bool {
    PathBuf::from(file).extension().is_some_and(|extension| extension == kind)
}

/// The slabs and symbol files of a state folder.
fn state_files(fixture: &Fixture, folder: &str) -> Vec<PathBuf> {
    let files = files_of(&fixture.path(folder)).into_iter();
    files.filter(|file| is_kind(file, "slab") || is_kind(file, "sym")).collect()
}

/// Loses or damages some of the state.
fn lose(fixture: &Fixture, random: &mut Random) {
    if random.chance(30) {
        fs::remove_dir_all(fixture.path(ORACLE_STATE)).unwrap();
        return;
    }
    let percent = *random.pick(&[10, 50, 100]);
    for file in state_files(fixture, ORACLE_STATE) {
        if !random.chance(percent) {
            continue;
        }
        let mut bytes = fs::read(&file).unwrap();
        match random.below(4) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let place = random.below(bytes.len());
                bytes[place] ^= 1 << random.below(8);
            }
            _ => {
                fs::remove_file(file).unwrap();
                continue;
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

/// Arguments of a run, or of a recovery.
fn arguments(random: &mut Random, recovers: bool) -> Vec<String> {
    let mut arguments = vec![format!("--workers={}", random.between(1, 4))];
    if !recovers {
        arguments.push(format!("--step-records={}", random.pick(&[1, 7, 50, 1000])));
        arguments.push(format!("--commit-records={}", random.pick(&[1, 20, 100, 100_000])));
    }
    for memory in ["--dedup-memory=0", "--user-memory=0"] {
        if random.chance(40) {
            arguments.push(memory.to_owned());
        }
    }
    arguments
}

/// Runs one history, and loses the state between its runs.
fn play(seed: u64) {
    let mut random = Random::new(1000 + seed);
    let spec = Spec { events: true, ..Spec::random(&mut random) };
    let mut history = History::new(&mut random);
    let fixture = Fixture::new(&spec.toml());
    let mut newest = 0;
    for _ in 0..random.between(3, 6) {
        history.append(&fixture);
        let of_run = arguments(&mut random, false);
        let of_run: Vec<&str> = of_run.iter().map(String::as_str).collect();
        let commit = fixture.report(&of_run)["commit"].as_u64().unwrap();
        if commit > newest || random.chance(50) {
            lose(&fixture, &mut random);
            let of_recovery = arguments(&mut random, true);
            let of_recovery: Vec<&str> = of_recovery.iter().map(String::as_str).collect();
            let report = recover(&fixture, &of_recovery);
            assert_eq!(report["commit"], commit);
            assert_eq!(report["ids"], report["events"]);
        }
        newest = commit;
    }
    let records = log::read(&fixture.path(""));
    if newest > 0 {
        let (commit, cut) = Check::all(&spec, &records, Tables::open(&fixture.catalog(), "n"));
        assert_eq!((commit, cut), (newest, log::end_of(&records)));
    }
}

fn play_all(part: u64) {
    for seed in part * HISTORIES..(part + 1) * HISTORIES {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(seed))) {
            eprintln!("history {seed} with lost state fails");
            resume_unwind(panic);
        }
    }
}

// Two tests, since tests run side by side.

#[test]
fn a_job_whose_state_is_lost_again_and_again_equals_a_plain_recomputation_1() {
    play_all(0);
}

#[test]
fn a_job_whose_state_is_lost_again_and_again_equals_a_plain_recomputation_2() {
    play_all(1);
}

/// What a run says that depends on state.
fn counts(fixture: &Fixture) -> Vec<Value> {
    let report = fixture.report(&["--workers=2"]);
    ["records", "events", "duplicates", "conflicts", "changes", "commit", "tables"]
        .map(|key| match key {
            // Snapshot ids are random.
            "tables" => {
                let tables = report[key].as_object().unwrap().values();
                tables.map(|table| table["rows"].clone()).collect()
            }
            key => report[key].clone(),
        })
        .to_vec()
}

/// Copies and conflicting copies of all events, new events, and moves of users.
fn touch_all(fixture: &Fixture) {
    for number in 0..40 {
        fixture.append("events", 0, small::event(number));
        fixture.append("events", 1, small::event(number).replace("\"view\"", "\"look\""));
        fixture.append("events", (number % 2) as i32, small::event(number + 1000));
    }
    for number in 0..10 {
        fixture.append("users", 0, small::user(number, "west"));
    }
}

#[test]
fn copies_conflicts_and_changes_count_as_if_nothing_had_been_lost() {
    let [whole, lost] = [fixture(), fixture()];
    for fixture in [&whole, &lost] {
        fixture.report(&[]);
    }
    fs::remove_dir_all(lost.path(small::STATE)).unwrap();
    let report = recover(&lost, &["--workers=3"]);
    let wanted = serde_json::json!({
        "job": "small", "incarnation": 2, "commit": 1, "events": 40, "versions": 10, "ids": 40, "users": 10,
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&report[key], value, "{key} in {report:#}");
    }
    for key in ["symbols", "files", "bytes", "seconds"] {
        assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {report:#}");
    }
    assert!(report["rows"]["regional"].as_u64().is_some_and(|rows| rows > 10), "{report:#}");
    for _ in 0..2 {
        [&whole, &lost].into_iter().for_each(touch_all);
        assert_eq!(counts(&whole), counts(&lost));
    }
}

#[test]
fn a_job_that_is_whole_may_be_recovered_and_stays_what_it_is() {
    let fixture = fixture();
    fixture.report(&[]);
    let table = |name: &str| Tables::open(&fixture.catalog(), "small").location(name);
    let names = ["events", "regional", "path", "cuts", "users_changes"];
    let before = names.map(table);
    let files = state_files(&fixture, small::STATE);
    let first = recover(&fixture, &[]);
    let second = recover(&fixture, &["--workers=1", "--user-memory=0", "--dedup-memory=0"]);
    assert_eq!((&first["incarnation"], &second["incarnation"]), (&2.into(), &3.into()));
    for key in ["commit", "ids", "users", "rows", "symbols"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    assert_eq!(names.map(table), before, "no table is touched");
    assert!(files.iter().all(|file| file.exists()), "the old state is left for a later run");
    let report = fixture.report(&[]);
    assert_eq!((&report["records"], &report["commit"]), (&0.into(), &1.into()));
}

#[test]
fn the_report_for_people_says_what_was_rebuilt() {
    let fixture = fixture();
    fixture.report(&[]);
    let output = output_of(command(&fixture, &[]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for wanted in
        ["small: state rebuilt at commit 1", "40 events", "40 ids", "10 users", "regional"]
    {
        assert!(text.contains(wanted), "{wanted:?} is missing in {text}");
    }
}

#[test]
fn what_the_horizon_has_forgotten_stays_forgotten() {
    let job = format!("{}[dedup]\nhorizon = \"4d\"\n", small_job());
    let [whole, lost] = [Fixture::new(&job), Fixture::new(&job)];
    let appends = [
        small::day_of_events('a', 0, 1_200, 0),
        small::day_of_events('f', 0, 900, 300),
        small::day_of_events('b', 0, 1_500, 10),
        // Forgotten, taken in anew, and forgotten again.
        small::day_of_events('a', 0, 10, 0),
        small::day_of_events('a', 5, 20, 0) + &small::day_of_events('b', 0, 10, 12),
        small::day_of_events('c', 0, 3_000, 9) + &small::day_of_events('b', 0, 50, 8),
        small::day_of_events('a', 0, 30, 0) + &small::day_of_events('f', 0, 30, 300),
    ];
    for lines in appends {
        let both = [&whole, &lost].map(|fixture| {
            fixture.append("events", 0, &lines);
            counts(fixture)
        });
        assert_eq!(both[0], both[1]);
        fs::remove_dir_all(lost.path(small::STATE)).unwrap();
        recover(&lost, &["--dedup-memory=0"]);
    }
}
