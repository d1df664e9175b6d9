//! State: sorted files of rows, written once per commit and read by key.
//!
//! ```text
//!   a commit's rows ──► SlabRows ──► slab file ──► Manifest ──► Reader: get_many, scan_prefix_many
//!                                         ▲             │
//!                                         └── merge ◄── choose_merge
//! ```
//!
//! A *collection* is a set of rows, at most one per key. A *slab* is an immutable file of rows of a
//! collection, sorted by key. The [`Manifest`] names the live slabs, and a commit swaps it together
//! with the tables. Nothing is loaded at start: opening a slab reads its footer and index.
//!
//! Invariants:
//! 1. The newest slab that has a key holds its row, wholly: nothing is added up over slabs and
//!    nothing is deleted. Newest is by generation, then by commit; a key occurs at most once per
//!    commit over all workers, and in one generation only.
//! 2. A slab is synced before it is named, and never changed.
//! 3. Damaged or missing bytes are an error that names the file and the way out, never an answer.
//!    State is a cache of the tables: it can be rebuilt.
//! 4. `unsafe` and `abomonation` are in `codec` alone.

mod blocks;
mod codec;
mod cursor;
mod error;
mod files;
mod filter;
mod format;
mod layout;
mod live;
mod manifest;
mod merge;
mod reader;
mod rows;
mod slab;
#[cfg(test)]
mod tests;
mod write;

pub use codec::WIDTH_MAX;
pub use error::StateError;
pub use files::{COLLECTION_NAME_MAX, collect_orphans, make_dir, slab_incarnation, sync_dir};
pub use layout::Layout;
pub use live::LiveSlabs;
pub use manifest::{MANIFEST_VERSION, Manifest, SlabMeta};
pub use merge::{RUNS_MAX, choose_merge, merge, merge_as};
pub use reader::{ReadStats, Reader};
pub use rows::{SlabRows, write_buckets};
pub use slab::Slab;
pub use write::{Origin, WriteOptions};
