//! Verification: what the tables hold at a commit is computed anew, and compared row by row.
//!
//! ```text
//! events, <dimension>_changes ──► History ──► Moment ──► Rows ──► compare ◄── current tables, changelogs
//!                                           (a commit)
//! ```
//!
//! A plain sequential program: of the dataflow, of state and of what a run has computed it knows nothing. It
//! shares the reading of the job file and of data files with the rest.

pub(crate) mod answers;
pub(crate) mod compare;
pub(crate) mod history;
mod scan;
mod structure;

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use self::answers::{Moment, Rows};
use self::compare::{NamedColumn, Shape, differences};
use self::history::History;
use crate::job::{AggregateSpec, FunnelSpec, GroupColumn, Job, Measure, MeasureKind};
use crate::lake::at_commit::{AtCommit, AtCommitError, commit_of};
use crate::lake::read::ReadError;
use crate::lake::storage::Store;
use crate::lake::table::{LoadedTable, TableError};
use crate::model::{ColumnType, Value};

/// So many records behind a row that is wrong are named.
const RECORDS_SHOWN: usize = 5;
/// They are looked for as long as there are fewer faults: each time costs a look at all events.
const FAULTS_WITH_RECORDS: usize = 20;

/// Why tables can't be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A table can't be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A table no longer keeps the commit.
    #[error(transparent)]
    AtCommit(#[from] AtCommitError),
    /// A sum leaves 128 bits.
    #[error("the sum of column {column} can't be computed: it has more than 38 digits")]
    Sum {
        /// The column.
        column: String,
    },
    /// There is nothing to compute from.
    #[error(
        "job {job} keeps no table of events (events = false), so there is nothing to compute from"
    )]
    NoEvents {
        /// The job.
        job: String,
    },
    /// Some tables are wrong.
    #[error("{faults} faults in the tables of job {job}, named above")]
    Wrong {
        /// The job.
        job: String,
        /// How many.
        faults: usize,
    },
}

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

/// What was found at a commit.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The commit.
    pub commit: u64,
    /// Events that the answers were computed from.
    pub events: usize,
    /// Rows that were compared, by table.
    pub rows: BTreeMap<String, usize>,
    /// What is wrong.
    pub faults: Vec<Fault>,
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
    give: &mut dyn FnMut(Verified),
) -> Result<(), VerifyError> {
    if !job.lake.events {
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
            give(Verified { commit, events: 0, rows: BTreeMap::new(), faults });
        }
        return Ok(());
    }
    let history = History::read(job, &store, tables)?;
    for (commit, tables) in moments {
        give(verify_commit(job, &store, &history, commit, tables)?);
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

fn verify_commit(
    job: &Job,
    store: &Store,
    history: &History,
    commit: u64,
    tables: Tables,
) -> Result<Verified, VerifyError> {
    let Tables { at, faults, .. } = tables;
    let moment = Moment::new(history, commit);
    let mut verified =
        Verified { commit, events: moment.events().count(), rows: BTreeMap::new(), faults };
    structure::check_ids(history, commit, &mut verified.faults);
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
        let place = self.events[event].place;
        let topic = self.values.get(place.topic).text(0);
        format!("topic {topic}, partition {}, offset {}", place.partition, place.offset)
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
