//! `tidewater run`: runs a job, shows how far it is, and reports what it did.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use indicatif::{HumanBytes, HumanCount};

use super::supervise::supervise;
use super::{health, processes, progress};
use crate::driver::{
    self, COMMIT_RECORDS, Controls, Outcome, Report, RunOptions, STEP_RECORDS, State,
};
use crate::job;
use crate::model::{Commit, Epoch};

/// How long a run may take to end after a signal.
const STOP_TIME_MAX: Duration = Duration::from_secs(29);

/// Run a job: read what is new, and commit all tables at once.
///
/// Reads from where the last commit left off to the end of the input as it stood at the start, and exits.
/// With --follow it stays and commits every commit_interval until it is interrupted.
///
/// An interrupt (Ctrl-C) or SIGTERM ends it at a commit, a second one at once. However a run ends, the last
/// commit stands and the next run goes on from there, with any number of workers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Stay at the end of the input, and go on when there is more
    #[arg(long)]
    pub follow: bool,
    /// Go on where a source has lost records since the last commit, which is refused otherwise
    #[arg(long)]
    pub accept_loss: bool,
    /// Start although another run of the job seems to be at work, which can't commit after that
    #[arg(long)]
    pub take_over: bool,
    /// How long to try a broker that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub connect_timeout: u64,
    /// Records of an epoch, the unit of work inside a commit; a batch that a source read is not cut
    #[arg(long, value_name = "RECORDS", default_value_t = STEP_RECORDS, value_parser = positive())]
    pub step_records: u64,
    /// Records after which a commit closes, whatever commit_interval says; a batch is not cut here either
    #[arg(long, value_name = "RECORDS", default_value_t = COMMIT_RECORDS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub commit_records: u64,
    /// Memory for event ids; beyond it they are looked up on disk
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub dedup_memory: usize,
    /// Memory for users and their rows; beyond it they are read from disk again
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub user_memory: usize,
    /// Append what each commit cost to FILE, one JSON object a line: input, state, tables, seconds
    #[arg(long, value_name = "FILE")]
    pub work: Option<PathBuf>,
    /// Answer GET /live and GET /ready on this address: 200, or 503 and why
    #[arg(long, value_name = "ADDR", value_parser = health_address)]
    pub health: Option<SocketAddr>,
    /// Start the run again when it fails, after a pause that doubles from 0.2 s to 30 s
    #[arg(long)]
    pub supervise: bool,
    /// Failures in a row after which a supervised run is given up; one that lived for a minute starts afresh
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub give_up_after: u32,
    #[command(flatten)]
    pub processes: processes::Args,
    /// How the report at the end is printed; processes beside process 0 have no text for people
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// A number of records, at least one.
fn positive() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Runs the job of `args`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.supervise {
        // What is wrong with the job file is said once, and before anything is started.
        job::load(&args.job)?;
        options(args)?;
        return supervise(args.give_up_after);
    }
    let job = job::load(&args.job)?;
    let options = options(args)?;
    let outcome = run_job(job, &options, args.health)?;
    let text = match (args.output, &outcome) {
        (Output::Json, _) => serde_json::to_string(&outcome)? + "\n",
        (Output::Text, Outcome::Report(report)) => describe(report),
        (Output::Text, Outcome::Beside(_)) => String::new(),
    };
    write!(std::io::stdout().lock(), "{text}").context("cannot write the report")
}

fn options(args: &Args) -> anyhow::Result<RunOptions> {
    let defaults = RunOptions::default();
    Ok(RunOptions {
        processes: args.processes.processes()?,
        workers: args.workers.map_or(defaults.workers, usize::from),
        follow: args.follow,
        accept_loss: args.accept_loss,
        take_over: args.take_over,
        connect_timeout: Duration::from_secs(args.connect_timeout),
        step_records: args.step_records,
        commit_records: args.commit_records,
        dedup_bytes_max: args.dedup_memory << 20,
        users_bytes_max: args.user_memory << 20,
        work: args.work.clone(),
        ..defaults
    })
}

