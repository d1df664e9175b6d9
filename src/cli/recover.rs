//! `tidewater recover`: rebuilds lost or damaged state from the tables.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use anyhow::Context;
use indicatif::{HumanBytes, HumanCount};

use super::progress;
use super::run::Output;
use crate::driver::RunOptions;
use crate::job;
use crate::recover::{self, Progress, RecoverOptions, Report};

/// Rebuild the state of a job from its tables.
///
/// For a state folder that is lost, or files in it that are missing or damaged. Reads the tables of events
/// and of the dimension's versions, makes the state anew, compares it with every row of every current table,
/// and puts it in the place of the old in one transaction. The tables and the commit stay as they are, and
/// the next run goes on as if nothing had been lost.
///
/// Refused (exit code 3) where catalog, tables and job are not of one moment, where another program changed a
/// table, and for a job with `events = false`. However it ends, either the old state stands or the new one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Memory for event ids; beyond it they are sorted on disk
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub dedup_memory: usize,
    /// Memory for users and their rows; beyond it they are read from disk again
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub user_memory: usize,
    /// How the report at the end is printed
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Recovers the job of `args`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let job = job::load(&args.job)?;
    let defaults = RunOptions::default();
    let options = RecoverOptions {
        workers: args.workers.map_or(defaults.workers, usize::from),
        busy_timeout: defaults.busy_timeout,
        dedup_bytes_max: args.dedup_memory << 20,
        users_bytes_max: args.user_memory << 20,
    };
    let shared = &Progress::default();
    let (ended, end) = mpsc::channel::<()>();
    let report = std::thread::scope(|scope| {
        scope.spawn(move || progress::show(&end, |_| Some(progress_line(shared))));
        let report = recover::recover(job, &options, shared);
        drop(ended);
        report
    })?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&report)?),
        Output::Text => write!(out, "{}", describe(&report)),
    }
    .context("cannot write the report")
}

fn progress_line(progress: &Progress) -> String {
    let [read, rows] = [&progress.read, &progress.rows].map(|rows| rows.load(Ordering::Relaxed));
    let then = if read == rows && rows > 0 { ", writing and comparing" } else { "" };
    format!("{} of {} rows read{then}", HumanCount(read), HumanCount(rows))
}

/// The report for people.
fn describe(report: &Report) -> String {
    let mut text = format!(
        "{}: state rebuilt at commit {} (incarnation {}) in {:.2} s\n",
        report.job, report.commit, report.incarnation, report.seconds
    );
    text += &format!(
        "  from {} events and {} versions: {} ids, {} users, {} symbols\n",
        HumanCount(report.events),
        HumanCount(report.versions),
        HumanCount(report.ids),
        HumanCount(report.users),
        HumanCount(report.symbols),
    );
    for (name, rows) in &report.rows {
        text += &format!("  rows of {name}: {}\n", HumanCount(*rows));
    }
    text += &format!(
        "  {} files, {}; the next run goes on from here\n",
        HumanCount(report.files),
        HumanBytes(report.bytes)
    );
    text
}
