//! RFC 3339 text and numbers of a unit as microseconds since 1970 UTC.

use super::number::{Excess, scaled};
use crate::job::TimeUnit;
use crate::model::time::DAY_US;

const SECOND_US: i64 = 1_000_000;

/// 1970-01-01T00:00:00Z to before 2200-01-01T00:00:00Z.
pub(super) const EVENT_TIMES: std::ops::Range<i64> = 0..7_258_118_400 * SECOND_US;

/// 0001-01-01T00:00:00Z to before 10000-01-01T00:00:00Z.
pub(super) const COLUMN_TIMES: std::ops::Range<i64> =
    -62_135_596_800 * SECOND_US..253_402_300_800 * SECOND_US;

/// The time that `text` says in RFC 3339; `None` if it is something else.
///
/// `T` and `Z` may be small, a space may stand for the `T`, any offset up to 23:59 is taken. A fraction
/// may have any length; digits finer than a microsecond are cut. The leap second `:60` reads as `:59`.
pub(super) fn rfc3339_us(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (date, rest) = bytes.split_first_chunk::<19>()?;
    if date[4] != b'-' || date[7] != b'-' || date[13] != b':' || date[16] != b':' {
        return None;
    }
    if !matches!(date[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = two(date[0], date[1])? * 100 + two(date[2], date[3])?;
    let days = days_since_1970(year, two(date[5], date[6])?, two(date[8], date[9])?)?;
    let hour = two(date[11], date[12])?;
    let minute = two(date[14], date[15])?;
    let second = two(date[17], date[18])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_us, zone) = fraction_us(rest)?;
    let offset_minutes = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = hours * 60 + minutes;
            if *sign == b'+' { east } else { -east }
        }
        _ => return None,
    };
    let seconds = (hour * 60 + minute - offset_minutes) * 60 + second.min(59);
    Some(days * DAY_US + seconds * SECOND_US + fraction_us)
}

/// The number `text` of `unit`s as microseconds; finer digits are cut. `None` if it is out of all range.
pub(super) fn number_us(text: &str, unit: TimeUnit) -> Option<i64> {
    let (scale, unit_us) = match unit {
        TimeUnit::Seconds => (6, SECOND_US),
        TimeUnit::Milliseconds => (3, 1_000),
        TimeUnit::Microseconds | TimeUnit::Rfc3339 => (0, 1),
    };
    match text.parse::<i64>() {
        Ok(whole) => whole.checked_mul(unit_us),
        Err(_) => i64::try_from(scaled(text, scale, Excess::Cut)?).ok(),
    }
}

