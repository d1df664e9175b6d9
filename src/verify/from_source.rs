//! Verification from the source: the topics are read anew, and everything is computed from their records.
//!
//! ```text
//! cuts ──► Ranges ─┐                            events, dead_letters, cuts, <dimension>_changes ──┐
//!                  ▼                                                                              ▼
//! topics ──► log::read ──► plain::Decoded ──► Copies ──► Winners ──► History            rows: claim, compare
//!            (a thread)                                              (as from tables, for the answers)
//! ```
//!
//! The table of cuts says of every Kafka partition which offsets a commit has read, so the commit of a record
//! is known. What the records below a cut leave open is taken from the tables if it is one of the
//! possibilities, and is a fault if it is not:
//!
//! 1. Copies of an id that came in one commit in different Kafka partitions: any that is the first of its
//!    partition may have won. Where their contents differ, answers are computed from that of the winner.
//! 2. The columns of the dimension in an event's row: those of any version of the user that was the newest at
//!    some time between the end of the commit before and the end of the event's.
//! 3. With a dedup horizon, whether an id was forgotten: a copy may count again if it came in a later commit,
//!    and an event the whole horizon newer than the admitted one had come before that commit.
//! 4. A dead letter's reason, where a document breaks several rules (`plain`).
//! 5. In Kafka, records of the dimension that compaction or retention has taken: they are counted, and their
//!    rows taken for true. Of the event topic every record must be there still.
//!
//! Without a table of events 1 and 3 can't be looked up. Then the copy of the least partition is taken, the
//! duplicates of each partition in the table of cuts may differ by as much as is open, and a note tells of
//! ids whose content is not known. The table of raw records is not compared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::VerifyError;
use super::copies::Copies;
use super::found::Found;
use super::history::{History, ValueId};
use super::log::{self, Ranges};
use super::plain::{Decoded, Meaning};
use super::rows::{self, Gone};
use super::scan::ahead;
use super::winners::settle;
use crate::job::{Job, SourceSpec};
use crate::lake::at_commit::AtCommit;
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;

/// How far reading the source is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records read.
    pub read: AtomicU64,
    /// Records to read; 0 until that is known.
    pub records: AtomicU64,
}

/// A topic of the job, and what commits have read of it.
struct Topic<'j> {
    spec: &'j SourceSpec,
    meaning: Meaning<'j>,
    ranges: Ranges,
    id: ValueId,
}

/// What the tables must hold at a commit: everything that happened, and what is wrong with the tables that
/// rows are only added to. `tables` are those of the commit.
pub(super) fn read(
    job: &Job,
    store: &Store,
    tables: &[AtCommit],
    commit: u64,
    progress: &Progress,
) -> Result<(History, Found), VerifyError> {
    let table = |name: &str| tables.iter().map(|at| &at.table).find(|table| table.name == name);
    let Some(cuts) = table("cuts") else {
        return Ok((History::default(), Found::default()));
    };
    let mut copies = Copies::new(job.events.columns.len(), job.dedup_horizon_us.is_some());
    let mut topic = |spec: &'_ SourceSpec| -> Result<(Ranges, ValueId), VerifyError> {
        let name = spec.topic();
        Ok((Ranges::read(store, cuts, &name, commit)?, copies.values.text(&name)))
    };
    let spec = &job.events.source;
    let (ranges, id) = topic(spec)?;
    let events = Topic { spec, meaning: Meaning::Events(&job.events), ranges, id };
    let mut dimension = None;
    if let Some(of) = &job.dimension {
        let (ranges, id) = topic(&of.source)?;
        let (spec, meaning) = (&of.source, Meaning::Dimension(of));
        dimension = Some((of, Topic { spec, meaning, ranges, id }));
    }
    let topics = || std::iter::once(&events).chain(dimension.as_ref().map(|(_, topic)| topic));
    let records: u64 = topics().map(|topic| topic.ranges.records()).sum();
    progress.records.store(records, Ordering::Relaxed);
    for topic in topics() {
        topic.read(&mut copies, progress)?;
    }
    events.check_complete(&copies)?;

    let (mut found, mut gone) = (Found::default(), Gone::default());
    if let Some((spec, topic)) = &dimension
        && let Some(versions) = table(&format!("{}_changes", spec.name))
    {
        let gone = topic.may_lack().then_some(&mut gone);
        let ranges = &topic.ranges;
        rows::compare_versions(spec, &mut copies, ranges, store, versions, gone, &mut found)?;
    }
    if let Some(letters) = table("dead_letters") {
        let lacking = dimension.iter().map(|(_, topic)| topic).find(|topic| topic.may_lack());
        let lacking = lacking.map(|topic| (topic.id, &topic.ranges, &mut gone));
        rows::compare_letters(&mut copies, store, letters, lacking, &mut found)?;
    }
    let history = admit(
        job,
        copies,
        (&events, dimension.map(|(_, topic)| topic)),
        store,
        (table("events"), &gone),
        &mut found,
    )?;
    note_gone(&gone, &mut found);
    Ok((history, found))
}

