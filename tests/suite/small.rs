//! A small job with something in every table, and lines for it.

use super::fixture::Fixture;

/// The job file; `name` owns tables and state.
pub fn job(name: &str) -> String {
    format!(
        r#"
[job]
name = "{name}"
[events]
source = {{ directory = "events" }}
id = "/id"
user = "/user"
time = "/ts"
[events.columns]
step = "/step"
amount = {{ path = "/amount", type = "long", default = 0 }}
[dimension]
name = "users"
source = {{ directory = "users" }}
key = "/user"
deleted = "/deleted"
[dimension.columns]
region = "/region"
[[aggregate]]
name = "regional"
group_by = ["region", "step"]
window = "1h"
measures = {{ events = "count", users = "distinct", amount = "sum(amount)" }}
[[funnel]]
name = "path"
group_by = ["region"]
column = "step"
steps = ["view", "buy"]
[lake]
catalog = "sqlite:lake/catalog.db"
warehouse = "lake/warehouse"
namespace = "small"
commit_interval = "50ms"
"#
    )
}

/// The folder of the job's state.
pub const STATE: &str = "lake/warehouse/_state/small";

/// An event of 10 users in turn; the id is `e{number}`.
pub fn event(number: usize) -> String {
    let step = if number.is_multiple_of(3) { "buy" } else { "view" };
    let (user, minute) = (number % 10, number % 60);
    let (id, amount) = (format!("e{number}"), number * 10);
    format!(
        "{{\"id\":\"{id}\",\"user\":\"u{user}\",\"ts\":\"2026-01-01T05:{minute:02}:00Z\",\
         \"step\":\"{step}\",\"amount\":{amount}}}\n"
    )
}

/// Events with the ids `from..to` of a letter, all on one day of the year 2026.
pub fn day_of_events(letter: char, from: usize, to: usize, day: usize) -> String {
    let (month, day) = (1 + day / 28, 1 + day % 28);
    let event = |number| {
        format!(
            "{{\"id\":\"{letter}{number}\",\"user\":\"u{}\",\"ts\":\"2026-{month:02}-{day:02}T05:00:00Z\",\
             \"step\":\"view\",\"amount\":1}}\n",
            number % 10
        )
    };
    (from..to).map(event).collect()
}

/// A user's region.
pub fn user(number: usize, region: &str) -> String {
    format!("{{\"user\":\"u{number}\",\"region\":\"{region}\"}}\n")
}

/// The job with 10 users, 40 events in two partitions, two copies and a dead letter, not run yet.
pub fn fixture() -> Fixture {
    let fixture = Fixture::new(&job("small"));
    for number in 0..10 {
        fixture.append("users", 0, user(number, if number < 5 { "north" } else { "south" }));
    }
    for number in 0..40 {
        fixture.append("events", (number % 2) as i32, event(number));
    }
    fixture.append("events", 0, event(0));
    fixture.append("events", 1, event(1).replace("\"amount\":10", "\"amount\":11"));
    fixture.append("events", 1, "not json\n");
    fixture
}
