//! `tidewater experiment`: changes of all sizes, each beside computing everything anew.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};

use super::generate::parse::{count, positive};
use super::progress::Shown;
use crate::measure::chart::{Chart, Line};
use crate::measure::child::Program;
use crate::measure::experiment::{Change, Crossover, Point, Trial, crossover, point, sizes};
use crate::measure::median;
use crate::measure::place::{Place, World};

/// The tables of the generator's job that both runs must agree in.
const ANSWERS: [&str; 2] = ["regional", "signup_funnel"];
const DURATION: &str = "24h";

/// Measure what a change costs, from one user or event up, beside computing everything anew.
///
/// Makes synthetic events and runs a job over them: its history. Then, for each kind of change and each size
/// (1, 10, 100 … up to a share of all), it applies the change to a copy of the history, runs the job, which
/// takes in only what is new, and runs the same job over everything with neither tables nor state. Both are
/// whole processes, and their answers must be the same.
///
/// Prints a table and the size from which on computing anew wins. In the folder it leaves experiment.csv
/// (medians), trials.jsonl (every run), time.svg and work.svg. Needs disk for the history twice: about
/// 1.2 GiB for a million events.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder for results; history and copies are made there too, and removed at the end
    #[arg(long, value_name = "DIR", default_value = "tidewater-experiment")]
    pub dir: PathBuf,
    /// Event records of the history (5M, 20k)
    #[arg(long, value_name = "RECORDS", value_parser = positive, default_value = "1M")]
    pub events: u64,
    /// Users [default: one for 25 events]
    #[arg(long, value_parser = positive)]
    pub users: Option<u64>,
    /// The largest change, as a share of all users or events
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0.1")]
    pub largest: f64,
    /// Kinds of changes, with commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub changes: Vec<Change>,
    /// Times that each change is tried, for the medians
    #[arg(long, value_name = "N", value_parser = positive, default_value = "3")]
    pub rounds: u64,
    /// Worker threads of the runs [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Decides everything that is left to chance
    #[arg(long, value_parser = count, default_value = "1")]
    pub seed: u64,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "is no share between 0 and 1".to_owned())
}

/// Measures what `args` asks for.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let program = Program::this()?;
    let place = Place::new(&args.dir, &program, args.workers)?;
    let points = measure(args, &place);
    place.clear()?;
    let points = points?;
    write_results(&args.dir, &points)?;
    let text = described(&points);
    let mut out = std::io::stdout().lock();
    let dir = args.dir.display();
    write!(out, "{text}\n{dir}: experiment.csv, trials.jsonl, time.svg, work.svg\n")
        .context("cannot write the results")
}

/// All trials; the points of each kind of change by rising size.
fn measure(args: &Args, place: &Place<'_>) -> anyhow::Result<Vec<Point>> {
    let shown = Shown::start()?;
    let users = args.users.unwrap_or(args.events / 25).max(1);
    let world =
        World { events: args.events, users, duration: DURATION.to_owned(), seed: args.seed };
    shown.say(format!("making a history of {} events", HumanCount(args.events)));
    place.make(&world)?;
    let mut trials =
        fs::File::create(args.dir.join("trials.jsonl")).context("cannot write trials")?;
    let changes = if args.changes.is_empty() { &Change::ALL[..] } else { &args.changes };
    let mut points = Vec::new();
    for change in changes {
        let of = if *change == Change::Moves { users } else { args.events };
        for size in sizes((of as f64 * args.largest) as u64) {
            let mut of_size = Vec::new();
            for round in 1..=args.rounds {
                shown.say(format!(
                    "{} {change}, round {round} of {}",
                    HumanCount(size),
                    args.rounds
                ));
                let seed = args.seed + round;
                let trial = one_trial(place, *change, size, of, seed)?;
                writeln!(trials, "{}", serde_json::to_string(&trial)?)
                    .context("cannot write trials")?;
                of_size.push(trial);
            }
            points.extend(point(&of_size));
        }
    }
    Ok(points)
}

fn one_trial(
    place: &Place<'_>,
    change: Change,
    size: u64,
    of: u64,
    seed: u64,
) -> anyhow::Result<Trial> {
    place.restore()?;
    place.apply(change, size, seed)?;
    let trial =
        Trial { change, size, of, incremental: place.run()?, recomputed: place.recompute()? };
    if let Some(table) = place.difference(&ANSWERS)? {
        bail!("after {size} {change} table {table} has other rows than if it is computed anew");
    }
    Ok(trial)
}

