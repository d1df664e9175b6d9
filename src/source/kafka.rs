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
//! 4. A topic that was deleted and made again is another log. Between runs the last record of each partition
//!    tells ([`verify`]), within a run that follows the topic's id does ([`Client`]).
//! 5. Nothing is waited for in silence: a bounded run gives up, one that follows has a [`Watch`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use self::client::Client;
use self::gather::{Gather, Lent};
use self::options::{consumer_config, hear_of_ids};
use self::places::Place;
use self::watch::Watch;
use super::mark::Marks;
use super::{NO_TIMESTAMP, Offsets, OpenOptions, Poll, RawBatch, Source, SourceError};
use crate::job::KafkaSpec;

mod client;
mod context;
mod events;
mod gather;
mod headers;
mod options;
mod places;
mod report;
mod verify;
mod watch;

pub use report::OffsetReporter;

/// The longest wait for a message before positions are looked at again.
const WAIT: Duration = Duration::from_millis(10);
/// More than this in one poll is time in which this process was stopped: no sign of brokers that are away.
const POLL_MAX: Duration = Duration::from_secs(1);
/// A client that was left without an answer for so long is given up for a new one. librdkafka forgets all
/// brokers when one that was stopped for a while tells of none, and does not ask again.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Messages between two looks at the clock.
const MESSAGES_PER_LOOK: u32 = 4096;

/// Reads one topic of a Kafka cluster.
#[derive(Debug)]
pub struct KafkaSource {
    client: Client,
    spec: KafkaSpec,
    options: OpenOptions,
    /// By Kafka partition.
    places: Vec<Place>,
    gather: Gather,
    /// Headers of the message at hand.
    headers: Vec<u8>,
    start: Offsets,
    /// Since when nothing has come although records are missing, on the source's clock.
    waiting: Option<Duration>,
    /// Since when this client, or the ones before it, got no answer; on the source's clock.
    unanswered: Option<Duration>,
    refreshed: Instant,
    messages: u32,
    /// When trouble was told last.
    told: Option<Instant>,
    watch: Watch,
    /// The source's clock: the time spent in `poll`. While others keep it waiting it stands.
    polled: Duration,
}

impl KafkaSource {
    /// Connects, checks the saved positions against the log, and starts to read.
    pub fn open(spec: &KafkaSpec, options: &OpenOptions) -> Result<KafkaSource, SourceError> {
        let mut config = consumer_config(spec)?;
        if options.follow {
            hear_of_ids(&mut config);
        }
        let client = Client::new(spec, &config)?;
        let patience = options.connect_timeout;
        let count = client.ask(patience, |timeout| client.partition_count(timeout))?;
        let (low, high) = client.ask(patience, |timeout| client.limits(count, timeout))?;
        places::check_count(&client.topic, &options.saved, count, options.accept_loss)?;
        let mut places = Vec::with_capacity(low.len());
        for partition in 0..count {
            let saved = options.saved.get(&partition).copied();
            let limits = (low[&partition], high[&partition]);
            let next = places::start(&client.topic, partition, saved, limits, options.accept_loss)?;
            let place = Place::new(next, high[&partition], !options.follow);
            places.push(place.read_here(options.share.has(partition)));
        }
        let mut source = KafkaSource {
            client,
            spec: spec.clone(),
            start: Offsets::new(),
            places,
            options: options.clone(),
            gather: Gather::default(),
            headers: Vec::new(),
            waiting: None,
            unanswered: None,
            refreshed: Instant::now(),
            messages: 0,
            told: None,
            watch: Watch::default(),
            polled: Duration::ZERO,
        };
        source.start = source.positions();
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

    /// Something was heard of the brokers.
    fn answered(&mut self) {
        (self.waiting, self.unanswered) = (None, None);
    }

    /// Goes on with another client at the same positions if this one got no answer for long.
    fn renew_if_due(&mut self) -> Result<(), SourceError> {
        let since = *self.unanswered.get_or_insert(self.polled);
        if self.polled - since < RENEW_EVERY {
            return Ok(());
        }
        tracing::debug!(topic = %self.client.topic, "no answer for long: reading on with another client");
        self.unanswered = None;
        self.client = self.client.anew()?;
        self.assign()
    }

    /// As if nothing had been heard for long.
    #[cfg(test)]
    pub(super) fn stay_unanswered(&mut self) -> Result<(), SourceError> {
        self.unanswered = Some(self.polled);
        self.polled += RENEW_EVERY;
        self.renew_if_due()
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

    /// The end of a partition is reached: nothing more is fetched of it.
    fn finish(&mut self, partition: i32) -> Result<(), SourceError> {
        self.places[partition as usize].done = true;
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.client.topic, partition);
        self.client.consumer.pause(&list).map_err(|error| self.failed(&error.to_string()))
    }

    /// The next thing to say, of this topic or of one that has taken its place.
    fn next(&mut self, timeout: Duration) -> Result<Poll, SourceError> {
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
                    self.answered();
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
                    if !self.options.follow && self.places.iter().all(|place| place.done) {
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

    /// The positions of the partitions that are read here.
    fn positions(&self) -> Offsets {
        let places = (0..).zip(&self.places).filter(|(_, place)| place.here);
        places.map(|(partition, place)| (partition, place.next)).collect()
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
        let places = (0..).zip(&self.places).filter(|(_, place)| place.here);
        places.map(|(partition, place)| (partition, end(place))).collect()
    }

    fn verify(&mut self, marks: &mut Marks) -> Result<bool, SourceError> {
        verify::verify(&self.spec, &self.options, &self.start, marks)
    }

    fn poll(&mut self, timeout: Duration) -> Result<Poll, SourceError> {
        let begun = Instant::now();
        let next = self.next(timeout)?;
        self.polled += begun.elapsed().min(POLL_MAX);
        // A record of another topic is fetched only after its id is known.
        self.refuse_another()?;
        Ok(next)
    }
}
