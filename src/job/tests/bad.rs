//! Bad job files, each a change to the good one, and the reports about them as snapshots.

use super::{SECRET, SUBSCRIPTIONS, changed, job};

const EVENTS_SOURCE: &str = "source = { directory = \"events\" }";
const CURRENCY: &str = "currency = \"/currency\"";
const GROUP_BY: &str = "[\"region\", \"step\"]";
const MEASURES: &str = "{ events = \"count\", users = \"distinct\", amount = \"sum(amount)\" }";

/// The reports about the job of the design with each of the changes.
fn reports(cases: &[(&str, &str, &str)]) -> String {
    let report = |(case, from, to): &(&str, &str, &str)| {
        let error = job(&changed(from, to)).err().unwrap_or_else(|| panic!("{case} is no mistake"));
        format!("=== {case}\n{error}\n\n")
    };
    cases.iter().map(report).collect()
}

#[test]
fn mistakes_of_shape_are_reported() {
    let text = reports(&[
        ("not TOML", "name = \"subscriptions\"", "name = subscriptions"),
        ("a key twice", "raw = false", "raw = false\nraw = true"),
        ("an unknown key", "window   =", "windo ="),
        ("an unknown key, nothing near", "window   =", "tumbling ="),
        ("a misspelt key that is needed", "user = ", "usr = "),
        ("an unknown section", "[dedup]", "[deduplication]"),
        ("an unknown section, near", "[[funnel]]", "[[funnels]]"),
        ("a missing part", "id   = \"/event_id\"", ""),
        ("a missing section", "[job]\nname = \"subscriptions\"", ""),
        ("a part of the wrong type", "id   = \"/event_id\"", "id = 7"),
        ("a flag of the wrong type", "raw = false", "raw = 'no'"),
        ("a number out of range", "raw = false", "zstd_level = 99"),
        ("a section of the wrong type", "[dedup]\nhorizon = \"unlimited\"", "[dedup.horizon]"),
        ("one aggregate without an array", "[[aggregate]]", "[aggregate]"),
        ("a list with a wrong item", GROUP_BY, "['region', 3]"),
        ("an unknown key of a column", "default = 0", "defualt = 0"),
        ("no source", EVENTS_SOURCE, "source = {}"),
        ("two sources", EVENTS_SOURCE, "source = { directory = 'e', kafka = {} }"),
        ("half a Kafka source", EVENTS_SOURCE, "source = { kafka = { brokers = 'h:9092' } }"),
        ("no measures", MEASURES, "{}"),
        (
            "no columns of the dimension",
            "[dimension.columns]\nregion = \"/region\"\nplan   = \"/plan\"",
            "",
        ),
    ]);
    insta::assert_snapshot!("shape", text);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = SUBSCRIPTIONS
        .replace("id   = \"/event_id\"", "id = 'event_id'")
        .replace("window   = \"1h\"", "window = 'hourly'")
        .replace("sum(amount)", "sum(amonut)")
        .replace("name   = \"users\"", "nam = 'users'")
        .replace("sqlite:lake/catalog.db", "postgres://h/db")
        .replace("\"10s\"", "'soon'");
    assert_eq!(job(&text).unwrap_err().mistakes().len(), 6);
    insta::assert_snapshot!("at_once", job(&text).unwrap_err().to_string());
    insta::assert_snapshot!("empty", job("").unwrap_err().to_string());
}

