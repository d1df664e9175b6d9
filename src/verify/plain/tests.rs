//! The plain decoder says of every record what `decode` says of it: values, positions, reasons.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::decode::{DeadLetter, DimensionDecoder, EventDecoder};
use crate::job::{self, FactLayout, Job};
use crate::lake::cells::value_at;
use crate::model::{Interner, Value};
use crate::source::{NO_BYTES, RawRecord, Span};

fn job(time: &str) -> Job {
    let text = r#"
        [job]
        name = "j"
        [events]
        source = { directory = "events" }
        id = "/id"
        user = "/user"
        time = TIME
        [events.columns]
        step = { path = "/type", default = "view" }
        amount = { path = "/amount", type = "long", default = 7 }
        price = { path = "/price", type = "decimal(10,2)" }
        large = { path = "/large", type = "decimal(38,0)" }
        os = "/device/os"
        paid = { path = "/device/paid", type = "boolean" }
        seen = { path = "/a~1b/m~0n", type = "timestamp" }
        [dimension]
        name = "users"
        source = { directory = "users" }
        key = "/user"
        deleted = "/deleted"
        [dimension.columns]
        region = { path = "/region", default = "none" }
        seats = { path = "/seats", type = "long" }
        [lake]
        catalog = "sqlite:catalog.db"
        warehouse = "warehouse"
    "#;
    let text = text.replace("TIME", time);
    job::parse(&text, "job.toml", Path::new("/jobs"), &|_| None).unwrap()
}

/// How a job may have its event time.
const TIMES: [&str; 3] =
    [r#""/ts""#, r#"{ path = "/ts", unit = "s" }"#, r#"{ path = "/ts", unit = "us" }"#];

/// Key and value of a record.
type KeyValue = (Option<Vec<u8>>, Option<Vec<u8>>);

fn batch(records: &[KeyValue]) -> RawBatch {
    let mut batch = RawBatch { partition: 7, next: 100, ..RawBatch::default() };
    for (key, value) in records {
        let mut span = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or(NO_BYTES, |bytes| {
                let span = Span { start: batch.bytes.len() as u32, length: bytes.len() as u32 };
                batch.bytes.extend_from_slice(bytes);
                span
            })
        };
        let (key, value) = (span(key), span(value));
        let (offset, timestamp_ms, headers) = (batch.next, 5, NO_BYTES);
        batch.records.push(RawRecord { offset, timestamp_ms, key, value, headers });
        batch.next += 1;
    }
    batch
}

fn compare_letters(letters: &[DeadLetter], plain: &Decoded) {
    let offsets = |letters: &mut dyn Iterator<Item = i64>| letters.collect::<Vec<_>>();
    let ours = offsets(&mut plain.letters.iter().map(|letter| letter.offset));
    let theirs = offsets(&mut letters.iter().map(|letter| letter.position.offset));
    assert_eq!(ours, theirs, "{letters:?}\n{:?}", plain.letters);
    for (letter, plain) in letters.iter().zip(&plain.letters) {
        assert!(plain.refused.allows(letter.reason.as_str()), "{letter:?}\n{plain:?}");
        assert_eq!(plain.timestamp_us, Some(5_000));
        assert_eq!(plain.key, letter.key.as_deref().map(xxh3_128));
        assert_eq!(plain.value, letter.value.as_deref().map(xxh3_128));
    }
}

/// Compares the columns `from..` of rows with the cells of the plain ones.
fn compare_cells(rows: &RecordBatch, columns: &[usize], plain: &Decoded) {
    let value = |cell: &Cell| match *cell {
        Cell::Null => Value::Null,
        Cell::Boolean(value) => Value::Boolean(value),
        Cell::Long(value) => Value::Long(value),
        Cell::Timestamp(value) => Value::Timestamp(value),
        Cell::Decimal(value) => Value::Decimal(value),
        Cell::Text { start, end } => Value::String(plain.text(start, end).into()),
    };
    let ours: Vec<Value> = plain.cells.iter().map(value).collect();
    let at = |row: usize| columns.iter().map(move |column| value_at(rows.column(*column), row));
    let theirs: Vec<Value> = (0..rows.num_rows()).flat_map(at).collect();
    assert_eq!(ours, theirs);
}

