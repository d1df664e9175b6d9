//! `tidewater verify`: the tables are computed anew and compared, row by row.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use indicatif::HumanCount;

use super::progress;
use super::run::Output;
use super::show::Lake;
use crate::verify::{Basis, Progress, Verified, VerifyError, kept_commits, verify};

/// Faults of a commit that are shown to people.
const FAULTS_SHOWN: usize = 20;

/// Compute anew what the tables of a job must hold, and compare row by row.
///
/// Starts from the beginning: from every event in the table of events, and every version of the dimension.
/// From them it computes each aggregate and funnel, in a plain way of its own, and names every row that is
/// missing, too many or different, with the records behind it. It also looks at the tables themselves: every
/// file is there with its size, no id stands twice, offsets go on where they stood, all tables are of one
/// commit, and each changelog adds up to its table.
///
/// With --from source it starts from the topics: it reads their records anew up to the commit's cut, decodes
/// them and settles the copies in a plain way too, and compares the tables of events, of the dimension's
/// versions, of dead letters and of cuts as well. The records must still be there (exit code 3 if they are
/// not).
///
/// Reads what is committed, without waiting for a run that is at work and without disturbing it. Exit code 4
/// if something is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// The tables as they stood at this commit [default: the newest]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub commit: Option<u64>,
    /// Every commit whose snapshots are kept
    #[arg(long, conflicts_with = "commit")]
    pub all: bool,
    /// What the tables are computed from
    #[arg(long, value_enum, default_value = "tables")]
    pub from: From,
    /// How the results are printed: for people, or as one JSON object a line for each commit
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// What the tables are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// The tables of events and of the dimension's versions
    Tables,
    /// The records of the topics, read anew
    Source,
}

/// Verifies what `args` asks for.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let lake = Lake::open(&args.job)?;
    let commits = match args.commit {
        None if args.all => kept_commits(&lake.tables),
        commit => vec![commit.unwrap_or(lake.commit.0)],
    };
    commits.iter().try_for_each(|commit| lake.check_commit(*commit))?;
    let mut faults = 0;
    let mut written = Ok(());
    let mut give = |verified: Verified| {
        faults += verified.faults.len();
        let text = match args.output {
            Output::Json => serde_json::to_string(&verified).unwrap_or_default() + "\n",
            Output::Text => described(&verified),
        };
        if written.is_ok() {
            written = print(&text);
        }
    };
    let from = match args.from {
        From::Tables => Basis::Tables,
        From::Source => Basis::Source,
    };
    let shared = &Progress::default();
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || progress::show(&end, |_| progress_line(shared)));
        let verified = verify(&lake.job, &lake.tables, &commits, from, shared, &mut give);
        drop(ended);
        verified
    })?;
    written?;
    if faults > 0 {
        return Err(VerifyError::Wrong { job: lake.job.name, faults }.into());
    }
    if args.output == Output::Text {
        let seconds = started.elapsed().as_secs_f64();
        print(&format!("{} commits verified in {seconds:.1} s\n", commits.len()))?;
    }
    Ok(())
}

/// How far reading the source is; nothing where it isn't read.
fn progress_line(progress: &Progress) -> Option<String> {
    let [read, records] =
        [&progress.read, &progress.records].map(|number| number.load(Ordering::Relaxed));
    let then = if read >= records { ", comparing" } else { "" };
    let (read, of) = (HumanCount(read), HumanCount(records));
    (records > 0).then(|| format!("read {read} of {of} records{then}"))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the results")
}

/// What was found at a commit, for people.
fn described(verified: &Verified) -> String {
    let tables = verified.rows.iter().map(|(name, rows)| {
        let rows = HumanCount(*rows as u64);
        format!("{name} {rows} rows")
    });
    let events = HumanCount(verified.events as u64);
    let of = std::iter::once(format!("{events} events")).chain(tables).collect::<Vec<_>>();
    let verdict = match verified.faults.len() {
        0 => "right".to_owned(),
        faults => format!("{faults} faults"),
    };
    let mut text = format!("commit {}: {verdict} ({})\n", verified.commit, of.join(", "));
    for fault in verified.faults.iter().take(FAULTS_SHOWN) {
        text += &format!("  {}: {}\n", fault.table, fault.what);
    }
    let more = verified.faults.len().saturating_sub(FAULTS_SHOWN);
    if more > 0 {
        text += &format!("  and {more} more; --output json has all\n");
    }
    for note in &verified.notes {
        text += &format!("  note: {note}\n");
    }
    text
}
