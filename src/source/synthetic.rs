//! A topic that is made up in the process: records are computed from their offsets, without disk or broker.
//!
//! *Owns* the read positions. A record of partition `p` at offset `o` has the number `o × partitions + p`,
//! and its content is a function of the seed and that number ([`Numbered`]): reading goes on from any
//! position, and the topic has an end.

use std::sync::Arc;
use std::time::Duration;

use super::{
    NO_BYTES, NO_TIMESTAMP, Offsets, OpenOptions, Poll, RawBatch, RawRecord, Source, SourceError,
    Span,
};
use crate::generate::numbered::Numbered;
use crate::job::SyntheticSpec;

/// Records of a batch.
const BATCH_RECORDS: i64 = 4096;
/// About the size of a record, in bytes.
const RECORD_BYTES: usize = 320;

/// Makes up one topic, its partitions in turns.
#[derive(Debug)]
pub struct SyntheticSource {
    topic: Arc<str>,
    records: Numbered,
    users: bool,
    partitions: i64,
    follow: bool,
    places: Vec<Place>,
    /// Index of the place whose turn it is.
    turn: usize,
    start: Offsets,
}

#[derive(Debug)]
struct Place {
    partition: i32,
    next: i64,
    end: i64,
}

impl SyntheticSource {
    /// Opens the topic at the saved positions.
    pub fn open(spec: &SyntheticSpec, options: &OpenOptions) -> Result<Self, SourceError> {
        let topic: Arc<str> = spec.topic().into();
        let records = Numbered::new(spec.seed, spec.users, spec.rate);
        let count = spec.events.unwrap_or_else(|| records.user_records()) as i64;
        let partitions = i64::from(spec.partitions);
        let mut places = Vec::new();
        for partition in (0..spec.partitions as i32).filter(|number| options.share.has(*number)) {
            let end = (count - i64::from(partition) + partitions - 1).max(0) / partitions;
            let next = options.saved.get(&partition).copied().unwrap_or(0);
            if next > end && !options.accept_loss {
                return Err(SourceError::Loss(format!(
                    "topic {topic}, partition {partition}: the last commit ended at offset {next}, and \
                     the topic ends at {end}: a synthetic topic may only grow; --accept-loss goes on \
                     without what is missing"
                )));
            }
            places.push(Place { partition, next: next.min(end), end });
        }
        let gone = options.saved.keys().find(|partition| i64::from(**partition) >= partitions);
        if let Some(gone) = gone.filter(|_| !options.accept_loss) {
            return Err(SourceError::Loss(format!(
                "topic {topic}: the last commit read partition {gone}, and there are {partitions} now; \
                 --accept-loss goes on without it"
            )));
        }
        let start = places.iter().map(|place| (place.partition, place.next)).collect();
        let (users, follow) = (spec.events.is_none(), options.follow);
        Ok(SyntheticSource { topic, records, users, partitions, follow, places, turn: 0, start })
    }

    /// The next batch of a place.
    fn batch(&mut self, index: usize) -> RawBatch {
        let place = &mut self.places[index];
        let until = (place.next + BATCH_RECORDS).min(place.end);
        let count = (until - place.next) as usize;
        let mut batch = RawBatch { partition: place.partition, next: until, ..RawBatch::default() };
        batch.bytes.reserve_exact(count * RECORD_BYTES);
        batch.records.reserve_exact(count);
        for offset in place.next..until {
            let start = batch.bytes.len();
            let number = (offset * self.partitions + i64::from(place.partition)) as u64;
            if self.users {
                self.records.user(number, &mut batch.bytes);
            } else {
                self.records.event(number, &mut batch.bytes);
            }
            let length = (batch.bytes.len() - start) as u32;
            let value = Span { start: start as u32, length };
            let (timestamp_ms, key, headers) = (NO_TIMESTAMP, NO_BYTES, NO_BYTES);
            batch.records.push(RawRecord { offset, timestamp_ms, key, value, headers });
        }
        place.next = until;
        batch
    }
}

impl Source for SyntheticSource {
    fn topic(&self) -> Arc<str> {
        Arc::clone(&self.topic)
    }

    fn start(&self) -> Offsets {
        self.start.clone()
    }

    fn ends(&self) -> Offsets {
        self.places.iter().map(|place| (place.partition, place.end)).collect()
    }

    fn poll(&mut self, timeout: Duration) -> Result<Poll, SourceError> {
        let count = self.places.len();
        let turns = (0..count).map(|step| (self.turn + step) % count);
        if let Some(index) = turns.into_iter().find(|index| {
            let place = &self.places[*index];
            place.next < place.end
        }) {
            self.turn = index + 1;
            return Ok(Poll::Batch(self.batch(index)));
        }
        if !self.follow {
            return Ok(Poll::End);
        }
        std::thread::park_timeout(timeout);
        Ok(Poll::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Share;

    fn spec(events: Option<u64>) -> SyntheticSpec {
        SyntheticSpec { events, users: 300, partitions: 3, seed: 9, rate: 60 }
    }

    fn options(saved: Offsets) -> OpenOptions {
        OpenOptions {
            saved,
            follow: false,
            accept_loss: false,
            connect_timeout: Duration::ZERO,
            share: Share::ALL,
            headers: false,
        }
    }

    /// All lines of each partition, and the position behind them.
    fn read(source: &mut SyntheticSource) -> Vec<(Vec<String>, i64)> {
        let mut found = vec![(Vec::new(), 0); 3];
        while let Poll::Batch(batch) = source.poll(Duration::ZERO).expect("a batch") {
            let (lines, next) = &mut found[batch.partition as usize];
            for record in &batch.records {
                let line = batch.get(record.value).expect("a value");
                lines.push(String::from_utf8(line.to_vec()).expect("UTF-8"));
            }
            *next = batch.next;
        }
        found
    }

    #[test]
    fn partitions_share_the_records_and_reading_goes_on_anywhere() {
        let mut whole =
            SyntheticSource::open(&spec(Some(20_000)), &options(Offsets::new())).unwrap();
        let ends = whole.ends();
        assert_eq!(ends, Offsets::from([(0, 6_667), (1, 6_667), (2, 6_666)]));
        let all = read(&mut whole);
        assert!(
            all.iter()
                .zip(ends.values())
                .all(|((lines, next), end)| { *next == *end && lines.len() == *end as usize })
        );
        let saved = Offsets::from([(0, 5_000), (1, 6_667), (2, 1)]);
        let mut rest = SyntheticSource::open(&spec(Some(20_000)), &options(saved.clone())).unwrap();
        assert_eq!(rest.start(), saved);
        for ((lines, _), (all, from)) in read(&mut rest).iter().zip(all.iter().zip(saved.values()))
        {
            assert_eq!(*lines, all.0[*from as usize..]);
        }
    }

    #[test]
    fn a_topic_of_users_has_each_of_them() {
        let mut users = SyntheticSource::open(&spec(None), &options(Offsets::new())).unwrap();
        assert_eq!(&*users.topic(), "users");
        let lines: usize = read(&mut users).iter().map(|(lines, _)| lines.len()).sum();
        assert_eq!(lines, 306);
    }

    #[test]
    fn a_position_behind_the_end_is_a_loss() {
        for saved in [Offsets::from([(0, 99_999)]), Offsets::from([(3, 1)])] {
            let opened = SyntheticSource::open(&spec(Some(100)), &options(saved));
            let error = opened.expect_err("refused").to_string();
            assert!(error.contains("--accept-loss"), "{error}");
        }
    }
}
