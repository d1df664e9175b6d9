//! What a table looks like, in our words, and its translation to Iceberg and to Arrow.
//!
//! Field ids are given by position: columns count from 1, hidden columns from
//! [`FIRST_HIDDEN_FIELD_ID`]. A hidden column is written to the Parquet files but is not in the Iceberg
//! schema, as a dropped column would be: readers project by field id and never see it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use iceberg::TableCreation;
use iceberg::spec::{
    FormatVersion, NestedField, NullOrder, PrimitiveType, Schema, SortDirection, SortField,
    SortOrder, TableMetadata, TableMetadataBuilder, Transform, Type, UnboundPartitionSpec,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde::{Deserialize, Serialize};

/// The field id of the first hidden column; columns of a schema never reach it.
pub const FIRST_HIDDEN_FIELD_ID: i32 = 100_000;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnKind {
    String,
    Long,
    Int,
    Boolean,
    /// An exact number of `precision` digits (at most 38), `scale` of them behind the point.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// Microseconds since 1970-01-01 UTC.
    Timestamptz,
    Binary,
}

impl ColumnKind {
    /// The Arrow type of this column in every batch that is written or read.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnKind::String => DataType::Utf8,
            ColumnKind::Long => DataType::Int64,
            ColumnKind::Int => DataType::Int32,
            ColumnKind::Boolean => DataType::Boolean,
            ColumnKind::Decimal { precision, scale } => {
                DataType::Decimal128(precision, scale.cast_signed())
            }
            ColumnKind::Timestamptz => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("+00:00")))
            }
            ColumnKind::Binary => DataType::Binary,
        }
    }

    /// The Iceberg type of this column.
    pub fn iceberg(self) -> PrimitiveType {
        match self {
            ColumnKind::String => PrimitiveType::String,
            ColumnKind::Long => PrimitiveType::Long,
            ColumnKind::Int => PrimitiveType::Int,
            ColumnKind::Boolean => PrimitiveType::Boolean,
            ColumnKind::Decimal { precision, scale } => {
                PrimitiveType::Decimal { precision: precision.into(), scale: scale.into() }
            }
            ColumnKind::Timestamptz => PrimitiveType::Timestamptz,
            ColumnKind::Binary => PrimitiveType::Binary,
        }
    }
}

/// Properties of every table unless its own say otherwise.
const DEFAULT_PROPERTIES: [(&str, &str); 3] = [
    ("write.metadata.compression-codec", "gzip"),
    ("write.metadata.previous-versions-max", "20"),
    ("write.parquet.compression-codec", "zstd"),
];

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnKind::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            other => other.iceberg().fmt(f),
        }
    }
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSpec {
    pub name: String,
    pub kind: ColumnKind,
    /// A required column holds no null.
    pub required: bool,
}

impl ColumnSpec {
    pub fn new(name: impl Into<String>, kind: ColumnKind, required: bool) -> Self {
        Self { name: name.into(), kind, required }
    }
}

/// How the files of a table are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioning {
    None,
    /// By the UTC day of this timestamptz column; a null belongs to the null partition.
    Day(String),
}

/// A table as the product wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    pub namespace: String,
    pub name: String,
    pub columns: Vec<ColumnSpec>,
    /// Columns of our files that only we read back.
    pub hidden: Vec<ColumnSpec>,
    pub partitioning: Partitioning,
    /// Columns by which the rows of every file are sorted: ascending, nulls first.
    pub sort: Vec<String>,
    pub properties: BTreeMap<String, String>,
}

/// Why a table cannot be described, or is not the one described.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("table {table}: there is no column {column} to partition or sort by")]
    NoColumn { table: String, column: String },
    #[error("table {table}: partition column {column} is not a timestamptz")]
    NotATime { table: String, column: String },
    #[error("table {table} cannot be described in Iceberg: {source}")]
    Iceberg { table: String, source: Box<iceberg::Error> },
    #[error(
        "table {table} has {what} {found} where {expected} is expected: it was changed by another \
         program; give the job another namespace, or restore the table"
    )]
    Mismatch { table: String, what: String, expected: String, found: String },
}

