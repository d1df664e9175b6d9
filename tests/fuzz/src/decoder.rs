//! Records and times, compared with what `serde_json` and `jiff` make of them.

use std::sync::Arc;

use arrow_array::{RecordBatch, TimestampMicrosecondArray};
use jiff::Timestamp;
use tidewater::decode::{DeadLetter, DimensionDecoder, EventDecoder, Reason};
use tidewater::job::{FactLayout, Job, parse};
use tidewater::model::{Fact, Interner};
use tidewater::source::{NO_BYTES, NO_TIMESTAMP, RawBatch, RawRecord, Span};

const JOB: &str = r#"
[job]
name = "fuzz"
[events]
source = { directory = "events" }
id = "/id"
user = "/user"
time = "/ts"
[events.columns]
step = "/type"
amount = { path = "/amount", type = "long", default = 0 }
price = { path = "/price", type = "decimal(10,2)" }
os = "/device/os"
paid = { path = "/device/paid", type = "boolean" }
seen = { path = "/seen", type = "timestamp" }
[dimension]
name = "users"
source = { directory = "users" }
key = "/user"
deleted = "/gone"
[dimension.columns]
region = "/region"
[[aggregate]]
name = "regional"
group_by = ["region", "step"]
window = "1h"
measures = { events = "count", amount = "sum(amount)", price = "sum(price)" }
[[funnel]]
name = "steps"
group_by = ["region"]
column = "step"
steps = ["a", "b", "c"]
[lake]
catalog = "sqlite:catalog.db"
warehouse = "warehouse"
"#;

/// A batch of records, one a line.
fn batch(data: &[u8]) -> RawBatch {
    let mut batch = RawBatch { bytes: data.to_vec(), ..RawBatch::default() };
    let mut start = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let value = Span { start, length: line.len() as u32 };
        let offset = i64::from(start);
        let record =
            RawRecord { offset, timestamp_ms: NO_TIMESTAMP, key: value, value, headers: NO_BYTES };
        batch.records.push(record);
        start += line.len() as u32 + 1;
    }
    batch.next = i64::from(start);
    batch
}

fn job() -> Job {
    parse(JOB, "job.toml", "/".as_ref(), &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

type Decoded = (Vec<Fact>, Option<RecordBatch>, Vec<DeadLetter>);

fn decode(batch: &RawBatch) -> Decoded {
    let job = job();
    let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels).expect("it fits");
    let interner = Arc::new(Interner::default());
    let mut decoder = EventDecoder::new(&job.events, &job.funnels, &layout, 0, interner, true);
    let (mut facts, mut letters) = (Vec::new(), Vec::new());
    let payload = decoder.decode(batch, 0, |fact| facts.push(fact), &mut letters);
    (facts, payload, letters)
}

/// Each record is a fact or a dead letter, and JSON if and only if another reader says so.
pub(super) fn records(data: &[u8]) -> bool {
    let batch = batch(data);
    let (facts, payload, letters) = decode(&batch);
    assert_eq!(facts.len() + letters.len(), batch.records.len());
    assert_eq!(payload.map(|payload| payload.num_rows()), Some(facts.len()));
    let mut facts = facts.iter().map(|fact| fact.offset).peekable();
    let mut letters = letters.iter().peekable();
    for record in &batch.records {
        let value = batch.get(record.value).unwrap_or_default();
        let json = serde_json::from_slice::<serde_json::Value>(value);
        let shown = String::from_utf8_lossy(value);
        if facts.next_if_eq(&record.offset).is_some() {
            let json =
                json.unwrap_or_else(|error| panic!("decoded, but no JSON: {error}: {shown}"));
            assert!(json["id"].is_string() && json["user"].is_string(), "{shown}");
            continue;
        }
        let letter = letters.next().expect("a record is a fact or a letter");
        assert_eq!(letter.position.offset, record.offset);
        assert_eq!(letter.value.as_deref(), Some(value));
        if matches!(letter.reason, Reason::NotJson | Reason::TrailingBytes) {
            assert!(json.is_err(), "it is JSON: {}: {shown}", letter.detail);
        }
    }
    versions(&batch);
    true
}

fn versions(batch: &RawBatch) {
    let dimension = job().dimension.expect("the job has one");
    let mut decoder = DimensionDecoder::new(&dimension, "users", Arc::new(Interner::default()));
    let (mut versions, mut letters) = (Vec::new(), Vec::new());
    let rows = decoder.decode(batch, &mut versions, &mut letters);
    assert_eq!(versions.len() + letters.len(), batch.records.len());
    assert_eq!(rows.num_rows(), versions.len());
}

/// A text is a time if and only if another reader says so, and the same one.
pub(super) fn time(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    if text.contains(['"', '\\']) || text.chars().any(char::is_control) {
        return false;
    }
    let start = r#"{"id":"i","user":"u","ts":"2024-01-01T00:00:00Z","seen":""#;
    let (facts, payload, letters) = decode(&batch(format!("{start}{text}\"}}").as_bytes()));
    let seen = payload.filter(|payload| payload.num_rows() == 1).map(|payload| {
        let column = payload.column_by_name("seen").expect("the job has the column");
        let column = column.as_any().downcast_ref::<TimestampMicrosecondArray>();
        column.expect("it is a time").value(0)
    });
    assert_eq!(facts.len() + letters.len(), 1);
    // jiff takes nine digits of a second at most, and other forms than RFC 3339.
    let theirs = shortened(text).parse::<Timestamp>().ok();
    let theirs = theirs.map(|time| time.as_nanosecond().div_euclid(1000) as i64);
    let reach = Timestamp::MIN.as_microsecond()..Timestamp::MAX.as_microsecond();
    match (seen, theirs) {
        // jiff leaves out a day at either end of the years.
        (Some(ours), None) => assert!(!reach.contains(&ours), "{text}"),
        (Some(ours), Some(theirs)) => assert_eq!(ours, theirs, "{text}"),
        (None, Some(_)) => assert!(!is_rfc3339(text), "a time was refused: {text}: {letters:?}"),
        (None, None) => {}
    }
    true
}

/// The text with at most nine digits behind the point.
fn shortened(text: &str) -> String {
    let Some((whole, rest)) = text.split_once('.') else { return text.to_owned() };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    format!("{whole}.{}{}", &rest[..digits.min(9)], &rest[digits..])
}

/// The grammar of RFC 3339, years 1 to 9999, and nothing of what the numbers mean.
fn is_rfc3339(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c.to_ascii_uppercase() })
        .collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = match rest.strip_prefix(".0") {
        Some(digits) => digits.trim_start_matches('0'),
        None => rest,
    };
    matches!(rest, "Z" | "+00:00" | "-00:00") && !text.starts_with("0000")
}
