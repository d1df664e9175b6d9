//! Whatever ends a recovery, either the old state stands or the new one.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::super::fixture::{Fixture, output_of};
use super::super::small;
use super::{command, counts, fixture, recover, stderr, touch_all};

/// What a recovery comes by: `point` is passed so many times before it crashes.
const CRASHES: [(&str, usize); 16] = [
    ("catalog.open", 0),
    ("open.begin", 0),
    ("open.begun", 0),
    ("slab.create", 0),
    ("slab.create", 5),
    ("slab.open", 3),
    ("slab.write", 2),
    ("slab.sync", 4),
    ("slab.merge", 0),
    ("slab.merge", 1),
    ("symbols.write", 0),
    ("symbols.sync", 0),
    ("state.sync", 0),
    ("commit.begin", 0),
    ("commit.job", 0),
    ("commit.swap", 0),
];

/// A job that was run, whole or without its state.
fn after_a_run(whole: bool) -> Fixture {
    let fixture = fixture();
    fixture.report(&[]);
    if !whole {
        fs::remove_dir_all(fixture.path(small::STATE)).unwrap();
    }
    fixture
}

/// A recovery with failpoints and little memory, so that it comes by all of them.
fn recover_at(fixture: &Fixture, points: &str) -> std::process::Output {
    let mut command = command(fixture, &["--workers=1", "--user-memory=0", "--dedup-memory=0"]);
    command.env("FAILPOINTS", points);
    output_of(command)
}

#[test]
fn a_crash_at_any_step_leaves_the_old_state() {
    let undisturbed = after_a_run(true);
    touch_all(&undisturbed);
    let expected = counts(&undisturbed);
    for (index, (point, passes)) in CRASHES.into_iter().enumerate() {
        let fixture = after_a_run(index % 2 == 0);
        let output = recover_at(&fixture, &format!("{point}={passes}*off->panic"));
        assert_eq!(output.status.code(), Some(1), "{point}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("failpoint {point} panic")), "{point}");
        if index % 2 == 1 {
            assert!(fixture.refused(3, &[]).contains("tidewater recover JOB.toml"), "{point}");
            recover(&fixture, &[]);
        }
        touch_all(&fixture);
        assert_eq!(counts(&fixture), expected, "{point}");
    }
}

#[test]
fn a_swap_whose_reply_is_lost_is_recognised() {
    let fixture = after_a_run(false);
    let output = recover_at(&fixture, "commit.reply=return");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    touch_all(&fixture);
    let undisturbed = after_a_run(true);
    touch_all(&undisturbed);
    assert_eq!(counts(&fixture), counts(&undisturbed));
}

#[test]
fn a_swap_that_failed_leaves_the_old_state() {
    let fixture = after_a_run(true);
    let output = recover_at(&fixture, "commit.swap=return");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(fixture.report(&[])["records"], 0);
}

#[test]
fn recoveries_that_are_killed_at_any_moment_lose_nothing() {
    let undisturbed = after_a_run(true);
    touch_all(&undisturbed);
    let expected = counts(&undisturbed);
    let fixture = after_a_run(false);
    let started = Instant::now();
    recover(&fixture, &[]);
    let longest = started.elapsed();
    for part in 0..12 {
        let mut recovery = command(&fixture, &["--workers=2"]);
        let mut recovery = recovery.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(f64::from(part) / 12.0) + Duration::from_millis(1));
        recovery.kill().unwrap();
        recovery.wait().unwrap();
        assert_eq!(fixture.report(&[])["records"], 0, "a run goes on from either state");
    }
    touch_all(&fixture);
    assert_eq!(counts(&fixture), expected);
}
