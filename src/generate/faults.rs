//! What goes wrong: copies, conflicting copies, delays, and records that can't be decoded.
//!
//! One draw per event decides: at most one of copy, conflict and malformed, and independently at most one
//! kind of delay. A conflicting copy goes to the partition of its original, after it, so that
//! the winner's content doesn't depend on how partitions interleave.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Round;
use super::random::{Chance, Purpose, Random, scale};
use super::render::{self, Event};
use super::sessions::Amount;

/// What becomes of a record apart from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Clean,
    /// Sent once more; in which other partition, counted from the record's own (0: the same).
    Copied {
        across: u32,
    },
    Conflict,
    Malformed,
}

/// When a record is written, seen from its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    None,
    OutOfOrder(i64),
    Late(i64),
}

/// Ways in which a record can be malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    Truncated,
    TrailingGarbage,
    NotAnObject,
    InvalidUtf8,
    LoneSurrogate,
    DuplicateKey,
    MissingId,
    EmptyId,
    MissingUser,
    WrongUserType,
    WrongColumnType,
    NumberTooLarge,
    BadTime,
    TimeOutOfRange,
}

impl Malformed {
    /// All kinds, in the order in which they are counted.
    pub const ALL: [Malformed; 14] = [
        Malformed::Truncated,
        Malformed::TrailingGarbage,
        Malformed::NotAnObject,
        Malformed::InvalidUtf8,
        Malformed::LoneSurrogate,
        Malformed::DuplicateKey,
        Malformed::MissingId,
        Malformed::EmptyId,
        Malformed::MissingUser,
        Malformed::WrongUserType,
        Malformed::WrongColumnType,
        Malformed::NumberTooLarge,
        Malformed::BadTime,
        Malformed::TimeOutOfRange,
    ];

    /// The word in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::TrailingGarbage => "trailing_garbage",
            Malformed::NotAnObject => "not_an_object",
            Malformed::InvalidUtf8 => "invalid_utf8",
            Malformed::LoneSurrogate => "lone_surrogate",
            Malformed::DuplicateKey => "duplicate_key",
            Malformed::MissingId => "missing_id",
            Malformed::EmptyId => "empty_id",
            Malformed::MissingUser => "missing_user",
            Malformed::WrongUserType => "wrong_user_type",
            Malformed::WrongColumnType => "wrong_column_type",
            Malformed::NumberTooLarge => "number_too_large",
            Malformed::BadTime => "bad_time",
            Malformed::TimeOutOfRange => "time_out_of_range",
        }
    }
}

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;

/// Decides about faults.
#[derive(Debug)]
pub struct Faults {
    random: Random,
    /// Upper bounds of one draw: malformed, conflict, copied.
    malformed: u64,
    conflict: u64,
    copied: u64,
    /// Upper bounds of the other draw: late, out of order.
    late: u64,
    out_of_order: u64,
    across: Chance,
    broken_user: Chance,
    partitions: u32,
    /// Mean delays, scaled down for short rounds.
    late_mean_ms: u64,
    replay_mean_ms: u64,
}

impl Faults {
    /// The faults of a round.
    pub fn new(round: &Round, number: u64, partitions: u32) -> Faults {
        let shares = &round.shares;
        let duration_ms = round.duration_ms as u64;
        // One draw per original decides about shares of all records, copies included.
        let originals = 1.0 - shares.duplicates - shares.conflicts;
        let of_originals = |share: f64| Chance::of(share / originals).parts();
        Faults {
            random: Random::new(round.seed, number, Purpose::Faults),
            malformed: of_originals(shares.malformed),
            conflict: of_originals(shares.malformed + shares.conflicts),
            copied: of_originals(shares.malformed + shares.conflicts + shares.duplicates),
            late: Chance::of(shares.late).parts(),
            out_of_order: Chance::of(shares.late + shares.out_of_order).parts(),
            across: Chance::of(shares.across),
            broken_user: Chance::of(shares.malformed),
            partitions,
            late_mean_ms: (24 * HOUR_MS).min(duration_ms / 10),
            replay_mean_ms: (6 * HOUR_MS).min(duration_ms / 20),
        }
    }

