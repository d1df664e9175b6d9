//! Writing a slab: rows in, sorted strictly by key; one synced file out.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use fail::fail_point;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::{self, CHECKSUM, Codec};
use super::error::StateError;
use super::files::slab_name;
use super::filter;
use super::format::{FilterEntry, Footer, Geometry, Tail};
use super::layout::Layout;
use super::manifest::SlabMeta;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Sizes within a slab; the defaults are right for local disks, tests use tiny ones.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// Bytes of a block: what is read and checked at once.
    pub block_bytes: usize,
    /// Blocks that share a filter.
    pub chunk_blocks: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { block_bytes: 16 << 10, chunk_blocks: 256 }
    }
}

/// Who writes a slab, and of which commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub incarnation: u64,
    pub worker: usize,
    pub generation: u64,
    pub commit_from: u64,
    pub commit_to: u64,
}

impl Origin {
    /// The origin of a slab of one commit.
    pub fn of_commit(incarnation: u64, worker: usize, commit: u64, generation: u64) -> Self {
        Self { incarnation, worker, generation, commit_from: commit, commit_to: commit }
    }
}

/// A slab being written; dropped before [`finish`](Self::finish) it removes its file.
#[derive(Debug)]
pub(crate) struct SlabWriter {
    layout: Layout,
    origin: Origin,
    codec: Codec,
    geometry: Geometry,
    seed: u64,
    name: String,
    path: PathBuf,
    file: File,
    finished: bool,
    /// Encoded, not yet written; the open block starts at `block_start`.
    pending: Vec<u8>,
    block_start: usize,
    block_rows: usize,
    rows_per_block: usize,
    blocks: usize,
    index: Vec<u64>,
    lower: Vec<u64>,
    /// The key of the newest row.
    upper: Vec<u64>,
    /// Of the open chunk.
    hashes: Vec<u64>,
    filters: Vec<u8>,
    directory: Vec<FilterEntry>,
}

