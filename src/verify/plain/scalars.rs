//! Numbers and times from their text, exactly.

use jiff::civil::{Date, DateTime, Time};

use crate::job::TimeUnit;

/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;
/// Times are counted from here.
const EPOCH: DateTime = jiff::civil::datetime(1970, 1, 1, 0, 0, 0, 0);

/// A number as its digits, without zeros at either end, and the power of ten of the last of them.
struct Digits {
    negative: bool,
    /// None for zero.
    digits: String,
    power: i64,
}

impl Digits {
    /// The digits of a JSON number.
    fn of(text: &str) -> Digits {
        let unsigned = text.trim_start_matches('-');
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_end_matches('0');
        // No number that a column holds has an exponent beyond this.
        let beyond = if exponent.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
        let exponent = exponent.parse().unwrap_or(beyond).clamp(i64::MIN / 4, i64::MAX / 4);
        let power = exponent - fraction.len() as i64 + (all.len() - digits.len()) as i64;
        let digits = digits.trim_start_matches('0').to_owned();
        Digits { negative: text.starts_with('-'), digits, power }
    }

    /// The number times `10^scale`; digits below one are cut if `cut`. `None` if that is not an integer of
    /// 128 bits.
    fn times(mut self, scale: u8, cut: bool) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = self.power + i64::from(scale);
        if zeros < 0 {
            let kept = usize::try_from(self.digits.len() as i64 + zeros).unwrap_or(0);
            if !cut {
                return None;
            }
            self.digits.truncate(kept);
        }
        let zeros = usize::try_from(zeros).unwrap_or(0);
        if self.digits.len().saturating_add(zeros) > 40 {
            return None;
        }
        self.digits.extend(std::iter::repeat_n('0', zeros));
        let sign = if self.negative { "-" } else { "" };
        let digits = if self.digits.is_empty() { "0" } else { &self.digits };
        format!("{sign}{digits}").parse().ok()
    }
}

/// A JSON number as a long, if its value is one.
pub(super) fn long(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| Digits::of(text).times(0, false)?.try_into().ok())
}

/// A JSON number as the unscaled value of a decimal, if all its digits fit.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let value = Digits::of(text).times(scale, false)?;
    (value.unsigned_abs() < 10_u128.pow(precision.into())).then_some(value)
}

/// A JSON number of `unit`s since 1970 as microseconds, finer digits cut; `None` before 1970 and where it is
/// no long.
pub(super) fn time_of_number(text: &str, unit: TimeUnit) -> Option<i64> {
    let scale = match unit {
        TimeUnit::Seconds => 6,
        TimeUnit::Milliseconds => 3,
        TimeUnit::Microseconds | TimeUnit::Rfc3339 => 0,
    };
    let digits = Digits::of(text);
    if digits.negative && !digits.digits.is_empty() {
        return None;
    }
    digits.times(scale, true)?.try_into().ok()
}

/// RFC 3339 as microseconds since 1970. `T` and `Z` may be small, a space may stand for the `T`; digits finer
/// than a microsecond are cut; the second 60 is read as 59.
pub(super) fn time_of_text(text: &str) -> Option<i64> {
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let (clock, rest) = text.as_bytes().split_at_checked(shape.len())?;
    let fits = |(byte, wanted): (&u8, &u8)| match wanted {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        wanted => byte == wanted,
    };
    if !clock.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i16>().ok();
    let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let date = Date::new(number(0, 4)?, small(5)?, small(8)?).ok()?;
    let second = small(17).filter(|second| *second <= 60)?.min(59);
    let time = Time::new(small(11)?, small(14)?, second, 0).ok()?;
    let (fraction_us, zone) = fraction(rest)?;
    let since = DateTime::from_parts(date, time).duration_since(EPOCH);
    Some((since.as_secs() - offset_seconds(zone)?) * SECOND_US + fraction_us)
}

/// The microseconds of a fraction, if there is one, and what follows.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = digits.split_at(length);
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.is_empty())?;
    format!("{text:0<6}")[..6].parse().ok().map(|micros| (micros, zone))
}

/// How far a zone is east.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    if matches!(zone, b"Z" | b"z") {
        return Some(0);
    }
    let text = std::str::from_utf8(zone).ok().filter(|text| text.len() == 6)?;
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let part = |text: &str, end: i64| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok())?.filter(|value: &i64| *value < end)
    };
    let seconds = (part(hours, 24)? * 60 + part(minutes, 60)?) * 60;
    match zone[0] {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}
