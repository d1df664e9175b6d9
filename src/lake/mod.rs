//! Iceberg tables on a file system: files, snapshots and the one transaction that swaps them.
//!
//! ```text
//! TableSpec ──► FileLayout ──► DataFileWriter ──► WrittenFile ─┐
//!     │                                                        ▼
//!     └──► LoadedTable ────────────────────► stage(Change) ──► Staged ──► Catalog::commit
//!              ▲                                                │               │
//!              └────────────── the next LoadedTable ◄───────────┘               ▼
//!                                                             maintain::delete_expired
//! ```
//!
//! Knows nothing of the dataflow, of jobs' meaning or of timely. Everything here is synchronous: the
//! futures of the iceberg crate run on the calling thread and do local file work only.
//!
//! Invariants:
//! 1. Nothing is visible before the catalog's transaction: staging only writes new files.
//! 2. A file is never overwritten; names carry a uuid and are created exclusively.
//! 3. What the transaction points at is on disk: files are synced when they are closed, directories by
//!    [`storage::Store::sync_directories`] before the swap.
//! 4. A commit never rebases: it applies to the very version it was staged on, or not at all.

pub mod at_commit;
pub mod catalog;
mod catalog_error;
pub mod cells;
pub mod data_file;
pub(crate) mod disk;
mod local_io;
pub mod maintain;
pub mod manifests;
pub(crate) mod metadata_file;
pub mod metrics;
pub mod names;
pub mod parquet;
pub(crate) mod reach;
pub mod read;
pub mod schema;
pub mod snapshot;
mod sqlite;
pub mod storage;
pub(crate) mod summary;
pub mod table;

#[cfg(test)]
mod testing;
