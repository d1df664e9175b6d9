//! Tables as any reader sees them: the catalog's pointers, snapshots, manifests and Parquet files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use futures::executor::block_on;
use iceberg::spec::{FormatVersion, Manifest, ManifestList, TableMetadata};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tidewater::lake::maintain::referenced_files;
use tidewater::lake::storage::Store;
use tidewater::lake::table::LoadedTable;

use super::fixture::files_of;

/// A value in a row. Booleans, times (microseconds) and decimals (unscaled) are numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Number(i128),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    pub fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    /// The text in this cell.
    pub fn as_text(&self) -> &str {
        match self {
            Cell::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    /// The number in this cell.
    pub fn as_number(&self) -> i64 {
        match self {
            Cell::Number(number) => i64::try_from(*number).unwrap(),
            other => panic!("{other:?} is no number"),
        }
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Number(number.into())
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Cell {
        text.map_or(Cell::Null, Cell::text)
    }
}

/// A row by column name.
pub type Row = BTreeMap<String, Cell>;

/// Topic to partition to the offset of the next record.
pub type Cut = BTreeMap<String, BTreeMap<i32, i64>>;

/// A snapshot of a table.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit that made it.
    pub commit: u64,
    /// What it contains.
    pub cut: Cut,
    manifest_list: String,
}

/// The tables of a namespace. Files never change, so what was read once is kept.
#[derive(Debug)]
pub struct Tables {
    catalog: rusqlite::Connection,
    namespace: String,
    files: HashMap<String, Arc<Vec<Row>>>,
    lists: HashMap<String, Vec<String>>,
}

fn plain(path: &str) -> &str {
    path.strip_prefix("file://").unwrap_or(path)
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(plain(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Tables {
    /// The tables of `namespace` in the catalog at `catalog`.
    pub fn open(catalog: &Path, namespace: &str) -> Self {
        let catalog = rusqlite::Connection::open(catalog).unwrap();
        let namespace = namespace.to_owned();
        Tables { catalog, namespace, files: HashMap::new(), lists: HashMap::new() }
    }

    /// Where the newest metadata of a table is.
    pub fn location(&self, table: &str) -> String {
        let sql = "SELECT metadata_location FROM iceberg_tables
                   WHERE table_namespace = ?1 AND table_name = ?2";
        self.catalog.query_row(sql, [&self.namespace, table], |row| row.get(0)).unwrap()
    }

    /// The files that a table needs, and those in its folders that it doesn't.
    pub fn needed_and_others(&self, table: &str) -> (HashSet<String>, HashSet<String>) {
        let store = Store::local();
        let location = self.location(table);
        let loaded = LoadedTable::load(&store, &self.namespace, table, &location).unwrap();
        let needed = referenced_files(&store, &loaded).unwrap();
        let root = Path::new(plain(loaded.metadata.location()));
        let folders = ["data", "metadata"].map(|folder| root.join(folder));
        let folders = folders.iter().filter(|folder| folder.exists());
        let files = folders.flat_map(|folder| files_of(folder));
        let others = files.map(|file| file.display().to_string());
        let others = others.filter(|file| !needed.contains(file)).collect();
        (needed, others)
    }

    /// The newest metadata of a table.
    pub fn metadata(&self, table: &str) -> TableMetadata {
        let store = Store::local();
        block_on(TableMetadata::read_from(store.io(), self.location(table))).unwrap()
    }

    /// The snapshots of a table by rising commit.
    pub fn snapshots(&self, table: &str) -> Vec<Snapshot> {
        let metadata = self.metadata(table);
        let mut snapshots: Vec<Snapshot> = metadata
            .snapshots()
            .map(|snapshot| {
                let summary = &snapshot.summary().additional_properties;
                Snapshot {
                    commit: summary["tidewater.commit"].parse().unwrap(),
                    cut: serde_json::from_str(&summary["tidewater.cut"]).unwrap(),
                    manifest_list: snapshot.manifest_list().to_owned(),
                }
            })
            .collect();
        snapshots.sort_by_key(|snapshot| snapshot.commit);
        snapshots
    }

    /// The data files of a snapshot.
    pub fn files(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let path = &snapshot.manifest_list;
        if let Some(files) = self.lists.get(path) {
            return files.clone();
        }
        let list = ManifestList::parse_with_version(&read(path), FormatVersion::V2).unwrap();
        let mut files = Vec::new();
        for manifest in list.entries() {
            let manifest = Manifest::parse_avro(&read(&manifest.manifest_path)).unwrap();
            let alive = manifest.entries().iter().filter(|entry| entry.is_alive());
            files.extend(alive.map(|entry| entry.data_file().file_path().to_owned()));
        }
        files.sort();
        self.lists.insert(path.clone(), files.clone());
        files
    }

    /// The rows of a snapshot, file by file.
    pub fn rows(&mut self, snapshot: &Snapshot) -> Vec<Row> {
        let mut rows = Vec::new();
        for file in self.files(snapshot) {
            let read = self.files.entry(file).or_insert_with_key(|file| Arc::new(read_file(file)));
            rows.extend(read.iter().cloned());
        }
        rows
    }

    /// The rows of a table now.
    pub fn current(&mut self, table: &str) -> Vec<Row> {
        self.snapshots(table).last().map_or_else(Vec::new, |newest| self.rows(newest))
    }
}

/// The rows of a data file, without the columns that only the program knows (no field id, or not in the
/// schema).
fn read_file(path: &str) -> Vec<Row> {
    let file = File::open(plain(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| rows_of(&batch.unwrap())).collect()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let mut rows = vec![Row::new(); batch.num_rows()];
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        for (index, row) in rows.iter_mut().enumerate() {
            row.insert(field.name().clone(), cell_of(column, index));
        }
    }
    rows
}

fn cell_of(column: &dyn Array, index: usize) -> Cell {
    if column.is_null(index) {
        return Cell::Null;
    }
    match column.data_type() {
        DataType::Utf8 => Cell::text(column.as_string::<i32>().value(index)),
        DataType::Binary => Cell::Bytes(column.as_binary::<i32>().value(index).to_vec()),
        DataType::LargeBinary => Cell::Bytes(column.as_binary::<i64>().value(index).to_vec()),
        DataType::Boolean => i64::from(column.as_boolean().value(index)).into(),
        DataType::Int32 => i64::from(column.as_primitive::<Int32Type>().value(index)).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(index).into(),
        DataType::Timestamp(..) => {
            column.as_primitive::<TimestampMicrosecondType>().value(index).into()
        }
        DataType::Decimal128(..) => {
            Cell::Number(column.as_primitive::<Decimal128Type>().value(index))
        }
        other => panic!("a column of type {other} is not expected"),
    }
}
