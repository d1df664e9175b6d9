//! Reads the TOML tree of a job file section by section, and keeps every mistake it meets.
//!
//! *Owns* the mistakes found so far. *Does not own* what the keys mean: see `file` and `validate`.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Mistake, nearest};
use super::reference::{self, Env};

/// A string of the job file.
#[derive(Clone)]
pub(super) struct Text {
    /// What it means, references replaced: never shown in a message.
    pub(super) value: String,
    /// As it is written in the file: what messages quote.
    pub(super) written: String,
    /// Where it is written.
    pub(super) span: Range<usize>,
}

/// A value whose type depends on another key.
pub(super) enum Literal {
    Text(Text),
    Integer(i128),
    Float(String),
    Boolean(bool),
    Datetime(String),
}

impl Literal {
    /// What kind of TOML value it is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Literal::Text(_) => "a string",
            Literal::Integer(_) => "an integer",
            Literal::Float(_) => "a float",
            Literal::Boolean(_) => "a boolean",
            Literal::Datetime(_) => "a date",
        }
    }
}

/// What reading needs and finds.
pub(super) struct Reader<'a> {
    /// The folder of the job file.
    pub(super) base: &'a Path,
    /// The environment.
    pub(super) env: Env<'a>,
    /// What was found wrong.
    pub(super) mistakes: Vec<Mistake>,
}

/// A value of the tree and its place.
pub(super) type Node<'t> = &'t Spanned<DeValue<'t>>;

impl Reader<'_> {
    /// Keeps the mistake of a result.
    pub(super) fn keep<T>(&mut self, result: Result<T, Mistake>) -> Option<T> {
        result.map_err(|mistake| self.mistakes.push(mistake)).ok()
    }

    fn wrong_type<T>(&mut self, key: &str, wanted: &str, node: Node<'_>) -> Option<T> {
        let found = describe(node.get_ref());
        let message = format!("`{key}` must be {wanted}, and is {found}");
        self.mistakes.push(Mistake::new(message).at(node.span()));
        None
    }

    /// A string, its references replaced.
    pub(super) fn text(&mut self, key: &str, node: Node<'_>) -> Option<Text> {
        let DeValue::String(written) = node.get_ref() else {
            return self.wrong_type(key, "a string", node);
        };
        let value = reference::replace(written, self.base, self.env);
        let value = self.keep(value.map_err(|mistake| mistake.at(node.span())))?;
        Some(Text { value, written: written.to_string(), span: node.span() })
    }

    /// An array of strings.
    pub(super) fn texts(&mut self, key: &str, node: Node<'_>) -> Option<Vec<Text>> {
        let DeValue::Array(items) = node.get_ref() else {
            return self.wrong_type(key, "an array of strings", node);
        };
        let texts = items.iter().enumerate();
        let texts: Vec<_> =
            texts.map(|(index, item)| self.text(&format!("{key}[{index}]"), item)).collect();
        texts.into_iter().collect()
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &str, node: Node<'_>) -> Option<bool> {
        match node.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type(key, "true or false", node),
        }
    }

    /// An integer in a range.
    pub(super) fn integer(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
        node: Node<'_>,
    ) -> Option<i64> {
        let wanted = format!("an integer from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = node.get_ref() else {
            return self.wrong_type(key, &wanted, node);
        };
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            let message = format!("`{key}` must be {wanted}, and is {integer}");
            self.mistakes.push(Mistake::new(message).at(node.span()));
        }
        value
    }

    /// Any single value.
    pub(super) fn literal(&mut self, key: &str, node: Node<'_>) -> Option<Literal> {
        Some(match node.get_ref() {
            DeValue::String(_) => Literal::Text(self.text(key, node)?),
            DeValue::Integer(integer) => {
                let value = i128::from_str_radix(integer.as_str(), integer.radix());
                let value = value.map_err(|_| {
                    Mistake::new(format!("`{key}` is too large an integer")).at(node.span())
                });
                Literal::Integer(self.keep(value)?)
            }
            DeValue::Float(float) => Literal::Float(float.as_str().to_owned()),
            DeValue::Boolean(value) => Literal::Boolean(*value),
            DeValue::Datetime(datetime) => Literal::Datetime(datetime.to_string()),
            DeValue::Array(_) | DeValue::Table(_) => {
                return self.wrong_type(key, "a single value", node);
            }
        })
    }

    /// A string, or an integer or boolean as it would be written in a string.
    pub(super) fn option_text(&mut self, key: &str, node: Node<'_>) -> Option<Text> {
        let written = match node.get_ref() {
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            _ => return self.text(key, node),
        };
        Some(Text { value: written.clone(), written, span: node.span() })
    }

    /// A table whose keys are known: others are mistakes.
    pub(super) fn section<'t>(
        &mut self,
        title: &str,
        keys: &'static [&'static str],
        node: Node<'t>,
    ) -> Option<Section<'t>> {
        let mut section = self.open(title, node)?;
        section.refuse_unknown(keys, self);
        Some(section)
    }

    /// A table whose keys are names of the job's own.
    pub(super) fn open<'t>(&mut self, title: &str, node: Node<'t>) -> Option<Section<'t>> {
        match node.get_ref() {
            DeValue::Table(table) => Some(Section::new(title, node.span(), table)),
            other => {
                let message = format!("{title} must be a table, and is {}", describe(other));
                self.mistakes.push(Mistake::new(message).at(node.span()));
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn sections<'t>(
        &mut self,
        key: &str,
        keys: &'static [&'static str],
        node: Node<'t>,
    ) -> Vec<Section<'t>> {
        let title = format!("[[{key}]]");
        match node.get_ref() {
            DeValue::Array(items) => {
                let items = items.iter();
                items.filter_map(|item| self.section(&title, keys, item)).collect()
            }
            _ => {
                let message = format!("a job may have several of `{key}`: they are an array");
                let help = format!("write `{title}` with two brackets on each side");
                self.mistakes.push(Mistake::new(message).help(help).at(node.span()));
                Vec::new()
            }
        }
    }
}

