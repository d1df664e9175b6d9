//! The rows of current tables: from groups and totals to columns, and back from a leaf.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_schema::SchemaRef;
use thiserror::Error;

use crate::aggregate::from_order_bits;
use crate::changes::{Delta, GroupKey, SumDelta};
use crate::job::{AggregateSpec, FunnelSpec, Job, MeasureKind, Side};
use crate::model::value::decode_tuple;
use crate::model::{ColumnType, Interner, Symbol, Value};

/// A row of a current table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentRow {
    /// Window and group columns, in the order of the table.
    pub key: Vec<Value>,
    /// Its running totals.
    pub totals: Delta,
    /// The commit that last changed what readers see of it.
    pub commit: u64,
}

/// How the rows of a current table are made.
#[derive(Debug, Clone)]
pub struct CurrentShape {
    table: String,
    windowed: bool,
    /// For each group column: its type, its side, and its place in that side's group tuple.
    groups: Vec<(ColumnType, GroupSide, usize)>,
    /// Types of the event-side and of the dimension-side group tuple.
    event_kinds: Vec<ColumnType>,
    dimension_kinds: Vec<ColumnType>,
    measures: Vec<Shown>,
    /// For a funnel: the names of its steps.
    steps: Option<Vec<String>>,
    sums: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupSide {
    Event,
    Dimension,
}

/// What a measure column shows of the totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Count,
    Users,
    Sum(usize, ColumnType),
}

/// A value that its column can't hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RowError {
    /// A sum outgrew its column.
    #[error(
        "table {table}: a sum left the range of its column ({value} does not fit {kind}); \
         the last commit stays, and the aggregate needs a wider column or fewer events in a group"
    )]
    SumOutOfRange {
        /// The table.
        table: String,
        /// The sum's unscaled value.
        value: i128,
        /// The type of its column.
        kind: ColumnType,
    },
    /// A group that no dictionary explains.
    #[error(
        "table {table}: group {symbol:#018x} is not in the symbol dictionary: the state is incomplete; \
         rebuild it from the tables with `tidewater recover JOB.toml`"
    )]
    UnknownGroup {
        /// The table.
        table: String,
        /// The group's symbol.
        symbol: u64,
    },
    /// A row with fewer than no events: the stored table and the state disagree.
    #[error(
        "table {table}: the totals of {key:?} fell below zero: its files and the state disagree; \
         rebuild the state from the tables with `tidewater recover JOB.toml`"
    )]
    Negative {
        /// The table.
        table: String,
        /// The row.
        key: Vec<Value>,
    },
}

impl CurrentShape {
    /// The rows of an aggregate's table.
    pub fn of_aggregate(job: &Job, spec: &AggregateSpec) -> Self {
        let (mut event_kinds, mut dimension_kinds) = (Vec::new(), Vec::new());
        let groups = spec.group_by.iter().map(|column| {
            let (side, kinds) = match column.side {
                Side::Event(_) => (GroupSide::Event, &mut event_kinds),
                Side::Dimension(_) => (GroupSide::Dimension, &mut dimension_kinds),
            };
            kinds.push(column.kind);
            (column.kind, side, kinds.len() - 1)
        });
        let groups = groups.collect();
        let mut sums = 0;
        let measures = spec.measures.iter().map(|measure| match measure.kind {
            MeasureKind::Count => Shown::Count,
            MeasureKind::Distinct => Shown::Users,
            MeasureKind::Sum(column) => {
                sums += 1;
                Shown::Sum(sums - 1, job.events.columns[column].kind)
            }
        });
        let measures = measures.collect();
        CurrentShape {
            table: spec.name.clone(),
            windowed: spec.window_us.is_some(),
            groups,
            event_kinds,
            dimension_kinds,
            measures,
            steps: None,
            sums,
        }
    }

    /// The rows of a funnel's table.
    pub fn of_funnel(spec: &FunnelSpec) -> Self {
        let kinds: Vec<ColumnType> = spec.group_by.iter().map(|column| column.kind).collect();
        let groups = kinds.iter().enumerate();
        CurrentShape {
            table: spec.name.clone(),
            windowed: false,
            groups: groups.map(|(place, kind)| (*kind, GroupSide::Dimension, place)).collect(),
            event_kinds: Vec::new(),
            dimension_kinds: kinds,
            measures: vec![Shown::Users],
            steps: Some(spec.steps.clone()),
            sums: 0,
        }
    }

