//! Share: what a symbol stands for is told to the other processes of a run.
//!
//! A symbol is the hash of its content, so all processes give a tuple the same symbol, and rows on their way
//! carry nothing else. But whoever writes rows for readers needs the content. So each worker announces a
//! symbol at the epoch in which it first meets it, together with the groups that stages behind make of it,
//! to one worker of every other process. The stage that works epochs off waits until that is done
//! everywhere.
//!
//! *Invariant.* When an epoch is worked off, every process knows the content of all of its symbols; when a
//! commit is complete, process 0 does, which persists them.

use std::sync::Arc;

use hashbrown::HashSet;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};

use crate::groups::DimensionGroups;
use crate::model::{DimensionChange, Epoch, Parcel, Symbol};
use crate::worker::WorkerContext;

/// The content of a symbol: an encoded tuple.
pub type Content = Box<[u8]>;

/// What one worker has told of.
pub struct Sharing {
    context: Arc<WorkerContext>,
    groups: DimensionGroups,
    told: HashSet<Symbol>,
}

impl Sharing {
    /// Nothing is told yet. All processes know the symbols of the last commit, and those of users without a
    /// version of the dimension.
    pub fn new(context: &Arc<WorkerContext>) -> Self {
        let mut groups = DimensionGroups::new(&context.job, &context.interner);
        groups.index(context.no_version);
        Sharing { context: Arc::clone(context), groups, told: HashSet::new() }
    }

    /// The news of a batch: the symbols that its facts met first, and the tuples of its versions with the
    /// groups that are made of them.
    pub fn parcels(
        &mut self,
        met: Vec<Symbol>,
        versions: &[DimensionChange],
    ) -> Vec<Parcel<Content>> {
        let mut news = met;
        for version in versions {
            if self.told.insert(version.columns) {
                let index = self.groups.index(version.columns);
                let groups = self.groups.get(index);
                let made = groups.aggregates.iter().chain(&groups.funnels).copied();
                news.push(version.columns);
                // 0 stands for no column, and has no content.
                news.extend(made.filter(|symbol| symbol.0 != 0));
            }
        }
        let content = |symbol: &Symbol| self.context.interner.content(*symbol);
        let rows: Vec<Content> = news.iter().filter_map(content).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let (processes, workers) = (self.context.processes(), self.context.workers as u64);
        let first_worker = |process: usize| process as u64 * (workers / processes as u64);
        let others = (0..processes).filter(|process| *process != self.context.process());
        others.map(|process| Parcel { to: first_worker(process), rows: rows.clone() }).collect()
    }
}

/// Takes in what other processes tell. The frontier of the result passes an epoch when that is done
/// everywhere.
pub fn take_in<'s>(
    symbols: Stream<'s, Epoch, Vec<Parcel<Content>>>,
    context: &Arc<WorkerContext>,
) -> Stream<'s, Epoch, Vec<()>> {
    let context = Arc::clone(context);
    let to = Exchange::new(|parcel: &Parcel<Content>| parcel.to);
    symbols.unary(to, "share::take_in", move |_, _| {
        move |input, _: &mut OutputBuilderSession<'_, Epoch, CapacityContainerBuilder<Vec<()>>>| {
            input.for_each(|_, parcels| {
                for content in parcels.drain(..).flat_map(|parcel| parcel.rows) {
                    // As a new one: process 0 persists it with the commit.
                    context.interner.intern(&content);
                }
            });
        }
    })
}
