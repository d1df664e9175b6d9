//! A row of `events` becomes the very fact that its record became.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::decode::{DimensionDecoder, EventDecoder};
use crate::job;
use crate::source::{NO_BYTES, NO_TIMESTAMP, RawBatch, RawRecord, Span};

const JOB: &str = r#"
[job]
name = "facts"
[events]
source = { directory = "events" }
id = "/id"
user = "/user"
time = "/ts"
[events.columns]
step = "/step"
os = { path = "/os", default = "unknown" }
amount = { path = "/amount", type = "long" }
price = { path = "/price", type = "decimal(20,2)" }
paid = { path = "/paid", type = "boolean", default = false }
at = { path = "/at", type = "timestamp" }
[dimension]
name = "users"
source = { directory = "users" }
key = "/user"
deleted = "/deleted"
[dimension.columns]
region = "/region"
score = { path = "/score", type = "long" }
[[aggregate]]
name = "wide"
group_by = ["at", "region", "paid", "os"]
measures = { amount = "sum(amount)", price = "sum(price)" }
[[aggregate]]
name = "narrow"
group_by = ["step"]
measures = { n = "count" }
[[funnel]]
name = "first"
column = "step"
steps = ["view", "buy"]
[[funnel]]
name = "second"
column = "os"
steps = ["web", "unknown", "ios"]
[lake]
catalog = "sqlite:c.db"
warehouse = "w"
"#;

fn job() -> Job {
    job::parse(JOB, "job.toml", Path::new("/jobs"), &|_| None).unwrap()
}

fn batch(lines: &[String]) -> RawBatch {
    let mut batch = RawBatch { partition: 7, ..RawBatch::default() };
    for line in lines {
        let span =
            |start: usize, end: usize| Span { start: start as u32, length: (end - start) as u32 };
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(line.as_bytes());
        batch.records.push(RawRecord {
            offset: start as i64 + 1,
            timestamp_ms: NO_TIMESTAMP,
            key: NO_BYTES,
            value: span(start, batch.bytes.len()),
            headers: NO_BYTES,
        });
    }
    batch
}

/// A member of an object, or nothing.
fn member(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::option::of(prop::sample::select(values)).prop_map(move |value| match value {
        Some(value) => format!(", \"{key}\": {value}"),
        None => String::new(),
    })
}

fn event() -> impl Strategy<Value = String> {
    let texts = &["\"view\"", "\"buy\"", "\"é \\\"ü\\\"\"", "\"\"", "null"];
    let systems = &["\"web\"", "\"ios\"", "null"];
    let longs = &["0", "-7", "9223372036854775807", "-9223372036854775808", "null"];
    let decimals = &["\"0.01\"", "-3.5", "\"999999999999999999.99\"", "null"];
    let times = &["\"0001-01-01T00:00:00Z\"", "\"9999-12-31T23:59:59.999999Z\"", "null"];
    let members = (
        member("step", texts),
        member("os", systems),
        member("amount", longs),
        member("price", decimals),
        member("paid", &["true", "false", "null"]),
        member("at", times),
    );
    let first = (0..50, prop::sample::select(&["u1", "ü2", "u 3"][..]), 0..60);
    (first, members).prop_map(|((id, user, second), (a, b, c, d, e, f))| {
        format!(
            "{{\"id\": \"e{id}\", \"user\": \"{user}\", \
             \"ts\": \"2026-01-01T00:00:{second:02}.25+02:00\"{a}{b}{c}{d}{e}{f}}}"
        )
    })
}

fn with_commit(rows: &RecordBatch, commit: i64) -> RecordBatch {
    let schema = rows.schema();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let mut columns: Vec<(&str, ArrayRef)> = names.zip(rows.columns().iter().cloned()).collect();
    columns.push(("_commit", Arc::new(Int64Array::from_value(commit, rows.num_rows()))));
    RecordBatch::try_from_iter(columns).unwrap()
}

proptest! {
    #[test]
    fn a_row_of_events_is_the_fact_of_its_record(lines in prop::collection::vec(event(), 0..20)) {
        let job = job();
        let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels).unwrap();
        let interner = Arc::new(Interner::default());
        let mut decoder =
            EventDecoder::new(&job.events, &job.funnels, &layout, 0, Arc::clone(&interner), true);
        let (mut expected, mut letters) = (Vec::new(), Vec::new());
        let rows = decoder.decode(&batch(&lines), 0, |fact| expected.push(fact), &mut letters);
        prop_assert_eq!(letters, vec![]);
        expected.iter_mut().for_each(|fact| fact.row = 0);

        let again = Arc::new(Interner::default());
        let mut reader = EventRows::new(&job, &layout, &again);
        let mut facts = Vec::new();
        let give = |commit, fact| facts.push((commit, fact));
        reader.facts(&with_commit(&rows.unwrap(), 5), give).unwrap();
        let expected: Vec<_> = expected.into_iter().map(|fact| (5, fact)).collect();
        prop_assert_eq!(facts, expected);
        prop_assert_eq!(again.all(), interner.all());
    }
}

#[test]
fn a_row_of_versions_is_the_change_of_its_record() {
    let job = job();
    let spec = job.dimension.as_ref().unwrap();
    let interner = Arc::new(Interner::default());
    let mut decoder = DimensionDecoder::new(spec, "users", Arc::clone(&interner));
    let lines = [
        r#"{"user": "u1", "region": "eu", "score": 5}"#,
        r#"{"user": "ü", "score": -1}"#,
        r#"{"user": "u1", "region": "eu", "deleted": true}"#,
        r#"{"user": "u2", "region": "", "score": null, "deleted": false}"#,
    ];
    let lines = lines.map(str::to_owned);
    let (mut expected, mut letters) = (Vec::new(), Vec::new());
    let rows = decoder.decode(&batch(&lines), &mut expected, &mut letters);
    assert_eq!((expected.len(), letters.len()), (4, 0));

    let again = Arc::new(Interner::default());
    let mut reader = VersionRows::new(spec, &again);
    let mut changes = Vec::new();
    reader.changes(&rows, |change| changes.push(change)).unwrap();
    assert_eq!(changes, expected);
    assert_eq!(again.all(), interner.all());
}

#[test]
fn other_columns_are_not_read() {
    let job = job();
    let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels).unwrap();
    let interner = Arc::new(Interner::default());
    let rows = RecordBatch::try_from_iter([(
        "event_id",
        Arc::new(Int64Array::from_value(1, 1)) as ArrayRef,
    )]);
    let rows = rows.unwrap();
    assert!(EventRows::new(&job, &layout, &interner).facts(&rows, |_, _| ()).is_none());
    let dimension = job.dimension.as_ref().unwrap();
    assert!(VersionRows::new(dimension, &interner).changes(&rows, |_| ()).is_none());
}
