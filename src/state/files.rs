//! Names of slab files, and what happens to a state folder as a whole.
//!
//! A name is `COLLECTION.iINCARNATION.cFROM-TO.wWORKER.UUID.slab`. It is never reused, it sorts by
//! collection and incarnation, and it tells who wrote the file without opening it.

use std::fs::{self, File};
use std::io;
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

/// The incarnation that wrote the slab of this name; nothing where the name is not a slab's.
pub fn slab_incarnation(name: &str) -> Option<u64> {
    let mut parts = name.rsplit('.');
    let number = |part: &str, kind| part.strip_prefix(kind)?.parse::<u64>().ok();
    parts.next().filter(|extension| *extension == EXTENSION)?;
    parts.next().filter(|uuid| Uuid::try_parse(uuid).is_ok())?;
    parts.next().and_then(|worker| number(worker, 'w'))?;
    parts.next().filter(|commits| commits.starts_with('c'))?;
    let incarnation = parts.next().and_then(|incarnation| number(incarnation, 'i'))?;
    parts.next().map(|_| incarnation)
}

/// Makes the names in a folder durable; the files in it are synced when they are written.
pub fn sync_dir(dir: &Path) -> Result<(), StateError> {
    fail_point!("state.sync");
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StateError::io("sync the folder", dir, source))
}

/// Makes a folder that a power failure leaves in its place. A run that crashed may have made a part of the
/// way to it, so all of it is synced, as far up as this is allowed.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let synced = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all()).is_ok();
    std::path::absolute(dir)?.ancestors().take_while(|dir| synced(dir)).for_each(drop);
    Ok(())
}

/// Deletes the files whose name is an `orphan` and that were last written before `older_than`; gives their
/// names. Only a run that has begun may do so: from then on no other one commits.
pub fn collect_orphans(
    dir: &Path,
    orphan: impl Fn(&str) -> bool,
    older_than: SystemTime,
) -> Result<Vec<String>, StateError> {
    let failed = |source| StateError::io("list the folder", dir, source);
    let mut deleted = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry.file_name().into_string().ok().filter(|name| orphan(name)) else {
            continue;
        };
        let file = entry.path();
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        if written.map_err(|source| StateError::io("look at", &file, source))? < older_than {
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
    fn a_name_is_known_whatever_the_collection_is_called() {
        for collection in ["ids", "base.regional", "a.i9.c1-2.w1"] {
            assert!(is_collection_name(collection));
            let name = slab_name(collection, &origin(17), Uuid::from_u128(5));
            assert_eq!(slab_incarnation(&name), Some(17), "{name}");
        }
        let longest = "n".repeat(COLLECTION_NAME_MAX);
        assert!(is_collection_name(&longest) && !is_collection_name(&(longest.clone() + "n")));
        let longest = slab_name(&longest, &origin(u64::MAX), Uuid::nil());
        assert!(longest.len() < 255);
    }

    #[test]
    fn foreign_names_are_no_slabs() {
        for name in ["", "ids.slab", "catalog.db", "i1.c1-1.w0.x.slab", "ids.i1.c1-1.w0.nope.slab"]
        {
            assert_eq!(slab_incarnation(name), None, "{name}");
        }
        for name in ["", ".hidden", "a/b", "ü", "a b"] {
            assert!(!is_collection_name(name), "{name}");
        }
    }

    #[test]
    fn only_old_orphans_are_collected() {
        let dir = tempfile::tempdir().unwrap();
        let names = [1, 2].map(|uuid| slab_name("ids", &origin(1), Uuid::from_u128(uuid)));
        names.iter().for_each(|name| fs::write(dir.path().join(name), "x").unwrap());
        fs::write(dir.path().join("catalog.db"), "x").unwrap();
        let [orphan, live] = names;
        let is_orphan = |name: &str| slab_incarnation(name).is_some() && name != live;
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let file = File::options().write(true).open(dir.path().join(&orphan)).unwrap();
        file.set_modified(now).unwrap();

        assert!(collect_orphans(dir.path(), is_orphan, now).unwrap().is_empty());
        assert!(collect_orphans(dir.path(), is_orphan, now - hour).unwrap().is_empty());
        assert_eq!(collect_orphans(dir.path(), is_orphan, now + hour).unwrap(), [orphan]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        sync_dir(dir.path()).unwrap();
    }
}
