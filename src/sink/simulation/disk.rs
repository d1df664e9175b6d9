//! A disk in memory that forgets at a power failure what was not synced: files are cut short, their names and
//! those of folders vanish, and names that were deleted come back.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::random::Random;
use super::sim::{Mutant, Shared, Sim};
use crate::lake::disk::{Disk, DiskFile};

/// What stands in every file: what it means is known by its name.
pub(super) const CONTENT: &[u8] = b"tidewater";

/// A file.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// How much of it is written.
    written: usize,
    synced: bool,
    /// Its name is durable.
    named: bool,
    modified: SystemTime,
}

impl File {
    fn is_whole(&self) -> bool {
        self.written == CONTENT.len()
    }
}

#[derive(Debug, Clone, Default)]
struct Folder {
    /// Its name is durable.
    named: bool,
    files: BTreeMap<String, File>,
    /// Names that were made or deleted since the last sync.
    fresh: Vec<String>,
    gone: Vec<(String, File)>,
}

/// All files of the machine.
#[derive(Debug, Default)]
pub(super) struct FileSystem {
    folders: BTreeMap<String, Folder>,
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl FileSystem {
    /// A file system with folders that nothing can take away.
    pub(super) fn new(folders: &[&str]) -> Self {
        let named = |path: &&str| ((*path).to_owned(), Folder { named: true, ..Folder::default() });
        FileSystem { folders: folders.iter().map(named).collect() }
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        let (folder, name) = split(path);
        self.folders.get(folder)?.files.get(name)
    }

    /// Whether a file is there, whole and with every name that leads to it, whatever happens to the power.
    pub(super) fn is_durable(&self, path: &str) -> bool {
        let file = self.file(path).is_some_and(|file| file.is_whole() && file.synced && file.named);
        let mut folder = split(path).0;
        while file && !folder.is_empty() {
            if !self.folders.get(folder).is_some_and(|folder| folder.named) {
                return false;
            }
            folder = split(folder).0;
        }
        file
    }

    /// Whether a file is whole and its content durable.
    pub(super) fn is_finished(&self, path: &str) -> bool {
        self.file(path).is_some_and(|file| file.is_whole() && file.synced)
    }

    /// The files of a folder.
    pub(super) fn names(&self, folder: &str) -> impl Iterator<Item = &String> {
        self.folders.get(folder).into_iter().flat_map(|folder| folder.files.keys())
    }

    /// Puts a file in place at once, as other programs do.
    pub(super) fn put(&mut self, path: &str, modified: SystemTime) {
        let file = File { written: CONTENT.len(), synced: true, named: true, modified };
        let (folder, name) = split(path);
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.files.insert(name.to_owned(), file);
        }
    }

    fn create(&mut self, path: &str, modified: SystemTime) -> io::Result<()> {
        let (folder, name) = split(path);
        let folder = self.folders.get_mut(folder).ok_or_else(not_found)?;
        if folder.files.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = File { written: 0, synced: false, named: false, modified };
        folder.files.insert(name.to_owned(), file);
        folder.fresh.push(name.to_owned());
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        let (folder, name) = split(path);
        let folder = self.folders.get_mut(folder).ok_or_else(not_found)?;
        let file = folder.files.remove(name).ok_or_else(not_found)?;
        if file.named {
            folder.gone.push((name.to_owned(), file));
        }
        Ok(())
    }

    fn sync(&mut self, path: &str) {
        let folder = self.folders.get_mut(path);
        let Some(folder) = folder else { return };
        folder.gone.clear();
        for name in std::mem::take(&mut folder.fresh) {
            if let Some(file) = folder.files.get_mut(&name) {
                file.named = true;
            }
        }
        for (inner, folder) in self.folders.range_mut(format!("{path}/")..format!("{path}0")) {
            folder.named |= split(inner).0 == path;
        }
    }

    /// The power fails. What is left is on the disk, and stays.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let mut lost: Vec<String> = Vec::new();
        for (path, folder) in &mut self.folders {
            if lost.iter().any(|above| path.starts_with(above.as_str()))
                || (!folder.named && random.chance(50))
            {
                lost.push(format!("{path}/"));
                continue;
            }
            folder.named = true;
            folder.fresh.clear();
            for (name, file) in std::mem::take(&mut folder.gone) {
                if random.chance(30) {
                    folder.files.entry(name).or_insert(file);
                }
            }
            folder.files.retain(|_, file| file.named || random.chance(50));
            for file in folder.files.values_mut() {
                if !file.synced {
                    file.written = random.below(file.written + 1);
                }
                (file.named, file.synced) = (true, true);
            }
        }
        self.folders.retain(|path, _| !lost.iter().any(|above| format!("{path}/") == *above));
    }
}

/// The disk as one run sees it.
pub(super) struct SimDisk {
    pub(super) shared: Shared,
    pub(super) run: usize,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk of run {}", self.run)
    }
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stopped() -> io::Error {
    io::Error::other("stopped")
}

impl SimDisk {
    /// Does one call, unless the run stops here.
    fn call<T>(&self, work: impl FnOnce(&mut Sim) -> io::Result<T>) -> io::Result<T> {
        let mut sim = self.shared.lock().unwrap();
        if !sim.goes_on(self.run) {
            return Err(stopped());
        }
        work(&mut sim)
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.call(|sim| {
            let now = sim.file_time();
            sim.files.create(text(path), now)
        })?;
        let (shared, run, path) = (Arc::clone(&self.shared), self.run, text(path).to_owned());
        Ok(Box::new(SimFile { disk: SimDisk { shared, run }, path }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(|sim| {
            let file = sim.files.file(text(path)).ok_or_else(not_found)?;
            Ok(CONTENT[..file.written].to_vec())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|sim| {
            sim.check_removal(self.run, text(path));
            sim.files.remove(text(path))
        })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(String, SystemTime)>> {
        self.call(|sim| {
            let folder = sim.files.folders.get(text(folder)).ok_or_else(not_found)?;
            let listed = folder.files.iter().map(|(name, file)| (name.clone(), file.modified));
            Ok(listed.collect())
        })
    }

    fn exists(&self, path: &Path) -> bool {
        let sim = self.shared.lock().unwrap();
        let path = text(path);
        path.len() < 2 || sim.files.folders.contains_key(path) || sim.files.file(path).is_some()
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.call(|sim| {
            for above in folder.ancestors().map(text).filter(|above| above.len() > 1) {
                sim.files.folders.entry(above.to_owned()).or_default();
            }
            Ok(())
        })
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.call(|sim| {
            if sim.mutant != Some(Mutant::FolderSyncsNothing) {
                sim.files.sync(text(folder));
            }
            Ok(())
        })
    }
}

/// A file that a run writes.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: String,
}

impl SimFile {
    /// Does one call on the file, which is told of the time.
    fn call(&self, work: impl FnOnce(&mut File, SystemTime, Option<Mutant>)) -> io::Result<()> {
        self.disk.call(|sim| {
            let (now, mutant) = (sim.file_time(), sim.mutant);
            let (folder, name) = split(&self.path);
            let folder = sim.files.folders.get_mut(folder);
            let file = folder.and_then(|folder| folder.files.get_mut(name));
            work(file.ok_or_else(not_found)?, now, mutant);
            Ok(())
        })
    }
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(|file, now, _| {
            file.written += bytes.len();
            file.modified = now;
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn sync_data(&mut self) -> io::Result<()> {
        self.call(|file, _, mutant| file.synced = mutant != Some(Mutant::FileSyncsNothing))
    }
}

impl Sim {
    /// The time that files are stamped with.
    pub(super) fn file_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_ms.cast_unsigned())
    }
}
