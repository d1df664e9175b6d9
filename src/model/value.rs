//! Column types and values of a job, and the encoding of a tuple of values as bytes.
//!
//! A tuple is encoded column by column: a tag byte (0 NULL, 1 value), then for a string its length (`u32`,
//! little endian) and bytes, for a boolean one byte, for a long or timestamp 8 bytes, for a decimal 16 bytes,
//! all little endian. The encoding is persisted in the symbol dictionary.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a column of the job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// UTF-8 text.
    String,
    /// A 64-bit signed integer.
    Long,
    /// A decimal number of `precision` digits, `scale` of them after the point.
    Decimal {
        /// 1 to 38.
        precision: u8,
        /// 0 to `precision`.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// Microseconds since 1970 UTC.
    Timestamp,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::String => f.write_str("string"),
            ColumnType::Long => f.write_str("long"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Boolean => f.write_str("boolean"),
            ColumnType::Timestamp => f.write_str("timestamp"),
        }
    }
}

/// A value of a column. The order (NULL first, then by value) is the order of rows in current tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// False before true.
    Boolean(bool),
    /// A long.
    Long(i64),
    /// Microseconds since 1970 UTC.
    Timestamp(i64),
    /// The unscaled value of a decimal.
    Decimal(i128),
    /// Text, ordered by its bytes.
    String(Box<str>),
}

impl Value {
    /// Appends the encoding of this value to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => encode_null(out),
            Value::Boolean(value) => out.extend_from_slice(&[1, u8::from(*value)]),
            Value::Long(value) | Value::Timestamp(value) => encode_i64(*value, out),
            Value::Decimal(value) => encode_i128(*value, out),
            Value::String(value) => encode_str(value, out),
        }
    }

    /// The value as text: a timestamp in RFC 3339, a decimal of `scale` digits after its point, `NULL`.
    pub fn text(&self, scale: u8) -> String {
        match self {
            Value::Null => "NULL".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Long(value) => value.to_string(),
            Value::Timestamp(us) => jiff::Timestamp::from_microsecond(*us)
                .map_or_else(|_| us.to_string(), |t| t.to_string()),
            Value::Decimal(value) => decimal_text(*value, scale.into()),
            Value::String(value) => value.to_string(),
        }
    }

    /// Takes one value of type `kind` from the front of `bytes`; `None` if they are not such an encoding.
    pub fn decode(kind: ColumnType, bytes: &mut &[u8]) -> Option<Value> {
        if *take(bytes, 1)?.first()? == 0 {
            return Some(Value::Null);
        }
        Some(match kind {
            ColumnType::Boolean => Value::Boolean(take(bytes, 1)?[0] != 0),
            ColumnType::Long => Value::Long(i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
            ColumnType::Timestamp => {
                Value::Timestamp(i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
            }
            ColumnType::Decimal { .. } => {
                Value::Decimal(i128::from_le_bytes(take(bytes, 16)?.try_into().ok()?))
            }
            ColumnType::String => {
                let length = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
                Value::String(std::str::from_utf8(take(bytes, length as usize)?).ok()?.into())
            }
        })
    }
}

fn decimal_text(unscaled: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let (sign, point) = (if unscaled < 0 { "-" } else { "" }, if scale > 0 { "." } else { "" });
    format!("{sign}{whole}{point}{fraction}")
}

/// Appends a NULL to an encoded tuple.
pub fn encode_null(out: &mut Vec<u8>) {
    out.push(0);
}

/// Appends a string to an encoded tuple.
pub fn encode_str(value: &str, out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Appends a long or a timestamp to an encoded tuple.
pub fn encode_i64(value: i64, out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a decimal's unscaled value to an encoded tuple.
pub fn encode_i128(value: i128, out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Decodes a whole tuple of the given types; `None` if the bytes are not one.
pub fn decode_tuple(kinds: &[ColumnType], mut bytes: &[u8]) -> Option<Vec<Value>> {
    let values =
        kinds.iter().map(|kind| Value::decode(*kind, &mut bytes)).collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(values)
}

/// The encoding of a tuple of `columns` NULLs.
pub fn null_tuple(columns: usize) -> Vec<u8> {
    vec![0; columns]
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_people_write_them() {
        assert_eq!(Value::Null.text(0), "NULL");
        assert_eq!(Value::Timestamp(1_767_225_600_000_000).text(0), "2026-01-01T00:00:00Z");
        for (unscaled, scale, text) in
            [(12345, 2, "123.45"), (-5, 2, "-0.05"), (0, 3, "0.000"), (7, 0, "7"), (-70, 0, "-70")]
        {
            assert_eq!(Value::Decimal(unscaled).text(scale), text);
        }
    }

    #[test]
    fn tuples_round_trip_and_reject_other_bytes() {
        let kinds = [
            ColumnType::String,
            ColumnType::Long,
            ColumnType::Decimal { precision: 38, scale: 2 },
            ColumnType::Boolean,
            ColumnType::Timestamp,
            ColumnType::String,
        ];
        let values = vec![
            Value::String("eu".into()),
            Value::Long(-1),
            Value::Decimal(i128::MIN),
            Value::Boolean(true),
            Value::Timestamp(5),
            Value::Null,
        ];
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.encode(&mut bytes));
        assert_eq!(decode_tuple(&kinds, &bytes), Some(values));
        assert_eq!(decode_tuple(&kinds, &bytes[..bytes.len() - 1]), None);
        bytes.push(0);
        assert_eq!(decode_tuple(&kinds, &bytes), None);
        assert_eq!(decode_tuple(&kinds, &null_tuple(6)), Some(vec![Value::Null; 6]));
    }
}
