//! The tables of a job as readers see them: names, columns, types.
//!
//! For people: the schemas themselves are made where tables are written.

use super::{Column, Job, MeasureKind};
use crate::model::ColumnType;

/// A table of the job's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The table's name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<TableColumn>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// The column's name.
    pub name: String,
    /// Its type, in Iceberg's words.
    pub kind: String,
}

const POSITION: [(&str, &str); 3] =
    [("_topic", "string"), ("_partition", "int"), ("_offset", "long")];
const COMMIT: (&str, &str) = ("_commit", "long");

impl Job {
    /// The tables that the job writes.
    pub fn tables(&self) -> Vec<TableShape> {
        let mut tables = Vec::new();
        if self.lake.events {
            tables.push(self.events_table());
        }
        tables.extend(self.dimension_table());
        for spec in &self.aggregates {
            let mut columns = Vec::new();
            columns.extend(spec.window_us.map(|_| column("window_start", "timestamptz")));
            columns.extend(spec.group_by.iter().map(|group| typed(&group.name, group.kind)));
            for measure in &spec.measures {
                let kind = match measure.kind {
                    MeasureKind::Count | MeasureKind::Distinct => ColumnType::Long,
                    MeasureKind::Sum(index) => sum_type(self.events.columns[index].kind),
                };
                columns.push(typed(&measure.name, kind));
            }
            tables.extend(current(&spec.name, columns));
        }
        for spec in &self.funnels {
            let groups = spec.group_by.iter().map(|group| typed(&group.name, group.kind));
            let ours = [("step", "long"), ("step_name", "string"), ("users", "long")];
            tables.extend(current(&spec.name, groups.chain(ours.map(pair)).collect()));
        }
        let bytes = [("key", "binary"), ("value", "binary")];
        let timestamp = [("_timestamp", "timestamptz")];
        let reason = [("reason", "string"), ("detail", "string")];
        let letters = [&POSITION[..], &timestamp, &reason, &bytes, &[COMMIT]].concat();
        tables.push(fixed("dead_letters", &letters));
        if self.lake.raw {
            let headers = [("headers", "string")];
            let raw = [&bytes[..], &headers, &timestamp, &POSITION, &[COMMIT]].concat();
            tables.push(fixed("raw", &raw));
        }
        tables.push(fixed("cuts", &CUTS));
        tables
    }

    fn events_table(&self) -> TableShape {
        let ours = [("event_id", "string"), ("user_id", "string"), ("event_time", "timestamptz")];
        let mut columns: Vec<_> = ours.map(pair).into();
        columns.extend(self.events.columns.iter().map(of_job));
        let dimension = self.dimension.iter().flat_map(|dimension| &dimension.columns);
        columns.extend(dimension.map(of_job));
        columns.extend(POSITION.map(pair));
        columns.push(pair(COMMIT));
        TableShape { name: "events".into(), columns }
    }

    fn dimension_table(&self) -> Option<TableShape> {
        let dimension = self.dimension.as_ref()?;
        let mut columns = vec![column(&dimension.key_name, "string")];
        columns.extend(dimension.columns.iter().map(of_job));
        columns.push(column("_deleted", "boolean"));
        columns.extend(POSITION.map(pair));
        columns.push(pair(COMMIT));
        Some(TableShape { name: format!("{}_changes", dimension.name), columns })
    }
}

const CUTS: [(&str, &str); 10] = [
    COMMIT,
    ("committed_at", "timestamptz"),
    ("incarnation", "long"),
    ("topic", "string"),
    ("partition", "int"),
    ("start_offset", "long"),
    ("end_offset", "long"),
    ("records", "long"),
    ("dead_letters", "long"),
    ("duplicates", "long"),
];

/// The type of the sum of a column: a decimal's sum has all the digits there are.
fn sum_type(kind: ColumnType) -> ColumnType {
    match kind {
        ColumnType::Decimal { scale, .. } => ColumnType::Decimal { precision: 38, scale },
        other => other,
    }
}

/// A current table and its changes.
fn current(name: &str, columns: Vec<TableColumn>) -> [TableShape; 2] {
    let mut changes = columns.clone();
    let mut current = columns;
    current.push(pair(COMMIT));
    changes.push(column("_diff", "int"));
    changes.push(pair(COMMIT));
    [
        TableShape { name: name.into(), columns: current },
        TableShape { name: format!("{name}_changes"), columns: changes },
    ]
}

fn fixed(name: &str, columns: &[(&str, &str)]) -> TableShape {
    TableShape { name: name.into(), columns: columns.iter().copied().map(pair).collect() }
}

fn of_job(column: &Column) -> TableColumn {
    typed(&column.name, column.kind)
}

fn typed(name: &str, kind: ColumnType) -> TableColumn {
    match kind {
        ColumnType::Timestamp => column(name, "timestamptz"),
        other => column(name, &other.to_string()),
    }
}

fn pair((name, kind): (&str, &str)) -> TableColumn {
    column(name, kind)
}

fn column(name: &str, kind: &str) -> TableColumn {
    TableColumn { name: name.into(), kind: kind.into() }
}
