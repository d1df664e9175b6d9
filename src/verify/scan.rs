//! The rows of a table, batch by batch, with the columns in the order in which they are asked for.

use std::panic::resume_unwind;
use std::sync::{Arc, mpsc};
use std::thread;

use arrow_array::ArrayRef;

use super::VerifyError;
use crate::lake::cells::value_at;
use crate::lake::read::{data_file_batches, live_files};
use crate::lake::storage::Store;
use crate::lake::table::LoadedTable;
use crate::model::Value;

/// Gives the columns `names` of every batch of a table, and how many rows they have.
pub(super) fn scan(
    store: &Store,
    table: &LoadedTable,
    names: &[&str],
    give: &mut dyn FnMut(&[ArrayRef], usize),
) -> Result<(), VerifyError> {
    for file in live_files(store, table)? {
        for batch in data_file_batches(&file.path, Some(names))? {
            let batch = batch?;
            // A file that lacks one of them was refused.
            let columns = names.iter().map(|name| Arc::clone(&batch[*name]));
            give(&columns.collect::<Vec<_>>(), batch.num_rows());
        }
    }
    Ok(())
}

/// Batches that are made ahead.
const BATCHES_AHEAD: usize = 4;

/// Takes the batches that `make` gives, which does so ahead, on a thread of its own.
pub(super) fn ahead<T: Send>(
    make: impl FnOnce(&mut dyn FnMut(T)) -> Result<(), VerifyError> + Send,
    mut take: impl FnMut(T),
) -> Result<(), VerifyError> {
    let (ready, batches) = mpsc::sync_channel::<T>(BATCHES_AHEAD);
    thread::scope(|scope| {
        let maker = scope.spawn(move || {
            make(&mut |batch| {
                // All are taken, unless taking panics.
                ready.send(batch).ok();
            })
        });
        for batch in batches {
            take(batch);
        }
        maker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A long, an int or a timestamp.
pub(super) fn long(column: &ArrayRef, row: usize) -> i64 {
    match value_at(column, row) {
        Value::Long(value) | Value::Timestamp(value) => value,
        _ => 0,
    }
}
