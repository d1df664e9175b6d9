//! Sweeps: a job over synthetic records, run with one setting at a time changed.

use std::net::TcpListener;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::child::{Cost, Program};

/// The setting that a sweep changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sweep {
    /// 1, 2 and 4 worker threads
    Workers,
    /// 1 and 2 processes of a worker each
    Processes,
    /// Where records come from: made up, a directory and, with --kafka, a broker
    Sources,
    /// Commits every 0.2 s, 1 s, 10 s and 30 s
    CommitIntervals,
    /// A tenth, half, all, and five times as many events
    Events,
    /// 1, 8 and 64 partitions
    Partitions,
    /// A thousand to ten million users
    Users,
    /// 1, 2 and 4 aggregates in the job
    Aggregates,
}

/// Where records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Synthetic,
    Directory,
    Kafka,
}

/// All settings of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub from: Source,
    pub events: u64,
    pub users: u64,
    pub partitions: u32,
    pub seed: u64,
    pub workers: u16,
    pub processes: u16,
    pub commit_interval_ms: u64,
    pub aggregates: usize,
}

/// A broker to read from.
#[derive(Debug, Clone)]
pub struct Broker {
    hosts: String,
    /// Topics begin with it: nobody has used it before.
    prefix: String,
}

impl Broker {
    /// The broker at `hosts`, with topics of its own.
    pub fn new(hosts: String) -> Self {
        let prefix = format!("tidewater-bench-{:08x}", uuid::Uuid::new_v4().as_fields().0);
        Broker { hosts, prefix }
    }
}

/// A setting of a sweep, and its name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub setting: Setting,
}

impl Sweep {
    /// The sweeps that are made unless others are asked for.
    pub const USUAL: [Sweep; 4] =
        [Sweep::Workers, Sweep::Processes, Sweep::Sources, Sweep::CommitIntervals];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Sweep::Workers => "workers",
            Sweep::Processes => "processes",
            Sweep::Sources => "sources",
            Sweep::CommitIntervals => "commit intervals",
            Sweep::Events => "events",
            Sweep::Partitions => "partitions",
            Sweep::Users => "users",
            Sweep::Aggregates => "aggregates",
        }
    }

    /// Its cases around `base`.
    pub fn cases(self, base: Setting, kafka: bool) -> Vec<Case> {
        let case = |name: String, setting: Setting| Case { name, setting };
        match self {
            Sweep::Workers => [1, 2, 4]
                .map(|workers| case(format!("{workers} workers"), Setting { workers, ..base }))
                .into(),
            Sweep::Processes => [1, 2]
                .map(|processes| {
                    case(format!("{processes} × 1"), Setting { processes, workers: 1, ..base })
                })
                .into(),
            Sweep::Sources => [Source::Synthetic, Source::Directory, Source::Kafka]
                .into_iter()
                .filter(|from| kafka || *from != Source::Kafka)
                .map(|from| case(from.name().to_owned(), Setting { from, ..base }))
                .collect(),
            Sweep::CommitIntervals => [200, 1_000, 10_000, 30_000]
                .map(|ms| {
                    let setting = Setting { commit_interval_ms: ms, ..base };
                    case(format!("{} s", ms as f64 / 1e3), setting)
                })
                .into(),
            Sweep::Events => [(1, 10), (1, 2), (1, 1), (5, 1)]
                .map(|(times, part)| (base.events / part).max(1).saturating_mul(times))
                .map(|events| case(short(events), Setting { events, ..base }))
                .into(),
            Sweep::Partitions => [1, 8, 64]
                .map(|partitions| case(format!("{partitions}"), Setting { partitions, ..base }))
                .into(),
            Sweep::Users => [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
                .map(|users| case(short(users), Setting { users, ..base }))
                .into(),
            Sweep::Aggregates => [1, 2, 4]
                .map(|aggregates| case(format!("{aggregates}"), Setting { aggregates, ..base }))
                .into(),
        }
    }
}

