//! Which commit a record belongs to: the table of cuts says it for every Kafka partition, by ranges of
//! offsets.

use std::collections::BTreeMap;

use crate::lake::cells::value_at;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Value;
use crate::verify::VerifyError;
use crate::verify::scan::{long, scan};

/// What a commit moved in one Kafka partition, as the table of cuts has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    /// The first offset, and the one behind the last.
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) commit: u64,
    pub(crate) records: i64,
    pub(crate) dead_letters: i64,
    pub(crate) duplicates: i64,
}

/// The ranges of one topic by Kafka partition, in the order of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges(BTreeMap<i32, Vec<Range>>);

impl Ranges {
    /// The ranges of `topic` of all commits in the table of cuts up to `commit`. Refused where two commits
    /// have read the same offsets: they read different logs.
    pub(crate) fn read(
        store: &Store,
        cuts: &LoadedTable,
        topic: &str,
        commit: u64,
    ) -> Result<Ranges, VerifyError> {
        let names = ["topic", "partition", "start_offset", "end_offset", "_commit", "records"];
        let names = [&names[..], &["dead_letters", "duplicates"]].concat();
        let mut ranges = Ranges::default();
        scan(store, cuts, &names, &mut |columns, rows| {
            for row in 0..rows {
                let number = |column: usize| long(&columns[column], row);
                let is_of_topic = value_at(&columns[0], row) == Value::String(topic.into());
                if !is_of_topic || number(4).cast_unsigned() > commit {
                    continue;
                }
                let partition = i32::try_from(number(1)).unwrap_or(-1);
                ranges.0.entry(partition).or_default().push(Range {
                    start: number(2),
                    end: number(3),
                    commit: number(4).cast_unsigned(),
                    records: number(5),
                    dead_letters: number(6),
                    duplicates: number(7),
                });
            }
        })?;
        for (partition, of_partition) in &mut ranges.0 {
            of_partition.sort_unstable();
            let overlap = of_partition.windows(2).find(|pair| pair[0].end > pair[1].start);
            if let Some([first, second]) = overlap {
                let (one, other) = (first.commit, second.commit);
                let (start, end) = (second.start, first.end);
                let why =
                    format!("commits {one} and {other} have both read them, of different logs");
                return Err(VerifyError::gone(topic, *partition, start..end, &why));
            }
        }
        Ok(ranges)
    }

    /// The Kafka partitions with their ranges.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (i32, &[Range])> {
        self.0.iter().map(|(partition, ranges)| (*partition, ranges.as_slice()))
    }

    /// The offset behind the last record of a Kafka partition; 0 for one that nothing was read of.
    pub(crate) fn end(&self, partition: i32) -> i64 {
        self.0.get(&partition).and_then(|ranges| ranges.last()).map_or(0, |range| range.end)
    }

    /// The commit that has read the record at `offset`.
    pub(crate) fn commit(&self, partition: i32, offset: i64) -> Option<u64> {
        let ranges = self.0.get(&partition)?;
        let range = ranges.get(ranges.partition_point(|range| range.end <= offset))?;
        (range.start <= offset).then_some(range.commit)
    }

    /// How many records were read.
    pub(crate) fn records(&self) -> u64 {
        self.0.values().flatten().map(|range| range.records.cast_unsigned()).sum()
    }
}
