//! The table of events: each row is the event of the record at its position, admitted in its commit, with the
//! columns of the dimension as they stood.
//!
//! How they stood is known to the commit: a row may have those of any version of its user that was the newest
//! at some time between the end of the commit before and the end of its own.

use std::collections::{BTreeMap, HashSet};

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use xxhash_rust::xxh3::xxh3_128;

use crate::job::{Column, Job};
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Value;
use crate::verify::VerifyError;
use crate::verify::compare::{NamedColumn, Shape};
use crate::verify::copies::Copies;
use crate::verify::found::Found;
use crate::verify::history::{EVENT_COLUMNS, ValueId, Values, Version};
use crate::verify::scan::{ahead, long, scan};
use crate::verify::winners::Claims;

const TABLE: &str = "events";

/// The versions of every user, in the order of commits and then of the log.
#[derive(Debug)]
struct Stamps<'a> {
    versions: Vec<&'a Version>,
    /// By the number of the key: where its versions begin.
    starts: Vec<u32>,
}

impl<'a> Stamps<'a> {
    fn new(values: &Values, versions: &'a [Version]) -> Stamps<'a> {
        let mut sorted: Vec<&Version> = versions.iter().collect();
        sorted.sort_unstable_by_key(|version| (version.key, version.commit, version.place));
        let mut starts = Vec::with_capacity(values.count() + 1);
        for (index, version) in sorted.iter().enumerate() {
            starts.resize(starts.len().max(version.key as usize + 1), index as u32);
        }
        starts.resize(values.count() + 1, sorted.len() as u32);
        Stamps { versions: sorted, starts }
    }

    /// The versions of a user that were the newest at some time in `commit`; `None` stands for no version.
    fn standing(&self, user: ValueId, commit: u64) -> impl Iterator<Item = Option<&'a Version>> {
        let user = user as usize;
        let of_user = &self.versions[self.starts[user] as usize..self.starts[user + 1] as usize];
        let (before, since) =
            of_user.split_at(of_user.partition_point(|version| version.commit < commit));
        let stood = before.iter().copied().max_by_key(|version| version.place);
        let came = since.iter().copied().take_while(move |version| version.commit == commit);
        let came =
            came.filter(move |version| stood.is_none_or(|stood| stood.place < version.place));
        std::iter::once(stood).chain(came.map(Some))
    }
}

/// Compares every row with the copy that it names, and says which copies are named.
pub(crate) fn claim(
    job: &Job,
    copies: &Copies,
    topic: ValueId,
    store: &Store,
    table: &LoadedTable,
    found: &mut Found,
) -> Result<Claims, VerifyError> {
    let dimension = job.dimension.iter().flat_map(|dimension| &dimension.columns);
    let named = |column: &Column| NamedColumn::new(&column.name, column.kind);
    let rows = Rows {
        copies,
        stamps: Stamps::new(&copies.values, &copies.versions),
        topic,
        columns: job.events.columns.iter().map(named).collect(),
        stamped: dimension.map(named).collect(),
    };
    let all = rows.columns.iter().chain(&rows.stamped).map(|column| column.name.as_str());
    let names: Vec<&str> = EVENT_COLUMNS.into_iter().chain(all).collect();
    let mut claims = Claims { rows: vec![0; copies.copies.len()], strangers: HashSet::new() };
    let mut counted: BTreeMap<u64, usize> = BTreeMap::new();
    ahead(
        |give: &mut dyn FnMut((Vec<ArrayRef>, usize))| {
            scan(store, table, &names, &mut |columns, count| give((columns.to_vec(), count)))
        },
        |(columns, count)| {
            for row in 0..count {
                *counted.entry(long(&columns[6], row).cast_unsigned()).or_default() += 1;
                rows.claim(&columns, row, &mut claims, found);
            }
        },
    )?;
    found.count(TABLE, counted);
    Ok(claims)
}

struct Rows<'a> {
    copies: &'a Copies,
    stamps: Stamps<'a>,
    topic: ValueId,
    columns: Vec<NamedColumn>,
    /// Of the dimension.
    stamped: Vec<NamedColumn>,
}

