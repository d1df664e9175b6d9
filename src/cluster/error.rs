//! Why the processes of a run don't come, or don't stay, together.

use thiserror::Error;

/// What goes wrong between processes.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Nothing can listen there.
    #[error(
        "process {process} can't listen on {address}: {error}; is another run there? correct the hostfile"
    )]
    Listen {
        /// This process.
        process: usize,
        /// Its address.
        address: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// Somebody did not come in time.
    #[error(
        "{who} did not join within {seconds} s: start it with the same --processes and hostfile, \
         or give it more time with --join-timeout{last}"
    )]
    Absent {
        /// The processes that are missing.
        who: String,
        /// How long they had.
        seconds: u64,
        /// What was heard last, with a separator in front; or nothing.
        last: String,
    },
    /// The processes don't fit together: exit code 3.
    #[error("process {process} is refused: {why}")]
    Refused {
        /// The process that may not join.
        process: usize,
        /// What does not fit.
        why: String,
    },
    /// The key can't be written or read.
    #[error("cannot {action} {file}: {error}")]
    Key {
        /// Read or write.
        action: &'static str,
        /// The file.
        file: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// Another process has failed and said so.
    #[error("process {process} failed: {message}")]
    Failed {
        /// The process.
        process: usize,
        /// Its error.
        message: String,
        /// It was a refusal: exit code 3.
        refused: bool,
    },
    /// A connection has ended or is silent.
    #[error(
        "process {process} at {address} is lost: {why}; the last commit stands, \
         start all processes again to go on"
    )]
    Lost {
        /// The process.
        process: usize,
        /// Its address.
        address: String,
        /// How that was noticed.
        why: String,
    },
}

impl ClusterError {
    /// True for what would not be safe to go on with.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ClusterError::Refused { .. } | ClusterError::Failed { refused: true, .. })
    }
}
