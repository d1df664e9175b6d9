//! Topics on disk: `events/N.jsonl` and `users/N.jsonl`, a record a line, appended only.
//!
//! *Owns* the open files and one buffer for each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Record, Topic, World};

/// A buffer is written when it has grown to this size.
const BUFFER_BYTES: usize = 256 << 10;

/// Why records can't be written to a folder.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{path}: can't be {what}")]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    #[error("{path}: holds data already; choose another folder for --out")]
    NotEmpty { path: PathBuf },
    #[error("{path}: ends within a line, so nothing can be appended; remove that line's beginning")]
    OpenLine { path: PathBuf },
}

/// The files of both topics.
#[derive(Debug)]
pub struct Directory {
    events: Vec<Partition>,
    users: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Directory {
    /// Opens the topics below `folder`, which are empty or missing unless they are to be appended to.
    pub fn open(folder: &Path, world: &World, append: bool) -> Result<Directory, DirectoryError> {
        let open = |name: &str, partitions: u32| {
            let topic = folder.join(name);
            if let Err(source) = fs::create_dir_all(&topic) {
                return Err(DirectoryError::Io { path: topic, what: "made", source });
            }
            (0..partitions)
                .map(|number| Partition::open(topic.join(format!("{number}.jsonl")), append))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Directory {
            events: open("events", world.partitions)?,
            users: open("users", world.user_partitions)?,
        })
    }

    /// Appends a record to its partition.
    #[inline]
    pub fn write(&mut self, record: &Record<'_>) -> Result<(), DirectoryError> {
        let topic = match record.topic {
            Topic::Events => &mut self.events,
            Topic::Users => &mut self.users,
        };
        let partition = &mut topic[record.partition as usize];
        partition.buffer.extend_from_slice(record.value);
        partition.buffer.push(b'\n');
        if partition.buffer.len() >= BUFFER_BYTES {
            partition.flush()?;
        }
        Ok(())
    }

    /// Hands everything that was written to the operating system.
    pub fn flush(&mut self) -> Result<(), DirectoryError> {
        self.users.iter_mut().chain(&mut self.events).try_for_each(Partition::flush)
    }
}

impl Partition {
    fn open(path: PathBuf, append: bool) -> Result<Partition, DirectoryError> {
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(source) => {
                return Err(DirectoryError::Io { path, what: "opened", source });
            }
        };
        match ends_with_line(&file) {
            Ok(None) => {}
            Ok(Some(_)) if !append => return Err(DirectoryError::NotEmpty { path }),
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Err(DirectoryError::OpenLine { path }),
            Err(source) => {
                return Err(DirectoryError::Io { path, what: "read", source });
            }
        }
        Ok(Partition { path, file, buffer: Vec::with_capacity(BUFFER_BYTES + 4096) })
    }

    fn flush(&mut self) -> Result<(), DirectoryError> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| DirectoryError::Io {
            path: self.path.clone(),
            what: "written",
            source,
        })
    }
}

/// Whether the last byte of a file is a line end; none where the file is empty.
fn ends_with_line(mut file: &File) -> io::Result<Option<bool>> {
    use std::io::{Read, Seek, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(Some(last == *b"\n"))
}
