//! Notices that the dataflow stands still: a worker that hangs would otherwise keep a run for ever, with
//! its lock and its heartbeats.

use std::time::Duration;

use crate::model::Epoch;

/// An epoch that is closed is worked off within this time, even on slow storage.
const STANDSTILL_MAX: Duration = Duration::from_secs(300);
/// More than this between two looks is time in which the whole process was stopped: it does not count.
const LOOK_MAX: Duration = Duration::from_millis(200);

/// How long the frontier of the dataflow has not moved.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    /// The first epoch that was not worked off when the frontier moved last.
    open: Epoch,
    stood: Duration,
}

impl Standstill {
    /// Looks at the frontier, `passed` after the last look: `open` is the first epoch that is not worked off,
    /// all before `next` are closed. True if nothing has moved for too long.
    pub(super) fn look(&mut self, open: Epoch, next: Epoch, passed: Duration) -> bool {
        if open != self.open || open >= next {
            (self.open, self.stood) = (open, Duration::ZERO);
        } else {
            self.stood += passed.min(LOOK_MAX);
        }
        self.stood >= STANDSTILL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: u32 = STANDSTILL_MAX.as_millis() as u32 / 50;
    const PASSED: Duration = Duration::from_millis(50);

    /// How many looks it takes to notice.
    fn looks(watch: &mut Standstill, open: Epoch, next: Epoch, passed: Duration) -> Option<u32> {
        (1..=3 * LOOKS).find(|_| watch.look(open, next, passed))
    }

    #[test]
    fn a_closed_epoch_that_is_not_worked_off_is_noticed() {
        let mut watch = Standstill::default();
        assert!(!watch.look(7, 8, PASSED));
        assert_eq!(looks(&mut watch, 7, 8, PASSED), Some(LOOKS));
    }

    #[test]
    fn what_moves_or_has_nothing_to_do_is_left_alone() {
        let mut watch = Standstill::default();
        for _ in 0..3 {
            for open in 1..LOOKS as Epoch {
                assert!(!watch.look(open, open + 6, PASSED));
            }
        }
        assert_eq!(looks(&mut watch, 9, 9, PASSED), None);
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let mut watch = Standstill::default();
        watch.look(1, 2, PASSED);
        assert!(!watch.look(1, 2, 10 * STANDSTILL_MAX));
        assert_eq!(looks(&mut watch, 1, 2, PASSED), Some(LOOKS - 4));
    }
}
