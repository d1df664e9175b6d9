//! The tables of a job: their columns, files and numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::current_rows::CurrentShape;
use super::finished::TableIndex;
use crate::job::{AggregateSpec, FunnelSpec, Job, MeasureKind};
use crate::lake::parquet::{FileLayout, ParquetSettings, WriteError};
use crate::lake::schema::{ColumnKind, ColumnSpec, Partitioning, TableSpec};
use crate::model::ColumnType;

/// A table of the job.
#[derive(Debug)]
pub struct TableDef {
    /// What it looks like.
    pub spec: TableSpec,
    /// How its files are encoded.
    pub layout: Arc<FileLayout>,
    /// Its folder.
    pub location: String,
    /// For a current table: how its rows are read and written.
    pub shape: Option<CurrentShape>,
}

/// All tables of a job. Their numbers are the same in every run of one definition.
#[derive(Debug, Default)]
pub struct TableSet {
    tables: Vec<TableDef>,
    events: Option<TableIndex>,
    versions: Option<TableIndex>,
    raw: Option<TableIndex>,
    aggregates: Vec<TableIndex>,
    funnels: Vec<TableIndex>,
    dead_letters: TableIndex,
    cuts: TableIndex,
}

/// The table property that says which job owns a table.
pub(super) const JOB_PROPERTY: &str = "tidewater.job";

impl TableSet {
    /// The tables of `job`.
    pub fn new(job: &Job) -> Result<TableSet, WriteError> {
        let mut set = TableSet::default();
        if job.lake.events {
            set.events = Some(set.add(job, events_table(job), &["event_id", "user_id"], None)?);
        }
        if let Some(table) = versions_table(job) {
            let key = table.columns[0].name.clone();
            set.versions = Some(set.add(job, table, &[&key], None)?);
        }
        for spec in &job.aggregates {
            let (table, shape) = aggregate_table(job, spec);
            let index = set.add_current(job, table, shape)?;
            set.aggregates.push(index);
        }
        for spec in &job.funnels {
            let (table, shape) = funnel_table(spec);
            let index = set.add_current(job, table, shape)?;
            set.funnels.push(index);
        }
        set.dead_letters = set.add(job, dead_letters_table(), &["value"], None)?;
        if job.lake.raw {
            set.raw = Some(set.add(job, raw_table(), &["value"], None)?);
        }
        set.cuts = set.add(job, cuts_table(), &[], None)?;
        Ok(set)
    }

    /// The table of deduplicated events, if the job writes it.
    pub fn events(&self) -> Option<TableIndex> {
        self.events
    }

    /// The table of the dimension's versions, if the job has a dimension.
    pub fn versions(&self) -> Option<TableIndex> {
        self.versions
    }

    /// The table of raw records, if the job writes it.
    pub fn raw(&self) -> Option<TableIndex> {
        self.raw
    }

    /// The current table of an aggregate; its changes are in the next table.
    pub fn aggregate(&self, index: usize) -> TableIndex {
        self.aggregates[index]
    }

    /// The current table of a funnel; its changes are in the next table.
    pub fn funnel(&self, index: usize) -> TableIndex {
        self.funnels[index]
    }

    /// The table of records that did not decode.
    pub fn dead_letters(&self) -> TableIndex {
        self.dead_letters
    }

    /// The table of cuts.
    pub fn cuts(&self) -> TableIndex {
        self.cuts
    }

    /// The changelog of a current table.
    pub fn changes_of(&self, current: TableIndex) -> TableIndex {
        current + 1
    }

    /// A table by number.
    pub fn get(&self, index: TableIndex) -> &TableDef {
        &self.tables[index]
    }

    /// All tables, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (TableIndex, &TableDef)> {
        self.tables.iter().enumerate()
    }

    fn add_current(
        &mut self,
        job: &Job,
        table: TableSpec,
        shape: CurrentShape,
    ) -> Result<TableIndex, WriteError> {
        let changes = changes_table(&table);
        let index = self.add(job, table, &[], Some(shape))?;
        self.add(job, changes, &[], None)?;
        Ok(index)
    }

    fn add(
        &mut self,
        job: &Job,
        mut spec: TableSpec,
        plain: &[&str],
        shape: Option<CurrentShape>,
    ) -> Result<TableIndex, WriteError> {
        spec.namespace = job.lake.namespace.clone();
        spec.properties = properties(job);
        let mut settings = ParquetSettings::from_properties(&spec.properties)?;
        settings.plain_columns = plain.iter().map(|name| (*name).to_owned()).collect();
        let smooth = spec.columns.iter().filter(|column| SMOOTH.contains(&&*column.name));
        settings.delta_columns = smooth.map(|column| column.name.clone()).collect();
        let layout = FileLayout::new(&spec, &settings)?;
        let location = location(&job.lake.warehouse, &spec);
        self.tables.push(TableDef { spec, layout, location, shape });
        Ok(self.tables.len() - 1)
    }
}

