//! `run --supervise`: the run is a child of this process, and is started again when it fails.
//!
//! Of several processes each is supervised where it runs: when one is lost all of them end, and all start
//! again and wait for each other. What would fail in the same way again (exit codes 2 and 3) is not
//! repeated.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

/// Pauses before a new start: the first, and the longest; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A run that lived so long has not failed in a row with the one before.
const GOOD_AGE: Duration = Duration::from_secs(60);
/// How often the child and the signals are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why a supervised run was given up.
#[derive(Debug, Error)]
pub enum SuperviseError {
    /// Too many failures in a row.
    #[error("given up after {failures} failures in a row; the last one: {reason}")]
    GivenUp {
        /// How many.
        failures: u32,
        /// What the run said last.
        reason: String,
    },
    /// It makes no sense to try again. The exit code is that of the run.
    #[error("not started again: {reason}")]
    Final {
        /// What the run said last.
        reason: String,
        /// Its exit code.
        code: u8,
    },
}

/// Runs this program with the arguments that it has, but for those of the supervisor, until it succeeds.
pub fn supervise(failures_max: u32) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if stopped.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for signals")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let arguments: Vec<OsString> = arguments(std::env::args_os().skip(1));
    let (mut failures, mut pause) = (0, PAUSE_MIN);
    loop {
        let started = Instant::now();
        let mut child = Command::new(&program);
        child.args(&arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        let child = child.spawn().context("cannot start the run")?;
        let (status, reason) = watch(child, &stop)?;
        if status.success() {
            return Ok(());
        }
        if let Some(code @ (2 | 3)) = status.code() {
            return Err(SuperviseError::Final { reason, code: code as u8 }.into());
        }
        if started.elapsed() >= GOOD_AGE {
            (failures, pause) = (0, PAUSE_MIN);
        }
        failures += 1;
        if failures >= failures_max || stop.load(Ordering::SeqCst) {
            return Err(SuperviseError::GivenUp { failures, reason }.into());
        }
        eprintln!("the run has failed ({status}); starting again in {:.1} s", pause.as_secs_f64());
        rest(pause, &stop);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The arguments of the run: those of the supervisor without `--supervise` and `--give-up-after`.
fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut skip = false;
    let is_for_run = |argument: &OsString| {
        let text = argument.to_string_lossy();
        let value = std::mem::replace(&mut skip, text == "--give-up-after");
        !value && text != "--supervise" && !text.starts_with("--give-up-after")
    };
    given.filter(is_for_run).collect()
}

/// Waits for the end of the run, and passes a signal on to it. Gives the last line that it said.
fn watch(mut child: Child, stop: &AtomicBool) -> anyhow::Result<(ExitStatus, String)> {
    let said = child.stderr.take().context("the run has no standard error")?;
    let reader = std::thread::Builder::new().name("stderr".to_owned()).spawn(move || {
        let mut last = String::new();
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if let Some(error) = line.strip_prefix("error: ") {
                last = error.to_owned();
            }
        }
        last
    })?;
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for the run")? {
            break status;
        }
        if stop.load(Ordering::SeqCst) && !told {
            told = true;
            // It may just have ended.
            kill_process(Pid::from_child(&child), Signal::TERM).ok();
        }
        std::thread::park_timeout(LOOK);
    };
    let last = reader.join().unwrap_or_default();
    let reason = if last.is_empty() { status.to_string() } else { last };
    Ok((status, reason))
}

fn rest(pause: Duration, stop: &AtomicBool) {
    let end = Instant::now() + pause;
    while Instant::now() < end && !stop.load(Ordering::SeqCst) {
        std::thread::park_timeout(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_gets_all_arguments_but_those_of_the_supervisor() {
        let given =
            "run --supervise job.toml --give-up-after 3 --workers 2 --give-up-after=4 --follow";
        let left = arguments(given.split(' ').map(OsString::from));
        assert_eq!(left, ["run", "job.toml", "--workers", "2", "--follow"].map(OsString::from));
    }
}
