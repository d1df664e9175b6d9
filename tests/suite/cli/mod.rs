//! The command line: help, exit codes, the report, and what people are told.

mod bench;
mod damage;
mod experiment;
mod refusals;
mod takeover;
mod watched;

use super::fixture::{Fixture, assert_says, output_of, tidewater};
use super::small;

/// Runs the program with `arguments`: its exit code, standard output and standard error.
fn typed(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tidewater();
    command.args(arguments);
    let output = output_of(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The newest commit of the job `small`, as its row says.
fn newest_commit(fixture: &Fixture) -> i64 {
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    let sql = "SELECT upper FROM tidewater_job WHERE id = 'small'";
    catalog.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Changes the catalog behind the program's back.
fn meddle(fixture: &Fixture, sql: &str) {
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    catalog.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert_ne!(catalog.execute(sql, []).unwrap(), 0, "{sql} changes nothing");
}

#[test]
fn help_and_version_are_answers() {
    let (code, help, _) = typed(&["--help"]);
    assert_eq!(code, Some(0));
    assert_says(&help, &["run", "generate", "validate", "recover", "Exit codes: 0 done"]);
    for verb in ["run", "generate", "validate", "recover", "experiment", "bench"] {
        let (code, help, _) = typed(&[verb, "--help"]);
        assert_eq!(code, Some(0), "{verb}");
        assert_says(&help, &["Usage:", "Options:"]);
    }
    let (code, version, _) = typed(&["--version"]);
    assert_eq!((code, version.trim()), (Some(0), concat!("tidewater ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [
        &["fly"][..],
        &["run"],
        &["recover"],
        &["recover", "job.toml", "--follow"],
        &["run", "job.toml", "--worker", "2"],
        &["run", "job.toml", "--workers", "0"],
        &["run", "job.toml", "--workers", "many"],
        &["run", "job.toml", "--step-records", "0"],
        &["run", "job.toml", "--output", "xml"],
    ] {
        let (code, out, stderr) = typed(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert_says(&stderr, &["--help", "error: "]);
    }
}

#[test]
fn a_wrong_job_file_is_exit_code_2_and_the_place_is_named() {
    let (code, _, stderr) = typed(&["run", "/nowhere/job.toml"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert_says(&stderr, &["/nowhere/job.toml"]);
    let fixture = small::fixture();
    fixture.write_job(
        &small::job("small").replace("group_by = [\"region\", ", "group_by = [\"regoin\", "),
    );
    let stderr = fixture.refused(2, &[]);
    assert_says(&stderr, &["regoin", "region", "job.toml:21:"]);
    fixture.write_job(&small::job("small").replace("window =", "widow ="));
    let stderr = fixture.refused(2, &[]);
    assert_says(&stderr, &["widow", "window", "job.toml:22:"]);
    assert!(!fixture.path("lake").exists(), "nothing is made for a job that is wrong");
}

#[test]
fn a_file_that_was_meant_is_named() {
    let fixture = small::fixture();
    let (folder, file) = (fixture.path(""), fixture.path("job.toml"));
    let job = file.display().to_string();
    for wrong in [folder, fixture.path("jobs.toml")] {
        let (code, _, stderr) = typed(&["run", wrong.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{stderr}");
        assert_says(&stderr, &["did you", &job]);
    }
}

#[test]
fn a_first_run_without_its_source_makes_nothing() {
    let fixture = small::fixture();
    std::fs::remove_dir_all(fixture.path("users")).unwrap();
    let stderr = fixture.refused(3, &[]);
    assert_says(&stderr, &["users", "make it"]);
    assert!(!fixture.path("lake").exists());
}

#[test]
fn data_are_not_generated_over_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let generate = ["generate", "--out", out, "--events", "100"];
    assert_eq!(typed(&generate).0, Some(0));
    let (code, _, stderr) = typed(&generate);
    assert_eq!(code, Some(2), "{stderr}");
    assert_says(&stderr, &["--append", out]);
    let (code, _, stderr) = typed(&["generate", "--out", "/nowhere/at/all", "--append"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn the_report_is_one_json_object() {
    let fixture = small::fixture();
    let report = fixture.report(&["--workers", "2"]);
    let wanted = serde_json::json!({
        "job": "small", "incarnation": 1, "records": 43, "events": 40, "duplicates": 2,
        "conflicts": 1, "dead_letters": 1, "dimension_records": 10,
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&report[key], value, "{key} in {report:#}");
    }
    for key in ["seconds", "events_per_second", "peak_rss_bytes", "commits", "commit"] {
        assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {report:#}");
    }
    // 43 events and 10 users; one event is broken, and two are copies.
    for (operator, records) in [("ingest::decode", 53), ("dedup::admit", 42), ("enrich::users", 50)]
    {
        assert_eq!(report["stage_records"][operator], records, "{operator} in {report:#}");
    }
    let size = |partition| std::fs::metadata(fixture.partition("events", partition)).unwrap().len();
    assert_eq!(report["cut"]["events"], serde_json::json!({"0": size(0), "1": size(1)}));
    let tables = report["tables"].as_object().unwrap();
    let names: Vec<&str> = tables.keys().map(String::as_str).collect();
    let wanted =
        ["cuts", "dead_letters", "events", "path", "path_changes", "regional", "regional_changes"];
    let wanted = wanted.iter().chain(&["users_changes"]).map(|name| format!("small.{name}"));
    assert_eq!(names, wanted.collect::<Vec<_>>());
    assert_eq!(tables["small.events"]["rows"], 40);
    assert!(tables["small.events"]["snapshot_id"].is_i64());

    let again = fixture.report(&[]);
    assert_eq!(again["incarnation"], 2);
    assert_eq!((&again["records"], &again["commits"]), (&0.into(), &0.into()), "{again:#}");
    assert_eq!((&again["cut"], &again["tables"]), (&report["cut"], &report["tables"]));
}

#[test]
fn the_report_for_people_names_tables_and_counts() {
    let fixture = small::fixture();
    let output = fixture.run(&[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_says(&text, &["small: commit", "40 events", "2 duplicates", "small.regional:"]);
}

#[test]
fn a_last_line_without_its_newline_is_left_and_said_so() {
    let fixture = small::fixture();
    let whole = std::fs::metadata(fixture.partition("events", 0)).unwrap().len();
    let line = small::event(77);
    fixture.append("events", 0, &line[..20]);
    let output = fixture.run(&["--output", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["cut"]["events"]["0"], whole);
    assert_says(&String::from_utf8_lossy(&output.stderr), &["no newline", "events"]);
    fixture.append("events", 0, &line[20..]);
    let report = fixture.report(&[]);
    assert_eq!((&report["records"], &report["events"]), (&1.into(), &1.into()));
}
