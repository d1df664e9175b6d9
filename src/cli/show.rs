//! `tidewater show JOB.toml [TABLE]`: the tables of a job, or the rows of one of them.

pub(super) mod rows;
pub(super) mod text;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use arrow_array::RecordBatch;
use clap::ValueEnum;
use comfy_table::Table;
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;
use thiserror::Error;

use crate::driver::open_lake;
use crate::job::{self, Job};
use crate::lake::at_commit::commit_of;
use crate::lake::table::LoadedTable;
use crate::model::Commit;
use crate::sink::Stored;
use rows::TableRows;
pub(super) use text::add_rows;
use text::{csv_line, is_number, people_table, write_csv, write_json};

/// Rows shown to people who do not say how many.
const PEOPLE_ROWS: u64 = 20;

/// Show the tables of a job, or the rows of one of them.
///
/// Without TABLE: every table with its rows, files, bytes and newest commit, and the newest cut, which is
/// the offsets up to which the records are in the tables. With TABLE: its rows, in the order of the table.
///
/// Reads what the newest commit left, without waiting for a run that is at work and without disturbing it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// The table whose rows to show, such as `regional`, `regional_changes`, `events`, `dead_letters` or
    /// `cuts`
    pub table: Option<String>,
    /// Show this many rows, 0 for all [default: 20 as a table, all as JSON and CSV]
    #[arg(long, value_name = "ROWS", requires = "table")]
    pub limit: Option<u64>,
    /// Only rows where the column has this value, written as the table shows it; may be repeated
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = condition, requires = "table")]
    pub conditions: Vec<Condition>,
    /// The rows as they stood at this commit; a table keeps its last 100 snapshots unless the job says
    /// otherwise
    #[arg(long, requires = "table", value_parser = clap::value_parser!(u64).range(1..))]
    pub commit: Option<u64>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people, long texts cut
    Table,
    /// One object for each row, on a line of its own; one object in all without TABLE
    Json,
    /// RFC 4180 with a header; NULL is nothing and an empty text is ""
    Csv,
}

/// A value that a column must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// The value as `show` prints it.
    pub value: String,
}

pub(super) fn condition(text: &str) -> Result<Condition, String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => {
            Ok(Condition { column: column.to_owned(), value: value.to_owned() })
        }
        _ => Err("write COLUMN=VALUE, as in region=emea; a missing value is NULL".to_owned()),
    }
}

/// Why there is nothing to show.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ShowError {
    /// The job has no commit.
    #[error(
        "job {job} has not been run yet: nothing is in {catalog}; run it first: tidewater run {file}"
    )]
    NotRun {
        /// The job.
        job: String,
        /// Where its tables would be.
        catalog: String,
        /// The job file.
        file: String,
    },
    /// No table or column of that name.
    #[error("{place} has no {what} {name}{}; it has: {}", suggestion(name, known), known.join(", "))]
    Unknown {
        /// Where it was looked for.
        place: String,
        /// A table or a column.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The commit lies ahead.
    #[error("job {job} has made no commit {commit} yet; its newest is {newest}")]
    Ahead {
        /// The job.
        job: String,
        /// The commit asked for.
        commit: u64,
        /// The newest commit.
        newest: Commit,
    },
}

impl ShowError {
    /// True where the command line asks for what can't be.
    pub(super) fn is_wrong_input(&self) -> bool {
        matches!(self, ShowError::Unknown { .. } | ShowError::Ahead { .. })
    }
}

fn suggestion(name: &str, known: &[String]) -> String {
    let near = |other: &&String| strsim::damerau_levenshtein(name, other);
    let nearest = known.iter().min_by_key(near).filter(|other| near(other) <= name.len() / 3 + 1);
    nearest.map(|other| format!(", did you mean {other}?")).unwrap_or_default()
}

/// A job at its newest commit.
#[derive(Debug)]
pub(super) struct Lake {
    pub(super) job: Job,
    pub(super) stored: Stored,
    pub(super) commit: Commit,
    pub(super) tables: Vec<LoadedTable>,
}

