//! Fewer slabs: which neighbours to merge, decided purely, and the merge itself.
//!
//! A merge keeps, of each key, the row of the newest slab, and writes one slab in the place of its
//! inputs. It streams: one run of blocks per input is in memory. Which thread it runs on, and when
//! the manifest takes the result, is not known here.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fail::fail_point;

use super::blocks::BlockReader;
use super::cursor::{Cursor, Merged};
use super::error::StateError;
use super::layout::Layout;
use super::manifest::{SlabMeta, check_order};
use super::reader::Counters;
use super::slab::Slab;
use super::write::{Origin, SlabWriter, WriteOptions};

/// A generation with more runs of commits than this is merged.
pub const RUNS_MAX: usize = 8;

/// An older run joins a merge if it is at most so many times as large as what is merged already.
const GROWTH: u64 = 2;

/// Rows between two looks at whether to stop.
const STOP_ROWS: u64 = 1 << 14;

/// Which slabs to merge next, if any. `slabs` are those of one collection in the manifest's order.
///
/// The slabs of one commit count as one run and are merged together. In the newest generation that
/// has more than [`RUNS_MAX`] runs: the newest runs such that each is at most twice as large as all
/// newer ones together. Each row is so rewritten a logarithmic number of times.
pub fn choose_merge(slabs: &[SlabMeta]) -> Option<Range<usize>> {
    assert!(slabs.is_sorted_by_key(SlabMeta::age), "slabs come in the manifest's order");
    let mut end = slabs.len();
    for generation in slabs.chunk_by(|a, b| a.generation == b.generation).rev() {
        let begin = end - generation.len();
        if let Some(chosen) = choose_in(generation) {
            return Some(begin + chosen.start..begin + chosen.end);
        }
        end = begin;
    }
    None
}

fn choose_in(slabs: &[SlabMeta]) -> Option<Range<usize>> {
    let mut runs: Vec<(Range<usize>, u64)> = Vec::new();
    let mut begin = 0;
    for run in slabs.chunk_by(SlabMeta::same_commits) {
        let bytes = run.iter().map(|slab| slab.bytes).sum();
        runs.push((begin..begin + run.len(), bytes));
        begin += run.len();
    }
    if runs.len() <= RUNS_MAX {
        return None;
    }
    // The newest place at which two runs or more belong together.
    (1..runs.len()).rev().find_map(|newest| {
        let (mut begin, mut sum) = (newest, runs[newest].1);
        while begin > 0 && runs[begin - 1].1 <= sum.saturating_mul(GROWTH) {
            begin -= 1;
            sum = sum.saturating_add(runs[begin].1);
        }
        (begin < newest).then(|| runs[begin].0.start..runs[newest].0.end)
    })
}

/// Merges slabs, oldest first, of one generation and without a gap in the manifest, into a new one.
///
/// `incarnation` and `worker` go into its name. When `stop` is set, the merge gives
/// [`StateError::Stopped`] soon after and leaves nothing behind.
pub fn merge(
    dir: &Path,
    layout: &Layout,
    slabs: &[SlabMeta],
    (incarnation, worker): (u64, usize),
    options: &WriteOptions,
    stop: &AtomicBool,
) -> Result<SlabMeta, StateError> {
    let (Some(oldest), Some(newest)) = (slabs.first(), slabs.last()) else {
        return Err(StateError::misuse(&layout.collection, "a merge of no slabs"));
    };
    let origin = Origin {
        incarnation,
        worker,
        generation: newest.generation,
        commit_from: oldest.commit_from,
        commit_to: newest.commit_to,
    };
    merge_as(dir, layout, slabs, &origin, options, stop)
}

