//! From rows of tables back to what once made them: events become facts, versions become dimension changes.
//!
//! A row of `events` holds all that a fact does: its id, user and time, every event column with its default
//! filled in, and its position. So the hash of its content is the very one that the decoder took.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};

use crate::job::{Column, DimensionSpec, FactLayout, Job};
use crate::model::fact::SLOTS;
use crate::model::hash::{content_hash, id_hash, user_hash};
use crate::model::symbol::LocalInterner;
use crate::model::value::{encode_i64, encode_i128, encode_null, encode_str};
use crate::model::{ColumnType, DimensionChange, Fact, Interner, Position};

/// Makes facts of rows of the table `events`.
#[derive(Debug)]
pub(super) struct EventRows {
    layout: FactLayout,
    columns: Vec<(String, ColumnType)>,
    funnels: Vec<Steps>,
    interner: LocalInterner,
    tuple: Tuple,
    scratch: Vec<u8>,
}

/// Where a funnel's steps come from, and where they go.
#[derive(Debug)]
struct Steps {
    byte: usize,
    column: usize,
    steps: Vec<String>,
}

impl EventRows {
    /// For the events of `job`, whose facts have the layout `layout`.
    pub(super) fn new(job: &Job, layout: &FactLayout, interner: &Arc<Interner>) -> Self {
        let funnels = job.funnels.iter().zip(&layout.funnels);
        let funnels = funnels.map(|(spec, place)| Steps {
            byte: place.byte,
            column: spec.column,
            steps: spec.steps.clone(),
        });
        EventRows {
            layout: layout.clone(),
            columns: names_and_kinds(&job.events.columns),
            funnels: funnels.collect(),
            interner: LocalInterner::new(Arc::clone(interner)),
            tuple: Tuple::default(),
            scratch: Vec::new(),
        }
    }

    /// The columns that a fact is made of.
    pub(super) fn columns(&self) -> Vec<&str> {
        let named = self.columns.iter().map(|(name, _)| name.as_str());
        let first = ["event_id", "user_id", "event_time"];
        first.into_iter().chain(named).chain(["_partition", "_offset", "_commit"]).collect()
    }

    /// Gives the fact of every row with the commit that admitted it; `None` if a column is not what it
    /// should be.
    pub(super) fn facts(
        &mut self,
        rows: &RecordBatch,
        mut give: impl FnMut(u64, Fact),
    ) -> Option<()> {
        let (ids, users) = (text(rows, "event_id")?, text(rows, "user_id")?);
        let times = rows.column_by_name("event_time")?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
        let (partitions, offsets) = positions(rows)?;
        let commits = long(rows, "_commit")?;
        let cells = cells(&self.columns, rows)?;
        for row in 0..rows.num_rows() {
            self.tuple.read(&cells, row);
            let (user, time) = (user_hash(users.value(row)), times.value(row));
            let mut fact = Fact {
                id: id_hash(ids.value(row)),
                user,
                time,
                offset: offsets.value(row),
                slots: [0; SLOTS],
                partition: partitions.value(row),
                content: content_hash(&self.tuple.encoded, user, time),
                batch: 0,
                row: 0,
                worker: 0,
                nulls: 0,
            };
            self.fill(&cells, row, &mut fact);
            give(commits.value(row) as u64, fact);
        }
        Some(())
    }

    /// Fills the slots of a fact as the job's layout says.
    fn fill(&mut self, cells: &[Cells<'_>], row: usize, fact: &mut Fact) {
        for (slot, columns) in self.layout.groups.iter().enumerate() {
            self.scratch.clear();
            for column in columns {
                self.scratch.extend_from_slice(self.tuple.column(*column));
            }
            fact.slots[slot] = self.interner.intern(&self.scratch).0;
        }
        for sum in &self.layout.sums {
            let value = cells[sum.column].number(row);
            if value.is_none() {
                fact.nulls |= 1 << sum.slot;
            }
            let value = value.unwrap_or(0);
            fact.slots[sum.slot] = value as u64;
            if sum.wide {
                fact.slots[sum.slot + 1] = (value >> 64) as u64;
            }
        }
        if let Some(slot) = self.layout.funnel_slot {
            let mut bytes = [0; 8];
            for Steps { byte, column, steps } in &self.funnels {
                let step = cells[*column].text(row);
                let index = step.and_then(|text| steps.iter().position(|step| step == text));
                bytes[*byte] = index.map_or(0, |index| index as u8 + 1);
            }
            fact.slots[slot] = u64::from_le_bytes(bytes);
        }
    }
}

/// Makes dimension changes of rows of the table of versions.
#[derive(Debug)]
pub(super) struct VersionRows {
    key: String,
    columns: Vec<(String, ColumnType)>,
    interner: Arc<Interner>,
    tuple: Tuple,
}

impl VersionRows {
    /// For the dimension `spec`.
    pub(super) fn new(spec: &DimensionSpec, interner: &Arc<Interner>) -> Self {
        VersionRows {
            key: spec.key_name.clone(),
            columns: names_and_kinds(&spec.columns),
            interner: Arc::clone(interner),
            tuple: Tuple::default(),
        }
    }