impl Source {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Source::Synthetic => "made up",
            Source::Directory => "directory",
            Source::Kafka => "Kafka",
        }
    }
}

/// `5M`, `20k` or all digits.
fn short(count: u64) -> String {
    match count {
        _ if count >= 1_000_000 && count.is_multiple_of(1_000_000) => {
            format!("{}M", count / 1_000_000)
        }
        _ if count >= 1_000 && count.is_multiple_of(1_000) => format!("{}k", count / 1_000),
        _ => count.to_string(),
    }
}

impl Setting {
    /// What the records depend on, as the name of a folder or topic.
    fn data(&self) -> String {
        let Setting { events, users, partitions, seed, .. } = self;
        format!("{events}-{users}-{partitions}-{seed}")
    }

    fn topic(&self, topic: &str, broker: Option<&Broker>) -> String {
        let prefix = broker.map(|broker| broker.prefix.as_str()).unwrap_or_default();
        format!("{prefix}-{topic}-{}", self.data())
    }

    /// The job file; its lake is beside it.
    fn job(&self, broker: Option<&Broker>) -> String {
        let Setting { events, users, partitions, seed, .. } = self;
        let source = |topic: &str| match self.from {
            Source::Synthetic => {
                let all = format!("users = {users}, partitions = {partitions}, seed = {seed}");
                let events = format!("events = {events}, ");
                let events = if topic == "events" { events.as_str() } else { "" };
                format!("{{ synthetic = {{ {events}{all} }} }}")
            }
            Source::Directory => format!("{{ directory = \"../data-{}/{topic}\" }}", self.data()),
            Source::Kafka => format!(
                "{{ kafka = {{ brokers = {:?}, topic = \"{}\" }} }}",
                broker.map(|broker| broker.hosts.as_str()).unwrap_or_default(),
                self.topic(topic, broker),
            ),
        };
        let mut text = format!(
            r#"[job]
name = "bench"
[events]
source = {}
id = "/event_id"
user = "/user_id"
time = "/ts"
[events.columns]
step = "/type"
amount = {{ path = "/amount_cents", type = "long", default = 0 }}
currency = "/currency"
os = "/device/os"
[dimension]
name = "users"
source = {}
key = "/user_id"
deleted = "/deleted"
[dimension.columns]
region = "/region"
plan = "/plan"
[[funnel]]
name = "signup_funnel"
group_by = ["region"]
column = "step"
steps = ["page_view", "signup_started", "signup_completed", "trial_started", "subscribed"]
within = "7d"
[lake]
catalog = "sqlite:lake/catalog.db"
warehouse = "lake/warehouse"
namespace = "bench"
commit_interval = "{}ms"
"#,
            source("events"),
            source("users"),
            self.commit_interval_ms,
        );
        let all = GROUPS.iter().enumerate().take(self.aggregates);
        all.for_each(|(number, group)| text += &aggregate(number, group));
        text
    }

    /// Makes the records that the source does not make up itself, unless they are there.
    pub fn prepare(
        &self,
        program: &Program,
        dir: &Path,
        broker: Option<&Broker>,
    ) -> anyhow::Result<()> {
        let data = dir.join(format!("data-{}", self.data()));
        let done = data.join(format!("{}.made", self.from.name()));
        if self.from == Source::Synthetic || done.exists() {
            return Ok(());
        }
        let numbers = [self.events, self.users, self.partitions.into(), self.seed];
        let [events, users, partitions, seed] = numbers.map(|number| number.to_string());
        let mut words: Vec<String> = vec!["generate".into()];
        let options = ["--events", &events, "--users", &users, "--partitions", &partitions];
        let more = ["--seed", &seed, "--duration", "24h", "--regions", "12"];
        words.extend(options.into_iter().chain(more).map(str::to_owned));
        std::fs::create_dir_all(&data).context("cannot make the folder of the data")?;
        if self.from == Source::Kafka {
            let hosts = broker.map(|broker| broker.hosts.clone()).unwrap_or_default();
            words.extend(["--brokers".into(), hosts, "--create-topics".into()]);
            words.extend(["--events-topic".into(), self.topic("events", broker)]);
            words.extend(["--users-topic".into(), self.topic("users", broker)]);
        } else {
            words.extend(["--out".into(), data.display().to_string()]);
        }
        program.call(&words)?;
        std::fs::write(done, "").context("cannot note that the data are made")
    }

