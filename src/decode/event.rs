//! Events: each record of the event topic becomes a fact and a row of payload, or a dead letter.
//!
//! *Owns* the buffers that decoding reuses: a record costs no allocation unless it brings a new symbol
//! or is bad.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::column::{Name, Row, Scalar, Time};
use super::extract::Extractor;
use super::payload::{Columns, TextColumn, UTC, fields, timestamp_type};
use super::{BatchText, DeadLetter, Reason, Reject, syntax};
use crate::job::{EventsSpec, FactLayout, FunnelSpec, SumSlot};
use crate::model::fact::SLOTS;
use crate::model::hash::{content_hash, id_hash, user_hash};
use crate::model::symbol::LocalInterner;
use crate::model::{Fact, Interner, Symbol};
use crate::source::{RawBatch, RawRecord};

/// Decodes the records of the event topic for one worker.
#[derive(Debug)]
pub struct EventDecoder {
    reader: Reader,
    slots: Slots,
    payload: Option<Payload>,
    worker: u16,
}

impl EventDecoder {
    /// A decoder for the job's events. Without `keep_payload` it makes facts alone.
    pub fn new(
        spec: &EventsSpec,
        funnels: &[FunnelSpec],
        layout: &FactLayout,
        worker: u16,
        interner: Arc<Interner>,
        keep_payload: bool,
    ) -> Self {
        EventDecoder {
            reader: Reader::new(spec),
            slots: Slots::new(funnels, layout, interner),
            payload: keep_payload.then(|| Payload::new(spec)),
            worker,
        }
    }

    /// Gives a fact or appends a dead letter for each record of `batch`, in their order. Row `i` of the
    /// payload belongs to the fact of this batch with `row == i`; it copies what it needs of the batch.
    pub fn decode(
        &mut self,
        batch: &RawBatch,
        batch_number: u32,
        mut give: impl FnMut(Fact),
        letters: &mut Vec<DeadLetter>,
    ) -> Option<RecordBatch> {
        if let Some(payload) = &mut self.payload {
            payload.start(batch.records.len());
        }
        let texts = BatchText::new(batch);
        let mut fact = Fact {
            id: [0; 2],
            user: 0,
            time: 0,
            offset: 0,
            slots: [0; SLOTS],
            partition: batch.partition,
            content: 0,
            batch: batch_number,
            row: 0,
            worker: self.worker,
            nulls: 0,
        };
        for record in &batch.records {
            match self.decode_record(&texts, record, &mut fact) {
                Ok(()) => {
                    give(fact);
                    fact.row += 1;
                }
                Err(reject) => letters.push(reject.letter(batch, record)),
            }
        }
        self.payload.as_mut().map(|payload| payload.finish(batch.partition))
    }

    /// The group symbols of facts that were met for the first time since the last call.
    pub fn take_met(&mut self) -> Vec<Symbol> {
        self.slots.interner.take_met()
    }

    /// Fills in `fact` and appends the payload of a record; after an error nothing is appended.
    fn decode_record(
        &mut self,
        texts: &BatchText<'_>,
        record: &RawRecord,
        fact: &mut Fact,
    ) -> Result<(), Reject> {
        let document = texts.value(record)?;
        let event = self.reader.read(document)?;
        fact.id = id_hash(event.id);
        fact.user = user_hash(event.user);
        fact.time = event.time;
        fact.offset = record.offset;
        fact.content = content_hash(event.row.encoded(), fact.user, event.time);
        self.slots.fill(&event, fact);
        if let Some(payload) = &mut self.payload {
            payload.push(&event, record.offset);
        }
        Ok(())
    }
}

/// Reads one document at a time.
#[derive(Debug)]
struct Reader {
    extractor: Extractor,
    id: Name,
    user: Name,
    time: Time,
    row: Row,
}

/// An event whose values have all been read.
struct Event<'a> {
    id: &'a str,
    user: &'a str,
    time: i64,
    row: &'a Row,
    extractor: &'a Extractor,
    document: &'a str,
}

impl Reader {
    fn new(spec: &EventsSpec) -> Self {
        let mut extractor = Extractor::new();
        Reader {
            id: Name::new(&spec.id, "event id", Reason::MissingId, &mut extractor),
            user: Name::new(&spec.user, "user", Reason::MissingUser, &mut extractor),
            time: Time::new(&spec.time, spec.time_unit, &mut extractor),
            row: Row::new(&spec.columns, &mut extractor),
            extractor,
        }
    }

    fn read<'a>(&'a mut self, document: &'a str) -> Result<Event<'a>, Reject> {
        self.extractor.extract(document).map_err(|fault| syntax(fault, document))?;
        let id = self.id.read(&self.extractor, document)?;
        let user = self.user.read(&self.extractor, document)?;
        let time = self.time.read(&self.extractor, document)?;
        self.row.read(&self.extractor, document)?;
        Ok(Event { id, user, time, row: &self.row, extractor: &self.extractor, document })
    }
}

