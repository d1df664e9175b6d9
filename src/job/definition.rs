//! What of a job decides the meaning of its tables and state, and how two such definitions differ.
//!
//! A definition is stored with the state. It holds what decides answers and the shapes of tables: columns,
//! pointers, types, defaults, topics, aggregates, funnels, horizon, namespace, which tables are written. It
//! does not hold where things are or how fast they go: brokers, folders, options, intervals, sizes, levels.

use std::collections::BTreeSet;

use super::{
    AggregateSpec, Column, Definition, DimensionSpec, EventsSpec, FunnelSpec, GroupColumn,
    LakeSpec, MeasureKind, Pointer, TimeUnit, duration,
};
use crate::model::Value;

/// What a definition says where something optional is not there.
const NONE: &str = "none";

/// The parts of a job that decide.
pub(super) struct Deciding<'a> {
    pub(super) events: &'a EventsSpec,
    pub(super) dimension: Option<&'a DimensionSpec>,
    pub(super) aggregates: &'a [AggregateSpec],
    pub(super) funnels: &'a [FunnelSpec],
    pub(super) horizon_us: Option<i64>,
    pub(super) lake: &'a LakeSpec,
}

impl Deciding<'_> {
    /// The definition, one text for one meaning (`60m` and `1h` are the same).
    pub(super) fn definition(&self) -> Definition {
        let mut definition = Definition::new();
        let mut put = |key: String, value: String| {
            definition.insert(key, value);
        };
        let events = self.events;
        put("events.topic".into(), events.source.topic());
        put("events.id".into(), pointer(&events.id));
        put("events.user".into(), pointer(&events.user));
        let unit = match events.time_unit {
            TimeUnit::Rfc3339 => "RFC 3339",
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
            TimeUnit::Microseconds => "us",
        };
        put("events.time".into(), format!("{} in {unit}", pointer(&events.time)));
        columns("events", &events.columns, &mut put);
        if let Some(dimension) = self.dimension {
            put("dimension.name".into(), dimension.name.clone());
            put("dimension.topic".into(), dimension.source.topic());
            put("dimension.key".into(), pointer(&dimension.key));
            let deleted = dimension.deleted.as_ref().map_or_else(|| NONE.into(), pointer);
            put("dimension.deleted".into(), deleted);
            columns("dimension", &dimension.columns, &mut put);
        }
        for spec in self.aggregates {
            let key = |part: &str| format!("aggregate.{}.{part}", spec.name);
            put(key("group_by"), group_by(&spec.group_by));
            put(key("window"), optional_duration(spec.window_us));
            put(key("measures"), measures(spec, events));
        }
        for spec in self.funnels {
            let key = |part: &str| format!("funnel.{}.{part}", spec.name);
            put(key("group_by"), group_by(&spec.group_by));
            put(key("column"), events.columns[spec.column].name.clone());
            put(key("steps"), list(spec.steps.iter().map(|step| format!("{step:?}"))));
            put(key("within"), optional_duration(spec.within_us));
        }
        let names = self.aggregates.iter().map(|spec| spec.name.clone());
        put("aggregates".into(), list(names));
        put("funnels".into(), list(self.funnels.iter().map(|spec| spec.name.clone())));
        let horizon = self.horizon_us.map_or_else(|| "unlimited".into(), duration::format);
        put("dedup.horizon".into(), horizon);
        put("lake.namespace".into(), self.lake.namespace.clone());
        put("lake.events".into(), self.lake.events.to_string());
        put("lake.raw".into(), self.lake.raw.to_string());
        definition
    }
}

fn columns(side: &str, columns: &[Column], put: &mut impl FnMut(String, String)) {
    put(format!("{side}.columns"), list(columns.iter().map(|column| column.name.clone())));
    for column in columns {
        let mut value = format!("{} as {}", pointer(&column.pointer), column.kind);
        if let Some(default) = &column.default {
            value.push_str(&format!(" or {}", literal(default)));
        }
        put(format!("{side}.columns.{}", column.name), value);
    }
}

fn pointer(pointer: &Pointer) -> String {
    let escape = |token: &String| format!("/{}", token.replace('~', "~0").replace('/', "~1"));
    pointer.0.iter().map(escape).collect()
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Boolean(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Timestamp(value) => format!("{value} us since 1970"),
        Value::Decimal(value) => format!("{value} units of the last place"),
        Value::String(value) => format!("{value:?}"),
    }
}

fn group_by(columns: &[GroupColumn]) -> String {
    list(columns.iter().map(|column| column.name.clone()))
}

fn measures(spec: &AggregateSpec, events: &EventsSpec) -> String {
    list(spec.measures.iter().map(|measure| match measure.kind {
        MeasureKind::Count => format!("{} = count", measure.name),
        MeasureKind::Distinct => format!("{} = distinct", measure.name),
        MeasureKind::Sum(column) => {
            format!("{} = sum({})", measure.name, events.columns[column].name)
        }
    }))
}

fn optional_duration(us: Option<i64>) -> String {
    us.map_or_else(|| NONE.into(), duration::format)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let text = items.collect::<Vec<_>>().join(", ");
    if text.is_empty() { NONE.into() } else { text }
}

/// What changed from `old` to `new`, a line each: `aggregate.regional.window changed from 1h to 1d`,
/// `aggregate.daily added`. No line: both mean the same.
pub fn differences(old: &Definition, new: &Definition) -> Vec<String> {
    let mut lines = BTreeSet::new();
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        match (old.get(key), new.get(key)) {
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) => match same_names(key, before, after) {
                None => {
                    lines.insert(format!("{key} changed from {before} to {after}"));
                }
                Some(true) => {
                    lines.insert(format!("{key} changed in order from {before} to {after}"));
                }
                // What came or went has lines of its own.
                Some(false) => {}
            },
            (None, _) => {
                lines.insert(format!("{} added", whole(key, old)));
            }
            (Some(_), None) => {
                lines.insert(format!("{} removed", whole(key, new)));
            }
        }
    }
    lines.into_iter().collect()
}

/// For a key that lists the names of other parts: do both lists have the same names?
fn same_names(key: &str, before: &str, after: &str) -> Option<bool> {
    let names = |text: &str| text.split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
    let lists = ["events.columns", "dimension.columns", "aggregates", "funnels"];
    lists.contains(&key).then(|| names(before) == names(after))
}

/// The largest part that holds `key` and of which `other` has nothing.
fn whole<'k>(key: &'k str, other: &Definition) -> &'k str {
    let ends = key.match_indices('.').map(|(end, _)| end);
    let parts = ends.map(|end| &key[..end]).filter(|part| !["aggregate", "funnel"].contains(part));
    let absent = |part: &&str| {
        let prefix = format!("{part}.");
        !other.keys().any(|key| key.starts_with(&prefix) || key == part)
    };
    parts.into_iter().find(absent).unwrap_or(key)
}
