//! `run --health ADDR`: says over HTTP how a run is, for whoever restarts it or routes around it.
//!
//! `GET /live` is 200 as long as the run has not failed. `GET /ready` is 200 once all is open and running,
//! and 503 before that and while a commit does not come to stand. Both say why, in one line.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tiny_http::{Method, Response, Server};

use crate::driver::{Controls, State};

/// A commit that is closed and does not stand after this time is in trouble.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);

/// Starts to answer on `address`.
pub fn serve(address: SocketAddr, controls: &Controls) -> anyhow::Result<()> {
    let server = Server::http(address)
        .map_err(|error| anyhow!("cannot answer on --health {address}: {error}"))?;
    let controls = controls.clone();
    let answer_all = move || {
        for request in server.incoming_requests() {
            let state = controls.progress.get().map(|progress| progress.now());
            let (code, text) = match (request.method(), request.url()) {
                (Method::Get | Method::Head, "/live") => live(state.as_ref()),
                (Method::Get | Method::Head, "/ready") => ready(state.as_ref()),
                _ => (404, "ask for /live or /ready".to_owned()),
            };
            // Whoever asked may have left.
            request.respond(Response::from_string(text + "\n").with_status_code(code)).ok();
        }
    };
    let thread = std::thread::Builder::new().name("health".to_owned()).spawn(answer_all);
    thread.map(drop).context("cannot start the thread that answers on --health")
}

fn live(state: Option<&State>) -> (u16, String) {
    match state {
        Some(state) if state.ended => (503, "the run has ended".to_owned()),
        Some(state) => (200, format!("running, commit {}", state.commit)),
        None => (200, "starting".to_owned()),
    }
}

fn ready(state: Option<&State>) -> (u16, String) {
    let Some(state) = state else { return (503, "starting".to_owned()) };
    if state.ended {
        return (503, "the run has ended".to_owned());
    }
    match state.closed_since.map(|closed| closed.elapsed()) {
        Some(age) if age > COMMIT_TIME_MAX => {
            let (commit, seconds) = (state.commit.next(), age.as_secs());
            (503, format!("commit {commit} does not stand after {seconds} s"))
        }
        _ => (200, format!("commit {}, {} records read", state.commit, state.records)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_commit_that_does_not_come_to_stand_is_trouble() {
        let state = |age| State {
            closed_since: Instant::now().checked_sub(Duration::from_secs(age)),
            ..State::default()
        };
        assert_eq!(ready(None).0, 503);
        assert_eq!(ready(Some(&State::default())).0, 200);
        assert_eq!(ready(Some(&state(5))).0, 200);
        assert_eq!(ready(Some(&state(31))).0, 503);
        assert_eq!(live(Some(&state(31))).0, 200);
        assert_eq!(live(Some(&State { ended: true, ..State::default() })).0, 503);
    }
}
