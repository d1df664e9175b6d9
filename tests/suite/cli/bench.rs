//! `tidewater bench`: every sweep runs to its end, and the results are there in every form.

use super::{assert_says, typed};

#[test]
fn every_case_of_a_sweep_is_run_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("results");
    let words = ["bench", "--events", "2k", "--users", "100", "--workers", "1"];
    let more = ["--sweep", "workers,processes,sources,aggregates", "--dir", to.to_str().unwrap()];
    let (code, out, err) = typed(&[&words[..], &more[..]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_says(&out, &["4 workers", "2 × 1", "made up", "directory", "ingest::decode", "ids"]);
    let text = std::fs::read_to_string(to.join("bench.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 3 + 2 + 2 + 3);
    for case in &cases {
        let run = &case["runs"][0];
        let records = run["records"].as_u64().unwrap();
        assert!(records > 2_000, "events and users: {case}");
        assert!(run["stage_seconds"]["dedup::admit"].as_f64().unwrap() > 0.0, "{case}");
        assert!(run["memory_bytes"]["ids"].as_u64().unwrap() > 0, "{case}");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort_unstable();
    let expected = ["aggregates.svg", "bench.json", "processes.svg", "sources.svg", "workers.svg"];
    assert_eq!(names, expected);
}

#[test]
fn what_the_time_does_not_suffice_for_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["bench", "--events", "1k", "--seconds", "0", "--sweep", "workers", "--dir"];
    let (code, _, err) = typed(&[&words[..], &[dir.path().to_str().unwrap()]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_says(&err, &["not measured", "workers, 4 workers"]);
}
