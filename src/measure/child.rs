//! Runs of this program as processes of their own, and what they cost.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::driver::Usage;
use crate::sink::{StateWork, TableWork};

/// What a run cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cost {
    /// Wall time, from the start of the first process to the end of the last one.
    pub seconds: f64,
    /// What it did in that time.
    #[serde(flatten)]
    pub effort: Effort,
    /// What all its processes used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// What a run did, summed over its commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// Records of both topics.
    pub records: u64,
    /// Events admitted.
    pub events: u64,
    /// Keys looked up in slabs of state.
    pub keys_sought: u64,
    /// Bytes of state that were read.
    pub state_bytes_read: u64,
    /// Rows of state that were new or changed.
    pub state_rows_written: u64,
    /// Bytes of their slabs, and of those that were merged.
    pub state_bytes_written: u64,
    /// Rows that entered or left current tables.
    pub changes: u64,
    /// Data files of all tables that were written.
    pub files_written: u64,
    /// Their bytes.
    pub table_bytes_written: u64,
}

/// The part of a run's report that is of interest here.
#[derive(Debug, Deserialize)]
struct Report {
    records: u64,
    dimension_records: u64,
    events: u64,
    changes: u64,
    #[serde(flatten)]
    usage: Usage,
    state_work: BTreeMap<String, StateWork>,
    table_work: BTreeMap<String, TableWork>,
}

impl Report {
    fn effort(&self) -> Effort {
        let state = |of: fn(&StateWork) -> u64| self.state_work.values().map(of).sum();
        let tables = |of: fn(&TableWork) -> u64| self.table_work.values().map(of).sum();
        Effort {
            records: self.records + self.dimension_records,
            events: self.events,
            keys_sought: state(|work| work.keys_sought),
            state_bytes_read: state(|work| work.bytes_read),
            state_rows_written: state(|work| work.rows_written),
            state_bytes_written: state(|work| work.bytes_written + work.bytes_merged),
            changes: self.changes,
            files_written: tables(|work| work.files_added),
            table_bytes_written: tables(|work| work.bytes_written),
        }
    }
}

/// Starts this program's verbs.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// This very program.
    pub fn this() -> anyhow::Result<Program> {
        let path = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Program { path })
    }

    /// Runs a verb to its end; gives what it wrote to standard output.
    pub fn call<S: AsRef<OsStr>>(&self, words: &[S]) -> anyhow::Result<Vec<u8>> {
        self.end(self.start(words)?, words)
    }

    fn start<S: AsRef<OsStr>>(&self, words: &[S]) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start {}", self.path.display()))
    }

    fn end<S: AsRef<OsStr>>(&self, child: Child, words: &[S]) -> anyhow::Result<Vec<u8>> {
        let done = child.wait_with_output().context("cannot wait for a process of this program")?;
        if !done.status.success() {
            let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("tidewater {} failed ({}): {}", words.join(" "), done.status, said.trim());
        }
        Ok(done.stdout)
    }

    /// Runs a job in one process.
    pub fn run(&self, job: &Path, workers: Option<u16>) -> anyhow::Result<Cost> {
        let started = Instant::now();
        let said = self.call(&run_words(job, workers))?;
        cost(&said, started)
    }

    /// Runs a job in several processes on this machine; a file names their addresses.
    pub fn run_processes(
        &self,
        job: &Path,
        workers: u16,
        processes: u16,
        hosts: &Path,
    ) -> anyhow::Result<Cost> {
        let started = Instant::now();
        let words = |process: u16| {
            let mut words = run_words(job, Some(workers));
            words.extend(["--processes".into(), processes.to_string().into()]);
            words.extend(["--process".into(), process.to_string().into()]);
            words.extend(["--hostfile".into(), hosts.into()]);
            words
        };
        let children: Vec<Child> =
            (0..processes).map(|process| self.start(&words(process))).collect::<Result<_, _>>()?;
        // One that fails ends the others, so all are waited for before anything is said.
        let ended: Vec<anyhow::Result<Vec<u8>>> =
            (0..).zip(children).map(|(process, child)| self.end(child, &words(process))).collect();
        let said: Vec<Vec<u8>> = ended.into_iter().collect::<Result<_, _>>()?;
        let mut cost = cost(&said[0], started)?;
        for beside in &said[1..] {
            cost.usage.add(parsed(beside)?);
        }
        Ok(cost)
    }
}

fn run_words(job: &Path, workers: Option<u16>) -> Vec<OsString> {
    let mut words = vec!["run".into(), job.as_os_str().to_owned()];
    words.extend(["--output", "json"].map(Into::into));
    if let Some(workers) = workers {
        words.extend(["--workers".into(), workers.to_string().into()]);
    }
    words
}

fn cost(said: &[u8], started: Instant) -> anyhow::Result<Cost> {
    let seconds = started.elapsed().as_secs_f64();
    let report: Report = parsed(said)?;
    Ok(Cost { seconds, effort: report.effort(), usage: report.usage })
}

fn parsed<T: DeserializeOwned>(said: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(said).context("a run's report is not what it should be")
}