    /// The key of the row that shows `group`.
    pub fn key(&self, group: &GroupKey, interner: &Interner) -> Result<Vec<Value>, RowError> {
        let event = self.tuple(group.event, &self.event_kinds, interner)?;
        let dimension = self.tuple(group.dimension, &self.dimension_kinds, interner)?;
        let mut key = Vec::with_capacity(self.groups.len() + 1);
        if self.windowed {
            key.push(Value::Timestamp(from_order_bits(group.window)));
        }
        key.extend(self.groups.iter().map(|(_, side, place)| match side {
            GroupSide::Event => event[*place].clone(),
            GroupSide::Dimension => dimension[*place].clone(),
        }));
        if self.steps.is_some() {
            key.push(Value::Long(group.window as i64));
        }
        Ok(key)
    }

    fn tuple(
        &self,
        symbol: u64,
        kinds: &[ColumnType],
        interner: &Interner,
    ) -> Result<Vec<Value>, RowError> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let content = interner.content(Symbol(symbol));
        content
            .and_then(|content| decode_tuple(kinds, &content))
            .ok_or_else(|| RowError::UnknownGroup { table: self.table.clone(), symbol })
    }

    /// What readers see of a row's totals.
    pub fn shown(&self, totals: &Delta) -> Vec<Value> {
        let shown = self.measures.iter().map(|measure| match *measure {
            Shown::Count => Value::Long(totals.count),
            Shown::Users => Value::Long(totals.users),
            Shown::Sum(sum, kind) => match totals.sums[sum] {
                SumDelta { values: 0, .. } => Value::Null,
                SumDelta { value, .. } if matches!(kind, ColumnType::Decimal { .. }) => {
                    Value::Decimal(value)
                }
                SumDelta { value, .. } => i64::try_from(value).map_or(Value::Null, Value::Long),
            },
        });
        shown.collect()
    }

    /// Refuses totals that a column can't hold, or that can't be.
    pub fn check(&self, row: &CurrentRow) -> Result<(), RowError> {
        let totals = &row.totals;
        if totals.count < 0 || totals.users < 0 || (totals.count > 0) != (totals.users > 0) {
            return Err(RowError::Negative { table: self.table.clone(), key: row.key.clone() });
        }
        for measure in &self.measures {
            let Shown::Sum(sum, kind) = *measure else { continue };
            let value = totals.sums[sum].value;
            let fits = match kind {
                ColumnType::Decimal { .. } => value.unsigned_abs() < 10_u128.pow(38),
                _ => i64::try_from(value).is_ok(),
            };
            if !fits {
                return Err(RowError::SumOutOfRange { table: self.table.clone(), value, kind });
            }
        }
        Ok(())
    }

    /// The columns of a leaf with these rows.
    pub fn leaf_columns(&self, rows: &[CurrentRow]) -> Vec<ArrayRef> {
        let shown: Vec<Vec<Value>> = rows.iter().map(|row| self.shown(&row.totals)).collect();
        let mut columns = self.visible_columns(rows.iter().map(|row| &row.key).zip(&shown));
        columns.push(longs(rows.iter().map(|row| row.commit as i64)));
        columns.push(longs(rows.iter().map(|row| row.totals.count)));
        for sum in 0..self.sums {
            columns.push(longs(rows.iter().map(|row| row.totals.sums[sum].values)));
        }
        columns.push(longs(rows.iter().map(|row| row.totals.users)));
        columns
    }

    /// The columns of the changelog, but for `_commit`.
    pub fn change_columns(&self, changes: &[(Vec<Value>, Vec<Value>, i32)]) -> Vec<ArrayRef> {
        let mut columns = self.visible_columns(changes.iter().map(|(key, shown, _)| (key, shown)));
        columns.push(Arc::new(Int32Array::from_iter_values(changes.iter().map(|change| change.2))));
        columns
    }

    fn visible_columns<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Vec<Value>, &'a Vec<Value>)> + Clone,
    ) -> Vec<ArrayRef> {
        let mut columns = Vec::new();
        for (place, kind) in self.key_kinds().into_iter().enumerate() {
            columns.push(array_of(kind, rows.clone().map(|(key, _)| &key[place])));
        }
        if let Some(steps) = &self.steps {
            let step = rows.clone().map(|(key, _)| match key.last() {
                Some(Value::Long(step)) => steps[*step as usize - 1].as_str(),
                _ => "",
            });
            columns.push(Arc::new(StringArray::from_iter_values(step)));
        }
        for (place, measure) in self.measures.iter().enumerate() {
            let kind = match measure {
                Shown::Count | Shown::Users => ColumnType::Long,
                Shown::Sum(_, ColumnType::Decimal { scale, .. }) => {
                    ColumnType::Decimal { precision: 38, scale: *scale }
                }
                Shown::Sum(_, kind) => *kind,
            };
            columns.push(array_of(kind, rows.clone().map(|(_, shown)| &shown[place])));
        }
        columns
    }

    fn key_kinds(&self) -> Vec<ColumnType> {
        let mut kinds = Vec::new();
        if self.windowed {
            kinds.push(ColumnType::Timestamp);
        }
        kinds.extend(self.groups.iter().map(|(kind, _, _)| *kind));
        if self.steps.is_some() {
            kinds.push(ColumnType::Long);
        }
        kinds
    }

    /// The rows of a leaf whose columns stand in the order of `schema`.
    pub fn read_leaf(&self, schema: &SchemaRef, batch: &RecordBatch) -> Option<Vec<CurrentRow>> {
        let column = |name: &str| batch.column_by_name(name);
        let kinds = self.key_kinds();
        let names = schema.fields().iter().map(|field| field.name());
        let keys: Option<Vec<Vec<Value>>> =
            kinds.iter().zip(names).map(|(kind, name)| values_of(*kind, column(name)?)).collect();
        let (keys, commits) = (keys?, longs_of(column("_commit")?)?);
        let (counts, users) = (longs_of(column("_count")?)?, longs_of(column("_users")?)?);
        let first_measure = kinds.len() + usize::from(self.steps.is_some());
        let mut sums = Vec::new();
        for (place, measure) in self.measures.iter().enumerate() {
            if let Shown::Sum(_, kind) = measure {
                let name = schema.field(first_measure + place).name();
                let values = longs_of(column(&format!("_values_{name}"))?)?;
                sums.push((values_of(*kind, column(name)?)?, values));
            }
        }
        let row = |index: usize| CurrentRow {
            key: keys.iter().map(|column| column[index].clone()).collect(),
            totals: Delta {
                count: counts[index],
                users: users[index],
                sums: sums
                    .iter()
                    .map(|(shown, values)| sum_of(&shown[index], values[index]))
                    .collect(),
            },
            commit: commits[index] as u64,
        };
        Some((0..batch.num_rows()).map(row).collect())
    }
}

