//! The log: the lines of both topics, judged by a plain JSON library.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::super::tables::{Cell, Cut};
use super::spec::{DIMENSION_COLUMNS, EVENT_COLUMNS};

/// A record that decodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    Event(Event),
    Version(Version),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub user: String,
    pub time: i64,
    pub columns: BTreeMap<&'static str, Cell>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub deleted: bool,
    pub columns: BTreeMap<&'static str, Cell>,
}

/// A line of a topic.
#[derive(Debug, Clone)]
pub struct Record {
    pub topic: &'static str,
    pub partition: i32,
    pub offset: i64,
    pub bytes: Vec<u8>,
    /// What it is, or the word that its dead letter has as its reason.
    pub decoded: Result<Decoded, &'static str>,
}

impl Record {
    /// True if the record stands below the cut.
    pub fn is_below(&self, cut: &Cut) -> bool {
        let partitions = cut.get(self.topic);
        partitions.and_then(|ends| ends.get(&self.partition)).is_some_and(|end| self.offset < *end)
    }
}

/// All whole lines of the topics `events` and `users` in `folder`, in the order of topic, partition and
/// offset.
pub fn read(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for topic in ["events", "users"] {
        let mut partitions: Vec<i32> = std::fs::read_dir(folder.join(topic))
            .unwrap()
            .map(|entry| {
                entry.unwrap().path().file_stem().unwrap().to_str().unwrap().parse().unwrap()
            })
            .collect();
        partitions.sort_unstable();
        for partition in partitions {
            let bytes =
                std::fs::read(folder.join(topic).join(format!("{partition}.jsonl"))).unwrap();
            let mut offset = 0;
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let Some(line_bytes) = line.strip_suffix(b"\n") else { break };
                let decoded =
                    if topic == "events" { event(line_bytes) } else { version(line_bytes) };
                let bytes = line_bytes.to_vec();
                records.push(Record { topic, partition, offset, bytes, decoded });
                offset += line.len() as i64;
            }
        }
    }
    records
}

/// The ends of all partitions that the records imply.
pub fn end_of(records: &[Record]) -> Cut {
    let mut cut = Cut::new();
    for record in records {
        let end = record.offset + record.bytes.len() as i64 + 1;
        cut.entry(record.topic.to_owned()).or_default().insert(record.partition, end);
    }
    cut
}

fn object(line: &[u8]) -> Result<Value, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "invalid_utf8")?;
    if text.trim().is_empty() {
        return Err("empty_payload");
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("not_an_object"),
        Err(error) if error.to_string().contains("trailing characters") => Err("trailing_bytes"),
        Err(_) => Err("not_json"),
    }
}

fn name(record: &Value, key: &str, missing: &'static str) -> Result<String, &'static str> {
    match record.get(key) {
        None | Some(Value::Null) => Err(missing),
        Some(Value::String(text)) if text.is_empty() => Err(missing),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("wrong_type"),
    }
}

fn event(line: &[u8]) -> Result<Decoded, &'static str> {
    let record = object(line)?;
    let id = name(&record, "id", "missing_id")?;
    let user = name(&record, "user", "missing_user")?;
    let time = match record.get("ts") {
        None | Some(Value::Null) => return Err("missing_time"),
        Some(Value::String(text)) => text.parse::<jiff::Timestamp>().map_err(|_| "bad_time")?,
        Some(_) => return Err("wrong_type"),
    };
    if !(1970..2200).contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()) {
        return Err("out_of_range");
    }
    let mut columns = BTreeMap::new();
    for column in EVENT_COLUMNS {
        columns.insert(column, event_column(&record, column)?);
    }
    Ok(Decoded::Event(Event { id, user, time: time.as_microsecond(), columns }))
}

fn event_column(record: &Value, column: &str) -> Result<Cell, &'static str> {
    let value = match column {
        "os" => record.get("device").and_then(|device| device.get("os")),
        other => record.get(other),
    };
    match (column, value.unwrap_or(&Value::Null)) {
        ("os", Value::Null) => Ok(Cell::text("unknown")),
        (_, Value::Null) => Ok(Cell::Null),
        ("step" | "os", Value::String(text)) => Ok(Cell::text(text)),
        ("amount", Value::Number(number)) => number.as_i64().map(Cell::from).ok_or("out_of_range"),
        ("price", Value::String(text)) => decimal(text),
        _ => Err("wrong_type"),
    }
}

/// Hundredths, of a text like `-12.34`.
fn decimal(text: &str) -> Result<Cell, &'static str> {
    let (digits, sign) = text.strip_prefix('-').map_or((text, 1), |digits| (digits, -1));
    let (whole, hundredths) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(hundredths) {
        return Err("wrong_type");
    }
    if hundredths.trim_end_matches('0').len() > 2 || whole.len() > 10 {
        return Err("out_of_range");
    }
    let hundredths: i128 = format!("{hundredths:0<2}")[..2].parse().unwrap();
    Ok(Cell::Number(sign * (whole.parse::<i128>().unwrap() * 100 + hundredths)))
}

fn version(line: &[u8]) -> Result<Decoded, &'static str> {
    let record = object(line)?;
    let key = name(&record, "user", "missing_key")?;
    let deleted = match record.get("deleted") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(deleted)) => *deleted,
        Some(_) => return Err("wrong_type"),
    };
    let mut columns = BTreeMap::new();
    for column in DIMENSION_COLUMNS {
        let cell = match record.get(column) {
            None | Some(Value::Null) => Cell::Null,
            Some(Value::String(text)) => Cell::text(text),
            Some(_) if !deleted => return Err("wrong_type"),
            Some(_) => Cell::Null,
        };
        columns.insert(column, if deleted { Cell::Null } else { cell });
    }
    Ok(Decoded::Version(Version { key, deleted, columns }))
}
