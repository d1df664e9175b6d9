//! Row by row: what a table holds against what it must hold, and against its changelog.

use std::collections::HashMap;

use super::answers::Rows;
use super::scan::{long, scan};
use super::{Fault, VerifyError};
use crate::lake::cells::value_at;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::{ColumnType, Value};

/// A column of a current table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedColumn {
    pub(crate) name: String,
    /// Digits after the point, of a decimal.
    pub(crate) scale: u8,
}

impl NamedColumn {
    pub(crate) fn new(name: &str, kind: ColumnType) -> Self {
        let scale = if let ColumnType::Decimal { scale, .. } = kind { scale } else { 0 };
        NamedColumn { name: name.to_owned(), scale }
    }
}

/// Columns of a current table: those that make its key, and those that are measured.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) keys: Vec<NamedColumn>,
    pub(crate) measures: Vec<NamedColumn>,
}

impl Shape {
    fn names(&self) -> Vec<&str> {
        self.keys.iter().chain(&self.measures).map(|column| column.name.as_str()).collect()
    }

    /// Reads rows, with the values of the columns `more`.
    fn read(
        &self,
        store: &Store,
        table: &LoadedTable,
        more: &[&str],
        give: &mut dyn FnMut(Vec<Value>, Vec<i64>),
    ) -> Result<(), VerifyError> {
        let names: Vec<&str> = self.names().into_iter().chain(more.iter().copied()).collect();
        scan(store, table, &names, &mut |columns, rows| {
            let (cells, more) = columns.split_at(names.len() - more.len());
            for row in 0..rows {
                let values = cells.iter().map(|column| value_at(column, row)).collect();
                give(values, more.iter().map(|column| long(column, row)).collect());
            }
        })
    }

    /// The rows of a current table, and faults where a key stands twice.
    pub(crate) fn rows(
        &self,
        store: &Store,
        table: &LoadedTable,
        faults: &mut Vec<Fault>,
    ) -> Result<Rows, VerifyError> {
        let mut rows = Rows::new();
        self.read(store, table, &[], &mut |mut key, _| {
            let measures = key.split_off(self.keys.len());
            if let Some(other) = rows.insert(key.clone(), measures) {
                let found = Self::named(&self.measures, &other);
                let what =
                    format!("{} stands twice, once with {found}", Self::named(&self.keys, &key));
                faults.push(Fault::new(&table.full_name(), what));
            }
        })?;
        Ok(rows)
    }

    /// What the changelog adds up to after the commits that are not after `until`, and after `since`.
    pub(crate) fn changes(
        &self,
        store: &Store,
        changelog: &LoadedTable,
        since: u64,
        until: u64,
    ) -> Result<HashMap<Vec<Value>, i64>, VerifyError> {
        let mut sums: HashMap<Vec<Value>, i64> = HashMap::new();
        self.read(store, changelog, &["_diff", "_commit"], &mut |row, numbers| {
            let commit = numbers[1].cast_unsigned();
            if commit > since && commit <= until {
                *sums.entry(row).or_default() += numbers[0];
            }
        })?;
        sums.retain(|_, times| *times != 0);
        Ok(sums)
    }

    /// Compares a table with its changelog.
    pub(crate) fn compare_changes(
        &self,
        table: &str,
        rows: &Rows,
        mut sums: HashMap<Vec<Value>, i64>,
    ) -> Vec<Fault> {
        let whole =
            |(key, measures): (&Vec<Value>, &Vec<Value>)| [key.as_slice(), measures].concat();
        let mut faults = Vec::new();
        let mut differs = |row: &[Value], expected: i64, found: i64| {
            let (key, measures) = row.split_at(self.keys.len());
            let (key, measures) =
                (Self::named(&self.keys, key), Self::named(&self.measures, measures));
            let what = format!(
                "{key}: the row with {measures} is there {expected} times, and its changes add up to {found}"
            );
            faults.push(Fault::new(table, what));
        };
        for row in rows.iter().map(whole) {
            let found = sums.remove(&row).unwrap_or(0);
            if found != 1 {
                differs(&row, 1, found);
            }
        }
        sums.iter().for_each(|(row, found)| differs(row, 0, *found));
        faults
    }

    /// The columns of a row with their values, as in `region=emea, step=2`.
    pub(crate) fn named(columns: &[NamedColumn], values: &[Value]) -> String {
        let pairs = columns.iter().zip(values);
        let pairs =
            pairs.map(|(column, value)| format!("{}={}", column.name, value.text(column.scale)));
        let pairs: Vec<String> = pairs.collect();
        if pairs.is_empty() { "the only row".to_owned() } else { pairs.join(", ") }
    }
}

/// Keys whose rows differ, with what is expected and what is found; in the order of the keys.
pub(crate) type Differences = Vec<(Vec<Value>, Option<Vec<Value>>, Option<Vec<Value>>)>;

/// The rows that differ.
pub(crate) fn differences(mut expected: Rows, found: &Rows) -> Differences {
    let mut all = Vec::new();
    for (key, measures) in found {
        let wanted = expected.remove(key);
        if wanted.as_ref() != Some(measures) {
            all.push((key.clone(), wanted, Some(measures.clone())));
        }
    }
    all.extend(expected.into_iter().map(|(key, wanted)| (key, Some(wanted), None)));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
