//! Writes the data files of a table: Arrow batches in, one durable Parquet file and its metrics out.
//!
//! A row group is encoded in memory and written when it is full. A file that is not finished is removed, and
//! until a commit names it nobody looks for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use fail::fail_point;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::data_file::{FilePartition, WrittenFile};
use super::metrics;
use super::schema::{SchemaError, TableSpec};
use super::storage::{NewFile, StorageError, Store};

/// The table property that names the codec.
pub const CODEC_PROPERTY: &str = "write.parquet.compression-codec";
/// The table property that gives the codec's level.
pub const LEVEL_PROPERTY: &str = "write.parquet.compression-level";

/// Iceberg's own default for string bounds.
const BOUND_BYTES_MAX: usize = 16;

/// How the files of a table are encoded.
#[derive(Debug, Clone)]
pub struct ParquetSettings {
    pub compression: Compression,
    pub row_group_rows_max: usize,
    /// Columns with few repeats: a dictionary would cost more than it saves.
    pub plain_columns: Vec<String>,
    /// Integer and time columns that rise or stay the same: differences instead of values.
    pub delta_columns: Vec<String>,
}

impl ParquetSettings {
    /// The settings that a table's properties ask for; zstd level 1 where they are silent.
    pub fn from_properties<'a>(
        properties: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, WriteError> {
        let mut codec = "zstd";
        let mut level = None;
        for (key, value) in properties {
            match key.as_str() {
                CODEC_PROPERTY => codec = value,
                LEVEL_PROPERTY => level = Some(value.as_str()),
                _ => {}
            }
        }
        Ok(Self {
            compression: compression(codec, level)?,
            row_group_rows_max: 1 << 20,
            plain_columns: Vec::new(),
            delta_columns: Vec::new(),
        })
    }
}

fn compression(codec: &str, level: Option<&str>) -> Result<Compression, WriteError> {
    let bad_level = || WriteError::Level {
        codec: codec.to_owned(),
        level: level.unwrap_or_default().to_owned(),
    };
    let number = level.map(str::parse::<i32>).transpose().map_err(|_| bad_level())?;
    let unsigned = number.map(u32::try_from).transpose().map_err(|_| bad_level())?;
    Ok(match codec.to_ascii_lowercase().as_str() {
        "zstd" => {
            Compression::ZSTD(ZstdLevel::try_new(number.unwrap_or(1)).map_err(|_| bad_level())?)
        }
        "gzip" => {
            Compression::GZIP(GzipLevel::try_new(unsigned.unwrap_or(6)).map_err(|_| bad_level())?)
        }
        "brotli" => Compression::BROTLI(
            BrotliLevel::try_new(unsigned.unwrap_or(1)).map_err(|_| bad_level())?,
        ),
        "snappy" => Compression::SNAPPY,
        "lz4" => Compression::LZ4_RAW,
        "none" | "uncompressed" => Compression::UNCOMPRESSED,
        _ => return Err(WriteError::Codec { codec: codec.to_owned() }),
    })
}

/// Why a data file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(
        "{CODEC_PROPERTY} = {codec} is not known; take zstd, snappy, gzip, lz4, brotli or uncompressed"
    )]
    Codec { codec: String },
    #[error("{LEVEL_PROPERTY} = {level} is not a level of {codec}")]
    Level { codec: String, level: String },
    #[error("table {table} has no column {column} to encode in a way of its own")]
    NoColumn { table: String, column: String },
    #[error("rows for table {table} cannot be encoded: {source}")]
    Encode { table: String, source: ParquetError },
    #[error("{path} has rows of other days than its partition {partition:?}")]
    Partition { path: String, partition: FilePartition },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What all files of a table have in common; made once, shared by its writers.
#[derive(Debug)]
pub struct FileLayout {
    table: String,
    schema: SchemaRef,
    properties: WriterProperties,
    partition_field: Option<i32>,
}

