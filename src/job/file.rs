//! The job file as it is typed: sections, keys, types of values. What they mean is checked in `validate`.
//!
//! A part that is missing or mistyped is `None`; its mistake is already kept by the [`Reader`].

use std::ops::{Range, RangeInclusive};

use super::SyntheticSpec;
use super::error::Mistake;
use super::read::{Literal, Node, Reader, Section, Text};
use crate::generate::USERS_MAX;

/// A whole job file.
pub(super) struct JobFile {
    pub(super) name: Option<Text>,
    pub(super) events: Option<EventsPart>,
    pub(super) dimension: Option<DimensionPart>,
    pub(super) aggregates: Vec<AggregatePart>,
    pub(super) funnels: Vec<FunnelPart>,
    pub(super) horizon: Option<Text>,
    pub(super) lake: Option<LakePart>,
}

/// `[events]`.
pub(super) struct EventsPart {
    pub(super) source: Option<SourcePart>,
    pub(super) id: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) time: Option<TimePart>,
    pub(super) columns: Vec<ColumnPart>,
}

/// `source = …`.
pub(super) enum SourcePart {
    Directory(Text),
    Kafka { brokers: Option<Text>, topic: Option<Text>, options: Vec<(Text, Text)> },
    Synthetic(SyntheticSpec, Range<usize>),
}

/// `time = …`.
pub(super) struct TimePart {
    pub(super) path: Option<Text>,
    pub(super) unit: Option<Text>,
}

/// A line of `[events.columns]` or `[dimension.columns]`.
pub(super) struct ColumnPart {
    pub(super) name: Text,
    pub(super) path: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) default: Option<(Literal, Range<usize>)>,
}

/// `[dimension]`.
pub(super) struct DimensionPart {
    pub(super) name: Option<Text>,
    pub(super) source: Option<SourcePart>,
    pub(super) key: Option<Text>,
    pub(super) deleted: Option<Text>,
    pub(super) columns: Vec<ColumnPart>,
}

/// `[[aggregate]]`.
pub(super) struct AggregatePart {
    pub(super) span: Range<usize>,
    pub(super) name: Option<Text>,
    pub(super) group_by: Vec<Text>,
    pub(super) window: Option<Text>,
    pub(super) measures: Vec<(Text, Text)>,
}

/// `[[funnel]]`.
pub(super) struct FunnelPart {
    pub(super) span: Range<usize>,
    pub(super) name: Option<Text>,
    pub(super) group_by: Vec<Text>,
    pub(super) column: Option<Text>,
    pub(super) steps: Vec<Text>,
    pub(super) within: Option<Text>,
}

/// `[lake]`.
pub(super) struct LakePart {
    pub(super) catalog: Option<Text>,
    pub(super) catalog_name: Option<Text>,
    pub(super) warehouse: Option<Text>,
    pub(super) state: Option<Text>,
    pub(super) namespace: Option<Text>,
    pub(super) commit_interval: Option<Text>,
    pub(super) events: bool,
    pub(super) raw: bool,
    pub(super) leaf_rows: i64,
    pub(super) zstd_level: i64,
    pub(super) keep_snapshots: i64,
}

const JOB: &[&str] = &["name"];
const EVENTS: &[&str] = &["source", "id", "user", "time", "columns"];
const SOURCE: &[&str] = &["directory", "kafka", "synthetic"];
const KAFKA: &[&str] = &["brokers", "topic", "options"];
const SYNTHETIC: &[&str] = &["events", "users", "partitions", "seed", "rate"];
const TIME: &[&str] = &["path", "unit"];
const COLUMN: &[&str] = &["path", "type", "default"];
const DIMENSION: &[&str] = &["name", "source", "key", "deleted", "columns"];
const AGGREGATE: &[&str] = &["name", "group_by", "window", "measures"];
const FUNNEL: &[&str] = &["name", "group_by", "column", "steps", "within"];
const DEDUP: &[&str] = &["horizon"];
const LAKE: &[&str] = &[
    "catalog",
    "catalog_name",
    "warehouse",
    "state",
    "namespace",
    "commit_interval",
    "events",
    "raw",
    "leaf_rows",
    "zstd_level",
    "keep_snapshots",
];
/// The sections of a job file.
pub(super) const SECTIONS: &[&str] =
    &["job", "events", "dimension", "aggregate", "funnel", "dedup", "lake"];

