//! From changes to files, and from files to one commit of all tables.
//!
//! ```text
//!   payload ──► events ──┐
//!   rows ─────► append ──┤  finished   ┌────────┐   ┌───────────┐
//!   changes ──► current ─┼────────────►│ commit │──►│ committer │  one transaction
//!   slabs ───────────────┘             └────────┘   └───────────┘
//! ```
//!
//! Every operator here hands its blocking work to the worker's lane and holds its commit open until the files
//! exist.

mod append;
mod committer;
mod current;
mod current_rows;
mod cuts;
mod events;
mod finished;
mod gather;
mod merger;
#[cfg(test)]
mod simulation;
mod sorted;
mod steps;
mod stored;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod work;

pub use append::append;
pub use committer::{Committer, CommitterError, Cuts};
pub use current::current;
pub use cuts::CutRow;
pub use events::{Payload, Verdict, events};
pub use finished::{Counts, Finished, Leaf, TableIndex};
pub use gather::{CommitParts, gather};
pub use merger::Merger;
pub use stored::{Stored, StoredError};
pub use tables::TableSet;
pub use work::{StateWork, TableWork, Totals, Work};
