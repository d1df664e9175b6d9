//! One partition file: chunks of whole lines, read where the position stands.
//!
//! *Owns* the open file and its position, which is always the start of a line. A chunk ends behind its last
//! newline and the rest is read again with the next one; a line longer than a chunk is first searched for its
//! end, so that its bytes are held once.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use memchr::{memchr, memchr_iter, memrchr};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tracing::warn;

use super::super::mark::Mark;
use super::super::{NO_BYTES, NO_TIMESTAMP, RawBatch, RawRecord, SourceError, Span};
use super::Unfinished;

/// What one batch reads, unless a line is longer.
const CHUNK_BYTES: u64 = 1 << 20;
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct PartitionFile {
    partition: i32,
    path: PathBuf,
    file: File,
    /// Device and inode: a file of the same name is not always the same file.
    identity: (u64, u64),
    /// Start of the next line to hand out.
    position: u64,
    /// Bounded: the end to read to. Following: the size as last seen.
    end: u64,
    /// No newline stands between `position` and here.
    searched: u64,
    /// Lines of the last chunk: how many the next one is expected to have.
    lines: usize,
}

impl PartitionFile {
    pub(super) fn open(partition: i32, path: PathBuf) -> Result<PartitionFile, SourceError> {
        let failed = |error| SourceError::Failed(format!("can't open {}: {error}", path.display()));
        // Looked at before it is opened: opening a pipe would wait for its writer.
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(SourceError::Failed(format!("{} is not a regular file", path.display())));
        }
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential) {
            tracing::debug!(file = %path.display(), %error, "no read-ahead");
        }
        let identity = (found.dev(), found.ino());
        let (position, end) = (0, found.len());
        Ok(PartitionFile { partition, path, file, identity, position, end, searched: 0, lines: 0 })
    }

    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    pub(super) fn position(&self) -> i64 {
        self.position as i64
    }

    pub(super) fn end(&self) -> i64 {
        self.end as i64
    }

    /// Sets the position to `saved` if that is the start of a line.
    pub(super) fn start_at(
        &mut self,
        saved: i64,
        topic: &str,
        accept_loss: bool,
    ) -> Result<(), SourceError> {
        let (partition, end) = (self.partition, self.end);
        let wrong = match u64::try_from(saved) {
            Ok(0) => None,
            Ok(offset) if offset > end => Some("is cut short"),
            Ok(offset) if self.read(offset - 1, 1)? != b"\n" => Some("has no line starting there"),
            Ok(_) => None,
            Err(_) => Some("has no such place"),
        };
        self.position = match wrong {
            None => saved as u64,
            Some(what) if !accept_loss => {
                return Err(SourceError::Loss(format!(
                    "topic {topic}, partition {partition}: the saved offset is {saved}, but {} {what} (it \
                     ends at offset {end}): bring the file back, or accept the loss with --accept-loss, \
                     which reads on from the next line or the end as it is",
                    self.path.display()
                )));
            }
            Some(_) => self.next_line_start(u64::try_from(saved).unwrap_or(0))?,
        };
        self.searched = self.position;
        if wrong.is_some() {
            warn!(topic, partition, saved, end, goes_on_at = self.position, "loss accepted");
        }
        Ok(())
    }

    /// The mark of the line that begins at `offset`, before the position.
    pub(super) fn mark(&self, offset: i64) -> Result<Mark, SourceError> {
        let bytes = self.read(offset as u64, self.position - offset as u64)?;
        let line = bytes.split(|byte| *byte == b'\n').next();
        Ok(Mark::of(offset, NO_TIMESTAMP, None, line))
    }

    /// The first start of a line at or behind `offset`, or that of the last line, which may be unfinished.
    fn next_line_start(&mut self, offset: u64) -> Result<u64, SourceError> {
        self.position = offset.min(self.end);
        self.searched = self.position;
        match self.find_newline()? {
            Some(newline) => Ok(newline + 1),
            None => self.last_line_start(0),
        }
    }

    /// Sets the end behind the last newline; what stands behind it is returned.
    pub(super) fn end_at_last_line(&mut self) -> Result<Option<Unfinished>, SourceError> {
        let size = self.end;
        self.end = self.last_line_start(self.position)?;
        let (partition, offset) = (self.partition, self.end as i64);
        let bytes = size - self.end;
        Ok((bytes > 0).then_some(Unfinished { partition, offset, bytes }))
    }

    /// The place behind the last newline at or behind `lower`, which is the start of a line.
    fn last_line_start(&self, lower: u64) -> Result<u64, SourceError> {
        let mut upper = self.end;
        while upper > lower {
            let from = upper.saturating_sub(CHUNK_BYTES / 16).max(lower);
            if let Some(at) = memrchr(b'\n', &self.read(from, upper - from)?) {
                return Ok(from + at as u64 + 1);
            }
            upper = from;
            if self.end - upper > LINE_BYTES_MAX {
                return Err(self.line_too_long(upper));
            }
        }
        Ok(lower)
    }

    /// Looks whether the file has grown, and that it is still the same one.
    pub(super) fn look(&mut self, topic: &str) -> Result<(), SourceError> {
        let what = match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) != self.identity => "was replaced",
            Ok(found) if found.len() < self.end => {
                self.end = found.len();
                "was cut short"
            }
            Ok(found) => {
                self.end = found.len();
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is gone",
            Err(error) => return Err(self.failed(&error)),
        };
        Err(self.changed(topic, what))
    }

    /// The next chunk of whole lines below the end.
    pub(super) fn next_batch(&mut self, topic: &str) -> Result<Option<RawBatch>, SourceError> {
        let mut wanted = CHUNK_BYTES;
        while self.searched < self.end {
            if self.searched > self.position {
                let Some(newline) = self.find_newline()? else { return Ok(None) };
                wanted = wanted.max(newline + 1 - self.position);
            }
            let wanted = wanted.min(self.end - self.position);
            let bytes = self.read(self.position, wanted)?;
            if (bytes.len() as u64) < wanted {
                return Err(self.changed(topic, "was cut short"));
            }
            match memrchr(b'\n', &bytes) {
                Some(last) => return Ok(Some(self.lines(bytes, last + 1))),
                None => self.searched = self.position + wanted,
            }
        }
        Ok(None)
    }

    /// The first `length` bytes as a batch of lines; the last of these bytes is a newline.
    fn lines(&mut self, mut bytes: Vec<u8>, length: usize) -> RawBatch {
        bytes.truncate(length);
        let mut records = Vec::with_capacity(self.lines + self.lines / 16 + 16);
        let mut line = 0;
        for newline in memchr_iter(b'\n', &bytes) {
            records.push(RawRecord {
                offset: (self.position + line as u64) as i64,
                timestamp_ms: NO_TIMESTAMP,
                key: NO_BYTES,
                value: Span { start: line as u32, length: (newline - line) as u32 },
                headers: NO_BYTES,
            });
            line = newline + 1;
        }
        self.lines = records.len();
        self.position += length as u64;
        self.searched = self.position;
        RawBatch { partition: self.partition, bytes, records, next: self.position as i64 }
    }

    /// The first newline at or behind `searched`, which moves there or to the end.
    fn find_newline(&mut self) -> Result<Option<u64>, SourceError> {
        while self.searched < self.end {
            if self.searched - self.position > LINE_BYTES_MAX {
                return Err(self.line_too_long(self.position));
            }
            let bytes = self.read(self.searched, CHUNK_BYTES.min(self.end - self.searched))?;
            match memchr(b'\n', &bytes) {
                Some(at) => {
                    self.searched += at as u64;
                    return Ok(Some(self.searched));
                }
                None if bytes.is_empty() => break,
                None => self.searched += bytes.len() as u64,
            }
        }
        Ok(None)
    }

    /// `length` bytes at `from`, or fewer where the file ends.
    fn read(&self, from: u64, length: u64) -> Result<Vec<u8>, SourceError> {
        let length = length as usize;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = from + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(&error.into())),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    fn failed(&self, error: &std::io::Error) -> SourceError {
        let (path, position) = (self.path.display(), self.position);
        SourceError::Failed(format!("can't read {path} at offset {position}: {error}"))
    }

    fn line_too_long(&self, offset: u64) -> SourceError {
        SourceError::Failed(format!(
            "{}: the line at offset {offset} is longer than {} MiB, the longest that is read: split it, or \
             check that the file holds one JSON document a line",
            self.path.display(),
            LINE_BYTES_MAX >> 20
        ))
    }

    fn changed(&self, topic: &str, what: &str) -> SourceError {
        SourceError::Loss(format!(
            "topic {topic}, partition {}: {} {what} while it was read (read up to offset {}, it ends at \
             offset {}): lines are appended only; bring the file back, or run again with --accept-loss",
            self.partition,
            self.path.display(),
            self.position,
            self.file.metadata().map_or(0, |found| found.len())
        ))
    }
}
