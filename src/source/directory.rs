//! A topic on disk: in a folder, the file `N.jsonl` is partition N, a line is a record, and its offset is the
//! byte position of the line's start. Lines are appended only.
//!
//! *Owns* the open files and how far each is read. *Does not own* what a line means.
//!
//! A last line without its newline is not a record yet. A bounded run reads to the file sizes as they stood
//! when it was opened; a following one looks at sizes and for new files whenever it has nothing to read.
//! Positions always stand at the start of a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use self::file::PartitionFile;
use super::mark::Marks;
use super::{Offsets, OpenOptions, Poll, Share, Source, SourceError};
use crate::job::SourceSpec;

mod file;
#[cfg(test)]
mod tests;

/// How long a following source rests before it looks at sizes again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reads a folder of JSON lines, its partitions in turns.
#[derive(Debug)]
pub struct DirectorySource {
    topic: Arc<str>,
    path: PathBuf,
    follow: bool,
    accept_loss: bool,
    share: Share,
    /// Sorted by partition.
    files: Vec<PartitionFile>,
    /// Index of the file whose turn it is.
    turn: usize,
    looked: Instant,
    start: Offsets,
    unfinished: Vec<Unfinished>,
}

/// A last line without its newline, which a bounded run leaves unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The partition.
    pub partition: i32,
    /// Where the line starts.
    pub offset: i64,
    /// Its length so far.
    pub bytes: u64,
}

impl DirectorySource {
    /// Opens every partition of the folder `path` and checks the saved positions against the files.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<DirectorySource, SourceError> {
        let topic: Arc<str> = SourceSpec::Directory(path.to_owned()).topic().into();
        let Listing { mut found, ignored } = list(path)?;
        for name in ignored {
            warn!(folder = %path.display(), file = name, "ignored: a partition is named N.jsonl");
        }
        if found.is_empty() {
            warn!(folder = %path.display(), "no partition files (0.jsonl, 1.jsonl, …)");
        }
        found.retain(|(partition, _)| options.share.has(*partition));
        let saved = options.saved.iter().filter(|(partition, _)| options.share.has(**partition));
        for (&partition, &saved) in saved {
            if !found.iter().any(|(number, _)| *number == partition) {
                gone(&topic, path, partition, saved, options.accept_loss)?;
            }
        }
        let mut source = DirectorySource {
            topic,
            path: path.to_owned(),
            follow: options.follow,
            accept_loss: options.accept_loss,
            share: options.share,
            files: Vec::with_capacity(found.len()),
            turn: 0,
            looked: Instant::now(),
            start: Offsets::new(),
            unfinished: Vec::new(),
        };
        for (partition, path) in found {
            let mut file = PartitionFile::open(partition, path)?;
            let saved = options.saved.get(&partition).copied().unwrap_or(0);
            file.start_at(saved, &source.topic, options.accept_loss)?;
            if !options.follow {
                source.unfinished.extend(file.end_at_last_line()?);
            }
            source.start.insert(partition, file.position());
            source.files.push(file);
        }
        for line in &source.unfinished {
            let Unfinished { partition, offset, bytes } = *line;
            let topic = &*source.topic;
            warn!(topic, partition, offset, bytes, "last line has no newline yet: left unread");
        }
        Ok(source)
    }

    /// The lines that a bounded run leaves unread since they have no newline yet.
    pub fn unfinished(&self) -> &[Unfinished] {
        &self.unfinished
    }

    /// Looks at sizes and for new files.
    fn look(&mut self) -> Result<(), SourceError> {
        self.looked = Instant::now();
        for file in &mut self.files {
            file.look(&self.topic)?;
        }
        for (partition, path) in list(&self.path)?.found {
            if !self.share.has(partition) {
                continue;
            }
            if let Err(at) = self.files.binary_search_by_key(&partition, PartitionFile::partition) {
                let mut file = PartitionFile::open(partition, path)?;
                file.start_at(0, &self.topic, false)?;
                self.files.insert(at, file);
            }
        }
        Ok(())
    }
}

impl Source for DirectorySource {
    fn topic(&self) -> Arc<str> {
        Arc::clone(&self.topic)
    }

