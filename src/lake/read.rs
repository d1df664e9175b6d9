//! Reads back what we wrote: the rows of one data file, and the files of a table.

use std::collections::BTreeMap;
use std::fs::File;

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::manifests;
use super::names::normal_path;
use super::storage::{StorageError, Store};
use super::table::{LoadedTable, TableError};

/// Why a data file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{path} has no column {column}; it was written by another version of the job")]
    NoColumn { path: String, column: String },
    #[error("{path} is damaged: {cause}; restore it from a copy, or rebuild the table")]
    Damaged { path: String, cause: String },
}

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 1 << 16;

/// The rows of a data file, hidden columns included, in the order of the file; only the named columns
/// where some are named.
pub fn read_data_file(path: &str, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>, ReadError> {
    data_file_batches(path, columns)?.collect()
}

/// As [`read_data_file`], one batch after the other.
pub fn data_file_batches(
    path: &str,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch, ReadError>> + use<>, ReadError> {
    let name = path.to_owned();
    let damaged = move |cause: String| ReadError::Damaged { path: name.clone(), cause };
    let plain = normal_path(path);
    let file = File::open(plain).map_err(|e| StorageError::new("open", plain, e))?;
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|e| damaged(e.to_string()))?
        .with_batch_size(BATCH_ROWS);
    if let Some(names) = columns {
        let schema = builder.schema();
        if let Some(absent) = names.iter().find(|name| schema.index_of(name).is_err()) {
            let (path, column) = (path.to_owned(), (*absent).to_owned());
            return Err(ReadError::NoColumn { path, column });
        }
        let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
        builder = builder.with_projection(mask);
    }
    let reader = builder.build().map_err(|e| damaged(e.to_string()))?;
    Ok(reader.map(move |batch| batch.map_err(|e| damaged(e.to_string()))))
}

/// A file of a table's current snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// Bounds by field id, in Iceberg's single-value serialisation.
    pub lower: BTreeMap<i32, Vec<u8>>,
    pub upper: BTreeMap<i32, Vec<u8>>,
}

/// The data files of the current snapshot, ordered by path.
pub fn live_files(store: &Store, table: &LoadedTable) -> Result<Vec<LiveFile>, TableError> {
    let wrap = table.iceberg_error("list its data files");
    let mut files = Vec::new();
    for manifest in table.manifests.iter().filter(|m| manifests::has_live_files(m)) {
        for entry in manifests::read_live(store, manifest).map_err(&wrap)? {
            let file = &entry.file;
            let encode = |(&id, bound): (&i32, &iceberg::spec::Datum)| {
                Ok((id, bound.to_bytes()?.into_vec()))
            };
            let bounds = |map: &std::collections::HashMap<_, _>| {
                map.iter().map(encode).collect::<Result<_, iceberg::Error>>()
            };
            files.push(LiveFile {
                path: file.file_path().to_owned(),
                rows: file.record_count(),
                bytes: file.file_size_in_bytes(),
                lower: bounds(file.lower_bounds()).map_err(&wrap)?,
                upper: bounds(file.upper_bounds()).map_err(&wrap)?,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
