//! The decoders as a whole: every reason, the job's columns, and a differential test against serde_json.

mod differential;
mod dimension;
mod reasons;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::extract::{Cell, Extractor};
use super::*;
use crate::job::{
    AggregateSpec, Column, DimensionSpec, EventsSpec, FactLayout, FunnelSpec, GroupColumn, Measure,
    MeasureKind, Pointer, Side, SourceSpec, TimeUnit,
};
use crate::model::hash::{id_hash, symbol_hash, user_hash};
use crate::model::value::null_tuple;
use crate::model::{ColumnType, DimensionChange, Fact, Interner, Symbol, Value};
use crate::source::{NO_BYTES, Span};

const DECIMAL: ColumnType = ColumnType::Decimal { precision: 10, scale: 2 };

fn pointer(path: &str) -> Pointer {
    let token = |token: &str| token.replace("~1", "/").replace("~0", "~");
    Pointer(path.split('/').skip(1).map(token).collect())
}

fn column(name: &str, path: &str, kind: ColumnType, default: Option<Value>) -> Column {
    Column { name: name.into(), pointer: pointer(path), kind, default }
}

fn events(time_unit: TimeUnit) -> EventsSpec {
    EventsSpec {
        source: SourceSpec::Directory("events".into()),
        id: pointer("/id"),
        user: pointer("/user"),
        time: pointer("/ts"),
        time_unit,
        columns: vec![
            column("step", "/type", ColumnType::String, Some(Value::String("view".into()))),
            column("amount", "/amount", ColumnType::Long, None),
            column("price", "/price", DECIMAL, None),
            column("os", "/device/os", ColumnType::String, None),
            column("paid", "/device/paid", ColumnType::Boolean, None),
            column("seen", "/a~1b/m~0n", ColumnType::Timestamp, None),
        ],
    }
}

fn group(name: &str, index: usize) -> GroupColumn {
    GroupColumn { name: name.into(), side: Side::Event(index), kind: ColumnType::String }
}

fn decoder(time_unit: TimeUnit, interner: &Arc<Interner>) -> EventDecoder {
    let spec = events(time_unit);
    let sum = |name: &str, column| Measure { name: name.into(), kind: MeasureKind::Sum(column) };
    let aggregates =
        [vec![group("step", 0)], vec![group("os", 3), group("step", 0)]].map(|group_by| {
            let measures = vec![sum("amount", 1), sum("price", 2)];
            AggregateSpec { name: "a".into(), group_by, window_us: None, measures }
        });
    let funnel = |column, steps: [&str; 2]| FunnelSpec {
        name: "f".into(),
        group_by: Vec::new(),
        column,
        steps: steps.map(String::from).to_vec(),
        within_us: None,
    };
    let funnels = [funnel(0, ["view", "buy"]), funnel(3, ["ios", "android"])];
    let layout = FactLayout::new(&spec, &aggregates, &funnels).unwrap();
    EventDecoder::new(&spec, &funnels, &layout, 3, Arc::clone(interner), true)
}

