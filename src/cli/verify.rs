//! `tidewater verify`: the tables are computed anew and compared, row by row.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use indicatif::HumanCount;

use super::run::Output;
use super::show::Lake;
use crate::verify::{Verified, VerifyError, kept_commits, verify};

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
    /// How the results are printed: for people, or as one JSON object a line for each commit
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
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
    verify(&lake.job, &lake.tables, &commits, &mut |verified| {
        faults += verified.faults.len();
        let text = match args.output {
            Output::Json => serde_json::to_string(&verified).unwrap_or_default() + "\n",
            Output::Text => described(&verified),
        };
        if written.is_ok() {
            written = print(&text);
        }
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
    text
}
