//! The lock of a job: one run at a time in a state folder, and a mark that tells the next run of a crash.
//!
//! The file `lock` in the state folder is locked by the operating system as long as the run lives. It holds
//! the incarnation of that run, and is emptied when the run ends well. So a run that takes the lock and finds
//! something in the file knows that an earlier run did not end well, and that files of it may lie about. The
//! mark is not synced: after a power failure it may be gone, and then files stay behind that do no harm.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::refusal::Refused;
use crate::job::Job;
use crate::model::Incarnation;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    marked: bool,
}

impl Lock {
    /// Takes the lock of `job`, or says who has it. To `take_over` is to make a new lock file beside the one
    /// that another run holds: from the next incarnation on that run can't commit.
    pub(crate) fn take(job: &Job, take_over: bool) -> anyhow::Result<Self> {
        let path = job.lake.state.join("lock");
        let shown = path.display();
        let mut file = open(&path)?;
        if !is_locked(&file).with_context(|| format!("cannot lock {shown}"))? {
            if !take_over {
                let (job, lock) = (job.name.clone(), shown.to_string());
                return Err(Refused::AtWork { job, lock }.into());
            }
            tracing::warn!(job = job.name, "taken over from a run that can't commit any more");
            fs::remove_file(&path).with_context(|| format!("cannot delete {shown}"))?;
            file = open(&path)?;
            is_locked(&file).with_context(|| format!("cannot lock {shown}"))?;
            let lock = Lock { file, marked: true, path };
            return Ok(lock);
        }
        let metadata = file.metadata();
        let metadata = metadata.with_context(|| format!("cannot look at {shown}"))?;
        Ok(Lock { file, marked: metadata.len() > 0, path })
    }

    /// Whether a run before this one did not end well.
    pub(crate) fn tells_of_crash(&self) -> bool {
        self.marked
    }

    /// Says that the run `incarnation` is at work. An earlier mark is written over, never taken away.
    pub(crate) fn mark(&self, incarnation: Incarnation) -> anyhow::Result<()> {
        let mark = format!("{incarnation}\n");
        let marked = self.file.write_all_at(mark.as_bytes(), 0);
        marked.with_context(|| format!("cannot write lock file {}", self.path.display()))
    }

    /// The run has ended well. The mark goes if nothing is left of earlier runs that did not.
    pub(crate) fn release(self, nothing_left: bool) {
        if nothing_left && let Err(error) = self.file.set_len(0) {
            let lock = self.path.display();
            tracing::warn!(%lock, %error, "not emptied: the next run looks for files to delete");
        }
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("cannot open lock file {}", path.display()))
}

/// Locks the file unless another run holds it.
fn is_locked(file: &File) -> rustix::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}
