//! What a demonstration says about its tables, and about what can be done with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use indicatif::HumanCount;

use crate::cli::show::rows::TableRows;
use crate::cli::show::text::people_table;
use crate::cli::show::{add_rows, table_of};
use crate::lake::table::LoadedTable;

/// Rows of the aggregate that are shown as they stand.
const ROWS_SHOWN: usize = 8;
/// Users without a version of the dimension have no region.
const NO_REGION: &str = "NULL";

/// Text and numbers of the named columns, row by row.
fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<String>> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| anyhow::anyhow!("the table has no text column {name}"))?;
    Ok(column.iter().map(|text| text.unwrap_or(NO_REGION).to_owned()).collect())
}

fn longs(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<i64>> {
    let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let column = column.ok_or_else(|| anyhow::anyhow!("the table has no long column {name}"))?;
    Ok(column.iter().map(Option::unwrap_or_default).collect())
}

/// Steps in the order in which a user goes through them; others follow.
const STEPS: [&str; 7] = [
    "page_view",
    "signup_started",
    "signup_completed",
    "trial_started",
    "subscribed",
    "payment",
    "cancelled",
];

/// Events of each region and step, and the money, over all windows.
pub(super) fn totals(table: &LoadedTable) -> anyhow::Result<String> {
    let mut sums: BTreeMap<String, ([i64; STEPS.len()], i64)> = BTreeMap::new();
    let rows = TableRows::open(table, None)?;
    for batch in rows.batches(&[]) {
        let batch = batch?;
        let names = texts(&batch, "region")?.into_iter().zip(texts(&batch, "step")?);
        let numbers = longs(&batch, "events")?.into_iter().zip(longs(&batch, "amount")?);
        for ((region, step), (events, amount)) in names.zip(numbers) {
            let sum = sums.entry(region).or_default();
            sum.1 += amount;
            if let Some(place) = STEPS.iter().position(|name| *name == step) {
                sum.0[place] += events;
            }
        }
    }
    let headers = [&["region"], &STEPS[..], &["amount (cents)"]].concat();
    let mut totals = people_table(&headers, &right_but_first(headers.len()));
    for (region, (events, amount)) in sums {
        let counts = events.iter().map(|count| grouped(*count));
        let cells = std::iter::once(region).chain(counts).chain([grouped(amount)]);
        totals.add_row(cells);
    }
    let name = table.full_name();
    Ok(format!("Events by region and step, all hours of {name} together:\n{totals}"))
}

/// The last rows of an aggregate as they stand.
pub(super) fn newest_rows(table: &LoadedTable) -> anyhow::Result<String> {
    let rows = TableRows::open(table, None)?;
    let mut last: Vec<RecordBatch> = Vec::new();
    for batch in rows.batches(&[]) {
        last.push(batch?);
        // No batch is empty, so the last few hold enough rows.
        let surplus = last.len().saturating_sub(ROWS_SHOWN);
        last.drain(..surplus);
    }
    let mut skipped =
        last.iter().map(RecordBatch::num_rows).sum::<usize>().saturating_sub(ROWS_SHOWN);
    let mut shown = None;
    for batch in last {
        let skip = skipped.min(batch.num_rows());
        skipped -= skip;
        let batch = batch.slice(skip, batch.num_rows() - skip);
        if batch.num_rows() > 0 {
            add_rows(shown.get_or_insert_with(|| table_of(&batch)), &batch)?;
        }
    }
    let shown = shown.map(|table| table.to_string()).unwrap_or_default();
    let (name, count) = (table.full_name(), HumanCount(rows.rows));
    Ok(format!("The newest of the {count} rows of {name}:\n{shown}"))
}

/// Users by region and step of a funnel, with the share of those who reached the step before.
pub(super) fn conversion(table: &LoadedTable) -> anyhow::Result<String> {
    let mut regions: BTreeMap<String, BTreeMap<i64, i64>> = BTreeMap::new();
    let mut steps: BTreeMap<i64, String> = BTreeMap::new();
    for batch in TableRows::open(table, None)?.batches(&[]) {
        let batch = batch?;
        let names = texts(&batch, "region")?.into_iter().zip(texts(&batch, "step_name")?);
        let numbers = longs(&batch, "step")?.into_iter().zip(longs(&batch, "users")?);
        for ((region, name), (step, users)) in names.zip(numbers) {
            regions.entry(region).or_default().insert(step, users);
            steps.insert(step, name);
        }
    }
    let names = steps.values().map(String::as_str);
    let headers: Vec<&str> = ["region"].into_iter().chain(names).chain(["overall"]).collect();
    let mut funnel = people_table(&headers, &right_but_first(headers.len()));
    for (region, users) in regions {
        let reached = |step: &i64| users.get(step).copied().unwrap_or(0);
        let mut row = vec![region];
        let mut before: Option<i64> = None;
        for count in steps.keys().map(reached) {
            row.push(match before {
                None => grouped(count),
                Some(before) => format!("{} ({})", grouped(count), percent(count, before)),
            });
            before = Some(count);
        }
        let first = steps.keys().next().map_or(0, reached);
        row.push(percent(before.unwrap_or(0), first));
        funnel.add_row(row);
    }
    let name = table.full_name();
    Ok(format!(
        "Users who reached each step ({name}), and the share of those at the step before:\n{funnel}"
    ))
}

fn right_but_first(columns: usize) -> Vec<bool> {
    (0..columns).map(|column| column > 0).collect()
}

/// A number with its thousands apart.
fn grouped(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", HumanCount(number.unsigned_abs()))
}

/// `part` in percent of `whole`, with three digits at most.
fn percent(part: i64, whole: i64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let percent = 100.0 * part as f64 / whole as f64;
    if percent < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A word as a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What to try next, with commands that work as they are printed.
#[derive(Debug)]
pub(super) struct Next<'a> {
    /// This program, as it was called.
    pub(super) me: &'a str,
    /// The job file.
    pub(super) file: &'a Path,
    /// The newest commit.
    pub(super) commit: u64,
    pub(super) catalog: &'a Path,
    /// A table, and where its metadata is now.
    pub(super) table: &'a str,
    pub(super) metadata: &'a str,
}

impl fmt::Display for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let me = quoted(self.me);
        let file = quoted(&self.file.display().to_string());
        let dir = self.file.parent().unwrap_or(Path::new("."));
        let dir = quoted(&dir.display().to_string());
        let next = self.commit + 1;
        let (table, metadata) = (self.table, self.metadata.replace('\'', "''"));
        let metadata = python(&metadata);
        let uri = python(&format!("sqlite:///{}", self.catalog.display()));
        write!(
            f,
            r#"What to try next

Append 1,000 event records, move 10 users to another region, and run again. Only what is new is read;
the history of the users who moved follows them:

  {me} generate --out {dir} --append --events 1000 --moves 10
  {me} run {file}
  {me} show {file} regional_changes --where _commit={next}

Look at all tables and at how far they are, and at any one of them:

  {me} show {file}
  {me} show {file} regional --where region=emea
  {me} show {file} dead_letters --output json

Read the tables from Python with DuckDB and PyIceberg:

  python3 -m venv venv
  venv/bin/pip install 'duckdb<2' 'pyiceberg[sql-sqlite,pyarrow]'
  venv/bin/python

  import duckdb
  duckdb.sql("INSTALL iceberg; LOAD iceberg")
  duckdb.sql("SELECT region, sum(events) FROM iceberg_scan('{metadata}') GROUP BY region")

  from pyiceberg.catalog import load_catalog
  catalog = load_catalog("tidewater", type="sql", uri="{uri}")
  catalog.load_table("{table}").scan(row_filter="region = 'emea'", limit=10).to_arrow()

The path that DuckDB is given is that of commit {commit}; later ones are in `{me} show {file} --output csv`.
"#,
            commit = self.commit,
        )
    }
}

