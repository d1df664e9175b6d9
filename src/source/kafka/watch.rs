//! A watch on partitions that stand still although there is more to read: decisions without a broker.
//!
//! A partition *stands still* while its position does not move although its end has moved since. It is
//! warned about after every [`PERIOD`], and given up after [`PERIODS_MAX`] of them: a run that follows must
//! not wait for ever, in silence, for a fetch that never comes. An end that only lies beyond the position
//! proves nothing: the last records of a log can be compacted away.
//!
//! Time is the time that the source itself spent waiting for records, and only between two looks that both
//! learnt the ends. So neither a dataflow that is slow to take batches nor brokers that are away count.

use std::time::Duration;

use super::places::Place;

/// A partition that stands still for so long is warned about.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// After so many periods it is given up.
pub(super) const PERIODS_MAX: u32 = 5;

/// What the watch knows of one partition.
#[derive(Debug, Clone, Copy, Default)]
struct Stand {
    position: i64,
    /// The end when the position was reached.
    end: i64,
    /// How long it stands there, since the end has moved.
    stood: Duration,
    /// Warnings so far.
    warned: u32,
}

/// The watch over all partitions of a topic.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stands: Vec<Stand>,
    /// When the last look was, if it learnt the ends.
    looked: Option<Duration>,
}

/// A partition that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Still {
    pub(super) partition: i32,
    pub(super) position: i64,
    pub(super) end: i64,
    pub(super) stood: Duration,
    /// It stood still for all periods.
    pub(super) hopeless: bool,
}

impl Watch {
    /// Looks at all positions at `now`, a time of the source's own clock; tells of those to warn about.
    pub(super) fn look(&mut self, now: Duration, places: &[Place]) -> Vec<Still> {
        let passed = self.looked.map_or(Duration::ZERO, |looked| now.saturating_sub(looked));
        self.looked = Some(now);
        // A partition that was never looked at stands nowhere.
        self.stands.resize(places.len(), Stand { position: -1, ..Stand::default() });
        let mut still = Vec::new();
        for (partition, (stand, place)) in self.stands.iter_mut().zip(places).enumerate() {
            if place.done || place.end <= place.next || place.next != stand.position {
                *stand = Stand { position: place.next, end: place.end, ..Stand::default() };
                continue;
            }
            if place.end <= stand.end {
                continue;
            }
            stand.stood += passed;
            if stand.stood < PERIOD * (stand.warned + 1) {
                continue;
            }
            stand.warned += 1;
            still.push(Still {
                partition: partition as i32,
                position: place.next,
                end: place.end,
                stood: stand.stood,
                hopeless: stand.warned >= PERIODS_MAX,
            });
        }
        still
    }

    /// The ends could not be learnt: what passes until the next look does not count.
    pub(super) fn interrupt(&mut self) {
        self.looked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(3);

    fn place(next: i64, end: i64) -> Place {
        Place { end, ..Place::new(next, end, false) }
    }

    /// Looks every three seconds for `seconds` at the same positions; the ends move all the time.
    fn stand(
        watch: &mut Watch,
        from: &mut Duration,
        seconds: u64,
        places: &mut [Place],
    ) -> Vec<Still> {
        let mut still = Vec::new();
        for _ in 0..seconds / STEP.as_secs() {
            *from += STEP;
            still.extend(watch.look(*from, places));
            places
                .iter_mut()
                .filter(|place| place.end > place.next)
                .for_each(|place| place.end += 1);
        }
        still
    }

    #[test]
    fn a_partition_that_stands_still_while_its_end_moves_is_told_of_and_then_given_up() {
        let (mut watch, mut now) = (Watch::default(), Duration::ZERO);
        let told = stand(&mut watch, &mut now, 400, &mut [place(5, 5), place(7, 20)]);
        // The first look learns the position.
        let stood: Vec<u64> = told.iter().map(|still| still.stood.as_secs()).collect();
        assert_eq!(stood, [60, 120, 180, 240, 300, 360]);
        let hopeless: Vec<bool> = told.iter().map(|still| still.hopeless).collect();
        assert_eq!(hopeless, [false, false, false, false, true, true]);
        assert!(told.iter().all(|still| (still.partition, still.position) == (1, 7)));
        assert!(told.iter().all(|still| still.end > 20));
    }

    #[test]
    fn one_that_moves_or_is_at_its_end_is_not() {
        let (mut watch, mut now) = (Watch::default(), Duration::ZERO);
        for round in 0..20 {
            // The end moves away all the time; the position follows at last.
            let mut places = [place(round, 1_000 + round), place(9, 9)];
            assert_eq!(stand(&mut watch, &mut now, 57, &mut places), []);
        }
        assert_eq!(stand(&mut watch, &mut now, 120, &mut [place(30, 30)]), []);
    }

    #[test]
    fn an_end_that_does_not_move_proves_nothing() {
        let (mut watch, mut now) = (Watch::default(), Duration::ZERO);
        for _ in 0..200 {
            now += STEP;
            assert_eq!(watch.look(now, &[place(7, 20)]), []);
        }
        assert_eq!(stand(&mut watch, &mut now, 60, &mut [place(7, 21)]).len(), 1);
    }

    #[test]
    fn time_without_knowledge_of_the_ends_does_not_count() {
        let (mut watch, mut now) = (Watch::default(), Duration::ZERO);
        let mut places = [place(7, 20)];
        for _ in 0..20 {
            assert_eq!(stand(&mut watch, &mut now, 3, &mut places), []);
            watch.interrupt();
            now += Duration::from_secs(600);
        }
        assert_eq!(stand(&mut watch, &mut now, 60, &mut places), []);
        assert_eq!(stand(&mut watch, &mut now, 6, &mut places).len(), 1);
    }

    #[test]
    fn new_partitions_are_watched_from_when_they_are_there() {
        let (mut watch, mut now) = (Watch::default(), Duration::ZERO);
        assert_eq!(stand(&mut watch, &mut now, 30, &mut [place(5, 5)]), []);
        let told = stand(&mut watch, &mut now, 66, &mut [place(5, 5), place(1, 3)]);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].partition, told[0].hopeless), (1, false));
    }

    #[test]
    fn a_partition_that_is_done_is_not_watched() {
        let (mut watch, mut now) = (Watch::default(), Duration::ZERO);
        let done = Place { done: true, ..place(5, 9) };
        assert_eq!(stand(&mut watch, &mut now, 120, &mut [done]), []);
    }
}
