//! The small languages inside strings of a job file: names, JSON pointers, column types, measures, defaults.
//!
//! Messages quote [`Text::written`], never the value behind a reference.

use jiff::Timestamp;

use super::Pointer;
use super::error::Mistake;
use super::read::{Literal, Text};
use crate::model::{ColumnType, Value};

/// Names become parts of file names, with more behind them.
const NAME_LENGTH_MAX: usize = 100;

/// Most digits of a decimal.
const PRECISION_MAX: u8 = 38;

/// Is `name` a letter followed by letters, digits and `_`?
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= NAME_LENGTH_MAX
}

/// Checks the name of something: `what` is "the job", "a column".
pub(super) fn name(what: &str, text: &Text) -> Result<String, Mistake> {
    if is_name(&text.value) {
        return Ok(text.value.clone());
    }
    let message = format!("`{}` can't be the name of {what}", text.written);
    let mistake = Mistake::new(message).at(text.span.clone());
    Err(match text.value.starts_with('_') {
        true => mistake.help("names with a leading `_` are tidewater's own"),
        false => mistake.help(format!(
            "a name is a letter followed by letters, digits and `_`, at most {NAME_LENGTH_MAX}"
        )),
    })
}

/// A JSON pointer (RFC 6901) to a part of the document.
pub(super) fn pointer(text: &Text) -> Result<Pointer, Mistake> {
    let wrong = |message: String| Mistake::new(message).at(text.span.clone());
    let Some(path) = text.value.strip_prefix('/') else {
        let mistake =
            wrong(format!("`{}` is no JSON pointer: it must start with `/`", text.written));
        let plain = text.written.trim_start_matches(['$', '.']);
        return Err(match plain.is_empty() || plain.contains(['{', '[']) {
            true => mistake.help("write it like `/user_id` or `/device/os`"),
            false => mistake.help(format!("did you mean `/{}`?", plain.replace('.', "/"))),
        });
    };
    let unescape = |token: &str| {
        let valid = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        valid.then(|| token.replace("~1", "/").replace("~0", "~"))
    };
    let tokens = path.split('/').map(unescape).collect::<Option<Vec<_>>>();
    tokens.map(Pointer).ok_or_else(|| {
        wrong(format!("`{}` is no JSON pointer: `~` stands alone", text.written))
            .help("write `~0` for `~` and `~1` for `/`")
    })
}

/// The type of a column.
pub(super) fn column_type(text: &Text) -> Result<ColumnType, Mistake> {
    const KNOWN: [&str; 5] = ["string", "long", "decimal(p,s)", "boolean", "timestamp"];
    let wrong = |message: String| Mistake::new(message).at(text.span.clone());
    match &*text.value {
        "string" => return Ok(ColumnType::String),
        "long" => return Ok(ColumnType::Long),
        "boolean" => return Ok(ColumnType::Boolean),
        "timestamp" => return Ok(ColumnType::Timestamp),
        _ => {}
    }
    let arguments = text.value.strip_prefix("decimal").map(str::trim);
    if let Some(arguments) = arguments {
        let form = || {
            wrong(format!("`{}` lacks precision and scale", text.written))
                .help("write `decimal(12,2)` for 12 digits, 2 of them behind the point")
        };
        let inner = arguments.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let (precision, scale) = inner.and_then(|inner| inner.split_once(',')).ok_or_else(form)?;
        let precision: u8 = precision.trim().parse().map_err(|_| form())?;
        let scale: u8 = scale.trim().parse().map_err(|_| form())?;
        if precision == 0 || precision > PRECISION_MAX || scale > precision {
            let message = format!("`{}` is out of range", text.written);
            let help =
                format!("the precision is 1 to {PRECISION_MAX}, the scale 0 to the precision");
            return Err(wrong(message).help(help));
        }
        return Ok(ColumnType::Decimal { precision, scale });
    }
    let mistake = wrong(format!("unknown type `{}`", text.written));
    Err(match &*text.value {
        "float" | "double" | "real" | "number" => {
            mistake.help("sums are exact, so there are no floats: write `decimal(p,s)` or `long`")
        }
        "int" | "integer" | "bigint" | "int64" => mistake.help("did you mean `long`?"),
        "bool" => mistake.help("did you mean `boolean`?"),
        "text" | "varchar" => mistake.help("did you mean `string`?"),
        _ => mistake.suggest("types", &text.written, &KNOWN),
    })
}