const NAME_HELP: &str = "write `name = \"…\"`, a letter followed by letters, digits and `_`";
const POINTER_HELP: &str = "write it as a JSON pointer, such as `/user_id` or `/device/os`";
const SOURCE_HELP: &str = "write `source = { directory = \"…\" }` or \
                           `source = { kafka = { brokers = \"host:9092\", topic = \"…\" } }`";

/// Reads the whole file.
pub(super) fn read(root: &Section<'_>, reader: &mut Reader<'_>) -> JobFile {
    let part = |key: &'static str, keys, reader: &mut Reader<'_>| {
        reader.section(&format!("[{key}]"), keys, root.get(key)?)
    };
    for (key, help) in [
        ("job", "every job has a `[job]` with its `name`, which owns tables and state"),
        ("events", "every job reads `[events]`: their source, id, user and time"),
        ("lake", "every job writes to a `[lake]`: its catalog and warehouse"),
    ] {
        root.require(key, help, reader);
    }
    let job = part("job", JOB, reader);
    let name = job.and_then(|job| required(&job, "name", NAME_HELP, reader));
    let events = part("events", EVENTS, reader).map(|section| events(&section, reader));
    let dimension = part("dimension", DIMENSION, reader).map(|section| dimension(&section, reader));
    let aggregates =
        root.get("aggregate").map(|node| reader.sections("aggregate", AGGREGATE, node));
    let aggregates = aggregates.into_iter().flatten().map(|section| aggregate(&section, reader));
    let aggregates = aggregates.collect();
    let funnels = root.get("funnel").map(|node| reader.sections("funnel", FUNNEL, node));
    let funnels = funnels.into_iter().flatten().map(|section| funnel(&section, reader)).collect();
    let dedup = part("dedup", DEDUP, reader);
    let horizon = dedup.and_then(|dedup| optional(&dedup, "horizon", reader));
    let lake = part("lake", LAKE, reader).map(|section| lake(&section, reader));
    JobFile { name, events, dimension, aggregates, funnels, horizon, lake }
}

fn required(
    section: &Section<'_>,
    key: &'static str,
    help: &str,
    reader: &mut Reader<'_>,
) -> Option<Text> {
    let node = section.require(key, help, reader)?;
    reader.text(key, node)
}

fn optional(section: &Section<'_>, key: &str, reader: &mut Reader<'_>) -> Option<Text> {
    reader.text(key, section.get(key)?)
}

fn optional_texts(section: &Section<'_>, key: &str, reader: &mut Reader<'_>) -> Vec<Text> {
    section.get(key).and_then(|node| reader.texts(key, node)).unwrap_or_default()
}

fn events(section: &Section<'_>, reader: &mut Reader<'_>) -> EventsPart {
    let source = section.require("source", SOURCE_HELP, reader);
    let time_help = "write `time = \"/ts\"` for RFC 3339 text, \
                     or `time = { path = \"/ts\", unit = \"ms\" }` for a number";
    let time = section.require("time", time_help, reader);
    EventsPart {
        source: source.and_then(|node| self::source(node, reader)),
        id: required(section, "id", POINTER_HELP, reader),
        user: required(section, "user", POINTER_HELP, reader),
        time: time.and_then(|node| self::time(node, reader)),
        columns: columns(section, "[events.columns]", reader),
    }
}

fn dimension(section: &Section<'_>, reader: &mut Reader<'_>) -> DimensionPart {
    let source = section.require("source", SOURCE_HELP, reader);
    let columns_help = "name at least one: `[dimension.columns]` with `region = \"/region\"`";
    section.require("columns", columns_help, reader);
    DimensionPart {
        name: required(section, "name", NAME_HELP, reader),
        source: source.and_then(|node| self::source(node, reader)),
        key: required(section, "key", POINTER_HELP, reader),
        deleted: optional(section, "deleted", reader),
        columns: columns(section, "[dimension.columns]", reader),
    }
}

