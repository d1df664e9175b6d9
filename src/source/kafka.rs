//! A topic of a Kafka cluster, read by a consumer with assigned partitions and our own offsets.
//!
//! *Owns* the read position of every Kafka partition. *Does not own* the connection ([`Client`]) nor batches
//! ([`Gather`]).
//!
//! 1. No group is joined and no committed offset is read: where reading starts is checked against the log's
//!    limits, and a position outside of them is an error ([`SourceError::Loss`]), never a jump.
//! 2. The end of a bounded run is a position, not a message: the last offsets may be control records, aborted
//!    records or compacted away. It is reached when a record at or behind it arrives, when librdkafka's
//!    position has passed it, or when librdkafka reports the end of the partition.
//! 3. Positions only move forward. A batch's `next` is its partition's position when it was handed out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::kafka_client::{Client, describe};
use super::kafka_gather::{Gather, Lent};
use super::kafka_options::consumer_config;
use super::{NO_TIMESTAMP, Offsets, OpenOptions, Poll, RawBatch, Source, SourceError};
use crate::job::KafkaSpec;

mod headers;
mod places;

use places::Place;

/// The longest wait for a message before positions are looked at again.
const WAIT: Duration = Duration::from_millis(10);
/// How often a following source looks for new partitions and ends.
const REFRESH_EVERY: Duration = Duration::from_secs(3);
/// How long that may hold up reading.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages between two looks at the clock.
const MESSAGES_PER_LOOK: u32 = 4096;
/// The same trouble is told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Reads one topic of a Kafka cluster.
#[derive(Debug)]
pub struct KafkaSource {
    client: Client,
    options: OpenOptions,
    /// By Kafka partition.
    places: Vec<Place>,
    gather: Gather,
    /// Headers of the message at hand.
    headers: Vec<u8>,
    start: Offsets,
    /// Since when nothing has come although records are missing.
    waiting: Option<Instant>,
    refreshed: Instant,
    messages: u32,
    told: Option<(Instant, String)>,
}

impl KafkaSource {
    /// Connects, checks the saved positions against the log, and starts to read.
    pub fn open(spec: &KafkaSpec, options: &OpenOptions) -> Result<KafkaSource, SourceError> {
        let client = Client::new(spec, &consumer_config(spec)?)?;
        let patience = options.connect_timeout;
        let count = client.ask(patience, |timeout| client.partition_count(timeout))?;
        let (low, high) = client.ask(patience, |timeout| client.limits(count, timeout))?;
        places::check_count(&client.topic, &options.saved, count, options.accept_loss)?;
        let mut places = Vec::with_capacity(low.len());
        for partition in 0..count {
            let saved = options.saved.get(&partition).copied();
            let limits = (low[&partition], high[&partition]);
            let next = places::start(&client.topic, partition, saved, limits, options.accept_loss)?;
            places.push(Place::new(next, high[&partition], !options.follow));
        }
        let mut source = KafkaSource {
            client,
            start: (0..).zip(places.iter().map(|place| place.next)).collect(),
            places,
            options: options.clone(),
            gather: Gather::default(),
            headers: Vec::new(),
            waiting: None,
            refreshed: Instant::now(),
            messages: 0,
            told: None,
        };
        source.assign()?;
        Ok(source)
    }

    /// Reads on from the positions of all partitions that are not at their end.
    fn assign(&mut self) -> Result<(), SourceError> {
        let list = self.list(0, |place| !place.done)?;
        if list.count() == 0 {
            return Ok(());
        }
        self.client.assign(&list).map_err(|error| self.failed(&error.to_string()))
    }

    /// The partitions from `from` on that `choose` picks, at their positions.
    fn list(
        &self,
        from: usize,
        choose: impl Fn(&Place) -> bool,
    ) -> Result<TopicPartitionList, SourceError> {
        let mut list = TopicPartitionList::new();
        for (partition, place) in self.places.iter().enumerate().skip(from) {
            if choose(place) {
                list.add_partition_offset(
                    &self.client.topic,
                    partition as i32,
                    Offset::Offset(place.next),
                )
                .map_err(|error| self.failed(&error.to_string()))?;
            }
        }
        Ok(list)
    }

    fn failed(&self, why: &str) -> SourceError {
        SourceError::Failed(format!("topic {}: {why}", self.client.topic))
    }

    /// Sets the position that the batch stands for.
    fn hand_out(&mut self, mut batch: RawBatch) -> Poll {
        let place = &mut self.places[batch.partition as usize];
        place.told = place.next;
        batch.next = place.next;
        Poll::Batch(batch)
    }

    /// Something that is known but not told: the oldest open batch, or a position.
    fn leftover(&mut self) -> Option<Poll> {
        if let Some(batch) = self.gather.oldest() {
            return Some(self.hand_out(batch));
        }
        let partition = self.places.iter().position(|place| place.told < place.next)?;
        let place = &mut self.places[partition];
        place.told = place.next;
        Some(Poll::Advanced { partition: partition as i32, next: place.next })
    }