    /// What becomes of the next event, and when it is written.
    #[inline]
    pub fn decide(&mut self) -> (Fate, Delay) {
        let bits = self.random.bits();
        let (fate, delay) = (bits & 0xffff_ffff, bits >> 32);
        let fate = match fate {
            _ if fate >= self.copied => Fate::Clean,
            _ if fate < self.malformed => Fate::Malformed,
            _ if fate < self.conflict => Fate::Conflict,
            _ => Fate::Copied { across: self.across() },
        };
        let delay = match delay {
            _ if delay >= self.out_of_order => Delay::None,
            _ if delay < self.late => {
                Delay::Late(60_000 + self.random.waiting(self.late_mean_ms) as i64)
            }
            _ => Delay::OutOfOrder(1 + self.random.waiting(20 * SECOND_MS) as i64),
        };
        (fate, delay)
    }

    fn across(&mut self) -> u32 {
        if self.partitions > 1 && self.random.happens(self.across) {
            1 + self.random.below(self.partitions - 1)
        } else {
            0
        }
    }

    /// How long after its original a copy is written: mostly a retry, sometimes a replay.
    pub fn copy_lag_ms(&mut self) -> i64 {
        let replay = self.random.below(5) == 0;
        let mean = if replay { self.replay_mean_ms } else { 2 * SECOND_MS };
        1 + self.random.waiting(mean) as i64
    }

    /// Changes what an event says, but not its id and user.
    pub fn contradict(&mut self, event: &mut Event) {
        let action = &mut event.action;
        match self.random.below(3) {
            0 => action.time_ms += 1 + i64::from(self.random.below(5_000)),
            1 => action.device = render::other_device(action.device),
            _ => {
                action.amount = match action.amount {
                    Amount::Cents(cents) => Amount::Cents(cents + 1),
                    Amount::Absent | Amount::Null => Amount::Cents(1),
                };
            }
        }
    }

    /// Breaks the well-formed event in `line`, and says how.
    pub fn break_event(&mut self, line: &mut Vec<u8>) -> Malformed {
        let kind = Malformed::ALL[self.random.below(Malformed::ALL.len() as u32) as usize];
        let variant = self.random.bits() as u32;
        match kind {
            Malformed::Truncated => {
                line.truncate(1 + scale(variant, line.len() as u32 - 1) as usize)
            }
            Malformed::TrailingGarbage => {
                line.extend_from_slice(one_of(&[b"}", b" 0", b"{\"a\":1}", b"\0"], variant));
            }
            Malformed::NotAnObject => {
                line.clear();
                let values: [&[u8]; 5] = [b"[1,2]", b"42", b"\"text\"", b"true", b"GET / HTTP/1.1"];
                line.extend_from_slice(one_of(&values, variant));
            }
            Malformed::InvalidUtf8 => {
                let bytes: [&[u8]; 3] =
                    [b"\"os\":\"\xff", b"\"os\":\"\xc0\xaf", b"\"os\":\"\xed\xa0\x80"];
                replace(line, b"\"os\":\"", one_of(&bytes, variant));
            }
            Malformed::LoneSurrogate => {
                let texts: [&[u8]; 2] = [b"\"os\":\"\\ud800", b"\"os\":\"\\udfff"];
                replace(line, b"\"os\":\"", one_of(&texts, variant));
            }
            Malformed::DuplicateKey => {
                let texts: [&[u8]; 2] =
                    [b"{\"user_id\":\"u00000000\",", b"{\"type\":\"page_view\","];
                replace(line, b"{", one_of(&texts, variant));
            }
            Malformed::MissingId => replace(line, b"\"event_id\"", b"\"event_ref\""),
            Malformed::EmptyId => drop(line.splice(render::ID_RANGE, [])),
            Malformed::MissingUser => match variant % 3 {
                0 => replace(line, b"\"user_id\"", b"\"userid\""),
                1 => drop(line.splice(render::USER_RANGE, [])),
                _ => set(line, render::USER_RANGE, b"null"),
            },
            Malformed::WrongUserType => {
                let values: [&[u8]; 3] = [b"4711", b"[\"u00000001\"]", b"{\"id\":\"u00000001\"}"];
                set(line, render::USER_RANGE, one_of(&values, variant));
            }
            Malformed::WrongColumnType => {
                let texts: [&[u8]; 2] = [b"\"type\":17,\"was\":\"", b"\"type\":false,\"was\":\""];
                replace(line, b"\"type\":\"", one_of(&texts, variant));
            }
            Malformed::NumberTooLarge => {
                replace(line, b"\"amount_cents\"", b"\"amount_was\"");
                let texts: [&[u8]; 3] = [
                    b"{\"amount_cents\":1e400,",
                    b"{\"amount_cents\":9223372036854775808,",
                    b"{\"amount_cents\":-99999999999999999999,",
                ];
                replace(line, b"{", one_of(&texts, variant));
            }
            Malformed::BadTime => {
                let texts: [&[u8]; 4] =
                    [b"yesterday", b"2026-02-30T10:00:00Z", b"", b"2026-01-01T25:00:00.000Z"];
                drop(line.splice(render::TIME_RANGE, one_of(&texts, variant).iter().copied()));
            }
            Malformed::TimeOutOfRange => {
                let texts: [&[u8]; 2] = [b"1969-12-31T23:59:59.999Z", b"2200-01-01T00:00:00.000Z"];
                drop(line.splice(render::TIME_RANGE, one_of(&texts, variant).iter().copied()));
            }
        }
        kind
    }

