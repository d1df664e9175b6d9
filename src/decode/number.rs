//! Numbers from their text: never through a float on the way to a long or a decimal.

use super::Reason;
use super::text::Fault;

/// Longer numbers than this may exceed a double without an exponent.
const DIGITS_SAFE: usize = 300;

/// The end of the JSON number that starts at `at`.
///
/// A number beyond a double's range is a fault although the grammar allows it: readers of JSON disagree
/// on it.
#[inline]
pub(super) fn number_end(document: &str, at: usize) -> Result<usize, Fault> {
    let bytes = document.as_bytes();
    let start = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = digits_end(bytes, start);
    if end == start || (bytes[start] == b'0' && end > start + 1) {
        // No digit at all, or one behind a leading zero.
        return Err(Fault::new(Reason::NotJson, if end == start { start } else { start + 1 }));
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits_end(bytes, fraction);
        if end == fraction {
            return Err(Fault::new(Reason::NotJson, end));
        }
    }
    let exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
    if exponent {
        let digits = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits_end(bytes, digits);
        if end == digits {
            return Err(Fault::new(Reason::NotJson, end.min(bytes.len())));
        }
    }
    if (exponent || end - at > DIGITS_SAFE) && !finite(&document[at..end]) {
        return Err(Fault::new(Reason::OutOfRange, at));
    }
    Ok(end)
}

/// Whether all of `text` is a JSON number.
pub(super) fn is_number(text: &str) -> bool {
    number_end(text, 0) == Ok(text.len())
}

#[inline(always)]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

#[cold]
fn finite(number: &str) -> bool {
    number.parse::<f64>().is_ok_and(f64::is_finite)
}

/// What happens to digits below the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// The number can't be held.
    Refused,
    /// They are cut (the number must not be negative).
    Cut,
}

/// The value of the JSON number `text` times `10^scale`, exactly; `None` if that is not an `i128`.
pub(super) fn scaled(text: &str, scale: u8, excess: Excess) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], exponent_value(&unsigned[at + 1..])),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The power of ten, in units of the result, for which the next digit stands.
    let mut place = whole.len() as i64 - 1 + exponent + i64::from(scale);
    let mut value: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte - b'0';
        if place >= 0 {
            value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
        } else if digit != 0 && (excess == Excess::Refused || negative) {
            return None;
        }
        place -= 1;
    }
    let missing_zeros = place + 1;
    if missing_zeros > 0 && value != 0 {
        value = value.checked_mul(10i128.checked_pow(u32::try_from(missing_zeros).ok()?)?)?;
    }
    Some(if negative { -value } else { value })
}

/// The exponent, held within bounds that no representable number leaves.
fn exponent_value(text: &str) -> i64 {
    const BOUND: i64 = 1 << 40;
    let beyond = if text.starts_with('-') { -BOUND } else { BOUND };
    text.parse::<i64>().unwrap_or(beyond).clamp(-BOUND, BOUND)
}

/// The JSON number `text` as a long, if its value is one.
#[inline]
pub(super) fn long(text: &str) -> Option<i64> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => i64::try_from(scaled(text, 0, Excess::Refused)?).ok(),
    }
}

/// The JSON number `text` as the unscaled value of a decimal, if all its digits fit.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let value = scaled(text, scale, Excess::Refused)?;
    (value.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_is_that_of_json() {
        for good in ["0", "-0", "10", "0.5", "-1.25e+10", "1E5", "1e-400", "0e999"] {
            assert!(is_number(good), "{good}");
        }
        for bad in
            ["", "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1_0", "NaN", "- 1", "1 "]
        {
            assert!(!is_number(bad), "{bad}");
        }
        let beyond = |text: &str| number_end(text, 0).map_err(|fault| fault.reason);
        assert_eq!(beyond("1e400"), Err(Reason::OutOfRange));
        assert_eq!(beyond(&"9".repeat(400)), Err(Reason::OutOfRange));
        assert_eq!(beyond("0e999999999999999999999999"), Ok(26));
    }

    #[test]
    fn longs_are_exact_to_the_last_one() {
        assert_eq!(long("9223372036854775807"), Some(i64::MAX));
        assert_eq!(long("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(long("9223372036854775808"), None);
        assert_eq!(long("9007199254740993"), Some(9_007_199_254_740_993));
        assert_eq!(long("5.0"), Some(5));
        assert_eq!(long("1.5e1"), Some(15));
        assert_eq!(long("1e18"), Some(1_000_000_000_000_000_000));
        assert_eq!(long("1e19"), None);
        assert_eq!(long("5.5"), None);
        assert_eq!(long("-0"), Some(0));
        assert_eq!(long("0e999"), Some(0));
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(decimal("12.50", 10, 2), Some(1250));
        assert_eq!(decimal("12.500", 10, 2), Some(1250));
        assert_eq!(decimal("12.505", 10, 2), None);
        assert_eq!(decimal("-0.01", 10, 2), Some(-1));
        assert_eq!(decimal("1e3", 10, 2), Some(100_000));
        assert_eq!(decimal("99999999.99", 10, 2), Some(9_999_999_999));
        assert_eq!(decimal("100000000", 10, 2), None);
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal(&format!("1{}", "0".repeat(38)), 38, 0), None);
        assert_eq!(decimal(&format!("1.{}", "0".repeat(90)), 38, 0), Some(1));
        assert_eq!(decimal("1e-99999999999999999999", 38, 10), None);
    }

    #[test]
    fn excess_digits_are_cut_where_that_is_asked_for() {
        assert_eq!(scaled("1.1234567", 6, Excess::Cut), Some(1_123_456));
        assert_eq!(scaled(&format!("1.{}", "7".repeat(80)), 3, Excess::Cut), Some(1_777));
        assert_eq!(scaled("-0.0000001", 6, Excess::Cut), None);
        assert_eq!(scaled("7e-99999999999999999999", 6, Excess::Cut), Some(0));
        assert_eq!(scaled("7e99999999999999999999", 6, Excess::Cut), None);
    }

    proptest! {
        #[test]
        fn a_scaled_number_is_its_digits(unscaled in any::<i64>(), scale in 0u8..12, shift in -5i64..5) {
            let digits = unscaled.unsigned_abs().to_string();
            let digits = format!("{digits:0>width$}", width = usize::from(scale) + 1);
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
            let point = if fraction.is_empty() { "" } else { "." };
            let sign = if unscaled < 0 { "-" } else { "" };
            // 12.34e2 at scale 0 is 12.34 at scale 2.
            let text = format!("{sign}{whole}{point}{fraction}e{shift}");
            let at = i64::from(scale) - shift;
            if let Ok(at) = u8::try_from(at) {
                prop_assert_eq!(scaled(&text, at, Excess::Refused), Some(i128::from(unscaled)));
            }
        }
    }
}