impl Lake {
    /// Opens the lake of the job file `file`.
    pub(super) fn open(file: &std::path::Path) -> anyhow::Result<Lake> {
        let job = job::load(file)?;
        let Some((stored, commit, tables)) = open_lake(&job)? else {
            let catalog = job.lake.catalog.display().to_string();
            let file = file.display().to_string();
            return Err(ShowError::NotRun { job: job.name, catalog, file }.into());
        };
        Ok(Lake { job, stored, commit, tables })
    }

    /// Refuses a commit that lies ahead.
    pub(super) fn check_commit(&self, commit: u64) -> Result<(), ShowError> {
        if commit <= self.commit.0 {
            return Ok(());
        }
        Err(ShowError::Ahead { job: self.job.name.clone(), commit, newest: self.commit })
    }

    /// The table of this name; the namespace may stand before it.
    pub(super) fn table(&self, name: &str) -> Result<&LoadedTable, ShowError> {
        let is_named = |table: &&LoadedTable| table.name == name || table.full_name() == name;
        self.tables.iter().find(is_named).ok_or_else(|| ShowError::Unknown {
            place: format!("job {}", self.job.name),
            what: "table",
            name: name.to_owned(),
            known: self.tables.iter().map(|table| table.name.clone()).collect(),
        })
    }
}

/// Shows what `args` asks for.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let lake = Lake::open(&args.job)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let shown = match &args.table {
        None => show_tables(&lake, args.output, &mut out),
        Some(name) => show_rows(&lake, name, args, &mut out),
    };
    shown.and_then(|()| Ok(out.flush()?))
}

fn show_rows(lake: &Lake, name: &str, args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let table = lake.table(name)?;
    args.commit.map_or(Ok(()), |commit| lake.check_commit(commit))?;
    let rows = TableRows::open(table, args.commit)?;
    if let Some(wrong) = args.conditions.iter().find(|c| !rows.columns.contains(&c.column)) {
        return Err(ShowError::Unknown {
            place: format!("table {}", table.full_name()),
            what: "column",
            name: wrong.column.clone(),
            known: rows.columns,
        }
        .into());
    }
    let default = if args.output == Output::Table { PEOPLE_ROWS } else { 0 };
    let limit = args.limit.unwrap_or(default);
    let mut left = if limit == 0 { u64::MAX } else { limit };
    if args.output == Output::Csv {
        csv_line(out, rows.columns.iter().cloned().map(Some))?;
    }
    let mut people: Option<Table> = None;
    for batch in rows.batches(&args.conditions) {
        let batch = first_rows(&batch?, left);
        left -= batch.num_rows() as u64;
        match args.output {
            Output::Csv => write_csv(out, &batch)?,
            Output::Json => write_json(out, &batch)?,
            Output::Table => add_rows(people.get_or_insert_with(|| table_of(&batch)), &batch)?,
        }
        if left == 0 {
            break;
        }
    }
    if args.output == Output::Table {
        let people = people.unwrap_or_else(|| people_table(&rows.columns, &[]));
        writeln!(out, "{people}")?;
        let shown = people.row_count() as u64;
        let commit = args.commit.unwrap_or(lake.commit.0);
        let more = if left == 0 && shown < rows.rows { "; --limit 0 shows all" } else { "" };
        let (shown, all) = (HumanCount(shown), HumanCount(rows.rows));
        writeln!(out, "{}: {shown} of {all} rows at commit {commit}{more}", table.full_name())?;
    }
    Ok(())
}

fn first_rows(batch: &RecordBatch, limit: u64) -> RecordBatch {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    batch.slice(0, batch.num_rows().min(limit))
}

pub(super) fn table_of(batch: &RecordBatch) -> Table {
    let schema = batch.schema();
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    let right = schema.fields().iter().map(|field| is_number(field.data_type()));
    people_table(&names, &right.collect::<Vec<_>>())
}

