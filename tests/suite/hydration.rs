//! State is read on demand: a run over a small change reads the blocks that hold what it touches, and no
//! others.

use std::path::Path;

use serde_json::Value;

use super::fixture::{Fixture, output_of};
use super::small;

const USERS: usize = 4_000;
const EVENTS: usize = 40_000;
/// Bytes of a block of a slab.
const BLOCK_BYTES: u64 = 16 << 10;

/// Many users with ten events each, in a lake.
fn history() -> Fixture {
    let fixture = Fixture::new(&small::job("small"));
    let users: String = (0..USERS).map(|user| small::user(user, "north")).collect();
    let events: String = (0..EVENTS).map(|number| event(number, number % USERS)).collect();
    fixture.append("users", 0, users);
    fixture.append("events", 0, events);
    fixture.report(&[]);
    fixture
}

/// Every event of a user is in a window of its own.
fn event(number: usize, user: usize) -> String {
    let (day, hour) = (1 + number / USERS % 28, number % 24);
    format!(
        "{{\"id\":\"e{number}\",\"user\":\"u{user}\",\"ts\":\"2026-01-{day:02}T{hour:02}:00:00Z\",\
         \"step\":\"view\",\"amount\":1}}\n"
    )
}

/// Runs the job and adds up the blocks that it read for its commits; their lines follow those of the runs
/// before.
fn blocks_read(fixture: &Fixture, workers: &str) -> u64 {
    let work = fixture.path("work.jsonl");
    let lines = || std::fs::read_to_string(&work).unwrap_or_default();
    let before = lines().lines().count();
    let output =
        output_of(fixture.command(&["--workers", workers, "--work", work.to_str().unwrap()]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let commits = lines();
    assert!(commits.lines().count() > before, "{stderr}");
    let commits = commits.lines().skip(before);
    let commits = commits.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let blocks = commits.map(|commit| {
        let collections = commit["state"].as_object().unwrap().values();
        collections.map(|read| read["blocks_read"].as_u64().unwrap()).sum::<u64>()
    });
    blocks.sum()
}

/// Blocks of all slabs.
fn blocks_stored(state: &Path) -> u64 {
    let files = std::fs::read_dir(state).unwrap().map(|file| file.unwrap());
    let slabs = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "slab"));
    slabs.map(|slab| slab.metadata().unwrap().len() / BLOCK_BYTES).sum()
}

#[test]
fn a_small_change_reads_the_blocks_of_what_it_touches() {
    let fixture = history();
    let stored = blocks_stored(&fixture.path(small::STATE));
    assert!(stored > 150, "{stored} blocks say nothing");
    // A block of each slab that may hold the id, or the user's row, version or steps. (Reading a block costs
    // less than reading the filter of hundreds of blocks, which comes into play with more look-ups.)
    fixture.append("events", 0, event(EVENTS, 77));
    let one_event = blocks_read(&fixture, "1");
    assert!((1..=8).contains(&one_event), "one event reads {one_event} of {stored} blocks");
    // All rows of a user lie side by side: a block or two of each slab.
    fixture.append("users", 0, small::user(78, "south"));
    let one_move = blocks_read(&fixture, "2");
    assert!((1..=12).contains(&one_move), "one move reads {one_move} of {stored} blocks");
    fixture.append("events", 0, event(EVENTS + 1, USERS + 1));
    let stranger = blocks_read(&fixture, "2");
    assert!(stranger <= 8, "a user without history reads {stranger} of {stored} blocks");
}

/// Keys that a first run of several commits looked up in slabs, of ids and of the rows of users.
fn keys_sought(arguments: &[&str]) -> [u64; 2] {
    let fixture = Fixture::new(&small::job("small"));
    for partition in 0..6 {
        let events = |number| event(number, number % 50);
        let from = 100 * partition as usize;
        fixture.append("events", partition, (from..from + 100).map(events).collect::<String>());
    }
    // A batch is of one partition, and is a commit.
    let each = ["--workers=1", "--step-records=1", "--commit-records=1"];
    let report = fixture.report(&[&each, arguments].concat());
    assert!(report["commits"].as_u64().unwrap() > 3, "{report}");
    ["ids", "rows.regional"].map(|name| report["state_work"][name]["keys_sought"].as_u64().unwrap())
}

#[test]
fn what_memory_has_no_room_for_is_looked_up_in_slabs_and_the_rest_is_not() {
    assert_eq!(keys_sought(&[]), [0, 0]);
    let [ids, users] = keys_sought(&["--dedup-memory=0"]);
    assert!(ids >= 300 && users == 0, "{ids} ids, {users} users");
    let [ids, users] = keys_sought(&["--user-memory=0"]);
    assert!(ids == 0 && users >= 100, "{ids} ids, {users} users");
}