/// What a measure says, before its column is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MeasureText {
    Count,
    Distinct,
    Sum(String),
}

/// `count`, `distinct` or `sum(column)`.
pub(super) fn measure(text: &Text) -> Result<MeasureText, Mistake> {
    match text.value.trim() {
        "count" => return Ok(MeasureText::Count),
        "distinct" => return Ok(MeasureText::Distinct),
        _ => {}
    }
    let sum = text.value.trim().strip_prefix("sum").map(str::trim);
    let column =
        sum.and_then(|rest| rest.strip_prefix('(')).and_then(|rest| rest.strip_suffix(')'));
    if let Some(column) = column.map(str::trim).filter(|column| !column.is_empty()) {
        return Ok(MeasureText::Sum(column.to_owned()));
    }
    let word = text.written.split('(').next().unwrap_or_default().trim().to_owned();
    let mistake = Mistake::new(format!("unknown measure `{}`", text.written)).at(text.span.clone());
    Err(match &*word {
        "count" | "distinct" => mistake.help(format!(
            "write `{word}` alone: `count` counts events, `distinct` counts distinct users"
        )),
        "sum" => mistake.help("write `sum(column)` with a long or decimal column of the events"),
        _ => mistake.suggest("measures", &word, &["count", "distinct", "sum(column)"]),
    })
}

/// The default of a column, as a value of the column's type.
pub(super) fn default(kind: ColumnType, literal: &Literal) -> Result<Value, Mistake> {
    let wrong = || {
        let message = format!("the default of a {kind} column can't be {}", literal.kind());
        Mistake::new(message).help(match kind {
            ColumnType::String => "write it in quotes",
            ColumnType::Long => "write a whole number without quotes",
            ColumnType::Decimal { .. } => "write a number, or a number in quotes",
            ColumnType::Boolean => "write true or false without quotes",
            ColumnType::Timestamp => "write an RFC 3339 time such as `2024-05-01T12:00:00Z`",
        })
    };
    match (kind, literal) {
        (ColumnType::String, Literal::Text(text)) => Ok(Value::String(text.value.as_str().into())),
        (ColumnType::Boolean, Literal::Boolean(value)) => Ok(Value::Boolean(*value)),
        (ColumnType::Long, Literal::Integer(value)) => i64::try_from(*value)
            .map(Value::Long)
            .map_err(|_| Mistake::new(format!("the default {value} is outside of a long's range"))),
        (ColumnType::Decimal { precision, scale }, _) => {
            let (digits, written) = match literal {
                Literal::Text(text) => (text.value.clone(), text.written.clone()),
                Literal::Integer(value) => (value.to_string(), value.to_string()),
                Literal::Float(value) => (value.clone(), value.clone()),
                Literal::Boolean(_) | Literal::Datetime(_) => return Err(wrong()),
            };
            decimal(&digits, precision, scale).map(Value::Decimal).ok_or_else(|| {
                Mistake::new(format!("the default `{written}` is no exact {kind}")).help(format!(
                    "at most {} digits before the point and {scale} behind it",
                    precision - scale
                ))
            })
        }
        (ColumnType::Timestamp, Literal::Text(text)) => timestamp(&text.value, &text.written),
        (ColumnType::Timestamp, Literal::Datetime(text)) => timestamp(text, text),
        _ => Err(wrong()),
    }
}

fn timestamp(text: &str, written: &str) -> Result<Value, Mistake> {
    let wrong = |why: &str| {
        Mistake::new(format!("the default `{written}` is no RFC 3339 time{why}"))
            .help("write it like `2024-05-01T12:00:00Z` or `2024-05-01T14:00:00+02:00`")
    };
    let timestamp: Timestamp = text.parse().map_err(|_| wrong(" with an offset"))?;
    match timestamp.subsec_nanosecond() % 1_000 {
        0 => Ok(Value::Timestamp(timestamp.as_microsecond())),
        _ => Err(wrong(" in whole microseconds")),
    }
}

