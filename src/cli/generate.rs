//! `tidewater generate`: from options to a world and a round, and to a summary at the end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{ArgGroup, ValueEnum};

use crate::generate::directory::Directory;
use crate::generate::history::FILE_NAME;
use crate::generate::kafka::{Connection, Kafka};
use crate::generate::target::{self, Target};
use crate::generate::{History, Round, Shares, Stream, World, job};

pub(super) mod parse;
mod report;

use parse::{count, option, parse_time, positive, span_ms};
use report::{Progress, Report, summary, time_text};

/// Where a first round begins if nothing else is said.
const START: &str = "2026-01-01T00:00:00Z";
const DURATION_MS: i64 = 30 * 86_400_000;
const EVENTS_PER_USER: u64 = 25;

/// Make synthetic subscription events and users, in a directory or in Kafka.
///
/// Users page through a product, sign up, try it, subscribe, pay and leave, at rates that differ by region
/// and plan; some move to another region or plan. A share of the records is late, out of order, sent twice
/// or broken, as options say. The same options give the same bytes, on any machine.
///
/// With --job a job file is written beside the data, ready for `tidewater run`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").args(["out", "brokers"]).required(true).multiple(true))]
pub struct Args {
    /// Directory for events/N.jsonl and users/N.jsonl; with --brokers only for generator.json and job.toml
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Add a round to what was generated before: fresh ids, later times, users where they were left
    #[arg(long, requires = "out")]
    pub append: bool,
    /// Write job.toml beside the data, a job of this name that reads it
    #[arg(long, value_name = "NAME", requires = "out", num_args = 0..=1,
          default_missing_value = "subscriptions")]
    pub job: Option<String>,
    /// At most so many records a second
    #[arg(long, value_name = "RECORDS", value_parser = positive)]
    pub rate: Option<u64>,
    /// How the summary is printed
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,

    /// Event records to write, copies and malformed ones included (5M, 20k, 1_000)
    #[arg(long, value_parser = count, default_value = "1M", help_heading = "What happens")]
    pub events: u64,
    /// Users [default: one for 25 events]
    #[arg(long, value_parser = count, help_heading = "What happens")]
    pub users: Option<u64>,
    /// Business regions, which differ in size, clock and conversion [default: 4]
    #[arg(long, help_heading = "What happens")]
    pub regions: Option<u16>,
    /// Users who change their region [default: 2 % of the users; none with --append]
    #[arg(long, value_parser = count, help_heading = "What happens")]
    pub moves: Option<u64>,
    /// Users who change their plan [default: 2 % of the users; none with --append]
    #[arg(long, value_parser = count, help_heading = "What happens")]
    pub plan_changes: Option<u64>,
    /// Users who are deleted, every fourth to come back [default: 0.2 % of the users; none with --append]
    #[arg(long, value_parser = count, help_heading = "What happens")]
    pub deletes: Option<u64>,
    /// Share of users without a record in the dimension [default: 0.01]
    #[arg(long, value_name = "SHARE", help_heading = "What happens")]
    pub unknown_users: Option<f64>,
    /// Preference for a few users, from 0 (none) to 3 [default: 1]
    #[arg(long, help_heading = "What happens")]
    pub skew: Option<u32>,
    /// Time of the first event, or `now` [default: 2026-01-01T00:00:00Z; where it ended with --append]
    #[arg(long, value_name = "TIME", help_heading = "What happens")]
    pub start: Option<String>,
    /// Time that the events are spread over, about [default: 30d; the pace of the last round with --append]
    #[arg(long, value_name = "SPAN", value_parser = span_ms, help_heading = "What happens")]
    pub duration: Option<i64>,
    /// Decides everything that is left to chance [default: 1]
    #[arg(long, help_heading = "What happens")]
    pub seed: Option<u64>,

    #[command(flatten)]
    pub faults: Faults,
    #[command(flatten)]
    pub topics: Topics,
}

