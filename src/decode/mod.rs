//! Records become facts, payload and dead letters.
//!
//! ```text
//! RawBatch ──► EventDecoder ─────► Vec<Fact>        fixed-size rows that travel
//!                     │      ────► RecordBatch      payload: row i is of the fact with row == i
//!                     └──────────► Vec<DeadLetter>  bad records are data
//! RawBatch ──► DimensionDecoder ─► Vec<DimensionChange>, RecordBatch, Vec<DeadLetter>
//! ```
//!
//! A record is decoded whole or it is a dead letter; nothing in it is guessed, cut or rounded. The
//! grammar is that of RFC 8259, with these rules on top:
//!
//! * A record is at most [`RECORD_BYTES_MAX`] long, UTF-8 throughout, and nests at most [`DEPTH_MAX`] deep.
//! * No object, wanted or not, at any depth, holds a key twice (compared after escapes are resolved).
//! * No string, key or value, wanted or not, holds half a surrogate pair; no number is beyond a
//!   double's range.
//! * Ids, users and keys are strings, and nothing else. The empty string counts as
//!   missing.
//! * A string column takes JSON strings alone. A boolean column takes `true` and `false` alone.
//! * A long column takes JSON numbers whose value is integral (`5`, `5.0`, `5e3`), never strings.
//! * A decimal column takes JSON numbers, or strings that are spelled like one; all digits must fit.
//! * A timestamp column takes RFC 3339 strings, years 1 to 9999. The event time is RFC 3339 or a number
//!   in the job's unit, years 1970 to 2199. Digits finer than a microsecond are cut; the leap second
//!   `:60` reads as `:59`.
//! * A pointer's tokens are object keys, also where they are digits: elements of arrays can't be
//!   addressed. A path that meets something else than an object before its end finds nothing, which is
//!   the same as missing.
//! * Missing and `null` are the same: the column's default, or NULL. A wanted object or array is
//!   `wrong_type`.

mod column;
mod dimension;
mod event;
mod extract;
mod members;
mod number;
mod payload;
#[cfg(test)]
mod tests;
mod text;
mod timestamp;

use std::fmt;

pub use dimension::DimensionDecoder;
pub use event::EventDecoder;
use text::Fault;

use crate::model::Position;
use crate::source::{RawBatch, RawRecord};

/// The longest value of a record that is decoded, in bytes.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// How deep objects and arrays may stand in one another.
pub const DEPTH_MAX: u32 = 100;

/// Why a record was not decoded. The words of [`Reason::as_str`] are stable: readers select by them.
///
/// | word | meaning |
/// | --- | --- |
/// | `empty_payload` | no bytes or white space alone; for events also a null payload |
/// | `too_large` | longer than [`RECORD_BYTES_MAX`] |
/// | `invalid_utf8` | somewhere not UTF-8; for a tombstone: its key is not |
/// | `not_json` | cut short, or not JSON from some byte on |
/// | `not_an_object` | JSON, but not an object |
/// | `trailing_bytes` | something follows the JSON value |
/// | `too_deep` | nested deeper than [`DEPTH_MAX`] |
/// | `duplicate_key` | an object holds a key twice |
/// | `lone_surrogate` | a string holds half a surrogate pair |
/// | `missing_id` | the event id is missing, null or empty |
/// | `missing_user` | the user is missing, null or empty |
/// | `missing_time` | the event time is missing, null or empty |
/// | `missing_key` | the dimension's key is missing, null or empty |
/// | `wrong_type` | a value is not of its column's type |
/// | `bad_time` | a time is not RFC 3339 |
/// | `out_of_range` | a number or time that its type can't hold, or a number beyond a double's range |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Reason {
    EmptyPayload,
    TooLarge,
    InvalidUtf8,
    NotJson,
    NotAnObject,
    TrailingBytes,
    TooDeep,
    DuplicateKey,
    LoneSurrogate,
    MissingId,
    MissingUser,
    MissingTime,
    MissingKey,
    WrongType,
    BadTime,
    OutOfRange,
}

