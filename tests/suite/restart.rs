//! Restart: the program is killed again and again at random moments; what it then finishes is right to the
//! row.

use std::process::Stdio;
use std::time::Duration;

use super::fixture::{Fixture, output_of};
use super::oracle::{Check, History, Spec, log};
use super::random::Random;
use super::tables::Tables;

/// Kills of runs that were at work.
const KILLS: usize = 20;
/// A kill comes after 2 ms to 1.6 s, half of them below 60 ms: slow machines commit before the late ones.
const DELAY_MS_MIN: f64 = 2.0;
const DELAY_MS_MAX: f64 = 1600.0;

fn delay(random: &mut Random) -> Duration {
    let part = random.below(1000) as f64 / 1000.0;
    Duration::from_secs_f64(DELAY_MS_MIN * (DELAY_MS_MAX / DELAY_MS_MIN).powf(part) / 1000.0)
}

/// Starts a run and kills it after a while; false if it ended before.
fn run_and_kill(fixture: &Fixture, arguments: &[&str], after: Duration) -> bool {
    let mut command = fixture.command(arguments);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
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
    let mut random = Random::new(seed);
    let spec = Spec::full();
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
        if run_and_kill(&fixture, &arguments, delay(&mut random)) {
            kills += 1;
        } else {
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
