//! Files of the lake on a local file system, written so that they survive a power failure.
//!
//! A file is created exclusively, written whole and synced when it is closed. The directory entries
//! that lead to it are remembered and synced together by [`Store::sync_directories`], once per commit,
//! before anything points at the file.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use fail::fail_point;
use iceberg::io::{FileIO, FileIOBuilder};
use iceberg::{Error, ErrorKind};

use super::disk::{Disk, DiskFile, LocalDisk};
use super::local_io::LocalStorageFactory;
use super::names::normal_path;

/// A file operation that failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}{}", way_out(.source))]
pub struct StorageError {
    pub action: &'static str,
    pub path: String,
    pub source: io::Error,
}

impl StorageError {
    pub(crate) fn new(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { action, path: path.as_ref().display().to_string(), source }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Error::new(ErrorKind::Unexpected, error.to_string()).with_source(error)
    }
}

/// What a person can do about this error, as the tail of a message.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space there and run again: the last commit is intact"
        }
        io::ErrorKind::PermissionDenied => "; check the owner and the mode of that directory",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a place that can be written",
        io::ErrorKind::NotFound => "; was it removed by another program?",
        _ => "",
    }
}

/// Directories that wait for their sync.
pub(super) type Directories = Arc<Mutex<BTreeSet<PathBuf>>>;

/// The files of a lake. Clones share the set of directories that wait for their sync.
#[derive(Debug, Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
    io: FileIO,
    directories: Directories,
}

impl Default for Store {
    fn default() -> Self {
        Self::local()
    }
}

impl Store {
    /// A store for plain paths and `file:` locations.
    pub fn local() -> Self {
        Self::on(Arc::new(LocalDisk))
    }

    /// A store on this disk. What the iceberg crate does by itself, it does on the local one.
    pub(crate) fn on(disk: Arc<dyn Disk>) -> Self {
        let directories = Directories::default();
        let factory = LocalStorageFactory::new(Arc::clone(&directories));
        Self { disk, io: FileIOBuilder::new(Arc::new(factory)).build(), directories }
    }

    /// The same files as the iceberg crate sees them.
    pub fn io(&self) -> &FileIO {
        &self.io
    }

    /// Makes the folders of a new table. That they are there already says little: the run that made them may
    /// have crashed before it synced what leads to them.
    pub(crate) fn create_table_folders(&self, location: &str) -> Result<(), StorageError> {
        let root = Path::new(normal_path(location));
        for folder in ["data", "metadata"].map(|name| root.join(name)) {
            make_directories(&*self.disk, &folder, &self.directories)?;
        }
        // The table's own folder, that of its namespace and the warehouse.
        lock(&self.directories).extend(root.ancestors().take(3).map(Path::to_owned));
        Ok(())
    }

    /// Opens a new file; an existing one is an error.
    pub fn create(&self, path: &str) -> Result<NewFile, StorageError> {
        let path = Path::new(normal_path(path));
        let file = create_new(&*self.disk, path, &self.directories)?;
        fail_point!("file.write");
        let disk = Arc::clone(&self.disk);
        Ok(NewFile { path: path.to_owned(), disk, file, bytes: 0, finished: false })
    }

