//! `tidewater bench`: throughput, one setting at a time changed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::generate::parse::{count, positive};
use super::progress::Shown;
use crate::measure::chart::bars;
use crate::measure::child::{Cost, Program};
use crate::measure::median;
use crate::measure::sweep::{Broker, Setting, Source, Sweep};

/// Measure throughput on this machine: one job, and one setting at a time changed.
///
/// Each case is a whole process with an empty lake: it reads made-up records (or a directory or a broker that
/// were filled with generated ones), writes all tables and state, and ends. The job has one aggregate and one
/// funnel unless a sweep adds more.
///
/// Prints a table for each sweep, and where time and memory went with the settings as they were given. In the
/// folder it leaves bench.json (every run with its settings) and a chart for each sweep as SVG. Compare
/// figures of one call only: machines have good and bad minutes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder for results; lakes and data are made there too, and removed at the end
    #[arg(long, value_name = "DIR", default_value = "tidewater-bench")]
    pub dir: PathBuf,
    /// What is changed, with commas [default: workers,processes,sources,commit-intervals]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub sweep: Vec<Sweep>,
    /// Event records (5M, 20k)
    #[arg(long, value_name = "RECORDS", value_parser = positive, default_value = "2M")]
    pub events: u64,
    /// Users [default: one for 25 events]
    #[arg(long, value_parser = positive)]
    pub users: Option<u64>,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Worker threads where no sweep says otherwise [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// A broker for the sweep of sources; topics are made there, and stay
    #[arg(long, value_name = "HOSTS")]
    pub kafka: Option<String>,
    /// Runs of each case, for the medians
    #[arg(long, value_name = "N", value_parser = positive, default_value = "1")]
    pub rounds: u64,
    /// No run begins after so many seconds; what is left out is said
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub seconds: u64,
    /// Decides the records
    #[arg(long, value_parser = count, default_value = "1")]
    pub seed: u64,
    /// How the results are printed
    #[arg(long, value_enum, default_value = "text")]
    pub output: super::run::Output,
}

/// A case with all its runs.
#[derive(Debug, Serialize)]
struct Measured {
    sweep: Sweep,
    name: String,
    setting: Setting,
    runs: Vec<Cost>,
}

impl Measured {
    fn of(&self, value: impl Fn(&Cost) -> f64) -> f64 {
        median(self.runs.iter().map(value).collect())
    }

    fn events_per_second(&self) -> f64 {
        self.of(|run| self.setting.events as f64 / run.seconds)
    }
}

/// Measures what `args` asks for.
pub fn run(args: &Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().context("cannot find the folder of the results")?;
    let (measured, left_out) = measure(args, &dir)?;
    write_results(&dir, &measured)?;
    let mut out = std::io::stdout().lock();
    let text = match args.output {
        super::run::Output::Json => serde_json::to_string(&measured)? + "\n",
        super::run::Output::Text => described(&measured, args.base()),
    };
    write!(out, "{text}").context("cannot write the results")?;
    for name in left_out {
        tracing::warn!("not measured, since the time was up: {name}");
    }
    Ok(())
}

impl Args {
    fn base(&self) -> Setting {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u16);
        Setting {
            from: Source::Synthetic,
            events: self.events,
            users: self.users.unwrap_or(self.events / 25).max(1),
            partitions: self.partitions,
            seed: self.seed,
            workers: self.workers.unwrap_or(cores),
            processes: 1,
            commit_interval_ms: 10_000,
            aggregates: 1,
        }
    }
}

