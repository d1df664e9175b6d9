//! How far long work is: one line that changes on a terminal, and lines of their own elsewhere.

use std::io::IsTerminal;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

/// How often the line is shown on a terminal, and elsewhere.
const REDRAW: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows on standard error what `line` says, until the sender of `end` is gone. `line` is told how long ago
/// it was asked before; `None` shows nothing.
pub(super) fn show(end: &Receiver<()>, mut line: impl FnMut(Duration) -> Option<String>) {
    let terminal = std::io::stderr().is_terminal();
    let bar = terminal.then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg}");
        ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    });
    let started = Instant::now();
    let mut shown = started;
    let interval = if terminal { REDRAW } else { LINE_INTERVAL };
    while end.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let Some(line) = line(shown.elapsed()) else { continue };
        shown = Instant::now();
        match &bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => eprintln!("{:>6.1} s  {line}", started.elapsed().as_secs_f64()),
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Says on standard error what is under way.
pub(super) struct Shown {
    now: Arc<Mutex<String>>,
    /// Dropped, it ends the thread that shows.
    _end: mpsc::Sender<()>,
}

impl Shown {
    pub(super) fn start() -> anyhow::Result<Shown> {
        let now = Arc::new(Mutex::new(String::new()));
        let (end, ended) = mpsc::channel();
        let told = Arc::clone(&now);
        let line = move |_: Duration| {
            told.lock().ok().map(|now| now.clone()).filter(|now| !now.is_empty())
        };
        std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || show(&ended, line))
            .context("cannot start the thread that shows progress")?;
        Ok(Shown { now, _end: end })
    }

    pub(super) fn say(&self, text: String) {
        if let Ok(mut now) = self.now.lock() {
            *now = text;
        }
    }
}
