//! One record: its required fields, then its columns, in the order of the job file. What is wrong first is
//! why it is refused.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_128;

use super::json::{self, Json};
use super::scalars::{decimal, long, time_of_number, time_of_text};
use super::{Cell, Decoded, Meaning, RECORD_BYTES_MAX, Refused, What};
use crate::job::{Column, DimensionSpec, EventsSpec, Pointer, TimeUnit};
use crate::model::{ColumnType, Value};

/// Times of events: the years 1970 to 2199.
static EVENT_TIMES: LazyLock<RangeInclusive<i64>> =
    LazyLock::new(|| between("1970-01-01T00:00:00Z", "2199-12-31T23:59:59.999999Z"));
/// Times of columns: the years 1 to 9999.
static COLUMN_TIMES: LazyLock<RangeInclusive<i64>> =
    LazyLock::new(|| between("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"));

/// Reads a record and appends its cells.
pub(super) fn read(
    meaning: Meaning<'_>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    out: &mut Decoded,
) -> Result<What, Refused> {
    match (meaning, value) {
        (Meaning::Events(_), None) => Err(Refused::new("empty_payload")),
        (Meaning::Events(spec), Some(value)) => event(spec, &parsed(value)?, out),
        (Meaning::Dimension(spec), None) => {
            out.push_text(&key_of_tombstone(key.unwrap_or_default())?);
            Ok(deletion(spec, out))
        }
        (Meaning::Dimension(spec), Some(value)) => version(spec, &parsed(value)?, out),
    }
}

fn parsed(value: &[u8]) -> Result<Json<'_>, Refused> {
    if value.len() > RECORD_BYTES_MAX {
        return Err(Refused::new("too_large"));
    }
    json::document(utf8(value)?)
}

fn utf8(bytes: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(bytes).map_err(|_| Refused::new("invalid_utf8"))
}

fn event(spec: &EventsSpec, document: &Json<'_>, out: &mut Decoded) -> Result<What, Refused> {
    let id = name(document, &spec.id, "missing_id")?;
    let user = name(document, &spec.user, "missing_user")?;
    let time = event_time(document.at(&spec.time.0), spec.time_unit)?;
    out.push_text(user);
    for of in &spec.columns {
        column(of, document, out)?;
    }
    Ok(What::Event { id: xxh3_128(id.as_bytes()), time })
}

fn version(spec: &DimensionSpec, document: &Json<'_>, out: &mut Decoded) -> Result<What, Refused> {
    out.push_text(name(document, &spec.key, "missing_key")?);
    let mark = spec.deleted.as_ref().and_then(|pointer| document.at(&pointer.0));
    match mark {
        None | Some(Json::Boolean(false)) => {
            for of in &spec.columns {
                column(of, document, out)?;
            }
            Ok(What::Version { deleted: false })
        }
        Some(Json::Boolean(true)) => Ok(deletion(spec, out)),
        Some(_) => Err(Refused::new("wrong_type")),
    }
}

/// A version that deletes its key: all columns are NULL.
fn deletion(spec: &DimensionSpec, out: &mut Decoded) -> What {
    out.cells.extend(spec.columns.iter().map(|_| Cell::Null));
    What::Version { deleted: true }
}

/// A whole JSON string stands for its content, anything else for itself.
fn key_of_tombstone(key: &[u8]) -> Result<Cow<'_, str>, Refused> {
    let text = utf8(key)?;
    let key = json::whole_string(text).unwrap_or(Cow::Borrowed(text));
    if key.is_empty() { Err(Refused::new("missing_key")) } else { Ok(key) }
}

/// A text that must be there and not be empty.
fn name<'d>(
    document: &'d Json<'_>,
    pointer: &Pointer,
    missing: &'static str,
) -> Result<&'d str, Refused> {
    match document.at(&pointer.0) {
        Some(Json::Text(text)) if !text.is_empty() => Ok(text),
        None | Some(Json::Text(_)) => Err(Refused::new(missing)),
        Some(_) => Err(Refused::new("wrong_type")),
    }
}

fn event_time(value: Option<&Json<'_>>, unit: TimeUnit) -> Result<i64, Refused> {
    let time = match (unit, value) {
        (_, None) => return Err(Refused::new("missing_time")),
        (TimeUnit::Rfc3339, Some(Json::Text(text))) if text.is_empty() => {
            return Err(Refused::new("missing_time"));
        }
        (TimeUnit::Rfc3339, Some(Json::Text(text))) => {
            Some(time_of_text(text).ok_or(Refused::new("bad_time"))?)
        }
        (TimeUnit::Rfc3339, Some(_)) => return Err(Refused::new("wrong_type")),
        (unit, Some(Json::Number(text))) => time_of_number(text, unit),
        (_, Some(_)) => return Err(Refused::new("wrong_type")),
    };
    time.filter(|time| EVENT_TIMES.contains(time)).ok_or(Refused::new("out_of_range"))
}

fn between(first: &str, last: &str) -> RangeInclusive<i64> {
    let bound = |text| time_of_text(text).unwrap_or_default();
    bound(first)..=bound(last)
}

/// Appends the value of a column.
fn column(column: &Column, document: &Json<'_>, out: &mut Decoded) -> Result<(), Refused> {
    let out_of_range = Refused::new("out_of_range");
    let cell = match (column.kind, document.at(&column.pointer.0)) {
        (_, None) => {
            push_default(column, out);
            return Ok(());
        }
        (ColumnType::String, Some(Json::Text(text))) => {
            out.push_text(text);
            return Ok(());
        }
        (ColumnType::Boolean, Some(Json::Boolean(value))) => Cell::Boolean(*value),
        (ColumnType::Long, Some(Json::Number(text))) => Cell::Long(long(text).ok_or(out_of_range)?),
        (ColumnType::Decimal { precision, scale }, Some(Json::Number(text))) => {
            Cell::Decimal(decimal(text, precision, scale).ok_or(out_of_range)?)
        }
        (ColumnType::Decimal { precision, scale }, Some(Json::Text(text)))
            if json::is_number(text) =>
        {
            Cell::Decimal(decimal(text, precision, scale).ok_or(out_of_range)?)
        }
        (ColumnType::Timestamp, Some(Json::Text(text))) => {
            let time = time_of_text(text).ok_or(Refused::new("bad_time"))?;
            let time = Some(time).filter(|time| COLUMN_TIMES.contains(time));
            Cell::Timestamp(time.ok_or(out_of_range)?)
        }
        (_, Some(_)) => return Err(Refused::new("wrong_type")),
    };
    out.cells.push(cell);
    Ok(())
}

fn push_default(column: &Column, out: &mut Decoded) {
    let cell = match &column.default {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Boolean(value)) => Cell::Boolean(*value),
        Some(Value::Long(value)) => Cell::Long(*value),
        Some(Value::Timestamp(value)) => Cell::Timestamp(*value),
        Some(Value::Decimal(value)) => Cell::Decimal(*value),
        Some(Value::String(text)) => return out.push_text(text),
    };
    out.cells.push(cell);
}
