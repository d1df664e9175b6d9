//! The records of a topic, read anew from its start up to the cut of a commit.
//!
//! Files are read in a way of its own. Kafka and the synthetic topic are read through the sources that runs
//! read them with: how a consumer is set up is not what is checked, what becomes of the records is.

mod directory;
mod ranges;

use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) use ranges::Ranges;

use super::VerifyError;
use crate::job::SourceSpec;
use crate::source::{self, Offsets, OpenOptions, Poll, RawBatch, Share, Source};

/// How long a broker is tried that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a record is awaited at a time.
const WAIT: Duration = Duration::from_millis(100);

/// Takes batches of records, each of one Kafka partition.
pub(crate) type Take<'a> = dyn FnMut(RawBatch) + 'a;

/// Gives all records of a topic below the ends of `ranges`, and perhaps some that stand behind. With
/// `may_lack` records may be gone that stood before those that are there (compaction, retention); otherwise,
/// and where the log ends too early, this is refused.
pub(crate) fn read(
    spec: &SourceSpec,
    ranges: &Ranges,
    may_lack: bool,
    take: &mut Take<'_>,
) -> Result<(), VerifyError> {
    if let SourceSpec::Directory(folder) = spec {
        return ranges.partitions().try_for_each(|(partition, _)| {
            let end = ranges.end(partition);
            directory::read(folder, &spec.topic(), partition, end, take)
        });
    }
    let options = OpenOptions {
        saved: Offsets::new(),
        follow: false,
        accept_loss: false,
        connect_timeout: PATIENCE,
        share: Share::ALL,
        headers: false,
    };
    let mut source = source::open(spec, &options)?;
    check_limits(&*source, ranges, may_lack)?;
    let mut open: BTreeSet<i32> = ranges.partitions().map(|(partition, _)| partition).collect();
    while !open.is_empty() {
        let (partition, next) = match source.poll(WAIT)? {
            Poll::Batch(batch) => {
                let reached = (batch.partition, batch.next);
                if open.contains(&batch.partition) {
                    take(batch);
                }
                reached
            }
            Poll::Advanced { partition, next } => (partition, next),
            Poll::Idle => continue,
            Poll::End => break,
        };
        if next >= ranges.end(partition) {
            open.remove(&partition);
        }
    }
    Ok(())
}

/// The log must have all that was read of it.
fn check_limits(source: &dyn Source, ranges: &Ranges, may_lack: bool) -> Result<(), VerifyError> {
    let (starts, ends, topic) = (source.start(), source.ends(), source.topic());
    for (partition, of_partition) in ranges.partitions() {
        let Some((start, end)) = starts.get(&partition).zip(ends.get(&partition)) else {
            let all = of_partition[0].start..ranges.end(partition);
            return Err(VerifyError::gone(&topic, partition, all, "the partition is gone"));
        };
        if *end < ranges.end(partition) {
            let why = format!("the log ends at offset {end}");
            return Err(VerifyError::gone(&topic, partition, *end..ranges.end(partition), &why));
        }
        if *start > of_partition[0].start && !may_lack {
            let why = format!("the log begins at offset {start}");
            let gone = of_partition[0].start..*start;
            return Err(VerifyError::gone(&topic, partition, gone, &why));
        }
    }
    Ok(())
}
