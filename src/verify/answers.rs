//! What the current tables must hold at a commit, computed from everything that happened, from the beginning.
//!
//! A plain loop over all events, once for each table. It knows nothing of stages, of state or of what was
//! computed before.

use hashbrown::{HashMap, HashSet};

use super::VerifyError;
use super::history::{History, ValueId, Version};
use crate::job::{AggregateSpec, FunnelSpec, GroupColumn, Job, MeasureKind, Side};
use crate::model::{ColumnType, Value};

/// The rows of a current table: measures by key, each in the order of the table's columns.
pub(crate) type Rows = HashMap<Vec<Value>, Vec<Value>>;

/// The records of a job as they stand at a commit.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    history: &'a History,
    commit: u64,
    dimension: Vec<Option<&'a Version>>,
}

/// A group being measured.
#[derive(Debug, Clone, Default)]
struct Measured {
    events: i64,
    users: i64,
    /// For every summed column the sum, and how many values it is of.
    sums: Vec<(i128, u64)>,
}

impl<'a> Moment<'a> {
    /// The records at `commit`.
    pub(crate) fn new(history: &'a History, commit: u64) -> Self {
        Moment { history, commit, dimension: history.dimension(commit) }
    }

    /// The events that count, as indexes.
    pub(crate) fn events(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.history.events.iter().enumerate();
        all.filter(|(_, event)| event.commit <= self.commit).map(|(index, _)| index)
    }

    /// The value of a group column for an event.
    fn group_value(&self, event: usize, column: &GroupColumn) -> ValueId {
        match column.side {
            Side::Event(index) => self.history.cell(event, index),
            Side::Dimension(index) => self.of_user(self.history.events[event].user, index),
        }
    }

    fn of_user(&self, user: ValueId, column: usize) -> ValueId {
        let version = self.dimension.get(user as usize).copied().flatten();
        let columns = version.and_then(|version| version.columns.as_ref());
        columns.map_or(0, |columns| columns[column])
    }

    /// The key of an event in an aggregate: the window's start, if there are windows, and the groups.
    fn key(&self, spec: &AggregateSpec, event: usize, key: &mut Vec<i64>) {
        key.clear();
        let time = self.history.events[event].time;
        key.extend(spec.window_us.map(|window| time.div_euclid(window) * window));
        key.extend(spec.group_by.iter().map(|column| i64::from(self.group_value(event, column))));
    }

    fn key_values(&self, spec: &AggregateSpec, key: &[i64]) -> Vec<Value> {
        let (window, groups) = key.split_at(usize::from(spec.window_us.is_some()));
        let windows = window.iter().map(|start| Value::Timestamp(*start));
        let groups = groups.iter().map(|id| self.history.values.get(*id as ValueId).clone());
        windows.chain(groups).collect()
    }

    /// The rows of an aggregate.
    pub(crate) fn aggregate(&self, job: &Job, spec: &AggregateSpec) -> Result<Rows, VerifyError> {
        let summed = spec.measures.iter().filter_map(|measure| match measure.kind {
            MeasureKind::Sum(column) => Some(column),
            MeasureKind::Count | MeasureKind::Distinct => None,
        });
        let summed: Vec<usize> = summed.collect();
        let mut numbers: HashMap<Vec<i64>, usize> = HashMap::new();
        let mut groups: Vec<Measured> = Vec::new();
        let mut met: HashSet<(usize, ValueId)> = HashSet::new();
        let mut key = Vec::new();
        for event in self.events() {
            self.key(spec, event, &mut key);
            let group = match numbers.get(&key) {
                Some(group) => *group,
                None => {
                    numbers.insert(key.clone(), groups.len());
                    groups
                        .push(Measured { sums: vec![(0, 0); summed.len()], ..Measured::default() });
                    groups.len() - 1
                }
            };
            let measured = &mut groups[group];
            measured.events += 1;
            measured.users += i64::from(met.insert((group, self.history.events[event].user)));
            for (column, (sum, values)) in summed.iter().zip(&mut measured.sums) {
                let number = match self.history.values.get(self.history.cell(event, *column)) {
                    Value::Long(number) => i128::from(*number),
                    Value::Decimal(number) => *number,
                    _ => continue,
                };
                let name = || job.events.columns[*column].name.clone();
                *sum =
                    sum.checked_add(number).ok_or_else(|| VerifyError::Sum { column: name() })?;
                *values += 1;
            }
        }
        let rows = numbers
            .into_iter()
            .map(|(key, group)| (self.key_values(spec, &key), measures(job, spec, &groups[group])));
        Ok(rows.collect())
    }

