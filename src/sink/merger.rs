//! The merger: slabs of a collection become one, on a thread of its own, so that reading state does not grow
//! dear with the number of commits. The next commit takes the result; a run that ends first gives the merge
//! up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::model::Incarnation;
use crate::state::{self, Layout, Manifest, SlabMeta, StateError, WriteOptions};

/// The number that names merged slabs where a worker's would stand.
const MERGER: usize = 999;

/// Merges one collection at a time.
#[derive(Debug)]
pub struct Merger {
    dir: PathBuf,
    incarnation: Incarnation,
    layouts: Vec<Layout>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    slabs: Vec<SlabMeta>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<SlabMeta, StateError>>,
}

impl Merger {
    /// A merger for the collections of these layouts in `dir`.
    pub fn new(dir: PathBuf, incarnation: Incarnation, layouts: Vec<Layout>) -> Self {
        Merger { dir, incarnation, layouts, running: None }
    }

    /// Starts the next merge that `manifest` calls for, unless one is under way.
    pub fn start(&mut self, manifest: &Manifest) {
        if self.running.is_some() {
            return;
        }
        let due = self.layouts.iter().find_map(|layout| {
            let slabs = manifest.collection(&layout.collection);
            Some((layout.clone(), slabs[state::choose_merge(slabs)?].to_vec()))
        });
        let Some((layout, slabs)) = due else { return };
        let (dir, of, stop) = (self.dir.clone(), slabs.clone(), Arc::new(AtomicBool::new(false)));
        let (stopped, origin) = (Arc::clone(&stop), (self.incarnation.0, MERGER));
        let thread = std::thread::Builder::new().name("merger".to_owned()).spawn(move || {
            state::merge(&dir, &layout, &of, origin, &WriteOptions::default(), &stopped)
        });
        match thread {
            Ok(thread) => self.running = Some(Running { slabs, stop, thread }),
            Err(error) => tracing::warn!(%error, "state is not merged: no thread can be started"),
        }
    }

    /// The result of a merge that is done: what was merged, and into what.
    pub fn take(&mut self) -> Result<Option<(Vec<SlabMeta>, SlabMeta)>, StateError> {
        match self.running.take_if(|running| running.thread.is_finished()) {
            Some(Running { slabs, thread, .. }) => {
                let merged = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Ok(Some((slabs, merged?)))
            }
            None => Ok(None),
        }
    }
}

impl Drop for Merger {
    fn drop(&mut self) {
        if let Some(Running { stop, thread, .. }) = self.running.take() {
            stop.store(true, Ordering::Relaxed);
            // Its result, or the word that it was stopped, is of no use any more.
            thread.join().ok();
        }
    }
}
