//! The job of a random history: its aggregates and funnels vary, its columns don't.

use super::super::random::Random;

pub const HOUR_US: i64 = 3_600_000_000;
/// The event columns, in their order.
pub const EVENT_COLUMNS: [&str; 4] = ["step", "os", "amount", "price"];
/// The dimension columns, in their order.
pub const DIMENSION_COLUMNS: [&str; 2] = ["region", "plan"];
const STEPS: [&str; 4] = ["view", "signup", "trial", "paid"];

/// What a measure adds up.
#[derive(Debug, Clone, Copy)]
pub enum Measure {
    Count,
    Distinct,
    Sum(&'static str),
}

#[derive(Debug)]
pub struct Aggregate {
    pub name: String,
    pub group_by: Vec<&'static str>,
    pub window_us: Option<i64>,
    pub measures: Vec<(&'static str, Measure)>,
}

#[derive(Debug)]
pub struct Funnel {
    pub name: String,
    pub group_by: Vec<&'static str>,
    pub steps: Vec<&'static str>,
    pub within_us: Option<i64>,
}

#[derive(Debug)]
pub struct Spec {
    pub aggregates: Vec<Aggregate>,
    pub funnels: Vec<Funnel>,
    pub events: bool,
    pub raw: bool,
    pub leaf_rows: usize,
}

impl Spec {
    pub fn random(random: &mut Random) -> Self {
        let windows = [None, Some(HOUR_US), Some(3 * HOUR_US)];
        let groups: [&[&str]; 7] = [
            &["region", "step"],
            &["step"],
            &["region"],
            &["plan", "os", "region"],
            &[],
            &["os", "amount"],
            &["price", "plan"],
        ];
        let all = [
            ("events", Measure::Count),
            ("people", Measure::Distinct),
            ("total", Measure::Sum("amount")),
            ("paid", Measure::Sum("price")),
        ];
        let aggregate = |index: usize, random: &mut Random| {
            let window_us = if index == 0 { windows[1] } else { *random.pick(&windows) };
            let group_by = if index == 0 { groups[0] } else { random.pick(&groups) }.to_vec();
            let mut measures = all.to_vec();
            while measures.len() > 1 && index > 0 && random.chance(40) {
                measures.remove(random.below(measures.len()));
            }
            Aggregate { name: format!("aggregate{index}"), group_by, window_us, measures }
        };
        let funnel = |index: usize, random: &mut Random| Funnel {
            name: format!("funnel{index}"),
            group_by: random.pick(&[&["region"][..], &[], &["plan", "region"]]).to_vec(),
            steps: STEPS[..random.between(1, 4)].to_vec(),
            within_us: random.pick(&[None, Some(HOUR_US), Some(4 * HOUR_US)]).to_owned(),
        };
        Spec {
            aggregates: (0..random.between(1, 3)).map(|index| aggregate(index, random)).collect(),
            funnels: (0..random.between(0, 2)).map(|index| funnel(index, random)).collect(),
            events: random.chance(85),
            raw: random.chance(25),
            leaf_rows: *random.pick(&[2, 4, 8, 1000]),
        }
    }

    /// A job with all there is.
    pub fn full() -> Self {
        let measures = vec![
            ("events", Measure::Count),
            ("people", Measure::Distinct),
            ("total", Measure::Sum("amount")),
            ("paid", Measure::Sum("price")),
        ];
        let aggregate = |name: &str, group_by: &[&'static str], window_us| Aggregate {
            name: name.to_owned(),
            group_by: group_by.to_vec(),
            window_us,
            measures: measures.clone(),
        };
        let funnel = Funnel {
            name: "path".to_owned(),
            group_by: vec!["region"],
            steps: STEPS.to_vec(),
            within_us: Some(4 * HOUR_US),
        };
        Spec {
            aggregates: vec![
                aggregate("regional", &["region", "step"], Some(HOUR_US)),
                aggregate("plans", &["plan", "os"], None),
            ],
            funnels: vec![funnel],
            events: true,
            raw: true,
            leaf_rows: 8,
        }
    }

    /// The job file.
    pub fn toml(&self) -> String {
        let mut text = format!(
            r#"
[job]
name = "oracle"
[events]
source = {{ directory = "events" }}
id = "/id"
user = "/user"
time = "/ts"
[events.columns]
step = "/step"
os = {{ path = "/device/os", default = "unknown" }}
amount = {{ path = "/amount", type = "long" }}
price = {{ path = "/price", type = "decimal(12,2)" }}
[dimension]
name = "users"
source = {{ directory = "users" }}
key = "/user"
deleted = "/deleted"
[dimension.columns]
region = "/region"
plan = "/plan"
[lake]
catalog = "sqlite:lake/catalog.db"
warehouse = "lake/warehouse"
namespace = "n"
commit_interval = "1h"
events = {}
raw = {}
leaf_rows = {}
keep_snapshots = 100000
"#,
            self.events, self.raw, self.leaf_rows
        );
        for aggregate in &self.aggregates {
            text += &format!(
                "[[aggregate]]\nname = {:?}\ngroup_by = {:?}\n",
                aggregate.name, aggregate.group_by
            );
            text += &duration("window", aggregate.window_us);
            let measures = aggregate.measures.iter().map(|(name, measure)| match measure {
                Measure::Count => format!("{name} = \"count\""),
                Measure::Distinct => format!("{name} = \"distinct\""),
                Measure::Sum(column) => format!("{name} = \"sum({column})\""),
            });
            text += &format!("measures = {{ {} }}\n", measures.collect::<Vec<_>>().join(", "));
        }
        for funnel in &self.funnels {
            text += &format!(
                "[[funnel]]\nname = {:?}\ngroup_by = {:?}\ncolumn = \"step\"\nsteps = {:?}\n",
                funnel.name, funnel.group_by, funnel.steps
            );
            text += &duration("within", funnel.within_us);
        }
        text
    }

    /// The tables that hold current rows.
    pub fn current_tables(&self) -> Vec<&str> {
        let aggregates = self.aggregates.iter().map(|aggregate| aggregate.name.as_str());
        aggregates.chain(self.funnels.iter().map(|funnel| funnel.name.as_str())).collect()
    }
}

fn duration(key: &str, us: Option<i64>) -> String {
    us.map_or_else(String::new, |us| format!("{key} = \"{}h\"\n", us / HOUR_US))
}
