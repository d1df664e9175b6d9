//! Good job files: the one of the design, every short form, what decides answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::{
    Column, Definition, FactLayout, Job, MeasureKind, Pointer, Side, SourceSpec, TimeUnit,
    differences, load,
};
use super::{SECRET, SUBSCRIPTIONS, changed, job};
use crate::model::time::DAY_US;
use crate::model::{ColumnType, Value};

fn pointer(tokens: &[&str]) -> Pointer {
    Pointer(tokens.iter().map(|token| token.to_string()).collect())
}

fn good(from: &str, to: &str) -> Job {
    job(&changed(from, to)).unwrap_or_else(|error| panic!("{error}"))
}

fn column<'j>(job: &'j Job, name: &str) -> &'j Column {
    job.events.columns.iter().find(|column| column.name == name).unwrap()
}

#[test]
fn the_job_of_the_design_means_what_it_says() {
    let job = job(SUBSCRIPTIONS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(job.name, "subscriptions");
    assert!(matches!(&job.events.source, SourceSpec::Directory(path) if path == "/jobs/events"));
    assert_eq!(job.events.source.topic(), "events");
    assert_eq!(job.events.id, pointer(&["event_id"]));
    assert_eq!(job.events.user, pointer(&["user_id"]));
    assert_eq!((&job.events.time, job.events.time_unit), (&pointer(&["ts"]), TimeUnit::Rfc3339));
    let names: Vec<_> = job.events.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["step", "amount", "currency", "os"]);
    assert_eq!(column(&job, "os").pointer, pointer(&["device", "os"]));
    assert_eq!(column(&job, "os").kind, ColumnType::String);
    assert_eq!(column(&job, "amount").kind, ColumnType::Long);
    assert_eq!(column(&job, "amount").default, Some(Value::Long(0)));
    let users = job.dimension.as_ref().unwrap();
    assert_eq!((&*users.name, &*users.key_name), ("users", "user_id"));
    assert_eq!(users.deleted, Some(pointer(&["deleted"])));
    assert_eq!(users.columns.len(), 2);
    let [regional] = &job.aggregates[..] else { panic!("one aggregate") };
    let sides: Vec<_> = regional.group_by.iter().map(|column| column.side).collect();
    assert_eq!(sides, [Side::Dimension(0), Side::Event(0)]);
    assert_eq!(regional.window_us, Some(DAY_US / 24));
    let kinds: Vec<_> = regional.measures.iter().map(|measure| measure.kind).collect();
    assert_eq!(kinds, [MeasureKind::Count, MeasureKind::Distinct, MeasureKind::Sum(1)]);
    let [funnel] = &job.funnels[..] else { panic!("one funnel") };
    assert_eq!((funnel.column, funnel.steps.len()), (0, 5));
    assert_eq!(funnel.within_us, Some(7 * DAY_US));
    assert_eq!(job.dedup_horizon_us, None);
    assert_eq!(job.lake.catalog, PathBuf::from("/jobs/lake/catalog.db"));
    assert_eq!(job.lake.catalog_name, "tidewater");
    assert_eq!(job.lake.warehouse, PathBuf::from("/jobs/lake/warehouse"));
    assert_eq!(job.lake.state, PathBuf::from("/jobs/lake/warehouse/_state/subscriptions"));
    assert_eq!(job.lake.namespace, "subscriptions");
    assert_eq!(job.lake.commit_interval, Duration::from_secs(10));
    assert!(job.lake.events && !job.lake.raw);
    let lake = (job.lake.leaf_rows, job.lake.zstd_level, job.lake.keep_snapshots);
    assert_eq!(lake, (16_384, 1, 100));
    FactLayout::new(&job.events, &job.aggregates, &job.funnels).unwrap();
}

#[test]
fn the_definition_of_the_design_stays_as_it_is() {
    let job = job(SUBSCRIPTIONS).unwrap();
    let definition = job.definition.iter().map(|(key, value)| format!("{key} = {value}\n"));
    insta::assert_snapshot!("definition", definition.collect::<String>());
}

