//! `tidewater demo`: from nothing to tables in one command, and what to try next.

mod story;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use thiserror::Error;

use super::generate;
use super::run::{describe, run_job};
use super::show::Lake;
use crate::driver::{Outcome, Report, RunOptions};
use crate::generate::History;
use crate::generate::history::FILE_NAME;
use crate::job;

/// Events of the demonstration unless something else is asked for.
const EVENTS: &str = "1M";

/// See it work: make events, run a job over them, and look at its tables.
///
/// Makes a folder with synthetic events and users of a subscription business and a job file that reads
/// them, runs the job, prints what is in its tables, and says what to try next. Needs nothing but some disk
/// space: about 400 MiB for a million events.
///
/// Where the folder holds a demonstration already, it goes on with it: the job reads only what is new.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; it is made, and must be empty if it exists
    #[arg(long, value_name = "DIR", default_value = "tidewater-demo")]
    pub dir: PathBuf,
    /// Event records to make, as in 5M or 20k [default: 1M]
    #[arg(long, value_name = "RECORDS")]
    pub events: Option<String>,
    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
}

/// Why the folder of a demonstration can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DemoError {
    /// Something else is in it.
    #[error("{} is not empty and holds no demonstration; name another folder with --dir", .0.display())]
    Foreign(PathBuf),
    /// It is there, and `--events` would have no effect.
    #[error(
        "--events: {0} holds a demonstration already; leave --events out to go on with it, \
         or remove the folder to start afresh: rm -r {0}"
    )]
    Made(String),
    /// The generator was stopped half-way.
    #[error(
        "making the events in {0} was broken off; remove the folder and start afresh: rm -r {0}"
    )]
    Broken(String),
}

impl DemoError {
    /// True where the command line asks for what can't be.
    pub(super) fn is_wrong_input(&self) -> bool {
        matches!(self, DemoError::Foreign(_) | DemoError::Made(_))
    }
}

/// What is to be done with the folder.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Make events there.
    Make,
    /// Run its job again.
    GoOn,
}

/// Looks at the folder, changes nothing.
fn plan(dir: &Path, wants_events: bool) -> anyhow::Result<Plan> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Plan::Make),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: can't be read", dir.display()));
        }
    };
    if entries.next().is_none() {
        return Ok(Plan::Make);
    }
    let made = dir.join(FILE_NAME).exists();
    if !made {
        return Err(DemoError::Foreign(dir.to_owned()).into());
    }
    // The job file is the last that is written.
    if History::read(dir).is_err() || !dir.join("job.toml").exists() {
        return Err(DemoError::Broken(story::quoted(&dir.display().to_string())).into());
    }
    if wants_events {
        return Err(DemoError::Made(story::quoted(&dir.display().to_string())).into());
    }
    Ok(Plan::GoOn)
}

/// The options of `tidewater generate`, to be filled as if they had been typed.
#[derive(Debug, Parser)]
struct Typed {
    #[command(flatten)]
    args: generate::Args,
}

/// Makes the data if there is none, runs the job, and tells about it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dir = &args.dir;
    let mut out = stdout();
    match plan(dir, args.events.is_some())? {
        Plan::Make => {
            let events = args.events.as_deref().unwrap_or(EVENTS);
            let typed = typed(dir, events);
            writeln!(out, "Making {events} event records in {} …", dir.display())?;
            generate::run(&typed)?;
        }
        Plan::GoOn => {
            let dir = dir.display();
            writeln!(out, "{dir} is there already: going on with it (remove it to start afresh).")?;
        }
    }
    let file = dir.join("job.toml");
    writeln!(out, "\nRunning the job {} …", file.display())?;
    let mut options = RunOptions::default();
    options.workers = args.workers.map_or(options.workers, usize::from);
    let Outcome::Report(report) = run_job(job::load(&file)?, &options, None)? else {
        bail!("the only process has no report");
    };
    write!(out, "{}", describe(&report))?;
    tell(&file, &report, &mut out)
}

/// Ends the process with a message where `events` is no number.
fn typed(dir: &Path, events: &str) -> generate::Args {
    let words = ["generate".as_ref(), "--events".as_ref(), events.as_ref(), "--job".as_ref()];
    let words = words.into_iter().chain(["--out".as_ref(), dir.as_os_str()]);
    Typed::try_parse_from(words).unwrap_or_else(|error| error.exit()).args
}

fn tell(file: &Path, report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    let lake = Lake::open(file)?;
    let regional = lake.table("regional")?;
    let funnel = lake.table("signup_funnel")?;
    writeln!(out, "\n{}", story::totals(regional)?)?;
    writeln!(out, "\n{}", story::newest_rows(regional)?)?;
    writeln!(out, "\n{}", story::conversion(funnel)?)?;
    let me = std::env::args().next().unwrap_or_else(|| "tidewater".to_owned());
    let next = story::Next {
        me: &me,
        file,
        commit: report.commit,
        catalog: &lake.job.lake.catalog,
        table: &regional.full_name(),
        metadata: &regional.metadata_location,
    };
    write!(out, "\n{next}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_empty_folder_is_filled_and_others_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("demo");
        assert_eq!(plan(&dir, true).unwrap(), Plan::Make);
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(plan(&dir, false).unwrap(), Plan::Make);
        std::fs::write(dir.join("thesis.txt"), "years of work").unwrap();
        let refused = plan(&dir, false).unwrap_err();
        assert_eq!(refused.downcast_ref(), Some(&DemoError::Foreign(dir)));
    }

    #[test]
    fn a_demonstration_is_gone_on_with_unless_it_is_broken_or_other_events_are_wanted() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let fails = |wants| plan(dir, wants).unwrap_err().downcast::<DemoError>().unwrap();
        std::fs::write(dir.join(FILE_NAME), "{}").unwrap();
        assert!(matches!(fails(false), DemoError::Broken(_)));
        std::fs::remove_file(dir.join(FILE_NAME)).unwrap();
        generate::run(&typed(dir, "100")).unwrap();
        assert_eq!(plan(dir, false).unwrap(), Plan::GoOn);
        assert!(matches!(fails(true), DemoError::Made(_)));
        std::fs::remove_file(dir.join("job.toml")).unwrap();
        assert!(matches!(fails(false), DemoError::Broken(_)));
    }
}
