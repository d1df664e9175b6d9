//! The values of the options of `tidewater generate`.

use anyhow::Context;

/// Milliseconds since 1970 of an RFC 3339 time.
pub(super) fn parse_time(text: &str) -> anyhow::Result<i64> {
    let time: jiff::Timestamp =
        text.parse().with_context(|| format!("--start: {text} is no RFC 3339 time"))?;
    Ok(time.as_millisecond())
}

/// Milliseconds of a span such as `30d` or `1h 30m`; days have 24 hours.
pub(super) fn span_ms(text: &str) -> Result<i64, String> {
    let span: jiff::Span = text.parse().map_err(|error| format!("{error}"))?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days).map_err(|error| format!("{error}"))?;
    i64::try_from(duration.as_millis()).map_err(|_| "is too long".to_owned())
}

/// A number with `_` between digits and perhaps `k` or `M` behind it.
pub(in crate::cli) fn count(text: &str) -> Result<u64, String> {
    let plain = text.replace('_', "");
    let (digits, unit) = match plain.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => plain.strip_suffix(['m', 'M']).map_or((plain.as_str(), 1), |d| (d, 1_000_000)),
    };
    let number: u64 =
        digits.parse().map_err(|_| "is no number such as 1000, 20k or 5M".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "is too large".to_owned())
}

/// A count that is not 0.
pub(in crate::cli) fn positive(text: &str) -> Result<u64, String> {
    match count(text)? {
        0 => Err("must be at least 1".to_owned()),
        number => Ok(number),
    }
}

/// `NAME=VALUE`.
pub(super) fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not of the form NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_units_and_underscores() {
        assert_eq!(count("1_000"), Ok(1_000));
        assert_eq!(count("20k"), Ok(20_000));
        assert_eq!(count("5M"), Ok(5_000_000));
        assert!(count("many").is_err() && count("-1").is_err() && positive("0").is_err());
        assert!(count("99999999999999999999").is_err() && count("9999999999999999M").is_err());
    }

    #[test]
    fn spans_and_times_are_read_as_written() {
        assert_eq!(span_ms("30d"), Ok(2_592_000_000));
        assert_eq!(span_ms("1h 30m"), Ok(5_400_000));
        assert!(span_ms("1 fortnight").is_err());
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00").unwrap(), 0);
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn an_option_keeps_what_follows_the_first_equals_sign() {
        let read = option("sasl.password=a=b").unwrap();
        assert_eq!(read, ("sasl.password".to_owned(), "a=b".to_owned()));
        assert!(option("=x").is_err() && option("x").is_err());
    }
}
