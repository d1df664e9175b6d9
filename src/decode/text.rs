//! JSON strings: where they end, and what their escapes stand for.

use super::Reason;

/// A place in a document where it stops being acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    /// Byte of the document; its length where it ends too early.
    pub(super) at: u32,
}

impl Fault {
    #[cold]
    pub(super) fn new(reason: Reason, at: usize) -> Fault {
        Fault { reason, at: at as u32 }
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);

/// The first byte at or after `at` that ends a plain run of a string: a quote, a backslash or a control
/// character; the length of `bytes` if there is none. Looks at eight bytes at a time.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = specials(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            break;
        }
        at += 1;
    }
    at
}

/// The high bit of each special byte of `word`. A borrow may mark bytes above a special one too, never
/// below: the lowest mark is right.
#[inline(always)]
fn specials(word: u64) -> u64 {
    let quote = word ^ QUOTES;
    let backslash = word ^ BACKSLASHES;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = word.wrapping_sub(SPACES) & !word;
    (quote | backslash | control) & HIGHS
}

/// Appends the content of the string whose first byte after the quote is `at` to `out`; returns the
/// position behind its closing quote.
#[inline(never)]
pub(super) fn unescape(document: &str, mut at: usize, out: &mut String) -> Result<usize, Fault> {
    let bytes = document.as_bytes();
    loop {
        let end = plain_end(bytes, at);
        out.push_str(&document[at..end]);
        match bytes.get(end) {
            Some(b'"') => return Ok(end + 1),
            Some(b'\\') => {
                let (value, next) = escape(bytes, end)?;
                out.push(value);
                at = next;
            }
            _ => return Err(Fault::new(Reason::NotJson, end)),
        }
    }
}

/// The character that the escape at `at` (its backslash) stands for, and the position behind it.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let simple = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes, at),
        _ => return Err(Fault::new(Reason::NotJson, (at + 1).min(bytes.len()))),
    };
    Ok((simple, at + 2))
}

/// `\uXXXX`, or two of them where the first is the first half of a surrogate pair.
fn unicode_escape(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let first = hex4(bytes, at + 2)?;
    if let Some(value) = char::from_u32(first) {
        return Ok((value, at + 6));
    }
    let lone = Fault::new(Reason::LoneSurrogate, at);
    if first >= 0xdc00 || bytes.get(at + 6..at + 8) != Some(b"\\u") {
        return Err(lone);
    }
    let second = hex4(bytes, at + 8)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(lone);
    }
    let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(scalar).map(|value| (value, at + 12)).ok_or(lone)
}

fn hex4(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let mut value = 0;
    for place in at..at + 4 {
        let digit = bytes.get(place).and_then(|byte| char::from(*byte).to_digit(16));
        let digit = digit.ok_or_else(|| Fault::new(Reason::NotJson, place.min(bytes.len())))?;
        value = value * 16 + digit;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_run_ends_at_the_first_special_byte(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let expected = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            prop_assert_eq!(plain_end(&bytes, 0), expected.unwrap_or(bytes.len()));
        }

        #[test]
        fn unescape_is_the_inverse_of_writing(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let mut out = String::new();
            prop_assert_eq!(unescape(&written, 1, &mut out), Ok(written.len()));
            prop_assert_eq!(out, text);
        }
    }

    #[test]
    fn surrogates_come_in_pairs() {
        let read = |document: &str| {
            let mut out = String::new();
            unescape(document, 1, &mut out).map(|_| out).map_err(|fault| fault.reason)
        };
        assert_eq!(read(r#""\ud83d\ude00\/""#).unwrap(), "😀/");
        for lone in
            [r#""\ud83d""#, r#""\ud83dx""#, r#""\ude00""#, r#""\ud83d\ud83d""#, r#""\ud83d\u0041""#]
        {
            assert_eq!(read(lone), Err(Reason::LoneSurrogate), "{lone}");
        }
        for broken in
            [r#""\x""#, r#""\u12""#, r#""\u+123""#, r#""\"#, "\"\\n\n\"", r#""\ud83d\u12""#]
        {
            assert_eq!(read(broken), Err(Reason::NotJson), "{broken}");
        }
        // The second half that comes first is alone, whatever follows it.
        for second in [r#""\udc00\u12""#, r#""\udfff\x""#, r#""\udc00\udc00""#] {
            assert_eq!(read(second), Err(Reason::LoneSurrogate), "{second}");
        }
    }
}
