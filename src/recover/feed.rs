//! Readers: the rows of the tables, file by file on several threads, to the builders that own them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use crossbeam_channel::Sender;

use super::Progress;
use super::build::Work;
use super::error::RecoverError;
use super::facts::{EventRows, VersionRows};
use super::generations::Remembered;
use crate::ids;
use crate::job::{DimensionSpec, FactLayout, Job};
use crate::lake::read::{LiveFile, data_file_batches};
use crate::model::hash::owner;
use crate::model::{DimensionChange, Fact, Interner};

/// The builders are gone: whatever stopped them is the error to tell.
struct Unwanted;

/// The way from the tables to the builders.
pub(super) struct Feed<'a> {
    pub(super) job: &'a Job,
    pub(super) layout: &'a FactLayout,
    pub(super) interner: &'a Arc<Interner>,
    pub(super) remembered: &'a Remembered,
    /// One for each builder, in the order of their ranges.
    pub(super) builders: Vec<Sender<Work>>,
    pub(super) progress: &'a Progress,
}

impl Feed<'_> {
    /// Reads the files of the table of versions, and after the last of them those of the table of events.
    ///
    /// Versions are read in the order of their commits, which is that of their files' names: a topic that was
    /// made anew may bring two versions of one position, and then the first one holds.
    pub(super) fn read(
        &self,
        versions: &[LiveFile],
        events: &[LiveFile],
    ) -> Result<(), RecoverError> {
        if let Some(dimension) = &self.job.dimension {
            versions.iter().try_for_each(|file| self.read_versions(file, dimension))?;
        }
        self.on_threads(events, |file| self.read_events(file))
    }

    /// Reads the files on as many threads as there are builders.
    fn on_threads(
        &self,
        files: &[LiveFile],
        read: impl Fn(&LiveFile) -> Result<(), RecoverError> + Sync,
    ) -> Result<(), RecoverError> {
        let next = AtomicUsize::new(0);
        let read_some = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                read(file).inspect_err(|_| next.store(files.len(), Ordering::Relaxed))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.builders.iter().map(|_| scope.spawn(read_some)).collect();
            let mut ends = threads.into_iter().map(|thread| thread.join());
            ends.try_for_each(|end| end.unwrap_or_else(|p| std::panic::resume_unwind(p)))
        })
    }

    fn read_versions(
        &self,
        file: &LiveFile,
        dimension: &DimensionSpec,
    ) -> Result<(), RecoverError> {
        let mut rows = VersionRows::new(dimension, self.interner);
        let columns: Vec<String> = rows.columns().into_iter().map(str::to_owned).collect();
        self.read_file(file, &columns, |batch| {
            let mut changes: Vec<Vec<DimensionChange>> = self.parts();
            let give = |change: DimensionChange| changes[self.owner(change.user)].push(change);
            rows.changes(batch, give)?;
            Some(self.send(changes, Work::Versions))
        })
    }

    fn read_events(&self, file: &LiveFile) -> Result<(), RecoverError> {
        let mut rows = EventRows::new(self.job, self.layout, self.interner);
        let columns: Vec<String> = rows.columns().into_iter().map(str::to_owned).collect();
        self.read_file(file, &columns, |batch| {
            let (mut facts, mut ids) = (self.parts::<Fact>(), self.parts());
            rows.facts(batch, |commit, fact| {
                if let Some(generation) = self.remembered.generation(fact.time, commit) {
                    ids[self.owner(fact.id[0])].push((generation, ids::row(&fact)));
                }
                facts[self.owner(fact.user)].push(fact);
            })?;
            Some(self.send(facts, Work::Facts).and_then(|()| self.send(ids, Work::Ids)))
        })
    }

    /// Hands the batches of a file to `take`, which gives nothing if their columns are not what they should
    /// be.
    fn read_file(
        &self,
        file: &LiveFile,
        columns: &[String],
        mut take: impl FnMut(&RecordBatch) -> Option<Result<(), Unwanted>>,
    ) -> Result<(), RecoverError> {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut found = 0;
        for batch in data_file_batches(&file.path, Some(&columns))? {
            let batch = batch?;
            match take(&batch) {
                None => return Err(RecoverError::Columns { path: file.path.clone() }),
                Some(Err(Unwanted)) => return Ok(()),
                Some(Ok(())) => {}
            }
            found += batch.num_rows() as u64;
            self.progress.read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        }
        if found != file.rows {
            let (path, expected) = (file.path.clone(), file.rows);
            return Err(RecoverError::Rows { path, found, expected });
        }
        Ok(())
    }

    fn owner(&self, hash: u64) -> usize {
        owner(hash, self.builders.len()) as usize
    }

    fn parts<T>(&self) -> Vec<Vec<T>> {
        self.builders.iter().map(|_| Vec::new()).collect()
    }

    fn send<T>(&self, parts: Vec<Vec<T>>, work: impl Fn(Vec<T>) -> Work) -> Result<(), Unwanted> {
        let parts = self.builders.iter().zip(parts).filter(|(_, part)| !part.is_empty());
        for (builder, part) in parts {
            builder.send(work(part)).map_err(|_| Unwanted)?;
        }
        Ok(())
    }
}
