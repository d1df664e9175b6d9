//! Verification: what the tables hold at a commit is computed anew, and compared row by row.
//!
//! ```text
//! events, <dimension>_changes ──┐
//!                               ├──► History ──► Moment ──► Rows ──► compare ◄── current tables, changelogs
//! topics ──► from_source ───────┘              (a commit)
//! ```
//!
//! A plain sequential program: of the dataflow, of state and of what a run has computed it knows nothing. It
//! shares the reading of the job file and of data files with the rest, and how a topic in Kafka is opened.
//! `from_source` begins with the records of the topics and compares the other tables too.

pub(crate) mod answers;
pub(crate) mod compare;
mod copies;
mod error;
mod found;
mod from_source;
pub(crate) mod history;
mod log;
mod plain;
mod rows;
mod scan;
mod structure;
mod winners;

use std::collections::BTreeMap;

use serde::Serialize;

use self::answers::{Moment, Rows};
use self::compare::{NamedColumn, Shape, differences};
pub use self::error::VerifyError;
use self::found::Found;
pub use self::from_source::Progress;
use self::history::History;
use crate::job::{AggregateSpec, FunnelSpec, GroupColumn, Job, Measure, MeasureKind};
use crate::lake::at_commit::{AtCommit, commit_of};
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::{ColumnType, Value};

/// So many records behind a row that is wrong are named.
const RECORDS_SHOWN: usize = 5;
/// They are looked for as long as there are fewer faults: each time costs a look at all events.
const FAULTS_WITH_RECORDS: usize = 20;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The table.
    pub table: String,
    /// What is wrong with it.
    pub what: String,
}

impl Fault {
    fn new(table: &str, what: String) -> Self {
        Fault { table: table.to_owned(), what }
    }
}

/// What the tables are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The tables of events and of the dimension's versions.
    Tables,
    /// The records of the topics below the cut of the commit.
    Source,
}

/// What was found at a commit.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The commit.
    pub commit: u64,
    /// What its tables were computed from.
    pub from: Basis,
    /// Events that the answers were computed from.
    pub events: usize,
    /// Rows that were compared, by table.
    pub rows: BTreeMap<String, usize>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What could not be compared, and is no fault.
    pub notes: Vec<String>,
}

/// A current table of a job, and how its rows are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    Aggregate(&'a AggregateSpec),
    Funnel(&'a FunnelSpec),
}

impl<'a> Answer<'a> {
    /// The current tables of a job.
    pub(crate) fn all(job: &'a Job) -> impl Iterator<Item = Answer<'a>> {
        let aggregates = job.aggregates.iter().map(Answer::Aggregate);
        aggregates.chain(job.funnels.iter().map(Answer::Funnel))
    }

    pub(crate) fn name(&self) -> &'a str {
        match self {
            Answer::Aggregate(spec) => &spec.name,
            Answer::Funnel(spec) => &spec.name,
        }
    }

    pub(crate) fn shape(&self, job: &Job) -> Shape {
        let group = |column: &GroupColumn| NamedColumn::new(&column.name, column.kind);
        let long = |name: &str| NamedColumn::new(name, ColumnType::Long);
        match self {
            Answer::Aggregate(spec) => {
                let window = spec.window_us.map(|_| long("window_start"));
                let measure = |measure: &Measure| match measure.kind {
                    MeasureKind::Count | MeasureKind::Distinct => long(&measure.name),
                    MeasureKind::Sum(column) => {
                        NamedColumn::new(&measure.name, job.events.columns[column].kind)
                    }
                };
                Shape {
                    keys: window.into_iter().chain(spec.group_by.iter().map(group)).collect(),
                    measures: spec.measures.iter().map(measure).collect(),
                }
            }
            Answer::Funnel(spec) => Shape {
                keys: spec.group_by.iter().map(group).chain([long("step")]).collect(),
                measures: vec![NamedColumn::new("step_name", ColumnType::String), long("users")],
            },
        }
    }

    fn expected(&self, job: &Job, moment: &Moment<'_>) -> Result<Rows, VerifyError> {
        match self {
            Answer::Aggregate(spec) => moment.aggregate(job, spec),
            Answer::Funnel(spec) => Ok(moment.funnel(spec)),
        }
    }

    /// The events behind a row, as indexes.
    pub(crate) fn behind(&self, moment: &Moment<'_>, key: &[Value]) -> Vec<usize> {
        match self {
            Answer::Aggregate(spec) => moment.behind_aggregate(spec, key),
            Answer::Funnel(spec) => moment.behind_funnel(spec, key),
        }
    }
}

/// The commits of which the table of cuts keeps a snapshot, oldest first.
pub fn kept_commits(tables: &[LoadedTable]) -> Vec<u64> {
    let cuts = tables.iter().filter(|table| table.name == "cuts");
    let snapshots = cuts.flat_map(|cuts| cuts.metadata.snapshots());
    let mut commits: Vec<u64> =
        snapshots.filter_map(|s| commit_of(&s.summary().additional_properties)).collect();
    commits.sort_unstable();
    commits.dedup();
    commits
}