/// Key and value of a record.
type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// A batch of records at the offsets 100, 101, …
fn batch(records: &[KeyValue<'_>]) -> RawBatch {
    let mut batch = RawBatch { partition: 7, next: 100, ..RawBatch::default() };
    for (key, value) in records {
        let mut span = |bytes: &Option<&[u8]>| {
            bytes.map_or(NO_BYTES, |bytes| {
                let span = Span { start: batch.bytes.len() as u32, length: bytes.len() as u32 };
                batch.bytes.extend_from_slice(bytes);
                span
            })
        };
        let (key, value) = (span(key), span(value));
        let record =
            RawRecord { offset: batch.next, timestamp_ms: 5, key, value, headers: NO_BYTES };
        batch.records.push(record);
        batch.next += 1;
    }
    batch
}

fn values(values: &[&[u8]]) -> RawBatch {
    batch(&values.iter().map(|value| (None, Some(*value))).collect::<Vec<_>>())
}

fn decode_events(documents: &[&[u8]]) -> (Vec<Fact>, Vec<DeadLetter>, RecordBatch) {
    let (mut facts, mut letters) = (Vec::new(), Vec::new());
    let mut decoder = decoder(TimeUnit::Rfc3339, &Arc::default());
    let payload =
        decoder.decode(&values(documents), 9, |fact| facts.push(fact), &mut letters).unwrap();
    (facts, letters, payload)
}

/// The reason for which a document with these members besides the required ones is refused.
fn refusal(members: &str) -> Option<Reason> {
    let document = format!(r#"{{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z"{members}}}"#);
    reason(document.as_bytes())
}

fn reason(document: &[u8]) -> Option<Reason> {
    let (facts, letters, _) = decode_events(&[document]);
    assert_eq!(facts.len() + letters.len(), 1);
    letters.first().map(|letter| letter.reason)
}

/// What the dead letter of a document tells people.
fn detail(document: &str) -> String {
    let (_, mut letters, _) = decode_events(&[document.as_bytes()]);
    letters.remove(0).detail
}

#[test]
fn an_event_becomes_a_fact_and_a_row() {
    let full = br#" {"type":"buy","id":"e\u00311","price":"12.5","user":"42","amount":-3,
        "device":{"paid":true,"os":"i\u006fs"},"a/b":{"m~n":"1969-12-31T23:59:59.5Z"},
        "ts":"2024-01-01T01:00:00.000001+01:00","more":[1,{"x":null}]} "#;
    let bare =
        br#"{"id":"e2","user":"42","ts":"2024-01-01T00:00:00Z","price":null,"device":"none"}"#;
    let interner = Arc::new(Interner::default());
    let (mut facts, mut letters) = (Vec::new(), Vec::new());
    let raw = values(&[full, b"{}", bare]);
    let mut decoder = decoder(TimeUnit::Rfc3339, &interner);
    let payload = decoder.decode(&raw, 9, |fact| facts.push(fact), &mut letters).unwrap();
    drop(raw);

    let [first, second] = facts[..] else { panic!("two facts, not {facts:?}") };
    assert_eq!((first.id, first.user), (id_hash("e11"), user_hash("42")));
    assert_eq!(first.user, second.user);
    assert_eq!((first.time, second.time), (1_704_067_200_000_001, 1_704_067_200_000_000));
    assert_eq!((first.partition, first.batch, first.worker), (7, 9, 3));
    assert_eq!((first.offset, first.row, second.offset, second.row), (100, 0, 102, 1));
    assert_ne!(first.content, second.content);

    let symbol = |values: &[Value]| {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.encode(&mut bytes));
        assert_eq!(interner.content(Symbol(symbol_hash(&bytes))).as_deref(), Some(&bytes[..]));
        symbol_hash(&bytes)
    };
    let text = |text: &str| Value::String(text.into());
    let steps = u64::from_le_bytes([2, 1, 0, 0, 0, 0, 0, 0]);
    let expected = [
        symbol(&[text("buy")]),
        symbol(&[text("ios"), text("buy")]),
        -3i64 as u64,
        1250,
        0,
        steps,
        0,
        0,
    ];
    assert_eq!((first.slots, first.nulls), (expected, 0));
    let steps = u64::from_le_bytes([1, 0, 0, 0, 0, 0, 0, 0]);
    let expected =
        [symbol(&[text("view")]), symbol(&[Value::Null, text("view")]), 0, 0, 0, steps, 0, 0];
    assert_eq!((second.slots, second.nulls), (expected, 0b1100));

    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].position, Position { partition: 7, offset: 101 });
    assert_eq!(letters[0].reason, Reason::MissingId);
    assert_eq!(letters[0].value.as_deref(), Some(&b"{}"[..]));

    check_payload(&payload, first.time);
}

