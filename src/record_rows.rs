//! Records as rows: dead letters and raw records, all columns of their tables but `_commit`.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, Field, Schema};

use crate::decode::DeadLetter;
use crate::source::{NO_TIMESTAMP, RawBatch};

/// Rows of the table `dead_letters`.
pub fn letter_rows(topic: &str, letters: Vec<DeadLetter>) -> Result<RecordBatch, ArrowError> {
    let positions = || letters.iter().map(|letter| letter.position);
    let details = letters.iter().map(|letter| &letter.detail);
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("_topic", topics(topic, letters.len()), false),
        (
            "_partition",
            Arc::new(Int32Array::from_iter_values(positions().map(|at| at.partition))),
            false,
        ),
        ("_offset", Arc::new(Int64Array::from_iter_values(positions().map(|at| at.offset))), false),
        ("_timestamp", times(letters.iter().map(|letter| letter.timestamp_ms)), true),
        (
            "reason",
            Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.reason.as_str()))),
            false,
        ),
        ("detail", Arc::new(StringArray::from_iter_values(details)), true),
        ("key", binary(letters.iter().map(|letter| letter.key.as_deref())), true),
        ("value", binary(letters.iter().map(|letter| letter.value.as_deref())), true),
    ];
    rows(columns)
}

/// Rows of the table `raw`.
pub fn raw_rows(topic: &str, batch: &RawBatch) -> Result<RecordBatch, ArrowError> {
    let records = &batch.records;
    let mut headers = StringBuilder::new();
    for record in records {
        let text = batch.get(record.headers).map(String::from_utf8_lossy);
        headers.append_option(text);
    }
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("key", binary(records.iter().map(|record| batch.get(record.key))), true),
        ("value", binary(records.iter().map(|record| batch.get(record.value))), true),
        ("headers", Arc::new(headers.finish()), true),
        ("_timestamp", times(records.iter().map(|record| record.timestamp_ms)), true),
        ("_topic", topics(topic, records.len()), false),
        ("_partition", Arc::new(Int32Array::from_value(batch.partition, records.len())), false),
        (
            "_offset",
            Arc::new(Int64Array::from_iter_values(records.iter().map(|record| record.offset))),
            false,
        ),
    ];
    rows(columns)
}

fn rows(columns: Vec<(&str, ArrayRef, bool)>) -> Result<RecordBatch, ArrowError> {
    let fields = columns
        .iter()
        .map(|(name, column, nullable)| Field::new(*name, column.data_type().clone(), *nullable));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column, _)| column).collect())
}

fn topics(topic: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, rows)))
}

fn times(timestamps_ms: impl Iterator<Item = i64>) -> ArrayRef {
    let micros = timestamps_ms.map(|ms| (ms != NO_TIMESTAMP).then(|| ms.saturating_mul(1_000)));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("+00:00"))
}

fn binary<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    values.for_each(|value| builder.append_option(value));
    Arc::new(builder.finish())
}