impl TableSpec {
    /// `namespace.name`, for messages.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// The field id and description of every physical column, hidden ones last.
    pub fn physical_columns(&self) -> impl Iterator<Item = (i32, &ColumnSpec)> {
        (1..).zip(&self.columns).chain((FIRST_HIDDEN_FIELD_ID..).zip(&self.hidden))
    }

    /// The field id of a visible column.
    pub fn field_id(&self, column: &str) -> Option<i32> {
        (1..).zip(&self.columns).find(|(_, c)| c.name == column).map(|(id, _)| id)
    }

    /// The Arrow schema of the files, hidden columns last, every field with its id.
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .physical_columns()
            .map(|(id, column)| {
                let metadata =
                    HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
                Field::new(&column.name, column.kind.arrow(), !column.required)
                    .with_metadata(metadata)
            })
            .collect();
        Arc::new(ArrowSchema::new(fields))
    }

    /// The metadata of this table at its creation, format version 2, without a snapshot.
    pub fn create_metadata(&self, location: &str) -> Result<TableMetadata, SchemaError> {
        let wrap = |source| self.iceberg_error(source);
        let fields = (1..).zip(&self.columns).map(|(id, column)| {
            let kind = Type::Primitive(column.kind.iceberg());
            Arc::new(NestedField::new(id, &column.name, kind, column.required))
        });
        let schema = Schema::builder().with_fields(fields).build().map_err(wrap)?;
        let mut properties: BTreeMap<String, String> =
            DEFAULT_PROPERTIES.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        properties.extend(self.properties.clone());
        let creation = TableCreation::builder()
            .name(self.name.clone())
            .location(location.trim_end_matches('/').to_owned())
            .schema(schema)
            .partition_spec_opt(self.partition_spec()?)
            .sort_order(self.sort_order()?)
            .properties(properties)
            .format_version(FormatVersion::V2)
            .build();
        let builder = TableMetadataBuilder::from_table_creation(creation).map_err(wrap)?;
        Ok(builder.build().map_err(wrap)?.metadata)
    }

    /// Refuses a table whose columns, partitioning or sort order are not those described here.
    pub fn check(&self, metadata: &TableMetadata) -> Result<(), SchemaError> {
        let expected = self.create_metadata(metadata.location())?;
        let differ = |what: &str, expected: String, found: String| {
            if expected == found {
                return Ok(());
            }
            let (table, what) = (self.full_name(), what.to_owned());
            Err(SchemaError::Mismatch { table, what, expected, found })
        };
        let columns = |m: &TableMetadata| m.current_schema().as_struct().to_string();
        differ("columns", columns(&expected), columns(metadata))?;
        let partition = |m: &TableMetadata| format!("{:?}", m.default_partition_spec().fields());
        differ("the partition fields", partition(&expected), partition(metadata))?;
        let sort = |m: &TableMetadata| format!("{:?}", m.default_sort_order().fields);
        differ("the sort order", sort(&expected), sort(metadata))
    }

    /// The field id of the column whose day partitions the table.
    pub fn partition_field_id(&self) -> Result<Option<i32>, SchemaError> {
        let Partitioning::Day(column) = &self.partitioning else { return Ok(None) };
        let found = (1..).zip(&self.columns).find(|(_, c)| &c.name == column);
        match found {
            None => Err(self.no_column(column)),
            Some((_, c)) if c.kind != ColumnKind::Timestamptz => {
                Err(SchemaError::NotATime { table: self.full_name(), column: column.clone() })
            }
            Some((id, _)) => Ok(Some(id)),
        }
    }

    fn partition_spec(&self) -> Result<Option<UnboundPartitionSpec>, SchemaError> {
        let (Some(id), Partitioning::Day(column)) =
            (self.partition_field_id()?, &self.partitioning)
        else {
            return Ok(None);
        };
        let builder = UnboundPartitionSpec::builder()
            .add_partition_field(id, format!("{column}_day"), Transform::Day)
            .map_err(|source| self.iceberg_error(source))?;
        Ok(Some(builder.build()))
    }

    fn sort_order(&self) -> Result<SortOrder, SchemaError> {
        let fields = self.sort.iter().map(|column| {
            Ok(SortField {
                source_id: self.field_id(column).ok_or_else(|| self.no_column(column))?,
                transform: Transform::Identity,
                direction: SortDirection::Ascending,
                null_order: NullOrder::First,
            })
        });
        let fields = fields.collect::<Result<Vec<_>, SchemaError>>()?;
        let order_id = i64::from(!fields.is_empty());
        Ok(SortOrder { order_id, fields })
    }

    fn no_column(&self, column: &str) -> SchemaError {
        SchemaError::NoColumn { table: self.full_name(), column: column.to_owned() }
    }

    fn iceberg_error(&self, source: iceberg::Error) -> SchemaError {
        SchemaError::Iceberg { table: self.full_name(), source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TableSpec {
        TableSpec {
            namespace: "ns".into(),
            name: "t".into(),
            columns: vec![
                ColumnSpec::new("at", ColumnKind::Timestamptz, false),
                ColumnSpec::new("region", ColumnKind::String, true),
                ColumnSpec::new("amount", ColumnKind::Decimal { precision: 12, scale: 2 }, false),
            ],
            hidden: vec![ColumnSpec::new("total", ColumnKind::Long, false)],
            partitioning: Partitioning::Day("at".into()),
            sort: vec!["region".into(), "at".into()],
            properties: BTreeMap::new(),
        }
    }

    #[test]
    fn hidden_columns_are_in_the_files_but_not_in_the_schema() {
        let metadata = spec().create_metadata("/w/ns/t").unwrap();
        let names: Vec<_> =
            metadata.current_schema().as_struct().fields().iter().map(|f| f.name.clone()).collect();
        assert_eq!(names, ["at", "region", "amount"]);
        let arrow = spec().arrow_schema();
        assert_eq!(arrow.field(3).name(), "total");
        assert_eq!(arrow.field(3).metadata()[PARQUET_FIELD_ID_META_KEY], "100000");
    }

    #[test]
    fn field_ids_of_files_and_of_the_schema_agree() {
        let spec = spec();
        let metadata = spec.create_metadata("/w/ns/t").unwrap();
        for column in &spec.columns {
            let id = metadata.current_schema().field_id_by_name(&column.name);
            assert_eq!(spec.field_id(&column.name), id);
        }
        assert_eq!(metadata.default_sort_order().fields[0].source_id, 2);
        assert_eq!(metadata.default_partition_spec().fields()[0].name, "at_day");
    }

    #[test]
    fn a_changed_table_is_told_apart() {
        let metadata = spec().create_metadata("/w/ns/t").unwrap();
        spec().check(&metadata).unwrap();
        let mut other = spec();
        other.columns[1].kind = ColumnKind::Long;
        let message = other.check(&metadata).unwrap_err().to_string();
        assert!(message.contains("table ns.t has columns"), "{message}");
        let mut other = spec();
        other.partitioning = Partitioning::None;
        assert!(other.check(&metadata).unwrap_err().to_string().contains("partition"));
    }

    #[test]
    fn a_partition_column_must_exist_and_be_a_time() {
        let mut bad = spec();
        bad.partitioning = Partitioning::Day("region".into());
        assert!(matches!(bad.create_metadata("/w"), Err(SchemaError::NotATime { .. })));
        bad.partitioning = Partitioning::Day("nope".into());
        assert!(matches!(bad.create_metadata("/w"), Err(SchemaError::NoColumn { .. })));
    }
}
