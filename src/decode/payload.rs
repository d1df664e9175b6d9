//! The columns of decoded records as Arrow arrays.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    BooleanBuilder, Decimal128Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_schema::{DataType, Field, TimeUnit};

use super::column::{Row, Scalar};
use super::extract::Extractor;
use crate::job::Column;
use crate::model::ColumnType;

/// The zone of all timestamp columns, in iceberg's spelling.
pub(super) const UTC: &str = "+00:00";

/// The Arrow type of a column.
pub(super) fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::String => DataType::Utf8,
        ColumnType::Long => DataType::Int64,
        ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Timestamp => timestamp_type(),
    }
}

/// Microseconds in UTC.
pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The Arrow fields of the job's columns, all nullable.
pub(super) fn fields(columns: &[Column]) -> impl Iterator<Item = Field> {
    columns.iter().map(|column| Field::new(&column.name, arrow_type(column.kind), true))
}

/// Text of the rows of a batch; the next batch starts with the room that this one took.
#[derive(Debug)]
pub(super) struct TextColumn {
    builder: StringBuilder,
    bytes: usize,
}

impl TextColumn {
    pub(super) fn new() -> Self {
        TextColumn { builder: StringBuilder::with_capacity(0, 0), bytes: 0 }
    }

    pub(super) fn start(&mut self, rows: usize) {
        self.builder = StringBuilder::with_capacity(rows, self.bytes + self.bytes / 8);
    }

    #[inline]
    pub(super) fn push(&mut self, text: &str) {
        self.builder.append_value(text);
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        self.bytes = self.builder.values_slice().len();
        Arc::new(self.builder.finish())
    }
}

/// The job's columns of a batch.
#[derive(Debug)]
pub(super) struct Columns(Vec<(ColumnType, ColumnBuilder)>);

#[derive(Debug)]
enum ColumnBuilder {
    Text(TextColumn),
    Long(Int64Builder),
    Decimal(Decimal128Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Columns {
    pub(super) fn new(columns: &[Column]) -> Self {
        let builder = |column: &Column| (column.kind, ColumnBuilder::new(column.kind, 0));
        Columns(columns.iter().map(builder).collect())
    }

    /// Makes room for `rows`.
    pub(super) fn start(&mut self, rows: usize) {
        for (kind, builder) in &mut self.0 {
            match builder {
                ColumnBuilder::Text(builder) => builder.start(rows),
                other => *other = ColumnBuilder::new(*kind, rows),
            }
        }
    }

    /// Appends a row that was read whole.
    #[inline]
    pub(super) fn push(&mut self, row: &Row, extractor: &Extractor, document: &str) {
        for (index, (_, builder)) in self.0.iter_mut().enumerate() {
            match (builder, row.scalar(index)) {
                (ColumnBuilder::Text(builder), _) => match row.text(index, extractor, document) {
                    Some(text) => builder.push(text),
                    None => builder.builder.append_null(),
                },
                (ColumnBuilder::Long(builder), Scalar::Long(value)) => builder.append_value(value),
                (ColumnBuilder::Long(builder), _) => builder.append_null(),
                (ColumnBuilder::Decimal(builder), Scalar::Decimal(value)) => {
                    builder.append_value(value)
                }
                (ColumnBuilder::Decimal(builder), _) => builder.append_null(),
                (ColumnBuilder::Boolean(builder), Scalar::Boolean(value)) => {
                    builder.append_value(value)
                }
                (ColumnBuilder::Boolean(builder), _) => builder.append_null(),
                (ColumnBuilder::Timestamp(builder), Scalar::Timestamp(value)) => {
                    builder.append_value(value);
                }
                (ColumnBuilder::Timestamp(builder), _) => builder.append_null(),
            }
        }
    }

    /// The arrays of the rows since the last call.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = ArrayRef> {
        self.0.iter_mut().map(|(_, builder)| builder.finish())
    }
}

impl ColumnBuilder {
    fn new(kind: ColumnType, rows: usize) -> Self {
        match kind {
            ColumnType::String => ColumnBuilder::Text(TextColumn::new()),
            ColumnType::Long => ColumnBuilder::Long(Int64Builder::with_capacity(rows)),
            ColumnType::Decimal { .. } => ColumnBuilder::Decimal(
                Decimal128Builder::with_capacity(rows).with_data_type(arrow_type(kind)),
            ),
            ColumnType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Timestamp => ColumnBuilder::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(rows).with_timezone(UTC),
            ),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Text(builder) => builder.finish(),
            ColumnBuilder::Long(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Decimal(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}
