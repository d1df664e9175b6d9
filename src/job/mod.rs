//! What a job file means: one resolved and checked struct per stage. A [`Job`] that exists is valid.

mod collisions;
mod definition;
mod duration;
mod error;
mod file;
mod hidden;
mod kafka_options;
mod layout;
mod locations;
mod read;
mod reference;
mod scalar;
mod scope;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use definition::differences;
pub use error::{JobError, Mistake};
pub use kafka_options::{is_secret_option, refused_option};
pub use layout::{AggregateLayout, FactLayout, FunnelLayout, LayoutError, SumSlot};
pub use validate::{load, parse};

use crate::model::{ColumnType, Value};

/// A named definition that owns its tables, its state and a fence.
#[derive(Debug, Clone)]
pub struct Job {
    /// The name that owns tables, state and fence.
    pub name: String,
    /// The event topic and how its records become events.
    pub events: EventsSpec,
    /// The changing reference data, if the job has any.
    pub dimension: Option<DimensionSpec>,
    /// Aggregates, in the order of the job file.
    pub aggregates: Vec<AggregateSpec>,
    /// Funnels, in the order of the job file.
    pub funnels: Vec<FunnelSpec>,
    /// How long an event id is remembered, in microseconds of event time; `None` is for ever.
    pub dedup_horizon_us: Option<i64>,
    /// Where the tables and the state live.
    pub lake: LakeSpec,
    /// What of the job file decides the answers; see [`Definition`] and [`differences`].
    pub definition: Definition,
}

/// The part of a job file that decides the meaning of tables and state, as dotted keys with their values
/// (`aggregate.regional.window` = `1h`): compared key by key with the definition of the stored state.
pub type Definition = BTreeMap<String, String>;

/// A path into a JSON document, as the tokens of a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointer(pub Vec<String>);

/// Where records come from.
#[derive(Debug, Clone)]
pub enum SourceSpec {
    /// A topic on disk: the file `N.jsonl` is partition N.
    Directory(PathBuf),
    /// A topic of a Kafka cluster.
    Kafka(KafkaSpec),
    /// A topic that is made up in the process.
    Synthetic(SyntheticSpec),
}

/// A topic whose records are computed from their offsets, for measuring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticSpec {
    /// Event records; None for the topic of users.
    pub events: Option<u64>,
    /// Users.
    pub users: u32,
    /// Partitions.
    pub partitions: u32,
    /// Decides the content.
    pub seed: u64,
    /// Events in a second of event time.
    pub rate: u64,
}

impl SyntheticSpec {
    /// The topic's name.
    pub fn topic(&self) -> &'static str {
        if self.events.is_some() { "events" } else { "users" }
    }
}

/// A topic of a Kafka cluster.
#[derive(Clone)]
pub struct KafkaSpec {
    /// `host:port,…`.
    pub brokers: String,
    /// The topic's name.
    pub topic: String,
    /// Options for librdkafka; values may be secrets and are never shown.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for KafkaSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSpec")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl SourceSpec {
    /// The name under which positions, cuts and rows know the topic: Kafka's topic, or the folder's last
    /// part.
    pub fn topic(&self) -> String {
        match self {
            SourceSpec::Kafka(kafka) => kafka.topic.clone(),
            SourceSpec::Synthetic(synthetic) => synthetic.topic().to_owned(),
            SourceSpec::Directory(path) => path
                .file_name()
                .map_or_else(|| "events".into(), |name| name.to_string_lossy().into_owned()),
        }
    }
}

/// A column taken from a JSON document.
#[derive(Debug, Clone)]
pub struct Column {
    /// The column's name in tables.
    pub name: String,
    /// Where it stands in the document.
    pub pointer: Pointer,
    /// Its type.
    pub kind: ColumnType,
    /// What stands in for a missing or null value; `None` gives NULL.
    pub default: Option<Value>,
}

