//! Names of slab files, and what happens to a state folder as a whole.
//!
//! A name is `COLLECTION.iINCARNATION.cFROM-TO.wWORKER.UUID.slab`. It is never reused, it sorts by
//! collection and incarnation, and it tells an orphan's incarnation without opening the file.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use fail::fail_point;
use uuid::Uuid;

use super::error::StateError;
use super::write::Origin;

const EXTENSION: &str = "slab";

/// The longest name of a collection; the whole name stays below the 255 bytes of file systems.
pub const COLLECTION_NAME_MAX: usize = 120;

/// Whether `name` may stand in a file name as it is.
pub(crate) fn is_collection_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let starts = name.as_bytes().first().is_some_and(|first| *first != b'.');
    starts && name.len() <= COLLECTION_NAME_MAX && name.bytes().all(plain)
}

/// The name of a new slab.
pub(crate) fn slab_name(collection: &str, origin: &Origin, uuid: Uuid) -> String {
    let Origin { incarnation, worker, commit_from, commit_to, .. } = origin;
    let uuid = uuid.simple();
    format!(
        "{collection}.i{incarnation:08}.c{commit_from:010}-{commit_to:010}.w{worker:04}.{uuid}.{EXTENSION}"
    )
}

/// The incarnation in the name of a slab; None if the name is not one of ours.
pub(crate) fn incarnation_of(name: &str) -> Option<u64> {
    let mut parts = name.rsplit('.');
    let ours = parts.next()? == EXTENSION
        && parts.next().is_some_and(|uuid| Uuid::try_parse(uuid).is_ok())
        && parts.next().is_some_and(|worker| worker.starts_with('w'))
        && parts.next().is_some_and(|commits| commits.starts_with('c'));
    let incarnation = parts.next()?.strip_prefix('i')?.parse().ok()?;
    (ours && parts.next().is_some()).then_some(incarnation)
}

/// Makes the names in a folder durable; the files in it are synced when they are written.
pub fn sync_dir(dir: &Path) -> Result<(), StateError> {
    fail_point!("state.sync");
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StateError::io("sync the folder", dir, source))
}

/// Deletes the slabs that are not in `live`, are of an incarnation before `incarnation`, and were
/// last written before `older_than`; gives their names.
///
/// All three are needed: a slab that is not live may be one that a run is about to commit, and a
/// file of this incarnation may still be staged. Files that are not slabs are left alone.
pub fn collect_orphans(
    dir: &Path,
    live: &HashSet<String>,
    incarnation: u64,
    older_than: SystemTime,
) -> Result<Vec<String>, StateError> {
    let failed = |source| StateError::io("list the folder", dir, source);
    let mut deleted = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let older = incarnation_of(&name).is_some_and(|of| of < incarnation);
        if !older || live.contains(&name) {
            continue;
        }
        let file = entry.path();
        let written = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map_err(|source| StateError::io("look at", &file, source))?;
        if written < older_than {
            fs::remove_file(&file).map_err(|source| StateError::io("delete", &file, source))?;
            deleted.push(name);
        }
    }
    deleted.sort();
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn origin(incarnation: u64) -> Origin {
        Origin { incarnation, worker: 3, generation: 0, commit_from: 5, commit_to: 9 }
    }

    #[test]
    fn a_name_tells_its_incarnation_whatever_the_collection_is_called() {
        for collection in ["ids", "base.regional", "a.i9.c1-2.w1"] {
            assert!(is_collection_name(collection));
            let name = slab_name(collection, &origin(17), Uuid::from_u128(5));
            assert_eq!(incarnation_of(&name), Some(17), "{name}");
        }
        let longest = slab_name(&"n".repeat(COLLECTION_NAME_MAX), &origin(u64::MAX), Uuid::nil());
        assert!(longest.len() < 255);
    }

    #[test]
    fn foreign_names_have_no_incarnation() {
        for name in ["", "ids.slab", "catalog.db", "i1.c1-1.w0.x.slab", "ids.i1.c1-1.w0.nope.slab"]
        {
            assert_eq!(incarnation_of(name), None, "{name}");
        }
        for name in ["", ".hidden", "a/b", "ü", "a b"] {
            assert!(!is_collection_name(name), "{name}");
        }
    }

    #[test]
    fn only_old_unreferenced_slabs_of_older_incarnations_are_collected() {
        let dir = tempfile::tempdir().unwrap();
        let make = |incarnation, uuid| {
            let name = slab_name("ids", &origin(incarnation), Uuid::from_u128(uuid));
            fs::write(dir.path().join(&name), "x").unwrap();
            name
        };
        let (orphan, live, current) = (make(1, 1), make(1, 2), make(2, 3));
        fs::write(dir.path().join("catalog.db"), "x").unwrap();
        let keep = HashSet::from([live]);
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);

        assert!(collect_orphans(dir.path(), &keep, 2, now - hour).unwrap().is_empty());
        assert_eq!(collect_orphans(dir.path(), &keep, 2, now + hour).unwrap(), [orphan]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(dir.path().join(current).exists());
        sync_dir(dir.path()).unwrap();
    }
}