#[test]
fn the_least_job_has_defaults() {
    let job = job(concat!(
        "job.name = 'least'\n",
        "[events]\nsource.directory = 'e'\nid = '/i'\nuser = '/u'\ntime = '/t'\n",
        "[lake]\ncatalog = 'sqlite:/abs/c.db'\nwarehouse = 'file:///abs/w'\nstate = '../s'\n",
    ));
    let job = job.unwrap_or_else(|error| panic!("{error}"));
    assert!(job.dimension.is_none() && job.aggregates.is_empty() && job.funnels.is_empty());
    assert_eq!(job.lake.namespace, "least");
    assert_eq!(job.lake.catalog, PathBuf::from("/abs/c.db"));
    assert_eq!(job.lake.warehouse, PathBuf::from("/abs/w"));
    assert_eq!(job.lake.state, PathBuf::from("/jobs/../s"));
    assert_eq!(job.lake.commit_interval, Duration::from_secs(10));
}

#[test]
fn short_and_long_forms_are_read() {
    let time = |to| good("time = \"/ts\" ", to).events.time_unit;
    assert_eq!(time("time = { path = '/ts' } "), TimeUnit::Rfc3339);
    assert_eq!(time("time = { path = '/ts', unit = 's' } "), TimeUnit::Seconds);
    assert_eq!(time("time = { path = '/ts', unit = 'ms' } "), TimeUnit::Milliseconds);
    assert_eq!(time("time = { path = '/ts', unit = 'us' } "), TimeUnit::Microseconds);
    let typed = |to: &str| {
        let job = good("currency = \"/currency\"", to);
        let column = column(&job, "currency");
        (column.kind, column.default.clone())
    };
    let decimal = ColumnType::Decimal { precision: 10, scale: 2 };
    assert_eq!(typed("currency = { path = '/c' }"), (ColumnType::String, None));
    assert_eq!(
        typed("currency = { path = '/c', default = 'EUR' }"),
        (ColumnType::String, Some(Value::String("EUR".into())))
    );
    for default in ["'1.50'", "1.5", "1.50", "15e-1"] {
        let line =
            format!("currency = {{ path = '/c', type = 'decimal(10,2)', default = {default} }}");
        assert_eq!(typed(&line), (decimal, Some(Value::Decimal(150))));
    }
    assert_eq!(
        typed(
            "currency.path = '/c'\ncurrency.type = 'timestamp'\ncurrency.default = 1970-01-01T00:00:01Z"
        ),
        (ColumnType::Timestamp, Some(Value::Timestamp(1_000_000)))
    );
    assert_eq!(
        typed("currency = { path = '/c', type = 'boolean', default = true }"),
        (ColumnType::Boolean, Some(Value::Boolean(true)))
    );
    assert_eq!(
        good("horizon = \"unlimited\"", "horizon = '30d'").dedup_horizon_us,
        Some(30 * DAY_US)
    );
    assert_eq!(good("window   = \"1h\"", "").aggregates[0].window_us, None);
    assert_eq!(
        good("window   = \"1h\"", "window = '1d12h'").aggregates[0].window_us,
        Some(DAY_US * 3 / 2)
    );
    assert!(good("[\"region\", \"step\"]", "[]").aggregates[0].group_by.is_empty());
    let interval = good("\"10s\"", "'200ms'").lake.commit_interval;
    assert_eq!(interval, Duration::from_millis(200));
    let key = |to| good("key    = \"/user_id\"", to).dimension.unwrap().key_name;
    assert_eq!(key("key = '/who/id'"), "id");
    assert_eq!(key("key = '/user-id'"), "key");
}

#[test]
fn a_kafka_source_keeps_its_options_and_hides_their_values() {
    let kafka = "source = { kafka = { brokers = 'h:9092', topic = 'page.views', options = { \
                 \"security.protocol\" = 'SASL_SSL', sasl.password = '${env:SECRET}', \
                 \"fetch.min.bytes\" = 1000, \"socket.keepalive.enable\" = true } } }";
    let job = good("source = { directory = \"events\" }", kafka);
    let SourceSpec::Kafka(kafka) = &job.events.source else { panic!("a Kafka source") };
    let options = [
        ("fetch.min.bytes", "1000"),
        ("sasl.password", SECRET),
        ("security.protocol", "SASL_SSL"),
        ("socket.keepalive.enable", "true"),
    ];
    let options: BTreeMap<_, _> =
        options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(
        (&*kafka.brokers, &*kafka.topic, &kafka.options),
        ("h:9092", "page.views", &options)
    );
    assert_eq!(job.events.source.topic(), "page.views");
    assert!(!format!("{job:?}").contains(SECRET));
}