    /// The rows of a funnel.
    pub(crate) fn funnel(&self, spec: &FunnelSpec) -> Rows {
        let steps: Vec<Option<ValueId>> =
            spec.steps.iter().map(|step| self.history.values.find_text(step)).collect();
        let mut of_user: HashMap<ValueId, Vec<(i64, usize)>> = HashMap::new();
        for event in self.events() {
            let value = self.history.cell(event, spec.column);
            if let Some(step) = steps.iter().position(|step| *step == Some(value)) {
                let event = &self.history.events[event];
                of_user.entry(event.user).or_default().push((event.time, step));
            }
        }
        let mut users: HashMap<(Vec<ValueId>, usize), i64> = HashMap::new();
        for (user, times) in of_user {
            for step in 0..reached(&times, spec.steps.len(), spec.within_us) {
                *users.entry((self.funnel_group(spec, user), step)).or_default() += 1;
            }
        }
        let value = |id: &ValueId| self.history.values.get(*id).clone();
        let rows = users.into_iter().map(|((group, step), users)| {
            let mut key: Vec<Value> = group.iter().map(value).collect();
            key.push(Value::Long(step as i64 + 1));
            (key, vec![Value::String(spec.steps[step].as_str().into()), Value::Long(users)])
        });
        rows.collect()
    }

    fn funnel_group(&self, spec: &FunnelSpec, user: ValueId) -> Vec<ValueId> {
        let column = |column: &GroupColumn| match column.side {
            Side::Dimension(index) => self.of_user(user, index),
            Side::Event(_) => 0,
        };
        spec.group_by.iter().map(column).collect()
    }

    /// The events behind the row of an aggregate with this key.
    pub(crate) fn behind_aggregate(&self, spec: &AggregateSpec, wanted: &[Value]) -> Vec<usize> {
        let mut key = Vec::new();
        let is_behind = |event: &usize| {
            self.key(spec, *event, &mut key);
            self.key_values(spec, &key) == wanted
        };
        self.events().filter(is_behind).collect()
    }

    /// The events behind the row of a funnel with this key: those of its step, of users in its group.
    pub(crate) fn behind_funnel(&self, spec: &FunnelSpec, wanted: &[Value]) -> Vec<usize> {
        let Some((Value::Long(step), group)) = wanted.split_last() else { return Vec::new() };
        let step = usize::try_from(*step - 1).ok().and_then(|step| spec.steps.get(step));
        let Some(step) = step.and_then(|step| self.history.values.find_text(step)) else {
            return Vec::new();
        };
        let is_behind = |event: &usize| {
            let user = self.history.events[*event].user;
            let ids = self.funnel_group(spec, user);
            self.history.cell(*event, spec.column) == step
                && ids.iter().map(|id| self.history.values.get(*id)).eq(group)
        };
        self.events().filter(is_behind).collect()
    }
}

/// How many steps a user has reached: the earliest path through the events, given as (time, step).
fn reached(events: &[(i64, usize)], steps: usize, within_us: Option<i64>) -> usize {
    let earliest = |step: usize, from: i64, until: i64| {
        let times = events.iter().filter(|(_, of)| *of == step).map(|(time, _)| *time);
        times.filter(|time| (from..=until).contains(time)).min()
    };
    let Some(first) = earliest(0, i64::MIN, i64::MAX) else { return 0 };
    let until = within_us.map_or(i64::MAX, |within| first.saturating_add(within));
    let mut at = first;
    for step in 1..steps {
        match earliest(step, at, until) {
            Some(time) => at = time,
            None => return step,
        }
    }
    steps
}

fn measures(job: &Job, spec: &AggregateSpec, group: &Measured) -> Vec<Value> {
    let mut sums = group.sums.iter();
    let mut measure = |kind: MeasureKind| match kind {
        MeasureKind::Count => Value::Long(group.events),
        MeasureKind::Distinct => Value::Long(group.users),
        MeasureKind::Sum(column) => match sums.next() {
            Some((sum, values)) if *values > 0 => sum_value(job.events.columns[column].kind, *sum),
            _ => Value::Null,
        },
    };
    spec.measures.iter().map(|of| measure(of.kind)).collect()
}

/// A sum in the type of its column; one that can't be stands as a decimal, which equals no row.
fn sum_value(kind: ColumnType, sum: i128) -> Value {
    match (kind, i64::try_from(sum)) {
        (ColumnType::Long, Ok(sum)) => Value::Long(sum),
        _ => Value::Decimal(sum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_path_is_taken_and_the_bound_counts_from_the_first_step() {
        let events = [(10, 0), (5, 1), (12, 1), (30, 2), (11, 2)];
        assert_eq!(reached(&events, 3, None), 3);
        assert_eq!(reached(&events, 3, Some(20)), 3);
        assert_eq!(reached(&events, 3, Some(19)), 2);
        assert_eq!(reached(&events[..2], 3, None), 1, "a step before the first one does not count");
        assert_eq!(reached(&events[1..], 3, None), 0);
        assert_eq!(reached(&[(7, 0), (7, 1)], 2, Some(0)), 2, "at the same time is in order");
    }
}