fn sum_of(shown: &Value, values: i64) -> SumDelta {
    let value = match shown {
        Value::Long(value) => i128::from(*value),
        Value::Decimal(value) => *value,
        _ => 0,
    };
    SumDelta { value, values }
}

fn longs(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn longs_of(column: &ArrayRef) -> Option<Vec<i64>> {
    Some(column.as_primitive_opt::<Int64Type>()?.values().to_vec())
}

/// A column of these values. Values of another type are NULL; the caller's types rule them out.
pub(super) fn array_of<'a>(kind: ColumnType, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    match kind {
        ColumnType::String => {
            let text = values.map(|value| match value {
                Value::String(text) => Some(&**text),
                _ => None,
            });
            Arc::new(StringArray::from_iter(text))
        }
        ColumnType::Boolean => {
            let truth = values.map(|value| match value {
                Value::Boolean(truth) => Some(*truth),
                _ => None,
            });
            Arc::new(BooleanArray::from_iter(truth))
        }
        ColumnType::Long => Arc::new(Int64Array::from_iter(values.map(integer))),
        ColumnType::Timestamp => {
            let times = TimestampMicrosecondArray::from_iter(values.map(integer));
            Arc::new(times.with_timezone("+00:00"))
        }
        ColumnType::Decimal { precision, scale } => {
            let unscaled = values.map(|value| match value {
                Value::Decimal(unscaled) => Some(*unscaled),
                _ => None,
            });
            let decimals = Decimal128Array::from_iter(unscaled).into_data();
            let kind = arrow_schema::DataType::Decimal128(precision, scale as i8);
            let data = decimals.into_builder().data_type(kind).build();
            Arc::new(Decimal128Array::from(
                data.unwrap_or_else(|error| panic!("a decimal column can't be made: {error}")),
            ))
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Long(value) | Value::Timestamp(value) => Some(*value),
        _ => None,
    }
}

/// The values of a column; `None` if it has another type.
fn values_of(kind: ColumnType, column: &ArrayRef) -> Option<Vec<Value>> {
    fn all<T>(values: impl Iterator<Item = Option<T>>, make: impl Fn(T) -> Value) -> Vec<Value> {
        values.map(|value| value.map_or(Value::Null, &make)).collect()
    }
    Some(match kind {
        ColumnType::String => {
            all(column.as_string_opt::<i32>()?.iter(), |text: &str| Value::String(text.into()))
        }
        ColumnType::Boolean => all(column.as_boolean_opt()?.iter(), Value::Boolean),
        ColumnType::Long => all(column.as_primitive_opt::<Int64Type>()?.iter(), Value::Long),
        ColumnType::Timestamp => {
            let times = column.as_primitive_opt::<TimestampMicrosecondType>()?;
            all(times.iter(), Value::Timestamp)
        }
        ColumnType::Decimal { .. } => {
            all(column.as_primitive_opt::<Decimal128Type>()?.iter(), Value::Decimal)
        }
    })
}

#[cfg(test)]
#[path = "current_rows_tests.rs"]
mod tests;
