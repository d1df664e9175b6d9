//! Single values of Arrow columns, as they stand in data files of ours.

use arrow_array::Array;
use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};

use crate::model::Value;

/// The value of a row; bytes count as NULL, and an int as a long.
pub fn value_at(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    if let Some(text) = column.as_string_opt::<i32>() {
        return Value::String(text.value(row).into());
    }
    let long = column.as_primitive_opt::<Int64Type>().map(|longs| longs.value(row));
    let int = || column.as_primitive_opt::<Int32Type>().map(|ints| i64::from(ints.value(row)));
    if let Some(number) = long.or_else(int) {
        return Value::Long(number);
    }
    let times = column.as_primitive_opt::<TimestampMicrosecondType>();
    let decimals = || column.as_primitive_opt::<Decimal128Type>();
    let truths = || column.as_boolean_opt();
    times
        .map(|times| Value::Timestamp(times.value(row)))
        .or_else(|| decimals().map(|decimals| Value::Decimal(decimals.value(row))))
        .or_else(|| truths().map(|truths| Value::Boolean(truths.value(row))))
        .unwrap_or(Value::Null)
}
