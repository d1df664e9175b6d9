//! Bytes: events and dimension records as JSON lines, written by hand into one buffer.
//!
//! An event has about 300 bytes: the fields that the job of the handbook reads (`event_id`, `user_id`, `ts`,
//! `type`, `amount_cents`, `currency`, `device.os`) and some that it doesn't, as real events have.

use std::ops::Range;

use super::sessions::{Action, Amount};
use super::users::{PLANS, User, region_name, region_of};

/// `u` and eight digits.
pub const USER_ID_BYTES: usize = 9;
/// `2026-01-01T00:00:00.000Z`.
pub const TIME_BYTES: usize = 24;
/// Number of entries in the lists below.
pub const PAGES: u8 = 16;
pub const REFERRERS: u8 = 8;
pub const DEVICES: u8 = 10;

const DAY_MS: i64 = 86_400_000;

/// An event: what happened, its id and its user's currency.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub id: (u64, u64),
    pub action: Action,
    pub currency: &'static [u8; 3],
}

/// Pages, as JSON text: plain, beyond ASCII, and escaped.
const PAGE_TEXTS: [&str; PAGES as usize] = [
    "/",
    "/pricing",
    "/pricing/compare",
    "/features",
    "/features/dashboards",
    "/features/alerts?ref=nav",
    "/docs/getting-started",
    "/docs/api/authentication",
    "/docs/api/events#create",
    "/blog/2026/what-is-new",
    "/blog/preise-für-teams",
    "/ja/料金",
    "/account/settings",
    "/account/billing?tab=\\u201cinvoices\\u201d",
    "/search?q=\\\"exactly once\\\"",
    "/help\\/contact",
];

const REFERRER_TEXTS: [&str; REFERRERS as usize] = [
    "null",
    "\"https://www.example.com/search?q=subscription\"",
    "\"https://news.example.org/item?id=41234567\"",
    "\"https:\\/\\/social.example.net\\/p\\/9f3ab2\"",
    "\"https://mail.example.com/spring?utm_source=mail\"",
    "\"https://partner.example.io/offers/17\"",
    "\"android-app://com.example.reader\"",
    "\"\"",
];

/// Operating system, and the rest of the device object.
const DEVICE_TEXTS: [(&str, &str); DEVICES as usize] = [
    ("ios", "18.5\",\"model\":\"iPhone15,4\",\"app\":\"5.21.0"),
    ("ios", "17.7\",\"model\":\"iPad13,18\",\"app\":\"5.20.3"),
    ("android", "16\",\"model\":\"Pixel 9\",\"app\":\"5.21.1"),
    ("android", "15\",\"model\":\"SM-S921B\",\"app\":\"5.19.8"),
    ("android", "14\",\"model\":\"M2101K6G\",\"app\":\"5.21.1"),
    ("web", "10\",\"model\":\"Chrome 141\",\"app\":\"web-3312"),
    ("web", "11\",\"model\":\"Firefox 144\",\"app\":\"web-3312"),
    ("macos", "15.6\",\"model\":\"Mac14,2\",\"app\":\"web-3310"),
    ("windows", "11\",\"model\":\"Edge 141\",\"app\":\"web-3312"),
    ("linux", "6.12\",\"model\":\"Firefox 143\",\"app\":\"web-3309"),
];

const HEAD: &[u8; 113] = b"{\"event_id\":\"00000000-0000-4000-8000-000000000000\",\
\"user_id\":\"u00000000\",\"ts\":\"2026-01-01T00:00:00.000Z\",\"type\":\"";
/// Where the values stand in an event, without their quotes.
pub const ID_RANGE: Range<usize> = 13..49;
pub const USER_RANGE: Range<usize> = 62..71;
pub const TIME_RANGE: Range<usize> = 79..103;

/// Appends an event without a line end.
#[inline]
pub fn event(event: &Event, out: &mut Vec<u8>) {
    let action = &event.action;
    let mut head = *HEAD;
    uuid(event.id, &mut head[ID_RANGE]);
    user_id(action.user, &mut head[USER_RANGE]);
    time(action.time_ms, &mut head[TIME_RANGE]);
    let mut session = *b"\",\"session_id\":\"0000000000000000\",\"page\":\"";
    hex(action.session, &mut session[16..32]);
    out.extend_from_slice(&head);
    out.extend_from_slice(action.step.name().as_bytes());
    out.extend_from_slice(&session);
    out.extend_from_slice(PAGE_TEXTS[usize::from(action.page)].as_bytes());
    out.extend_from_slice(b"\",\"referrer\":");
    out.extend_from_slice(REFERRER_TEXTS[usize::from(action.referrer)].as_bytes());
    match action.amount {
        Amount::Absent => {}
        Amount::Null => out.extend_from_slice(b",\"amount_cents\":null"),
        Amount::Cents(cents) => {
            out.extend_from_slice(b",\"amount_cents\":");
            integer(cents, out);
        }
    }
    out.extend_from_slice(b",\"currency\":\"");
    out.extend_from_slice(event.currency);
    let (os, rest) = DEVICE_TEXTS[usize::from(action.device)];
    out.extend_from_slice(b"\",\"device\":{\"os\":\"");
    out.extend_from_slice(os.as_bytes());
    out.extend_from_slice(b"\",\"version\":\"");
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(b"\"}}");
}