/// The microseconds of a fraction, if one stands here, and what follows it.
fn fraction_us(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = bytes.split_first() else {
        return Some((0, bytes));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let (fraction, rest) = digits.split_at(length);
    let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(6);
    let value = padded.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some((value, rest))
}

#[inline(always)]
fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(i64::from(tens) * 10 + i64::from(ones))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` if there is no such date.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    /// Days of a common year before each month, and of the whole year.
    const BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let index = usize::try_from(month - 1).ok().filter(|index| *index < 12)?;
    let length = BEFORE[index + 1] - BEFORE[index] + i64::from(leap && month == 2);
    if day < 1 || day > length {
        return None;
    }
    let past = year - 1;
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    /// Leap days of the years 1 to 1969.
    const LEAP_DAYS_1970: i64 = 477;
    let years = (year - 1970) * 365 + leap_days - LEAP_DAYS_1970;
    Some(years + BEFORE[index] + i64::from(leap && month > 2) + day - 1)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// What jiff makes of a text, after the fraction is cut to the nine digits that it takes.
    fn jiff_us(text: &str) -> Option<i64> {
        Some(text.parse::<Timestamp>().ok()?.as_nanosecond().div_euclid(1000) as i64)
    }

    #[test]
    fn both_ends_of_the_ranges() {
        assert_eq!(rfc3339_us("1970-01-01T00:00:00Z"), Some(EVENT_TIMES.start));
        assert_eq!(rfc3339_us("2199-12-31T23:59:59.9999999Z"), Some(EVENT_TIMES.end - 1));
        assert_eq!(rfc3339_us("0001-01-01T00:00:00Z"), Some(COLUMN_TIMES.start));
        assert_eq!(rfc3339_us("9999-12-31T23:59:59.999999Z"), Some(COLUMN_TIMES.end - 1));
    }

    #[test]
    fn forms_that_mean_the_same() {
        let expected = rfc3339_us("2024-02-29T12:30:05.25Z");
        assert!(expected.is_some());
        for text in [
            "2024-02-29t12:30:05.25z",
            "2024-02-29 12:30:05.250000Z",
            "2024-02-29T12:30:05.2500009999999999999Z",
            "2024-02-29T14:30:05.25+02:00",
            "2024-02-29T03:00:05.25-09:30",
            "2024-03-01T00:30:05.25+12:00",
            "2024-02-29T12:30:05.25-00:00",
        ] {
            assert_eq!(rfc3339_us(text), expected, "{text}");
        }
        assert_eq!(rfc3339_us("2016-12-31T23:59:60Z"), rfc3339_us("2016-12-31T23:59:59Z"));
    }

    #[test]
    fn what_is_not_rfc_3339() {
        for text in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00,5Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Z ",
            " 2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z[UTC]",
            "2O24-01-01T00:00:00Z",
            "+02024-01-01T00:00:00Z",
            "1700000000",
        ] {
            assert_eq!(rfc3339_us(text), None, "{text}");
        }
    }

    #[test]
    fn every_byte_of_a_time_must_be_what_it_is_to_be() {
        let good = "2024-02-29T12:30:05Z";
        for (at, good_byte) in good.bytes().enumerate() {
            for byte in b' '..=b'~' {
                let mut text = good.as_bytes().to_vec();
                text[at] = byte;
                let text = String::from_utf8(text).unwrap();
                let fits = match good_byte {
                    b'0'..=b'9' => byte.is_ascii_digit(),
                    b'T' => matches!(byte, b'T' | b't' | b' '),
                    b'Z' => matches!(byte, b'Z' | b'z'),
                    other => byte == other,
                };
                assert!(fits || rfc3339_us(&text).is_none(), "{text}");
            }
        }
    }

    #[test]
    fn leap_days_are_those_of_the_calendar() {
        for year in 1..=9999_i16 {
            let leap = jiff::civil::Date::new(year, 2, 29).is_ok();
            let read = rfc3339_us(&format!("{year:04}-02-29T00:00:00Z"));
            assert_eq!(read.is_some(), leap, "{year}");
            let march = format!("{year:04}-03-01T00:00:00Z");
            assert_eq!(rfc3339_us(&march), jiff_us(&march), "{march}");
        }
    }

    #[test]
    fn numbers_of_a_unit() {
        assert_eq!(number_us("1700000000", TimeUnit::Seconds), Some(1_700_000_000_000_000));
        assert_eq!(number_us("1700000000.1234567", TimeUnit::Seconds), Some(1_700_000_000_123_456));
        assert_eq!(number_us("1.7e12", TimeUnit::Milliseconds), Some(1_700_000_000_000_000));
        assert_eq!(
            number_us("1700000000000.001", TimeUnit::Milliseconds),
            Some(1_700_000_000_000_001)
        );
        assert_eq!(number_us("17.9", TimeUnit::Microseconds), Some(17));
        assert_eq!(number_us("9223372036854775807", TimeUnit::Seconds), None);
        assert_eq!(number_us("1e30", TimeUnit::Seconds), None);
    }

    proptest! {
        #[test]
        fn agrees_with_jiff_on_written_times(
            second in -62_135_596_800i64..253_402_300_000,
            nano in 0i32..1_000_000_000,
            offset in -1439i32..1440,
            digits in 0usize..10,
        ) {
            let time = Timestamp::new(second, nano).unwrap();
            let zone = jiff::tz::Offset::from_seconds(offset * 60).unwrap();
            let civil = zone.to_datetime(time);
            prop_assume!((0..=9999).contains(&civil.year()));
            let sign = if offset < 0 { '-' } else { '+' };
            let mut fraction = format!(".{nano:09}");
            fraction.truncate(if digits == 0 { 0 } else { digits + 1 });
            let text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{sign}{:02}:{:02}",
                civil.year(), civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second(),
                offset.abs() / 60, offset.abs() % 60,
            );
            prop_assert!(rfc3339_us(&text).is_some());
            prop_assert_eq!(rfc3339_us(&text), jiff_us(&text));
        }

        #[test]
        fn whatever_is_accepted_means_the_same_to_jiff(
            date in "(19|20|00|99)[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ]",
            clock in "[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?",
            zone in "([Zz]|[+-][0-2][0-9]:[0-6][0-9])",
        ) {
            let text = date + &clock + &zone;
            if let Some(time) = rfc3339_us(&text) {
                prop_assert_eq!(Some(time), jiff_us(&text));
            }
        }
    }
}
