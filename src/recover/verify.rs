//! The proof of what was rebuilt: the rows of state add up to exactly the current tables.
//!
//! While the rows were made, so were the differences that a run hands to the writer of current tables. Here
//! there was nothing before, so the differences are the tables. Every row of every leaf is compared with
//! them, hidden columns included.

use std::collections::HashMap;

use super::error::RecoverError;
use crate::changes::{Changes, Delta, GroupKey};
use crate::lake::read::read_data_file;
use crate::model::{Interner, Value};
use crate::sink::{Stored, TableIndex, TableSet};

/// Rows of a current table: totals by key.
type Totals = HashMap<Vec<Value>, Delta>;

/// Refuses what differs from the current tables.
pub(super) fn verify(
    tables: &TableSet,
    stored: &Stored,
    made: Changes,
    interner: &Interner,
) -> anyhow::Result<()> {
    let mut by_table: HashMap<TableIndex, Vec<(GroupKey, Delta)>> = HashMap::new();
    for (group, totals) in made.into_iter_nonzero() {
        by_table.entry(group.table).or_default().push((group, totals));
    }
    for (index, table) in tables.iter() {
        let Some(shape) = &table.shape else { continue };
        let made = by_table.remove(&index).unwrap_or_default().into_iter();
        let made = made.map(|(group, totals)| Ok((shape.key(&group, interner)?, totals)));
        let mut made = made.collect::<anyhow::Result<Totals>>()?;
        let differs = |key: &[Value], found: Option<&Delta>, expected: Option<&Delta>| {
            let (found, expected) = (described(found), described(expected));
            let (table, row) = (table.spec.full_name(), row_name(key));
            RecoverError::Differs { table, row, found, expected }
        };
        for leaf in stored.leaves(&table.spec.name) {
            for batch in read_data_file(&leaf.path, None).map_err(RecoverError::Read)? {
                let rows = shape.read_leaf(table.layout.schema(), &batch);
                let columns = || RecoverError::Columns { path: leaf.path.clone() };
                for row in rows.ok_or_else(columns)? {
                    let expected = made.remove(&row.key);
                    if expected.as_ref() != Some(&row.totals) {
                        let found = Some(&row.totals);
                        return Err(differs(&row.key, found, expected.as_ref()).into());
                    }
                }
            }
        }
        if let Some((key, totals)) = made.iter().next() {
            return Err(differs(key, None, Some(totals)).into());
        }
    }
    Ok(())
}

fn described(totals: Option<&Delta>) -> String {
    let Some(Delta { count, users, sums }) = totals else { return "no row".to_owned() };
    let sums = sums.iter().map(|sum| format!(", a sum of {} over {}", sum.value, sum.values));
    format!("a count of {count}, {users} users{}", sums.collect::<String>())
}

fn row_name(key: &[Value]) -> String {
    let value = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Timestamp(value) => format!("{value} us"),
        Value::Decimal(value) => format!("{value} (unscaled)"),
        Value::String(value) => format!("{value:?}"),
    };
    format!("({})", key.iter().map(value).collect::<Vec<_>>().join(", "))
}
