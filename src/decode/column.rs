//! The job's columns: from the cells of a document to typed values and their encoding.

use super::extract::{Cell, Extractor, Text};
use super::members::CellIndex;
use super::{Reason, Reject, number, timestamp};
use crate::job::{Column, Pointer, TimeUnit};
use crate::model::value::{encode_i64, encode_i128, encode_null, encode_str};
use crate::model::{ColumnType, Value};

/// The columns of one document at a time, with their encoding as a tuple.
#[derive(Debug)]
pub(super) struct Row {
    columns: Vec<Reader>,
    scalars: Vec<Scalar>,
    encoded: Vec<u8>,
    /// Where the encoding of each column ends.
    ends: Vec<usize>,
}

/// One column of the job.
#[derive(Debug)]
struct Reader {
    name: String,
    kind: ColumnType,
    default: Scalar,
    default_text: Box<str>,
    cell: CellIndex,
}

/// A value of the current document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Null,
    Boolean(bool),
    Long(i64),
    Timestamp(i64),
    Decimal(i128),
    Text(Text),
    /// The column's default text.
    DefaultText,
}

impl Row {
    /// A reader of `columns`, whose values `extractor` is asked for.
    pub(super) fn new(columns: &[Column], extractor: &mut Extractor) -> Self {
        let columns: Vec<_> = columns.iter().map(|column| Reader::new(column, extractor)).collect();
        Row {
            scalars: Vec::with_capacity(columns.len()),
            ends: Vec::with_capacity(columns.len()),
            encoded: Vec::new(),
            columns,
        }
    }

    /// Reads all columns of the document that `extractor` has just passed.
    pub(super) fn read(&mut self, extractor: &Extractor, document: &str) -> Result<(), Reject> {
        self.scalars.clear();
        self.ends.clear();
        self.encoded.clear();
        for column in &self.columns {
            let scalar = column.read(extractor, document)?;
            match scalar {
                Scalar::Null => encode_null(&mut self.encoded),
                Scalar::Boolean(value) => self.encoded.extend_from_slice(&[1, u8::from(value)]),
                Scalar::Long(value) | Scalar::Timestamp(value) => {
                    encode_i64(value, &mut self.encoded)
                }
                Scalar::Decimal(value) => encode_i128(value, &mut self.encoded),
                Scalar::Text(text) => encode_str(extractor.text(document, text), &mut self.encoded),
                Scalar::DefaultText => encode_str(&column.default_text, &mut self.encoded),
            }
            self.scalars.push(scalar);
            self.ends.push(self.encoded.len());
        }
        Ok(())
    }

    /// Makes all columns NULL, defaults or not.
    pub(super) fn clear(&mut self) {
        let columns = self.columns.len();
        self.scalars.clear();
        self.scalars.resize(columns, Scalar::Null);
        self.ends.clear();
        self.ends.extend(1..=columns);
        self.encoded.clear();
        self.encoded.resize(columns, 0);
    }

    /// The value of column `index`.
    #[inline]
    pub(super) fn scalar(&self, index: usize) -> Scalar {
        self.scalars[index]
    }

    /// The text of a string column; `None` where it is NULL.
    #[inline]
    pub(super) fn text<'a>(
        &'a self,
        index: usize,
        extractor: &'a Extractor,
        document: &'a str,
    ) -> Option<&'a str> {
        match self.scalars[index] {
            Scalar::Text(text) => Some(extractor.text(document, text)),
            Scalar::DefaultText => Some(&self.columns[index].default_text),
            _ => None,
        }
    }

    /// The encoding of column `index` alone.
    #[inline]
    pub(super) fn encoded_column(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.encoded[start..self.ends[index]]
    }

    /// The encoding of all columns as one tuple.
    #[inline]
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl Reader {
    fn new(column: &Column, extractor: &mut Extractor) -> Self {
        let mut default_text = Box::default();
        let default = match &column.default {
            None | Some(Value::Null) => Scalar::Null,
            Some(Value::Boolean(value)) => Scalar::Boolean(*value),
            Some(Value::Long(value)) => Scalar::Long(*value),
            Some(Value::Timestamp(value)) => Scalar::Timestamp(*value),
            Some(Value::Decimal(value)) => Scalar::Decimal(*value),
            Some(Value::String(value)) => {
                default_text = value.clone();
                Scalar::DefaultText
            }
        };
        let cell = extractor.want(&column.pointer);
        Reader { name: column.name.clone(), kind: column.kind, default, default_text, cell }
    }

    #[inline]
    fn read(&self, extractor: &Extractor, document: &str) -> Result<Scalar, Reject> {
        let cell = extractor.cell(self.cell);
        match (self.kind, cell) {
            (_, Cell::Missing | Cell::Null) => Ok(self.default),
            (ColumnType::String, Cell::String(text)) => Ok(Scalar::Text(text)),
            (ColumnType::Boolean, Cell::Boolean(value)) => Ok(Scalar::Boolean(value)),
            (ColumnType::Long, Cell::Number(text)) => {
                let text = extractor.text(document, text);
                number::long(text).map(Scalar::Long).ok_or_else(|| self.out_of_range(text))
            }
            (ColumnType::Decimal { precision, scale }, Cell::Number(text) | Cell::String(text)) => {
                let text = extractor.text(document, text);
                if matches!(cell, Cell::String(_)) && !number::is_number(text) {
                    return Err(self.wrong_type(extractor, document, cell));
                }
                let value = number::decimal(text, precision, scale);
                value.map(Scalar::Decimal).ok_or_else(|| self.out_of_range(text))
            }
            (ColumnType::Timestamp, Cell::String(text)) => {
                let text = extractor.text(document, text);
                let time = timestamp::rfc3339_us(text).ok_or_else(|| bad_time(&self.name, text))?;
                if !timestamp::COLUMN_TIMES.contains(&time) {
                    return Err(self.out_of_range(text));
                }
                Ok(Scalar::Timestamp(time))
            }
            _ => Err(self.wrong_type(extractor, document, cell)),
        }
    }

    #[cold]
    fn out_of_range(&self, text: &str) -> Reject {
        let detail = format!("column {}: a {} can't hold {}", self.name, self.kind, excerpt(text));
        Reject::new(Reason::OutOfRange, detail)
    }

    #[cold]
    fn wrong_type(&self, extractor: &Extractor, document: &str, cell: Cell) -> Reject {
        let found = describe(extractor, document, cell);
        let detail =
            format!("column {}: a {} is wanted and {found} was found", self.name, self.kind);
        Reject::new(Reason::WrongType, detail)
    }
}

