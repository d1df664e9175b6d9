//! What is said while `tidewater generate` runs, and at its end.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::builder::styling::Style;
use indicatif::{ProgressBar, ProgressStyle};

use crate::generate::Counts;

/// Plain progress lines come this often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// What was done, as printed.
#[derive(Debug, serde::Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) round: usize,
    pub(super) start: String,
    pub(super) end: String,
    pub(super) seconds: f64,
    pub(super) records_per_second: f64,
}

/// A bar on a terminal, a line now and then elsewhere; on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    expected: u64,
    started: Instant,
    printed: Instant,
}

impl Progress {
    pub(super) fn new(expected: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{bar:30} {human_pos}/{human_len} records, {per_sec}, {eta} left";
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(expected);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let now = Instant::now();
        Progress { bar, expected, started: now, printed: now }
    }

    pub(super) fn show(&mut self, written: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(written);
            return;
        }
        if self.printed.elapsed() < LINE_INTERVAL {
            return;
        }
        self.printed = Instant::now();
        let rate = written as f64 / self.started.elapsed().as_secs_f64();
        let expected = self.expected;
        // Progress that can't be shown is no reason to stop.
        let mut screen = std::io::stderr();
        drop(writeln!(screen, "{written} of about {expected} records, {rate:.0}/s"));
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The summary for people.
pub(super) fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let bold = Style::new().bold();
    let bold = if std::io::stdout().is_terminal() { bold } else { Style::new() };
    let mut text = String::new();
    let mut line = |name: &str, count: u64, note: &str| {
        text.push_str(&format!("{name:<18}{bold}{count:>14}{bold:#}  {note}\n"));
    };
    let across = format!("{} in another partition, {} conflicts", counts.across, counts.conflicts);
    let delays = format!("{} out of order, {} late", counts.out_of_order, counts.late);
    let changes = format!(
        "{} moves, {} plan changes, {} deletions, {} returns, {} malformed",
        counts.moves, counts.plan_changes, counts.deletes, counts.returns, counts.malformed_users
    );
    let size = counts.event_bytes / counts.records.max(1);
    line("event records", counts.records, &format!("{size} bytes each"));
    line("  events", counts.events, &delays);
    line("  duplicates", counts.duplicates, &across);
    line("  malformed", counts.malformed, "");
    line("user records", counts.user_records, &changes);
    for (step, &count) in &counts.steps {
        line(&format!("  {step}"), count, "");
    }
    let Report { start, end, seconds, records_per_second, .. } = report;
    text.push_str(&format!(
        "from {start} to {end}, in {seconds:.2} s: {records_per_second:.0} records a second"
    ));
    text
}

/// RFC 3339, in UTC.
pub(super) fn time_text(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms)
        .map_or_else(|_| time_ms.to_string(), |t| t.to_string())
}
