//! Restart: the program is stopped and killed again and again at random moments while its input grows;
//! what it then finishes is right to the row. `scripts/crash` does the same on a larger scale.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::fixture::{Fixture, output_of};
use super::oracle::{Check, History, Spec, log};
use super::random::Random;
use super::tables::Tables;

/// Kills of runs that were at work.
const KILLS: usize = 25;
/// A kill comes no earlier than this. The latest come when an undisturbed run would end.
const DELAY_MIN: Duration = Duration::from_millis(2);

/// A random moment up to `longest`: as many between 2 and 20 ms as between 20 and 200.
fn delay(random: &mut Random, longest: Duration) -> Duration {
    let part = random.below(1000) as f64 / 1000.0;
    let range = longest.max(DELAY_MIN * 2).div_duration_f64(DELAY_MIN);
    DELAY_MIN.mul_f64(range.powf(part))
}

/// How long an undisturbed run of the same history takes here.
fn undisturbed(spec: &Spec, seed: u64) -> Duration {
    let fixture = Fixture::new(&spec.toml());
    History::long(&mut Random::new(seed)).append(&fixture);
    let started = Instant::now();
    fixture.report(&["--workers=2", "--step-records=1", "--commit-records=1"]);
    started.elapsed()
}

/// Starts a run and kills it after a while, in which it may be frozen; false if it ended before.
fn run_and_kill(
    fixture: &Fixture,
    arguments: &[&str],
    after: Duration,
    frozen: Option<Duration>,
) -> bool {
    let mut command = fixture.command(arguments);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    if let Some(frozen) = frozen {
        let signal = |signal| kill_process(Pid::from_child(&run), signal).unwrap();
        signal(Signal::STOP);
        std::thread::sleep(frozen);
        signal(Signal::CONT);
        std::thread::sleep(after);
    }
    run.kill().unwrap();
    let status = run.wait().unwrap();
    if let Some(code) = status.code() {
        assert_eq!(code, 0, "a run failed before it was killed");
    }
    status.code().is_none()
}

#[test]
fn runs_that_are_killed_at_any_moment_lose_and_double_nothing() {
    let seed = 41;
    let spec = Spec::full();
    let longest = undisturbed(&spec, seed);
    let mut random = Random::new(seed);
    let mut history = History::long(&mut random);
    let fixture = Fixture::new(&spec.toml());
    history.append(&fixture);
    let mut kills = 0;
    while kills < KILLS {
        let workers = format!("--workers={}", random.between(1, 4));
        let mut arguments = vec![workers.as_str(), "--step-records=1", "--commit-records=1"];
        if random.chance(30) {
            arguments.extend(["--dedup-memory=0", "--user-memory=0"]);
        }
        let after = delay(&mut random, longest);
        let frozen = random.chance(20).then(|| delay(&mut random, longest));
        let is_killed = run_and_kill(&fixture, &arguments, after, frozen);
        kills += usize::from(is_killed);
        if !is_killed || random.chance(10) {
            history.append(&fixture);
        }
    }
    let last = output_of(fixture.command(&["--workers=2"]));
    let stderr = String::from_utf8_lossy(&last.stderr);
    assert!(last.status.success(), "after {KILLS} kills: {stderr}");
    let records = log::read(&fixture.path(""));
    let (commits, cut) = Check::all(&spec, &records, Tables::open(&fixture.catalog(), "n"));
    assert!(commits > 5, "only {commits} commits between {KILLS} kills");
    assert_eq!(cut, log::end_of(&records), "all is read");
}
