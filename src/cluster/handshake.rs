//! The handshake: both sides prove that they have the key of the run before they say or believe anything else.
//!
//! ```text
//!   client ── hello: who I am, what I think the run is, a nonce ──► server
//!   client ◄─ challenge: a nonce, proof("server", hello, nonce) ── server
//!   client ── proof("client", hello, nonce) ─────────────────────► server
//!   client ◄─ answer: welcome, or why not ──────────────────────── server
//! ```
//!
//! Everything must be there within [`HANDSHAKE_MAX`]; a stranger learns nothing but a nonce and a proof of it.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::frames;
use super::key::{Key, random_hex};

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const PROTOCOL: &str = concat!("tidewater ", env!("CARGO_PKG_VERSION"), " cluster 1");

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Orders and heartbeats.
    Control,
    /// Timely's messages.
    Data,
}

/// What must be the same in all processes of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub protocol: String,
    pub job: String,
    /// Hash of the job's definition.
    pub definition: String,
    pub processes: usize,
    /// Worker threads of a process.
    pub workers: usize,
    pub follow: bool,
}

impl Terms {
    pub(super) fn new(
        job: &str,
        definition: String,
        processes: usize,
        workers: usize,
        follow: bool,
    ) -> Terms {
        let (protocol, job) = (PROTOCOL.to_owned(), job.to_owned());
        Terms { protocol, job, definition, processes, workers, follow }
    }

    /// What of `theirs` is different, for people.
    fn difference(&self, theirs: &Terms) -> Option<String> {
        let differs = |what: &str, ours: &dyn std::fmt::Display, theirs: &dyn std::fmt::Display| {
            Some(format!("{what} {theirs}, and the run has {ours}; start all processes alike"))
        };
        if self.protocol != theirs.protocol {
            return differs("its program is", &self.protocol, &theirs.protocol);
        }
        if self.job != theirs.job {
            return differs("its job is", &self.job, &theirs.job);
        }
        if self.processes != theirs.processes {
            return differs("its --processes is", &self.processes, &theirs.processes);
        }
        if self.workers != theirs.workers {
            return differs("its --workers is", &self.workers, &theirs.workers);
        }
        if self.follow != theirs.follow {
            return differs("its --follow is", &self.follow, &theirs.follow);
        }
        let differs = self.definition != theirs.definition;
        differs.then(|| format!("its definition of job {} is another one", self.job))
    }
}

/// The first word of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub kind: Kind,
    /// Index of the client's process.
    pub from: usize,
    /// Index of the process that it means to reach.
    pub to: usize,
    pub terms: Terms,
    nonce: String,
}

impl Hello {
    pub(super) fn new(kind: Kind, from: usize, to: usize, terms: Terms) -> Hello {
        Hello { kind, from, to, terms, nonce: random_hex() }
    }
}

#[derive(Serialize, Deserialize)]
struct Challenge {
    nonce: String,
    proof: String,
}

/// The last word of a server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Welcome {
        /// The incarnation of the run, and the commit where it starts.
        incarnation: u64,
        commit: u64,
    },
    Refused {
        why: String,
    },
}

/// Says hello, and gives the answer of a server that has the key.
pub(super) fn greet(stream: &mut TcpStream, key: &Key, hello: &Hello) -> io::Result<Answer> {
    let deadline = Instant::now() + HANDSHAKE_MAX;
    frames::write(stream, hello)?;
    let body = serde_json::to_vec(hello)?;
    let (challenge, _) = frames::read_by::<Challenge>(stream, deadline)?;
    let messages = [&body[..], challenge.nonce.as_bytes()];
    if !key.proves(&challenge.proof, "server", messages) {
        return Err(io::Error::other("it does not have the key of the run"));
    }
    frames::write(stream, &key.proof("client", messages))?;
    Ok(frames::read_by(stream, deadline)?.0)
}

/// Hears a client out. `Ok(None)`: it has the key and was refused.
pub(super) fn hear(
    stream: &mut TcpStream,
    key: &Key,
    terms: &Terms,
    me: usize,
    (incarnation, commit): (u64, u64),
) -> io::Result<Option<Hello>> {
    let deadline = Instant::now() + HANDSHAKE_MAX;
    stream.set_write_timeout(Some(HANDSHAKE_MAX))?;
    let (hello, body) = frames::read_by::<Hello>(stream, deadline)?;
    let nonce = random_hex();
    let messages = [&body[..], nonce.as_bytes()];
    let challenge = Challenge { proof: key.proof("server", messages), nonce: nonce.clone() };
    frames::write(stream, &challenge)?;
    let (proof, _) = frames::read_by::<String>(stream, deadline)?;
    if !key.proves(&proof, "client", messages) {
        return Err(io::Error::other("it does not have the key of the run"));
    }
    let why = if hello.to != me || hello.from == me || hello.from >= terms.processes {
        let (from, to) = (hello.from, hello.to);
        Some(format!("process {from} means to reach process {to}, and this is process {me}"))
    } else {
        terms.difference(&hello.terms)
    };
    if let Some(why) = why {
        tracing::warn!(process = hello.from, why, "a process was refused");
        frames::write(stream, &Answer::Refused { why })?;
        return Ok(None);
    }
    frames::write(stream, &Answer::Welcome { incarnation, commit })?;
    Ok(Some(hello))
}
