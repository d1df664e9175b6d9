//! Decoding of 300-byte events with the job of the README: nanoseconds of CPU per record, median of 5.
//!
//! `cargo bench --profile release --bench decode`. Each line is one way to decode the same batches; the first
//! lines are other people's parsers on the same documents, so that ratios hold on a noisy machine too.

use std::io::Write;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Deserialize;
use tidewater::decode::EventDecoder;
use tidewater::job::{
    AggregateSpec, Column, EventsSpec, FactLayout, FunnelSpec, GroupColumn, Measure, MeasureKind,
    Pointer, Side, SourceSpec, TimeUnit,
};
use tidewater::model::{ColumnType, Interner, Value};
use tidewater::source::{NO_BYTES, NO_TIMESTAMP, RawBatch, RawRecord, Span};

const STEPS: [&str; 5] =
    ["page_view", "signup_started", "signup_completed", "trial_started", "subscribed"];
const BATCHES: usize = 20;
const BATCH_RECORDS: usize = 4096;
const ROUNDS: usize = 5;

fn main() -> std::io::Result<()> {
    let good = batches(0);
    let bad = batches(10);
    let spaced = good.iter().map(spaced).collect::<Vec<_>>();
    let bytes: usize = good.iter().map(|batch| batch.bytes.len()).sum();
    let mut out = std::io::stdout();
    let records = BATCHES * BATCH_RECORDS;
    writeln!(out, "{records} records of {} bytes; ns of CPU per record", bytes / records)?;
    let lines: [(&str, &dyn Fn() -> usize); 6] = [
        ("serde_json, typed at compile time", &|| {
            parse(&good, |text| serde_json::from_slice::<Typed>(text).is_ok())
        }),
        ("sonic-rs, typed at compile time", &|| {
            parse(&good, |text| sonic_rs::from_slice::<Typed>(text).is_ok())
        }),
        ("facts alone", &|| decode(&good, false)),
        ("facts and payload", &|| decode(&good, true)),
        ("facts and payload, 10 % bad records", &|| decode(&bad, true)),
        ("facts and payload, spaced JSON", &|| decode(&spaced, true)),
    ];
    // Line by line within a round, so that what disturbs a round disturbs all its lines.
    let mut times = vec![Vec::new(); lines.len()];
    let mut good_records = vec![0; lines.len()];
    for _ in 0..ROUNDS {
        for (index, (_, run)) in lines.iter().enumerate() {
            let start = cpu_ns()?;
            good_records[index] = run();
            times[index].push((cpu_ns()? - start) / records as f64);
        }
    }
    for ((name, _), (times, good)) in lines.iter().zip(times.iter_mut().zip(good_records)) {
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[ROUNDS / 2]);
        writeln!(out, "{name:<38} median {median:5.0}  least {least:5.0}   {good} decoded")?;
    }
    Ok(())
}

/// Decodes all batches; returns how many facts they gave.
fn decode(batches: &[RawBatch], keep_payload: bool) -> usize {
    let (spec, funnels) = (events(), funnels());
    let layout = FactLayout::new(&spec, &aggregates(), &funnels).expect("the job fits a fact");
    let interner = Arc::new(Interner::default());
    let mut decoder = EventDecoder::new(&spec, &funnels, &layout, 0, interner, keep_payload);
    let (mut facts, mut letters) = (Vec::new(), Vec::new());
    let mut events = 0;
    for (number, batch) in batches.iter().enumerate() {
        facts.clear();
        letters.clear();
        let payload = decoder.decode(batch, number as u32, |fact| facts.push(fact), &mut letters);
        std::hint::black_box(&payload);
        events += facts.len();
    }
    events
}

/// Reads all records in another way; returns how many could be read.
fn parse(batches: &[RawBatch], read: impl Fn(&[u8]) -> bool) -> usize {
    let records = batches.iter().flat_map(|batch| batch.records.iter().map(move |r| (batch, r)));
    records.filter(|(batch, r)| read(batch.get(r.value).unwrap_or_default())).count()
}

/// The wanted fields, as a parser that knows them at compile time takes them.
#[derive(Deserialize)]
#[allow(dead_code)]
struct Typed<'a> {
    event_id: &'a str,
    user_id: &'a str,
    ts: &'a str,
    r#type: &'a str,
    amount_cents: i64,
    currency: &'a str,
    device: Device<'a>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Device<'a> {
    os: &'a str,
}

/// CPU time of this thread: other processes on the machine count little.
fn cpu_ns() -> std::io::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = text.split(' ').next().and_then(|word| word.parse().ok());
    ns.ok_or_else(|| std::io::Error::other(format!("{text:?} has no CPU time")))
}

