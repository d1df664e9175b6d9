//! What the tables must hold for the records below a cut: section by section the definitions of the
//! documentation, computed one after the other with ordered maps.

use std::collections::{BTreeMap, BTreeSet};

use super::super::tables::{Cell, Cut, Row};
use super::log::{Decoded, Event, Record, Version};
use super::spec::{Aggregate, DIMENSION_COLUMNS, Funnel, Measure, Spec};

/// The answers at a cut.
#[derive(Debug)]
pub struct Answers<'r> {
    /// For every id its copies, in the order of partition and offset.
    pub copies: BTreeMap<&'r str, Vec<(&'r Record, &'r Event)>>,
    /// For every key its newest version, deleted or not.
    pub dimension: BTreeMap<&'r str, &'r Version>,
    /// The rows of every current table, without `_commit`.
    pub current: BTreeMap<String, BTreeSet<Row>>,
}

impl<'r> Answers<'r> {
    /// The answers of `spec` for the records below `cut`.
    pub fn at(spec: &Spec, records: &'r [Record], cut: &Cut) -> Self {
        let mut copies: BTreeMap<&str, Vec<(&Record, &Event)>> = BTreeMap::new();
        let mut dimension = BTreeMap::new();
        for record in records.iter().filter(|record| record.is_below(cut)) {
            match &record.decoded {
                Ok(Decoded::Event(event)) => {
                    copies.entry(&event.id).or_default().push((record, event));
                }
                // Records come in the order of partition and offset: the greatest stays.
                Ok(Decoded::Version(version)) => {
                    dimension.insert(version.key.as_str(), version);
                }
                Err(_) => {}
            }
        }
        let mut answers = Answers { copies, dimension, current: BTreeMap::new() };
        for aggregate in &spec.aggregates {
            let rows = answers.aggregate(aggregate);
            answers.current.insert(aggregate.name.clone(), rows);
        }
        for funnel in &spec.funnels {
            let rows = answers.funnel(funnel);
            answers.current.insert(funnel.name.clone(), rows);
        }
        answers
    }

    /// The content of the event of each id. Histories are made so that the first copy in every partition is
    /// the same.
    pub fn events(&self) -> impl Iterator<Item = &'r Event> {
        self.copies.values().map(|copies| copies[0].1)
    }

    fn group(&self, event: Option<&Event>, user: &str, columns: &[&'static str]) -> Row {
        let version = self.dimension.get(user);
        let cell = |column: &&'static str| {
            let cell = if DIMENSION_COLUMNS.contains(column) {
                version.map_or(Cell::Null, |version| version.columns[column].clone())
            } else {
                event.map_or(Cell::Null, |event| event.columns[column].clone())
            };
            ((*column).to_owned(), cell)
        };
        columns.iter().map(cell).collect()
    }

    fn aggregate(&self, spec: &Aggregate) -> BTreeSet<Row> {
        let mut groups: BTreeMap<Row, Vec<&Event>> = BTreeMap::new();
        for event in self.events() {
            let mut group = self.group(Some(event), &event.user, &spec.group_by);
            if let Some(width) = spec.window_us {
                let start = event.time.div_euclid(width) * width;
                group.insert("window_start".to_owned(), start.into());
            }
            groups.entry(group).or_default().push(event);
        }
        let rows = groups.into_iter().map(|(mut row, events)| {
            for (name, measure) in &spec.measures {
                row.insert((*name).to_owned(), measured(*measure, &events));
            }
            row
        });
        rows.collect()
    }

    fn funnel(&self, spec: &Funnel) -> BTreeSet<Row> {
        let mut users: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in self.events() {
            users.entry(&event.user).or_default().push(event);
        }
        let mut counts: BTreeMap<Row, i64> = BTreeMap::new();
        for (user, events) in users {
            for step in 0..steps_reached(spec, &events) {
                let mut row = self.group(None, user, &spec.group_by);
                row.insert("step".to_owned(), Cell::from(step as i64 + 1));
                row.insert("step_name".to_owned(), Cell::text(spec.steps[step]));
                *counts.entry(row).or_default() += 1;
            }
        }
        let rows = counts.into_iter().map(|(mut row, users)| {
            row.insert("users".to_owned(), users.into());
            row
        });
        rows.collect()
    }
}

fn measured(measure: Measure, events: &[&Event]) -> Cell {
    match measure {
        Measure::Count => Cell::from(events.len() as i64),
        Measure::Distinct => {
            let users: BTreeSet<&str> = events.iter().map(|event| event.user.as_str()).collect();
            Cell::from(users.len() as i64)
        }
        Measure::Sum(column) => {
            let values = events.iter().filter_map(|event| match &event.columns[column] {
                Cell::Number(value) => Some(*value),
                _ => None,
            });
            values.reduce(|sum, value| sum + value).map_or(Cell::Null, Cell::Number)
        }
    }
}

fn steps_reached(spec: &Funnel, events: &[&Event]) -> usize {
    let (mut first, mut last) = (i64::MIN, i64::MIN);
    for (index, step) in spec.steps.iter().enumerate() {
        let is_step = |event: &&&Event| event.columns["step"] == Cell::text(step);
        let times = events.iter().filter(is_step).map(|event| event.time);
        let Some(time) = times.filter(|time| *time >= last).min() else { return index };
        if index == 0 {
            first = time;
        } else if spec.within_us.is_some_and(|within| time - first > within) {
            return index;
        }
        last = time;
    }
    spec.steps.len()
}
