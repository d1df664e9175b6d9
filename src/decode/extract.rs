//! One pass over a JSON document that checks all of it and notes where the wanted values stand.
//!
//! *Owns* the grammar, the rules of [the module](super) on depth and duplicate keys, and the buffers
//! that a pass needs, so that a document costs no allocation. *Does not own* the meaning of a value:
//! cells hold text.

use super::members::{Below, CellIndex, Members, NodeIndex, Slot, UNWANTED};
use super::number::number_end;
use super::text::{Fault, plain_end, unescape};
use super::{DEPTH_MAX, Reason};
use crate::job::Pointer;

/// Up to so many unknown keys of an object are compared pair by pair, more are sorted.
const PAIRS_MAX: usize = 12;

/// Takes wanted values out of documents.
#[derive(Debug)]
pub(super) struct Extractor {
    members: Members,
    /// The first one takes what nobody wants.
    cells: Vec<Cell>,
    /// Strings with their escapes resolved, one after the other, of the current document.
    unescaped: String,
    /// Keys of the open objects that `members` does not know.
    strays: Vec<Text>,
    /// Counts objects, so that a member knows which of them it was seen in last.
    stamp: u64,
}

/// A wanted value as it stands in the current document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    Missing,
    Null,
    Boolean(bool),
    Number(Text),
    String(Text),
    /// An object or array.
    Nested,
}

/// A piece of text, in the document or among the unescaped strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text {
    start: u32,
    end: u32,
    unescaped: bool,
}

impl Extractor {
    /// An extractor of nothing yet.
    pub(super) fn new() -> Self {
        Extractor {
            members: Members::new(),
            cells: vec![Cell::Missing],
            unescaped: String::new(),
            strays: Vec::new(),
            stamp: 0,
        }
    }

    /// Asks for the value at `pointer`; returns the cell that will hold it.
    pub(super) fn want(&mut self, pointer: &Pointer) -> CellIndex {
        let cell = self.members.want(pointer, self.cells.len() as CellIndex);
        if usize::from(cell) == self.cells.len() {
            self.cells.push(Cell::Missing);
        }
        cell
    }

    /// Fills the cells from `document`. After a fault they mean nothing.
    pub(super) fn extract(&mut self, document: &str) -> Result<(), Fault> {
        for cell in &mut self.cells {
            *cell = Cell::Missing;
        }
        self.unescaped.clear();
        self.strays.clear();
        let bytes = document.as_bytes();
        let start = skip_space(bytes, 0);
        let Some(first) = bytes.get(start) else {
            return Err(Fault::new(Reason::EmptyPayload, 0));
        };
        let slot = Slot { cell: UNWANTED, below: Below::Node(Members::ROOT) };
        let end = Pass { document, extractor: self }.value(start, slot, 0)?;
        let end = skip_space(bytes, end);
        if end != bytes.len() {
            return Err(Fault::new(Reason::TrailingBytes, end));
        }
        if *first != b'{' {
            return Err(Fault::new(Reason::NotAnObject, start));
        }
        Ok(())
    }

    /// The value that the last document had for a cell.
    #[inline(always)]
    pub(super) fn cell(&self, cell: CellIndex) -> Cell {
        self.cells[usize::from(cell)]
    }

    /// A piece of text of the last document.
    #[inline(always)]
    pub(super) fn text<'a>(&'a self, document: &'a str, text: Text) -> &'a str {
        let source = if text.unescaped { &self.unescaped } else { document };
        &source[text.start as usize..text.end as usize]
    }
}

/// How far an object has come among the keys of its node.
struct Progress {
    node: NodeIndex,
    /// The last known member.
    member: Option<u16>,
    /// The member that is expected next.
    guess: u16,
    /// The stamp of the object.
    stamp: u64,
}

/// A document on its way through an extractor.
struct Pass<'a> {
    document: &'a str,
    extractor: &'a mut Extractor,
}

