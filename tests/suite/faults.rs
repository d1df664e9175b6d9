//! Faults: the program is made to crash at every step that touches the outside, and to lose the reply to a
//! commit. The last commit stands, the next run goes on from there, and what it then finishes is right to the
//! row.

use std::process::Output;
use std::time::{Duration, SystemTime};

use tidewater::faults::POINTS;

use super::fixture::{Fixture, output_of, set_times};
use super::oracle::{Check, History, Spec, log};
use super::random::Random;
use super::tables::{Cut, Tables};

/// Runs that may pass without meeting a failpoint.
const RUNS_MAX: usize = 14;

/// A job with its history, which a test disturbs.
struct Trial {
    random: Random,
    spec: Spec,
    history: History,
    fixture: Fixture,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let spec = Spec::full();
        let (history, fixture) = (History::short(&mut random), Fixture::new(&spec.toml()));
        Trial { random, spec, history, fixture }
    }

    /// Appends and runs, with `points` as the failpoints.
    fn run(&mut self, points: &str) -> Output {
        self.history.append(&self.fixture);
        let workers = format!("--workers={}", self.random.between(1, 2));
        let mut arguments = vec![workers.as_str(), "--step-records=1", "--commit-records=1"];
        if self.random.chance(30) {
            arguments.extend(["--dedup-memory=0", "--user-memory=0"]);
        }
        let mut command = self.fixture.command(&arguments);
        command.env("FAILPOINTS", points);
        output_of(command)
    }

    /// Appends and runs undisturbed; all is read then, and all is right. Gives the newest commit.
    fn run_to_the_end(&mut self) -> u64 {
        let output = self.run("");
        assert!(output.status.success(), "{}", stderr(&output));
        self.check_end()
    }

    fn check_end(&self) -> u64 {
        let (commit, cut) = self.check().expect("a commit");
        assert_eq!(cut, log::end_of(&log::read(&self.fixture.path(""))), "all is read");
        commit
    }

    /// Checks all tables at all commits that there are: the newest one, if any, and its cut.
    fn check(&self) -> Option<(u64, Cut)> {
        let commit = self.newest_commit().filter(|commit| *commit > 0)?;
        let records = log::read(&self.fixture.path(""));
        let checked = Check::all(&self.spec, &records, Tables::open(&self.fixture.catalog(), "n"));
        assert_eq!(checked.0, commit, "the newest commit is that of the job's row");
        Some(checked)
    }

    /// What the job's row says, if there is one.
    fn newest_commit(&self) -> Option<u64> {
        let path = self.fixture.catalog();
        let catalog = path.exists().then(|| rusqlite::Connection::open(path).unwrap())?;
        let sql = "SELECT upper FROM tidewater_job WHERE id = 'oracle' AND body IS NOT NULL";
        let commit: Option<i64> = catalog.query_row(sql, [], |row| row.get(0)).ok();
        commit.map(i64::cast_unsigned)
    }

    /// Makes all files look old enough to be deleted.
    fn age(&self) {
        let lake = self.fixture.path("lake/warehouse");
        set_times(&lake, SystemTime::now() - Duration::from_secs(2 * 3600));
    }

    /// No file is left that no table needs.
    fn check_swept(&self) {
        let tables = Tables::open(&self.fixture.catalog(), "n");
        let mut names = vec!["events", "users_changes", "dead_letters", "raw", "cuts"];
        let current = self.spec.current_tables();
        let changes: Vec<String> = current.iter().map(|name| format!("{name}_changes")).collect();
        names.extend(current.into_iter().chain(changes.iter().map(String::as_str)));
        for name in names {
            let (_, others) = tables.needed_and_others(name);
            assert!(others.is_empty(), "{name}: {others:?}");
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// How often runs pass a failpoint before they crash there: at the first time, the second and the fifth.
fn passes(point: &str) -> &'static [usize] {
    match point {
        // Met once in a run, or not in every run.
        "catalog.open" | "slab.merge" | "file.delete" | "orphan.delete" => &[0],
        _ if point.starts_with("open.") || point.starts_with("symbols.") => &[0],
        _ => &[0, 1, 4],
    }
}

/// Runs until one crashes at `point`.
fn crash_at(trial: &mut Trial, point: &str, mut passes: usize) {
    if point.starts_with("open.s") || point.starts_with("open.b") || point == "catalog.open" {
        for _ in 0..trial.random.below(3) {
            trial.run("");
        }
    }
    if point == "orphan.delete" {
        crash_at(trial, "commit.swap", 0);
        trial.age();
    }
    for _ in 0..RUNS_MAX {
        let output = trial.run(&format!("{point}={passes}*off->panic"));
        if !output.status.success() {
            let stderr = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            let expected = format!("error: failpoint {point} panic");
            assert!(stderr.contains(&expected), "{expected:?} is missing in: {stderr}");
            assert!(stderr.contains("the last commit stands"), "{stderr}");
            return;
        }
        passes /= 2;
    }
    panic!("no run comes to {point}");
}

fn crash_and_recover(point: &str, passes: usize, seed: u64) {
    let mut trial = Trial::new(seed);
    crash_at(&mut trial, point, passes);
    let before = trial.check();
    let aged = trial.random.chance(50);
    if aged {
        trial.age();
    }
    let after = trial.run_to_the_end();
    assert!(before.is_none_or(|(before, _)| before <= after), "no commit is taken back");
    if aged {
        trial.check_swept();
    }
}

/// Crashes at the points of one part of four, since tests run side by side.
fn crash_at_all(part: usize) {
    for (index, (point, _)) in POINTS.iter().enumerate().skip(part).step_by(4) {
        for passes in passes(point) {
            eprintln!("crash at {point} after {passes} passes");
            crash_and_recover(point, *passes, (index + 100 * passes) as u64);
        }
    }
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing_1() {
    crash_at_all(0);
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing_2() {
    crash_at_all(1);
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing_3() {
    crash_at_all(2);
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing_4() {
    crash_at_all(3);
}

/// The first COMMIT of all is that of the new tables.
#[test]
fn a_commit_whose_reply_is_lost_is_recognised_and_the_run_goes_on() {
    for passes in [0, 1, 2, 4] {
        let mut trial = Trial::new(100 + passes);
        let output = trial.run(&format!("commit.reply={passes}*off->1*return"));
        assert!(output.status.success(), "{}", stderr(&output));
        trial.check_end();
        trial.run_to_the_end();
    }
}

#[test]
fn a_commit_that_failed_is_an_error_and_the_next_run_makes_it() {
    for passes in [0, 1, 2, 4] {
        let mut trial = Trial::new(200 + passes);
        let output = trial.run(&format!("commit.swap={passes}*off->1*return"));
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let expected = format!("cannot commit {passes} of job oracle: ");
        assert!(stderr.contains(&expected), "{expected:?} is missing in: {stderr}");
        assert_eq!(trial.newest_commit(), passes.checked_sub(1));
        trial.check();
        trial.run_to_the_end();
    }
}

#[test]
fn a_commit_of_unknown_fate_is_an_error_and_the_next_run_finds_out() {
    for (point, committed) in [("commit.reply", true), ("commit.swap", false)] {
        let mut trial = Trial::new(300);
        let output = trial.run(&format!("{point}=2*off->1*return;catalog.open=1*off->return"));
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("it is not known whether commit 2 of job oracle"), "{stderr}");
        assert_eq!(trial.newest_commit(), Some(1 + u64::from(committed)));
        trial.check();
        trial.run_to_the_end();
    }
}