/// Runs a job with progress on standard error; an interrupt ends it at a commit.
pub fn run_job(
    job: job::Job,
    options: &RunOptions,
    health: Option<SocketAddr>,
) -> anyhow::Result<Outcome> {
    let controls = Controls::default();
    stop_at_interrupt(&controls.stop)?;
    if let Some(address) = health {
        health::serve(address, &controls)?;
    }
    let (ended, end) = mpsc::channel::<()>();
    let (watched, follow) = (controls.clone(), options.follow);
    let mut before = 0;
    let line = move |passed: Duration| {
        let state = watched.progress.get()?.now();
        let read = state.records.saturating_sub(std::mem::replace(&mut before, state.records));
        let rate = read as f64 / passed.as_secs_f64().max(1e-3);
        Some(progress_line(&state, rate, follow))
    };
    let shown = std::thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || progress::show(&end, line))
        .context("cannot start the thread that shows progress")?;
    let outcome = driver::run(job, options, &controls);
    drop(ended);
    shown.join().ok();
    outcome
}

/// `PORT` alone is a port of the loopback interface.
fn health_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| "expected PORT (on 127.0.0.1) or IP:PORT".to_owned())
}

/// The first signal ends the run at a commit, the second one at once.
fn stop_at_interrupt(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let stop = Arc::clone(stop);
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        tracing::warn!("stopping at the next commit; once more stops at once");
        let limit = std::thread::Builder::new().name("limit".to_owned()).spawn(end_in_time);
        if let Err(error) = limit {
            tracing::warn!(%error, "no limit for the time to stop");
        }
    })
    .context("cannot listen for signals")
}

/// Ends a program that does not come to its end after a signal.
fn end_in_time() {
    let end = Instant::now() + STOP_TIME_MAX;
    while Instant::now() < end {
        std::thread::park_timeout(STOP_TIME_MAX);
    }
    let seconds = STOP_TIME_MAX.as_secs();
    eprintln!("error: no end at a commit within {seconds} s; the last commit stands");
    std::process::exit(1);
}

fn progress_line(state: &State, rate: f64, follow: bool) -> String {
    let (open, commit) = (state.open_epoch, Commit::of(state.open_epoch));
    let epoch = match open {
        Epoch::MAX => "all worked off".to_owned(),
        _ => format!("epoch {commit}.{}", open - commit.first_epoch()),
    };
    let behind =
        if follow { String::new() } else { format!(", {} to read", HumanCount(state.lag)) };
    format!(
        "{} records, {} ({}/s){behind}, {epoch}, commit {}",
        HumanCount(state.records),
        HumanBytes(state.bytes),
        HumanCount(rate as u64),
        state.commit,
    )
}

/// The report for people.
pub fn describe(report: &Report) -> String {
    let totals = &report.totals;
    let mut text = format!(
        "{}: commit {} ({} in this run, incarnation {})\n",
        report.job, report.commit, report.commits, report.incarnation
    );
    text += &format!(
        "  {} event records in {:.2} s ({}/s): {} events, {} duplicates ({} conflicts), {} dead letters\n",
        HumanCount(totals.records),
        report.seconds,
        HumanCount(report.events_per_second as u64),
        HumanCount(totals.events),
        HumanCount(totals.duplicates),
        HumanCount(totals.conflicts),
        HumanCount(totals.dead_letters),
    );
    text += &format!(
        "  {} dimension records, {} changes of current rows, {} of memory at most\n",
        HumanCount(totals.dimension_records),
        HumanCount(totals.changes),
        HumanBytes(report.usage.peak_rss_bytes),
    );
    for (name, table) in &report.tables {
        text += &format!("  {name}: {} rows\n", HumanCount(table.rows));
    }
    text
}
