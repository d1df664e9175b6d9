//! Tests of [`super`]: which totals are refused.

use super::super::testing::Lake;
use super::*;

/// The shape of the table `kinds`, with a sum of longs and one of decimals.
fn shape() -> CurrentShape {
    let lake = Lake::new();
    let table = lake.tables.get(lake.tables.aggregate(0));
    table.shape.clone().unwrap()
}

fn row(count: i64, users: i64, sums: [i128; 2]) -> CurrentRow {
    let sums = sums.map(|value| SumDelta { value, values: count });
    CurrentRow {
        key: vec![Value::Long(7)],
        totals: Delta { count, users, sums: sums.into() },
        commit: 1,
    }
}

#[test]
fn there_are_events_where_there_are_users_and_never_less_than_none() {
    let shape = shape();
    for (count, users) in [(0, 0), (1, 1), (5, 2)] {
        assert_eq!(shape.check(&row(count, users, [0; 2])), Ok(()), "{count} {users}");
    }
    for (count, users) in [(-1, 0), (0, -1), (-1, -1), (1, 0), (0, 1), (2, -1), (-1, 2)] {
        let refused = shape.check(&row(count, users, [0; 2]));
        let negative = RowError::Negative { table: "kinds".into(), key: vec![Value::Long(7)] };
        assert_eq!(refused, Err(negative), "{count} {users}");
    }
}

#[test]
fn a_sum_fits_64_bits_or_38_digits() {
    let shape = shape();
    let refused = |long: i128, decimal: i128| shape.check(&row(1, 1, [long, decimal])).err();
    let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
    let digits = 10_i128.pow(38) - 1;
    for (long, decimal) in [(0, 0), (least, -digits), (most, digits)] {
        assert_eq!(refused(long, decimal), None, "{long} {decimal}");
    }
    let table = || "kinds".to_owned();
    for value in [least - 1, most + 1] {
        let kind = ColumnType::Long;
        let expected = RowError::SumOutOfRange { table: table(), value, kind };
        assert_eq!(refused(value, 0), Some(expected));
    }
    for value in [-digits - 1, digits + 1, i128::MIN] {
        let kind = ColumnType::Decimal { precision: 12, scale: 2 };
        let expected = RowError::SumOutOfRange { table: table(), value, kind };
        assert_eq!(refused(0, value), Some(expected));
    }
}
