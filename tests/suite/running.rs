//! Programs that are at work beside a test.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What others bring about is there within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A run that was asked to end, or that must notice that it can't go on, has ended after this time.
const END_MAX: Duration = Duration::from_secs(30);
/// The rest between two looks.
const REST: Duration = Duration::from_millis(10);

/// Waits for what others bring about.
pub fn await_true(what: &str, condition: impl FnMut() -> bool) {
    await_within(PATIENCE, what, condition);
}

fn await_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come within {patience:?}");
        std::thread::sleep(REST);
    }
}

/// A program at work; it is killed when the test ends before it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: File,
    err: File,
}

/// How a program has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    /// Starts a program.
    pub fn start(mut command: Command) -> Running {
        let [out, err] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        Running { child: command.spawn().unwrap(), out, err }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end, which comes soon.
    pub fn end(self) -> Ended {
        self.end_within(END_MAX)
    }

    /// Waits for its end.
    pub fn end_within(mut self, patience: Duration) -> Ended {
        let mut status = None;
        await_within(patience, "the end of a program", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let text = |file: &mut File| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        Ended { code: status.unwrap().code(), out: text(&mut self.out), err: text(&mut self.err) }
    }
}
