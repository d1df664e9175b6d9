//! The dimension: each record of its topic becomes a version of a key and a row of its changes, or a
//! dead letter.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::column::{Name, Row, describe};
use super::extract::{Cell, Extractor};
use super::members::CellIndex;
use super::payload::{Columns, TextColumn, fields};
use super::text::unescape;
use super::{BatchText, DeadLetter, Reason, Reject, syntax, utf8};
use crate::job::DimensionSpec;
use crate::model::hash::user_hash;
use crate::model::{DimensionChange, Interner, Position};
use crate::source::{NO_BYTES, RawBatch, RawRecord};

/// Decodes the records of the dimension topic for one worker.
///
/// A null payload deletes the key that is the record's key: plain text, or a JSON string. Where the
/// `deleted` pointer finds `true` the record deletes its key too, and its columns are not read. The
/// columns of a deleted version are NULL.
#[derive(Debug)]
pub struct DimensionDecoder {
    extractor: Extractor,
    key: Name,
    deleted: Option<CellIndex>,
    row: Row,
    rows: Rows,
    /// Tuples are interned where all workers share them: there may be as many as keys.
    interner: Arc<Interner>,
}

impl DimensionDecoder {
    /// A decoder for the job's dimension, whose topic is `topic`.
    pub fn new(spec: &DimensionSpec, topic: &str, interner: Arc<Interner>) -> Self {
        let mut extractor = Extractor::new();
        DimensionDecoder {
            key: Name::new(&spec.key, "key", Reason::MissingKey, &mut extractor),
            deleted: spec.deleted.as_ref().map(|pointer| extractor.want(pointer)),
            row: Row::new(&spec.columns, &mut extractor),
            rows: Rows::new(spec, topic),
            extractor,
            interner,
        }
    }

    /// Appends a change or a dead letter for each record of `batch`, in their order. Row `i` of the
    /// result belongs to the `i`-th change that this call appended.
    pub fn decode(
        &mut self,
        batch: &RawBatch,
        changes: &mut Vec<DimensionChange>,
        letters: &mut Vec<DeadLetter>,
    ) -> RecordBatch {
        self.rows.start(batch.records.len());
        let texts = BatchText::new(batch);
        for record in &batch.records {
            match self.decode_record(&texts, record) {
                Ok(change) => changes.push(change),
                Err(reject) => letters.push(reject.letter(batch, record)),
            }
        }
        self.rows.finish(batch.partition)
    }

    fn decode_record(
        &mut self,
        texts: &BatchText<'_>,
        record: &RawRecord,
    ) -> Result<DimensionChange, Reject> {
        let (document, key, deleted);
        if record.value == NO_BYTES {
            document = "";
            key = record_key(texts.bytes.get(record.key))?;
            deleted = true;
        } else {
            document = texts.value(record)?;
            self.extractor.extract(document).map_err(|fault| syntax(fault, document))?;
            key = Cow::Borrowed(self.key.read(&self.extractor, document)?);
            deleted = is_deleted(self.deleted, &self.extractor, document)?;
        }
        if deleted {
            self.row.clear();
        } else {
            self.row.read(&self.extractor, document)?;
        }
        self.rows.keys.push(&key);
        self.rows.columns.push(&self.row, &self.extractor, document);
        self.rows.deleted.push(deleted);
        self.rows.offsets.push(record.offset);
        Ok(DimensionChange {
            user: user_hash(&key),
            position: Position { partition: texts.bytes.partition, offset: record.offset },
            columns: self.interner.intern(self.row.encoded()),
            deleted,
        })
    }
}

/// The key of a tombstone: a whole JSON string stands for its content, anything else for itself.
fn record_key(key: Option<&[u8]>) -> Result<Cow<'_, str>, Reject> {
    let text = utf8(key.unwrap_or_default(), "the key of a null payload")?;
    let key = match text.strip_prefix('"') {
        Some(_) => {
            let mut content = String::new();
            match unescape(text, 1, &mut content) {
                Ok(end) if end == text.len() => Cow::Owned(content),
                _ => Cow::Borrowed(text),
            }
        }
        None => Cow::Borrowed(text),
    };
    if key.is_empty() {
        let detail = "a null payload deletes a key, and the record has none";
        return Err(Reject::new(Reason::MissingKey, detail));
    }
    Ok(key)
}

fn is_deleted(
    cell: Option<CellIndex>,
    extractor: &Extractor,
    document: &str,
) -> Result<bool, Reject> {
    match cell.map_or(Cell::Missing, |cell| extractor.cell(cell)) {
        Cell::Boolean(deleted) => Ok(deleted),
        Cell::Missing | Cell::Null => Ok(false),
        other => {
            let found = describe(extractor, document, other);
            let detail = format!("the deletion mark must be a boolean and {found} was found");
            Err(Reject::new(Reason::WrongType, detail))
        }
    }
}

/// The rows of `<dimension>_changes` while a batch is decoded.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    topic: String,
    keys: TextColumn,
    columns: Columns,
    deleted: Vec<bool>,
    offsets: Vec<i64>,
}

impl Rows {
    fn new(spec: &DimensionSpec, topic: &str) -> Self {
        let mut all = vec![Field::new(&spec.key_name, DataType::Utf8, false)];
        all.extend(fields(&spec.columns));
        all.push(Field::new("_deleted", DataType::Boolean, false));
        all.push(Field::new("_topic", DataType::Utf8, false));
        all.push(Field::new("_partition", DataType::Int32, false));
        all.push(Field::new("_offset", DataType::Int64, false));
        Rows {
            schema: Arc::new(Schema::new(all)),
            topic: topic.into(),
            keys: TextColumn::new(),
            columns: Columns::new(&spec.columns),
            deleted: Vec::new(),
            offsets: Vec::new(),
        }
    }

    fn start(&mut self, rows: usize) {
        self.keys.start(rows);
        self.columns.start(rows);
        self.deleted.clear();
        self.offsets = Vec::with_capacity(rows);
    }

    fn finish(&mut self, partition: i32) -> RecordBatch {
        let offsets = std::mem::take(&mut self.offsets);
        let rows = offsets.len();
        let topics = StringArray::from_iter_values(std::iter::repeat_n(&self.topic, rows));
        let mut arrays: Vec<ArrayRef> = vec![self.keys.finish()];
        arrays.extend(self.columns.finish());
        arrays.push(Arc::new(BooleanArray::from(std::mem::take(&mut self.deleted))));
        arrays.push(Arc::new(topics));
        arrays.push(Arc::new(Int32Array::from_value(partition, rows)));
        arrays.push(Arc::new(Int64Array::from(offsets)));
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .expect("columns of equal length were built from the fields of this schema")
    }
}
