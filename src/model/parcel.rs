//! Rows in parcels: what goes from one worker to another is packed once and handed over whole.

use serde::{Deserialize, Serialize};

/// Rows that go to one worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parcel<T> {
    /// Index of the worker.
    pub to: u64,
    /// The rows.
    pub rows: Vec<T>,
}

impl<T> Parcel<T> {
    /// Rows of all `parcels`.
    pub fn rows_of(parcels: &[Self]) -> usize {
        parcels.iter().map(|parcel| parcel.rows.len()).sum()
    }
}

/// Rows being packed, by the worker that they go to.
#[derive(Debug)]
pub struct Parcels<T> {
    by_worker: Vec<Vec<T>>,
}

impl<T> Parcels<T> {
    /// Empty parcels for `workers`, with room for `rows` altogether if they spread evenly.
    pub fn new(workers: usize, rows: usize) -> Self {
        let room = rows / workers + rows / workers / 8;
        Parcels { by_worker: (0..workers).map(|_| Vec::with_capacity(room)).collect() }
    }

    /// Puts a row into the parcel of worker `to`.
    #[inline]
    pub fn push(&mut self, to: u64, row: T) {
        self.by_worker[to as usize].push(row);
    }

    /// The parcels that are not empty.
    pub fn pack(self) -> impl Iterator<Item = Parcel<T>> {
        let parcels = (0..).zip(self.by_worker).map(|(to, rows)| Parcel { to, rows });
        parcels.filter(|parcel| !parcel.rows.is_empty())
    }
}