fn source(node: Node<'_>, reader: &mut Reader<'_>) -> Option<SourcePart> {
    let section = reader.section("`source`", SOURCE, node)?;
    match (section.get("directory"), section.get("kafka"), section.get("synthetic")) {
        (Some(path), None, None) => reader.text("directory", path).map(SourcePart::Directory),
        (None, None, Some(synthetic)) => self::synthetic(synthetic, reader),
        (None, Some(kafka), None) => {
            let kafka = reader.section("`kafka`", KAFKA, kafka)?;
            let options = kafka.get("options").and_then(|node| reader.open("`options`", node));
            let mut found = Vec::new();
            for (key, node) in options.iter().flat_map(|options| &options.entries) {
                option(key.clone(), node, &mut found, reader);
            }
            Some(SourcePart::Kafka {
                brokers: required(&kafka, "brokers", "write `brokers = \"host:9092\"`", reader),
                topic: required(&kafka, "topic", "write `topic = \"events\"`", reader),
                options: found,
            })
        }
        several => {
            let message = match several {
                (None, None, None) => "`source` names no source",
                _ => "a source is a directory, Kafka or synthetic, and one of them only",
            };
            reader.mistakes.push(Mistake::new(message).help(SOURCE_HELP).at(section.span));
            None
        }
    }
}

fn synthetic(node: Node<'_>, reader: &mut Reader<'_>) -> Option<SourcePart> {
    let section = reader.section("`synthetic`", SYNTHETIC, node)?;
    let mut number = |key: &'static str, range: RangeInclusive<i64>| {
        section.get(key).map(|node| reader.integer(key, range, node))
    };
    let events = number("events", 1..=1 << 40);
    let users = number("users", 1..=USERS_MAX.into());
    let partitions = number("partitions", 1..=10_000);
    let (seed, rate) = (number("seed", 0..=i64::MAX), number("rate", 1..=1_000_000_000));
    // A number that is wrong has been named.
    let given = |number: Option<Option<i64>>, default: u32| number.unwrap_or(Some(default.into()));
    let spec = SyntheticSpec {
        events: events.flatten().map(|events| events as u64),
        users: given(users, 200_000)? as u32,
        partitions: given(partitions, 8)? as u32,
        seed: given(seed, 1)? as u64,
        rate: given(rate, 60)? as u64,
    };
    Some(SourcePart::Synthetic(spec, section.span))
}

/// A Kafka option. `security.protocol` without quotes is a table in a table: its keys are joined again.
fn option(key: Text, node: Node<'_>, found: &mut Vec<(Text, Text)>, reader: &mut Reader<'_>) {
    if !node.get_ref().is_table() {
        let value = reader.option_text(&key.written, node);
        found.extend(value.map(|value| (key, value)));
        return;
    }
    let inner = reader.open(&format!("`{}`", key.written), node);
    for (name, node) in inner.iter().flat_map(|inner| &inner.entries) {
        let joined = format!("{}.{}", key.value, name.value);
        let key = Text { value: joined.clone(), written: joined, span: name.span.clone() };
        option(key, node, found, reader);
    }
}

fn time(node: Node<'_>, reader: &mut Reader<'_>) -> Option<TimePart> {
    if !node.get_ref().is_table() {
        return Some(TimePart { path: Some(reader.text("time", node)?), unit: None });
    }
    let section = reader.section("`time`", TIME, node)?;
    let path = required(&section, "path", POINTER_HELP, reader);
    Some(TimePart { path, unit: optional(&section, "unit", reader) })
}

