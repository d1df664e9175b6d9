//! Rivals: two runs of one job at once, a frozen run that wakes up after another one took over, and other
//! programs that keep the catalog locked.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::fixture::{Fixture, assert_says, files_of, output_of};
use super::oracle::{Check, History, Spec, log};
use super::random::Random;
use super::running::{Running, await_true};
use super::small;
use super::tables::Tables;

/// Starts to follow and waits until all of the input is committed.
fn follow(fixture: &Fixture, rows: i64) -> Running {
    let following = Running::start(fixture.command(&["--follow", "--workers=2"]));
    await_true("the input", || events_of(fixture) == rows);
    following
}

/// The incarnation and the newest commit of the job's row.
fn job_row(fixture: &Fixture) -> (i64, i64) {
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    catalog.busy_timeout(Duration::from_secs(10)).unwrap();
    let sql = "SELECT incarnation, upper FROM tidewater_job";
    catalog.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// The rows of the table of events, 0 before there is one.
fn events_of(fixture: &Fixture) -> i64 {
    let committed = fixture.catalog().exists() && {
        let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
        catalog.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = "SELECT upper > 0 FROM tidewater_job";
        catalog.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
    };
    if !committed {
        return 0;
    }
    let mut tables = Tables::open(&fixture.catalog(), "small");
    i64::try_from(tables.current("events").len()).unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in files_of(from) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_second_run_is_refused_even_while_the_first_one_is_frozen() {
    let fixture = small::fixture();
    let first = follow(&fixture, 40);
    let before = job_row(&fixture);
    for signal in [Signal::CONT, Signal::STOP] {
        first.signal(signal);
        let said = fixture.refused(3, &[]);
        assert!(said.contains("another run of job small is at work"), "{said}");
    }
    assert_eq!(job_row(&fixture), before, "a run that is refused takes no incarnation");
    first.signal(Signal::CONT);
    fixture.append("events", 0, small::event(500));
    await_true("a commit of what was appended", || events_of(&fixture) == 41);
    first.signal(Signal::INT);
    assert_eq!(first.end().code, Some(0));
}

#[test]
fn a_frozen_run_that_wakes_up_after_another_took_over_is_refused() {
    let fixture = small::fixture();
    let zombie = follow(&fixture, 40);
    zombie.signal(Signal::STOP);
    // The lock of the state folder is still the frozen run's; the other one works with a copy.
    copy_folder(&fixture.path(small::STATE), &fixture.path("lake/copy"));
    fixture.write_job(&format!("{}state = \"lake/copy\"\n", small::job("small")));
    fixture.append("events", 0, small::event(500));
    fixture.report(&[]);
    let (incarnation, commit) = job_row(&fixture);
    assert_eq!(incarnation, 2);
    zombie.signal(Signal::CONT);
    fixture.append("events", 1, small::event(501));
    assert_eq!(zombie.end().code, Some(3));
    assert_eq!(job_row(&fixture), (incarnation, commit), "a zombie moves nothing");
    assert_eq!(events_of(&fixture), 41);
    fixture.report(&[]);
    assert_eq!(events_of(&fixture), 42);
}

#[test]
fn a_following_run_waits_for_a_catalog_that_is_locked_for_long() {
    let fixture = small::fixture();
    let following = follow(&fixture, 40);
    let holder = rusqlite::Connection::open(fixture.catalog()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    fixture.append("events", 0, small::event(500));
    // Longer than one try waits.
    std::thread::sleep(Duration::from_secs(13));
    holder.execute_batch("ROLLBACK").unwrap();
    await_true("a commit of what was appended", || events_of(&fixture) == 41);
    following.signal(Signal::INT);
    let ended = following.end();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_says(&ended.err, &["can't commit, trying again", "failed=1", "locked"]);
}

/// Locks the catalog again and again, up to a second each time, until `over` is set.
fn lock_now_and_then(catalog: &Path, over: &AtomicBool, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let mut locked = 0;
    let wait = |ms: usize| std::thread::sleep(Duration::from_millis(ms as u64));
    while !over.load(Ordering::Relaxed) {
        wait(random.between(1, 100));
        if !catalog.exists() {
            continue;
        }
        let holder = rusqlite::Connection::open(catalog).unwrap();
        if holder.execute_batch("BEGIN IMMEDIATE").is_ok() {
            wait(random.between(20, 1000));
            holder.execute_batch("ROLLBACK").unwrap();
            locked += 1;
        }
    }
    locked
}

#[test]
fn a_catalog_that_others_lock_for_a_while_delays_runs_and_nothing_more() {
    let spec = Spec::full();
    let mut random = Random::new(77);
    let mut history = History::short(&mut random);
    let fixture = Fixture::new(&spec.toml());
    let over = AtomicBool::new(false);
    let locked = std::thread::scope(|scope| {
        let locks = scope.spawn(|| lock_now_and_then(&fixture.catalog(), &over, 78));
        for workers in [1, 2, 2, 1] {
            history.append(&fixture);
            let workers = format!("--workers={workers}");
            let arguments = [workers.as_str(), "--step-records=2", "--commit-records=8"];
            let output = output_of(fixture.command(&arguments));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
        }
        over.store(true, Ordering::Relaxed);
        locks.join().unwrap()
    });
    assert!(locked >= 3, "the catalog was locked {locked} times");
    let records = log::read(&fixture.path(""));
    let (_, cut) = Check::all(&spec, &records, Tables::open(&fixture.catalog(), "n"));
    assert_eq!(cut, log::end_of(&records), "all is read");
}
