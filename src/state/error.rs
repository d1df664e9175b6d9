//! What can go wrong with state files; every message names the file and the way out.

use std::io;
use std::path::{Path, PathBuf};

/// An error of reading, writing or merging slabs.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bytes of a slab are not what was written, or not what the manifest describes.
    #[error(
        "state file {} is damaged: {what}; rebuild the state from the tables with \
         `tidewater recover JOB.toml`, or restore the file from a backup",
        file.display()
    )]
    Damaged { file: PathBuf, what: String },

    /// A slab that the manifest names is not there.
    #[error(
        "state file {} is missing, though the job's last commit refers to it; rebuild the state \
         from the tables with `tidewater recover JOB.toml`, or restore the file from a backup",
        file.display()
    )]
    Missing { file: PathBuf },

    /// The operating system refused an operation.
    #[error("cannot {action} {}; check the disk and the permissions of the state folder", file.display())]
    Io { action: &'static str, file: PathBuf, source: io::Error },

    /// A layout, a row or a batch of keys that the caller may not pass.
    #[error("state collection {collection:?}: {what}")]
    Misuse { collection: String, what: String },

    /// Slabs of one generation whose commits overlap, so that "the newest" means nothing.
    #[error(
        "state collection {collection:?}: the commits of {older} and {newer} overlap; the state \
         manifest is inconsistent; rebuild the state from the tables with \
         `tidewater recover JOB.toml`, or restore the catalog from a backup"
    )]
    Overlap { collection: String, older: String, newer: String },

    /// A merge was asked to stop; its inputs are untouched and its output is gone.
    #[error("the merge of state collection {collection:?} was stopped")]
    Stopped { collection: String },
}

impl StateError {
    pub(crate) fn damaged(file: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), what: what.into() }
    }

    pub(crate) fn misuse(collection: &str, what: impl Into<String>) -> Self {
        Self::Misuse { collection: collection.to_owned(), what: what.into() }
    }

    pub(crate) fn io(action: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { action, file: file.to_owned(), source }
    }

    /// An error of reading from a slab: a file that ends too early is damaged, not unlucky.
    pub(crate) fn read(file: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::damaged(file, "it is cut short"),
            io::ErrorKind::NotFound => Self::Missing { file: file.to_owned() },
            _ => Self::io("read", file, source),
        }
    }
}