impl Rows<'_> {
    fn claim(&self, columns: &[ArrayRef], row: usize, claims: &mut Claims, found: &mut Found) {
        let id = columns[0].as_string::<i32>().value(row);
        let hash = xxh3_128(id.as_bytes());
        let [partition, offset, commit] = [4, 5, 6].map(|column| long(&columns[column], row));
        let commit = commit.cast_unsigned();
        let is_of_topic = self.copies.values.find(&columns[3], row) == Some(self.topic);
        let copy = self.copies.find(hash, partition, offset).filter(|_| is_of_topic);
        let Some(copy) = copy else {
            claims.strangers.insert(hash);
            let topic = columns[3].as_string::<i32>().value(row);
            let what = format!(
                "event_id={id}: expected {}, found it at topic {topic}, partition {partition}, \
                 offset {offset}",
                self.expected(hash)
            );
            return found.fault(TABLE, commit, what);
        };
        claims.rows[copy] = claims.rows[copy].saturating_add(1);
        if !self.is_right(columns, row, copy, commit) {
            let differences = self.differences(columns, row, copy, commit).join("; ");
            found.fault(TABLE, commit, format!("event_id={id}: {differences}"));
        }
    }

    /// Where an event of this id may stand.
    fn expected(&self, id: u128) -> String {
        let copies = self.copies.copies.iter().enumerate().filter(|(_, copy)| copy.id == id);
        let places: Vec<String> =
            copies.map(|(copy, _)| self.copies.described(self.topic, copy)).collect();
        if places.is_empty() { "no event with this id".to_owned() } else { places.join(" or ") }
    }

    fn is_right(&self, columns: &[ArrayRef], row: usize, copy: usize, commit: u64) -> bool {
        let (values, of) = (&self.copies.values, &self.copies.copies[copy]);
        let (cells, stamp) = columns[EVENT_COLUMNS.len()..].split_at(self.columns.len());
        let same = |(column, cell): (&ArrayRef, &ValueId)| values.find(column, row) == Some(*cell);
        values.find(&columns[1], row) == Some(of.user)
            && long(&columns[2], row) == of.time
            && commit == u64::from(of.commit)
            && cells.iter().zip(self.copies.cells(copy)).all(same)
            && self.is_stamp(stamp, row, of.user, commit)
    }

    fn is_stamp(&self, stamp: &[ArrayRef], row: usize, user: ValueId, commit: u64) -> bool {
        let values = &self.copies.values;
        self.stamps.standing(user, commit).any(|version| {
            let columns = version.and_then(|version| version.columns.as_ref());
            let cell = |index: usize| columns.map_or(0, |columns| columns[index]);
            let mut cells = stamp.iter().enumerate();
            cells.all(|(index, column)| values.find(column, row) == Some(cell(index)))
        })
    }

    /// What is wrong with a row, and the record behind it.
    fn differences(
        &self,
        columns: &[ArrayRef],
        row: usize,
        copy: usize,
        commit: u64,
    ) -> Vec<String> {
        let (values, of) = (&self.copies.values, &self.copies.copies[copy]);
        let mut said = Vec::new();
        let mut compare = |name: &str, scale: u8, expected: &Value, found: &Value| {
            if expected != found {
                let (expected, found) = (expected.text(scale), found.text(scale));
                said.push(format!("{name}: expected {expected}, found {found}"));
            }
        };
        let value = |column: usize| crate::lake::cells::value_at(&columns[column], row);
        compare("user_id", 0, values.get(of.user), &value(1));
        compare("event_time", 0, &Value::Timestamp(of.time), &value(2));
        let number = |commit: u64| Value::Long(commit.cast_signed());
        compare("_commit", 0, &number(of.commit.into()), &number(commit));
        for (index, column) in self.columns.iter().enumerate() {
            let expected = values.get(self.copies.cells(copy)[index]);
            compare(&column.name, column.scale, expected, &value(EVENT_COLUMNS.len() + index));
        }
        let first = EVENT_COLUMNS.len() + self.columns.len();
        if !self.is_stamp(&columns[first..], row, of.user, commit) {
            let found: Vec<Value> =
                (0..self.stamped.len()).map(|index| value(first + index)).collect();
            let expected = self.stamps.standing(of.user, commit).map(|version| self.stamp(version));
            let expected: Vec<String> = expected.collect();
            let found = Shape::named(&self.stamped, &found);
            said.push(format!("expected {}, found {found}", expected.join(" or ")));
        }
        let place = self.copies.described(self.topic, copy);
        said.push(format!("the record behind it: {place}"));
        said
    }

    /// The columns of a version, for people.
    fn stamp(&self, version: Option<&Version>) -> String {
        let columns = version.and_then(|version| version.columns.as_ref());
        let cell = |index: usize| columns.map_or(0, |columns| columns[index]);
        let cells =
            (0..self.stamped.len()).map(|index| self.copies.values.get(cell(index)).clone());
        Shape::named(&self.stamped, &cells.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::history::Place;

    #[test]
    fn a_stamp_is_of_a_version_that_was_the_newest_in_the_commit() {
        let mut values = Values::default();
        let (user, nobody) = (values.text("u"), values.text("n"));
        let version = |commit, partition, offset| Version {
            key: user,
            columns: None,
            commit,
            place: Place { topic: 0, partition, offset },
        };
        let versions = [
            version(3, 1, 5),
            version(1, 1, 2),
            version(3, 0, 9),
            version(3, 1, 6),
            version(2, 1, 4),
        ];
        let stamps = Stamps::new(&values, &versions);
        let offsets = |user, commit| -> Vec<Option<i64>> {
            let standing = stamps.standing(user, commit);
            standing.map(|version| version.map(|version| version.place.offset)).collect()
        };
        assert_eq!(offsets(user, 1), [None, Some(2)]);
        assert_eq!(offsets(user, 2), [Some(2), Some(4)]);
        assert_eq!(offsets(user, 3), [Some(4), Some(5), Some(6)], "partition 0 never stood");
        assert_eq!(offsets(user, 4), [Some(6)]);
        assert_eq!(offsets(nobody, 3), [None]);
        assert_eq!(offsets(0, 3), [None], "no user at all");
    }
}
