//! The simulated catalog answers as SQLite does: the same requests, right ones and wrong ones, go to both.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::database::SimDatabase;
use super::random::Random;
use super::sim::{Fate, JOB, NAMESPACE, Sim};
use crate::lake::catalog::{Catalog, Database, JobRow, JobSwap, NewTable, Swap};

const REQUESTS: usize = 1_500;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a request is answered with.
type Answer = Result<Option<JobRow>, String>;

/// A number that is mostly right.
fn about(random: &mut Random, right: u64) -> u64 {
    if random.chance(80) { right } else { random.below(4) as u64 }
}

fn job(random: &mut Random, row: Option<&JobRow>, creates: bool) -> JobSwap {
    let (incarnation, commit) = row.map_or((1, 0), |row| (row.incarnation, row.commit));
    let from_commit = if creates { 0 } else { about(random, commit) };
    JobSwap {
        job: JOB.to_owned(),
        incarnation: about(random, incarnation),
        from_commit,
        to_commit: if creates { 0 } else { from_commit + 1 },
        body: format!("body {}", random.below(1000)),
    }
}

fn tables(random: &mut Random) -> Vec<&'static str> {
    NAMES.into_iter().filter(|_| random.chance(60)).collect()
}

/// Sends the request that `random` stands for.
fn send<D: Database>(catalog: &mut Catalog<D>, random: &mut Random) -> Answer {
    let row = catalog.read_job(JOB).map_err(|e| e.to_string())?;
    let owned = str::to_owned;
    let answer = match random.below(10) {
        0 => {
            let stale = random.chance(30);
            let known = if stale { None } else { row };
            catalog.begin_run(JOB, known.as_ref()).map(drop)
        }
        1 => {
            let new = |table: &str| NewTable {
                namespace: owned(NAMESPACE),
                table: owned(table),
                metadata_location: format!("{table}-0"),
            };
            let rows: Vec<NewTable> = tables(random).into_iter().map(new).collect();
            catalog.create_tables(&rows, &job(random, row.as_ref(), true))
        }
        _ => {
            let mut swaps = Vec::new();
            for table in tables(random) {
                let found = catalog.table_location(NAMESPACE, table).map_err(|e| e.to_string())?;
                let from = found.filter(|_| random.chance(90)).unwrap_or(owned("elsewhere"));
                let to = format!("{table}-{}", random.below(1_000_000));
                swaps.push(Swap { namespace: owned(NAMESPACE), table: owned(table), from, to });
            }
            catalog.commit(&swaps, &job(random, row.as_ref(), false))
        }
    };
    answer.map_err(|e| e.to_string())?;
    catalog.read_job(JOB).map_err(|e| e.to_string())
}

#[test]
fn the_simulated_catalog_answers_as_sqlite_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let mut real = Catalog::open(&path, "tidewater", Duration::ZERO).unwrap();
    let mut sim = Sim::new(0, None);
    (sim.calm, sim.fates) = (true, vec![Fate::default()]);
    let mut simulated = Catalog::over(SimDatabase::new(&Arc::new(Mutex::new(sim)), 0));
    let (mut well, mut refused) = (0, 0);
    for seed in 0..REQUESTS as u64 {
        let expected = send(&mut real, &mut Random::new(seed));
        let expected = expected.map_err(|said| said.replace(&path.display().to_string(), ""));
        let found = send(&mut simulated, &mut Random::new(seed));
        assert_eq!(found, expected, "request {seed}");
        *(if expected.is_ok() { &mut well } else { &mut refused }) += 1;
        for table in NAMES {
            let location = |found: Result<Option<String>, _>| found.ok().flatten();
            assert_eq!(
                location(simulated.table_location(NAMESPACE, table)),
                location(real.table_location(NAMESPACE, table)),
                "{table} after request {seed}"
            );
        }
    }
    assert!(well > 100 && refused > 100, "{well} were carried out, {refused} refused");
}
