//! `tidewater explain`: the events behind a row.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use indicatif::HumanCount;
use serde_json::json;
use thiserror::Error;

use super::diff::json_value;
use super::show::text::{csv_line, people_table};
use super::show::{Condition, Lake, Output, ShowError, condition};
use crate::lake::storage::Store;
use crate::model::Value;
use crate::verify::answers::Moment;
use crate::verify::compare::Shape;
use crate::verify::history::History;
use crate::verify::{Answer, VerifyError};

/// Events shown to people who do not say how many.
const PEOPLE_ROWS: u64 = 20;
/// Rows that are named where several fit.
const ROWS_NAMED: usize = 5;

/// Show the events behind one row of an aggregate or a funnel: where each stands, and whose it is.
///
/// The row is told by its group columns and its window; those that are not needed to tell it from others
/// may be left out. Behind a row of a funnel are the events of its step, of all users in its group: a user
/// is counted if one of them lies on the way.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// The aggregate or funnel
    pub table: String,
    /// What the row has in these columns, as `show` prints it: region=emea; a missing value is NULL
    #[arg(value_name = "COLUMN=VALUE", value_parser = condition)]
    pub conditions: Vec<Condition>,
    /// Show this many events, 0 for all [default: 20 as a table, all as JSON and CSV]
    #[arg(long, value_name = "EVENTS")]
    pub limit: Option<u64>,
    /// How they are printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// Why there is no row to explain.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ExplainError {
    /// No row fits.
    #[error("{table} has no row with {wanted}; tidewater show lists its rows")]
    NoRow {
        /// The table.
        table: String,
        /// What was asked for.
        wanted: String,
    },
    /// Several rows fit.
    #[error("{rows} rows of {table} fit, among them ({}); say more of their columns", examples.join("), ("))]
    Several {
        /// The table.
        table: String,
        /// How many.
        rows: usize,
        /// Some of them.
        examples: Vec<String>,
    },
}

/// Explains the row of `args`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let lake = Lake::open(&args.job)?;
    if !lake.job.lake.events {
        return Err(VerifyError::NoEvents { job: lake.job.name }.into());
    }
    let known = || Answer::all(&lake.job).map(|answer| answer.name().to_owned()).collect();
    let named = |answer: &Answer<'_>| answer.name() == args.table;
    let answer = Answer::all(&lake.job).find(named).ok_or_else(|| ShowError::Unknown {
        place: format!("job {}", lake.job.name),
        what: "aggregate or funnel",
        name: args.table.clone(),
        known: known(),
    })?;
    let shape = answer.shape(&lake.job);
    let (key, measures) = the_row(&lake, &shape, args)?;
    let history = History::read(&lake.job, &Store::local(), &lake.tables)?;
    let moment = Moment::new(&history, lake.commit.0);
    let mut events = answer.behind(&moment, &key);
    events.sort_by_key(|event| history.events[*event].place);
    let all = events.len() as u64;
    let default = if args.output == Output::Table { PEOPLE_ROWS } else { 0 };
    let limit = args.limit.unwrap_or(default);
    events.truncate(if limit == 0 { events.len() } else { limit as usize });
    let mut out = BufWriter::new(io::stdout().lock());
    show(&history, &events, args.output, &mut out)?;
    if args.output == Output::Table {
        let more = if all > events.len() as u64 { "; --limit 0 shows all" } else { "" };
        let row = Shape::named(&shape.keys, &key);
        let holds = Shape::named(&shape.measures, &measures);
        let (shown, all) = (HumanCount(events.len() as u64), HumanCount(all));
        let commit = lake.commit;
        writeln!(out, "{} ({row}) holds {holds} at commit {commit}", args.table)?;
        writeln!(out, "{shown} of {all} events behind it{more}")?;
    }
    Ok(out.flush()?)
}

/// The one row that fits, as key and measures.
fn the_row(lake: &Lake, shape: &Shape, args: &Args) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let columns = || shape.keys.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    if let Some(wrong) = args.conditions.iter().find(|c| !columns().contains(&c.column)) {
        let (place, name) = (format!("the key of {}", args.table), wrong.column.clone());
        return Err(ShowError::Unknown { place, what: "column", name, known: columns() }.into());
    }
    let fits = |key: &[Value]| {
        shape.keys.iter().zip(key).all(|(column, value)| {
            let of_column = args.conditions.iter().filter(|c| c.column == column.name);
            of_column.into_iter().all(|c| c.value == value.text(column.scale))
        })
    };
    let rows = shape.rows(&Store::local(), lake.table(&args.table)?, &mut Vec::new())?;
    let mut fitting: Vec<_> = rows.into_iter().filter(|(key, _)| fits(key)).collect();
    fitting.sort();
    let table = args.table.clone();
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => {
            let wanted = args.conditions.iter().map(|c| format!("{}={}", c.column, c.value));
            let wanted = wanted.collect::<Vec<_>>().join(", ");
            Err(ExplainError::NoRow { table, wanted }.into())
        }
        rows => {
            let examples = fitting.iter().take(ROWS_NAMED);
            let examples = examples.map(|(key, _)| Shape::named(&shape.keys, key)).collect();
            Err(ExplainError::Several { table, rows, examples }.into())
        }
    }
}

fn show(
    history: &History,
    events: &[usize],
    output: Output,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let names = ["topic", "partition", "offset", "user", "time"];
    let cells = |event: &usize| {
        let event = &history.events[*event];
        let (topic, user) = (history.values.get(event.place.topic), history.values.get(event.user));
        let [partition, offset] = [event.place.partition, event.place.offset].map(Value::Long);
        [topic.clone(), partition, offset, user.clone(), Value::Timestamp(event.time)]
    };
    match output {
        Output::Table => {
            let mut table = people_table(&names, &[false, true, true, false, false]);
            for event in events {
                table.add_row(cells(event).map(|value| value.text(0)));
            }
            writeln!(out, "{table}")?;
        }
        Output::Json => {
            for event in events {
                let [topic, partition, offset, user, time] =
                    cells(event).map(|v| json_value(&v, 0));
                let line = json!({ "topic": topic, "partition": partition, "offset": offset,
                                   "user": user, "time": time });
                writeln!(out, "{line}")?;
            }
        }
        Output::Csv => {
            csv_line(out, names.iter().map(|name| Some((*name).to_owned())))?;
            for event in events {
                csv_line(out, cells(event).iter().map(|value| Some(value.text(0))))?;
            }
        }
    }
    Ok(())
}
