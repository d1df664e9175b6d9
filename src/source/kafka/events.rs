//! What a Kafka source hears besides messages: ends, errors, silence, new partitions.
//!
//! Whatever would lose records is an error. Whatever librdkafka goes on trying to overcome is told as a
//! warning; a bounded run gives up after a while, a following one never does.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, warn};

use super::super::SourceError;
use super::KafkaSource;
use super::client::describe;
use super::places::{self, Place};
use super::watch::Still;

/// How often a following source looks for new partitions and ends.
const REFRESH_EVERY: Duration = Duration::from_secs(3);
/// How long that may hold up reading.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// Trouble is told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl KafkaSource {
    /// What an event that is no message means.
    pub(super) fn absorb_error(&mut self, error: KafkaError) -> Result<(), SourceError> {
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
                places::check_count(&self.client.topic, &self.positions(), count, false)?;
                self.tell(&reason);
                Ok(())
            }
            Code::Authentication | Code::SaslAuthenticationFailed if self.options.follow => {
                self.tell(&reason);
                Ok(())
            }
            Code::GroupAuthorizationFailed => {
                debug!(topic = %self.client.topic, "no right to the group, which is not needed to read");
                Ok(())
            }
            code => {
                self.client.refuse(code)?;
                self.tell(&reason);
                Ok(())
            }
        }
    }

    /// librdkafka reports the end of a partition: everything below has been handed out.
    fn absorb_end(&mut self, partition: i32) -> Result<(), SourceError> {
        self.absorb_positions();
        self.answered();
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

    /// Nothing is there to read: looks where it stands. An error where a bounded run waits in vain.
    pub(super) fn absorb_silence(&mut self) -> Result<(), SourceError> {
        self.absorb_positions();
        self.finish_reached()?;
        let waited = self.polled - *self.waiting.get_or_insert(self.polled);
        if !self.options.follow
            && waited > self.options.connect_timeout
            && !self.places.iter().all(|place| place.done)
        {
            return Err(self.client.gave_up(waited, "none, nothing was heard"));
        }
        if !self.options.follow && !waited.is_zero() { self.renew_if_due() } else { Ok(()) }
    }

    /// Takes over the positions of librdkafka, which pass records that nobody sees.
    fn absorb_positions(&mut self) {
        for (partition, reached) in self.client.positions() {
            let Some(place) = self.places.get_mut(partition as usize) else { continue };
            if reached > place.next && !place.done {
                place.next = if self.options.follow { reached } else { reached.min(place.end) };
                self.answered();
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

    /// A position lies outside of the log: a loss, or where that was accepted, on from the nearest offset.
    fn out_of_range(&mut self) -> Result<(), SourceError> {
        let patience = self.options.connect_timeout;
        let count = self.places.len() as i32;
        let (low, high) =
            self.client.ask(patience, |timeout| self.client.limits(count, timeout))?;
        for partition in 0..count {
            let limits = (low[&partition], high[&partition]);
            let place = &mut self.places[partition as usize];
            if place.done {
                continue;
            }
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

    /// The topic was deleted and made again while it was read: a loss, or where that was accepted, on in
    /// the new one.
    pub(super) fn refuse_another(&mut self) -> Result<(), SourceError> {
        let Some((before, now)) = self.client.changed_id() else { return Ok(()) };
        let topic = &*self.client.topic;
        if self.options.accept_loss {
            warn!(topic, before, now, "the topic was made again: loss accepted");
            return self.out_of_range();
        }
        let positions = self.places.iter().enumerate();
        let positions = positions.map(|(partition, place)| format!("{partition}: {}", place.next));
        let positions = positions.collect::<Vec<_>>().join(", ");
        Err(SourceError::Loss(format!(
            "topic {topic} was deleted and made again while it was read: its id was {before} and is {now} \
             now (read up to these offsets of its partitions: {positions}); run the job under a new name to \
             read all of the new topic, or --accept-loss goes on in it at these offsets"
        )))
    }

    /// Warns of partitions that stand still although there is more to read; gives up in the end.
    fn watch(&mut self) -> Result<(), SourceError> {
        for still in self.watch.look(self.polled, &self.places) {
            let Still { partition, position, end, stood, hopeless } = still;
            let (topic, seconds) = (&*self.client.topic, stood.as_secs());
            if hopeless {
                let brokers = &self.spec.brokers;
                return Err(SourceError::Failed(format!(
                    "topic {topic}, partition {partition}: nothing was read for {seconds} s at offset \
                     {position}, although the log goes on to offset {end}: brokers {brokers} answer but send \
                     no records; look at the leader of this partition, and run again to go on"
                )));
            }
            warn!(topic, partition, position, end, seconds, "a partition stands still");
        }
        Ok(())
    }

    pub(super) fn refresh_if_due(&mut self) -> Result<(), SourceError> {
        if self.options.follow && self.refreshed.elapsed() >= REFRESH_EVERY {
            self.refresh()?;
        }
        Ok(())
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
            Ok(found) => {
                self.unanswered = None;
                found
            }
            Err(error) => {
                self.watch.interrupt();
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                if code != RDKafkaErrorCode::Authentication {
                    self.client.refuse(code)?;
                }
                self.tell(&describe(code));
                return self.renew_if_due();
            }
        };
        places::check_count(&self.client.topic, &self.positions(), count, false)?;
        for (place, high) in self.places.iter_mut().zip(high.values()) {
            place.end = *high;
        }
        for (partition, low) in low {
            let topic = &*self.client.topic;
            warn!(topic, partition, offset = low, "new kafka partition, read from its beginning");
            let place = Place::new(low, high[&partition], false);
            self.places.push(place.read_here(self.options.share.has(partition)));
        }
        let list = self.list(known, |place| place.here)?;
        if list.count() > 0 {
            let assigned = self.client.consumer.incremental_assign(&list);
            assigned.map_err(|error| self.failed(&error.to_string()))?;
        }
        self.watch()
    }

    /// Tells people of trouble that librdkafka goes on trying to overcome: one warning at a time.
    fn tell(&mut self, reason: &str) {
        let topic = &*self.client.topic;
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            debug!(topic, error = reason, "trouble with kafka goes on");
            return;
        }
        warn!(topic, error = reason, "trouble with kafka, trying again");
        self.told = Some(Instant::now());
    }
}
