//! Event time: microseconds since 1970 UTC, and the windows it falls in.

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Start of the window of `size_us` that holds `time_us`; also right before 1970.
pub fn window_start(time_us: i64, size_us: i64) -> i64 {
    time_us.div_euclid(size_us) * size_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_round_down_on_both_sides_of_1970() {
        assert_eq!(window_start(-1, 10), -10);
        assert_eq!(window_start(19, 10), 10);
    }
}
