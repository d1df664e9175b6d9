//! Gather: the finished parts of a commit meet on worker 0, and go to the committer when nothing is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::finished::Finished;
use crate::frontier::{is_commit_complete, open_epoch};
use crate::model::{Commit, Epoch};
use crate::worker::WorkerContext;

/// All parts of one commit.
#[derive(Debug)]
pub struct CommitParts {
    /// The commit.
    pub commit: Commit,
    /// Its files and counts, in no order.
    pub parts: Vec<Finished>,
}

/// Sends the parts of every complete commit to the committer.
pub fn gather<'s>(finished: Stream<'s, Epoch, Vec<Finished>>, context: &Arc<WorkerContext>) {
    let scope = finished.scope();
    let mut builder = OperatorBuilder::new("commit::gather".to_owned(), scope);
    let mut input = builder.new_input(finished, Exchange::new(|_: &Finished| 0));
    let mut waiting: BTreeMap<Commit, Vec<Finished>> = BTreeMap::new();
    let context = Arc::clone(context);
    builder.build(move |_| {
        move |frontiers| {
            input.for_each(|capability, parts| {
                if let Some(epoch) = capability.least() {
                    waiting.entry(Commit::of(*epoch)).or_default().append(parts);
                }
            });
            let open = open_epoch(&frontiers[0]);
            while let Some(first) = waiting.first_entry() {
                if !is_commit_complete(*first.key(), open) {
                    break;
                }
                let (commit, parts) = first.remove_entry();
                context.hand_over(CommitParts { commit, parts });
            }
        }
    });
}
