//! `tidewater experiment`: both runs agree at every size, and the results are there in every form.

use super::{assert_says, typed};

#[test]
fn every_size_of_every_change_is_tried_beside_computing_all_anew() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("results");
    let words = ["experiment", "--events", "2k", "--users", "100", "--rounds", "1"];
    let more = ["--largest", "0.02", "--workers", "2", "--dir", to.to_str().unwrap()];
    let (code, out, err) = typed(&[&words[..], &more[..]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_says(&out, &["users moved", "late events", "new events", "computing anew"]);

    let csv = std::fs::read_to_string(to.join("experiment.csv")).unwrap();
    let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |row: &[&str], name: &str| {
        let at = header.iter().position(|column| *column == name).unwrap();
        row[at].to_owned()
    };
    let sizes = |change: &str| -> Vec<String> {
        let of = rows.clone().filter(|row| row[0] == change);
        of.map(|row| column(&row, "size")).collect()
    };
    assert_eq!(sizes("users moved"), ["1", "2"]);
    assert_eq!(sizes("late events"), ["1", "10", "40"]);
    assert_eq!(sizes("new events"), ["1", "10", "40"]);
    for row in rows.clone().filter(|row| row[0] != "users moved") {
        assert_eq!(column(&row, "events"), column(&row, "size"), "{row:?}");
    }
    for row in rows {
        assert!(column(&row, "seconds").parse::<f64>().unwrap() > 0.0, "{row:?}");
        assert!(column(&row, "keys_sought").parse::<u64>().unwrap() > 0, "{row:?}");
    }
    let trials = std::fs::read_to_string(to.join("trials.jsonl")).unwrap();
    assert_eq!(trials.lines().count(), 8);
    for name in ["time.svg", "work.svg"] {
        assert!(std::fs::read_to_string(to.join(name)).unwrap().contains("new events"), "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(left.len(), 4, "history and copies are removed: {left:?}");
}

#[test]
fn a_share_must_be_one() {
    let (code, _, err) = typed(&["experiment", "--largest", "2"]);
    assert_eq!(code, Some(2));
    assert_says(&err, &["--largest", "share"]);
}
