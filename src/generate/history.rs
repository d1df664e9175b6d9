//! `generator.json`: which world the data stands for, and which rounds made it so far.
//!
//! It is written before a round begins, with the round still open, and again when it has ended: a round that
//! was broken off can't be mistaken for a whole one. Pretty-printed JSON; unknown keys are refused.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{Round, World};

/// The name of the file beside the data.
pub const FILE_NAME: &str = "generator.json";
const FORMAT: u32 = 1;

/// What was generated so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    format: u32,
    pub world: World,
    pub rounds: Vec<Round>,
    /// A time after everything that was made in order; none while the last round is open.
    pub end_ms: Option<i64>,
}

/// Why the memory of earlier rounds is of no use.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{path}: there is nothing to append to; run once without --append")]
    Missing { path: PathBuf },
    #[error("{path}: can't be read or written")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: is not what a generator wrote")]
    Content { path: PathBuf, source: serde_json::Error },
    #[error("{path}: has format {found}, and this version knows {FORMAT}; generate the data anew")]
    Format { path: PathBuf, found: u32 },
    #[error("{path}: the last round was broken off; remove the data and generate it anew")]
    Open { path: PathBuf },
    #[error(
        "{path}: data was generated here before; add to it with --append, or choose another folder"
    )]
    Exists { path: PathBuf },
}

impl HistoryError {
    /// True if the command line asks for what these data are not for.
    pub fn is_wrong_input(&self) -> bool {
        matches!(self, HistoryError::Missing { .. } | HistoryError::Exists { .. })
    }
}

impl History {
    /// A history before its first round.
    pub fn new(world: World) -> History {
        History { format: FORMAT, world, rounds: Vec::new(), end_ms: None }
    }

    /// Reads the history of the data in `folder`, which must have ended well.
    pub fn read(folder: &Path) -> Result<History, HistoryError> {
        let path = folder.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HistoryError::Missing { path });
            }
            Err(source) => return Err(HistoryError::Io { path, source }),
        };
        let history: History = match serde_json::from_slice(&text) {
            Ok(history) => history,
            Err(source) => return Err(HistoryError::Content { path, source }),
        };
        if history.format != FORMAT {
            return Err(HistoryError::Format { path, found: history.format });
        }
        if history.end_ms.is_none() {
            return Err(HistoryError::Open { path });
        }
        Ok(history)
    }

    /// Refuses a folder in which data was generated.
    pub fn refuse_existing(folder: &Path) -> Result<(), HistoryError> {
        let path = folder.join(FILE_NAME);
        if path.exists() { Err(HistoryError::Exists { path }) } else { Ok(()) }
    }

    /// Writes the history into `folder`, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<(), HistoryError> {
        let path = folder.join(FILE_NAME);
        let content = |source| HistoryError::Content { path: path.clone(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(content)?;
        text.push('\n');
        let staged = folder.join(format!("{FILE_NAME}.new"));
        fs::write(&staged, text)
            .and_then(|()| fs::rename(&staged, &path))
            .map_err(|source| HistoryError::Io { path, source })
    }
}
