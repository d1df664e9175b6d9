//! What can be forgotten and what can be deleted, decided from the bare facts: who follows whom, what names
//! what. [`super::maintain`] gets the facts from the files of a table and carries the decisions out.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use super::maintain::{Orphans, Retention};
use super::names::{incarnation_of, normal_path};

/// A snapshot among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: i64,
    pub(crate) parent: Option<i64>,
    pub(crate) sequence: i64,
    pub(crate) at_ms: i64,
    /// Its manifest list.
    pub(crate) list: String,
}

/// A manifest as a list names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named<M> {
    pub(crate) path: String,
    /// The snapshot that wrote it.
    pub(crate) by: i64,
    /// It names files that this snapshot removed.
    pub(crate) removes: bool,
    /// What is needed to read it.
    pub(crate) manifest: M,
}

/// Files that only expired snapshots needed, each kind in the order in which it may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) data: BTreeSet<String>,
    pub(crate) manifests: BTreeSet<String>,
    pub(crate) lists: Vec<String>,
}

/// The snapshots to forget, of `snapshots` from the oldest to the newest: always the oldest ones, so that
/// history keeps no gap, and none that is `kept` by name.
pub(crate) fn surplus(
    snapshots: &[Node],
    retention: Retention,
    now_ms: i64,
    kept: impl FnOnce() -> BTreeSet<i64>,
) -> Vec<i64> {
    let age_min = i64::try_from(retention.age_min.as_millis()).unwrap_or(i64::MAX);
    // The snapshot of the commit that forgets counts as well.
    let surplus = (snapshots.len() + 1).saturating_sub(retention.snapshots_min.max(1));
    let old = |s: &&Node| s.at_ms <= now_ms.saturating_sub(age_min);
    let mut expired: Vec<i64> =
        snapshots.iter().take(surplus).take_while(old).map(|s| s.id).collect();
    if !expired.is_empty() {
        let kept = kept();
        if let Some(first) = expired.iter().position(|id| kept.contains(id)) {
            expired.truncate(first);
        }
    }
    expired
}

/// What only `expired` snapshots needed, where `kept` are those that stay. Nothing where the history forks.
///
/// In a history without forks a file is out of reach exactly when it was removed by an expired snapshot or by
/// the oldest that is kept. `manifests` reads the list of a snapshot, `removed` what a manifest removes.
pub(crate) fn dead_files<M, E>(
    expired: &[Node],
    kept: &[Node],
    mut manifests: impl FnMut(&Node) -> Result<Vec<Named<M>>, E>,
    mut removed: impl FnMut(&Node, &M) -> Result<Vec<String>, E>,
) -> Result<Dead, E> {
    let mut dead = Dead::default();
    let Some(oldest) = kept.iter().min_by_key(|s| s.sequence).filter(|_| !expired.is_empty())
    else {
        return Ok(dead);
    };
    if !is_one_line(expired, kept) {
        return Ok(dead);
    }
    let reachable: HashSet<String> = manifests(oldest)?.into_iter().map(|m| m.path).collect();
    for snapshot in expired.iter().chain([oldest]) {
        // A list that is gone was deleted by an earlier try, and with it all that it named.
        let Ok(list) = manifests(snapshot) else { continue };
        for manifest in list {
            if manifest.by == snapshot.id && manifest.removes {
                dead.data.extend(removed(snapshot, &manifest.manifest)?);
            }
            if !reachable.contains(&manifest.path) {
                dead.manifests.insert(manifest.path);
            }
        }
    }
    dead.lists = expired.iter().map(|s| s.list.clone()).collect();
    Ok(dead)
}

/// Whether all these snapshots follow one another, each the parent of the next.
fn is_one_line(expired: &[Node], kept: &[Node]) -> bool {
    let mut line: Vec<&Node> = expired.iter().chain(kept).collect();
    line.sort_by_key(|s| s.sequence);
    line.windows(2).all(|pair| pair[1].parent == Some(pair[0].id))
}

/// The files that these snapshots need, from their lists down. What `is_gone` is skipped, for it expired
/// since the snapshots were listed; but the newest one must be whole, for it also stands for those that
/// came after it.
///
/// That is safe: what an expired snapshot needs is either needed by a later one too, or by nobody any more.
pub(crate) fn needed_files<M, E>(
    snapshots: &[Node],
    mut manifests: impl FnMut(&Node) -> Result<Vec<Named<M>>, E>,
    mut live: impl FnMut(&M) -> Result<Vec<String>, E>,
    is_gone: impl Fn(&str) -> bool,
) -> Result<HashSet<String>, E> {
    let newest = snapshots.iter().max_by_key(|s| s.sequence).map(|s| s.id);
    let (mut needed, mut seen) = (HashSet::new(), HashSet::new());
    for snapshot in snapshots {
        let skips = |path: &str| Some(snapshot.id) != newest && is_gone(path);
        needed.insert(normal_path(&snapshot.list).to_owned());
        let list = match manifests(snapshot) {
            Err(_) if skips(&snapshot.list) => continue,
            list => list?,
        };
        for manifest in list {
            needed.insert(normal_path(&manifest.path).to_owned());
            if seen.contains(&manifest.path) {
                continue;
            }
            match live(&manifest.manifest) {
                Err(_) if skips(&manifest.path) => continue,
                files => needed.extend(files?.iter().map(|path| normal_path(path).to_owned())),
            }
            seen.insert(manifest.path);
        }
    }
    Ok(needed)
}

/// Of the files of a folder those that may be orphans by their names.
pub(crate) fn earlier_files(
    files: Vec<(PathBuf, SystemTime)>,
    orphans: Orphans<'_>,
) -> Vec<(String, SystemTime)> {
    let earlier = |(path, at): (PathBuf, SystemTime)| {
        let name = path.file_name()?.to_str()?;
        let incarnation = incarnation_of(name, orphans.job)?;
        (incarnation < orphans.before_incarnation).then(|| (path.display().to_string(), at))
    };
    files.into_iter().filter_map(earlier).collect()
}

/// Of these files the orphans that are old enough, sorted, and the number of those that are too young.
/// `referenced` are normal paths.
pub(crate) fn old_orphans(
    files: Vec<(String, SystemTime)>,
    older_than: SystemTime,
    referenced: &HashSet<String>,
) -> (Vec<String>, usize) {
    let orphans = files.into_iter().filter(|(path, _)| !referenced.contains(normal_path(path)));
    let (old, young): (Vec<_>, Vec<_>) = orphans.partition(|(_, modified)| *modified < older_than);
    let mut old: Vec<String> = old.into_iter().map(|(path, _)| path).collect();
    old.sort();
    (old, young.len())
}
