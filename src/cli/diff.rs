//! `tidewater diff`: what changed in the current tables between two commits.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use indicatif::HumanCount;
use serde_json::{Map, Value as Json, json};

use super::show::text::{csv_line, people_table};
use super::show::{Lake, Output, ShowError};
use crate::lake::storage::Store;
use crate::model::Value;
use crate::verify::Answer;
use crate::verify::compare::{NamedColumn, Shape};

/// Rows of each table that are shown to people who do not say how many.
const PEOPLE_ROWS: usize = 20;

/// Show what changed in the aggregates and funnels of a job between two commits.
///
/// Adds up the changelogs, so it also works for commits whose snapshots are no longer kept. A row that was
/// changed back in between is not shown.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// The earlier commit; 0 is before the first
    #[arg(value_name = "C1")]
    pub from: u64,
    /// The later commit
    #[arg(value_name = "C2")]
    pub to: u64,
    /// This table alone
    #[arg(long)]
    pub table: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// The measures of a row at both commits; `None` where there is no row.
type BeforeAfter = (Option<Vec<Value>>, Option<Vec<Value>>);

/// Shows what `args` asks for.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let lake = Lake::open(&args.job)?;
    lake.check_commit(args.from)?;
    lake.check_commit(args.to)?;
    let names: Vec<String> =
        Answer::all(&lake.job).map(|answer| answer.name().to_owned()).collect();
    if let Some(name) = args.table.as_ref().filter(|name| !names.contains(name)) {
        let place = format!("job {}", lake.job.name);
        let (what, name) = ("aggregate or funnel", name.clone());
        return Err(ShowError::Unknown { place, what, name, known: names }.into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let (since, until) = (args.from.min(args.to), args.from.max(args.to));
    for answer in Answer::all(&lake.job) {
        if args.table.as_ref().is_some_and(|name| name != answer.name()) {
            continue;
        }
        let changelog = lake.table(&format!("{}_changes", answer.name()))?;
        let shape = answer.shape(&lake.job);
        let mut rows: BTreeMap<Vec<Value>, BeforeAfter> = BTreeMap::new();
        for (mut key, times) in shape.changes(&Store::local(), changelog, since, until)? {
            let measures = Some(key.split_off(shape.keys.len()));
            let row = rows.entry(key).or_default();
            // Backwards, what has left since comes back.
            if (times < 0) == (args.from <= args.to) { row.0 = measures } else { row.1 = measures }
        }
        match args.output {
            Output::Table => for_people(answer.name(), &shape, &rows, &mut out)?,
            Output::Json => as_json(answer.name(), &shape, &rows, &mut out)?,
            Output::Csv => as_csv(answer.name(), &shape, &rows, &mut out)?,
        }
    }
    Ok(out.flush()?)
}

fn for_people(
    name: &str,
    shape: &Shape,
    rows: &BTreeMap<Vec<Value>, BeforeAfter>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let names = shape.keys.iter().chain(&shape.measures).map(|column| &column.name);
    let mut table = people_table(&names.collect::<Vec<_>>(), &[]);
    for (key, (before, after)) in rows.iter().take(PEOPLE_ROWS) {
        let keys = shape.keys.iter().zip(key).map(|(column, value)| value.text(column.scale));
        let measure = |(place, column): (usize, &NamedColumn)| {
            let text =
                |row: &Option<Vec<Value>>| row.as_ref().map(|row| row[place].text(column.scale));
            match (text(before), text(after)) {
                (Some(before), Some(after)) if before == after => after,
                (before, after) => {
                    let [before, after] =
                        [before, after].map(|text| text.unwrap_or_else(|| "no row".to_owned()));
                    format!("{before} → {after}")
                }
            }
        };
        table.add_row(keys.chain(shape.measures.iter().enumerate().map(measure)));
    }
    if !rows.is_empty() {
        writeln!(out, "{table}")?;
    }
    let more = if rows.len() > PEOPLE_ROWS { "; --output json or csv has all" } else { "" };
    let (shown, all) = (rows.len().min(PEOPLE_ROWS) as u64, rows.len() as u64);
    writeln!(out, "{name}: {} of {} rows that differ{more}", HumanCount(shown), HumanCount(all))?;
    Ok(())
}

fn as_json(
    name: &str,
    shape: &Shape,
    rows: &BTreeMap<Vec<Value>, BeforeAfter>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let of = |columns: &[NamedColumn], values: &[Value]| -> Json {
        let pairs = columns.iter().zip(values);
        let pairs =
            pairs.map(|(column, value)| (column.name.clone(), json_value(value, column.scale)));
        Json::Object(pairs.collect::<Map<_, _>>())
    };
    for (key, (before, after)) in rows {
        let [before, after] =
            [before, after].map(|row| row.as_ref().map(|row| of(&shape.measures, row)));
        let key = of(&shape.keys, key);
        writeln!(
            out,
            "{}",
            json!({ "table": name, "key": key, "before": before, "after": after })
        )?;
    }
    Ok(())
}

/// Numbers as numbers, decimals as text.
pub(super) fn json_value(value: &Value, scale: u8) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => json!(value),
        Value::Long(value) => json!(value),
        other => json!(other.text(scale)),
    }
}

fn as_csv(
    name: &str,
    shape: &Shape,
    rows: &BTreeMap<Vec<Value>, BeforeAfter>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let keys = shape.keys.iter().map(|column| column.name.clone());
    let measures = |when: &'static str| {
        shape.measures.iter().map(move |column| format!("{}_{when}", column.name))
    };
    let header = std::iter::once("table".to_owned()).chain(keys);
    csv_line(out, header.chain(measures("before")).chain(measures("after")).map(Some))?;
    for (key, (before, after)) in rows {
        let text = |(column, value): (&NamedColumn, &Value)| {
            (*value != Value::Null).then(|| value.text(column.scale))
        };
        let keys = shape.keys.iter().zip(key).map(text);
        let side = |row: &Option<Vec<Value>>| -> Vec<Option<String>> {
            let none = || vec![None; shape.measures.len()];
            row.as_ref().map_or_else(none, |row| shape.measures.iter().zip(row).map(text).collect())
        };
        let line = std::iter::once(Some(name.to_owned())).chain(keys);
        csv_line(out, line.chain(side(before)).chain(side(after)))?;
    }
    Ok(())
}
