//! One version of a table, as we last loaded, created or committed it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fail::fail_point;
use futures::executor::block_on;
use iceberg::spec::{FormatVersion, ManifestFile, ManifestList, Snapshot, TableMetadata};
use iceberg::{Error, ErrorKind};

use super::manifests::{self, LiveEntry};
use super::metadata_file;
use super::names::Origin;
use super::schema::{SchemaError, TableSpec};
use super::storage::{StorageError, Store};

/// Why a table could not be read, created or changed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("table {table}: cannot {action}: {}", plain(error))]
    Iceberg { table: String, action: &'static str, error: Box<Error> },
    #[error("table {table} has format version {found}; only version 2 is written")]
    Version { table: String, found: FormatVersion },
    #[error(
        "table {table}: {missing} of the files to be replaced are not in its current snapshot, \
         {example} among them: the table was changed by another program, or the state is not its own"
    )]
    NotLive { table: String, missing: usize, example: String },
    #[error("table {table}: a commit that adds and removes nothing makes no snapshot")]
    Empty { table: String },
    #[error("table {table}: snapshot {snapshot} is still in use and cannot be expired")]
    InUse { table: String, snapshot: i64 },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What happened to a file, if that is behind an error of the table format's library; it says it several
/// times over.
fn plain(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(of_file) = error.downcast_ref::<StorageError>() {
            return of_file.to_string();
        }
        cause = error.source();
    }
    error.to_string()
}

/// A table at one version of its metadata.
#[derive(Debug, Clone)]
pub struct LoadedTable {
    pub namespace: String,
    pub name: String,
    pub metadata_location: String,
    pub metadata: Arc<TableMetadata>,
    /// Of the current snapshot, newest first, with their sequence numbers.
    pub(crate) manifests: Arc<Vec<ManifestFile>>,
    /// Live entries of manifests that were read or written to replace files, by manifest path.
    pub(crate) entries: BTreeMap<String, Arc<Vec<Arc<LiveEntry>>>>,
}

impl LoadedTable {
    /// Writes the first metadata of a new table. The catalog does not know it yet.
    pub fn create(
        store: &Store,
        spec: &TableSpec,
        location: &str,
        origin: &Origin,
    ) -> Result<Self, TableError> {
        let metadata = spec.create_metadata(location)?;
        store.create_table_folders(location)?;
        let table = Self {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            metadata_location: String::new(),
            metadata: Arc::new(metadata),
            manifests: Arc::default(),
            entries: BTreeMap::new(),
        };
        let metadata_location = table.write_metadata(store, &table.metadata, origin, 0)?;
        Ok(Self { metadata_location, ..table })
    }

    /// Loads a table from the location that the catalog gave.
    pub fn load(
        store: &Store,
        namespace: &str,
        name: &str,
        metadata_location: &str,
    ) -> Result<Self, TableError> {
        let table = format!("{namespace}.{name}");
        let wrap = |action| {
            let table = table.clone();
            move |error| TableError::Iceberg { table, action, error: Box::new(error) }
        };
        let metadata = block_on(TableMetadata::read_from(store.io(), metadata_location))
            .map_err(wrap("read its metadata"))?;
        if metadata.format_version() != FormatVersion::V2 {
            return Err(TableError::Version { table, found: metadata.format_version() });
        }
        let manifests = match metadata.current_snapshot() {
            None => Vec::new(),
            Some(snapshot) => read_list(store, snapshot).map_err(wrap("read its manifest list"))?,
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            metadata_location: metadata_location.to_owned(),
            metadata: Arc::new(metadata),
            manifests: Arc::new(manifests),
            entries: BTreeMap::new(),
        })
    }

    /// `namespace.name`, for messages.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// The summary of the current snapshot: what the last commit said of itself.
    pub fn summary(&self) -> BTreeMap<String, String> {
        let summary = self.metadata.current_snapshot().map(|s| s.summary());
        let pairs = summary.into_iter().flat_map(|s| &s.additional_properties);
        pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Live data files.
    pub fn file_count(&self) -> u64 {
        self.manifests.iter().map(manifests::live_files).sum()
    }

    /// Rows of the live data files.
    pub fn row_count(&self) -> u64 {
        self.manifests.iter().map(manifests::live_rows).sum()
    }

    /// Manifests of the current snapshot.
    pub fn manifest_count(&self) -> usize {
        self.manifests.len()
    }

    pub(crate) fn iceberg_error(&self, action: &'static str) -> impl Fn(Error) -> TableError {
        let table = self.full_name();
        move |error| TableError::Iceberg { table: table.clone(), action, error: Box::new(error) }
    }

    /// Writes metadata as version `version` and returns where it is.
    pub(crate) fn write_metadata(
        &self,
        store: &Store,
        metadata: &TableMetadata,
        origin: &Origin,
        version: i32,
    ) -> Result<String, TableError> {
        let wrap = self.iceberg_error("write its metadata");
        let codec = metadata.metadata_compression_codec().map_err(&wrap)?;
        let gzip = codec.suffix().map_err(&wrap)? == ".gz";
        let bytes = metadata_file::encode(metadata, gzip).map_err(&wrap)?;
        let location = origin.metadata(metadata.location(), version, gzip);
        fail_point!("metadata.write");
        store.write_new(&location, &bytes)?;
        Ok(location)
    }
}

/// The manifests of a snapshot.
pub(crate) fn read_list(store: &Store, snapshot: &Snapshot) -> Result<Vec<ManifestFile>, Error> {
    read_list_at(store, snapshot.manifest_list())
}

/// The manifests of the list at `path`.
pub(crate) fn read_list_at(store: &Store, path: &str) -> Result<Vec<ManifestFile>, Error> {
    let bytes = store.read(path)?;
    let list = ManifestList::parse_with_version(&bytes, FormatVersion::V2).map_err(|e| {
        Error::new(ErrorKind::DataInvalid, format!("{path} is damaged")).with_source(e)
    })?;
    Ok(list.consume_entries().into_iter().collect())
}