/// How the event time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// RFC 3339 text with any offset.
    Rfc3339,
    /// A number of seconds (a fraction is allowed).
    Seconds,
    /// A number of milliseconds.
    Milliseconds,
    /// A number of microseconds.
    Microseconds,
}

/// The event topic and how its records become events.
#[derive(Debug, Clone)]
pub struct EventsSpec {
    /// Where the records come from.
    pub source: SourceSpec,
    /// The event's id.
    pub id: Pointer,
    /// The event's user.
    pub user: Pointer,
    /// The event's time.
    pub time: Pointer,
    /// How the time is written.
    pub time_unit: TimeUnit,
    /// The other columns, in the order of the job file.
    pub columns: Vec<Column>,
}

/// The dimension topic and how its records become versions of a key.
#[derive(Debug, Clone)]
pub struct DimensionSpec {
    /// Names the table `<name>_changes`.
    pub name: String,
    /// Where the records come from.
    pub source: SourceSpec,
    /// The key, compared with the event's user.
    pub key: Pointer,
    /// Name of the key column in tables: the last token of `key`, or `key` where that can't be a name.
    pub key_name: String,
    /// A boolean that deletes the key.
    pub deleted: Option<Pointer>,
    /// The columns, in the order of the job file.
    pub columns: Vec<Column>,
}

/// A column of a `group_by`.
#[derive(Debug, Clone)]
pub struct GroupColumn {
    /// The column's name.
    pub name: String,
    /// Whose column it is.
    pub side: Side,
    /// Its type.
    pub kind: ColumnType,
}

/// Whose column a group column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Index into [`EventsSpec::columns`].
    Event(usize),
    /// Index into [`DimensionSpec::columns`].
    Dimension(usize),
}

/// A measure of an aggregate.
#[derive(Debug, Clone)]
pub struct Measure {
    /// The column's name in the table.
    pub name: String,
    /// What is measured.
    pub kind: MeasureKind,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasureKind {
    /// Events.
    Count,
    /// Distinct users.
    Distinct,
    /// The sum of an event column (a long or a decimal): index into [`EventsSpec::columns`].
    Sum(usize),
}

/// A table of measures by group and window.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// The table's name.
    pub name: String,
    /// Group columns in the order of the job file, from either side.
    pub group_by: Vec<GroupColumn>,
    /// Size of the tumbling window in microseconds; `None` for one total.
    pub window_us: Option<i64>,
    /// Measures in the order of the job file.
    pub measures: Vec<Measure>,
}

/// A table of users by furthest steps.
#[derive(Debug, Clone)]
pub struct FunnelSpec {
    /// The table's name.
    pub name: String,
    /// Group columns, all of the dimension.
    pub group_by: Vec<GroupColumn>,
    /// Index of the event column that holds the step (a string column).
    pub column: usize,
    /// The values of that column, in the order of the funnel; distinct.
    pub steps: Vec<String>,
    /// How long after the first step the others count, in microseconds.
    pub within_us: Option<i64>,
}

/// Where the tables and the state live, and when they move.
#[derive(Debug, Clone)]
pub struct LakeSpec {
    /// Path of the SQLite catalog.
    pub catalog: PathBuf,
    /// Name of the catalog inside that file (`tidewater` unless the job says otherwise).
    pub catalog_name: String,
    /// Folder of the tables.
    pub warehouse: PathBuf,
    /// Folder of the state: `_state/<job>` beside the warehouse's tables unless the job says otherwise.
    pub state: PathBuf,
    /// Namespace of all tables.
    pub namespace: String,
    /// How often a commit closes while records flow.
    pub commit_interval: Duration,
    /// Write the table of deduplicated, stamped events.
    pub events: bool,
    /// Write the table of raw records.
    pub raw: bool,
    /// Rows of a leaf of a current table.
    pub leaf_rows: usize,
    /// Level of zstd for data files, 1 to 22.
    pub zstd_level: i32,
    /// Snapshots that each table keeps.
    pub keep_snapshots: usize,
}