fn compare_events(job: &Job, raw: &RawBatch) {
    let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels).unwrap();
    let interner = Arc::new(Interner::default());
    let mut decoder = EventDecoder::new(&job.events, &job.funnels, &layout, 0, interner, true);
    let mut letters = Vec::new();
    let rows = decoder.decode(raw, 0, |_| {}, &mut letters).unwrap();
    let plain = Decoded::new(Meaning::Events(&job.events), raw, i64::MAX);
    compare_letters(&letters, &plain);
    compare_cells(&rows, &[1, 3, 4, 5, 6, 7, 8, 9], &plain);
    for (row, plain) in plain.rows.iter().enumerate() {
        let Value::String(id) = value_at(rows.column(0), row) else { panic!("an id is text") };
        let Value::Timestamp(time) = value_at(rows.column(2), row) else { panic!("a time") };
        assert_eq!(plain.what, What::Event { id: xxh3_128(id.as_bytes()), time });
        assert_eq!(Value::Long(plain.offset), value_at(rows.column(11), row));
    }
}

fn compare_versions(job: &Job, raw: &RawBatch) {
    let spec = job.dimension.as_ref().unwrap();
    let (mut changes, mut letters) = (Vec::new(), Vec::new());
    let mut decoder = DimensionDecoder::new(spec, "users", Arc::new(Interner::default()));
    let rows = decoder.decode(raw, &mut changes, &mut letters);
    let plain = Decoded::new(Meaning::Dimension(spec), raw, i64::MAX);
    compare_letters(&letters, &plain);
    compare_cells(&rows, &[0, 1, 2], &plain);
    for (change, plain) in changes.iter().zip(&plain.rows) {
        assert_eq!(plain.what, What::Version { deleted: change.deleted });
        assert_eq!(plain.offset, change.position.offset);
    }
}

/// Values as they are written, of the right type more often than not.
fn values(key: &str) -> Vec<&'static str> {
    let any =
        ["null", "true", "[]", "{}", "\"\"", "5", "\"\\ud800\"", "1e400", "01", "\"a\nb\"", ""];
    let good: &[&str] = match key {
        "id" | "user" => &["\"e1\"", "\"\\u0065\\u00e9\"", "\"é😀\"", "\"\\ud83d\\ude00\""],
        "ts" => &[
            "\"2024-02-29T23:59:60.1234567+05:30\"",
            "\"2024-01-01T00:00:00Z\"",
            "\"2024-01-01t00:00:00.5z\"",
            "\"2023-02-29T00:00:00Z\"",
            "\"2200-01-01T00:00:00Z\"",
            "\"2199-12-31T23:59:59.9999999Z\"",
            "\"1970-01-01T00:00:00+00:01\"",
            "\"2024-01-01 00:00:00+24:00\"",
            "\"yesterday\"",
            "1700000000.1234567",
            "1.7e9",
            "-0",
            "-0.0000001",
            "1e30",
            "7e-99999999999999999999",
        ],
        "type" | "region" => &["\"buy\"", "\"\\/\\n\\u0000\"", "\"\""],
        "amount" | "seats" => {
            &["-3", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1.50e1"]
        }
        "price" => {
            &["12.5", "\"-0.10\"", "0.001", "99999999.99", "1e8", "\" 1\"", "0e999", "\"1e9\""]
        }
        "large" => &[
            "99999999999999999999999999999999999999",
            "100000000000000000000000000000000000000",
            "-1e37",
            "1.00000000000000000000000000000000000000000000000000",
            "1e38",
        ],
        "device" => &[
            r#"{"os":"ios","paid":true}"#,
            r#"{"paid":0}"#,
            r#"{"os":"a","os":"b"}"#,
            r#"{"x":{"x":1,"x":2},"os":"c"}"#,
        ],
        "a/b" => &[r#"{"m~n":"0001-01-01T00:00:00Z"}"#, r#"{"m~n":"0000-12-31T23:59:59Z"}"#],
        "deleted" => &["true", "false"],
        _ => &["[1,{\"y\":[null]}]", "{\"x\":{}}"],
    };
    let often = std::iter::repeat_n(good, 6).flatten();
    often.copied().chain(any).collect()
}

const KEYS: [&str; 13] = [
    "id", "user", "ts", "type", "amount", "price", "large", "device", "a/b", "region", "seats",
    "deleted", "other",
];

/// A document with most of the keys, some of them twice, in any order.
fn document() -> impl Strategy<Value = String> {
    let member = |key: &'static str| {
        let written = prop_oneof![9 => Just(format!("\"{key}\"")), 1 => Just(escaped(key))];
        (written, select(values(key)), prop::bool::weighted(0.9))
    };
    let members: Vec<_> = KEYS.iter().map(|key| member(key)).collect();
    let more = prop::collection::vec(select(KEYS.to_vec()).prop_flat_map(member), 0..2);
    (members, more, prop::bool::weighted(0.3)).prop_flat_map(|(members, more, repeats)| {
        let more = if repeats { more } else { Vec::new() };
        let all = members.into_iter().chain(more).filter(|(_, _, there)| *there);
        let written = all.map(|(key, value, _)| format!("{key}: {value}")).collect::<Vec<_>>();
        Just(written).prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(" ,\t")))
    })
}