/// Shares of the event records, each from 0 to 1.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "What goes wrong (shares of the event records; with --append as before)"
)]
pub struct Faults {
    /// Sent once more, byte for byte [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    pub duplicates: Option<f64>,
    /// Of the duplicates, those whose copy lands in another partition [default: 0.3]
    #[arg(long, value_name = "SHARE")]
    pub across: Option<f64>,
    /// Followed by a record of the same id with other content [default: 0.0002]
    #[arg(long, value_name = "SHARE")]
    pub conflicts: Option<f64>,
    /// Written seconds to minutes after their time [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    pub out_of_order: Option<f64>,
    /// Written hours to days after their time [default: 0.002]
    #[arg(long, value_name = "SHARE")]
    pub late: Option<f64>,
    /// Can't be decoded, in one of 14 ways [default: 0.0002]
    #[arg(long, value_name = "SHARE")]
    pub malformed: Option<f64>,
}

/// The two topics.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Topics")]
pub struct Topics {
    /// Partitions of the event topic [default: 4]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// Partitions of the user topic [default: as many as of the event topic]
    #[arg(long, value_name = "N")]
    pub user_partitions: Option<u32>,
    /// Write to Kafka: host:port, several with commas
    #[arg(long, value_name = "HOSTS")]
    pub brokers: Option<String>,
    /// Kafka topic of the events
    #[arg(long, value_name = "TOPIC", default_value = "events", requires = "brokers")]
    pub events_topic: String,
    /// Kafka topic of the users
    #[arg(long, value_name = "TOPIC", default_value = "users", requires = "brokers")]
    pub users_topic: String,
    /// Create the topics if they are missing, the users' one compacted
    #[arg(long, requires = "brokers")]
    pub create_topics: bool,
    /// Replicas of created topics
    #[arg(long, value_name = "N", default_value_t = 1, requires = "create_topics")]
    pub replication: i32,
    /// An option for librdkafka; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = option, requires = "brokers")]
    pub options: Vec<(String, String)>,
}

/// The form of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Generates what was asked for and prints a summary on standard output.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (mut history, round) = args.resolve()?;
    history.world.check()?;
    round.check()?;
    let connection = args.topics.connection();
    let mut target = args.open(&history.world, connection.clone())?;
    let earlier = history.rounds.clone();
    let mut stream = Stream::new(&history.world, &earlier, &round);
    let start_ms = round.start_ms;
    let expected =
        round.events + if earlier.is_empty() { u64::from(history.world.users) } else { 0 };
    history.rounds.push(round);
    history.end_ms = None;
    if let Some(folder) = &args.out {
        history.write(folder)?;
    }

    let started = Instant::now();
    let mut progress = Progress::new(expected);
    target::run(&mut stream, &mut target, args.rate, |written| progress.show(written))?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();

    history.end_ms = Some(stream.end_ms());
    if let Some(folder) = &args.out {
        history.write(folder)?;
        if let Some(name) = &args.job {
            write_job(folder, name, connection.as_ref())?;
        }
    }
    let counts = stream.counts();
    let report = Report {
        records_per_second: (counts.records + counts.user_records) as f64 / seconds.max(1e-9),
        counts,
        round: earlier.len() + 1,
        start: time_text(start_ms),
        end: time_text(stream.end_ms()),
        seconds,
    };
    args.print(&report)
}

impl Args {
    /// The world and what was done in it so far, and what is to be done now.
    fn resolve(&self) -> anyhow::Result<(History, Round)> {
        match &self.out {
            Some(folder) if self.append => {
                let history = History::read(folder)?;
                self.same_world(&history.world, folder)?;
                let round = self.later_round(&history)?;
                Ok((history, round))
            }
            folder => {
                if let Some(folder) = folder {
                    History::refuse_existing(folder)?;
                }
                let history = History::new(self.world()?);
                let round = self.first_round(&history.world)?;
                Ok((history, round))
            }
        }
    }

    fn world(&self) -> anyhow::Result<World> {
        let users = self.users.unwrap_or((self.events / EVENTS_PER_USER).max(1));
        let partitions = self.topics.partitions.unwrap_or(4);
        Ok(World {
            seed: self.seed.unwrap_or(1),
            users: u32::try_from(users).context("--users: there can be at most 99,999,999")?,
            regions: self.regions.unwrap_or(4),
            unknown_users: self.unknown_users.unwrap_or(0.01),
            partitions,
            user_partitions: self.topics.user_partitions.unwrap_or(partitions),
        })
    }