/// Fills the slots of a fact as the job's layout says.
#[derive(Debug)]
struct Slots {
    groups: Vec<Vec<usize>>,
    sums: Vec<SumSlot>,
    funnel_slot: Option<usize>,
    funnels: Vec<Funnel>,
    interner: LocalInterner,
    scratch: Vec<u8>,
}

/// The steps of a funnel, to be found in an event.
#[derive(Debug)]
struct Funnel {
    byte: usize,
    column: usize,
    steps: Vec<String>,
}

impl Slots {
    fn new(funnels: &[FunnelSpec], layout: &FactLayout, interner: Arc<Interner>) -> Self {
        let funnel = |(spec, place): (&FunnelSpec, &crate::job::FunnelLayout)| Funnel {
            byte: place.byte,
            column: spec.column,
            steps: spec.steps.clone(),
        };
        Slots {
            groups: layout.groups.clone(),
            sums: layout.sums.clone(),
            funnel_slot: layout.funnel_slot,
            funnels: funnels.iter().zip(&layout.funnels).map(funnel).collect(),
            interner: LocalInterner::new(interner),
            scratch: Vec::new(),
        }
    }

    fn fill(&mut self, event: &Event<'_>, fact: &mut Fact) {
        fact.nulls = 0;
        for (slot, columns) in self.groups.iter().enumerate() {
            let symbol = if let [column] = columns[..] {
                self.interner.intern(event.row.encoded_column(column))
            } else {
                self.scratch.clear();
                for column in columns {
                    self.scratch.extend_from_slice(event.row.encoded_column(*column));
                }
                self.interner.intern(&self.scratch)
            };
            fact.slots[slot] = symbol.0;
        }
        for sum in &self.sums {
            let (low, high) = match event.row.scalar(sum.column) {
                Scalar::Long(value) => (value as u64, 0),
                Scalar::Decimal(value) => (value as u64, (value >> 64) as u64),
                _ => {
                    fact.nulls |= 1 << sum.slot;
                    (0, 0)
                }
            };
            fact.slots[sum.slot] = low;
            if sum.wide {
                fact.slots[sum.slot + 1] = high;
            }
        }
        if let Some(slot) = self.funnel_slot {
            let mut steps = [0; 8];
            for funnel in &self.funnels {
                steps[funnel.byte] = funnel.step(event);
            }
            fact.slots[slot] = u64::from_le_bytes(steps);
        }
    }
}

impl Funnel {
    /// The number of the event's step, from 1; 0 if it is none of this funnel's.
    fn step(&self, event: &Event<'_>) -> u8 {
        let text = event.row.text(self.column, event.extractor, event.document);
        let index = text.and_then(|text| self.steps.iter().position(|step| step == text));
        index.map_or(0, |index| index as u8 + 1)
    }
}

/// The payload of a batch while it is decoded.
#[derive(Debug)]
struct Payload {
    schema: SchemaRef,
    ids: TextColumn,
    users: TextColumn,
    times: Vec<i64>,
    columns: Columns,
    offsets: Vec<i64>,
}

impl Payload {
    fn new(spec: &EventsSpec) -> Self {
        let mut all = vec![
            Field::new("event_id", DataType::Utf8, false),
            Field::new("user_id", DataType::Utf8, false),
            Field::new("event_time", timestamp_type(), false),
        ];
        all.extend(fields(&spec.columns));
        all.push(Field::new("_partition", DataType::Int32, false));
        all.push(Field::new("_offset", DataType::Int64, false));
        Payload {
            schema: Arc::new(Schema::new(all)),
            ids: TextColumn::new(),
            users: TextColumn::new(),
            times: Vec::new(),
            columns: Columns::new(&spec.columns),
            offsets: Vec::new(),
        }
    }

    fn start(&mut self, rows: usize) {
        self.ids.start(rows);
        self.users.start(rows);
        self.columns.start(rows);
        self.times = Vec::with_capacity(rows);
        self.offsets = Vec::with_capacity(rows);
    }

    #[inline]
    fn push(&mut self, event: &Event<'_>, offset: i64) {
        self.ids.push(event.id);
        self.users.push(event.user);
        self.times.push(event.time);
        self.columns.push(event.row, event.extractor, event.document);
        self.offsets.push(offset);
    }

    fn finish(&mut self, partition: i32) -> RecordBatch {
        let times = std::mem::take(&mut self.times);
        let offsets = std::mem::take(&mut self.offsets);
        let partitions = Int32Array::from_value(partition, offsets.len());
        let times = TimestampMicrosecondArray::from(times).with_timezone(UTC);
        let mut arrays: Vec<ArrayRef> =
            vec![self.ids.finish(), self.users.finish(), Arc::new(times)];
        arrays.extend(self.columns.finish());
        arrays.push(Arc::new(partitions));
        arrays.push(Arc::new(Int64Array::from(offsets)));
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .expect("columns of equal length were built from the fields of this schema")
    }
}