/// A device whose operating system is another one.
pub fn other_device(device: u8) -> u8 {
    let os = |device: u8| DEVICE_TEXTS[usize::from(device)].0;
    let mut other = device;
    while os(other) == os(device) {
        other = (other + 1) % DEVICES;
    }
    other
}

/// Appends the dimension record of a user without a line end.
pub fn user(number: u32, user: &User, time_ms: i64, out: &mut Vec<u8>) {
    user_head(number, out);
    out.extend_from_slice(b"\",\"region\":\"");
    region(user.region, out);
    out.extend_from_slice(b"\",\"plan\":\"");
    out.extend_from_slice(PLANS[usize::from(user.plan)].name.as_bytes());
    user_tail(time_ms, b"\"}", out);
}

/// Appends the dimension record of a deleted user without a line end.
pub fn deleted_user(number: u32, time_ms: i64, out: &mut Vec<u8>) {
    user_head(number, out);
    user_tail(time_ms, b"\",\"deleted\":true}", out);
}

fn user_head(number: u32, out: &mut Vec<u8>) {
    let mut head = *b"{\"user_id\":\"u00000000";
    user_id(number, &mut head[12..]);
    out.extend_from_slice(&head);
}

fn user_tail(time_ms: i64, end: &[u8], out: &mut Vec<u8>) {
    let mut tail = *b"\",\"updated_at\":\"0000-00-00T00:00:00.000Z";
    time(time_ms, &mut tail[16..]);
    out.extend_from_slice(&tail);
    out.extend_from_slice(end);
}

fn region(number: u16, out: &mut Vec<u8>) {
    match region_name(number) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => {
            out.extend_from_slice(b"region-");
            integer(i64::from(number), out);
        }
    }
}

/// The currency of a user.
#[inline]
pub fn currency(user: &User) -> &'static [u8; 3] {
    region_of(user.region).currency
}

/// Writes `u` and eight digits.
#[inline]
pub fn user_id(number: u32, out: &mut [u8]) {
    out[0] = b'u';
    pair(number / 1_000_000, &mut out[1..3]);
    pair(number / 10_000 % 100, &mut out[3..5]);
    pair(number / 100 % 100, &mut out[5..7]);
    pair(number % 100, &mut out[7..9]);
}

/// Writes a version 4 UUID.
#[inline]
fn uuid((high, low): (u64, u64), out: &mut [u8]) {
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 1 << 63;
    let mut digits = [0; 32];
    hex(high, &mut digits[..16]);
    hex(low, &mut digits[16..]);
    out[0..8].copy_from_slice(&digits[0..8]);
    out[9..13].copy_from_slice(&digits[8..12]);
    out[14..18].copy_from_slice(&digits[12..16]);
    out[19..23].copy_from_slice(&digits[16..20]);
    out[24..36].copy_from_slice(&digits[20..32]);
}

/// Writes 16 hexadecimal digits: the nibbles are spread over bytes, then all turned to digits at once.
#[inline]
fn hex(value: u64, out: &mut [u8]) {
    out[0..8].copy_from_slice(&hex_half((value >> 32) as u32).to_be_bytes());
    out[8..16].copy_from_slice(&hex_half(value as u32).to_be_bytes());
}

#[inline]
fn hex_half(value: u32) -> u64 {
    let mut spread = u64::from(value);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * 39
}

/// Writes RFC 3339 in UTC with milliseconds; years 1970 to 9999.
#[inline]
pub fn time(time_ms: i64, out: &mut [u8]) {
    let (year, month, day) = civil(time_ms.div_euclid(DAY_MS) as u32);
    let in_day = time_ms.rem_euclid(DAY_MS) as u32;
    let (seconds, millis) = (in_day / 1000, in_day % 1000);
    out[..TIME_BYTES].copy_from_slice(b"0000-00-00T00:00:00.000Z");
    pair(year / 100, &mut out[0..2]);
    pair(year % 100, &mut out[2..4]);
    pair(month, &mut out[5..7]);
    pair(day, &mut out[8..10]);
    pair(seconds / 3600, &mut out[11..13]);
    pair(seconds / 60 % 60, &mut out[14..16]);
    pair(seconds % 60, &mut out[17..19]);
    out[20] = b'0' + (millis / 100) as u8;
    pair(millis % 100, &mut out[21..23]);
}

/// Year, month and day of a day since 1970-01-01, counted in years that begin in March
/// and in eras of 400 years (146,097 days).
#[inline]
fn civil(days: u32) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u32::from(month <= 2), month, day)
}

#[inline]
fn pair(value: u32, out: &mut [u8]) {
    out[0] = b'0' + (value / 10) as u8;
    out[1] = b'0' + (value % 10) as u8;
}

/// Appends an integer.
pub fn integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}