    fn first_round(&self, world: &World) -> anyhow::Result<Round> {
        let users = u64::from(world.users);
        let start = self.start_ms()?;
        Ok(Round {
            seed: world.seed,
            events: self.events,
            moves: self.moves.unwrap_or(users / 50),
            plan_changes: self.plan_changes.unwrap_or(users / 50),
            deletes: self.deletes.unwrap_or(users / 500),
            start_ms: start.map_or_else(|| parse_time(START), Ok)?,
            duration_ms: self.duration.unwrap_or(DURATION_MS),
            skew: self.skew.unwrap_or(1),
            shares: self.faults.over(&Shares::default()),
        })
    }

    fn later_round(&self, history: &History) -> anyhow::Result<Round> {
        let last = history.rounds.last().context("generator.json: holds no round to go on from")?;
        let ended_ms = history.end_ms.unwrap_or(last.start_ms);
        let start_ms = self.start_ms()?.unwrap_or(ended_ms);
        if start_ms < ended_ms {
            bail!("--start: the earlier rounds ended later, at {}", time_text(ended_ms));
        }
        let pace_ms =
            i128::from(last.duration_ms) * i128::from(self.events) / i128::from(last.events.max(1));
        Ok(Round {
            seed: self.seed.unwrap_or(history.world.seed),
            events: self.events,
            moves: self.moves.unwrap_or(0),
            plan_changes: self.plan_changes.unwrap_or(0),
            deletes: self.deletes.unwrap_or(0),
            start_ms,
            duration_ms: self.duration.unwrap_or(pace_ms.max(1_000) as i64),
            skew: self.skew.unwrap_or(last.skew),
            shares: self.faults.over(&last.shares),
        })
    }

    /// Refuses options that would change what is fixed.
    fn same_world(&self, world: &World, folder: &Path) -> anyhow::Result<()> {
        let fixed = [
            ("users", self.users.map(|n| n == u64::from(world.users))),
            ("regions", self.regions.map(|n| n == world.regions)),
            ("unknown-users", self.unknown_users.map(|share| share == world.unknown_users)),
            ("partitions", self.topics.partitions.map(|n| n == world.partitions)),
            ("user-partitions", self.topics.user_partitions.map(|n| n == world.user_partitions)),
        ];
        for (name, same) in fixed {
            if same == Some(false) {
                let path = folder.join(FILE_NAME);
                bail!("--{name}: differs from {}; leave it out with --append", path.display());
            }
        }
        Ok(())
    }

    fn start_ms(&self) -> anyhow::Result<Option<i64>> {
        match self.start.as_deref() {
            None => Ok(None),
            Some("now") => Ok(Some(jiff::Timestamp::now().as_millisecond())),
            Some(text) => Ok(Some(parse_time(text)?)),
        }
    }

    fn open(&self, world: &World, connection: Option<Connection>) -> anyhow::Result<Target> {
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: can't be made", folder.display()))?;
        }
        match (connection, &self.out) {
            (Some(connection), _) => {
                if self.topics.create_topics {
                    connection.create_topics(world, self.topics.replication)?;
                }
                Ok(Target::Kafka(Kafka::open(connection, world)?))
            }
            (None, Some(folder)) => {
                Ok(Target::Directory(Directory::open(folder, world, self.append)?))
            }
            (None, None) => bail!("one of --out and --brokers is needed"),
        }
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Json => serde_json::to_string(report)?,
            Output::Text => summary(report),
        };
        writeln!(std::io::stdout(), "{text}").context("the summary can't be printed")
    }
}

impl Faults {
    fn over(&self, base: &Shares) -> Shares {
        Shares {
            duplicates: self.duplicates.unwrap_or(base.duplicates),
            across: self.across.unwrap_or(base.across),
            conflicts: self.conflicts.unwrap_or(base.conflicts),
            out_of_order: self.out_of_order.unwrap_or(base.out_of_order),
            late: self.late.unwrap_or(base.late),
            malformed: self.malformed.unwrap_or(base.malformed),
        }
    }
}

impl Topics {
    fn connection(&self) -> Option<Connection> {
        Some(Connection {
            brokers: self.brokers.clone()?,
            events_topic: self.events_topic.clone(),
            users_topic: self.users_topic.clone(),
            options: self.options.clone(),
        })
    }
}

fn write_job(folder: &Path, name: &str, connection: Option<&Connection>) -> anyhow::Result<()> {
    let path = folder.join("job.toml");
    std::fs::write(&path, job::text(name, connection))
        .with_context(|| format!("{}: can't be written", path.display()))
}
