//! JSON as RFC 8259 has it, with the rules of the house, read into a tree.
//!
//! The rules: at most [`DEPTH_MAX`] deep; no object holds a key twice; no string holds half a surrogate pair;
//! no number is beyond a double's range. The first fault in the order of the bytes names the refusal. Of one
//! rule the moment is open: a key that is there twice may be noticed at once or when its object closes, so a
//! document that breaks another rule in between may be refused for either.

use std::borrow::Cow;
use std::collections::HashSet;

use memchr::memchr2;

use super::Refused;

/// How deep objects and arrays may stand in one another.
const DEPTH_MAX: usize = 100;
/// The keys of larger objects are compared through a set.
const PAIRS_MAX: usize = 24;

/// A value. What is in an array can't be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json<'a> {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(&'a str),
    Text(Cow<'a, str>),
    Array,
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The value behind these keys; `None` if there is none, or null.
    pub(super) fn at(&self, keys: &[String]) -> Option<&Json<'a>> {
        if keys.is_empty() {
            return None;
        }
        let mut value = self;
        for key in keys {
            let Json::Object(members) = value else { return None };
            value = members.iter().find(|(name, _)| name == key).map(|(_, value)| value)?;
        }
        (*value != Json::Null).then_some(value)
    }
}

/// Reads a document, which must be an object.
pub(super) fn document(text: &str) -> Result<Json<'_>, Refused> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, twice: false };
    reader.document().map_err(|word| Refused {
        word,
        or: (reader.twice && word != "duplicate_key").then_some("duplicate_key"),
    })
}

/// The content of `text`, if all of it is one JSON string.
pub(super) fn whole_string(text: &str) -> Option<Cow<'_, str>> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, twice: false };
    let content = (reader.next() == Some(b'"')).then(|| reader.string())?.ok()?;
    (reader.at == text.len()).then_some(content)
}

/// True if all of `text` is one JSON number within a double's range.
pub(super) fn is_number(text: &str) -> bool {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, twice: false };
    reader.number().is_ok() && reader.at == text.len()
}

/// A document that is being read.
struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// A key was seen twice in an object that is still open.
    twice: bool,
}

/// The word of the rule that is broken.
type Word = &'static str;

const NOT_JSON: Word = "not_json";

impl<'a> Reader<'a> {
    fn next(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes `byte` if it is next.
    fn passes(&mut self, byte: u8) -> bool {
        let is_next = self.next() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn document(&mut self) -> Result<Json<'a>, Word> {
        self.skip_space();
        if self.next().is_none() {
            return Err("empty_payload");
        }
        let value = self.value(0)?;
        self.skip_space();
        match value {
            _ if self.at < self.bytes.len() => Err("trailing_bytes"),
            Json::Object(_) => Ok(value),
            _ => Err("not_an_object"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, Word> {
        match self.next().ok_or(NOT_JSON)? {
            b'{' if depth < DEPTH_MAX => self.object(depth + 1),
            b'[' if depth < DEPTH_MAX => self.array(depth + 1),
            b'{' | b'[' => Err("too_deep"),
            b'"' => Ok(Json::Text(self.string()?)),
            b'-' | b'0'..=b'9' => Ok(Json::Number(self.number()?)),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<Json<'a>, Word> {
        let literals =
            [("null", Json::Null), ("true", Json::Boolean(true)), ("false", Json::Boolean(false))];
        let rest = &self.bytes[self.at..];
        let found = literals.into_iter().find(|(word, _)| rest.starts_with(word.as_bytes()));
        let (word, value) = found.ok_or(NOT_JSON)?;
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, Word> {
        self.at += 1;
        self.skip_space();
        if self.passes(b']') {
            return Ok(Json::Array);
        }
        loop {
            self.skip_space();
            self.value(depth)?;
            self.skip_space();
            if self.passes(b']') {
                return Ok(Json::Array);
            }
            if !self.passes(b',') {
                return Err(NOT_JSON);
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, Word> {
        self.at += 1;
        self.skip_space();
        if self.passes(b'}') {
            return Ok(Json::Object(Vec::new()));
        }
        let mut members: Vec<(Cow<'a, str>, Json<'a>)> = Vec::with_capacity(16);
        let mut met: HashSet<Cow<'a, str>> = HashSet::new();
        let mut twice = false;
        loop {
            self.skip_space();
            if self.next() != Some(b'"') {
                return Err(NOT_JSON);
            }
            let key = self.string()?;
            if members.len() == PAIRS_MAX {
                met.extend(members.iter().map(|(name, _)| name.clone()));
            }
            twice |= if members.len() < PAIRS_MAX {
                members.iter().any(|(name, _)| *name == key)
            } else {
                !met.insert(key.clone())
            };
            // It stands once its object is over, and may be said before.
            self.twice |= twice;
            self.skip_space();
            if !self.passes(b':') {
                return Err(NOT_JSON);
            }
            self.skip_space();
            let value = self.value(depth)?;
            members.push((key, value));
            self.skip_space();
            if self.passes(b'}') {
                return if twice { Err("duplicate_key") } else { Ok(Json::Object(members)) };
            }
            if !self.passes(b',') {
                return Err(NOT_JSON);
            }
        }
    }

    fn number(&mut self) -> Result<&'a str, Word> {
        let start = self.at;
        self.passes(b'-');
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(NOT_JSON);
        }
        if self.passes(b'.') {
            self.digits()?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.next(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // So few characters can't leave the range without an exponent.
        let is_small = text.len() < 100 && !text.contains(['e', 'E']);
        let is_finite = || text.parse().is_ok_and(f64::is_finite);
        if is_small || is_finite() { Ok(text) } else { Err("out_of_range") }
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<&'a str, Word> {
        let start = self.at;
        while self.next().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(NOT_JSON) } else { Ok(&self.text[start..self.at]) }
    }

    /// The content of the string whose quote is next.
    fn string(&mut self) -> Result<Cow<'a, str>, Word> {
        self.at += 1;
        let mut content = Cow::Borrowed("");
        loop {
            let rest = &self.bytes[self.at..];
            let length = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            if rest[..length].iter().any(|byte| *byte < b' ') {
                return Err(NOT_JSON);
            }
            let plain = &self.text[self.at..self.at + length];
            self.at += length;
            if content.is_empty() {
                content = Cow::Borrowed(plain);
            } else {
                content.to_mut().push_str(plain);
            }
            if self.passes(b'"') {
                return Ok(content);
            }
            let character = self.escape()?;
            content.to_mut().push(character);
        }
    }

    /// What an escape stands for; the end of the document is none.
    fn escape(&mut self) -> Result<char, Word> {
        let [b'\\', kind, ..] = self.bytes[self.at..] else { return Err(NOT_JSON) };
        self.at += 2;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(NOT_JSON),
        })
    }

    /// The character of the code units behind `\u`.
    fn unicode(&mut self) -> Result<char, Word> {
        let mut units = vec![self.code_unit()?];
        if (0xd800..0xdc00).contains(&units[0]) && self.bytes[self.at..].starts_with(b"\\u") {
            self.at += 2;
            units.push(self.code_unit()?);
        }
        let mut decoded = char::decode_utf16(units);
        match (decoded.next(), decoded.next()) {
            (Some(Ok(character)), None) => Ok(character),
            _ => Err("lone_surrogate"),
        }
    }

    fn code_unit(&mut self) -> Result<u16, Word> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(NOT_JSON)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NOT_JSON);
        }
        let unit = u16::from_str_radix(&self.text[self.at..self.at + 4], 16);
        self.at += 4;
        unit.map_err(|_| NOT_JSON)
    }
}