/// As [`merge`], into a slab of this origin.
pub fn merge_as(
    dir: &Path,
    layout: &Layout,
    slabs: &[SlabMeta],
    origin: &Origin,
    options: &WriteOptions,
    stop: &AtomicBool,
) -> Result<SlabMeta, StateError> {
    check_order(slabs)?;
    if slabs.iter().any(|slab| slab.generation != origin.generation) {
        return Err(StateError::misuse(&layout.collection, "a merge across generations"));
    }
    let open = |meta| Slab::open(dir, layout, meta);
    let slabs = slabs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let counters = Counters::default();
    let cursors = slabs.iter().enumerate().map(|(age, slab)| {
        let reader = BlockReader::new(slab, &counters, 0..slab.geometry().blocks());
        Cursor::new(reader, layout.width, layout.key, None, age)
    });
    let mut merged = Merged::new(cursors, layout.key)?;
    let mut writer = SlabWriter::create(dir, layout, origin, options)?;
    let mut rows = 0_u64;
    fail_point!("slab.merge");
    while let Some(row) = merged.next()? {
        if rows.is_multiple_of(STOP_ROWS) && stop.load(Ordering::Relaxed) {
            return Err(StateError::Stopped { collection: layout.collection.clone() });
        }
        writer.push(row)?;
        rows += 1;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::paper;
    use super::*;

    /// Slabs of commits 1, 2, … with these sizes, one worker.
    fn sizes(sizes: &[u64]) -> Vec<SlabMeta> {
        let slab = |(at, bytes): (usize, &u64)| paper(0, (at as u64 + 1, at as u64 + 1), 0, *bytes);
        sizes.iter().enumerate().map(slab).collect()
    }

    #[test]
    fn up_to_eight_runs_are_left_alone() {
        assert_eq!(choose_merge(&[]), None);
        assert_eq!(choose_merge(&sizes(&[10; 8])), None);
        assert_eq!(choose_merge(&sizes(&[10; 9])), Some(0..9));
    }

    #[test]
    fn the_newest_runs_are_merged_as_long_as_the_older_is_not_much_larger() {
        let slabs = sizes(&[100_000, 9000, 10, 10, 10, 10, 10, 10, 10]);
        assert_eq!(choose_merge(&slabs), Some(2..9));
        assert_eq!(choose_merge(&sizes(&[500, 1, 1, 1, 1, 1, 1, 1, 2])), Some(1..9));
        assert_eq!(choose_merge(&sizes(&[16, 1, 1, 1, 1, 1, 1, 1, 1])), Some(0..9));
    }

    #[test]
    fn a_newest_slab_that_is_too_small_does_not_stop_older_ones_from_merging() {
        assert_eq!(choose_merge(&sizes(&[9, 9, 9, 9, 9, 9, 9, 9, 1])), Some(0..8));
        let growing: Vec<u64> = (0..12).rev().map(|i| 4_u64.pow(i)).collect();
        assert_eq!(choose_merge(&sizes(&growing)), None);
    }

    #[test]
    fn slabs_of_one_commit_are_one_run_and_stay_together() {
        let mut slabs = Vec::new();
        for commit in 1..=9 {
            slabs.extend((0..4).map(|worker| paper(0, (commit, commit), worker, 10)));
        }
        assert_eq!(choose_merge(&slabs[..32]), None);
        assert_eq!(choose_merge(&slabs), Some(0..36));
        slabs[3].bytes = 10_000;
        assert_eq!(choose_merge(&slabs), Some(4..36));
    }

    #[test]
    fn generations_are_never_mixed() {
        let commits = |generation, count| {
            (1..=count).map(move |commit| paper(generation, (commit, commit), 0, 10))
        };
        let few: Vec<SlabMeta> = commits(0, 5).chain(commits(1, 5)).collect();
        assert_eq!(choose_merge(&few), None);
        let many: Vec<SlabMeta> = commits(0, 9).chain(commits(1, 9)).chain(commits(2, 3)).collect();
        assert_eq!(choose_merge(&many), Some(9..18));
    }

    #[test]
    fn merging_after_every_commit_keeps_slabs_few_and_rewrites_little() {
        let (mut slabs, mut written) = (Vec::new(), 0);
        for commit in 1..=2000_u64 {
            slabs.push(paper(0, (commit, commit), 0, 10));
            written += 10;
            if let Some(range) = choose_merge(&slabs) {
                let (from, to) = (slabs[range.start].commit_from, slabs[range.end - 1].commit_to);
                let bytes = slabs[range.clone()].iter().map(|slab| slab.bytes).sum();
                slabs.splice(range, [paper(0, (from, to), 0, bytes)]);
                written += bytes;
            }
            assert!(slabs.len() <= 16, "{} slabs", slabs.len());
        }
        assert!(written <= 2000 * 10 * 8, "each byte was written {} times", written / 20_000);
    }
}
