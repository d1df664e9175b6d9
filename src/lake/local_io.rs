//! The local file system as the iceberg crate wants to see it: what it writes goes through the same barrier
//! of synced directories as everything else.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fail::fail_point;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use iceberg::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::disk::{DiskFile, LocalDisk};
use super::names::normal_path;
use super::storage::{Directories, StorageError, create_new};

/// What iceberg builds its storage from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct LocalStorageFactory {
    #[serde(skip)]
    directories: Directories,
}

impl LocalStorageFactory {
    /// Storage whose files' directories are added to `directories`.
    pub(super) fn new(directories: Directories) -> Self {
        LocalStorageFactory { directories }
    }
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
        let file = create_new(&LocalDisk, path, &self.directories)?;
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
    file: Option<Box<dyn DiskFile>>,
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
        fail_point!("avro.write");
        file.write_all(&bytes).map_err(|e| StorageError::new("write", &self.path, e).into())
    }

    async fn close(&mut self) -> iceberg::Result<()> {
        let Some(mut file) = self.file.take() else { return Err(self.closed()) };
        fail_point!("avro.sync");
        file.sync_data().map_err(|e| StorageError::new("sync", &self.path, e).into())
    }
}
