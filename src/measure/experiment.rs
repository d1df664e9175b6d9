//! Experiments: what a change of the input costs a job that has a history, beside computing all of it anew.
//!
//! ```text
//!  base (a world and its lake) ──clone──► work ──change──► run ──┬─► Trial
//!                                           └──► recompute ──────┘
//! ```
//!
//! Every trial begins with the same bytes. Both runs are whole processes of this program, one after the
//! other, and their answers must be the same.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::child::{self, Cost};
use super::median;

/// What happens to the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Users change their region, and take all their events along
    Moves,
    /// Events whose time lies in the history
    Late,
    /// Events whose time comes after it
    New,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 3] = [Change::Moves, Change::Late, Change::New];

    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Change::Moves => "users moved",
            Change::Late => "late events",
            Change::New => "new events",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unit())
    }
}

/// A change applied once.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// What changed.
    pub change: Change,
    /// How many of it.
    pub size: u64,
    /// How many there are: users for [`Change::Moves`], else events.
    pub of: u64,
    /// The run that took the change in.
    pub incremental: Cost,
    /// The run over the whole input with neither tables nor state.
    pub recomputed: Cost,
}

/// The trials of one change and size, at their medians.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// What changed.
    pub change: Change,
    /// How many of it.
    pub size: u64,
    /// `size` as a share of all users or events.
    pub share: f64,
    /// Wall time of the process that took the change in.
    pub seconds: f64,
    /// Wall time of computing all anew.
    pub recompute_seconds: f64,
    /// `recompute_seconds / seconds`, within each trial.
    pub times_faster: f64,
    /// Records that each operator of the dataflow took in.
    pub stage_records: BTreeMap<String, u64>,
    /// What the run did; the same in every trial but for the trailing bytes of compressed files.
    pub work: child::Effort,
}

/// The sizes of a change: 1, 10, 100 and so on, and `largest` at the end.
pub fn sizes(largest: u64) -> Vec<u64> {
    let powers = std::iter::successors(Some(1_u64), |size| size.checked_mul(10));
    let mut sizes: Vec<u64> = powers.take_while(|size| *size < largest).collect();
    sizes.extend((largest > 0).then_some(largest));
    sizes
}

/// The medians of trials, which are all of one change and size.
pub fn point(trials: &[Trial]) -> Option<Point> {
    let first = trials.first()?;
    let of = |value: fn(&Trial) -> f64| median(trials.iter().map(value).collect());
    Some(Point {
        change: first.change,
        size: first.size,
        share: first.size as f64 / first.of.max(1) as f64,
        seconds: of(|trial| trial.incremental.seconds),
        recompute_seconds: of(|trial| trial.recomputed.seconds),
        times_faster: of(|trial| trial.recomputed.seconds / trial.incremental.seconds),
        stage_records: first.incremental.usage.stage_records.clone(),
        work: first.incremental.effort,
    })
}

/// Where computing anew begins to win, given the points of one change by rising size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Crossover {
    /// From this size on, interpolated between two that were tried.
    At(u64),
    /// At the smallest size already.
    Below(u64),
    /// Not at the largest one.
    Above(u64),
}

/// The crossover of one change; None without points.
pub fn crossover(points: &[Point]) -> Option<Crossover> {
    let slower = points.iter().position(|point| point.times_faster <= 1.0);
    let Some(slower) = slower else { return Some(Crossover::Above(points.last()?.size)) };
    let Some(before) = slower.checked_sub(1) else {
        return Some(Crossover::Below(points[slower].size));
    };
    let (a, b) = (&points[before], &points[slower]);
    // Both the size and the ratio are taken as powers: a straight line in the chart.
    let part = a.times_faster.ln() / (a.times_faster.ln() - b.times_faster.ln());
    let size = (a.size as f64).ln() * (1.0 - part) + (b.size as f64).ln() * part;
    Some(Crossover::At(size.exp().round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(ratios: &[f64]) -> Vec<Point> {
        let point = |(power, ratio): (u32, &f64)| Point {
            change: Change::New,
            size: 10_u64.pow(power),
            share: 0.0,
            seconds: 1.0,
            recompute_seconds: *ratio,
            times_faster: *ratio,
            stage_records: BTreeMap::new(),
            work: child::Effort::default(),
        };
        (0..).zip(ratios).map(point).collect()
    }

    #[test]
    fn sizes_are_powers_of_ten_up_to_the_largest() {
        assert_eq!(sizes(2_500), [1, 10, 100, 1_000, 2_500]);
        assert_eq!(sizes(100), [1, 10, 100]);
        assert_eq!((sizes(1), sizes(0)), (vec![1], vec![]));
    }

    #[test]
    fn the_crossover_lies_on_the_line_between_two_points() {
        assert_eq!(crossover(&[]), None);
        assert_eq!(crossover(&points(&[9.0, 3.0])), Some(Crossover::Above(10)));
        assert_eq!(crossover(&points(&[0.5])), Some(Crossover::Below(1)));
        // Half-way between 10 and 100 on a logarithmic scale.
        assert_eq!(crossover(&points(&[50.0, 4.0, 0.25, 0.1])), Some(Crossover::At(32)));
        assert_eq!(crossover(&points(&[50.0, 4.0, 1.0])), Some(Crossover::At(100)));
    }

    #[test]
    fn a_point_is_the_median_of_its_trials() {
        let trial = |seconds: f64, anew: f64| Trial {
            change: Change::Moves,
            size: 10,
            of: 200,
            incremental: Cost { seconds, ..Cost::default() },
            recomputed: Cost { seconds: anew, ..Cost::default() },
        };
        let point = point(&[trial(1.0, 8.0), trial(4.0, 4.0), trial(2.0, 6.0)]).unwrap();
        assert_eq!((point.seconds, point.recompute_seconds, point.times_faster), (2.0, 6.0, 3.0));
        assert_eq!(point.share, 0.05);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
