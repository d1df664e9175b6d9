//! Several processes: whoever does not belong can't join, and a process that is lost ends the run everywhere.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fixture::{Fixture, output_of};
use super::oracle::{Check, History, Spec, log};
use super::random::Random;
use super::running::{Ended, Running, await_true};
use super::small;
use super::tables::Tables;

/// Processes of one run that have not ended yet.
struct Run(Vec<Option<Running>>);

impl Run {
    fn start(commands: Vec<Command>) -> Run {
        Run(commands.into_iter().map(|command| Some(Running::start(command))).collect())
    }

    /// A following run of `count` processes after its first commit.
    fn following(fixture: &Fixture, count: usize) -> Run {
        let run = Run::start(fixture.processes(count, &["--follow", "--workers=1"]));
        await_true("the first commit", || commits(fixture) > 0);
        run
    }

    fn signal(&self, process: usize, signal: Signal) {
        self.0[process].as_ref().unwrap().signal(signal);
    }

    /// Waits for the end of a process: its exit code and its standard error.
    fn end(&mut self, process: usize) -> (Option<i32>, String) {
        let Ended { code, err, .. } = self.0[process].take().unwrap().end();
        (code, err)
    }
}

fn commits(fixture: &Fixture) -> i64 {
    let Ok(catalog) = rusqlite::Connection::open(fixture.catalog()) else { return 0 };
    let sql = "SELECT upper FROM tidewater_job";
    catalog.query_row(sql, [], |row| row.get(0)).unwrap_or(0)
}

/// The job goes on after the disturbance, in one process: all events are there, and none twice.
fn assert_goes_on(fixture: &Fixture, events: usize) {
    fixture.append("events", 0, small::event(500));
    fixture.append("events", 1, small::event(501));
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], events + 2, "{report}");
}

#[test]
fn a_process_that_is_killed_ends_the_run_everywhere() {
    for killed in [0, 1] {
        let fixture = small::fixture();
        let mut run = Run::following(&fixture, 3);
        run.signal(killed, Signal::KILL);
        for process in (0..3).filter(|process| *process != killed) {
            let (code, text) = run.end(process);
            assert_eq!(code, Some(1), "{text}");
            let lost = format!("process {killed}");
            assert!(text.contains(&lost) && text.contains("is lost"), "{text}");
        }
        assert_goes_on(&fixture, 40);
    }
}

#[test]
fn a_process_that_is_frozen_ends_the_run_everywhere() {
    for frozen in [0, 1] {
        let fixture = small::fixture();
        let mut run = Run::following(&fixture, 2);
        run.signal(frozen, Signal::STOP);
        let (code, text) = run.end(1 - frozen);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("nothing was heard of it"), "{text}");
        fixture.append("events", 0, small::event(500));
        let over = if frozen == 0 { &["--take-over"][..] } else { &[] };
        let report = fixture.report(over);
        assert_eq!(report["tables"]["small.events"]["rows"], 41, "{report}");
        let before = commits(&fixture);
        run.signal(frozen, Signal::CONT);
        let (code, text) = run.end(frozen);
        assert!(matches!(code, Some(1 | 3)), "{code:?} {text}");
        assert_eq!(commits(&fixture), before, "a process that wakes up commits nothing");
    }
}

#[test]
fn an_interrupt_of_any_process_ends_the_run_at_a_commit() {
    for interrupted in [0, 1] {
        let fixture = small::fixture();
        let mut run = Run::following(&fixture, 2);
        fixture.append("events", 1, small::event(700));
        run.signal(interrupted, Signal::TERM);
        for process in [0, 1] {
            let (code, text) = run.end(process);
            assert_eq!(code, Some(0), "{text}");
        }
        assert_goes_on(&fixture, 41);
    }
}

#[test]
fn strangers_can_neither_join_nor_hold_up_a_run() {
    let fixture = small::fixture();
    let mut commands = fixture.processes(2, &["--workers=1", "--output=json"]);
    let hosts = std::fs::read_dir(fixture.path("")).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let is_hosts = path.file_name()?.to_str()?.starts_with("hosts-");
        is_hosts.then(|| std::fs::read_to_string(path).unwrap())
    });
    let first = hosts.unwrap().lines().next().unwrap().to_owned();
    let second = commands.pop().unwrap();
    let mut run = Run::start(commands);
    let mut strangers = Vec::new();
    await_true("process 0", || {
        strangers.extend(TcpStream::connect(&first).ok());
        !strangers.is_empty()
    });
    // One says nothing, one says much, one says something that looks right, one leaves.
    for text in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 64], b"\x02\0\0\0{}"] {
        let mut stranger = TcpStream::connect(&first).unwrap();
        stranger.write_all(text).unwrap();
        strangers.push(stranger);
    }
    drop(TcpStream::connect(&first).unwrap());
    let started = Instant::now();
    let output = output_of(second);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(started.elapsed() < Duration::from_secs(20), "strangers hold up the run");
    let (code, text) = run.end(0);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("a stranger was sent away"), "{text}");
}