fn columns(section: &Section<'_>, title: &str, reader: &mut Reader<'_>) -> Vec<ColumnPart> {
    let columns = section.get("columns").and_then(|node| reader.open(title, node));
    let columns = columns.into_iter().flat_map(|columns| columns.entries);
    columns.map(|(name, node)| column(name, node, reader)).collect()
}

fn column(name: Text, node: Node<'_>, reader: &mut Reader<'_>) -> ColumnPart {
    let mut column = ColumnPart { name, path: None, kind: None, default: None };
    if !node.get_ref().is_table() {
        column.path = reader.text(&column.name.written, node);
        return column;
    }
    let title = format!("the column `{}`", column.name.written);
    if let Some(section) = reader.section(&title, COLUMN, node) {
        column.path = required(&section, "path", POINTER_HELP, reader);
        column.kind = optional(&section, "type", reader);
        let default = section.get("default");
        column.default = default
            .and_then(|node| reader.literal("default", node).map(|literal| (literal, node.span())));
    }
    column
}

fn aggregate(section: &Section<'_>, reader: &mut Reader<'_>) -> AggregatePart {
    let help = "write `measures = { events = \"count\" }`; others are `distinct` and `sum(column)`";
    let measures = section.require("measures", help, reader);
    let measures = measures.and_then(|node| reader.open("`measures`", node));
    if let Some(none) = measures.as_ref().filter(|measures| measures.entries.is_empty()) {
        let mistake = Mistake::new("`measures` is empty").help(help);
        reader.mistakes.push(mistake.at(none.span.clone()));
    }
    let measures = measures.into_iter().flat_map(|measures| measures.entries);
    let measures = measures
        .filter_map(|(name, node)| reader.text(&name.written, node).map(|what| (name, what)))
        .collect();
    AggregatePart {
        span: section.span.clone(),
        name: required(section, "name", NAME_HELP, reader),
        group_by: optional_texts(section, "group_by", reader),
        window: optional(section, "window", reader),
        measures,
    }
}

fn funnel(section: &Section<'_>, reader: &mut Reader<'_>) -> FunnelPart {
    let help = "write `steps = [\"first\", \"second\"]`: values of the funnel's column";
    let steps = section.require("steps", help, reader);
    let read = steps.and_then(|node| reader.texts("steps", node));
    if let Some((node, _)) = steps.zip(read.as_ref()).filter(|(_, steps)| steps.is_empty()) {
        let mistake = Mistake::new("`steps` is empty").help(help);
        reader.mistakes.push(mistake.at(node.span()));
    }
    FunnelPart {
        span: section.span.clone(),
        name: required(section, "name", NAME_HELP, reader),
        group_by: optional_texts(section, "group_by", reader),
        column: required(section, "column", "name the event column that holds the steps", reader),
        steps: read.unwrap_or_default(),
        within: optional(section, "within", reader),
    }
}

fn lake(section: &Section<'_>, reader: &mut Reader<'_>) -> LakePart {
    let flag = |key, default, reader: &mut Reader<'_>| {
        section.get(key).and_then(|node| reader.boolean(key, node)).unwrap_or(default)
    };
    let number = |key, default, max, reader: &mut Reader<'_>| {
        section.get(key).and_then(|node| reader.integer(key, 1..=max, node)).unwrap_or(default)
    };
    let catalog_help = "write `catalog = \"sqlite:lake/catalog.db\"`";
    let warehouse_help = "write `warehouse = \"lake/warehouse\"`, the folder of the tables";
    LakePart {
        catalog: required(section, "catalog", catalog_help, reader),
        catalog_name: optional(section, "catalog_name", reader),
        warehouse: required(section, "warehouse", warehouse_help, reader),
        state: optional(section, "state", reader),
        namespace: optional(section, "namespace", reader),
        commit_interval: optional(section, "commit_interval", reader),
        events: flag("events", true, reader),
        raw: flag("raw", false, reader),
        leaf_rows: number("leaf_rows", 16_384, 1 << 24, reader),
        zstd_level: number("zstd_level", 1, 22, reader),
        keep_snapshots: number("keep_snapshots", 100, 1_000_000, reader),
    }
}