/// Batches of events, of which `bad_percent` can't be decoded.
fn batches(bad_percent: u64) -> Vec<RawBatch> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut batches = Vec::new();
    for number in 0..BATCHES {
        let mut batch = RawBatch { partition: number as i32 % 8, ..RawBatch::default() };
        for _ in 0..BATCH_RECORDS {
            let mut event = event(&mut random).into_bytes();
            if random.next_u64() % 100 < bad_percent {
                spoil(&mut event, random.next_u64());
            }
            push(&mut batch, &event);
        }
        batches.push(batch);
    }
    batches
}

fn push(batch: &mut RawBatch, value: &[u8]) {
    let span = Span { start: batch.bytes.len() as u32, length: value.len() as u32 };
    batch.records.push(RawRecord {
        offset: batch.next,
        timestamp_ms: NO_TIMESTAMP,
        key: NO_BYTES,
        value: span,
        headers: NO_BYTES,
    });
    batch.bytes.extend_from_slice(value);
    batch.next += value.len() as i64 + 1;
}

fn event(random: &mut Xoshiro256PlusPlus) -> String {
    let mut pick = |bound: u64| random.next_u64() % bound;
    let (id, user, session) = (pick(u64::MAX), pick(200_000), pick(1 << 32));
    let step = STEPS[pick(5) as usize];
    let (day, second, milli) = (1 + pick(28), pick(86_400), pick(1000));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let amount = [0, 999, 1999, 12_900][pick(4) as usize];
    let currency = ["EUR", "USD", "JPY"][pick(3) as usize];
    let os = ["ios", "android", "windows", "macos"][pick(4) as usize];
    let page = ["/", "/pricing", "/docs/start"][pick(3) as usize];
    format!(
        "{{\"event_id\":\"{id:016x}-{session:08x}\",\"user_id\":\"u{user:07}\",\
         \"ts\":\"2025-03-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z\",\"type\":\"{step}\",\
         \"amount_cents\":{amount},\"currency\":\"{currency}\",\"session_id\":\"{session:016x}\",\
         \"device\":{{\"os\":\"{os}\",\"model\":\"m-{milli}\",\"app_version\":\"5.{day}.1\"}},\
         \"page\":\"{page}\",\"referrer\":null,\"sequence\":{second},\"logged_in\":true}}"
    )
}

/// Makes an event one that can't be decoded, in one of several ways.
fn spoil(event: &mut Vec<u8>, way: u64) {
    match way % 4 {
        0 => event.truncate(event.len() / 2),
        1 => event.extend_from_slice(b"}"),
        2 => event[20] = 0xff,
        _ => {
            let at = event.windows(14).position(|bytes| bytes == b"\"amount_cents\"");
            event[at.expect("every event has an amount") + 15] = b'"';
        }
    }
}

/// The same batch, written with a space after each colon and comma.
fn spaced(batch: &RawBatch) -> RawBatch {
    let mut out = RawBatch { partition: batch.partition, ..RawBatch::default() };
    for record in &batch.records {
        let text = String::from_utf8_lossy(batch.get(record.value).unwrap_or_default());
        push(&mut out, text.replace("\":", "\": ").replace(",\"", ", \"").as_bytes());
    }
    out
}

fn pointer(path: &str) -> Pointer {
    Pointer(path.split('/').skip(1).map(String::from).collect())
}

fn column(name: &str, path: &str, kind: ColumnType, default: Option<Value>) -> Column {
    Column { name: name.into(), pointer: pointer(path), kind, default }
}

fn events() -> EventsSpec {
    EventsSpec {
        source: SourceSpec::Directory("events".into()),
        id: pointer("/event_id"),
        user: pointer("/user_id"),
        time: pointer("/ts"),
        time_unit: TimeUnit::Rfc3339,
        columns: vec![
            column("step", "/type", ColumnType::String, None),
            column("amount", "/amount_cents", ColumnType::Long, Some(Value::Long(0))),
            column("currency", "/currency", ColumnType::String, None),
            column("os", "/device/os", ColumnType::String, None),
        ],
    }
}

fn aggregates() -> Vec<AggregateSpec> {
    vec![AggregateSpec {
        name: "regional".into(),
        group_by: vec![
            GroupColumn {
                name: "region".into(),
                side: Side::Dimension(0),
                kind: ColumnType::String,
            },
            GroupColumn { name: "step".into(), side: Side::Event(0), kind: ColumnType::String },
        ],
        window_us: Some(3_600_000_000),
        measures: vec![
            Measure { name: "events".into(), kind: MeasureKind::Count },
            Measure { name: "users".into(), kind: MeasureKind::Distinct },
            Measure { name: "amount".into(), kind: MeasureKind::Sum(1) },
        ],
    }]
}

fn funnels() -> Vec<FunnelSpec> {
    vec![FunnelSpec {
        name: "signup_funnel".into(),
        group_by: Vec::new(),
        column: 0,
        steps: STEPS.map(String::from).to_vec(),
        within_us: None,
    }]
}