impl Pass<'_> {
    /// Reads the value that starts at `at`; returns the position behind it.
    #[inline(always)]
    fn value(&mut self, at: usize, slot: Slot, depth: u32) -> Result<usize, Fault> {
        let bytes = self.document.as_bytes();
        let (cell, end) = match bytes.get(at) {
            Some(b'"') => {
                let (text, end) = self.string(at + 1)?;
                (Cell::String(text), end)
            }
            Some(b'-' | b'0'..=b'9') => {
                let end = number_end(self.document, at)?;
                (Cell::Number(Text { start: at as u32, end: end as u32, unescaped: false }), end)
            }
            Some(b'{') => (Cell::Nested, self.object(at + 1, slot.below, depth + 1)?),
            Some(b'[') => (Cell::Nested, self.array(at + 1, depth + 1)?),
            Some(b't') => (Cell::Boolean(true), literal(bytes, at, b"true")?),
            Some(b'f') => (Cell::Boolean(false), literal(bytes, at, b"false")?),
            Some(b'n') => (Cell::Null, literal(bytes, at, b"null")?),
            _ => return Err(Fault::new(Reason::NotJson, at)),
        };
        self.extractor.cells[usize::from(slot.cell)] = cell;
        Ok(end)
    }

    /// The string whose first byte after the quote is `at`, and the position behind its closing quote.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<(Text, usize), Fault> {
        let end = plain_end(self.document.as_bytes(), at);
        if self.document.as_bytes().get(end) == Some(&b'"') {
            let text = Text { start: at as u32, end: end as u32, unescaped: false };
            return Ok((text, end + 1));
        }
        let out = &mut self.extractor.unescaped;
        let start = out.len() as u32;
        let end = unescape(self.document, at, out)?;
        Ok((Text { start, end: out.len() as u32, unescaped: true }, end))
    }

    /// The elements and the end of an array; `at` is behind its bracket. They are read for their
    /// grammar alone.
    #[inline(never)]
    fn array(&mut self, at: usize, depth: u32) -> Result<usize, Fault> {
        let bytes = self.document.as_bytes();
        if depth > DEPTH_MAX {
            return Err(Fault::new(Reason::TooDeep, at - 1));
        }
        let mut at = skip_space(bytes, at);
        if bytes.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            at = self.value(at, Slot::STRAY, depth)?;
            at = skip_space(bytes, at);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(Fault::new(Reason::NotJson, at)),
            }
        }
    }

    /// The members and the end of an object; `at` is behind its brace.
    #[inline(never)]
    fn object(&mut self, at: usize, keys: Below, depth: u32) -> Result<usize, Fault> {
        let bytes = self.document.as_bytes();
        if depth > DEPTH_MAX {
            return Err(Fault::new(Reason::TooDeep, at - 1));
        }
        let mut at = skip_space(bytes, at);
        if bytes.get(at) == Some(&b'}') {
            return Ok(at + 1);
        }
        let strays = self.extractor.strays.len();
        let mut progress = match keys {
            Below::Node(node) => Some(self.start(node)),
            Below::Unknown | Below::Nobody => None,
        };
        loop {
            let (mut slot, end) = match &mut progress {
                Some(progress) => self.member(at, progress)?,
                None => (Slot::STRAY, self.stray(at)?),
            };
            at = skip_space(bytes, end);
            if bytes.get(at) == Some(&b'{') && slot.below == Below::Unknown {
                slot.below = self.learn_node(&progress);
            }
            at = self.value(at, slot, depth)?;
            at = skip_space(bytes, at);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(b'}') => break,
                _ => return Err(Fault::new(Reason::NotJson, at)),
            }
        }
        if self.extractor.strays.len() > strays {
            self.check_strays(strays, at)?;
        }
        Ok(at + 1)
    }

    /// The progress of an object that opens, whose keys `node` knows.
    #[inline(always)]
    fn start(&mut self, node: NodeIndex) -> Progress {
        self.extractor.stamp += 1;
        let guess = self.extractor.members.node(node).first;
        Progress { node, member: None, guess, stamp: self.extractor.stamp }
    }

    /// Recognises the key at `at`; returns what is to be done with its value, and the position behind
    /// the colon.
    #[inline(always)]
    fn member(&mut self, at: usize, progress: &mut Progress) -> Result<(Slot, usize), Fault> {
        let known = self.extractor.members.node_mut(progress.node);
        let Some(member) = known.members.get_mut(usize::from(progress.guess)) else {
            return self.search(at, progress);
        };
        let Some(end) = member.written.end(self.document.as_bytes(), at) else {
            return self.search(at, progress);
        };
        if member.seen == progress.stamp {
            return Err(Fault::new(Reason::DuplicateKey, at));
        }
        member.seen = progress.stamp;
        progress.member = Some(progress.guess);
        progress.guess = member.next;
        Ok((member.slot, end))
    }

    /// As [`Pass::member`], where the key is not the expected one.
    #[inline(never)]
    fn search(&mut self, at: usize, progress: &mut Progress) -> Result<(Slot, usize), Fault> {
        let end = self.stray(at)?;
        let Extractor { members, strays, unescaped, .. } = &mut *self.extractor;
        let Some(stray) = strays.last() else {
            return Err(Fault::new(Reason::NotJson, at));
        };
        let node = progress.node;
        let key = stray.of(self.document, unescaped);
        let Some(found) = members.find(node, key).or_else(|| members.learn(node, key)) else {
            return Ok((Slot::STRAY, end));
        };
        strays.pop();
        let known = members.node_mut(node);
        match progress.member {
            Some(member) => known.members[usize::from(member)].next = found as u16,
            None => known.first = found as u16,
        }
        let member = &mut known.members[found];
        progress.member = Some(found as u16);
        progress.guess = member.next;
        if std::mem::replace(&mut member.seen, progress.stamp) == progress.stamp {
            return Err(Fault::new(Reason::DuplicateKey, at));
        }
        Ok((member.slot, end))
    }

    /// Who is to know the keys of the object that is the value of the member just met.
    #[cold]
    fn learn_node(&mut self, progress: &Option<Progress>) -> Below {
        match progress {
            Some(Progress { node, member: Some(member), .. }) => {
                self.extractor.members.learn_node(*node, usize::from(*member))
            }
            _ => Below::Nobody,
        }
    }

    /// Reads the key at `at` and notes it among the strays; returns the position behind its colon.
    fn stray(&mut self, at: usize) -> Result<usize, Fault> {
        if self.document.as_bytes().get(at) != Some(&b'"') {
            return Err(Fault::new(Reason::NotJson, at));
        }
        let (key, end) = self.string(at + 1)?;
        self.extractor.strays.push(key);
        let colon = skip_space(self.document.as_bytes(), end);
        match self.document.as_bytes().get(colon) {
            Some(b':') => Ok(colon + 1),
            _ => Err(Fault::new(Reason::NotJson, colon)),
        }
    }

    /// Compares the strays from `from` on, the keys of the object that closes at `at`, and drops them.
    #[inline(never)]
    fn check_strays(&mut self, from: usize, at: usize) -> Result<(), Fault> {
        let Extractor { strays, unescaped, .. } = &mut *self.extractor;
        let keys = &mut strays[from..];
        let of = |key: &Text| key.of(self.document, unescaped);
        let twice = if keys.len() <= PAIRS_MAX {
            (1..keys.len()).any(|i| keys[..i].iter().any(|key| of(key) == of(&keys[i])))
        } else {
            keys.sort_unstable_by(|a, b| of(a).cmp(of(b)));
            keys.windows(2).any(|pair| of(&pair[0]) == of(&pair[1]))
        };
        strays.truncate(from);
        if twice { Err(Fault::new(Reason::DuplicateKey, at)) } else { Ok(()) }
    }
}

impl Text {
    fn of<'a>(&self, document: &'a str, unescaped: &'a str) -> &'a str {
        let source = if self.unescaped { unescaped } else { document };
        &source[self.start as usize..self.end as usize]
    }
}

/// The position of the first byte at or after `at` that is not white space. Most documents have none.
#[inline(always)]
fn skip_space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(byte) if *byte > b' ' => at,
        _ => space_end(bytes, at),
    }
}

#[inline(never)]
fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

#[inline]
fn literal(bytes: &[u8], at: usize, word: &'static [u8]) -> Result<usize, Fault> {
    let rest = &bytes[at..];
    if rest.starts_with(word) {
        return Ok(at + word.len());
    }
    let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
    Err(Fault::new(Reason::NotJson, at + same))
}
