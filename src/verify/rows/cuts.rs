//! The table of cuts: how many records, dead letters and duplicates each commit has read of each Kafka
//! partition.

use std::collections::BTreeMap;

use crate::verify::copies::{Copies, Counts};
use crate::verify::found::Found;
use crate::verify::history::ValueId;
use crate::verify::log::Ranges;
use crate::verify::winners::Winners;

const TABLE: &str = "cuts";

/// Records that the tables tell of and the log no longer has, by Kafka partition and commit.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    versions: BTreeMap<(i32, u64), i64>,
    letters: BTreeMap<(i32, u64), i64>,
}

impl Gone {
    pub(super) fn version(&mut self, partition: i32, commit: u64) {
        *self.versions.entry((partition, commit)).or_default() += 1;
    }

    pub(super) fn letter(&mut self, partition: i32, commit: u64) {
        *self.letters.entry((partition, commit)).or_default() += 1;
    }

    /// Versions and dead letters that are gone.
    pub(crate) fn all(&self) -> [i64; 2] {
        [self.versions.values().sum(), self.letters.values().sum()]
    }
}

/// Compares the rows of a topic; of the event topic with the winners.
pub(crate) fn compare(
    copies: &Copies,
    topic: ValueId,
    ranges: &Ranges,
    gone: &Gone,
    winners: Option<&Winners>,
    counted: &mut BTreeMap<u64, usize>,
    found: &mut Found,
) {
    let won = winners.map(|winners| winners.counted(copies)).unwrap_or_default();
    for (partition, range) in
        ranges.partitions().flat_map(|(of, all)| all.iter().map(move |range| (of, range)))
    {
        *counted.entry(range.commit).or_default() += 1;
        let of = (partition, range.commit);
        let key = (topic, partition, range.commit);
        let Counts { records, letters, events } =
            copies.counts.get(&key).copied().unwrap_or_default();
        let lack = |gone: &BTreeMap<_, i64>| gone.get(&of).copied().unwrap_or(0);
        let (versions, lost) = (lack(&gone.versions), lack(&gone.letters));
        let open = winners.and_then(|winners| winners.open.get(&of)).copied().unwrap_or_default();
        let duplicates = winners.map_or(0, |_| events - won.get(&of).copied().unwrap_or(0));
        let wanted = [
            ("records", (records + versions + lost, 0, 0), range.records),
            ("dead_letters", (letters + lost, 0, 0), range.dead_letters),
            ("duplicates", (duplicates, open.1, open.0), range.duplicates),
        ];
        for (name, (expected, fewer, more), held) in wanted {
            if held < expected - fewer || held > expected + more {
                let place = copies.values.get(topic).text(0);
                let (start, end) = (range.start, range.end);
                let what = format!(
                    "topic {place}, partition {partition}, offsets {start} to {end}: {name}: \
                     expected {expected}, found {held}"
                );
                found.fault(TABLE, range.commit, what);
            }
        }
    }
}