/// A text inside the quotes of a Python string.
fn python(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_shares_are_readable() {
        assert_eq!((grouped(-1_234_567), grouped(0)), ("-1,234,567".into(), "0".into()));
        assert_eq!((percent(1, 3), percent(1, 30)), ("33 %".into(), "3.3 %".into()));
        assert_eq!((percent(5, 5), percent(1, 0)), ("100 %".into(), "–".into()));
    }

    #[test]
    fn words_with_blanks_and_quotes_reach_the_shell_whole() {
        assert_eq!(quoted("tidewater-demo/job.toml"), "tidewater-demo/job.toml");
        assert_eq!(quoted("my demo"), "'my demo'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn commands_name_the_program_as_it_was_called_and_the_next_commit() {
        let next = Next {
            me: "target/release/tidewater",
            file: Path::new("my demo/job.toml"),
            commit: 3,
            catalog: Path::new("/srv/my demo/lake/catalog.db"),
            table: "subscriptions.regional",
            metadata: "file:///srv/my demo/lake/m.json",
        };
        let text = next.to_string();
        for line in [
            "  target/release/tidewater generate --out 'my demo' --append --events 1000 --moves 10\n",
            "  target/release/tidewater show 'my demo/job.toml' regional_changes --where _commit=4\n",
            "iceberg_scan('file:///srv/my demo/lake/m.json')",
            r#"uri="sqlite:////srv/my demo/lake/catalog.db""#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
