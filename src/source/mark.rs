//! Marks: what the last record that was read of each Kafka partition looked like.
//!
//! Offsets alone do not tell a topic from one of the same name that was made after it was deleted, nor a
//! log from one that was cut short and written anew: a saved position can lie inside of both. A mark is the
//! offset of a record together with a hash of its timestamp, key and value. It is saved with the cut;
//! before the next run reads on, [`Source::verify`](super::Source::verify) compares it with the record that
//! stands there now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{RawBatch, RawRecord};

/// Kafka partition → the last record that was read of it.
pub type Marks = BTreeMap<i32, Mark>;

/// A record, by its offset and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// Hash of its timestamp, key and value. It is persisted: what goes into it never changes.
    pub hash: u64,
}

impl Mark {
    /// The mark of a record.
    pub fn of(offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Mark {
        let mut hash = Xxh3::new();
        hash.update(&timestamp_ms.to_le_bytes());
        for bytes in [key, value] {
            // The length in front of the bytes: no two records have the same stream; −1 stands for none.
            let length = bytes.map_or(-1, |bytes| bytes.len() as i64);
            hash.update(&length.to_le_bytes());
            hash.update(bytes.unwrap_or_default());
        }
        Mark { offset, hash: hash.digest() }
    }
}

impl RawBatch {
    /// The mark of the last record; `None` for no records.
    pub fn mark(&self) -> Option<Mark> {
        let RawRecord { offset, timestamp_ms, key, value, .. } = *self.records.last()?;
        Some(Mark::of(offset, timestamp_ms, self.get(key), self.get(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NO_BYTES, Span};
    use super::*;

    #[test]
    fn whatever_differs_gives_another_hash() {
        let marks = [
            Mark::of(7, 1, Some(b"k"), Some(b"v")),
            Mark::of(7, 2, Some(b"k"), Some(b"v")),
            Mark::of(7, 1, Some(b"kv"), Some(b"")),
            Mark::of(7, 1, Some(b"kv"), None),
            Mark::of(7, 1, None, Some(b"kv")),
            Mark::of(7, 1, Some(b""), Some(b"kv")),
        ];
        for (index, mark) in marks.iter().enumerate() {
            assert!(!marks[..index].contains(mark), "{index}");
        }
        assert_eq!(marks[0], Mark::of(7, 1, Some(b"k"), Some(b"v")));
    }

    #[test]
    fn a_mark_is_pinned_because_it_is_persisted() {
        let mark = Mark::of(7, 1_700_000_000_123, Some(b"k"), None);
        let text = serde_json::to_string(&mark).expect("encodes");
        assert_eq!(serde_json::from_str::<Mark>(&text).expect("decodes"), mark);
        assert_eq!(text, r#"{"offset":7,"hash":17451615192986138245}"#);
    }

    #[test]
    fn the_mark_of_a_batch_is_that_of_its_last_record() {
        assert_eq!(RawBatch::default().mark(), None);
        let record = |offset, start, length| RawRecord {
            offset,
            timestamp_ms: 5,
            key: NO_BYTES,
            value: Span { start, length },
            headers: NO_BYTES,
        };
        let records = vec![record(3, 0, 1), record(9, 1, 2)];
        let batch = RawBatch { partition: 0, bytes: b"abc".to_vec(), records, next: 12 };
        assert_eq!(batch.mark(), Some(Mark::of(9, 5, None, Some(b"bc"))));
    }
}
