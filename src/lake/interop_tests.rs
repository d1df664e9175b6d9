//! Writes a lake that other programs can be pointed at, with the ids that each snapshot must have.
//!
//! `TIDEWATER_LAKE=folder cargo test --release --lib a_lake_for_other_readers -- --ignored`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::catalog::{Catalog, JobSwap, NewTable};
use super::maintain::{Retention, delete_expired, expired_snapshots};
use super::schema::Partitioning;
use super::testing::{Bench, spec};

/// A table in the making, and the ids of its live files.
struct Growing {
    bench: Bench,
    live: BTreeMap<String, std::ops::Range<i64>>,
    expected: serde_json::Map<String, Value>,
}

impl Growing {
    fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.live.values().cloned().flatten().collect();
        ids.sort_unstable();
        ids
    }
}

#[test]
#[ignore = "writes to a folder of the caller's choice"]
fn a_lake_for_other_readers() {
    let Some(folder) = std::env::var_os("TIDEWATER_LAKE").map(PathBuf::from) else { return };
    let mut catalog =
        Catalog::open(&folder.join("catalog.db"), "tidewater", Duration::from_secs(5)).unwrap();
    let run = catalog.begin_run("job").unwrap();
    let specs = [
        spec("plain", Partitioning::None, false),
        spec("hidden", Partitioning::None, true),
        spec("daily", Partitioning::Day("at".into()), false),
        spec("daily_hidden", Partitioning::Day("at".into()), true),
    ];
    let mut tables: Vec<Growing> = specs
        .into_iter()
        .map(|spec| Growing {
            bench: Bench::new(&folder, spec),
            live: BTreeMap::new(),
            expected: serde_json::Map::new(),
        })
        .collect();
    let job = |from_commit, to_commit| JobSwap {
        job: "job".into(),
        incarnation: run.incarnation,
        from_commit,
        to_commit,
        body: format!("{{\"commit\":{to_commit}}}"),
    };
    let new = tables.iter().map(|t| NewTable {
        namespace: "lake".into(),
        table: t.bench.table.name.clone(),
        metadata_location: t.bench.table.metadata_location.clone(),
    });
    catalog.create_tables(&new.collect::<Vec<_>>(), &job(0, 0)).unwrap();
    for commit in 1..=30_u64 {
        let mut swaps = Vec::new();
        let mut garbage = Vec::new();
        for t in &mut tables {
            let first = i64::try_from(commit).unwrap() * 100;
            let day = (commit % 5 != 0).then_some(20_000 + first / 300);
            let added = t.bench.file(first..first + 100, day);
            let removed: Vec<String> = if commit % 3 == 0 {
                t.live.keys().step_by(4).cloned().collect()
            } else {
                Vec::new()
            };
            t.live.retain(|path, _| !removed.contains(path));
            t.live.insert(added.path.clone(), first..first + 100);
            let mut change = t.bench.change(vec![added], removed);
            if commit % 10 == 0 {
                let retention = Retention { snapshots_min: 12, age_min: Duration::ZERO };
                change.expire = expired_snapshots(&t.bench.table.metadata, retention, i64::MAX);
            }
            let staged = t.bench.apply(&change);
            t.expected.insert(staged.snapshot_id.to_string(), json!(t.ids()));
            swaps.push(staged.swap());
            garbage.push(staged.garbage);
        }
        tables[0].bench.store.sync_directories().unwrap();
        catalog.commit(&swaps, &job(commit - 1, commit)).unwrap();
        for (t, garbage) in tables.iter().zip(&garbage) {
            delete_expired(&t.bench.store, &t.bench.table, garbage).unwrap();
        }
    }
    for t in &mut tables {
        let metadata = &t.bench.table.metadata;
        t.expected.retain(|id, _| metadata.snapshot_by_id(id.parse().unwrap()).is_some());
    }
    let expected: serde_json::Map<String, Value> = tables
        .into_iter()
        .map(|t| (t.bench.table.name.clone(), Value::Object(t.expected)))
        .collect();
    std::fs::write(folder.join("expected.json"), Value::Object(expected).to_string()).unwrap();
}
