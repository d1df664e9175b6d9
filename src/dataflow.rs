//! The dataflow of a job, as section *Dataflow* of the README draws it.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::scheduling::SyncActivator;

use crate::dedup::dedup;
use crate::enrich::enrich;
use crate::ingest::ingest;
use crate::model::Epoch;
use crate::share::take_in;
use crate::sink::{append, current, events, gather};
use crate::source::feed::Feed;
use crate::worker::WorkerContext;

/// The ends of the dataflow on one worker.
pub struct Built {
    /// Wakes the worker when its feed has more.
    pub wake: SyncActivator,
    /// Its frontier passes an epoch when all workers have worked it off.
    pub steps: Handle<Epoch>,
}

/// Builds the dataflow of a job.
pub fn build(scope: Scope<'_, Epoch>, feed: Receiver<Feed>, context: &Arc<WorkerContext>) -> Built {
    let tables = &context.tables;
    let input = ingest(scope, feed, context);
    let unique = dedup(input.facts, context);
    let symbols = (context.processes() > 1).then(|| take_in(input.symbols, context));
    let enriched = enrich(unique.facts, input.versions, symbols, context);
    let changes = current(enriched.changes, context);
    let letters = append("dead_letters", input.letters, tables.dead_letters(), context);
    let mut finished = vec![input.finished, unique.finished, enriched.finished, changes, letters];
    if let Some(table) = tables.versions() {
        finished.push(append("versions", input.version_rows, table, context));
    }
    if let Some(table) = tables.raw() {
        finished.push(append("raw", input.raw, table, context));
    }
    let steps = Handle::new();
    match tables.events() {
        Some(table) => {
            let written = events(input.payloads, enriched.verdicts, table, context);
            finished.push(written.finished);
            written.encoded.probe_with(&steps);
        }
        None => {
            enriched.verdicts.probe_with(&steps);
        }
    }
    gather(scope.concatenate(finished), context);
    Built { wake: input.wake, steps }
}