fn write_results(dir: &Path, points: &[Point]) -> anyhow::Result<()> {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("experiment.csv", csv(points))?;
    let x = "size of the change (users or events)";
    let mut lines = by_change(points, |point| point.seconds);
    let anew = median(points.iter().map(|point| point.recompute_seconds).collect());
    let ends =
        [points.iter().map(|point| point.size).min(), points.iter().map(|point| point.size).max()];
    let anew = ends.into_iter().flatten().map(|size| (size as f64, anew)).collect();
    lines.push(Line { name: "all anew".to_owned(), points: anew });
    let title = "Time to take a change in, whole process";
    write("time.svg", Chart { title, x, y: "seconds", lines: &lines }.svg()?)?;
    let bytes = |point: &Point| {
        let work = &point.work;
        let read = work.state_bytes_read + work.state_bytes_written + work.table_bytes_written;
        read.max(1) as f64 / f64::from(1 << 20)
    };
    let title = "Bytes of state and tables read and written";
    let lines = by_change(points, bytes);
    write("work.svg", Chart { title, x, y: "MiB", lines: &lines }.svg()?)
}

fn by_change(points: &[Point], y: impl Fn(&Point) -> f64) -> Vec<Line> {
    let line = |points: &[Point]| Line {
        name: points[0].change.to_string(),
        points: points.iter().map(|point| (point.size as f64, y(point))).collect(),
    };
    points.chunk_by(|a, b| a.change == b.change).map(line).collect()
}

/// The operators whose records are told, and the names of their columns.
const OPERATORS: [(&str, &str); 4] = [
    ("ingest::decode", "decoded"),
    ("dedup::admit", "deduplicated"),
    ("enrich::users", "enriched"),
    ("current::leaves", "group_changes"),
];

fn csv(points: &[Point]) -> String {
    let mut text = String::from(
        "change,size,share,seconds,recompute_seconds,times_faster,records,events,keys_sought,\
         state_bytes_read,state_rows_written,state_bytes_written,changes,files_written,\
         table_bytes_written",
    );
    OPERATORS.iter().for_each(|(_, column)| text += &format!(",{column}"));
    text += "\n";
    for point in points {
        let Point { change, size, share, seconds, recompute_seconds, times_faster, .. } = point;
        let work = &point.work;
        text += &format!(
            "{change},{size},{share},{seconds:.4},{recompute_seconds:.4},{times_faster:.3},\
             {},{},{},{},{},{},{},{},{}",
            work.records,
            work.events,
            work.keys_sought,
            work.state_bytes_read,
            work.state_rows_written,
            work.state_bytes_written,
            work.changes,
            work.files_written,
            work.table_bytes_written,
        );
        OPERATORS.iter().for_each(|(operator, _)| text += &format!(",{}", took(point, operator)));
        text += "\n";
    }
    text
}

fn took(point: &Point, operator: &str) -> u64 {
    point.stage_records.get(operator).copied().unwrap_or_default()
}

/// The table for people, and where the lines cross.
fn described(points: &[Point]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header([
        "change",
        "size",
        "share",
        "seconds",
        "anew",
        "faster",
        "keys sought",
        "rows of state",
        "group changes",
        "changed rows",
        "files",
        "tables",
        "state",
    ]);
    for point in points {
        let work = &point.work;
        table.add_row([
            point.change.to_string(),
            HumanCount(point.size).to_string(),
            format!("{:.4} %", point.share * 100.0),
            format!("{:.3}", point.seconds),
            format!("{:.3}", point.recompute_seconds),
            format!("{:.1} ×", point.times_faster),
            HumanCount(work.keys_sought).to_string(),
            HumanCount(work.state_rows_written).to_string(),
            HumanCount(took(point, "current::leaves")).to_string(),
            HumanCount(work.changes).to_string(),
            HumanCount(work.files_written).to_string(),
            HumanBytes(work.table_bytes_written).to_string(),
            HumanBytes(work.state_bytes_read + work.state_bytes_written).to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n");
    for points in points.chunk_by(|a, b| a.change == b.change) {
        let change = points[0].change;
        let Some(found) = crossover(points) else { continue };
        text += &match found {
            Crossover::At(size) => {
                format!("{change}: computing anew wins from about {} on\n", HumanCount(size))
            }
            Crossover::Below(size) => {
                format!(
                    "{change}: computing anew wins from {} on, the smallest tried\n",
                    HumanCount(size)
                )
            }
            Crossover::Above(size) => {
                format!("{change}: computing anew does not win up to {}\n", HumanCount(size))
            }
        };
    }
    text
}
