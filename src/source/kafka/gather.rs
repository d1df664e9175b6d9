//! Gathers single messages into batches of one partition each, in log order.
//!
//! *Owns* the batches that are not handed out yet. A consumer delivers partitions interleaved; each has one
//! open batch, which is handed out when it is full, when too many records came since it was opened, or when
//! there is nothing more to read at the moment. Time plays no part.

use std::collections::VecDeque;

use super::super::{NO_BYTES, RawBatch, RawRecord, Span};

/// A batch of this many bytes is full.
const BATCH_BYTES: usize = 1 << 20;
/// A batch of this many records is full.
const BATCH_RECORDS: usize = 4096;
/// A batch is handed out once this many records, of whichever partition, came since it was opened.
const AGE_RECORDS: u64 = 16 * BATCH_RECORDS as u64;
/// All open batches together.
const OPEN_BYTES_MAX: usize = 32 << 20;

/// One message, as the consumer lends it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lent<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Option<&'a [u8]>,
}

/// The open batches, by partition.
#[derive(Debug, Default)]
pub(super) struct Gather {
    open: Vec<Open>,
    /// Partitions in the order in which their batches were opened, with the clock at that time; an entry
    /// whose batch was handed out since is skipped.
    order: VecDeque<(usize, u64)>,
    /// Records so far.
    clock: u64,
    /// Bytes of all open batches.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Open {
    batch: RawBatch,
    opened: u64,
    /// Size of the partition's last batch, in bytes and in records.
    last: (usize, usize),
}

impl Gather {
    /// Takes one message; a batch comes back if one is full or overdue.
    pub(super) fn push(&mut self, lent: &Lent<'_>) -> Option<RawBatch> {
        let index = lent.partition as usize;
        if index >= self.open.len() {
            self.open.resize_with(index + 1, Open::default);
        }
        self.clock += 1;
        let open = &mut self.open[index];
        if open.batch.records.is_empty() {
            open.begin(lent.partition, self.clock);
            self.order.push_back((index, self.clock));
        }
        let before = open.batch.bytes.len();
        open.batch.append(lent);
        self.bytes += open.batch.bytes.len() - before;
        if open.batch.bytes.len() >= BATCH_BYTES || open.batch.records.len() >= BATCH_RECORDS {
            return self.take(lent.partition);
        }
        if self.bytes > OPEN_BYTES_MAX { self.fullest() } else { self.overdue() }
    }

    /// The open batch of a partition.
    pub(super) fn take(&mut self, partition: i32) -> Option<RawBatch> {
        let open = self.open.get_mut(partition as usize)?;
        if open.batch.records.is_empty() {
            return None;
        }
        let batch = std::mem::take(&mut open.batch);
        open.last = (batch.bytes.len(), batch.records.len());
        self.bytes -= batch.bytes.len();
        Some(batch)
    }

    /// The batch that was opened first.
    pub(super) fn oldest(&mut self) -> Option<RawBatch> {
        let (index, _) = self.front()?;
        self.take(index as i32)
    }

    fn overdue(&mut self) -> Option<RawBatch> {
        let (index, opened) = self.front()?;
        if self.clock - opened < AGE_RECORDS { None } else { self.take(index as i32) }
    }

    fn fullest(&mut self) -> Option<RawBatch> {
        let fullest =
            (0..self.open.len()).max_by_key(|&index| self.open[index].batch.bytes.len())?;
        self.take(fullest as i32)
    }

    /// The first entry whose batch is still open.
    fn front(&mut self) -> Option<(usize, u64)> {
        while let Some(&(index, opened)) = self.order.front() {
            let open = &self.open[index];
            if open.opened == opened && !open.batch.records.is_empty() {
                return Some((index, opened));
            }
            self.order.pop_front();
        }
        None
    }
}

impl Open {
    /// Room for a batch like the last one, so that busy partitions never grow theirs.
    fn begin(&mut self, partition: i32, clock: u64) {
        let (bytes, records) = self.last;
        self.opened = clock;
        self.batch.partition = partition;
        self.batch.bytes.reserve_exact(bytes + bytes / 16);
        self.batch.records.reserve_exact(records + records / 16);
    }
}

impl RawBatch {
    fn append(&mut self, lent: &Lent<'_>) {
        let record = RawRecord {
            offset: lent.offset,
            timestamp_ms: lent.timestamp_ms,
            key: self.append_bytes(lent.key),
            value: self.append_bytes(lent.value),
            headers: self.append_bytes(lent.headers),
        };
        self.records.push(record);
        self.next = lent.offset + 1;
    }

    fn append_bytes(&mut self, bytes: Option<&[u8]>) -> Span {
        let Some(bytes) = bytes else { return NO_BYTES };
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, length: bytes.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(partition: i32, offset: i64, value: &[u8]) -> Lent<'_> {
        Lent { partition, offset, timestamp_ms: 5, key: None, value: Some(value), headers: None }
    }

    #[test]
    fn interleaved_partitions_still_give_large_batches() {
        let mut gather = Gather::default();
        let mut next = [0i64; 8];
        let mut sizes = Vec::new();
        for i in 0..100_000 {
            let partition = (i % 8) as i32;
            let offset = i / 8;
            if let Some(batch) = gather.push(&lent(partition, offset, &[b'x'; 100])) {
                assert_eq!(batch.records[0].offset, next[batch.partition as usize]);
                assert!(batch.records.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset));
                next[batch.partition as usize] = batch.next;
                sizes.push(batch.records.len());
            }
        }
        while let Some(batch) = gather.oldest() {
            assert_eq!(batch.records[0].offset, next[batch.partition as usize]);
            next[batch.partition as usize] = batch.next;
        }
        assert_eq!(next, [12_500; 8]);
        assert!(sizes.iter().all(|size| *size == BATCH_RECORDS), "{sizes:?}");
        assert_eq!(gather.bytes, 0);
    }

    #[test]
    fn a_slow_partition_is_not_kept_waiting_by_busy_ones() {
        let mut gather = Gather::default();
        assert!(gather.push(&lent(3, 7, b"slow")).is_none());
        let handed = (0..=AGE_RECORDS as i64).find_map(|offset| {
            gather.push(&lent(0, offset, b"busy")).filter(|batch| batch.partition == 3)
        });
        assert_eq!(handed.expect("handed out").next, 8);
    }

    #[test]
    fn open_batches_are_bounded_in_bytes() {
        let mut gather = Gather::default();
        let value = vec![b'x'; BATCH_BYTES / 2];
        for partition in 0..500 {
            gather.push(&lent(partition, 0, &value));
            assert!(gather.bytes <= OPEN_BYTES_MAX);
        }
    }

    #[test]
    fn null_and_empty_are_different() {
        let mut gather = Gather::default();
        gather.push(&Lent { key: Some(b"k"), value: None, ..lent(0, 0, b"") });
        gather.push(&Lent { headers: Some(b"[]"), ..lent(0, 1, b"") });
        let batch = gather.take(0).expect("two records");
        let [first, second] = batch.records[..] else { panic!("two records") };
        assert_eq!((batch.get(first.key), batch.get(first.value)), (Some(&b"k"[..]), None));
        assert_eq!((batch.get(second.key), batch.get(second.value)), (None, Some(&b""[..])));
        assert_eq!((batch.get(first.headers), batch.get(second.headers)), (None, Some(&b"[]"[..])));
    }
}