/// A field that every record must have as text: an id, a user, a key.
#[derive(Debug)]
pub(super) struct Name {
    cell: CellIndex,
    what: &'static str,
    missing: Reason,
}

impl Name {
    pub(super) fn new(
        pointer: &Pointer,
        what: &'static str,
        missing: Reason,
        extractor: &mut Extractor,
    ) -> Self {
        Name { cell: extractor.want(pointer), what, missing }
    }

    /// The text of the field.
    #[inline]
    pub(super) fn read<'a>(
        &self,
        extractor: &'a Extractor,
        document: &'a str,
    ) -> Result<&'a str, Reject> {
        let cell = extractor.cell(self.cell);
        let text = match cell {
            Cell::String(text) => extractor.text(document, text),
            Cell::Missing | Cell::Null => "",
            Cell::Number(_) | Cell::Boolean(_) | Cell::Nested => {
                return Err(self.wrong_type(extractor, document, cell));
            }
        };
        if text.is_empty() {
            let state = match cell {
                Cell::Missing => "missing",
                Cell::Null => "null",
                _ => "empty",
            };
            return Err(Reject::new(self.missing, format!("the {} is {state}", self.what)));
        }
        Ok(text)
    }

    #[cold]
    fn wrong_type(&self, extractor: &Extractor, document: &str, cell: Cell) -> Reject {
        let found = describe(extractor, document, cell);
        let detail = format!("the {} must be a string and {found} was found", self.what);
        Reject::new(Reason::WrongType, detail)
    }
}

/// The event time.
#[derive(Debug)]
pub(super) struct Time {
    cell: CellIndex,
    unit: TimeUnit,
}

impl Time {
    pub(super) fn new(pointer: &Pointer, unit: TimeUnit, extractor: &mut Extractor) -> Self {
        Time { cell: extractor.want(pointer), unit }
    }

    /// The time in microseconds.
    #[inline]
    pub(super) fn read(&self, extractor: &Extractor, document: &str) -> Result<i64, Reject> {
        let cell = extractor.cell(self.cell);
        let (text, time) = match (self.unit, cell) {
            (_, Cell::Missing | Cell::Null) => {
                return Err(Reject::new(Reason::MissingTime, "the event time is missing or null"));
            }
            (TimeUnit::Rfc3339, Cell::String(text)) => {
                let text = extractor.text(document, text);
                if text.is_empty() {
                    return Err(Reject::new(Reason::MissingTime, "the event time is empty"));
                }
                let time =
                    timestamp::rfc3339_us(text).ok_or_else(|| bad_time("event time", text))?;
                (text, Some(time))
            }
            (TimeUnit::Rfc3339, _) => return Err(self.wrong_type(extractor, document, cell)),
            (unit, Cell::Number(text)) => {
                let text = extractor.text(document, text);
                (text, timestamp::number_us(text, unit))
            }
            _ => return Err(self.wrong_type(extractor, document, cell)),
        };
        match time.filter(|time| timestamp::EVENT_TIMES.contains(time)) {
            Some(time) => Ok(time),
            None => {
                let detail =
                    format!("event time {} is not of the years 1970 to 2199", excerpt(text));
                Err(Reject::new(Reason::OutOfRange, detail))
            }
        }
    }

    #[cold]
    fn wrong_type(&self, extractor: &Extractor, document: &str, cell: Cell) -> Reject {
        let wanted = match self.unit {
            TimeUnit::Rfc3339 => "an RFC 3339 string",
            _ => "a number",
        };
        let found = describe(extractor, document, cell);
        let detail = format!("the event time must be {wanted} and {found} was found");
        Reject::new(Reason::WrongType, detail)
    }
}

/// What stands in a cell, for people.
#[cold]
pub(super) fn describe(extractor: &Extractor, document: &str, cell: Cell) -> String {
    match cell {
        Cell::Missing => "nothing".into(),
        Cell::Null => "null".into(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Number(text) => format!("the number {}", excerpt(extractor.text(document, text))),
        Cell::String(text) => format!("the string {:?}", excerpt(extractor.text(document, text))),
        Cell::Nested => "an object or array".into(),
    }
}

#[cold]
fn bad_time(name: &str, text: &str) -> Reject {
    let detail = format!("{name}: {:?} is not an RFC 3339 time", excerpt(text));
    Reject::new(Reason::BadTime, detail)
}

/// The first characters of `text`.
fn excerpt(text: &str) -> &str {
    const CHARACTERS: usize = 40;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
