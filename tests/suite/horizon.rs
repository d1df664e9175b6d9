//! A bounded horizon of dedup: old ids are forgotten by whole generations, once enough newer ones have come.

use super::fixture::Fixture;
use super::small;

/// Runs the job over `lines` and gives the numbers of events and of duplicates.
fn counts(fixture: &Fixture, lines: &str) -> (u64, u64) {
    fixture.append("events", 0, lines);
    let report = fixture.report(&["--workers", "2"]);
    let number = |key: &str| report[key].as_u64().unwrap();
    (number("events"), number("duplicates"))
}

/// The generations of ids that slabs of the state hold, by the names in the manifest.
fn id_slabs(fixture: &Fixture) -> usize {
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    let sql = "SELECT body FROM tidewater_job WHERE id = 'small'";
    let body: String = catalog.query_row(sql, [], |row| row.get(0)).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let slabs = body["slabs"]["slabs"]["ids"].as_array().unwrap();
    let generations = slabs.iter().map(|slab| slab["generation"].as_u64().unwrap());
    generations.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn generations_of_ids_are_forgotten_as_a_whole_and_only_behind_many_newer_ones() {
    let fixture = Fixture::new(&format!("{}[dedup]\nhorizon = \"4d\"\n", small::job("small")));
    assert_eq!(counts(&fixture, &small::day_of_events('a', 0, 1_200, 0)), (1_200, 0));
    // Records stamped far ahead, though not many, expire nothing.
    assert_eq!(counts(&fixture, &small::day_of_events('f', 0, 900, 300)), (900, 0));
    assert_eq!(counts(&fixture, &small::day_of_events('a', 0, 10, 0)), (0, 10));
    // A copy that is stamped otherwise is found in the generation of the winner.
    assert_eq!(counts(&fixture, &small::day_of_events('a', 10, 20, 2)), (0, 10));
    assert_eq!(id_slabs(&fixture), 2);
    assert_eq!(counts(&fixture, &small::day_of_events('b', 0, 1_500, 10)), (1_500, 0));
    assert_eq!(id_slabs(&fixture), 2, "the first generation is forgotten, those ahead are not");
    // Beyond the horizon a copy counts anew; within it, it does not.
    assert_eq!(counts(&fixture, &small::day_of_events('a', 20, 30, 0)), (10, 0));
    assert_eq!(counts(&fixture, &small::day_of_events('b', 0, 10, 10)), (0, 10));
    for from in ["--from=source", "--from=tables"] {
        let verified = fixture.verb("verify", &["--all", from]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert_eq!(verified.status.code(), Some(0), "{from}: {said}");
    }
}
