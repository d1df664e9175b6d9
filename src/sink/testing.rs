//! What tests share that need tables or a worker's context: a small job in a folder of its own, with the
//! parts that a run gives to its workers and to its committer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Committer, Merger, Stored, TableSet};
use crate::clock::Clock;
use crate::job::{self, FactLayout, Job};
use crate::lake::catalog::{Catalog, JobSwap, NewTable};
use crate::lake::names::Origin;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::meters::Meters;
use crate::model::{Commit, Incarnation, Interner, Symbol};
use crate::offload::Lane;
use crate::state::LiveSlabs;
use crate::worker::{Failure, WorkerContext};

const JOB: &str = r#"
[job]
name = "small"
[events]
source = { directory = "events" }
id = "/id"
user = "/user"
time = "/ts"
[events.columns]
kind = { path = "/kind", type = "long" }
amount = { path = "/amount", type = "long" }
price = { path = "/price", type = "decimal(12,2)" }
[[aggregate]]
name = "kinds"
group_by = ["kind"]
measures = { n = "count", people = "distinct", amount = "sum(amount)", price = "sum(price)" }
[lake]
catalog = "sqlite:catalog.db"
warehouse = "warehouse"
"#;

/// What the clock of the committer says at first: later than the machine's, which stamps new tables.
pub(super) const NOW_MS: i64 = 4_102_444_800_123;

/// A clock that always says the same.
#[derive(Debug)]
pub(super) struct StoppedClock(pub(super) i64);

impl Clock for StoppedClock {
    fn now_ms(&self) -> i64 {
        self.0
    }
}

/// A job with one current table, `kinds`, whose lake is a folder that goes away.
pub(crate) struct Lake {
    folder: tempfile::TempDir,
    pub(crate) job: Job,
    pub(super) tables: Arc<TableSet>,
    pub(super) interner: Arc<Interner>,
}

impl Lake {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let job = job::parse(JOB, "job.toml", folder.path(), &|_| None).unwrap();
        let tables = Arc::new(TableSet::new(&job).unwrap());
        Lake { folder, job, tables, interner: Arc::default() }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The only worker of a run that starts from nothing.
    pub(crate) fn context(&self) -> Arc<WorkerContext> {
        let job = &self.job;
        Arc::new(WorkerContext {
            worker: 0,
            workers: 1,
            workers_of_process: 1,
            job: Arc::new(job.clone()),
            layout: FactLayout::new(&job.events, &job.aggregates, &job.funnels).unwrap(),
            tables: Arc::clone(&self.tables),
            interner: Arc::clone(&self.interner),
            no_version: Symbol(0),
            incarnation: Incarnation(1),
            start: Commit(0),
            stored: Arc::new(Stored::new(job.definition.clone())),
            live: LiveSlabs::default(),
            state_dir: job.lake.state.clone(),
            store: Store::local(),
            lane: Lane::start("lane".to_owned()).unwrap(),
            committer: crossbeam_channel::bounded(0).0,
            failure: Arc::new(Failure::default()),
            meters: Meters::default(),
            dedup_bytes_max: 1 << 20,
            users_bytes_max: 1 << 20,
        })
    }

    /// The committer of a first run, which has just made its tables. It waits for no lock.
    pub(super) fn committer(&self) -> Committer {
        let (job, store) = (&self.job, Store::local());
        let mut catalog =
            Catalog::open(&job.lake.catalog, &job.lake.catalog_name, Duration::ZERO).unwrap();
        let incarnation = Incarnation(catalog.begin_run(&job.name, None).unwrap());
        std::fs::create_dir_all(&job.lake.state).unwrap();
        let origin = Origin { job: job.name.clone(), incarnation: incarnation.0, commit: 0 };
        let mut stored = Stored::new(job.definition.clone());
        let (mut loaded, mut rows) = (Vec::new(), Vec::new());
        for (_, table) in self.tables.iter() {
            let made = LoadedTable::create(&store, &table.spec, &table.location, &origin).unwrap();
            let (namespace, name) = (table.spec.namespace.clone(), table.spec.name.clone());
            let metadata_location = made.metadata_location.clone();
            let entry = stored.tables.entry(name.clone()).or_default();
            entry.location.clone_from(&metadata_location);
            rows.push(NewTable { namespace, table: name, metadata_location });
            loaded.push(made);
        }
        let swap = JobSwap {
            job: job.name.clone(),
            incarnation: incarnation.0,
            from_commit: 0,
            to_commit: 0,
            body: stored.encode(),
        };
        catalog.create_tables(&rows, &swap).unwrap();
        Committer {
            job: Arc::new(job.clone()),
            tables: Arc::clone(&self.tables),
            loaded,
            stored,
            commit: Commit(0),
            incarnation,
            catalog,
            store,
            interner: Arc::clone(&self.interner),
            clock: Arc::new(StoppedClock(NOW_MS)),
            merger: Merger::new(job.lake.state.clone(), incarnation, Vec::new()),
        }
    }
}
