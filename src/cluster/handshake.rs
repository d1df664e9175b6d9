//! The handshake: both sides prove that they have the key of the run before they say or believe anything
//! else.
//!
//! ```text
//!   client ── hello: who I am, what I think the run is, a nonce ──► server
//!   client ◄─ challenge: a nonce, proof("server", hello, nonce) ── server
//!   client ── proof("client", hello, nonce) ─────────────────────► server
//!   client ◄─ answer: welcome, or why not ──────────────────────── server
//! ```
//!
//! Everything must be there within [`HANDSHAKE_MAX`]; a stranger learns nothing but a nonce and a proof of
//! it.

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

/// Whether a stranger who sends these bytes to a process joins its run.
#[cfg(fuzzing)]
pub fn stranger_joins(bytes: &[u8]) -> bool {
    use std::io::Write;
    use std::sync::LazyLock;

    static LISTENER: LazyLock<std::net::TcpListener> =
        LazyLock::new(|| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let address = LISTENER.local_addr().expect("it listens");
    let mut client = TcpStream::connect(address).expect("it listens");
    let (mut server, _) = LISTENER.accept().expect("a client is there");
    // Closed at once: thousands of these would use up all ports otherwise.
    let linger = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    linger.expect("a setting of every socket");
    // It fits into the buffers of the connection.
    let sent = client.write_all(&bytes[..bytes.len().min(64 << 10)]);
    sent.and_then(|()| client.shutdown(std::net::Shutdown::Write)).expect("nobody has closed it");
    let terms = Terms::new("job", "d".to_owned(), 3, 2, false);
    let key = Key::new(&random_hex());
    matches!(hear(&mut server, &key, &terms, 0, (7, 5)), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    fn terms(workers: usize) -> Terms {
        Terms::new("job", "d".to_owned(), 3, workers, false)
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// A server of process 0 that hears one client out.
    fn serve(
        mut server: TcpStream,
        key: Key,
    ) -> std::thread::JoinHandle<io::Result<Option<Hello>>> {
        std::thread::spawn(move || hear(&mut server, &key, &terms(2), 0, (7, 5)))
    }

    fn meet(client_key: &Key, server_key: &Key, hello: &Hello) -> (io::Result<Answer>, bool) {
        let (mut client, server) = pair();
        let server = serve(server, server_key.clone());
        let answer = greet(&mut client, client_key, hello);
        drop(client);
        (answer, matches!(server.join().unwrap(), Ok(Some(_))))
    }

    #[test]
    fn who_has_the_key_and_the_same_terms_is_welcome() {
        let key = Key::new(&random_hex());
        let (answer, joined) = meet(&key, &key, &Hello::new(Kind::Control, 2, 0, terms(2)));
        assert!(matches!(answer, Ok(Answer::Welcome { incarnation: 7, commit: 5 })) && joined);
    }

    #[test]
    fn who_has_another_key_or_other_terms_is_not() {
        let (key, other) = (Key::new(&random_hex()), Key::new(&random_hex()));
        let hello = Hello::new(Kind::Data, 1, 0, terms(2));
        let (answer, joined) = meet(&other, &key, &hello);
        assert!(answer.is_err() && !joined);
        for wrong in [
            Hello::new(Kind::Data, 1, 0, terms(3)),
            Hello::new(Kind::Data, 1, 2, terms(2)),
            Hello::new(Kind::Data, 0, 0, terms(2)),
            Hello::new(Kind::Data, 3, 0, terms(2)),
        ] {
            let (answer, joined) = meet(&key, &key, &wrong);
            assert!(matches!(answer, Ok(Answer::Refused { .. })) && !joined, "{wrong:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whatever_a_stranger_sends_it_does_not_join(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            length in any::<u32>(),
            like_hello in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let (mut client, server) = pair();
            let server = serve(server, Key::new(&random_hex()));
            let mut bytes = if like_hello {
                let hello = Hello::new(Kind::Control, 1, 0, terms(2));
                let body = serde_json::to_vec(&hello).unwrap();
                [&(body.len() as u32).to_le_bytes()[..], &body, &noise].concat()
            } else {
                [&(length % 20_000).to_le_bytes()[..], &noise].concat()
            };
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            // The server may have turned away before it has all of it.
            client.write_all(&bytes).and_then(|()| client.shutdown(std::net::Shutdown::Write)).ok();
            prop_assert!(!matches!(server.join().unwrap(), Ok(Some(_))));
        }
    }
}