    /// Writes a new file and syncs it; an existing file is an error.
    pub fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let mut file = self.create(path)?;
        file.file.write_all(bytes).map_err(|e| StorageError::new("write", &file.path, e))?;
        file.finish()
    }

    /// The whole content of a file.
    pub fn read(&self, path: &str) -> Result<Bytes, StorageError> {
        let path = normal_path(path);
        let bytes = self.disk.read(Path::new(path));
        bytes.map(Bytes::from).map_err(|e| StorageError::new("read", path, e))
    }

    /// Whether a file is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.disk.exists(Path::new(normal_path(path)))
    }

    /// Deletes a file and says whether it was there.
    pub fn delete(&self, path: &str) -> Result<bool, StorageError> {
        let path = normal_path(path);
        fail_point!("file.delete");
        match self.disk.remove(Path::new(path)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StorageError::new("delete", path, e)),
        }
    }

    /// The files of a folder and when they were last written; of a folder that is not there, none.
    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, SystemTime)>, StorageError> {
        match self.disk.list(folder) {
            Ok(files) => Ok(files.into_iter().map(|(name, at)| (folder.join(name), at)).collect()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(StorageError::new("list", folder, e)),
        }
    }

    /// Makes every file written so far findable after a power failure.
    pub fn sync_directories(&self) -> Result<(), StorageError> {
        let waiting = std::mem::take(&mut *lock(&self.directories));
        fail_point!("lake.sync");
        for directory in &waiting {
            if let Err(e) = self.disk.sync_dir(directory) {
                let error = StorageError::new("sync directory", directory, e);
                lock(&self.directories).extend(waiting);
                return Err(error);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn waiting_directories(&self) -> Vec<PathBuf> {
        lock(&self.directories).iter().cloned().collect()
    }
}

fn lock(directories: &Directories) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
    directories.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates a file, and the directories that lead to it, and remembers what must be synced.
pub(super) fn create_new(
    disk: &dyn Disk,
    path: &Path,
    directories: &Directories,
) -> Result<Box<dyn DiskFile>, StorageError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let file = match disk.create_new(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_directories(disk, parent, directories)?;
            disk.create_new(path)
        }
        other => other,
    };
    let file = file.map_err(|e| StorageError::new("create", path, e))?;
    lock(directories).insert(parent.to_owned());
    Ok(file)
}

/// As `create_dir_all`, but remembers the parent of every directory that was made.
fn make_directories(
    disk: &dyn Disk,
    directory: &Path,
    directories: &Directories,
) -> Result<(), StorageError> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|d| !disk.exists(d)).collect();
    let made = disk.create_dir_all(directory);
    made.map_err(|e| StorageError::new("make directory", directory, e))?;
    let parents = missing.iter().filter_map(|made| made.parent()).map(|parent| {
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
    });
    lock(directories).extend(parents);
    Ok(())
}

/// A new file that is written piece by piece. Unless it is finished it is removed: half a file helps nobody,
/// and on a full disk its space does.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    bytes: u64,
    finished: bool,
}

impl NewFile {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Syncs the file; its directory waits for the barrier.
    pub fn finish(&mut self) -> Result<(), StorageError> {
        fail_point!("file.sync");
        self.file.sync_data().map_err(|e| StorageError::new("sync", &self.path, e))?;
        self.finished = true;
        Ok(())
    }
}

/// Its errors are [`StorageError`]s.
impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fail_point!("data.write");
        let written = self
            .file
            .write(bytes)
            .map_err(|e| io::Error::new(e.kind(), StorageError::new("write", &self.path, e)))?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            drop(self.disk.remove(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_new_file_makes_its_directories_and_remembers_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local();
        let path = folder.path().join("a/b/c.bin");
        store.write_new(&format!("file://{}", path.display()), b"hello").unwrap();
        assert_eq!(store.read(path.to_str().unwrap()).unwrap().as_ref(), b"hello");
        let expected =
            [folder.path().to_owned(), folder.path().join("a"), folder.path().join("a/b")];
        assert_eq!(store.waiting_directories(), expected);
        store.sync_directories().unwrap();
        assert!(store.waiting_directories().is_empty());
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local();
        let path = folder.path().join("x").display().to_string();
        store.write_new(&path, b"1").unwrap();
        let error = store.write_new(&path, b"2").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        let error = block_on(store.io().new_output(&path).unwrap().write(Bytes::new()));
        assert!(error.unwrap_err().to_string().contains(&path));
        assert_eq!(store.read(&path).unwrap().as_ref(), b"1");
    }

    #[test]
    fn iceberg_reads_what_it_wrote_and_shares_the_barrier() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local();
        let path = format!("file:{}/m/y", folder.path().display());
        block_on(async {
            let output = store.io().new_output(&path).unwrap();
            output.write(Bytes::from_static(b"0123456789")).await.unwrap();
            let input = store.io().new_input(&path).unwrap();
            let reader = input.reader().await.unwrap();
            assert_eq!(reader.read(2..5).await.unwrap().as_ref(), b"234");
            assert!(reader.read(5..50).await.is_err());
        });
        assert_eq!(store.waiting_directories().len(), 2);
        assert!(store.delete(&path).unwrap());
        assert!(!store.delete(&path).unwrap());
    }

    #[test]
    fn errors_name_the_path_and_the_way_out() {
        let full = StorageError::new("write", "/w/x", io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.to_string().starts_with("cannot write /w/x: "), "{full}");
        assert!(full.to_string().contains("free space"), "{full}");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let denied = StorageError::new("create", "/w/x", denied).to_string();
        assert!(denied.contains("owner"), "{denied}");
        let gone = Store::local().read("/no/such/file").unwrap_err().to_string();
        assert!(gone.contains("cannot read /no/such/file"), "{gone}");
    }
}
