//! Measuring: this program is run as processes of its own, and what they cost is told in tables and
//! charts.
//!
//! * [`sweep`]: one setting at a time is changed, for throughput (`tidewater bench`);
//! * [`experiment`], [`place`]: changes of all sizes beside computing everything anew (`tidewater
//!   experiment`).

pub mod chart;
pub mod child;
pub mod experiment;
pub mod place;
pub mod sweep;

/// The middle of some numbers; there must be one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