impl SlabWriter {
    pub(crate) fn create(
        dir: &Path,
        layout: &Layout,
        origin: &Origin,
        options: &WriteOptions,
    ) -> Result<Self, StateError> {
        layout.check()?;
        let codec = Codec::of_width(layout.width).expect("the layout's width was checked");
        let uuid = Uuid::new_v4();
        let name = slab_name(&layout.collection, origin, uuid);
        let path = dir.join(&name);
        fail_point!("slab.create");
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| StateError::io("create the state file", &path, source))?;
        let geometry = Geometry {
            rows: 0,
            width: layout.width,
            block_bytes: Geometry::block_bytes(options.block_bytes, layout.width),
            chunk_blocks: options.chunk_blocks.max(1),
        };
        Ok(Self {
            codec,
            geometry,
            rows_per_block: geometry.rows_per_block(),
            layout: layout.clone(),
            origin: *origin,
            seed: uuid.as_u64_pair().1,
            name,
            path,
            file,
            finished: false,
            pending: Vec::new(),
            block_start: 0,
            block_rows: 0,
            blocks: 0,
            index: Vec::new(),
            lower: Vec::new(),
            upper: Vec::new(),
            hashes: Vec::new(),
            filters: Vec::new(),
            directory: Vec::new(),
        })
    }

    /// Appends a row, whose key must be greater than the one before.
    pub(crate) fn push(&mut self, row: &[u64]) -> Result<(), StateError> {
        let Layout { width, key, filter, .. } = self.layout;
        if row.len() != width {
            return Err(self.misuse(format!("a row of {} words, not {width}", row.len())));
        }
        let key = &row[..key];
        if self.geometry.rows == 0 {
            self.lower.extend_from_slice(key);
            self.upper.extend_from_slice(key);
            self.hash(&key[..filter]);
        } else {
            if key <= &self.upper[..] {
                let at = self.geometry.rows;
                return Err(self.misuse(format!("row {at} is not greater than the one before")));
            }
            // Rows are sorted by key, so equal beginnings of keys are neighbours.
            if self.hashes.is_empty() || key[..filter] != self.upper[..filter] {
                self.hash(&key[..filter]);
            }
            self.upper.copy_from_slice(key);
        }
        if self.block_rows == 0 {
            self.index.extend_from_slice(key);
        }
        self.codec.encode(row, &mut self.pending);
        self.geometry.rows += 1;
        self.block_rows += 1;
        if self.block_rows == self.rows_per_block {
            self.pending.resize(self.block_start + self.geometry.block_bytes - CHECKSUM, 0);
            self.close_block()?;
        }
        Ok(())
    }

    fn hash(&mut self, words: &[u64]) {
        if !words.is_empty() {
            self.hashes.push(filter::hash(words));
        }
    }

    fn close_block(&mut self) -> Result<(), StateError> {
        codec::seal(
            &mut self.pending,
            self.block_start,
            self.seed.wrapping_add(self.blocks as u64),
        );
        self.block_start = self.pending.len();
        self.block_rows = 0;
        self.blocks += 1;
        if self.blocks.is_multiple_of(self.geometry.chunk_blocks) {
            self.close_chunk();
        }
        if self.pending.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn close_chunk(&mut self) {
        let bytes = filter::build(&mut self.hashes).unwrap_or_default();
        self.directory.push(FilterEntry {
            offset: self.filters.len() as u64,
            bytes: bytes.len() as u64,
            checksum: xxh3_64(&bytes),
        });
        self.filters.extend_from_slice(&bytes);
    }

    fn flush(&mut self) -> Result<(), StateError> {
        fail_point!("slab.write");
        let written = self.file.write_all(&self.pending);
        written.map_err(|source| StateError::io("write the state file", &self.path, source))?;
        self.pending.clear();
        self.block_start = 0;
        Ok(())
    }

    /// Writes what is missing, syncs, and describes the file. There must be a row.
    pub(crate) fn finish(mut self) -> Result<SlabMeta, StateError> {
        let (bytes, checksum) = self.write_tail()?;
        fail_point!("slab.sync");
        let synced = self.file.sync_data();
        synced.map_err(|source| StateError::io("sync the state file", &self.path, source))?;
        self.finished = true;
        Ok(SlabMeta {
            collection: self.layout.collection.clone(),
            file: self.name.clone(),
            rows: self.geometry.rows as u64,
            bytes,
            lower: self.lower.clone(),
            upper: self.upper.clone(),
            commit_from: self.origin.commit_from,
            commit_to: self.origin.commit_to,
            generation: self.origin.generation,
            checksum,
        })
    }

    /// Ends the open block and chunk and writes everything behind the blocks; gives the length of
    /// the file and the checksum of its tail.
    pub(crate) fn write_tail(&mut self) -> Result<(u64, u64), StateError> {
        if self.geometry.rows == 0 {
            return Err(self.misuse("a slab without rows".to_owned()));
        }
        if self.block_rows > 0 {
            self.close_block()?;
        }
        if self.directory.len() < self.geometry.chunks() {
            self.close_chunk();
        }
        self.flush()?;
        let tail = Tail {
            footer: Footer {
                geometry: self.geometry,
                collection: self.layout.collection.clone(),
                key: self.layout.key,
                filter: self.layout.filter,
                filter_bytes: self.filters.len(),
                commit_from: self.origin.commit_from,
                commit_to: self.origin.commit_to,
                generation: self.origin.generation,
                seed: self.seed,
                lower: self.lower.clone(),
                upper: self.upper.clone(),
            },
            index: std::mem::take(&mut self.index),
            directory: std::mem::take(&mut self.directory),
        };
        let (before, behind, checksum) = tail.to_bytes();
        self.pending.extend_from_slice(&before);
        self.flush()?;
        self.pending = std::mem::take(&mut self.filters);
        self.flush()?;
        self.pending.extend_from_slice(&behind);
        self.flush()?;
        let bytes = tail.footer.filters_at() + tail.footer.filter_bytes + behind.len();
        Ok((bytes as u64, checksum))
    }

    fn misuse(&self, what: String) -> StateError {
        StateError::misuse(&self.layout.collection, what)
    }
}

impl Drop for SlabWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays behind on a failure is an orphan, and collected as one.
            fs::remove_file(&self.path).ok();
        }
    }
}