#[test]
fn names_that_meet_are_reported() {
    let text = reports(&[
        ("no name", "name = \"subscriptions\"", "name = 'sub-scriptions'"),
        ("a column of ours", CURRENCY, "_topic = '/t'"),
        ("a column of the events table", CURRENCY, "User_ID = '/u'"),
        ("a column of both sides", "plan   = \"/plan\"", "os = '/os'"),
        ("columns that differ in case", CURRENCY, "OS = '/o'"),
        ("the key twice", "plan   = \"/plan\"", "user_ID = '/user_id'"),
        ("a table of ours", "name     = \"regional\"", "name = 'Events'"),
        ("one table twice", "name     = \"signup_funnel\"", "name = 'regional'"),
        (
            "changes of one, name of another",
            "name     = \"signup_funnel\"",
            "name = 'regional_changes'",
        ),
        ("changes of the dimension", "name     = \"regional\"", "name = 'users'"),
        ("a measure like a group column", MEASURES, "{ region = 'count' }"),
        ("a measure like the window", MEASURES, "{ window_start = 'count' }"),
        ("a group column twice", GROUP_BY, "['region', 'region']"),
        ("a column of ours in a funnel", "group_by = [\"region\"]", "group_by = ['users']"),
        ("a namespace", "namespace = \"subscriptions\"", "namespace = 'a.b'"),
    ]);
    insta::assert_snapshot!("names", text);
}

#[test]
fn unknown_columns_are_reported() {
    let text = reports(&[
        ("unknown in group_by", GROUP_BY, "['regoin', 'step']"),
        ("unknown in group_by, nothing near", GROUP_BY, "['country', 'step']"),
        ("unknown in a sum", "sum(amount)", "sum(amuont)"),
        ("a sum of text", "sum(amount)", "sum(currency)"),
        ("a sum of the dimension", "sum(amount)", "sum(plan)"),
        ("an unknown measure", "\"distinct\"", "'distnct'"),
        ("a measure with an argument", "\"count\"", "'count(*)'"),
        ("a funnel grouped by an event column", "group_by = [\"region\"]", "group_by = ['os']"),
        ("a funnel grouped by nothing known", "group_by = [\"region\"]", "group_by = ['regoin']"),
        ("an unknown column of a funnel", "column   = \"step\"", "column = 'stepp'"),
        ("a number as column of a funnel", "column   = \"step\"", "column = 'amount'"),
        ("a step twice", "\"trial_started\"", "'page_view'"),
        ("an empty step", "\"trial_started\"", "''"),
        (
            "no step",
            "[\"page_view\", \"signup_started\", \"signup_completed\", \"trial_started\", \"subscribed\"]",
            "[]",
        ),
    ]);
    insta::assert_snapshot!("columns", text);
    let start = SUBSCRIPTIONS.find("[dimension]").unwrap();
    let end = SUBSCRIPTIONS.find("[[aggregate]]").unwrap();
    let without = [&SUBSCRIPTIONS[..start], &SUBSCRIPTIONS[end..]].concat();
    insta::assert_snapshot!("no_dimension", job(&without).unwrap_err().to_string());
}

#[test]
fn values_that_mean_nothing_are_reported() {
    let text = reports(&[
        ("a pointer without a slash", "id   = \"/event_id\"", "id = 'event_id'"),
        ("a JSON path", "\"/device/os\"", "'$.device.os'"),
        ("a pointer with a tilde", "\"/device/os\"", "'/a~b'"),
        ("a unit", "time = \"/ts\" ", "time = { path = '/ts', unit = 'ns' } "),
        ("a type", "type = \"long\"", "type = 'lnog'"),
        ("a float", "type = \"long\"", "type = 'double'"),
        ("a decimal", "type = \"long\"", "type = 'decimal(39,2)'"),
        ("half a decimal", "type = \"long\"", "type = 'decimal'"),
        ("a default of another type", "default = 0", "default = 'none'"),
        ("a default out of range", "default = 0", "default = 9223372036854775808"),
        (
            "a decimal's default",
            "type = \"long\", default = 0",
            "type = 'decimal(5,2)', default = 0.125",
        ),
        (
            "a time without an offset",
            "type = \"long\", default = 0",
            "type = 'timestamp', default = 2024-05-01T12:00:00",
        ),
        ("a duration", "within   = \"7d\"", "within = 'a week'"),
        ("no time", "window   = \"1h\"", "window = '0s'"),
        ("a window too long", "window   = \"1h\"", "window = '400d'"),
        ("an unset variable", "id   = \"/event_id\"", "id = '${env:NO_SUCH}'"),
        ("a missing file", "id   = \"/event_id\"", "id = '${file:no/such}'"),
        ("an unknown reference", "id   = \"/event_id\"", "id = '${vault:x}'"),
    ]);
    insta::assert_snapshot!("values", text);
    let sums = "{ a = 'sum(d1)', b = 'sum(d2)', c = 'sum(d3)', d = 'sum(d4)' }";
    let decimals: String =
        (1..5).map(|n| format!("d{n} = {{ path = '/d', type = 'decimal(9,2)' }}\n")).collect();
    let text = changed(CURRENCY, &decimals).replace(MEASURES, sums);
    insta::assert_snapshot!("slots", job(&text).unwrap_err().to_string());
}

