//! The report: what was rebuilt.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::Recovery;
use crate::sink::Stored;
use crate::state::SlabMeta;
use crate::{ids, users};

/// What was rebuilt.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The job.
    pub job: String,
    /// The incarnation that recovered it; no earlier one can commit any more.
    pub incarnation: u64,
    /// The commit at which the job stands, as before.
    pub commit: u64,
    /// Rows read of the table of events.
    pub events: u64,
    /// Rows read of the table of versions.
    pub versions: u64,
    /// Ids that are remembered.
    pub ids: u64,
    /// Users with a version of the dimension.
    pub users: u64,
    /// Rows of aggregates and step events of funnels, by name.
    pub rows: BTreeMap<String, u64>,
    /// Texts and tuples in the dictionary.
    pub symbols: u64,
    /// State files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(
        recovery: &Recovery<'_>,
        stored: &Stored,
        slabs: &[SlabMeta],
        [versions, events]: [u64; 2],
        elapsed: Duration,
    ) -> Self {
        let (mut ids, mut users, mut rows) = (0, 0, BTreeMap::new());
        for slab in slabs {
            match slab.collection.as_str() {
                ids::COLLECTION => ids += slab.rows,
                users::COLLECTION => users += slab.rows,
                other => {
                    // `rows.regional`, `steps.signup_funnel`.
                    let name = other.split_once('.').map_or(other, |(_, name)| name);
                    *rows.entry(name.to_owned()).or_default() += slab.rows;
                }
            }
        }
        let dir = &recovery.job.lake.state;
        let symbol_files =
            stored.symbols.iter().filter_map(|file| fs::metadata(dir.join(file)).ok());
        let symbol_bytes: u64 = symbol_files.map(|metadata| metadata.len()).sum();
        Report {
            job: recovery.job.name.clone(),
            incarnation: recovery.incarnation.0,
            commit: recovery.checked.commit.0,
            events,
            versions,
            ids,
            users,
            rows,
            symbols: recovery.interner.all().len() as u64,
            files: (slabs.len() + stored.symbols.len()) as u64,
            bytes: slabs.iter().map(|slab| slab.bytes).sum::<u64>() + symbol_bytes,
            seconds: elapsed.as_secs_f64(),
        }
    }
}
