//! Files of the lake on a local file system, written so that they survive a power failure.
//!
//! A file is created exclusively, written whole and synced when it is closed. The directory entries
//! that lead to it are remembered and synced together by [`Store::sync_directories`], once per commit,
//! before anything points at the file.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

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

type Directories = Arc<Mutex<BTreeSet<PathBuf>>>;

/// The files of a lake. Clones share the set of directories that wait for their sync.
#[derive(Debug, Clone)]
pub struct Store {
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
        let directories = Directories::default();
        let factory = LocalStorageFactory { directories: Arc::clone(&directories) };
        Self { io: FileIOBuilder::new(Arc::new(factory)).build(), directories }
    }

    /// The same files as the iceberg crate sees them.
    pub fn io(&self) -> &FileIO {
        &self.io
    }

    /// Writes a new file and syncs it; an existing file is an error.
    pub fn write_new(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let path = Path::new(normal_path(path));
        let mut file = create_new(path, &self.directories)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        written.map_err(|e| {
            // Half a file helps nobody, and on a full disk its space does.
            drop(fs::remove_file(path));
            StorageError::new("write", path, e)
        })
    }

    /// The whole content of a file.
    pub fn read(&self, path: &str) -> Result<Bytes, StorageError> {
        let path = normal_path(path);
        fs::read(path).map(Bytes::from).map_err(|e| StorageError::new("read", path, e))
    }

    /// Deletes a file and says whether it was there.
    pub fn delete(&self, path: &str) -> Result<bool, StorageError> {
        let path = normal_path(path);
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StorageError::new("delete", path, e)),
        }
    }

    /// Makes every file written so far findable after a power failure.
    pub fn sync_directories(&self) -> Result<(), StorageError> {
        let waiting = std::mem::take(&mut *lock(&self.directories));
        for directory in &waiting {
            let synced = File::open(directory).and_then(|d| d.sync_all());
            if let Err(e) = synced {
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
fn create_new(path: &Path, directories: &Directories) -> Result<File, StorageError> {
    let open = || OpenOptions::new().write(true).create_new(true).open(path);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_directories(parent, directories)?;
            open()
        }
        other => other,
    };
    let file = file.map_err(|e| StorageError::new("create", path, e))?;
    lock(directories).insert(parent.to_owned());
    Ok(file)
}

/// As `create_dir_all`, but remembers the parent of every directory that was made.
fn make_directories(directory: &Path, directories: &Directories) -> Result<(), StorageError> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|d| !d.exists()).collect();
    fs::create_dir_all(directory).map_err(|e| StorageError::new("make directory", directory, e))?;
    let parents = missing.iter().filter_map(|made| made.parent()).map(|parent| {
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
    });
    lock(directories).extend(parents);
    Ok(())
}

/// What iceberg builds its storage from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct LocalStorageFactory {
    #[serde(skip)]
    directories: Directories,
}

#[typetag::serde(name = "tidewater-local")]
impl StorageFactory for LocalStorageFactory {
    fn build(&self, _config: &StorageConfig) -> iceberg::Result<Arc<dyn Storage>> {
        Ok(Arc::new(LocalStorage { directories: Arc::clone(&self.directories) }))
    }
}

/// iceberg's view of the store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct LocalStorage {
    #[serde(skip)]
    directories: Directories,
}

#[async_trait]
#[typetag::serde(name = "tidewater-local")]
impl Storage for LocalStorage {
    async fn exists(&self, path: &str) -> iceberg::Result<bool> {
        Ok(Path::new(normal_path(path)).exists())
    }

    async fn metadata(&self, path: &str) -> iceberg::Result<FileMetadata> {
        let path = normal_path(path);
        let size = fs::metadata(path).map_err(|e| StorageError::new("look at", path, e))?.len();
        Ok(FileMetadata { size })
    }

    async fn read(&self, path: &str) -> iceberg::Result<Bytes> {
        let path = normal_path(path);
        let bytes = fs::read(path).map_err(|e| StorageError::new("read", path, e))?;
        Ok(Bytes::from(bytes))
    }

    async fn reader(&self, path: &str) -> iceberg::Result<Box<dyn FileRead>> {
        let path = normal_path(path);
        let file = File::open(path).map_err(|e| StorageError::new("open", path, e))?;
        Ok(Box::new(LocalReader { path: path.to_owned(), file: Mutex::new(file) }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> iceberg::Result<()> {
        let mut writer = self.writer(path).await?;
        writer.write(bytes).await?;
        writer.close().await
    }

    async fn writer(&self, path: &str) -> iceberg::Result<Box<dyn FileWrite>> {
        let path = Path::new(normal_path(path));
        let file = create_new(path, &self.directories)?;
        Ok(Box::new(LocalWriter { path: path.to_owned(), file: Some(file) }))
    }

    async fn delete(&self, path: &str) -> iceberg::Result<()> {
        let path = normal_path(path);
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::new("delete", path, e).into())
            }
            _ => Ok(()),
        }
    }

    async fn delete_prefix(&self, path: &str) -> iceberg::Result<()> {
        let message = format!("{path} is not deleted: whole directories never are");
        Err(Error::new(ErrorKind::FeatureUnsupported, message))
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> iceberg::Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> iceberg::Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> iceberg::Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

/// A file that is read by ranges.
#[derive(Debug)]
struct LocalReader {
    path: String,
    file: Mutex<File>,
}

#[async_trait]
impl FileRead for LocalReader {
    async fn read(&self, range: Range<u64>) -> iceberg::Result<Bytes> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| StorageError::new("read", &self.path, e))?;
        Ok(Bytes::from(bytes))
    }
}

/// A file that is synced when it is closed.
#[derive(Debug)]
struct LocalWriter {
    path: PathBuf,
    file: Option<File>,
}

impl LocalWriter {
    fn closed(&self) -> Error {
        let message = format!("{} is closed already", self.path.display());
        Error::new(ErrorKind::Unexpected, message)
    }
}

#[async_trait]
impl FileWrite for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> iceberg::Result<()> {
        let Some(file) = &mut self.file else { return Err(self.closed()) };
        file.write_all(&bytes).map_err(|e| StorageError::new("write", &self.path, e).into())
    }

    async fn close(&mut self) -> iceberg::Result<()> {
        let Some(file) = self.file.take() else { return Err(self.closed()) };
        file.sync_data().map_err(|e| StorageError::new("sync", &self.path, e).into())
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