fn escaped(key: &str) -> String {
    let units: String = key.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

/// Replaces, inserts, removes or cuts at some bytes.
fn mutate(document: &str, changes: &[(u16, u8)]) -> Vec<u8> {
    const BYTES: &[u8] = b"\"\\{}[]:,0129.eE+-tfnu \n\x00\x7f\xc3\xa9";
    let mut bytes = document.as_bytes().to_vec();
    for (place, change) in changes {
        let place = usize::from(*place) % bytes.len().max(1);
        let byte = BYTES[usize::from(*change / 4) % BYTES.len()];
        match change % 4 {
            0 if !bytes.is_empty() => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 if !bytes.is_empty() => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn records_mean_what_they_mean_to_a_run(
        documents in prop::collection::vec(
            (document(), prop::collection::vec((any::<u16>(), any::<u8>()), 0..3)),
            1..30,
        ),
        time in select(TIMES.to_vec()),
    ) {
        let job = job(time);
        let records = documents.iter().map(|(document, changes)| {
            let untouched = changes.len() < 2;
            let changes = if untouched { &[][..] } else { changes };
            (None, Some(mutate(document, changes)))
        });
        let raw = batch(&records.collect::<Vec<_>>());
        compare_events(&job, &raw);
        compare_versions(&job, &raw);
    }

    #[test]
    fn tombstones_delete_the_same_key(
        keys in prop::collection::vec(
            prop_oneof![
                select(vec!["", "\"\"", "u1", "\"u1\"", "\"u\\u0031\"", "\"u1", "\"u1\" ", "\"\\ud800\""])
                    .prop_map(|key| key.as_bytes().to_vec()),
                any::<String>().prop_map(|text| serde_json::to_vec(&text).unwrap()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            1..20,
        ),
    ) {
        let mut records: Vec<KeyValue> = keys.into_iter().map(|key| (Some(key), None)).collect();
        records.push((None, None));
        compare_versions(&job("\"/ts\""), &batch(&records));
        compare_events(&job("\"/ts\""), &batch(&records));
    }
}

#[test]
fn bounds_are_the_same() {
    let deep = |levels: usize, open: &str, close: &str| {
        let (open, close) = (open.repeat(levels), close.repeat(levels));
        format!(r#"{{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z","x":{open}1{close}}}"#)
    };
    let mut documents: Vec<String> = (98..=101)
        .flat_map(|levels| [deep(levels, "[", "]"), deep(levels, r#"{"x":"#, "}")])
        .collect();
    for keys in [20, 23, 24, 25, 26, 60] {
        let members: String = (0..keys).map(|key| format!("\"k{key}\":1,")).collect();
        documents.push(format!(r#"{{{members}"id":"e","user":"u","ts":"2024-01-01T00:00:00Z"}}"#));
        documents.push(format!(r#"{{{members}"k3":2}}"#));
    }
    documents.push(format!(
        r#"{{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z","x":{}}}"#,
        "9".repeat(400)
    ));
    for bytes in [RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1] {
        let short = r#"{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z"}"#;
        documents.push(format!("{short}{}", " ".repeat(bytes - short.len())));
    }
    let records = documents.into_iter().map(|document| (None, Some(document.into_bytes())));
    compare_events(&job("\"/ts\""), &batch(&records.collect::<Vec<_>>()));
}

#[test]
fn a_key_that_is_there_twice_may_be_noticed_at_once_or_at_the_end() {
    let refused = |document| json::document(document).unwrap_err();
    let twice = refused(r#"{"a":1,"a":2}"#);
    assert!(twice.allows("duplicate_key") && !twice.allows("not_json"));
    let also = refused(r#"{"a":1,"a":2,"b":nul}"#);
    assert!(also.allows("duplicate_key") && also.allows("not_json"));
    let closed = refused(r#"{"x":{"a":1,"a":2},"b":nul}"#);
    assert!(closed.allows("duplicate_key") && !closed.allows("not_json"));
    let before = refused(r#"{"b":nul,"a":1,"a":2}"#);
    assert!(before.allows("not_json") && !before.allows("duplicate_key"));
}