/// A table of the job file.
pub(super) struct Section<'t> {
    /// How messages call it: `[events]`.
    pub(super) title: String,
    /// Its header, or the whole of an inline table.
    pub(super) span: Range<usize>,
    /// Its keys in the order of the file.
    pub(super) entries: Vec<(Text, Node<'t>)>,
    /// Known keys that a misspelt key was taken for: not reported as missing again.
    misspelt: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The section of `table`.
    pub(super) fn new(title: &str, span: Range<usize>, table: &'t DeTable<'t>) -> Section<'t> {
        let entry = |(key, node): (&'t Spanned<_>, Node<'t>)| {
            let name: &std::borrow::Cow<'t, str> = key.get_ref();
            let text =
                Text { value: name.to_string(), written: name.to_string(), span: key.span() };
            (text, node)
        };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        Section { title: title.to_owned(), span, entries, misspelt: Vec::new() }
    }

    /// Reports the keys that are not in `keys`.
    pub(super) fn refuse_unknown(
        &mut self,
        keys: &'static [&'static str],
        reader: &mut Reader<'_>,
    ) {
        let present = |key: &&'static str| self.entries.iter().any(|(name, _)| name.value == **key);
        let absent: Vec<_> = keys.iter().copied().filter(|key| !present(key)).collect();
        for (key, _) in self.entries.iter().filter(|(key, _)| !keys.contains(&&*key.value)) {
            let message = format!("unknown key `{}` in {}", key.written, self.title);
            let mistake = Mistake::new(message).at(key.span.clone());
            reader.mistakes.push(mistake.suggest("known keys", &key.written, keys));
            let meant =
                absent.iter().copied().find(|name| nearest(&key.value, &absent) == Some(*name));
            self.misspelt.extend(meant);
        }
    }

    /// The value of a key that may be missing.
    pub(super) fn get(&self, key: &str) -> Option<Node<'t>> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| *node)
    }

    /// The value of a key that must not be missing.
    pub(super) fn require(
        &self,
        key: &'static str,
        help: &str,
        reader: &mut Reader<'_>,
    ) -> Option<Node<'t>> {
        let node = self.get(key);
        if node.is_none() && !self.misspelt.contains(&key) {
            let message = format!("{} lacks `{key}`", self.title);
            reader.mistakes.push(Mistake::new(message).help(help).at(self.span.clone()));
        }
        node
    }
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