    /// What an event that is no message means.
    fn absorb_error(&mut self, error: KafkaError) -> Result<(), SourceError> {
        use RDKafkaErrorCode as Code;
        let code = match error {
            KafkaError::PartitionEOF(partition) => return self.absorb_end(partition),
            KafkaError::MessageConsumptionFatal(code) => {
                let why = self.client.last_error().unwrap_or_else(|| describe(code));
                return Err(self.failed(&format!("librdkafka can't go on: {why}")));
            }
            other => other.rdkafka_error_code().unwrap_or(Code::Fail),
        };
        let reason = self.client.last_error().unwrap_or_else(|| describe(code));
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                self.out_of_range()
            }
            Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
            | Code::InvalidMessage
            | Code::MessageSizeTooLarge => {
                // librdkafka would skip what it can't read.
                Err(self.failed(&format!("records can't be read, and are not skipped: {reason}")))
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                let patience = self.options.connect_timeout;
                let count =
                    self.client.ask(patience, |timeout| self.client.partition_count(timeout))?;
                places::check_count(&self.client.topic, &self.positions(), count, false)
            }
            Code::Authentication | Code::SaslAuthenticationFailed if self.options.follow => {
                self.tell(&reason);
                Ok(())
            }
            Code::GroupAuthorizationFailed => {
                debug!(topic = %self.client.topic, "no right to the consumer group, which is not needed to read");
                Ok(())
            }
            code => {
                self.client.refuse(code)?;
                self.tell(&reason);
                Ok(())
            }
        }
    }

    /// Tells people of trouble that librdkafka goes on trying to overcome, but not too often.
    fn tell(&mut self, reason: &str) {
        let known = |(at, told): &(Instant, String)| told == reason && at.elapsed() < TELL_EVERY;
        if !self.told.as_ref().is_some_and(known) {
            warn!(topic = %self.client.topic, error = reason, "trouble with kafka, trying again");
            self.told = Some((Instant::now(), reason.to_owned()));
        }
    }

    /// librdkafka reports the end of a partition: everything below has been handed out.
    fn absorb_end(&mut self, partition: i32) -> Result<(), SourceError> {
        self.absorb_positions();
        self.waiting = None;
        let place = self.places[partition as usize];
        if self.options.follow || place.done {
            return Ok(());
        }
        // The rest up to the end is compacted away, unless the log itself has become shorter.
        let patience = self.options.connect_timeout;
        let high = self.client.ask(patience, |timeout| {
            self.client.limit(partition, partition + 1, Offset::End, timeout)
        })?;
        if high[&partition] < place.end {
            return self.out_of_range();
        }
        self.places[partition as usize].next = place.end;
        self.finish(partition)
    }

    /// Takes over the positions of librdkafka, which pass records that nobody sees.
    fn absorb_positions(&mut self) {
        for (partition, reached) in self.client.positions() {
            let Some(place) = self.places.get_mut(partition as usize) else { continue };
            if reached > place.next && !place.done {
                place.next = if self.options.follow { reached } else { reached.min(place.end) };
                self.waiting = None;
            }
        }
    }

    /// Ends the partitions whose position has reached their end.
    fn finish_reached(&mut self) -> Result<(), SourceError> {
        for partition in 0..self.places.len() {
            let place = &self.places[partition];
            if !self.options.follow && !place.done && place.next >= place.end {
                self.finish(partition as i32)?;
            }
        }
        Ok(())
    }

    /// The end of a partition is reached: nothing more is fetched of it.
    fn finish(&mut self, partition: i32) -> Result<(), SourceError> {
        self.places[partition as usize].done = true;
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.client.topic, partition);
        self.client.consumer.pause(&list).map_err(|error| self.failed(&error.to_string()))
    }

    /// A position lies outside of the log: a loss, named, or where it was accepted the next position there is.
    fn out_of_range(&mut self) -> Result<(), SourceError> {
        let patience = self.options.connect_timeout;
        let count = self.places.len() as i32;
        let (low, high) =
            self.client.ask(patience, |timeout| self.client.limits(count, timeout))?;
        for partition in 0..count {
            let limits = (low[&partition], high[&partition]);
            let place = &mut self.places[partition as usize];
            let accept_loss = self.options.accept_loss;
            place.next = places::start(
                &self.client.topic,
                partition,
                Some(place.next),
                limits,
                accept_loss,
            )?;
            place.end = place.end.min(limits.1);
            place.told = place.told.min(place.next);
        }
        self.assign()
    }

    /// Looks for new partitions and for the ends of the known ones.
    fn refresh(&mut self) -> Result<(), SourceError> {
        let known = self.places.len();
        let found = self.client.partition_count(REFRESH_TIMEOUT).and_then(|count| {
            let low = self.client.limit(
                known as i32,
                count.max(known as i32),
                Offset::Beginning,
                REFRESH_TIMEOUT,
            )?;
            Ok((count, low, self.client.limit(0, count, Offset::End, REFRESH_TIMEOUT)?))
        });
        self.refreshed = Instant::now();
        let (count, low, high) = match found {
            Ok(found) => found,
            Err(error) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                if code != RDKafkaErrorCode::Authentication {
                    self.client.refuse(code)?;
                }
                self.tell(&describe(code));
                return Ok(());
            }
        };
        places::check_count(&self.client.topic, &self.positions(), count, false)?;
        for (place, high) in self.places.iter_mut().zip(high.values()) {
            place.end = *high;
        }
        for (partition, low) in low {
            warn!(topic = %self.client.topic, partition, offset = low, "new kafka partition, read from its beginning");
            self.places.push(Place::new(low, high[&partition], false));
        }
        if self.places.len() > known {
            let list = self.list(known, |_| true)?;
            let assigned = self.client.consumer.incremental_assign(&list);
            assigned.map_err(|error| self.failed(&error.to_string()))?;
        }
        Ok(())
    }

    fn positions(&self) -> Offsets {
        (0..).zip(self.places.iter().map(|place| place.next)).collect()
    }

    /// Nothing is there to read: looks where it stands. An error where a bounded run waits in vain.
    fn absorb_silence(&mut self) -> Result<(), SourceError> {
        self.absorb_positions();
        self.finish_reached()?;
        let waited = self.waiting.get_or_insert_with(Instant::now).elapsed();
        if !self.options.follow
            && waited > self.options.connect_timeout
            && !self.places.iter().all(|place| place.done)
        {
            return Err(self.client.gave_up(waited, "no records arrive, and no reason is known"));
        }
        Ok(())
    }

    fn refresh_if_due(&mut self) -> Result<(), SourceError> {
        if self.options.follow && self.refreshed.elapsed() >= REFRESH_EVERY {
            self.refresh()?;
        }
        Ok(())
    }
}

