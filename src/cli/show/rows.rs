//! The rows of a table at a commit: read file by file, never more than a batch in memory.
//!
//! A current table is a row of sorted leaves; its files are read in the order of their first rows. The
//! files of other tables are read in the order of their names, which is that of days and commits.

use std::fs::File;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Condition;
use super::text::{ColumnText, Look};
use crate::lake::cells::value_at;
use crate::lake::names::normal_path;
use crate::lake::read::{ReadError, live_files};
use crate::lake::storage::{StorageError, Store};
use crate::lake::table::LoadedTable;
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
        let table = match at {
            Some(commit) => table.at_commit(&store, commit)?.table,
            None => table.clone(),
        };
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
    let value = |name: &String| {
        first.column_by_name(name).map_or(Value::Null, |column| value_at(column, 0))
    };
    Ok(sort.iter().map(value).collect())
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