/// The unscaled value of a decimal written as text; `None` unless it is exactly that decimal.
fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // The value is `digits · 10^shift` in units of the last place.
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(fraction.len() as i32)?;
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = (digits.len() - digits.trim_end_matches('0').len()) as i32;
    let power = usize::try_from(shift.checked_add(zeros)?).ok()?;
    if significant.len().checked_add(power)? > usize::from(precision) {
        return None;
    }
    let value: i128 = format!("{significant}{}", "0".repeat(power)).parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Text {
        Text { value: value.into(), written: value.into(), span: 0..0 }
    }

    #[test]
    fn names_are_letters_digits_and_underscores() {
        for good in ["a", "A1", "regional_2024", &"x".repeat(100)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "_a", "a-b", "a.b", "ä", "a b", &"x".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn pointers_are_unescaped() {
        let tokens = |value: &str| pointer(&text(value)).map(|pointer| pointer.0).ok();
        assert_eq!(tokens("/device/os"), Some(vec!["device".into(), "os".into()]));
        assert_eq!(tokens("/a~1b/~01"), Some(vec!["a/b".into(), "~1".into()]));
        assert_eq!(tokens("/"), Some(vec![String::new()]));
        assert_eq!(tokens(""), None);
        assert_eq!(tokens("a"), None);
        assert_eq!(tokens("/a~2"), None);
        assert_eq!(tokens("/a~"), None);
    }

    #[test]
    fn types_and_measures_are_read() {
        let decimal = ColumnType::Decimal { precision: 12, scale: 2 };
        assert_eq!(column_type(&text("decimal(12,2)")).ok(), Some(decimal));
        assert_eq!(column_type(&text("decimal (12, 2)")).ok(), Some(decimal));
        for bad in
            ["decimal", "decimal(39,2)", "decimal(0,0)", "decimal(3,4)", "decimal(3)", "Long"]
        {
            assert!(column_type(&text(bad)).is_err(), "{bad}");
        }
        assert_eq!(measure(&text("sum( amount )")).ok(), Some(MeasureText::Sum("amount".into())));
        for bad in ["sum", "sum()", "count(*)", "avg(x)", ""] {
            assert!(measure(&text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        for (text, value) in [
            ("12.34", Some(1234)),
            ("-0.5", Some(-50)),
            ("12.3400", Some(1234)),
            ("1e2", Some(10_000)),
            ("120e-1", Some(1200)),
            ("0.000", Some(0)),
            ("0e-99", Some(0)),
            ("+7", Some(700)),
            (".5", Some(50)),
            ("999.99", Some(99_999)),
            ("1000", None),
            ("0.001", None),
            ("1e999999999", None),
            ("nan", None),
            ("inf", None),
            ("", None),
            ("-", None),
            ("1.2.3", None),
            ("--1", None),
        ] {
            assert_eq!(decimal(text, 5, 2), value, "{text}");
        }
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal(&"9".repeat(39), 38, 0), None);
    }

    #[test]
    fn defaults_are_of_the_columns_type() {
        let of = |kind, literal| default(kind, &literal).ok();
        let noon = Value::Timestamp(1_714_564_800_000_000);
        let time = |value: &str| Literal::Text(text(value));
        assert_eq!(of(ColumnType::Long, Literal::Integer(-3)), Some(Value::Long(-3)));
        assert_eq!(of(ColumnType::Long, Literal::Integer(1 << 63)), None);
        assert_eq!(of(ColumnType::Long, Literal::Float("1.0".into())), None);
        assert_eq!(of(ColumnType::String, time("x")), Some(Value::String("x".into())));
        assert_eq!(of(ColumnType::String, Literal::Integer(1)), None);
        assert_eq!(of(ColumnType::Boolean, Literal::Boolean(true)), Some(Value::Boolean(true)));
        assert_eq!(of(ColumnType::Timestamp, time("2024-05-01T12:00:00Z")), Some(noon.clone()));
        assert_eq!(
            of(ColumnType::Timestamp, time("2024-05-01T14:00:00+02:00")),
            Some(noon.clone())
        );
        let datetime = Literal::Datetime("2024-05-01T12:00:00Z".into());
        assert_eq!(of(ColumnType::Timestamp, datetime), Some(noon));
        assert_eq!(of(ColumnType::Timestamp, Literal::Datetime("2024-05-01".into())), None);
        assert_eq!(of(ColumnType::Timestamp, time("2024-05-01T12:00:00.0000001Z")), None);
    }
}
