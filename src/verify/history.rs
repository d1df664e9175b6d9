//! All that happened: every event and every version of the dimension, as the tables tell it or the topics.
//!
//! Values are numbered, so that an event is a few numbers however long its texts are. Events of all commits
//! are held at once; which of them count is asked for commit by commit.

use std::hash::BuildHasher;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use xxhash_rust::xxh3::xxh3_128;

use super::VerifyError;
use super::scan::{long, scan};
use crate::job::{DimensionSpec, GroupColumn, Job, MeasureKind, Side};
use crate::lake::cells::value_at;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Value;

/// The columns of the table of events before those of the job.
pub(crate) const EVENT_COLUMNS: [&str; 7] =
    ["event_id", "user_id", "event_time", "_topic", "_partition", "_offset", "_commit"];

/// The columns of the table of versions, as [`Values::version`] wants them.
pub(crate) fn version_columns(spec: &DimensionSpec) -> Vec<&str> {
    let first = [&*spec.key_name, "_deleted", "_topic", "_partition", "_offset", "_commit"];
    first.into_iter().chain(spec.columns.iter().map(|column| column.name.as_str())).collect()
}

/// Number of a value, in the order of first sight.
pub(crate) type ValueId = u32;

/// Values by number and back. Number 0 is NULL.
#[derive(Debug)]
pub(crate) struct Values {
    hasher: DefaultHashBuilder,
    /// The numbers of texts.
    texts: HashTable<ValueId>,
    others: HashMap<Value, ValueId>,
    values: Vec<Value>,
}

impl Default for Values {
    fn default() -> Self {
        let (hasher, texts) = (DefaultHashBuilder::default(), HashTable::new());
        let others = HashMap::from_iter([(Value::Null, 0)]);
        Values { hasher, texts, others, values: vec![Value::Null] }
    }
}

impl Values {
    /// The value of this number.
    pub(crate) fn get(&self, id: ValueId) -> &Value {
        &self.values[id as usize]
    }

    /// The number of a text, if it was ever seen.
    pub(crate) fn find_text(&self, text: &str) -> Option<ValueId> {
        let is_it = |id: &ValueId| is_text(&self.values[*id as usize], text);
        self.texts.find(self.hasher.hash_one(text), is_it).copied()
    }

    /// The number of the value in a row of a column, if it was ever seen.
    pub(crate) fn find(&self, column: &ArrayRef, row: usize) -> Option<ValueId> {
        match column.as_string_opt::<i32>() {
            Some(texts) if texts.is_valid(row) => self.find_text(texts.value(row)),
            Some(_) => Some(0),
            None => self.others.get(&value_at(column, row)).copied(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.values.len()
    }

    /// The number of a text.
    pub(crate) fn text(&mut self, text: &str) -> ValueId {
        let Values { hasher, texts, values, .. } = self;
        let hash_of = |id: &ValueId| match &values[*id as usize] {
            Value::String(text) => hasher.hash_one(&**text),
            _ => 0,
        };
        let is_it = |id: &ValueId| is_text(&values[*id as usize], text);
        match texts.entry(hasher.hash_one(text), is_it, hash_of) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let id = values.len() as ValueId;
                place.insert(id);
                values.push(Value::String(text.into()));
                id
            }
        }
    }

    /// The number of a value that is no text.
    pub(crate) fn other(&mut self, value: Value) -> ValueId {
        let values = &mut self.values;
        *self.others.entry(value).or_insert_with_key(|value| {
            values.push(value.clone());
            values.len() as ValueId - 1
        })
    }

    /// The number of the value in a row of a column.
    pub(crate) fn cell(&mut self, column: &ArrayRef, row: usize) -> ValueId {
        match column.as_string_opt::<i32>() {
            Some(texts) if texts.is_valid(row) => self.text(texts.value(row)),
            Some(_) => 0,
            None => self.other(value_at(column, row)),
        }
    }

    /// Where a record stands, from the columns of topic, partition and offset.
    pub(crate) fn place(&mut self, columns: &[ArrayRef], row: usize) -> Place {
        Place {
            topic: self.cell(&columns[0], row),
            partition: long(&columns[1], row),
            offset: long(&columns[2], row),
        }
    }

    /// The version in a row of [`version_columns`], with its columns in any case, and whether it deletes
    /// its key.
    pub(crate) fn version(&mut self, columns: &[ArrayRef], row: usize) -> (Version, bool) {
        let cells = columns[6..].iter().map(|column| self.cell(column, row)).collect();
        let version = Version {
            key: self.cell(&columns[0], row),
            columns: Some(cells),
            commit: long(&columns[5], row).cast_unsigned(),
            place: self.place(&columns[2..5], row),
        };
        (version, value_at(&columns[1], row) == Value::Boolean(true))
    }

    /// Where a record stands, for people.
    pub(crate) fn place_text(&self, place: Place) -> String {
        let topic = self.get(place.topic).text(0);
        format!("topic {topic}, partition {}, offset {}", place.partition, place.offset)
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    matches!(value, Value::String(known) if **known == *text)
}

/// Where a record stands: topic, Kafka partition, offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) topic: ValueId,
    pub(crate) partition: i64,
    pub(crate) offset: i64,
}