/// Columns whose values rise or stay the same from row to row.
const SMOOTH: [&str; 4] = ["event_time", "_partition", "_offset", "_commit"];

fn location(warehouse: &Path, spec: &TableSpec) -> String {
    format!("file://{}/{}/{}", warehouse.display(), spec.namespace, spec.name)
}

fn properties(job: &Job) -> BTreeMap<String, String> {
    let pairs = [
        (JOB_PROPERTY, job.name.clone()),
        ("write.parquet.compression-codec", "zstd".to_owned()),
        ("write.parquet.compression-level", job.lake.zstd_level.to_string()),
        ("write.metadata.previous-versions-max", "20".to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The kind of a table's column for a column of the job.
fn kind_of(kind: ColumnType) -> ColumnKind {
    match kind {
        ColumnType::String => ColumnKind::String,
        ColumnType::Long => ColumnKind::Long,
        ColumnType::Decimal { precision, scale } => ColumnKind::Decimal { precision, scale },
        ColumnType::Boolean => ColumnKind::Boolean,
        ColumnType::Timestamp => ColumnKind::Timestamptz,
    }
}

fn table(name: &str, columns: Vec<ColumnSpec>, partitioning: Partitioning) -> TableSpec {
    TableSpec {
        namespace: String::new(),
        name: name.to_owned(),
        columns,
        hidden: Vec::new(),
        partitioning,
        sort: Vec::new(),
        properties: BTreeMap::new(),
    }
}

fn required(name: &str, kind: ColumnKind) -> ColumnSpec {
    ColumnSpec::new(name, kind, true)
}

fn optional(name: &str, kind: ColumnKind) -> ColumnSpec {
    ColumnSpec::new(name, kind, false)
}

fn position_columns() -> [ColumnSpec; 3] {
    [
        required("_topic", ColumnKind::String),
        required("_partition", ColumnKind::Int),
        required("_offset", ColumnKind::Long),
    ]
}

fn commit_column() -> ColumnSpec {
    required("_commit", ColumnKind::Long)
}

fn events_table(job: &Job) -> TableSpec {
    let mut columns = vec![
        required("event_id", ColumnKind::String),
        required("user_id", ColumnKind::String),
        required("event_time", ColumnKind::Timestamptz),
    ];
    let dimension = job.dimension.iter().flat_map(|dimension| &dimension.columns);
    let named = job.events.columns.iter().chain(dimension);
    columns.extend(named.map(|column| optional(&column.name, kind_of(column.kind))));
    columns.extend(position_columns());
    columns.push(commit_column());
    table("events", columns, Partitioning::Day("event_time".to_owned()))
}

fn versions_table(job: &Job) -> Option<TableSpec> {
    let dimension = job.dimension.as_ref()?;
    let mut columns = vec![required(&dimension.key_name, ColumnKind::String)];
    let named = dimension.columns.iter();
    columns.extend(named.map(|column| optional(&column.name, kind_of(column.kind))));
    columns.push(required("_deleted", ColumnKind::Boolean));
    columns.extend(position_columns());
    columns.push(commit_column());
    Some(table(&format!("{}_changes", dimension.name), columns, Partitioning::None))
}

fn aggregate_table(job: &Job, spec: &AggregateSpec) -> (TableSpec, CurrentShape) {
    let shape = CurrentShape::of_aggregate(job, spec);
    let mut columns = Vec::new();
    let mut sort = Vec::new();
    if spec.window_us.is_some() {
        columns.push(required("window_start", ColumnKind::Timestamptz));
        sort.push("window_start".to_owned());
    }
    for column in &spec.group_by {
        columns.push(optional(&column.name, kind_of(column.kind)));
        sort.push(column.name.clone());
    }
    let mut hidden = vec![required("_count", ColumnKind::Long)];
    for measure in &spec.measures {
        match measure.kind {
            MeasureKind::Count | MeasureKind::Distinct => {
                columns.push(required(&measure.name, ColumnKind::Long));
            }
            MeasureKind::Sum(column) => {
                columns.push(optional(&measure.name, sum_kind(job.events.columns[column].kind)));
                hidden.push(required(&format!("_values_{}", measure.name), ColumnKind::Long));
            }
        }
    }
    hidden.push(required("_users", ColumnKind::Long));
    columns.push(commit_column());
    let mut table = table(&spec.name, columns, Partitioning::None);
    (table.hidden, table.sort) = (hidden, sort);
    (table, shape)
}

/// A sum is as wide as its kind allows.
fn sum_kind(kind: ColumnType) -> ColumnKind {
    match kind {
        ColumnType::Decimal { scale, .. } => ColumnKind::Decimal { precision: 38, scale },
        _ => ColumnKind::Long,
    }
}

fn funnel_table(spec: &FunnelSpec) -> (TableSpec, CurrentShape) {
    let shape = CurrentShape::of_funnel(spec);
    let groups = spec.group_by.iter();
    let mut columns: Vec<ColumnSpec> =
        groups.map(|column| optional(&column.name, kind_of(column.kind))).collect();
    let mut sort: Vec<String> = spec.group_by.iter().map(|column| column.name.clone()).collect();
    sort.push("step".to_owned());
    columns.extend([
        required("step", ColumnKind::Long),
        required("step_name", ColumnKind::String),
        required("users", ColumnKind::Long),
        commit_column(),
    ]);
    let mut table = table(&spec.name, columns, Partitioning::None);
    table.hidden = vec![required("_count", ColumnKind::Long), required("_users", ColumnKind::Long)];
    table.sort = sort;
    (table, shape)
}

fn changes_table(current: &TableSpec) -> TableSpec {
    let mut columns = current.columns.clone();
    let commit = columns.len() - 1;
    columns.insert(commit, required("_diff", ColumnKind::Int));
    table(&format!("{}_changes", current.name), columns, Partitioning::None)
}

fn dead_letters_table() -> TableSpec {
    let mut columns = position_columns().to_vec();
    columns.extend([
        optional("_timestamp", ColumnKind::Timestamptz),
        required("reason", ColumnKind::String),
        optional("detail", ColumnKind::String),
        optional("key", ColumnKind::Binary),
        optional("value", ColumnKind::Binary),
        commit_column(),
    ]);
    table("dead_letters", columns, Partitioning::None)
}

fn raw_table() -> TableSpec {
    let mut columns = vec![
        optional("key", ColumnKind::Binary),
        optional("value", ColumnKind::Binary),
        optional("headers", ColumnKind::String),
        optional("_timestamp", ColumnKind::Timestamptz),
    ];
    columns.extend(position_columns());
    columns.push(commit_column());
    table("raw", columns, Partitioning::Day("_timestamp".to_owned()))
}

fn cuts_table() -> TableSpec {
    let columns = vec![
        commit_column(),
        required("committed_at", ColumnKind::Timestamptz),
        required("incarnation", ColumnKind::Long),
        required("topic", ColumnKind::String),
        required("partition", ColumnKind::Int),
        required("start_offset", ColumnKind::Long),
        required("end_offset", ColumnKind::Long),
        required("records", ColumnKind::Long),
        required("dead_letters", ColumnKind::Long),
        required("duplicates", ColumnKind::Long),
    ];
    table("cuts", columns, Partitioning::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;

    #[test]
    fn the_tables_of_the_design_stay_as_they_are() {
        let text = include_str!("../job/tests/subscriptions.toml");
        let job = job::parse(text, "job.toml", Path::new("/jobs"), &|_| None).unwrap();
        let set = TableSet::new(&job).unwrap();
        let tables = set.iter().map(|(_, table)| {
            let columns = table.spec.columns.iter();
            let columns = columns.map(|column| format!("  {} {}\n", column.name, column.kind));
            format!("{}\n{}", table.spec.name, columns.collect::<String>())
        });
        insta::assert_snapshot!("tables", tables.collect::<String>());
    }
}
