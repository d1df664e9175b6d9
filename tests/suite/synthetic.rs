//! The synthetic source end to end: the same tables however it is read, and verified by recomputation.

use std::path::Path;

use super::fixture::{output_of, tidewater};

fn write_job(dir: &Path, name: &str, events: u64) -> std::path::PathBuf {
    let job = dir.join(format!("{name}.toml"));
    let text = format!(
        r#"
        [job]
        name = "{name}"
        [events]
        source = {{ synthetic = {{ events = {events}, users = 500, partitions = 3, rate = 1 }} }}
        id = "/event_id"
        user = "/user_id"
        time = "/ts"
        [events.columns]
        step = "/type"
        amount = {{ path = "/amount_cents", type = "long", default = 0 }}
        [dimension]
        name = "users"
        source = {{ synthetic = {{ users = 500 }} }}
        key = "/user_id"
        [dimension.columns]
        region = "/region"
        [[aggregate]]
        name = "regional"
        group_by = ["region", "step"]
        window = "1h"
        measures = {{ events = "count", users = "distinct", amount = "sum(amount)" }}
        [lake]
        catalog = "sqlite:{name}/catalog.db"
        warehouse = "{name}/warehouse"
        namespace = "{name}"
        "#
    );
    std::fs::write(&job, text).unwrap();
    job
}

fn done(words: &[&str], job: &Path) -> String {
    let mut command = tidewater();
    command.arg(words[0]).arg(job).args(&words[1..]);
    let output = output_of(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The rows of the current table, but for the commit that brought them.
fn rows(job: &Path) -> Vec<String> {
    let text = done(&["show", "regional", "--output", "csv"], job);
    let row = |line: &str| line.rsplit_once(',').expect("several columns").0.to_owned();
    let mut rows: Vec<String> = text.lines().map(row).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn a_topic_that_grew_gives_the_same_tables_as_one_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let grown = write_job(dir.path(), "grown", 7_000);
    done(&["run", "--workers", "1"], &grown);
    let before = rows(&grown);
    write_job(dir.path(), "grown", 20_000);
    done(&["run", "--workers", "3"], &grown);
    let whole = write_job(dir.path(), "whole", 20_000);
    let report = done(&["run", "--workers", "2", "--output", "json"], &whole);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["records"], 20_000);
    assert!(report["duplicates"].as_u64().unwrap() > 800, "{report}");
    assert_eq!(report["dead_letters"], 0);
    assert!(rows(&grown) == rows(&whole), "the tables differ");
    assert!(before != rows(&whole), "the second run changed nothing");
    done(&["verify", "--all"], &grown);
    done(&["verify", "--all", "--from=source"], &grown);
}
