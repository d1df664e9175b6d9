//! The stable hashes of tidewater. They are persisted: never change them without a new state format.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

/// Hash of an event id: equal ids have equal hashes, different ids differ but for a chance of 2^-128.
pub fn id_hash(id: &str) -> [u64; 2] {
    let hash = xxh3_128(id.as_bytes());
    [(hash >> 64) as u64, hash as u64]
}

/// Hash of a user or of a dimension's key.
pub fn user_hash(user: &str) -> u64 {
    xxh3_64(user.as_bytes())
}

/// Hash of an event's content (its user, its time, and its columns as an encoded tuple), which tells copies
/// of an event from conflicting ones.
pub fn content_hash(columns: &[u8], user: u64, time_us: i64) -> u32 {
    let hash = xxh3_64_with_seed(columns, user ^ time_us.rotate_left(32) as u64);
    (hash >> 32) as u32 ^ hash as u32
}

/// Hash of a symbol's encoded content.
pub fn symbol_hash(content: &[u8]) -> u64 {
    xxh3_64_with_seed(content, 0x7469_6465)
}

/// The worker among `peers` that owns `hash`: ranges, in the order of the slabs, for any number of workers.
pub fn owner(hash: u64, peers: usize) -> u64 {
    ((u128::from(hash) * peers as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_ranges_that_cover_all_workers() {
        for peers in 1..=5 {
            assert_eq!(owner(0, peers), 0);
            assert_eq!(owner(u64::MAX, peers), peers as u64 - 1);
        }
    }

    #[test]
    fn hashes_are_pinned_because_they_are_persisted() {
        assert_eq!(user_hash("u1"), xxh3_64(b"u1"));
        assert_eq!(id_hash("").len(), 2);
    }
}