    /// Runs the job with neither tables nor state in a folder that is made for it and removed.
    pub fn run(
        &self,
        program: &Program,
        dir: &Path,
        broker: Option<&Broker>,
    ) -> anyhow::Result<Cost> {
        let folder = dir.join("run");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .context("cannot remove the folder of the run before")?;
        }
        std::fs::create_dir(&folder).context("cannot make the folder of a run")?;
        let job = folder.join("job.toml");
        std::fs::write(&job, self.job(broker)).context("cannot write the job file")?;
        let cost = match self.processes {
            1 => program.run(&job, Some(self.workers)),
            processes => {
                let hosts = folder.join("hosts");
                std::fs::write(&hosts, free_addresses(processes)?).context("cannot write hosts")?;
                program.run_processes(&job, self.workers, processes, &hosts)
            }
        };
        std::fs::remove_dir_all(&folder).context("cannot remove the folder of the run")?;
        cost
    }
}

/// What the aggregates of the job group by.
const GROUPS: [&str; 4] =
    [r#""region", "step""#, r#""plan", "os""#, r#""currency""#, r#""region", "plan""#];

fn aggregate(number: usize, group: &str) -> String {
    format!(
        r#"[[aggregate]]
name = "by_{number}"
group_by = [{group}]
window = "1h"
measures = {{ events = "count", users = "distinct", amount = "sum(amount)" }}
"#
    )
}

/// So many addresses of the loopback interface that nobody listens on, a line each.
fn free_addresses(count: u16) -> anyhow::Result<String> {
    let listeners: Result<Vec<_>, _> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let mut lines = String::new();
    for listener in listeners.context("cannot find free ports")? {
        lines += &format!("{}\n", listener.local_addr().context("cannot find a free port")?);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Setting = Setting {
        from: Source::Synthetic,
        events: 2_000_000,
        users: 80_000,
        partitions: 8,
        seed: 1,
        workers: 2,
        processes: 1,
        commit_interval_ms: 10_000,
        aggregates: 1,
    };

    #[test]
    fn a_sweep_changes_one_setting() {
        let names = |sweep: Sweep, kafka: bool| -> Vec<String> {
            sweep.cases(BASE, kafka).into_iter().map(|case| case.name).collect()
        };
        assert_eq!(names(Sweep::Workers, false), ["1 workers", "2 workers", "4 workers"]);
        assert_eq!(names(Sweep::Sources, false), ["made up", "directory"]);
        assert_eq!(names(Sweep::Sources, true), ["made up", "directory", "Kafka"]);
        assert_eq!(names(Sweep::CommitIntervals, false), ["0.2 s", "1 s", "10 s", "30 s"]);
        assert_eq!(names(Sweep::Events, false), ["200k", "1M", "2M", "10M"]);
        for case in Sweep::Users.cases(BASE, false) {
            assert_eq!(Setting { users: BASE.users, ..case.setting }, BASE);
        }
    }

    #[test]
    fn every_setting_makes_a_valid_job() {
        use clap::ValueEnum;
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::new("127.0.0.1:9092".to_owned());
        for sweep in Sweep::value_variants() {
            for case in sweep.cases(BASE, true) {
                let path = dir.path().join("job.toml");
                std::fs::write(&path, case.setting.job(Some(&broker))).unwrap();
                let job = crate::job::load(&path).unwrap_or_else(|error| panic!("{error:?}"));
                assert_eq!(job.aggregates.len(), case.setting.aggregates);
            }
        }
    }
}
