//! Cuts: one row for each Kafka partition that a commit moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, SchemaRef};

use serde::{Deserialize, Serialize};

use super::committer::Cuts;
use super::finished::Counts;
use crate::model::{Commit, Incarnation};
use crate::source::cut::Cut;
use crate::source::feed::Role;
use crate::source::mark::Marks;

/// What a commit moved in one Kafka partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CutRow {
    /// The topic's role.
    pub role: Role,
    /// The topic.
    pub topic: Arc<str>,
    /// The Kafka partition.
    pub partition: i32,
    /// The offset of the first record of the commit.
    pub start: i64,
    /// The offset behind the last one.
    pub end: i64,
}

impl Cuts {
    /// The cut of a commit from the parts of all processes, each of which reads other Kafka partitions.
    pub fn join(commit: Commit, parts: Vec<Cuts>) -> Cuts {
        let (mut moved, mut end) = (Vec::new(), Cut::default());
        let mut marks: BTreeMap<String, Marks> = BTreeMap::new();
        for part in parts {
            moved.extend(part.moved);
            for (topic, offsets) in part.end.topics() {
                let mut joined = end.offsets(topic);
                joined.extend(offsets);
                end.set(topic, joined);
            }
            for (topic, of_topic) in part.marks {
                marks.entry(topic).or_default().extend(of_topic);
            }
        }
        moved.sort_by_key(|row| (row.role, row.partition));
        Cuts { commit, moved, end, marks }
    }
}

/// Rows of the table `cuts`.
pub(super) fn cut_rows(
    schema: &SchemaRef,
    rows: &[CutRow],
    counts: &BTreeMap<(Role, i32), Counts>,
    commit: Commit,
    incarnation: Incarnation,
    now_us: i64,
) -> Result<RecordBatch, ArrowError> {
    let counted: Vec<Counts> = rows
        .iter()
        .map(|row| counts.get(&(row.role, row.partition)).copied().unwrap_or_default())
        .collect();
    let longs = |values: &mut dyn Iterator<Item = i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    };
    let now = TimestampMicrosecondArray::from_value(now_us, rows.len()).with_timezone("+00:00");
    let columns: Vec<ArrayRef> = vec![
        longs(&mut rows.iter().map(|_| commit.0 as i64)),
        Arc::new(now),
        longs(&mut rows.iter().map(|_| incarnation.0 as i64)),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.topic))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.partition))),
        longs(&mut rows.iter().map(|row| row.start)),
        longs(&mut rows.iter().map(|row| row.end)),
        longs(&mut counted.iter().map(|counts| counts.records as i64)),
        longs(&mut counted.iter().map(|counts| counts.dead_letters as i64)),
        longs(&mut counted.iter().map(|counts| counts.duplicates as i64)),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns)
}
