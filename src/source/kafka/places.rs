//! Where a Kafka partition is read, and whether that fits the log: decisions without a broker.

use tracing::warn;

use super::super::{Offsets, SourceError};

/// The read position of one Kafka partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Offset of the next record to take.
    pub(super) next: i64,
    /// The position that a batch or an advance has told of.
    pub(super) told: i64,
    /// Bounded: where reading ends. Following: the end as far as it is known.
    pub(super) end: i64,
    /// Reading stops at `end`.
    pub(super) bounded: bool,
    /// The end is reached, or another process reads the partition.
    pub(super) done: bool,
    /// This process reads the partition.
    pub(super) here: bool,
}

impl Place {
    pub(super) fn new(next: i64, end: i64, bounded: bool) -> Place {
        Place { next, told: next, end, bounded, done: bounded && next >= end, here: true }
    }

    /// The place of a partition that is read here or by another process.
    pub(super) fn read_here(self, here: bool) -> Place {
        Place { here, done: self.done || !here, ..self }
    }
}

/// The position to start at: `saved` if the log `[low, high]` still has it, or the log's beginning.
pub(super) fn start(
    topic: &str,
    partition: i32,
    saved: Option<i64>,
    (low, high): (i64, i64),
    accept_loss: bool,
) -> Result<i64, SourceError> {
    let Some(saved) = saved else { return Ok(low) };
    let why = if saved < low {
        "the records between were deleted, by retention or by hand"
    } else if saved > high {
        "the log was cut short, or the topic was deleted and made again"
    } else {
        return Ok(saved);
    };
    let goes_on_at = saved.clamp(low, high);
    if accept_loss {
        warn!(topic, partition, saved, goes_on_at, "{why}: loss accepted");
        return Ok(goes_on_at);
    }
    Err(SourceError::Loss(format!(
        "topic {topic}, partition {partition}: the next record to read is at offset {saved}, but the log \
         holds offsets {low} to {high}: {why}; --accept-loss goes on at offset {goes_on_at}"
    )))
}

/// Every partition that was read before must still be there.
pub(super) fn check_count(
    topic: &str,
    saved: &Offsets,
    count: i32,
    accept_loss: bool,
) -> Result<(), SourceError> {
    for (&partition, &offset) in saved.range(count..) {
        if !accept_loss {
            return Err(SourceError::Loss(format!(
                "topic {topic}, partition {partition}: read up to offset {offset} before, but the topic has \
                 only {count} partitions now (this one ends at offset 0): it was deleted and made again; \
                 --accept-loss goes on without it"
            )));
        }
        warn!(topic, partition, saved = offset, count, "partition is gone: loss accepted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<impl std::fmt::Debug, SourceError>) -> String {
        match result {
            Err(SourceError::Loss(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_position_inside_the_log_is_kept() {
        for saved in [10, 15, 20] {
            assert!(matches!(start("t", 0, Some(saved), (10, 20), false), Ok(at) if at == saved));
        }
        assert!(matches!(start("t", 0, None, (10, 20), false), Ok(10)));
    }

    #[test]
    fn a_position_outside_the_log_is_a_loss_that_names_everything() {
        for (saved, goes_on) in [(9, 10), (21, 20)] {
            let text = text(start("events", 3, Some(saved), (10, 20), false));
            let offset = format!("offset {saved}");
            for word in ["topic events", "partition 3", &offset, "10 to 20", "--accept-loss"] {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert!(
                matches!(start("events", 3, Some(saved), (10, 20), true), Ok(at) if at == goes_on)
            );
        }
    }

    #[test]
    fn fewer_partitions_than_saved_are_a_loss() {
        let saved = Offsets::from([(0, 5), (4, 9)]);
        let text = text(check_count("events", &saved, 4, false));
        assert!(text.contains("partition 4") && text.contains("offset 9"), "{text}");
        assert!(check_count("events", &saved, 4, true).is_ok());
        assert!(check_count("events", &saved, 5, false).is_ok());
    }

    #[test]
    fn an_end_that_is_reached_at_the_start_is_done() {
        assert!(Place::new(5, 5, true).done);
        assert!(!Place::new(4, 5, true).done);
        assert!(!Place::new(5, 5, false).done);
    }
}
