//! The slabs of the newest commit, for those who open slabs anew while a run goes on.
//!
//! The committer publishes what each commit refers to; workers that drop what they hold in memory look it up
//! there. So a look-up asks merged slabs, however many commits the run has made.

use std::sync::{Arc, Mutex, PoisonError};

use super::manifest::{Manifest, SlabMeta};

/// The slabs of the newest commit. In a process without the committer they stay those of the start.
#[derive(Debug, Clone, Default)]
pub struct LiveSlabs {
    newest: Arc<Mutex<(u64, Manifest)>>,
}

impl LiveSlabs {
    /// The slabs of `commit`, where a run starts.
    pub fn new(commit: u64, slabs: Manifest) -> Self {
        LiveSlabs { newest: Arc::new(Mutex::new((commit, slabs))) }
    }

    /// A newer commit stands.
    pub fn publish(&self, commit: u64, slabs: &Manifest) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = (commit, slabs.clone());
    }

    /// The slabs of a collection, oldest first: of the newest commit, and those `written` for later ones.
    pub fn with(&self, collection: &str, written: &[SlabMeta]) -> Vec<SlabMeta> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let (commit, manifest) = &*newest;
        let mut slabs = manifest.collection(collection).to_vec();
        let later = |slab: &&SlabMeta| slab.collection == collection && slab.commit_from > *commit;
        slabs.extend(written.iter().filter(later).cloned());
        slabs.sort_by_key(SlabMeta::age);
        slabs
    }

    /// Forgets those of `written` that the newest commit holds, as they were or merged.
    pub fn prune(&self, written: &mut Vec<SlabMeta>) {
        let (commit, _) = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|slab| slab.commit_from > commit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slab(collection: &str, commit_from: u64, commit_to: u64) -> SlabMeta {
        SlabMeta {
            collection: collection.to_owned(),
            file: format!("{collection}-{commit_from}-{commit_to}"),
            rows: 1,
            bytes: 1,
            lower: vec![0],
            upper: vec![1],
            commit_from,
            commit_to,
            generation: 0,
            checksum: 0,
        }
    }

    #[test]
    fn what_the_newest_commit_holds_is_taken_from_its_list_and_the_rest_from_what_was_written() {
        let live = LiveSlabs::default();
        let mut written: Vec<SlabMeta> =
            (1..=4).map(|commit| slab("ids", commit, commit)).collect();
        written.push(slab("users", 3, 3));
        assert_eq!(live.with("ids", &written), written[..4]);

        let (merged, mut manifest) = (slab("ids", 1, 3), Manifest::default());
        manifest.add(merged.clone()).unwrap();
        live.clone().publish(3, &manifest);
        assert_eq!(live.with("ids", &written), [merged, slab("ids", 4, 4)]);
        assert!(live.with("users", &written).is_empty());
        live.prune(&mut written);
        assert_eq!(written, [slab("ids", 4, 4)]);
    }
}