/// An admitted event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    /// A strong hash of its id.
    pub(crate) id: u128,
    pub(crate) user: ValueId,
    pub(crate) time: i64,
    pub(crate) commit: u64,
    pub(crate) place: Place,
}

/// A version of the dimension.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) key: ValueId,
    /// `None` where it deletes the key.
    pub(crate) columns: Option<Vec<ValueId>>,
    pub(crate) commit: u64,
    pub(crate) place: Place,
}

/// Everything that the answers follow from.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) values: Values,
    pub(crate) events: Vec<Event>,
    /// For every event the columns that answers need, one after the other.
    cells: Vec<ValueId>,
    /// Which columns these are, as indexes of the job's event columns.
    columns: Vec<usize>,
    pub(crate) versions: Vec<Version>,
}

impl History {
    /// Reads the tables of events and of versions.
    pub(crate) fn read(
        job: &Job,
        store: &Store,
        tables: &[LoadedTable],
    ) -> Result<History, VerifyError> {
        let find = |name: &str| tables.iter().find(|table| table.name == name);
        let mut history = History { columns: needed(job), ..History::default() };
        if let Some(events) = find("events") {
            history.read_events(job, store, events)?;
        }
        if let Some(dimension) = &job.dimension {
            let name = format!("{}_changes", dimension.name);
            if let Some(versions) = find(&name) {
                history.read_versions(dimension, store, versions)?;
            }
        }
        Ok(history)
    }

    /// Of events with all columns of the job, one after the other, and of versions.
    pub(crate) fn of(
        job: &Job,
        values: Values,
        events: Vec<Event>,
        rows: impl Iterator<Item = impl AsRef<[ValueId]>>,
        versions: Vec<Version>,
    ) -> History {
        let columns = needed(job);
        let mut cells = Vec::with_capacity(events.len() * columns.len());
        for row in rows {
            cells.extend(columns.iter().map(|column| row.as_ref()[*column]));
        }
        History { values, events, cells, columns, versions }
    }

    /// The number of the value that an event has in column `column` of the job, one that answers need.
    pub(crate) fn cell(&self, event: usize, column: usize) -> ValueId {
        let place = self.columns.iter().position(|known| *known == column);
        place.map_or(0, |place| self.cells[event * self.columns.len() + place])
    }

    fn read_events(
        &mut self,
        job: &Job,
        store: &Store,
        table: &LoadedTable,
    ) -> Result<(), VerifyError> {
        let named = self.columns.iter().map(|column| job.events.columns[*column].name.as_str());
        let names: Vec<&str> = EVENT_COLUMNS.into_iter().chain(named).collect();
        scan(store, table, &names, &mut |columns, rows| self.take_events(columns, rows))
    }

    fn take_events(&mut self, columns: &[ArrayRef], rows: usize) {
        let ids = columns[0].as_string::<i32>();
        for row in 0..rows {
            let event = Event {
                id: xxh3_128(ids.value(row).as_bytes()),
                user: self.values.cell(&columns[1], row),
                time: long(&columns[2], row),
                commit: long(&columns[6], row).cast_unsigned(),
                place: self.values.place(&columns[3..6], row),
            };
            self.events.push(event);
            for column in &columns[7..] {
                let id = self.values.cell(column, row);
                self.cells.push(id);
            }
        }
    }

    fn read_versions(
        &mut self,
        spec: &DimensionSpec,
        store: &Store,
        table: &LoadedTable,
    ) -> Result<(), VerifyError> {
        scan(store, table, &version_columns(spec), &mut |columns, rows| {
            for row in 0..rows {
                let (mut version, deleted) = self.values.version(columns, row);
                if deleted {
                    version.columns = None;
                }
                self.versions.push(version);
            }
        })
    }

    /// The columns of the dimension for every user, as they stand at `commit`: by the number of the key.
    pub(crate) fn dimension(&self, commit: u64) -> Vec<Option<&Version>> {
        let mut newest: Vec<Option<&Version>> = vec![None; self.values.count()];
        for version in self.versions.iter().filter(|version| version.commit <= commit) {
            let held = &mut newest[version.key as usize];
            let place = |version: &Version| (version.place.partition, version.place.offset);
            if held.is_none_or(|held| place(held) < place(version)) {
                *held = Some(version);
            }
        }
        newest
    }
}

/// The event columns that groups, sums and steps are made of.
fn needed(job: &Job) -> Vec<usize> {
    let of_event = |column: &GroupColumn| match column.side {
        Side::Event(index) => Some(index),
        Side::Dimension(_) => None,
    };
    let groups = job.aggregates.iter().flat_map(|spec| &spec.group_by).filter_map(of_event);
    let measures = job.aggregates.iter().flat_map(|spec| &spec.measures);
    let sums = measures.filter_map(|measure| match measure.kind {
        MeasureKind::Sum(column) => Some(column),
        MeasureKind::Count | MeasureKind::Distinct => None,
    });
    let steps = job.funnels.iter().map(|spec| spec.column);
    let mut needed: Vec<usize> = groups.chain(sums).chain(steps).collect();
    needed.sort_unstable();
    needed.dedup();
    needed
}