    fn start(&self) -> Offsets {
        self.start.clone()
    }

    fn ends(&self) -> Offsets {
        self.files.iter().map(|file| (file.partition(), file.end())).collect()
    }

    fn verify(&mut self, marks: &mut Marks) -> Result<bool, SourceError> {
        let known = marks.len();
        for file in &self.files {
            let partition = file.partition();
            let Some(mark) = marks.get(&partition).copied() else { continue };
            // A position that was set back has no line before it any more.
            if mark.offset < file.position() {
                if file.mark(mark.offset)? == mark {
                    continue;
                }
                rewritten(&self.topic, &self.path, partition, mark.offset, self.accept_loss)?;
            }
            marks.remove(&partition);
        }
        marks.retain(|partition, _| self.files.iter().any(|file| file.partition() == *partition));
        Ok(marks.len() < known)
    }

    fn poll(&mut self, timeout: Duration) -> Result<Poll, SourceError> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.follow && self.looked.elapsed() >= LOOK_EVERY {
                self.look()?;
            }
            for _ in 0..self.files.len() {
                let turn = self.turn % self.files.len();
                self.turn = turn + 1;
                if let Some(batch) = self.files[turn].next_batch(&self.topic)? {
                    return Ok(Poll::Batch(batch));
                }
            }
            if !self.follow {
                return Ok(Poll::End);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Poll::Idle);
            }
            rest(left.min(LOOK_EVERY.saturating_sub(self.looked.elapsed())));
        }
    }
}

/// Files say nothing when they grow: a source that follows them has to rest and look again.
#[allow(clippy::disallowed_methods, reason = "a source has a thread of its own and may block")]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// What is in a folder.
#[derive(Debug, Default)]
struct Listing {
    /// The partition files by number.
    found: Vec<(i32, PathBuf)>,
    /// The names of everything else.
    ignored: Vec<String>,
}

fn list(path: &Path) -> Result<Listing, SourceError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            SourceError::Refused(format!(
                "the source folder {} does not exist: make it, or correct the job's `directory`",
                path.display()
            ))
        }
        _ => {
            SourceError::Failed(format!("can't read the source folder {}: {error}", path.display()))
        }
    };
    let Listing { mut found, mut ignored } = Listing::default();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match partition_of(&name) {
            Some(partition) => found.push((partition, entry.path())),
            None => ignored.push(name),
        }
    }
    found.sort_unstable();
    ignored.sort_unstable();
    Ok(Listing { found, ignored })
}

/// The partition that a file name stands for: `N.jsonl`, with N as it is printed.
fn partition_of(name: &str) -> Option<i32> {
    let number = name.strip_suffix(".jsonl")?;
    let partition: i32 = number.parse().ok()?;
    (partition >= 0 && partition.to_string() == number).then_some(partition)
}

/// The last line that was read of a partition is another one now.
fn rewritten(
    topic: &str,
    path: &Path,
    partition: i32,
    offset: i64,
    accept_loss: bool,
) -> Result<(), SourceError> {
    let file = path.join(format!("{partition}.jsonl"));
    if accept_loss {
        warn!(topic, partition, offset, file = %file.display(), "another line than before: loss accepted");
        return Ok(());
    }
    Err(SourceError::Loss(format!(
        "topic {topic}, partition {partition}: the line at offset {offset} of {} is not the one that was \
         read before: the file was written anew, and lines are appended only; bring the old file back, \
         or accept the loss with --accept-loss, which reads on behind that line",
        file.display()
    )))
}

/// A partition that was read before has no file any more.
fn gone(
    topic: &str,
    path: &Path,
    partition: i32,
    saved: i64,
    accept_loss: bool,
) -> Result<(), SourceError> {
    let file = path.join(format!("{partition}.jsonl"));
    if accept_loss {
        warn!(topic, partition, saved, file = %file.display(), "partition file is gone: loss accepted");
        return Ok(());
    }
    Err(SourceError::Loss(format!(
        "topic {topic}, partition {partition}: read up to offset {saved} before, but {} is gone (ends at \
         offset 0): bring it back, or accept the loss with --accept-loss",
        file.display()
    )))
}