impl FileLayout {
    pub fn new(spec: &TableSpec, settings: &ParquetSettings) -> Result<Arc<Self>, WriteError> {
        let mut builder = WriterProperties::builder()
            .set_created_by(concat!("tidewater ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(settings.compression)
            .set_max_row_group_row_count(Some(settings.row_group_rows_max))
            .set_statistics_truncate_length(Some(BOUND_BYTES_MAX))
            .set_column_index_truncate_length(Some(BOUND_BYTES_MAX));
        for column in &settings.plain_columns {
            let path = column_path(spec, column)?;
            builder = builder.set_column_dictionary_enabled(path, false);
        }
        for column in &settings.delta_columns {
            builder = delta(builder, column_path(spec, column)?);
        }
        Ok(Arc::new(Self {
            table: spec.full_name(),
            schema: spec.arrow_schema(),
            properties: builder.build(),
            partition_field: spec.partition_field_id()?,
        }))
    }

    /// The schema that every batch must have, hidden columns last.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

fn delta(builder: WriterPropertiesBuilder, path: ColumnPath) -> WriterPropertiesBuilder {
    builder
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}

fn column_path(spec: &TableSpec, column: &str) -> Result<ColumnPath, WriteError> {
    let known = spec.columns.iter().chain(&spec.hidden).any(|c| c.name == column);
    let absent = || WriteError::NoColumn { table: spec.full_name(), column: column.to_owned() };
    known.then(|| ColumnPath::from(column)).ok_or_else(absent)
}

/// One data file in the making.
#[derive(Debug)]
pub struct DataFileWriter {
    layout: Arc<FileLayout>,
    partition: FilePartition,
    path: String,
    writer: ArrowWriter<NewFile>,
    rows: u64,
}

impl DataFileWriter {
    /// Opens the new file `path`.
    pub fn new(
        layout: &Arc<FileLayout>,
        partition: FilePartition,
        store: &Store,
        path: String,
    ) -> Result<Self, WriteError> {
        let file = store.create(&path)?;
        let (schema, properties) = (Arc::clone(&layout.schema), layout.properties.clone());
        let writer = ArrowWriter::try_new(file, schema, Some(properties))
            .map_err(|source| layout.encode_error(source))?;
        Ok(Self { layout: Arc::clone(layout), partition, path, writer, rows: 0 })
    }

    /// Encodes the rows of a batch; all of them belong to the partition of this file.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.writer.write(batch).map_err(|source| self.layout.encode_error(source))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// About the size that the file would have if it were finished now.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Finishes the encoding and syncs the file; its directory waits for the barrier.
    pub fn finish(mut self) -> Result<WrittenFile, WriteError> {
        fail_point!("data.finish");
        let footer = self.writer.finish().map_err(|source| self.layout.encode_error(source))?;
        let file = self.writer.inner_mut();
        let written = metrics::describe(&footer, &self.path, file.bytes(), self.partition);
        self.layout.check_partition(&written)?;
        file.finish()?;
        Ok(written)
    }
}

impl FileLayout {
    fn encode_error(&self, source: ParquetError) -> WriteError {
        match storage_error(source) {
            Ok(error) => WriteError::Storage(error),
            Err(source) => WriteError::Encode { table: self.table.clone(), source },
        }
    }

    /// A row in the wrong partition would be skipped by readers for ever: refuse the file.
    fn check_partition(&self, file: &WrittenFile) -> Result<(), WriteError> {
        let right = match self.partition_field {
            None => file.partition == FilePartition::Unpartitioned,
            Some(id) => {
                let day = |bounds: &BTreeMap<i32, Vec<u8>>| {
                    let bytes = bounds.get(&id).and_then(|b| b.as_slice().try_into().ok());
                    FilePartition::day_of(bytes.map(i64::from_le_bytes))
                };
                let nulls = file.null_counts.get(&id).copied().unwrap_or(0);
                let whole = nulls == 0 || nulls == file.rows;
                day(&file.lower) == file.partition && day(&file.upper) == file.partition && whole
            }
        };
        let wrong = || WriteError::Partition { path: file.path.clone(), partition: file.partition };
        right.then_some(()).ok_or_else(wrong)
    }
}

/// The error of the file, if that is what went wrong.
fn storage_error(error: ParquetError) -> Result<StorageError, ParquetError> {
    let ParquetError::External(error) = error else { return Err(error) };
    let error = error.downcast::<io::Error>().map_err(ParquetError::External)?;
    error.downcast::<StorageError>().map_err(|error| ParquetError::External(Box::new(error)))
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
