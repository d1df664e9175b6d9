//! `--processes`, `--process` and `--hostfile`: a run of several processes, as timely's programs spell it.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::cluster::Processes;

/// Without a hostfile process `i` listens on this port of the loopback interface plus `i`.
const FIRST_PORT: u16 = 2101;

/// The processes of a run.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Several processes")]
pub struct Args {
    /// How many processes the run has; start each of them with the same job file and options
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub processes: u16,
    /// Which of them this is, from 0; process 0 commits and prints the report
    #[arg(long, value_name = "I", default_value_t = 0)]
    pub process: u16,
    /// A file with the `host:port` of each process, a line each [default: loopback, ports from 2101]
    ///
    /// State, warehouse and catalog must be on storage that all of them reach. Connections prove a key that
    /// lies in the state folder, and are not encrypted: use addresses of a network that you trust.
    #[arg(long, value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// How long the processes wait for each other
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub join_timeout: u64,
}

/// The processes don't make sense. Exit code 2.
#[derive(Debug, Error)]
pub enum ProcessesError {
    /// There is no such process.
    #[error("--process {process} of --processes {processes}: the processes are numbered from 0")]
    Number {
        /// What was asked for.
        process: u16,
        /// How many there are.
        processes: u16,
    },
    /// The file can't be read.
    #[error("cannot read hostfile {file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// The file does not have an address for every process.
    #[error(
        "hostfile {file} has {lines} addresses, and --processes {processes} needs as many: one `host:port` \
         a line"
    )]
    Lines {
        /// The file.
        file: String,
        /// Its addresses.
        lines: usize,
        /// How many are needed.
        processes: u16,
    },
    /// A line is no address.
    #[error("hostfile {file}: `{line}` is no `host:port`")]
    Address {
        /// The file.
        file: String,
        /// The line.
        line: String,
    },
}

impl Args {
    /// The processes of the run; none for one alone.
    pub fn processes(&self) -> Result<Option<Processes>, ProcessesError> {
        let (process, processes) = (self.process, self.processes);
        if process >= processes {
            return Err(ProcessesError::Number { process, processes });
        }
        if processes == 1 {
            return Ok(None);
        }
        let addresses = match &self.hostfile {
            Some(file) => self.addresses(file)?,
            None => (0..processes).map(|i| format!("127.0.0.1:{}", FIRST_PORT + i)).collect(),
        };
        Ok(Some(Processes {
            process: process.into(),
            addresses,
            join_timeout: Duration::from_secs(self.join_timeout),
        }))
    }

    fn addresses(&self, file: &std::path::Path) -> Result<Vec<String>, ProcessesError> {
        let name = || file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ProcessesError::Unreadable { file: name(), error })?;
        let lines = text.lines().map(str::trim);
        let lines: Vec<&str> =
            lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if lines.len() != usize::from(self.processes) {
            let (lines, processes) = (lines.len(), self.processes);
            return Err(ProcessesError::Lines { file: name(), lines, processes });
        }
        let is_address = |line: &str| {
            line.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        if let Some(line) = lines.iter().find(|line| !is_address(line)) {
            return Err(ProcessesError::Address { file: name(), line: (*line).to_owned() });
        }
        Ok(lines.into_iter().map(str::to_owned).collect())
    }
}
