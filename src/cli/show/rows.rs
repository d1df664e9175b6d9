//! The rows of a table at a commit: read file by file, never more than a batch in memory.
//!
//! A current table is a row of sorted leaves; its files are read in the order of their first rows. The
//! files of other tables are read in the order of their names, which is that of days and commits.

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use iceberg::spec::SnapshotRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::text::{ColumnText, Look};
use super::{Condition, ShowError};
use crate::lake::names::normal_path;
use crate::lake::read::{ReadError, live_files};
use crate::lake::storage::{StorageError, Store};
use crate::lake::table::{LoadedTable, TableError, read_list};
use crate::model::Value;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 1024;

/// A table at a commit.
#[derive(Debug)]
pub(in crate::cli) struct TableRows {
    /// The columns that readers see, in order.
    pub(in crate::cli) columns: Vec<String>,
    /// All rows of the table at that commit.
    pub(in crate::cli) rows: u64,
    /// The data files, in the order of the table.
    files: Vec<String>,
}

impl TableRows {
    /// The rows of `table` at its newest commit, or as they stood at commit `at`.
    pub(in crate::cli) fn open(table: &LoadedTable, at: Option<u64>) -> anyhow::Result<TableRows> {
        let store = Store::local();
        let mut table = table.clone();
        if let Some(commit) = at {
            table.manifests = match snapshot_at(&table, commit)? {
                Some(snapshot) => read_list(&store, &snapshot).map_err(|source| {
                    let action = "read its manifest list";
                    let table = table.full_name();
                    TableError::Iceberg { table, action, error: Box::new(source) }
                })?,
                None => Vec::new(),
            }
            .into();
        }
        let schema = table.metadata.current_schema();
        let columns = schema.as_struct().fields().iter().map(|field| field.name.clone()).collect();
        let sort = table.metadata.default_sort_order().fields.iter();
        let sort = sort.filter_map(|field| schema.field_by_id(field.source_id));
        let sort: Vec<String> = sort.map(|field| field.name.clone()).collect();
        let files = live_files(&store, &table)?;
        let rows = files.iter().map(|file| file.rows).sum();
        let mut files: Vec<String> = files.into_iter().map(|file| file.path).collect();
        if files.len() > 1 && !sort.is_empty() {
            let keyed = files.into_iter().map(|path| Ok((first_key(&path, &sort)?, path)));
            let mut keyed = keyed.collect::<Result<Vec<_>, ReadError>>()?;
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            files = keyed.into_iter().map(|(_, path)| path).collect();
        }
        Ok(TableRows { columns, rows, files })
    }

    /// The rows in order, those that meet all conditions.
    pub(in crate::cli) fn batches<'a>(
        &'a self,
        conditions: &'a [Condition],
    ) -> impl Iterator<Item = anyhow::Result<RecordBatch>> + 'a {
        let files =
            self.files.iter().flat_map(|path| match open(path, &self.columns, BATCH_ROWS) {
                Ok(batches) => Either::Batches(batches, path),
                Err(error) => Either::Failed(Some(error)),
            });
        files.map(|batch| Ok(meeting(batch?, conditions)?))
    }
}

/// The batches of a file, or why there are none.
enum Either<'a> {
    Batches(ParquetRecordBatchReader, &'a str),
    Failed(Option<ReadError>),
}

impl Iterator for Either<'_> {
    type Item = Result<RecordBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Either::Batches(batches, path) => {
                Some(batches.next()?.map_err(|error| damaged(path, &error)))
            }
            Either::Failed(error) => error.take().map(Err),
        }
    }
}

fn damaged(path: &str, cause: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged { path: path.to_owned(), cause: cause.to_string() }
}

/// Reads the named columns of a data file.
fn open(
    path: &str,
    columns: &[String],
    rows: usize,
) -> Result<ParquetRecordBatchReader, ReadError> {
    let plain = normal_path(path);
    let file = File::open(plain).map_err(|error| StorageError::new("open", plain, error))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(path, &error))?;
    let schema = builder.schema();
    if let Some(absent) = columns.iter().find(|name| schema.index_of(name).is_err()) {
        return Err(ReadError::NoColumn { path: path.to_owned(), column: absent.clone() });
    }
    let names = columns.iter().map(String::as_str);
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let builder = builder.with_batch_size(rows).with_projection(mask);
    builder.build().map_err(|error| damaged(path, &error))
}

/// What the first row of a sorted file is sorted by.
fn first_key(path: &str, sort: &[String]) -> Result<Vec<Value>, ReadError> {
    let Some(first) = open(path, sort, 1)?.next() else { return Ok(Vec::new()) };
    let first = first.map_err(|error| damaged(path, &error))?;
    let value = |name: &String| first.column_by_name(name).map_or(Value::Null, first_value);
    Ok(sort.iter().map(value).collect())
}

fn first_value(column: &ArrayRef) -> Value {
    if column.is_null(0) {
        return Value::Null;
    }
    if let Some(text) = column.as_string_opt::<i32>() {
        return Value::String(text.value(0).into());
    }
    let long = column.as_primitive_opt::<Int64Type>().map(|longs| longs.value(0));
    let int = || column.as_primitive_opt::<Int32Type>().map(|ints| i64::from(ints.value(0)));
    let times = || column.as_primitive_opt::<TimestampMicrosecondType>().map(|t| t.value(0));
    if let Some(number) = long.or_else(int).or_else(times) {
        return Value::Long(number);
    }
    let decimal = column.as_primitive_opt::<Decimal128Type>().map(|d| Value::Decimal(d.value(0)));
    let truth = || column.as_boolean_opt().map(|truth| Value::Boolean(truth.value(0)));
    decimal.or_else(truth).unwrap_or(Value::Null)
}

/// The snapshot that showed the table at commit `at`; `None` where the table was still empty.
fn snapshot_at(table: &LoadedTable, at: u64) -> Result<Option<SnapshotRef>, ShowError> {
    let mut snapshots: Vec<SnapshotRef> = table.metadata.snapshots().cloned().collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    let of = |snapshot: &SnapshotRef| commit_of(&snapshot.summary().additional_properties);
    if let Some(found) = snapshots.iter().rev().find(|s| of(s).is_some_and(|commit| commit <= at)) {
        return Ok(Some(SnapshotRef::clone(found)));
    }
    match snapshots.first() {
        Some(oldest) if oldest.parent_snapshot_id().is_some() => Err(ShowError::Expired {
            table: table.full_name(),
            commit: at,
            oldest: of(oldest).unwrap_or_default(),
        }),
        _ => Ok(None),
    }
}

/// The commit that a snapshot's summary names.
pub(super) fn commit_of<S: std::hash::BuildHasher>(
    summary: &std::collections::HashMap<String, String, S>,
) -> Option<u64> {
    summary.get("tidewater.commit")?.parse().ok()
}

/// The rows of a batch that meet all conditions.
fn meeting(mut batch: RecordBatch, conditions: &[Condition]) -> Result<RecordBatch, ArrowError> {
    for condition in conditions {
        let Some(column) = batch.column_by_name(&condition.column).cloned() else { continue };
        let text = ColumnText::new(&column, Look::Exact)?;
        let meets = |row| match text.cell(row) {
            None => condition.value == "NULL",
            Some(text) => text == condition.value,
        };
        let keep: BooleanArray = (0..column.len()).map(|row| Some(meets(row))).collect();
        batch = arrow_select::filter::filter_record_batch(&batch, &keep)?;
    }
    Ok(batch)
}
