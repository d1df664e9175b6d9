//! The lock of a job: one run at a time in a state folder, and a mark that tells the next run of a crash.
//!
//! The file `lock` in the state folder is locked by the operating system as long as the run lives. It holds
//! the incarnation of that run, and is emptied when the run ends well. So a run that takes the lock and finds
//! an incarnation in the file knows that an earlier run did not end well, and that files of it may lie
//! about. Where a run that ended well knows of such files, which were too young to be deleted, the file says
//! `later` and the time from which on it makes sense to look again. The mark is not synced: after a power
//! failure it may be gone, and then files stay behind that do no harm.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::refusal::Refused;
use crate::job::Job;
use crate::model::Incarnation;

/// A file that nothing refers to may be deleted when it is this old: a margin, in case that someone still has
/// to do with it.
pub(super) const ORPHAN_AGE_MIN: Duration = Duration::from_secs(3600);

/// What runs that did not end well have left behind in the folders of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// Nothing.
    None,
    /// Files that are too young to be deleted before this time, in milliseconds since 1970 UTC.
    Until(i64),
    /// Nobody has looked yet.
    Unknown,
}

impl Leftovers {
    /// Whether it makes sense to look for them at `now_ms`.
    pub(crate) fn are_due(self, now_ms: i64) -> bool {
        match self {
            Leftovers::None => false,
            Leftovers::Until(due_ms) => due_ms <= now_ms,
            Leftovers::Unknown => true,
        }
    }

    fn of_mark(mark: &str) -> Self {
        if mark.is_empty() {
            return Leftovers::None;
        }
        let due = mark.strip_prefix("later ").and_then(|due| due.strip_suffix('\n')?.parse().ok());
        due.map_or(Leftovers::Unknown, Leftovers::Until)
    }
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    found: Leftovers,
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
            let lock = Lock { file, found: Leftovers::Unknown, path };
            return Ok(lock);
        }
        let mut mark = String::new();
        let read = file.read_to_string(&mut mark);
        read.with_context(|| format!("cannot read lock file {shown}"))?;
        Ok(Lock { file, found: Leftovers::of_mark(&mark), path })
    }

    /// What the runs before this one have left.
    pub(crate) fn found(&self) -> Leftovers {
        self.found
    }

    /// Says that the run `incarnation` is at work.
    pub(crate) fn mark(&self, incarnation: Incarnation) -> anyhow::Result<()> {
        let marked = self.write(&format!("{incarnation}\n"));
        marked.with_context(|| format!("cannot write lock file {}", self.path.display()))
    }

    /// The run has ended well, and knows what is left of earlier ones that did not.
    pub(crate) fn release(self, left: Leftovers) {
        let released = match left {
            Leftovers::None => self.write(""),
            Leftovers::Until(due_ms) => self.write(&format!("later {due_ms}\n")),
            Leftovers::Unknown => Ok(()),
        };
        if let Err(error) = released {
            let lock = self.path.display();
            tracing::warn!(%lock, %error, "not written: the next run looks for files to delete");
        }
    }

    /// Writes over the mark; at no time is there none.
    fn write(&self, mark: &str) -> std::io::Result<()> {
        self.file.write_all_at(mark.as_bytes(), 0)?;
        self.file.set_len(mark.len() as u64)
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_is_left_and_from_when_on_to_look() {
        assert_eq!(Leftovers::of_mark(""), Leftovers::None);
        assert_eq!(Leftovers::of_mark("later 17\n"), Leftovers::Until(17));
        for other in ["3\n", "later 17", "later\n", "later x\n"] {
            assert_eq!(Leftovers::of_mark(other), Leftovers::Unknown, "{other:?}");
        }
        assert!(Leftovers::Unknown.are_due(0) && !Leftovers::None.are_due(i64::MAX));
        assert!(Leftovers::Until(17).are_due(17) && !Leftovers::Until(17).are_due(16));
    }
}