/// A table in the list of tables.
#[derive(Debug, serde::Serialize)]
struct Listed {
    rows: u64,
    files: u64,
    bytes: u64,
    commit: Option<u64>,
    metadata: String,
}

impl Listed {
    fn new(table: &LoadedTable) -> Listed {
        let summary = table.summary();
        let number = |key: &str| summary.get(key).and_then(|text| text.parse().ok());
        let snapshot = table.metadata.current_snapshot();
        Listed {
            rows: table.row_count(),
            files: table.file_count(),
            bytes: number("total-files-size").unwrap_or(0),
            commit: snapshot.and_then(|s| commit_of(&s.summary().additional_properties)),
            metadata: table.metadata_location.clone(),
        }
    }
}

fn show_tables(lake: &Lake, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    let tables = lake.tables.iter().map(|table| (&table.name, Listed::new(table)));
    match output {
        Output::Json => {
            let tables: serde_json::Map<_, _> =
                tables.map(|(name, listed)| (name.clone(), json!(listed))).collect();
            let (job, namespace) = (&lake.job.name, &lake.job.lake.namespace);
            let cut = &lake.stored.cut;
            let all = json!({ "job": job, "namespace": namespace, "commit": lake.commit.0,
                              "cut": cut, "tables": tables });
            writeln!(out, "{all}")?;
        }
        Output::Csv => {
            writeln!(out, "table,rows,files,bytes,commit,metadata")?;
            for (name, listed) in tables {
                let Listed { rows, files, bytes, commit, metadata } = listed;
                let numbers = [rows, files, bytes].map(|number| Some(number.to_string()));
                let last = [commit.map(|commit| commit.to_string()), Some(metadata)];
                let first = std::iter::once(Some(name.clone()));
                csv_line(out, first.chain(numbers).chain(last))?;
            }
        }
        Output::Table => write!(out, "{}", described(lake, tables))?,
    }
    Ok(())
}

/// The list of tables and the cut for people.
fn described<'a>(lake: &Lake, tables: impl Iterator<Item = (&'a String, Listed)>) -> String {
    let headers = ["table", "rows", "files", "bytes", "newest commit"];
    let mut list = people_table(&headers, &[false, true, true, true, true]);
    for (name, listed) in tables {
        list.add_row([
            name.clone(),
            HumanCount(listed.rows).to_string(),
            HumanCount(listed.files).to_string(),
            HumanBytes(listed.bytes).to_string(),
            listed.commit.map_or_else(|| "none".to_owned(), |commit| commit.to_string()),
        ]);
    }
    let mut cut = people_table(&["topic", "partition", "next offset"], &[false, true, true]);
    for (topic, offsets) in lake.stored.cut.topics() {
        for (partition, offset) in offsets {
            cut.add_row([topic.to_owned(), partition.to_string(), offset.to_string()]);
        }
    }
    let (job, namespace) = (&lake.job.name, &lake.job.lake.namespace);
    let commit = lake.commit;
    format!(
        "job {job} at commit {commit}, tables in namespace {namespace}\n{list}\n\n\
         what the tables contain: the records below these offsets\n{cut}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_column_and_whatever_follows() {
        let read = |text| condition(text).map(|c| (c.column, c.value)).ok();
        assert_eq!(read("region=emea"), Some(("region".into(), "emea".into())));
        assert_eq!(read("page=/a?b=c"), Some(("page".into(), "/a?b=c".into())));
        assert_eq!(read("region="), Some(("region".into(), String::new())));
        assert_eq!((read("=x"), read("region")), (None, None));
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_and_the_list() {
        let message = |name: &str| {
            let known = vec!["events".to_owned(), "regional".to_owned()];
            let (place, what) = ("job j".to_owned(), "table");
            ShowError::Unknown { place, what, name: name.to_owned(), known }.to_string()
        };
        assert_eq!(
            message("regonal"),
            "job j has no table regonal, did you mean regional?; it has: events, regional"
        );
        assert_eq!(message("users"), "job j has no table users; it has: events, regional");
    }
}