/// All cases in turns, and the names of those that the time did not suffice for.
fn measure(args: &Args, dir: &Path) -> anyhow::Result<(Vec<Measured>, Vec<String>)> {
    let program = Program::this()?;
    let shown = Shown::start()?;
    let broker = args.kafka.clone().map(Broker::new);
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let sweeps = if args.sweep.is_empty() { &Sweep::USUAL[..] } else { &args.sweep };
    let mut measured = Vec::new();
    for sweep in sweeps {
        for case in sweep.cases(args.base(), args.kafka.is_some()) {
            let (sweep, name, setting) = (*sweep, case.name, case.setting);
            measured.push(Measured { sweep, name, setting, runs: Vec::new() });
        }
    }
    for round in 1..=args.rounds {
        for case in &mut measured {
            if Instant::now() >= end {
                break;
            }
            let (sweep, name) = (case.sweep.name(), &case.name);
            shown.say(format!("{sweep}: {name}, round {round} of {}", args.rounds));
            case.setting.prepare(&program, dir, broker.as_ref())?;
            case.runs.push(case.setting.run(&program, dir, broker.as_ref())?);
        }
    }
    for entry in fs::read_dir(dir).context("cannot look at the folder of the results")? {
        let entry = entry.context("cannot look at the folder of the results")?.path();
        let made =
            entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("data-"));
        if made {
            fs::remove_dir_all(&entry)
                .with_context(|| format!("cannot remove {}", entry.display()))?;
        }
    }
    let is_empty = |case: &&Measured| case.runs.is_empty();
    let name = |case: &Measured| format!("{}, {}", case.sweep.name(), case.name);
    let left_out = measured.iter().filter(is_empty).map(name).collect();
    measured.retain(|case| !case.runs.is_empty());
    Ok((measured, left_out))
}

fn write_results(dir: &Path, measured: &[Measured]) -> anyhow::Result<()> {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("bench.json", serde_json::to_string_pretty(measured)? + "\n")?;
    for cases in measured.chunk_by(|a, b| a.sweep == b.sweep) {
        let name = cases[0].sweep.name();
        let rates = cases.iter().map(|case| (case.name.clone(), case.events_per_second()));
        let svg = bars(name, "events/s", &rates.collect::<Vec<_>>())?;
        write(&format!("{}.svg", name.replace(' ', "-")), svg)?;
    }
    Ok(())
}

/// The tables for people.
fn described(measured: &[Measured], base: Setting) -> String {
    let mut text = String::new();
    for cases in measured.chunk_by(|a, b| a.sweep == b.sweep) {
        let first = cases[0].events_per_second();
        let header = [cases[0].sweep.name(), "events/s", "of first", "seconds", "CPU s", "memory"];
        let mut table = table(&header);
        for case in cases {
            let rate = case.events_per_second();
            table.add_row([
                case.name.clone(),
                HumanCount(rate as u64).to_string(),
                format!("{:.2}", rate / first),
                format!("{:.2}", case.of(|run| run.seconds)),
                format!("{:.2}", case.of(|run| run.usage.cpu_seconds)),
                HumanBytes(case.of(|run| run.usage.peak_rss_bytes as f64) as u64).to_string(),
            ]);
        }
        text += &format!("{}\n\n", aligned(table));
    }
    if let Some(case) = measured.iter().find(|case| case.setting == base) {
        text += &described_base(&case.runs[0]);
    }
    text
}

/// Where time and memory of a run went.
fn described_base(run: &Cost) -> String {
    let all: f64 = run.usage.stage_seconds.values().sum();
    let mut stages: Vec<(&String, &f64)> = run.usage.stage_seconds.iter().collect();
    stages.sort_unstable_by(|a, b| b.1.total_cmp(a.1));
    let mut times = table(&["stage", "seconds", "share", "records"]);
    for (stage, seconds) in stages {
        let share = format!("{:.1} %", seconds / all * 100.0);
        let records = run.usage.stage_records.get(stage).map(|records| HumanCount(*records));
        let records = records.map(|records| records.to_string()).unwrap_or_default();
        times.add_row([stage.clone(), format!("{seconds:.2}"), share, records]);
    }
    let mut memory = table(&["collection", "in memory"]);
    for (collection, bytes) in &run.usage.memory_bytes {
        memory.add_row([collection.clone(), HumanBytes(*bytes).to_string()]);
    }
    format!("{}\n\n{}\n", aligned(times), aligned(memory))
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Numbers to the right.
fn aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
