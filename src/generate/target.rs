//! From a stream of records to a place, as fast as it goes or at a rate.

use std::thread;
use std::time::{Duration, Instant};

use super::directory::{Directory, DirectoryError};
use super::kafka::{Kafka, KafkaTargetError};
use super::{Record, Stream};

/// Where records are written.
#[derive(Debug)]
pub enum Target {
    Directory(Directory),
    Kafka(Kafka),
}

/// Why they can't be.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Kafka(#[from] KafkaTargetError),
}

/// Records between two calls of `progress` where no rate is asked for.
const STRIDE: u64 = 50_000;
/// At a rate, records are written in this many portions a second.
const PORTIONS_PER_SECOND: u64 = 100;

impl Target {
    fn write(&mut self, record: &Record<'_>) -> Result<(), TargetError> {
        match self {
            Target::Directory(directory) => Ok(directory.write(record)?),
            Target::Kafka(kafka) => Ok(kafka.write(record)?),
        }
    }

    fn flush(&mut self) -> Result<(), TargetError> {
        match self {
            Target::Directory(directory) => Ok(directory.flush()?),
            Target::Kafka(kafka) => Ok(kafka.flush()?),
        }
    }

    /// Makes what was written so far visible to readers soon.
    fn portion(&mut self) -> Result<(), TargetError> {
        match self {
            Target::Directory(directory) => Ok(directory.flush()?),
            // The producer sends by itself.
            Target::Kafka(_) => Ok(()),
        }
    }
}

/// Writes all records of `stream`; `rate` limits the records of a second, and `progress` hears
/// how many were written, now and then.
pub fn run(
    stream: &mut Stream,
    target: &mut Target,
    rate: Option<u64>,
    mut progress: impl FnMut(u64),
) -> Result<(), TargetError> {
    let stride = rate.map_or(STRIDE, |rate| (rate / PORTIONS_PER_SECOND).max(1));
    let started = Instant::now();
    let mut written = 0_u64;
    while let Some(record) = stream.next_record() {
        target.write(&record)?;
        written += 1;
        if written.is_multiple_of(stride) {
            progress(written);
            if let Some(rate) = rate {
                target.portion()?;
                let due = Duration::from_secs_f64(written as f64 / rate as f64);
                rest(due.saturating_sub(started.elapsed()));
            }
        }
    }
    target.flush()?;
    progress(written);
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a rate is time that is waited")]
fn rest(time: Duration) {
    thread::sleep(time);
}