/// What the two events of the test above look like in Arrow.
fn check_payload(payload: &RecordBatch, first_time: i64) {
    let names: Vec<_> =
        payload.schema().fields().iter().map(|field| field.name().clone()).collect();
    let columns = ["step", "amount", "price", "os", "paid", "seen"];
    let own = (["event_id", "user_id", "event_time"], ["_partition", "_offset"]);
    assert_eq!(
        names,
        own.0.iter().chain(&columns).chain(&own.1).map(|s| s.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(
        payload.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["e11", "e2"]
    );
    assert_eq!(
        payload.column(1).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["42", "42"]
    );
    assert_eq!(payload.column(2).as_primitive::<TimestampMicrosecondType>().value(0), first_time);
    assert_eq!(
        payload.column(3).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["buy", "view"]
    );
    assert_eq!(payload.column(4).as_primitive::<Int64Type>().value(0), -3);
    assert_eq!(payload.column(5).as_primitive::<Decimal128Type>().value_as_string(0), "12.50");
    assert_eq!(payload.column(6).as_string::<i32>().value(0), "ios");
    assert!(payload.column(7).as_boolean().value(0));
    assert_eq!(payload.column(8).as_primitive::<TimestampMicrosecondType>().value(0), -500_000);
    assert!((4..9).all(|column| payload.column(column).is_null(1)));
    assert_eq!(payload.column(9).as_primitive::<Int32Type>().value(1), 7);
    assert_eq!(payload.column(10).as_primitive::<Int64Type>().value(1), 102);
}

#[test]
fn a_decoder_is_used_for_many_batches_and_forgets_each() {
    let interner = Arc::default();
    let mut decoder = decoder(TimeUnit::Rfc3339, &interner);
    let document = br#"{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z","device":{"os":"ios"}}"#;
    let (mut facts, mut letters) = (Vec::new(), Vec::new());
    let first =
        decoder.decode(&values(&[document]), 1, |fact| facts.push(fact), &mut letters).unwrap();
    let none = decoder.decode(&values(&[]), 2, |fact| facts.push(fact), &mut letters).unwrap();
    let again = decoder
        .decode(&values(&[document, document]), 3, |fact| facts.push(fact), &mut letters)
        .unwrap();
    assert_eq!((first.num_rows(), none.num_rows(), again.num_rows()), (1, 0, 2));
    assert_eq!(
        facts.iter().map(|fact| (fact.batch, fact.row)).collect::<Vec<_>>(),
        [(1, 0), (3, 0), (3, 1)]
    );
    assert_eq!(first.column(6).as_string::<i32>().value(0), "ios");
    assert_eq!(facts[0].content, facts[2].content);
}

#[test]
fn a_group_is_told_when_it_is_met_first() {
    let mut decoder = decoder(TimeUnit::Rfc3339, &Arc::default());
    let mut met_with = |members: &[&str]| {
        let document = |members: &&str| {
            format!(r#"{{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z"{members}}}"#)
        };
        let documents: Vec<String> = members.iter().map(document).collect();
        let raw = values(&documents.iter().map(String::as_bytes).collect::<Vec<_>>());
        let mut groups = BTreeSet::new();
        decoder.decode(&raw, 0, |fact| groups.extend([fact.slots[0], fact.slots[1]]), &mut vec![]);
        let met = decoder.take_met();
        let met: Vec<u64> = met.into_iter().map(|symbol| symbol.0).collect();
        (groups, met)
    };
    let (groups, met) = met_with(&["", r#","type":"buy""#, ""]);
    assert_eq!((groups.len(), met.len()), (4, 4));
    assert_eq!(BTreeSet::from_iter(met), groups);
    assert!(met_with(&[r#","type":"buy""#]).1.is_empty());
    let (more, met) = met_with(&[r#","device":{"os":"ios"}"#, ""]);
    assert_eq!(BTreeSet::from_iter(met), &more - &groups);
    assert_eq!(more.len(), 3);
}

#[test]
fn a_negative_decimal_is_negative_in_both_of_its_slots() {
    let document = br#"{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z","price":"-0.10"}"#;
    let (facts, _, _) = decode_events(&[document]);
    assert_eq!(facts[0].slots[3..5], [-10_i64 as u64, u64::MAX]);
}

#[test]
fn content_tells_null_from_a_value_and_columns_from_each_other() {
    let document = |members: &str| {
        format!(r#"{{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z"{members}}}"#).into_bytes()
    };
    let documents = [
        document(""),
        document(r#","amount":0"#),
        document(r#","price":0"#),
        document(r#","device":{"os":""}"#),
        document(r#","type":"ios""#),
        document(r#","type":"view","unknown":1"#),
    ];
    let (facts, _, _) = decode_events(&documents.each_ref().map(|document| &document[..]));
    let contents: Vec<_> = facts.iter().map(|fact| fact.content).collect();
    assert_eq!(contents[0], contents[5]);
    for i in 0..5 {
        assert!(contents[..i].iter().all(|other| *other != contents[i]), "{contents:?}");
    }
}

#[test]
fn times_are_numbers_where_the_job_says_so() {
    let time = |unit, text: &str| {
        let document = format!(r#"{{"id":"e","user":"u","ts":{text}}}"#);
        let (mut facts, mut letters) = (Vec::new(), Vec::new());
        let raw = values(&[document.as_bytes()]);
        decoder(unit, &Arc::default()).decode(&raw, 0, |fact| facts.push(fact), &mut letters);
        facts.first().map(|fact| fact.time).ok_or_else(|| letters[0].reason)
    };
    assert_eq!(time(TimeUnit::Seconds, "1700000000.25"), Ok(1_700_000_000_250_000));
    assert_eq!(time(TimeUnit::Milliseconds, "1700000000250"), Ok(1_700_000_000_250_000));
    assert_eq!(time(TimeUnit::Microseconds, "1.7e15"), Ok(1_700_000_000_000_000));
    assert_eq!(time(TimeUnit::Milliseconds, "\"1700000000250\""), Err(Reason::WrongType));
    assert_eq!(time(TimeUnit::Seconds, "1700000000250"), Err(Reason::OutOfRange));
    assert_eq!(time(TimeUnit::Seconds, "-0.0000001"), Err(Reason::OutOfRange));
    assert_eq!(time(TimeUnit::Seconds, "null"), Err(Reason::MissingTime));
}

#[test]
fn one_bad_record_spoils_no_other_of_its_batch() {
    let good =
        r#"{"id":"\u00e9","user":"\u00e9","ts":"2024-01-01T00:00:00Z","type":"é"}"#.as_bytes();
    // The batch as a whole is UTF-8 although neither of the two halves of the é is.
    let (facts, letters, _) = decode_events(&[good, b"{\"x\":\"\xc3", b"\xa9\"}", good]);
    assert_eq!(facts.len(), 2);
    assert_eq!(
        letters.iter().map(|letter| letter.reason).collect::<Vec<_>>(),
        [Reason::InvalidUtf8; 2]
    );
    assert_eq!(facts[0].id, facts[1].id);
}
