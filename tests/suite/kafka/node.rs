//! A broker of a test's own, from `scripts/kafka`: it can be killed, frozen and started again, and has
//! listeners that ask who is there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::super::running::await_true;
use super::broker::Broker;

/// Ports that tests look for free ones in.
const PORTS: std::ops::Range<u16> = 29_200..30_000;
/// A node listens on this many neighbouring ports.
const NEIGHBOURS: u16 = 5;

/// Listeners, by the distance of their ports from that without TLS and SASL.
pub const SASL: u16 = 2;
pub const SASL_TLS: u16 = 3;
pub const TLS: u16 = 4;

/// A broker that this test alone uses. It ends with the test.
pub struct Node {
    folder: TempDir,
    port: u16,
    pub broker: Broker,
}

impl Node {
    /// Starts a broker where tests have one; with a password, one with all listeners.
    pub fn start(password: Option<&str>) -> Option<Node> {
        Broker::connect()?;
        let folder = tempfile::Builder::new().prefix("tidewater-kafka-").tempdir().unwrap();
        let port = free_ports();
        let mut command = script("start", folder.path());
        command.args(["--port", &port.to_string()]).env("KAFKA_HEAP", "512m");
        match password {
            Some(password) => command.env("KAFKA_PASSWORD", password),
            None => command.env_remove("KAFKA_PASSWORD"),
        };
        let broker = started(command.output().unwrap());
        Some(Node { folder, port, broker })
    }

    /// Where a listener is.
    pub fn address(&self, listener: u16) -> String {
        format!("127.0.0.1:{}", self.port + listener)
    }

    /// A file with a key or a certificate.
    pub fn key(&self, name: &str) -> PathBuf {
        node(self.folder.path()).join("keys").join(name)
    }

    fn pid(&self) -> Option<Pid> {
        let pid = fs::read_to_string(node(self.folder.path()).join("pid")).ok()?;
        let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).ok()?;
        let folder = self.folder.path().display().to_string();
        command.contains(&folder).then(|| Pid::from_raw(pid.trim().parse().unwrap()))?
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid().expect("the broker runs"), signal).unwrap();
    }

    /// Kills the broker, without a chance to close anything.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        await_true("the end of the broker", || self.pid().is_none());
    }

    /// Starts it again, with its data.
    pub fn resume(&self) {
        let mut command = script("resume", self.folder.path());
        started(command.env("KAFKA_HEAP", "512m").output().unwrap());
    }

    /// Lets it hang: connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

fn node(folder: &Path) -> PathBuf {
    folder.join("node")
}

fn script(verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka"));
    command.arg(verb).arg("--dir").arg(node(folder));
    command
}

fn started(output: Output) -> Broker {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the broker does not start: {said}");
    Broker::at(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// The first of some neighbouring ports that nobody listens on. Every node looks elsewhere first, since
/// another one may be about to take what is still free.
fn free_ports() -> u16 {
    static NODES: AtomicUsize = AtomicUsize::new(0);
    let steps = PORTS.step_by(usize::from(NEIGHBOURS)).collect::<Vec<_>>();
    let begin = std::process::id() as usize * 7 + NODES.fetch_add(1, Ordering::Relaxed);
    let begin = begin % steps.len();
    let free = |port: &u16| {
        let listeners = (0..NEIGHBOURS).map(|next| TcpListener::bind(("127.0.0.1", port + next)));
        listeners.collect::<Result<Vec<_>, _>>().is_ok()
    };
    *steps[begin..].iter().chain(&steps[..begin]).find(|port| free(port)).expect("free ports")
}