/// Settles which events were admitted, and compares what is counted of them.
fn admit(
    job: &Job,
    copies: Copies,
    (events, dimension): (&Topic<'_>, Option<Topic<'_>>),
    store: &Store,
    (table, gone): (Option<&LoadedTable>, &Gone),
    found: &mut Found,
) -> Result<History, VerifyError> {
    let claims = table.map(|table| rows::claim(job, &copies, events.id, store, table, found));
    let claims = claims.transpose()?;
    let winners = settle(job, &copies, events.id, claims.as_ref(), found);
    if winners.unsure > 0 {
        found.notes.push(format!(
            "{} ids have copies of which the topics don't say which one counts, and there is no table of \
             events to look it up in; rows that differ may follow from these",
            winners.unsure
        ));
    }
    let mut counted = BTreeMap::new();
    let none = Gone::default();
    rows::compare_cuts(
        &copies,
        events.id,
        &events.ranges,
        &none,
        Some(&winners),
        &mut counted,
        found,
    );
    if let Some(topic) = dimension {
        rows::compare_cuts(&copies, topic.id, &topic.ranges, gone, None, &mut counted, found);
    }
    found.count("cuts", counted);
    Ok(winners.history(job, copies, events.id))
}

fn note_gone(gone: &Gone, found: &mut Found) {
    let [versions, letters] = gone.all();
    for (what, count) in [("versions", versions), ("dead letters", letters)] {
        if count > 0 {
            let said = format!("{count} {what} of the dimension are no longer in the log");
            found.notes.push(format!("{said}; their rows were taken for true"));
        }
    }
}

impl Topic<'_> {
    /// True where older records may be gone: a dimension in Kafka may be compacted.
    fn may_lack(&self) -> bool {
        let is_kafka = matches!(self.spec, SourceSpec::Kafka(_));
        is_kafka && matches!(self.meaning, Meaning::Dimension(_))
    }

    /// Reads the topic. Records are read and decoded on a thread of their own.
    fn read(&self, copies: &mut Copies, progress: &Progress) -> Result<(), VerifyError> {
        ahead(
            |give: &mut dyn FnMut(Decoded)| {
                log::read(self.spec, &self.ranges, self.may_lack(), &mut |batch| {
                    let end = self.ranges.end(batch.partition);
                    give(Decoded::new(self.meaning, &batch, end));
                })
            },
            |batch| {
                copies.absorb(self.id, &self.ranges, &batch);
                let read = batch.rows.len() + batch.letters.len();
                progress.read.fetch_add(read as u64, Ordering::Relaxed);
            },
        )
    }

    /// Refuses an event topic in Kafka that has fewer records than were read of it.
    fn check_complete(&self, copies: &Copies) -> Result<(), VerifyError> {
        if !matches!(self.spec, SourceSpec::Kafka(_)) {
            return Ok(());
        }
        for (partition, ranges) in self.ranges.partitions() {
            for range in ranges {
                let counts = copies.counts.get(&(self.id, partition, range.commit));
                let read = counts.map_or(0, |counts| counts.records);
                if read < range.records {
                    let (then, start, end) = (range.records, range.start, range.end);
                    let why = format!("{then} records were read there, and {read} are left");
                    let topic = self.spec.topic();
                    return Err(VerifyError::gone(&topic, partition, start..end, &why));
                }
            }
        }
        Ok(())
    }
}
