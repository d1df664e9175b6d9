//! Is the log still the one that was read before? The last record that was read of each partition is read
//! again, and compared with its mark.
//!
//! A record that is gone proves nothing: retention deletes from the beginning, and compaction takes any.
//! Then the position is trusted. The comparison has a client of its own, so that it can't disturb the
//! reader.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::super::mark::{Mark, Marks};
use super::super::{NO_TIMESTAMP, Offsets, OpenOptions, SourceError};
use super::client::{Client, describe};
use super::options::little;
use crate::job::KafkaSpec;

/// How long a record is awaited before the deadline is looked at.
const WAIT: Duration = Duration::from_millis(100);

/// What stands where a marked record was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The same record.
    Same,
    /// Another one: the log is another one too.
    Other,
    /// Nothing any more.
    Gone,
}

/// What a record that was read from the offset of `mark` on says about it.
pub(super) fn compare(mark: Mark, found: Option<Mark>) -> Found {
    match found {
        Some(found) if found == mark => Found::Same,
        Some(found) if found.offset == mark.offset => Found::Other,
        _ => Found::Gone,
    }
}

/// Compares `marks` with the log, where reading would go on at `start`. An error where the log is another
/// one; where that loss is accepted, the marks of such partitions are dropped. Says whether any was.
pub(super) fn verify(
    spec: &KafkaSpec,
    options: &OpenOptions,
    start: &Offsets,
    marks: &mut Marks,
) -> Result<bool, SourceError> {
    let known = marks.len();
    // A position that was set back has no record before it any more.
    marks.retain(|partition, mark| start.get(partition).is_some_and(|next| mark.offset < *next));
    if !marks.is_empty() {
        let mut client = Client::new(spec, &little(spec)?)?;
        for (partition, found) in read_again(&mut client, options.connect_timeout, marks)? {
            let (topic, offset) = (&*client.topic, marks[&partition].offset);
            match found {
                Found::Same => {}
                Found::Gone => debug!(topic, partition, offset, "the last record is gone"),
                Found::Other if options.accept_loss => {
                    let goes_on_at = start[&partition];
                    warn!(topic, partition, goes_on_at, "another log than before: loss accepted");
                    marks.remove(&partition);
                }
                Found::Other => return Err(another(topic, partition, offset, start[&partition])),
            }
        }
    }
    Ok(marks.len() < known)
}

fn another(topic: &str, partition: i32, offset: i64, next: i64) -> SourceError {
    SourceError::Loss(format!(
        "topic {topic}, partition {partition}: the record at offset {offset} is not the one that was read \
         there before, so the records from offset {next} on do not follow what was read: the topic was \
         deleted and made again, or its log was cut short and written anew; run the job under a new name \
         to read all of this topic, or --accept-loss goes on at offset {next}"
    ))
}

/// Reads a record of each marked partition, from the mark on.
fn read_again(
    client: &mut Client,
    patience: Duration,
    marks: &Marks,
) -> Result<BTreeMap<i32, Found>, SourceError> {
    let failed =
        |topic: &str, error: &KafkaError| SourceError::Failed(format!("topic {topic}: {error}"));
    let topic = client.topic.to_string();
    let mut found = BTreeMap::new();
    drop_deleted(client, patience, marks, &mut found)?;
    let mut list = TopicPartitionList::new();
    for (&partition, mark) in marks.iter().filter(|(partition, _)| !found.contains_key(*partition))
    {
        list.add_partition_offset(&topic, partition, Offset::Offset(mark.offset))
            .map_err(|error| failed(&topic, &error))?;
    }
    client.assign(&list).map_err(|error| failed(&topic, &error))?;
    let begun = Instant::now();
    while found.len() < marks.len() {
        match client.consumer.poll(WAIT) {
            Some(Ok(message)) => {
                let partition = message.partition();
                if let Some(&mark) = marks.get(&partition) {
                    found
                        .entry(partition)
                        .or_insert_with(|| compare(mark, Some(mark_of(&message))));
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                found.entry(partition).or_insert(Found::Gone);
            }
            Some(Err(error)) => {
                use RDKafkaErrorCode::{AutoOffsetReset, Fail, OffsetOutOfRange};
                let code = error.rdkafka_error_code().unwrap_or(Fail);
                client.refuse(code)?;
                if matches!(code, AutoOffsetReset | OffsetOutOfRange) {
                    drop_deleted(client, patience, marks, &mut found)?;
                }
                debug!(topic, error = describe(code), "trouble while records are compared");
            }
            None => {}
        }
        if begun.elapsed() > patience {
            return Err(client.gave_up(begun.elapsed(), "none, nothing was heard"));
        }
    }
    Ok(found)
}

/// Marks below the beginnings of their partitions are gone.
fn drop_deleted(
    client: &Client,
    patience: Duration,
    marks: &Marks,
    found: &mut BTreeMap<i32, Found>,
) -> Result<(), SourceError> {
    let count = marks.keys().last().map_or(0, |last| last + 1);
    let low = client.ask(patience, |timeout| client.limit(0, count, Offset::Beginning, timeout))?;
    for (&partition, mark) in marks {
        if low.get(&partition).is_some_and(|low| mark.offset < *low) {
            found.entry(partition).or_insert(Found::Gone);
        }
    }
    Ok(())
}

fn mark_of(message: &BorrowedMessage<'_>) -> Mark {
    let timestamp_ms = message.timestamp().to_millis().unwrap_or(NO_TIMESTAMP);
    Mark::of(message.offset(), timestamp_ms, message.key(), message.payload())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_record_at_the_same_offset_proves_another_log() {
        let mark = Mark::of(7, 1, None, Some(b"v"));
        let other = Mark::of(7, 2, None, Some(b"v"));
        let later = Mark::of(8, 1, None, Some(b"v"));
        assert_eq!(compare(mark, Some(mark)), Found::Same);
        assert_eq!(compare(mark, Some(other)), Found::Other);
        assert_eq!(compare(mark, Some(later)), Found::Gone);
        assert_eq!(compare(mark, None), Found::Gone);
    }

    #[test]
    fn the_refusal_names_everything() {
        let text = another("events", 3, 9, 12).to_string();
        for word in
            ["topic events", "partition 3", "offset 9", "offset 12", "--accept-loss", "new name"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
