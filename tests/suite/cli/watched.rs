//! Runs that are watched: health over HTTP, and a supervisor that starts them again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::process::{Pid, Signal, kill_process};

use super::super::fixture::{Fixture, assert_says, output_of};
use super::super::running::{Running, await_true};
use super::super::small;
use super::newest_commit;

fn has_committed(fixture: &Fixture, commit: i64) -> bool {
    fixture.catalog().exists()
        && std::panic::catch_unwind(|| newest_commit(fixture)).is_ok_and(|newest| newest > commit)
}

/// Asks for a page: its status line and its body.
fn get(address: &str, page: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split(' ').nth(1)?.parse().ok()?;
    Some((code, text.split("\r\n\r\n").nth(1)?.to_owned()))
}

#[test]
fn a_run_says_over_http_how_it_is() {
    let fixture = small::fixture();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let run = Running::start(fixture.command(&["--follow", &format!("--health={port}")]));
    await_true("the first commit", || {
        get(&address, "/ready")
            .is_some_and(|(code, text)| code == 200 && !text.contains("commit 0"))
    });
    let (code, text) = get(&address, "/live").unwrap();
    assert_eq!((code, text.contains("running, commit ")), (200, true), "{text}");
    assert_eq!(get(&address, "/other").unwrap().0, 404);
    // A commit that does not come to stand is told by the unit test of the page.
    drop(run);
    let elsewhere = fixture.refused(1, &["--health=192.0.2.1:1"]);
    assert_says(&elsewhere, &["cannot answer on --health 192.0.2.1:1"]);
    let wrong = fixture.refused(2, &["--health=here"]);
    assert_says(&wrong, &["--health", "PORT (on 127.0.0.1) or IP:PORT"]);
}

/// The run that a supervisor has started.
fn child_of(supervisor: &Running) -> Option<Pid> {
    let id = supervisor.pid();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

#[test]
fn a_supervised_run_is_started_again_and_ends_at_a_signal() {
    let fixture = small::fixture();
    let supervised = Running::start(fixture.command(&["--follow", "--supervise"]));
    await_true("the first commit", || has_committed(&fixture, 0));
    for number in 0..3 {
        let commit = newest_commit(&fixture);
        let child = child_of(&supervised).unwrap();
        kill_process(child, Signal::KILL).unwrap();
        fixture.append("events", 0, small::event(600 + number));
        await_true("a commit of the next run", || has_committed(&fixture, commit));
    }
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.end().code, Some(0));
    let report = fixture.report(&[]);
    assert_eq!(report["tables"]["small.events"]["rows"], 43, "{report}");
}

#[test]
fn a_supervised_run_that_fails_again_and_again_is_given_up() {
    let fixture = small::fixture();
    let mut command = fixture.command(&["--supervise", "--give-up-after", "3"]);
    command.env("FAILPOINTS", "commit.stage=panic(the disk is tired)");
    let output = output_of(command);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_says(&text, &["given up after 3 failures in a row", "the disk is tired"]);
    assert_eq!(text.matches("starting again in").count(), 2, "{text}");

    fixture.report(&[]);
    fixture.write_job(&small::job("intruder"));
    let refused = fixture.refused(3, &["--supervise"]);
    assert_says(&refused, &["not started again: ", "belongs to job small"]);
}
