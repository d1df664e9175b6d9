//! Durations of a job file: `7d`, `1h30m`, `200ms`. A day has 24 hours, a week 7 days.

use super::error::Mistake;
use crate::model::time::DAY_US;

/// Units from the greatest to the smallest, in microseconds.
const UNITS: [(&str, i64); 7] = [
    ("w", 7 * DAY_US),
    ("d", DAY_US),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// No duration of a job is longer: a sum of a time and a duration never leaves its range.
const DAYS_MAX: i64 = 36_525;

const FORM: &str = "write it like `7d`, `1h30m`, `10s` or `200ms` (units w, d, h, m, s, ms, us)";

/// The microseconds of a duration greater than zero. `written` is how messages quote it.
pub(super) fn parse(text: &str, written: &str) -> Result<i64, Mistake> {
    let wrong = || Mistake::new(format!("`{written}` is not a duration")).help(FORM);
    let too_long = || Mistake::new(format!("`{written}` is longer than {DAYS_MAX} days"));
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let behind = behind.trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        if number.is_empty() {
            return Err(wrong());
        }
        // Looking only behind the last unit makes every unit smaller than the one before.
        let (_, size) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(*size));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        rest = behind.trim_start();
    }
    match total {
        0 => Err(Mistake::new(format!("`{written}` is no time at all")).help("write more than 0")),
        _ if total > DAYS_MAX * DAY_US => Err(too_long()),
        _ => Ok(total),
    }
}

/// The shortest text that [`parse`] reads as `us`; one text for each duration.
pub(super) fn format(us: i64) -> String {
    let mut rest = us;
    let mut text = String::new();
    for (unit, size) in &UNITS[1..] {
        if rest / size > 0 {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, us, canonical) in [
            ("1h", 3_600_000_000, "1h"),
            ("60m", 3_600_000_000, "1h"),
            ("7d", 7 * DAY_US, "7d"),
            ("2w", 14 * DAY_US, "14d"),
            ("1h30m", 5_400_000_000, "1h30m"),
            ("1d 2 h 3ms", DAY_US + 7_200_003_000, "1d2h3ms"),
            ("200ms", 200_000, "200ms"),
            ("1us", 1, "1us"),
        ] {
            assert_eq!(parse(text, text).unwrap(), us, "{text}");
            assert_eq!(format(us), canonical);
            assert_eq!(parse(canonical, canonical).unwrap(), us);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let bad = ["", "1", "h", "1.5h", "-1h", "1h1h", "1m1h", "1y", "1h30", "0s", "0h0m", "1H"];
        for text in
            bad.into_iter().chain(["99999999999999999999d", "9223372036854775807us", "60000w"])
        {
            assert!(parse(text, text).is_err(), "{text}");
        }
    }
}