impl Reason {
    /// The stable word of this reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::EmptyPayload => "empty_payload",
            Reason::TooLarge => "too_large",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::NotJson => "not_json",
            Reason::NotAnObject => "not_an_object",
            Reason::TrailingBytes => "trailing_bytes",
            Reason::TooDeep => "too_deep",
            Reason::DuplicateKey => "duplicate_key",
            Reason::LoneSurrogate => "lone_surrogate",
            Reason::MissingId => "missing_id",
            Reason::MissingUser => "missing_user",
            Reason::MissingTime => "missing_time",
            Reason::MissingKey => "missing_key",
            Reason::WrongType => "wrong_type",
            Reason::BadTime => "bad_time",
            Reason::OutOfRange => "out_of_range",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that was not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record stands.
    pub position: Position,
    /// Timestamp of the record in milliseconds; [`NO_TIMESTAMP`](crate::source::NO_TIMESTAMP) for none.
    pub timestamp_ms: i64,
    /// Why, as one stable word.
    pub reason: Reason,
    /// Why, for people: names the column or the byte.
    pub detail: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
}

/// Why a record is refused, before its bytes are copied into a [`DeadLetter`].
#[derive(Debug)]
struct Reject {
    reason: Reason,
    detail: String,
}

impl Reject {
    #[cold]
    fn new(reason: Reason, detail: impl Into<String>) -> Reject {
        Reject { reason, detail: detail.into() }
    }

    #[cold]
    fn letter(self, batch: &RawBatch, record: &RawRecord) -> DeadLetter {
        DeadLetter {
            position: Position { partition: batch.partition, offset: record.offset },
            timestamp_ms: record.timestamp_ms,
            reason: self.reason,
            detail: self.detail,
            key: batch.get(record.key).map(<[u8]>::to_vec),
            value: batch.get(record.value).map(<[u8]>::to_vec),
        }
    }
}

/// The bytes of a batch, validated as UTF-8 at once where they allow it.
///
/// One validation of a whole batch costs less than half of one per record. Where it fails (one bad record,
/// or binary keys) each record is validated by itself.
#[derive(Debug, Clone, Copy)]
struct BatchText<'b> {
    bytes: &'b RawBatch,
    text: Option<&'b str>,
}

impl<'b> BatchText<'b> {
    fn new(batch: &'b RawBatch) -> Self {
        BatchText { bytes: batch, text: simdutf8::basic::from_utf8(&batch.bytes).ok() }
    }

    /// The text of a record's value.
    fn value(&self, record: &RawRecord) -> Result<&'b str, Reject> {
        let Some(bytes) = self.bytes.get(record.value) else {
            return Err(Reject::new(Reason::EmptyPayload, "a null payload"));
        };
        if bytes.len() > RECORD_BYTES_MAX {
            let detail =
                format!("{} bytes, and at most {RECORD_BYTES_MAX} are decoded", bytes.len());
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        let start = record.value.start as usize;
        let whole = self.text.and_then(|text| text.get(start..start + bytes.len()));
        match whole {
            Some(text) => Ok(text),
            None => utf8(bytes, "the value"),
        }
    }
}

/// `bytes` as text, or a rejection that names the first bad byte.
#[inline(never)]
fn utf8<'b>(bytes: &'b [u8], what: &str) -> Result<&'b str, Reject> {
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return Ok(text);
    }
    let at = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
    Err(Reject::new(Reason::InvalidUtf8, format!("{what} is not UTF-8 from byte {at} on")))
}

/// The rejection of a document that has a fault.
#[cold]
fn syntax(fault: Fault, document: &str) -> Reject {
    let at = fault.at as usize;
    let detail = match fault.reason {
        Reason::EmptyPayload => "no bytes, or white space alone".into(),
        Reason::NotJson => match document.get(at..).map(|rest| rest.chars().next()) {
            Some(None) => format!("the record ends too early, at byte {at}"),
            Some(Some(found)) => format!("byte {at}: {found:?} can't stand here"),
            None => format!("byte {at}: this can't stand here"),
        },
        Reason::NotAnObject => "the JSON value is not an object".into(),
        Reason::TrailingBytes => format!("byte {at}: something follows the JSON value"),
        Reason::TooDeep => format!("byte {at}: nested deeper than {DEPTH_MAX}"),
        Reason::DuplicateKey => format!("byte {at}: the object has a key twice"),
        Reason::LoneSurrogate => format!("byte {at}: half a surrogate pair"),
        Reason::OutOfRange => format!("byte {at}: a number beyond the range of a double"),
        other => format!("byte {at}: {other}"),
    };
    Reject::new(fault.reason, detail)
}
