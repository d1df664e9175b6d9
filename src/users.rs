//! The users of a worker and their dimension: which version of the dimension holds for each user touched in
//! this run.
//!
//! *Owns* the numbering of users and their versions in memory.

use hashbrown::HashMap;

use crate::model::{DimensionChange, Position, Symbol};
use crate::state::{Layout, SlabRows};

/// Name of the collection in the state manifest.
pub const COLLECTION: &str = "dimension";
/// Words of a slab row: the user; then partition, offset, symbol of the columns, and whether it is deleted.
pub const WIDTH: usize = 5;

/// The layout of the slabs of the dimension.
pub fn layout() -> Layout {
    Layout { collection: COLLECTION.to_owned(), width: WIDTH, key: 1, filter: 1 }
}

/// A user's number among those of this worker in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserIndex(pub u32);

/// What a worker knows of a user.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// The user's hash.
    pub hash: u64,
    /// The tuple of dimension columns that holds now.
    pub columns: Symbol,
    /// Where its version stands in the dimension topic; `None` if there never was one.
    pub version: Option<Position>,
    /// All stored rows of the user are in memory.
    pub whole: bool,
    /// The version deletes the user. Known of dirty ones alone: nothing else asks.
    deleted: bool,
    /// The version differs from its slab.
    dirty: bool,
}

/// The users of a worker.
#[derive(Debug)]
pub struct Users {
    /// The tuple of NULLs: the columns of a user without a version.
    nothing: Symbol,
    by_hash: HashMap<u64, u32, Mixed>,
    users: Vec<User>,
    dirty: Vec<UserIndex>,
    /// Versions that came from another Kafka partition than the one before.
    strays: u64,
}

/// User hashes are well mixed already.
type Mixed = std::hash::BuildHasherDefault<MixedHasher>;

/// Hands a `u64` through.
#[derive(Debug, Default)]
pub struct MixedHasher(u64);

impl std::hash::Hasher for MixedHasher {
    fn finish(&self) -> u64 {
        // The high bits route, so within a worker some of them are the same for all: turn them away from the
        // table's tag.
        self.0.rotate_left(20)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl Users {
    /// No user is known; one without a version has the columns `nothing`.
    pub fn new(nothing: Symbol) -> Self {
        let (by_hash, users, dirty) = (HashMap::default(), Vec::new(), Vec::new());
        Users { nothing, by_hash, users, dirty, strays: 0 }
    }

    /// The number of a user who was touched in this run.
    pub fn find(&self, hash: u64) -> Option<UserIndex> {
        self.by_hash.get(&hash).copied().map(UserIndex)
    }

    /// The number of a user, taken in without a version if new.
    pub fn index(&mut self, hash: u64) -> UserIndex {
        let (users, nothing) = (&mut self.users, self.nothing);
        UserIndex(*self.by_hash.entry(hash).or_insert_with(|| {
            let version = None;
            users.push(User {
                hash,
                columns: nothing,
                version,
                whole: false,
                deleted: false,
                dirty: false,
            });
            (users.len() - 1) as u32
        }))
    }

    /// What is known of a user.
    pub fn get(&self, user: UserIndex) -> &User {
        &self.users[user.0 as usize]
    }

    /// Says that all stored rows of the user are in memory.
    pub fn set_whole(&mut self, user: UserIndex) {
        self.users[user.0 as usize].whole = true;
    }

    /// Takes in a stored version of a user who has none in memory.
    pub fn load(&mut self, stored: &[u64]) {
        let user = self.index(stored[0]);
        let user = &mut self.users[user.0 as usize];
        user.version = Some(Position { partition: stored[1] as i32, offset: stored[2] as i64 });
        user.columns = Symbol(stored[3]);
    }

    /// True if `change` is newer than what is known of its user.
    pub fn is_news(&self, user: UserIndex, change: &DimensionChange) -> bool {
        self.get(user).version.is_none_or(|version| version < change.position)
    }

    /// Puts a newer version in place and returns the columns that held before.
    pub fn change(&mut self, index: UserIndex, change: &DimensionChange) -> Symbol {
        let nothing = self.nothing;
        let user = &mut self.users[index.0 as usize];
        let before = user.version.replace(change.position);
        if before.is_some_and(|before| before.partition != change.position.partition) {
            self.strays += 1;
        }
        user.deleted = change.deleted;
        let columns = if change.deleted { nothing } else { change.columns };
        if !std::mem::replace(&mut user.dirty, true) {
            self.dirty.push(index);
        }
        std::mem::replace(&mut user.columns, columns)
    }

    /// Adds the versions that differ from their slabs to those of the next slab.
    pub fn take_dirty(&mut self, slab: &mut SlabRows) {
        for index in std::mem::take(&mut self.dirty) {
            let user = &mut self.users[index.0 as usize];
            user.dirty = false;
            if let Some(version) = user.version {
                let deleted = u64::from(user.deleted);
                let position = [version.partition as u64, version.offset as u64];
                slab.push(&[user.hash, position[0], position[1], user.columns.0, deleted]);
            }
        }
    }

    /// How many versions came from another Kafka partition than their key's version before, since the last
    /// call. A key belongs in one partition, as compaction requires; which of its versions is the newest is
    /// not said otherwise.
    pub fn take_strays(&mut self) -> u64 {
        std::mem::take(&mut self.strays)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.users.capacity() * size_of::<User>() + self.by_hash.capacity() * 17
    }

    /// Drops all users; all their versions stand in slabs.
    pub fn evict(&mut self) {
        assert!(self.dirty.is_empty(), "versions that no slab holds must not be dropped");
        *self = Users::new(self.nothing);
    }
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
