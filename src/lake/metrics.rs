//! Column metrics of a data file, from the footer that its writer just made.
//!
//! Bounds are taken over all row groups and are dropped as soon as one of them has values but no
//! statistics; a truncated statistic is still a bound, since the Parquet writer rounds maxima up.

use std::collections::{BTreeMap, BTreeSet};

use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::data_file::{FilePartition, WrittenFile};
use super::schema::FIRST_HIDDEN_FIELD_ID;

/// A value that bounds compare by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    /// Boolean, int, long, timestamp, or the unscaled value of a decimal.
    Number(i128),
    Bytes(Vec<u8>),
}

/// Lower and upper bound of one column so far.
type Range = (Bound, Bound);

/// Describes the file whose footer is `footer`.
pub(crate) fn describe(
    footer: &ParquetMetaData,
    path: &str,
    bytes: u64,
    partition: FilePartition,
) -> WrittenFile {
    let mut file = WrittenFile {
        path: path.to_owned(),
        bytes,
        rows: footer.file_metadata().num_rows().unsigned_abs(),
        partition,
        column_sizes: BTreeMap::new(),
        value_counts: BTreeMap::new(),
        null_counts: BTreeMap::new(),
        lower: BTreeMap::new(),
        upper: BTreeMap::new(),
        split_offsets: footer.row_groups().iter().map(|g| start_of(g.column(0))).collect(),
    };
    let mut ranges: BTreeMap<i32, Range> = BTreeMap::new();
    let mut shapes: BTreeMap<i32, Shape> = BTreeMap::new();
    let mut unbounded = BTreeSet::new();
    let mut uncounted = BTreeSet::new();
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        let Some(id) = visible_field_id(chunk) else { continue };
        let values = chunk.num_values().unsigned_abs();
        *file.column_sizes.entry(id).or_default() += chunk.compressed_size().unsigned_abs();
        *file.value_counts.entry(id).or_default() += values;
        let nulls = chunk.statistics().and_then(|s| s.null_count_opt());
        match nulls {
            Some(nulls) => *file.null_counts.entry(id).or_default() += nulls,
            None => drop(uncounted.insert(id)),
        }
        shapes.insert(id, Shape::of(chunk));
        match range_of(chunk) {
            Some(range) => widen(&mut ranges, id, range),
            None if nulls == Some(values) => {}
            None => drop(unbounded.insert(id)),
        }
    }
    file.null_counts.retain(|id, _| !uncounted.contains(id));
    for (id, (lower, upper)) in ranges {
        if let (Some(&shape), false) = (shapes.get(&id), unbounded.contains(&id)) {
            file.lower.insert(id, shape.encode(lower));
            file.upper.insert(id, shape.encode(upper));
        }
    }
    file
}

fn visible_field_id(chunk: &ColumnChunkMetaData) -> Option<i32> {
    let info = chunk.column_descr().self_type().get_basic_info();
    (info.has_id() && info.id() < FIRST_HIDDEN_FIELD_ID).then(|| info.id())
}

fn start_of(chunk: &ColumnChunkMetaData) -> i64 {
    let data = chunk.data_page_offset();
    chunk.dictionary_page_offset().map_or(data, |dictionary| dictionary.min(data))
}

fn widen(ranges: &mut BTreeMap<i32, Range>, id: i32, (low, high): Range) {
    match ranges.get_mut(&id) {
        None => drop(ranges.insert(id, (low, high))),
        Some((lower, upper)) => {
            if low < *lower {
                *lower = low;
            }
            if high > *upper {
                *upper = high;
            }
        }
    }
}

fn range_of(chunk: &ColumnChunkMetaData) -> Option<Range> {
    let statistics = chunk.statistics()?;
    let kind = chunk.column_descr().physical_type();
    let low = parse(kind, statistics.min_bytes_opt()?)?;
    let high = parse(kind, statistics.max_bytes_opt()?)?;
    Some((low, high))
}

/// Reads a statistic. Parquet writes integers in little-endian order, long decimals in big-endian.
fn parse(kind: PhysicalType, bytes: &[u8]) -> Option<Bound> {
    Some(match kind {
        PhysicalType::BOOLEAN => Bound::Number(i128::from(*bytes.first()?)),
        PhysicalType::INT32 => Bound::Number(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        PhysicalType::INT64 => Bound::Number(i64::from_le_bytes(bytes.try_into().ok()?).into()),
        PhysicalType::FIXED_LEN_BYTE_ARRAY => Bound::Number(from_big_endian(bytes)?),
        PhysicalType::BYTE_ARRAY => Bound::Bytes(bytes.to_vec()),
        PhysicalType::INT96 | PhysicalType::FLOAT | PhysicalType::DOUBLE => return None,
    })
}

/// How Iceberg serialises a single value of a column.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Boolean,
    Int,
    Long,
    Decimal,
    Bytes,
}

impl Shape {
    fn of(chunk: &ColumnChunkMetaData) -> Self {
        let column = chunk.column_descr();
        let decimal =
            matches!(column.logical_type_ref(), Some(parquet::basic::LogicalType::Decimal { .. }));
        match column.physical_type() {
            _ if decimal => Shape::Decimal,
            PhysicalType::BOOLEAN => Shape::Boolean,
            PhysicalType::INT32 => Shape::Int,
            PhysicalType::INT64 => Shape::Long,
            _ => Shape::Bytes,
        }
    }

    fn encode(self, bound: Bound) -> Vec<u8> {
        let number = match bound {
            Bound::Bytes(bytes) => return bytes,
            Bound::Number(number) => number,
        };
        // Little-endian two's complement: the low bytes are the narrower integer.
        let bytes = number.to_le_bytes();
        match self {
            Shape::Boolean => bytes[..1].to_vec(),
            Shape::Int => bytes[..4].to_vec(),
            Shape::Long => bytes[..8].to_vec(),
            Shape::Decimal | Shape::Bytes => shortest_big_endian(number),
        }
    }
}

/// A signed number of at most 16 bytes in big-endian order.
fn from_big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first().filter(|_| bytes.len() <= 16)?;
    let mut wide = if first >= 0x80 { [0xff; 16] } else { [0; 16] };
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

/// The fewest bytes in big-endian two's complement that hold `number`.
fn shortest_big_endian(number: i128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let sign = if number < 0 { 0xff } else { 0 };
    let keeps_sign = |byte: u8| (byte >= 0x80) == (number < 0);
    let redundant = |&at: &usize| bytes[at] == sign && keeps_sign(bytes[at + 1]);
    let skip = (0..15).take_while(redundant).count();
    bytes[skip..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_the_fewest_bytes_and_come_back() {
        let cases: [(i128, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[0xff]),
            (127, &[0x7f]),
            (128, &[0, 0x80]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
            (-1_234_567, &[0xed, 0x29, 0x79]),
            (i128::MIN, &i128::MIN.to_be_bytes()),
        ];
        for (number, bytes) in cases {
            assert_eq!(shortest_big_endian(number), bytes, "{number}");
            assert_eq!(from_big_endian(bytes), Some(number));
        }
        assert_eq!(from_big_endian(&[]), None);
        assert_eq!(from_big_endian(&[0; 17]), None);
    }
}
