//! Other people's programs: PyIceberg and DuckDB read every table at every snapshot, and DuckDB computes the
//! same answers from the raw lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::fixture::{Fixture, output_of, tidewater};
use super::tables::{Cell, Row, Tables};

/// Columns of the expected answers that hold text; others are times and numbers.
const TEXTS: [&str; 8] =
    ["event_id", "_topic", "region", "plan", "step", "step_name", "user_id", "os"];

fn python(arguments: &[&Path]) -> String {
    let python = std::env::var_os("TIDEWATER_PYTHON")
        .expect("TIDEWATER_PYTHON names no Python with PyIceberg and DuckDB: run scripts/test");
    let mut command = Command::new(python);
    command.args(arguments);
    let output = output_of(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}:\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn cell_of(column: &str, text: &str, numbers_are_steps: bool) -> Cell {
    let is_text = TEXTS.contains(&column) && !(column == "step" && numbers_are_steps);
    match text {
        "" => Cell::Null,
        text if is_text => Cell::text(text),
        text if text.ends_with('Z') => {
            text.parse::<jiff::Timestamp>().unwrap().as_microsecond().into()
        }
        text => text.parse::<i64>().unwrap().into(),
    }
}

/// The rows of a CSV file of expected answers. A `step` beside a `step_name` is a number.
fn expected(file: &Path) -> BTreeSet<Row> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let is_funnel = columns.contains(&"step_name");
    let row = |line: &str| -> Row {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), columns.len(), "{line}");
        let pairs = columns.iter().zip(cells);
        pairs
            .map(|(column, text)| ((*column).to_owned(), cell_of(column, text, is_funnel)))
            .collect()
    };
    lines.map(row).collect()
}

/// The rows of a table, as far as `like` has their columns.
fn found(tables: &mut Tables, table: &str, like: &BTreeSet<Row>) -> BTreeSet<Row> {
    let columns: Vec<&String> = like.first().unwrap().keys().collect();
    let rows = tables.current(table);
    let count = rows.len();
    let project =
        |row: Row| columns.iter().map(|name| ((*name).clone(), row[*name].clone())).collect();
    let rows: BTreeSet<Row> = rows.into_iter().map(project).collect();
    assert_eq!(rows.len(), count, "{table} has rows twice");
    rows
}

fn assert_table(tables: &mut Tables, table: &str, file: &Path) {
    let expected = expected(file);
    let found = found(tables, table, &expected);
    let odd: Vec<&Row> = found.symmetric_difference(&expected).take(5).collect();
    assert!(odd.is_empty(), "{table} and {}: {odd:#?}", file.display());
}

/// The numbers of `counts.csv` against those of the report.
fn assert_counts(report: &serde_json::Value, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    for line in text.lines().skip(1) {
        let (name, value) = line.split_once(',').unwrap();
        if let Some(reported) = report.get(name) {
            assert_eq!(reported.to_string(), value, "{name} in {report:#}");
        }
    }
}

/// Reads every table at every snapshot with PyIceberg and with DuckDB.
fn read_by_others(catalog: &Path, namespace: &str) -> serde_json::Value {
    let out = python(&[&in_repository("tests/interop/read.py"), catalog, Path::new(namespace)]);
    serde_json::from_str(&out).unwrap()
}

fn generate(folder: &Path, arguments: &[&str]) {
    let mut command = tidewater();
    command.args(["generate", "--out"]).arg(folder).args(arguments);
    let output = output_of(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_checked_in_topics_give_the_checked_in_answers() {
    let dataset = in_repository("datasets/subscriptions");
    let fixture = Fixture::new(&fs::read_to_string(dataset.join("job.toml")).unwrap());
    for topic in ["events", "users"] {
        for entry in fs::read_dir(dataset.join(topic)).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, fixture.path(topic).join(from.file_name().unwrap())).unwrap();
        }
    }
    let report = fixture.report(&["--workers=2"]);
    let expected = dataset.join("expected");
    assert_counts(&report, &expected.join("counts.csv"));
    let mut tables = Tables::open(&fixture.catalog(), "subscriptions");
    for table in ["events", "dead_letters", "regional", "signup_funnel"] {
        assert_table(&mut tables, table, &expected.join(format!("{table}.csv")));
    }
    let read = read_by_others(&fixture.catalog(), "subscriptions");
    assert_eq!(read["tables"], 8, "{read:#}");
}

#[test]
fn other_programs_read_every_snapshot_and_compute_the_same_from_the_lines() {
    let fixture = Fixture::new("");
    let folder = fixture.path("");
    let sizes = ["--users=400", "--partitions=4", "--malformed=0.01", "--conflicts=0.002"];
    generate(&folder, &[&["--events=8000", "--job", "--moves=40"], &sizes[..]].concat());
    let job = fs::read_to_string(fixture.path("job.toml")).unwrap();
    let job = job.replace("[lake]", "[lake]\nleaf_rows = 64\nraw = true");
    fixture.write_job(&job);
    fixture.report(&["--workers=1", "--commit-records=1500"]);
    generate(&folder, &["--append", "--events=8000", "--moves=30", "--deletes=5"]);
    fixture.report_of(2, &["--workers=2", "--commit-records=1500", "--user-memory=0"]);
    generate(&folder, &["--append", "--events=4000", "--plan-changes=20"]);
    fixture.report_of(4, &["--workers=1", "--commit-records=1500"]);
    generate(&folder, &["--append", "--events=2000", "--moves=10"]);
    fixture.report_of(2, &["--workers=1", "--commit-records=1500"]);

    let expected = fixture.path("expected");
    let recompute = in_repository("scripts/expected");
    python(&[&recompute, &folder, Path::new("--out"), &expected]);
    let namespace = namespace_of(&job);
    let mut tables = Tables::open(&fixture.catalog(), &namespace);
    for table in ["dead_letters", "regional", "signup_funnel"] {
        assert_table(&mut tables, table, &expected.join(format!("{table}.csv")));
    }
    // Which of several equal copies wins depends on the commits, the event does not.
    let ids = |rows: BTreeSet<Row>| {
        rows.iter().map(|row| row["event_id"].clone()).collect::<BTreeSet<_>>()
    };
    let wanted = self::expected(&expected.join("events.csv"));
    assert_eq!(ids(found(&mut tables, "events", &wanted)), ids(wanted));

    let read = read_by_others(&fixture.catalog(), &namespace);
    assert_eq!(read["tables"], 9, "{read:#}");
    assert!(read["snapshots"].as_u64().unwrap() > 40, "{read:#}");
    for table in ["events", "regional"] {
        let (planned, files) = (&read["planned"][table], &read["files"][table]);
        let skips = planned.as_u64().unwrap() * 2 < files.as_u64().unwrap();
        assert!(skips, "a filter on {table} still reads {planned} of {files} files");
    }
}

fn namespace_of(job: &str) -> String {
    let line = job.lines().find_map(|line| line.trim().strip_prefix("namespace"));
    line.unwrap().trim_matches(|c: char| " =\"".contains(c)).to_owned()
}