/// Verifies tables of a job at `commits`, and gives each result as it comes.
pub fn verify(
    job: &Job,
    tables: &[LoadedTable],
    commits: &[u64],
    from: Basis,
    progress: &Progress,
    give: &mut dyn FnMut(Verified),
) -> Result<(), VerifyError> {
    if !job.lake.events && from == Basis::Tables {
        return Err(VerifyError::NoEvents { job: job.name.clone() });
    }
    let store = Store::local();
    let mut moments = Vec::new();
    for commit in commits {
        moments.push((*commit, Tables::at(tables, &store, *commit)?));
    }
    // What is not there can't be compared, nor can anything be computed from it.
    if moments.iter().any(|(_, tables)| !tables.all_there) {
        for (commit, Tables { faults, .. }) in moments {
            let (rows, notes) = (BTreeMap::new(), Vec::new());
            give(Verified { commit, from, events: 0, rows, faults, notes });
        }
        return Ok(());
    }
    let newest = moments.iter().max_by_key(|(commit, _)| *commit);
    let (history, mut found) = match (from, newest) {
        (Basis::Source, Some((commit, tables))) => {
            from_source::read(job, &store, &tables.at, *commit, progress)?
        }
        _ => (History::read(job, &store, tables)?, Found::default()),
    };
    for (commit, tables) in moments {
        rows::check_earlier(&store, &tables.at, commit, &mut found)?;
        let verified = Verified {
            commit,
            from,
            events: 0,
            rows: found.rows(commit),
            faults: [tables.faults, found.faults(commit)].concat(),
            notes: found.notes.clone(),
        };
        give(verify_commit(job, &store, &history, &tables.at, verified)?);
    }
    Ok(())
}

/// All tables as they stood at a commit.
struct Tables {
    at: Vec<AtCommit>,
    /// No file of theirs is missing.
    all_there: bool,
    /// What is wrong with them without a look at their rows.
    faults: Vec<Fault>,
}

impl Tables {
    fn at(tables: &[LoadedTable], store: &Store, commit: u64) -> Result<Tables, VerifyError> {
        let at = tables.iter().map(|table| table.at_commit(store, commit));
        let at: Vec<AtCommit> = at.collect::<Result<_, _>>()?;
        let (mut faults, mut all_there) = (Vec::new(), true);
        structure::check_moment(&at, commit, &mut faults);
        for table in &at {
            all_there &= structure::check_files(store, table, &mut faults)?;
        }
        Ok(Tables { at, all_there, faults })
    }
}

/// Compares what the tables `at` a commit must hold with what they hold.
fn verify_commit(
    job: &Job,
    store: &Store,
    history: &History,
    at: &[AtCommit],
    mut verified: Verified,
) -> Result<Verified, VerifyError> {
    let commit = verified.commit;
    let moment = Moment::new(history, commit);
    verified.events = moment.events().count();
    // With a horizon an id may be admitted again.
    if verified.from == Basis::Tables && job.dedup_horizon_us.is_none() {
        structure::check_ids(history, commit, &mut verified.faults);
    }
    for cuts in at.iter().filter(|at| at.table.name == "cuts") {
        structure::check_cuts(store, &cuts.table, &mut verified.faults)?;
    }
    for answer in Answer::all(job) {
        let found = |name: &str| at.iter().map(|at| &at.table).find(|table| table.name == name);
        let changelog = found(&format!("{}_changes", answer.name()));
        let (Some(table), Some(changelog)) = (found(answer.name()), changelog) else { continue };
        let shape = answer.shape(job);
        let rows = shape.rows(store, table, &mut verified.faults)?;
        let expected = answer.expected(job, &moment)?;
        for (key, wanted, held) in differences(expected, &rows) {
            let name = |measures: Option<Vec<_>>| {
                measures.map_or_else(|| "no row".to_owned(), |m| Shape::named(&shape.measures, &m))
            };
            let (wanted, held) = (name(wanted), name(held));
            let row = Shape::named(&shape.keys, &key);
            let mut what = format!("{row}: expected {wanted}, found {held}");
            if verified.faults.len() < FAULTS_WITH_RECORDS {
                what += &history.shown(&answer.behind(&moment, &key));
            }
            verified.faults.push(Fault::new(&table.full_name(), what));
        }
        let sums = shape.changes(store, changelog, 0, commit)?;
        verified.faults.extend(shape.compare_changes(&changelog.full_name(), &rows, sums));
        verified.rows.insert(answer.name().to_owned(), rows.len());
    }
    Ok(verified)
}

impl History {
    /// Where an event stands.
    pub(crate) fn described(&self, event: usize) -> String {
        self.values.place_text(self.events[event].place)
    }

    /// The first of some events.
    fn shown(&self, events: &[usize]) -> String {
        if events.is_empty() {
            return "; no record is behind it".to_owned();
        }
        let first = events.iter().take(RECORDS_SHOWN).map(|event| self.described(*event));
        let first: Vec<String> = first.collect();
        let more = events.len().saturating_sub(RECORDS_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("; behind it: {}{more}", first.join("; "))
    }
}