    /// The columns that a version is made of.
    pub(super) fn columns(&self) -> Vec<&str> {
        let named = self.columns.iter().map(|(name, _)| name.as_str());
        let last = ["_deleted", "_partition", "_offset"];
        std::iter::once(self.key.as_str()).chain(named).chain(last).collect()
    }

    /// Gives the change of every row; `None` if a column is not what it should be.
    pub(super) fn changes(
        &mut self,
        rows: &RecordBatch,
        mut give: impl FnMut(DimensionChange),
    ) -> Option<()> {
        let keys = text(rows, &self.key)?;
        let deleted = rows.column_by_name("_deleted")?.as_boolean_opt()?;
        let (partitions, offsets) = positions(rows)?;
        let cells = cells(&self.columns, rows)?;
        for row in 0..rows.num_rows() {
            self.tuple.read(&cells, row);
            let (partition, offset) = (partitions.value(row), offsets.value(row));
            give(DimensionChange {
                user: user_hash(keys.value(row)),
                position: Position { partition, offset },
                columns: self.interner.intern(&self.tuple.encoded),
                deleted: deleted.value(row),
            });
        }
        Some(())
    }
}

fn names_and_kinds(columns: &[Column]) -> Vec<(String, ColumnType)> {
    columns.iter().map(|column| (column.name.clone(), column.kind)).collect()
}

fn text<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a StringArray> {
    rows.column_by_name(name)?.as_string_opt()
}

fn long<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a Int64Array> {
    rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

fn positions(rows: &RecordBatch) -> Option<(&Int32Array, &Int64Array)> {
    let partitions = rows.column_by_name("_partition")?.as_primitive_opt::<Int32Type>()?;
    Some((partitions, long(rows, "_offset")?))
}

fn cells<'a>(columns: &[(String, ColumnType)], rows: &'a RecordBatch) -> Option<Vec<Cells<'a>>> {
    columns.iter().map(|(name, kind)| Cells::new(*kind, rows.column_by_name(name)?)).collect()
}

/// The columns of a row, encoded as one tuple.
#[derive(Debug, Default)]
struct Tuple {
    encoded: Vec<u8>,
    /// Where the encoding of each column ends.
    ends: Vec<usize>,
}

impl Tuple {
    fn read(&mut self, cells: &[Cells<'_>], row: usize) {
        self.encoded.clear();
        self.ends.clear();
        for cells in cells {
            cells.encode(row, &mut self.encoded);
            self.ends.push(self.encoded.len());
        }
    }

    fn column(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.encoded[start..self.ends[index]]
    }
}

/// A column of a batch.
#[derive(Debug)]
enum Cells<'a> {
    Text(&'a StringArray),
    Long(&'a Int64Array),
    Timestamp(&'a TimestampMicrosecondArray),
    Decimal(&'a Decimal128Array),
    Boolean(&'a BooleanArray),
}

impl<'a> Cells<'a> {
    fn new(kind: ColumnType, column: &'a ArrayRef) -> Option<Self> {
        Some(match kind {
            ColumnType::String => Cells::Text(column.as_string_opt()?),
            ColumnType::Long => Cells::Long(column.as_primitive_opt::<Int64Type>()?),
            ColumnType::Timestamp => {
                Cells::Timestamp(column.as_primitive_opt::<TimestampMicrosecondType>()?)
            }
            ColumnType::Decimal { .. } => {
                Cells::Decimal(column.as_primitive_opt::<Decimal128Type>()?)
            }
            ColumnType::Boolean => Cells::Boolean(column.as_boolean_opt()?),
        })
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Cells::Text(cells) if cells.is_valid(row) => encode_str(cells.value(row), out),
            Cells::Long(cells) if cells.is_valid(row) => encode_i64(cells.value(row), out),
            Cells::Timestamp(cells) if cells.is_valid(row) => encode_i64(cells.value(row), out),
            Cells::Decimal(cells) if cells.is_valid(row) => encode_i128(cells.value(row), out),
            Cells::Boolean(cells) if cells.is_valid(row) => {
                out.extend_from_slice(&[1, u8::from(cells.value(row))]);
            }
            _ => encode_null(out),
        }
    }

    fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Cells::Text(cells) => cells.is_valid(row).then(|| cells.value(row)),
            _ => None,
        }
    }

    fn number(&self, row: usize) -> Option<i128> {
        match self {
            Cells::Long(cells) => cells.is_valid(row).then(|| cells.value(row).into()),
            Cells::Decimal(cells) => cells.is_valid(row).then(|| cells.value(row)),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