/// Runs process 0 as it should be, and `second` as process 1: exit codes and standard errors.
fn pair(fixture: &Fixture, second: impl FnOnce(&mut Command)) -> [(Option<i32>, String); 2] {
    let mut commands = fixture.processes(2, &["--workers=1", "--join-timeout=3"]);
    second(&mut commands[1]);
    let mut run = Run::start(commands);
    [0, 1].map(|process| run.end(process))
}

#[test]
fn a_process_that_was_started_otherwise_is_refused() {
    let fixture = small::fixture();
    let [first, second] = pair(&fixture, |command| {
        command.arg("--follow");
    });
    assert_eq!((first.0, second.0), (Some(1), Some(3)));
    assert!(second.1.contains("process 1 is refused: its --follow is true"), "{}", second.1);
    assert!(first.1.contains("process 1 (") && first.1.contains("did not join"), "{}", first.1);
    assert_eq!(fixture.report(&[])["events"], 40);
}

#[test]
fn a_process_that_sees_other_storage_is_refused() {
    let fixture = small::fixture();
    let job = std::fs::read_to_string(fixture.path("job.toml")).unwrap();
    assert!(job.contains("warehouse = \"lake/warehouse\""), "{job}");
    let state = format!("warehouse = \"other\"\nstate = \"{}\"", small::STATE);
    for (from, to, code, says) in [
        (
            "warehouse = \"lake/warehouse\"",
            state.as_str(),
            3,
            "that it sees is not that of process 0",
        ),
        ("catalog.db", "other.db", 3, "as process 0 sees it"),
        ("warehouse = \"lake/warehouse\"", "warehouse = \"elsewhere\"", 1, "run.key"),
    ] {
        std::fs::write(fixture.path("other.toml"), job.replace(from, to)).unwrap();
        let [first, second] = pair(&fixture, |command| {
            let mut other = Command::new(command.get_program());
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            other.arg("run").arg(fixture.path("other.toml")).args(&arguments[2..]);
            *command = other;
        });
        assert_eq!(second.0, Some(code), "{}", second.1);
        assert!(second.1.contains(says), "{}", second.1);
        assert_eq!(first.0, Some(code), "{}", first.1);
    }
    assert_eq!(fixture.report(&[])["events"], 40);
}

#[test]
fn what_fails_in_one_process_is_said_by_all() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let length = std::fs::metadata(fixture.partition("events", 1)).unwrap().len();
    let file = std::fs::File::options().write(true).open(fixture.partition("events", 1)).unwrap();
    file.set_len(length - 10).unwrap();
    let [first, second] = pair(&fixture, |_| {});
    assert_eq!((first.0, second.0), (Some(3), Some(3)), "{} {}", first.1, second.1);
    assert!(first.1.contains("process 1 failed: topic events, partition 1"), "{}", first.1);
    assert!(second.1.contains("topic events, partition 1"), "{}", second.1);
}

#[test]
fn runs_of_several_processes_that_are_killed_lose_and_double_nothing() {
    let (spec, mut random) = (Spec::full(), Random::new(43));
    let fixture = Fixture::new(&spec.toml());
    let mut history = History::long(&mut random);
    history.append(&fixture);
    for _ in 0..8 {
        let count = random.between(2, 3);
        let sizes = ["--workers=1", "--step-records=1", "--commit-records=1", "--join-timeout=2"];
        let mut run = Run::start(fixture.processes(count, &sizes));
        std::thread::sleep(Duration::from_millis(random.between(2, 400) as u64));
        run.signal(random.below(count), Signal::KILL);
        for process in 0..count {
            let (code, text) = run.end(process);
            assert!(matches!(code, None | Some(0 | 1)), "{code:?} {text}");
        }
        if random.chance(40) {
            history.append(&fixture);
        }
    }
    fixture.report_of(2, &["--workers=2"]);
    let records = log::read(&fixture.path(""));
    let (_, cut) = Check::all(&spec, &records, Tables::open(&fixture.catalog(), "n"));
    assert_eq!(cut, log::end_of(&records), "all is read");
}