    /// Whether a broken record follows this one in the dimension.
    pub fn breaks_user(&mut self) -> bool {
        self.broken_user.parts() > 0 && self.random.happens(self.broken_user)
    }

    /// Breaks the well-formed dimension record in `line`.
    pub fn break_user(&mut self, line: &mut Vec<u8>) {
        match self.random.below(3) {
            0 => line.truncate(line.len() / 2),
            1 => replace(line, b"\"user_id\"", b"\"userid\""),
            _ => replace(line, b"{\"user_id\"", b"{\"region\":7,\"user_id\""),
        }
    }
}

/// Records that wait for their time to be written.
#[derive(Debug, Default)]
pub struct Delayed {
    due: BinaryHeap<Reverse<(i64, u64, usize)>>,
    slots: Vec<Waiting>,
    free: Vec<usize>,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    partition: u32,
    user: u32,
    bytes: Vec<u8>,
}

impl Delayed {
    /// When the next record is due; the greatest time if there is none.
    #[inline]
    pub fn next_ms(&self) -> i64 {
        self.due.peek().map_or(i64::MAX, |Reverse((time_ms, ..))| *time_ms)
    }

    /// Keeps a record until its time. Records of the same time come in the order in which they were pushed.
    pub fn push(&mut self, time_ms: i64, partition: u32, user: u32, bytes: &[u8]) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Waiting::default());
            self.slots.len() - 1
        });
        let waiting = &mut self.slots[slot];
        waiting.partition = partition;
        waiting.user = user;
        waiting.bytes.clear();
        waiting.bytes.extend_from_slice(bytes);
        self.due.push(Reverse((time_ms, self.sequence, slot)));
        self.sequence += 1;
    }

    /// Moves the next record into `line`; gives its partition and user.
    pub fn pop(&mut self, line: &mut Vec<u8>) -> Option<(u32, u32)> {
        let Reverse((_, _, slot)) = self.due.pop()?;
        self.free.push(slot);
        let waiting = &mut self.slots[slot];
        std::mem::swap(line, &mut waiting.bytes);
        Some((waiting.partition, waiting.user))
    }
}

fn one_of<'a>(texts: &[&'a [u8]], variant: u32) -> &'a [u8] {
    texts[variant as usize % texts.len()]
}

/// Replaces the value at `range` together with the quotes around it.
fn set(line: &mut Vec<u8>, range: std::ops::Range<usize>, value: &[u8]) {
    drop(line.splice(range.start - 1..range.end + 1, value.iter().copied()));
}

/// Replaces the first occurrence of `old`, if there is one.
fn replace(line: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    if let Some(at) = memchr::memmem::find(line, old) {
        drop(line.splice(at..at + old.len(), new.iter().copied()));
    }
}
