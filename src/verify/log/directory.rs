//! A partition file, line by line: the offset of a record is the place of its first byte.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memchr::memchr_iter;

use super::Take;
use crate::source::{NO_BYTES, NO_TIMESTAMP, RawBatch, RawRecord, Span};
use crate::verify::VerifyError;

/// What is read at a time, unless a line is longer.
const CHUNK_BYTES: u64 = 1 << 20;

/// Gives the lines below `end`, where one must end.
pub(super) fn read(
    folder: &Path,
    topic: &str,
    partition: i32,
    end: i64,
    take: &mut Take<'_>,
) -> Result<(), VerifyError> {
    let path = folder.join(format!("{partition}.jsonl"));
    let shown = path.display();
    let gone = |from: i64, why: String| VerifyError::gone(topic, partition, from..end, &why);
    let failed = |error: std::io::Error| gone(0, format!("{shown} can't be read: {error}"));
    let file = File::open(&path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len().cast_signed();
    if size < end {
        return Err(gone(size, format!("{shown} ends at offset {size}")));
    }
    let mut file = file.take(end.cast_unsigned());
    let (mut at, mut rest) = (0, Vec::new());
    loop {
        let mut bytes = rest;
        let more = (&mut file).take(CHUNK_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            if more == 0 && bytes.is_empty() {
                return Ok(());
            }
            if more == 0 {
                return Err(gone(at, format!("in {shown} no line ends before offset {end}")));
            }
            rest = bytes;
            continue;
        };
        rest = bytes.split_off(last + 1);
        let next = at + bytes.len() as i64;
        take(lines(partition, at, bytes));
        at = next;
    }
}

/// Whole lines as a batch; the first one begins at the offset `at`.
fn lines(partition: i32, at: i64, bytes: Vec<u8>) -> RawBatch {
    let next = at + bytes.len() as i64;
    let (mut records, mut start) = (Vec::new(), 0);
    for newline in memchr_iter(b'\n', &bytes) {
        let value = Span { start: start as u32, length: (newline - start) as u32 };
        let offset = at + start as i64;
        let (timestamp_ms, key, headers) = (NO_TIMESTAMP, NO_BYTES, NO_BYTES);
        records.push(RawRecord { offset, timestamp_ms, key, value, headers });
        start = newline + 1;
    }
    RawBatch { partition, bytes, records, next }
}