#[test]
fn references_stand_in_any_string() {
    let job = good("[\"region\", \"step\"]", "['${env:REGION}', 'step']");
    assert_eq!(job.aggregates[0].group_by[0].name, "region");
}

#[test]
fn a_job_file_is_loaded_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    std::fs::write(&path, changed("\"events\" }", "'${file:topic}' }")).unwrap();
    std::fs::write(folder.path().join("topic"), "clicks\n").unwrap();
    let job = load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(job.events.source.topic(), "clicks");
    assert_eq!(job.lake.catalog, folder.path().join("lake/catalog.db"));
    let missing = load(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml") && missing.contains("No such file"), "{missing}");
    std::fs::write(&path, b"\xff").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("not UTF-8"));
}

fn between(old: &str, new: &str) -> Vec<String> {
    let definition = |text: &str| -> Definition { job(text).unwrap().definition };
    differences(&definition(old), &definition(new))
}

#[test]
fn differences_name_what_decides_answers() {
    let lines = |from: &str, to: &str| between(SUBSCRIPTIONS, &changed(from, to));
    let window = lines("window   = \"1h\"", "window = '1d'");
    assert_eq!(window, ["aggregate.regional.window changed from 1h to 1d"]);
    let daily = "[[aggregate]]\nname = 'daily'\nmeasures = { n = 'count' }\n[[funnel]]\n";
    assert_eq!(lines("[[funnel]]\n", daily), ["aggregate.daily added"]);
    assert_eq!(
        between(&changed("[[funnel]]\n", daily), SUBSCRIPTIONS),
        ["aggregate.daily removed"]
    );
    assert_eq!(lines("os       = \"/device/os\"\n", ""), ["events.columns.os removed"]);
    assert_eq!(
        lines("plan   = \"/plan\"", "plan = '/tier'"),
        ["dimension.columns.plan changed from /plan as string to /tier as string"]
    );
    assert_eq!(
        lines(
            "currency = \"/currency\"\nos       = \"/device/os\"",
            "os = '/device/os'\ncurrency = '/currency'"
        ),
        [
            "events.columns changed in order from step, amount, currency, os to step, amount, os, currency"
        ]
    );
    assert_eq!(
        lines("default = 0", "default = 1"),
        [
            "events.columns.amount changed from /amount_cents as long or 0 to /amount_cents as long or 1"
        ]
    );
    assert_eq!(lines("\"unlimited\"", "'30d'"), ["dedup.horizon changed from unlimited to 30d"]);
    let without = "[job]\nname = 'a'\n[events]\nsource.directory = 'e'\nid = '/i'\nuser = '/u'\ntime = '/t'\n\
                   [lake]\ncatalog = 'sqlite:c'\nwarehouse = 'w'\n";
    let with = format!(
        "{without}[dimension]\nname = 'd'\nsource.directory = 'd'\nkey = '/k'\ncolumns.x = '/x'\n"
    );
    assert_eq!(between(without, &with), ["dimension added"]);
    assert_eq!(between(&with, without), ["dimension removed"]);
}

#[test]
fn differences_are_silent_on_what_does_not_decide() {
    for (from, to) in [
        ("window   = \"1h\"", "window = '60m'"),
        ("\"10s\"", "'1m'"),
        ("lake/warehouse", "other/warehouse"),
        ("\"events\" }", "'elsewhere/events' }"),
        ("raw = false", "zstd_level = 9\nleaf_rows = 4\nkeep_snapshots = 7"),
        (
            "source = { directory = \"events\" }",
            "source.kafka = { brokers = 'b', topic = 'events' }",
        ),
    ] {
        assert_eq!(between(SUBSCRIPTIONS, &changed(from, to)), Vec::<String>::new(), "{to}");
    }
}
