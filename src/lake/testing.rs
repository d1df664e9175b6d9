//! What the tests of this folder share: a table with every kind of column, and rows for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};

use super::data_file::{FilePartition, WrittenFile};
use super::names::Origin;
use super::parquet::{DataFileWriter, FileLayout, ParquetSettings};
use super::schema::{ColumnKind, ColumnSpec, Partitioning, TableSpec};
use super::snapshot::{Change, Staged, stage};
use super::storage::Store;
use super::table::LoadedTable;

pub(crate) const DAY: i64 = 86_400_000_000;

/// Every kind of column; two hidden ones where asked for.
pub(crate) fn spec(name: &str, partitioning: Partitioning, hidden: bool) -> TableSpec {
    let decimal = |precision, scale| ColumnKind::Decimal { precision, scale };
    let column = |name: &str, kind| ColumnSpec::new(name, kind, false);
    TableSpec {
        namespace: "lake".into(),
        name: name.into(),
        columns: vec![
            ColumnSpec::new("id", ColumnKind::Long, true),
            column("at", ColumnKind::Timestamptz),
            column("note", ColumnKind::String),
            column("amount", decimal(12, 2)),
            column("small", decimal(7, 3)),
            column("wide", decimal(30, 4)),
            column("ok", ColumnKind::Boolean),
            column("n", ColumnKind::Int),
            column("raw", ColumnKind::Binary),
        ],
        hidden: if hidden {
            let kind = ColumnKind::String;
            vec![column("total", ColumnKind::Long), ColumnSpec::new("key", kind, true)]
        } else {
            Vec::new()
        },
        sort: if partitioning == Partitioning::None { vec!["id".into()] } else { Vec::new() },
        partitioning,
        properties: BTreeMap::new(),
    }
}

/// Rows of these ids at this day; every seventh value of a nullable column is null.
pub(crate) fn rows(spec: &TableSpec, ids: std::ops::Range<i64>, day: Option<i64>) -> RecordBatch {
    let some = |id: i64, column: i64| (id + column) % 7 != 0;
    let ids = || ids.clone();
    let wide = |scale: i128| {
        ids().map(move |id| some(id, scale as i64).then(|| i128::from(id - 50) * 1_000_003 * scale))
    };
    let decimals = |values: Vec<Option<i128>>, p, s| {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap()) as ArrayRef
    };
    let at = ids().map(|id| day.map(|day| day * DAY + id.rem_euclid(1000) * 1_000_000));
    let at: TimestampMicrosecondArray = at.collect();
    let note = |id: i64| format!("{}é-{id:020}", ["zz", "mm", "aa"][id.rem_euclid(3) as usize]);
    let small = ids().map(|id| some(id, 4).then(|| i128::from(id % 1000 - 500)));
    let raw: Vec<Option<Vec<u8>>> =
        ids().map(|id| some(id, 8).then(|| id.to_be_bytes().to_vec())).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids())),
        Arc::new(at.with_timezone("+00:00")),
        Arc::new(StringArray::from_iter(ids().map(|id| some(id, 2).then(|| note(id))))),
        decimals(wide(1).map(|v| v.map(|v| v % 1_000_000_000)).collect(), 12, 2),
        decimals(small.collect(), 7, 3),
        decimals(wide(1_000_000_000).collect(), 30, 4),
        Arc::new(BooleanArray::from_iter(ids().map(|id| some(id, 6).then_some(id % 2 == 0)))),
        Arc::new(Int32Array::from_iter(ids().map(|id| some(id, 7).then_some((id * -3) as i32)))),
        Arc::new(BinaryArray::from_iter(raw)),
    ];
    if !spec.hidden.is_empty() {
        columns.push(Arc::new(Int64Array::from_iter_values(ids().map(|id| id * 1000))));
        let keys = ids().map(|id| format!("hidden-{id}"));
        columns.push(Arc::new(StringArray::from_iter_values(keys)));
    }
    RecordBatch::try_new(spec.arrow_schema(), columns).unwrap()
}

pub(crate) fn origin(commit: u64) -> Origin {
    Origin { job: "job".into(), incarnation: 3, commit }
}

/// A table in a folder, without a catalog.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) spec: TableSpec,
    pub(crate) table: LoadedTable,
    pub(crate) layout: Arc<FileLayout>,
    pub(crate) commit: u64,
}

impl Bench {
    pub(crate) fn new(folder: &Path, spec: TableSpec) -> Self {
        let store = Store::local();
        let location = format!("file://{}/{}", folder.display(), spec.name);
        let table = LoadedTable::create(&store, &spec, &location, &origin(0)).unwrap();
        let mut settings = ParquetSettings::from_properties(&spec.properties).unwrap();
        settings.row_group_rows_max = 40;
        settings.plain_columns = vec!["note".into()];
        settings.delta_columns = vec!["id".into(), "at".into()];
        let layout = FileLayout::new(&spec, &settings).unwrap();
        Self { store, spec, table, layout, commit: 0 }
    }

    /// Writes one data file with these ids.
    pub(crate) fn file(&self, ids: std::ops::Range<i64>, day: Option<i64>) -> WrittenFile {
        let partition = match self.spec.partitioning {
            Partitioning::None => FilePartition::Unpartitioned,
            Partitioning::Day(_) => FilePartition::day_of(day.map(|day| day * DAY)),
        };
        let path = origin(self.commit + 1).data_file(self.table.metadata.location(), 0);
        let mut writer = DataFileWriter::new(&self.layout, partition, &self.store, path).unwrap();
        writer.write(&rows(&self.spec, ids, day)).unwrap();
        writer.finish().unwrap()
    }

    pub(crate) fn change(&self, added: Vec<WrittenFile>, removed: Vec<String>) -> Change {
        Change {
            origin: origin(self.commit + 1),
            added,
            removed,
            summary: BTreeMap::from([("tidewater.commit".into(), (self.commit + 1).to_string())]),
            properties: BTreeMap::new(),
            expire: Vec::new(),
        }
    }

    /// Stages a change and takes it as committed.
    pub(crate) fn apply(&mut self, change: &Change) -> Staged {
        let now_ms = 1_700_000_000_000 + i64::try_from(self.commit).unwrap();
        let staged = stage(&self.store, &self.table, change, now_ms).unwrap();
        self.table = staged.table.clone();
        self.commit += 1;
        staged
    }

    pub(crate) fn reload(&self) -> LoadedTable {
        let t = &self.table;
        LoadedTable::load(&self.store, &t.namespace, &t.name, &t.metadata_location).unwrap()
    }
}