#[test]
fn places_that_can_not_be_used_are_reported() {
    let kafka = |options: &str| {
        format!(
            "source = {{ kafka = {{ brokers = 'h', topic = 'events', options = {{ {options} }} }} }}"
        )
    };
    let code = kafka("'plugin.library.paths' = 'x.so', 'sasl.kerberos.kinit.cmd' = 'x'");
    let ours =
        kafka("enable.auto.commit = true, bootstrap.servers = 'h', 'auto.offset.reset' = 'latest'");
    let text = reports(&[
        ("options that load code", EVENTS_SOURCE, &code),
        ("options of ours", EVENTS_SOURCE, &ours),
        (
            "a topic that Kafka refuses",
            EVENTS_SOURCE,
            "source.kafka = { brokers = ' ', topic = '^events' }",
        ),
        ("a folder without a name", EVENTS_SOURCE, "source = { directory = '..' }"),
        ("one folder twice", "directory = \"users\"", "directory = './events'"),
        ("one topic name twice", "directory = \"users\"", "directory = 'other/events'"),
        (
            "one topic name of two sources",
            "source = { directory = \"users\" }",
            "source.kafka = { brokers = 'h', topic = 'events' }",
        ),
        ("a PostgreSQL catalog", "sqlite:lake/catalog.db", "postgres://h/db"),
        ("a path as catalog", "sqlite:lake/catalog.db", "lake/catalog.db"),
        ("slashes in front of the catalog", "sqlite:lake/catalog.db", "sqlite:///lake/catalog.db"),
        ("a lake on S3", "\"lake/warehouse\"", "'s3://bucket/lake'"),
        ("a URI without an absolute path", "\"lake/warehouse\"", "'file://lake/warehouse'"),
        ("another scheme", "\"lake/warehouse\"", "'gs://bucket/lake'"),
    ]);
    insta::assert_snapshot!("places", text);
}

#[test]
fn a_secret_is_in_no_report() {
    let mut places = 0;
    let mut rest = 0;
    while let Some(start) = SUBSCRIPTIONS[rest..].find('"').map(|at| rest + at) {
        let end = start + 1 + SUBSCRIPTIONS[start + 1..].find('"').unwrap() + 1;
        rest = end;
        let text = [&SUBSCRIPTIONS[..start], "'${env:SECRET}'", &SUBSCRIPTIONS[end..]].concat();
        if let Err(error) = job(&text) {
            places += 1;
            for report in [error.to_string(), format!("{error:?}"), error.render(true)] {
                assert!(!report.contains("hunter2"), "{report}");
            }
            for mistake in error.mistakes() {
                assert!(!format!("{mistake:?}{mistake}").contains(SECRET));
            }
        }
    }
    assert!(places > 20, "{places} places");
}

#[test]
fn no_text_makes_it_panic_and_every_report_names_the_file() {
    let ends = SUBSCRIPTIONS.char_indices().map(|(end, _)| SUBSCRIPTIONS[..end].to_owned());
    let holes = SUBSCRIPTIONS
        .char_indices()
        .map(|(at, char)| [&SUBSCRIPTIONS[..at], &SUBSCRIPTIONS[at + char.len_utf8()..]].concat());
    for text in ends.chain(holes) {
        if let Err(error) = job(&text) {
            assert!(error.to_string().contains("[subscriptions.toml:"), "{text}\n{error}");
        }
    }
}