/// Takes one message; says whether its partition is at its end, and gives a batch that is full.
fn absorb(
    message: &BorrowedMessage<'_>,
    places: &mut [Place],
    gather: &mut Gather,
    headers: Option<&mut Vec<u8>>,
) -> (bool, Option<RawBatch>) {
    let (partition, offset) = (message.partition(), message.offset());
    let Some(place) = places.get_mut(partition as usize) else { return (false, None) };
    if place.done || offset < place.next {
        return (false, None);
    }
    if place.bounded && offset >= place.end {
        place.next = place.end;
        return (true, gather.take(partition));
    }
    place.next = offset + 1;
    let reached = place.bounded && place.next >= place.end;
    let full = gather.push(&Lent {
        partition,
        offset,
        timestamp_ms: message.timestamp().to_millis().unwrap_or(NO_TIMESTAMP),
        key: message.key(),
        value: message.payload(),
        headers: headers.and_then(|text| headers::write(message, text)),
    });
    (reached, full)
}

impl Source for KafkaSource {
    fn topic(&self) -> Arc<str> {
        Arc::clone(&self.client.topic)
    }

    fn start(&self) -> Offsets {
        self.start.clone()
    }

    fn ends(&self) -> Offsets {
        let end = |place: &Place| if place.bounded { place.end } else { place.end.max(place.next) };
        (0..).zip(self.places.iter().map(end)).collect()
    }

    fn poll(&mut self, timeout: Duration) -> Result<Poll, SourceError> {
        let deadline = Instant::now() + timeout;
        let mut wait = Duration::ZERO;
        loop {
            let event = self.client.consumer.poll(wait);
            wait = Duration::ZERO;
            match event {
                Some(Ok(message)) => {
                    let headers = self.options.headers.then_some(&mut self.headers);
                    let partition = message.partition();
                    let (reached, batch) =
                        absorb(&message, &mut self.places, &mut self.gather, headers);
                    drop(message);
                    self.waiting = None;
                    if reached {
                        self.finish(partition)?;
                    }
                    self.messages += 1;
                    if self.messages >= MESSAGES_PER_LOOK {
                        self.messages = 0;
                        self.refresh_if_due()?;
                    }
                    if let Some(batch) = batch {
                        return Ok(self.hand_out(batch));
                    }
                }
                Some(Err(error)) => self.absorb_error(error)?,
                None => {
                    if let Some(poll) = self.leftover() {
                        return Ok(poll);
                    }
                    self.absorb_silence()?;
                    if let Some(poll) = self.leftover() {
                        return Ok(poll);
                    }
                    if self.places.iter().all(|place| place.done) {
                        return Ok(Poll::End);
                    }
                    self.refresh_if_due()?;
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Poll::Idle);
                    }
                    wait = left.min(WAIT);
                }
            }
        }
    }
}
