//! Binary fuse filters: which keys a chunk of blocks certainly does not hold.
//!
//! A filter is built over 64-bit hashes of the first words of the keys of a chunk. It may say
//! "perhaps" about a key that is not there (1 in 256), never "no" about one that is: what was built
//! is probed with everything that went in, and a filter that fails is left out.

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter as _, FilterRef};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// The hash of the first words of a key. It is part of the file format.
///
/// `hash(w) = w` and `hash(..u, w) = xxh3(w, seed = hash(..u))`: the filter mixes by itself, so one
/// word needs no hashing and distinct words stay distinct.
pub(crate) fn hash(words: &[u64]) -> u64 {
    let (first, rest) = words.split_first().expect("a layout without filter words never hashes");
    rest.iter().fold(*first, |seed, word| xxh3_64_with_seed(&word.to_le_bytes(), seed))
}

/// Builds the filter of `hashes` and empties them. None if there are none, or if no filter holds.
pub(crate) fn build(hashes: &mut Vec<u64>) -> Option<Vec<u8>> {
    // Equal hashes make the construction fail after a thousand rounds.
    if !hashes.is_sorted_by(|a, b| a < b) {
        hashes.sort_unstable();
        hashes.dedup();
    }
    let bytes = encode(hashes);
    hashes.clear();
    bytes
}

fn encode(hashes: &[u64]) -> Option<Vec<u8>> {
    if hashes.is_empty() {
        return None;
    }
    let built = BinaryFuse8::try_from(hashes).ok()?;
    let mut bytes = vec![0; DESCRIPTOR];
    built.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(built.dma_fingerprints());
    let complete = hashes.iter().all(|hash| built.contains(hash));
    complete.then_some(bytes)
}

/// A filter as it was read from a slab.
#[derive(Debug)]
pub(crate) struct Filter {
    bytes: Vec<u8>,
}

impl Filter {
    /// Takes the bytes of a filter whose checksum holds; None if they can't be one.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(bytes)))
        };
        let (length, mask, count) = (word(8)?, word(12)?, word(16)?);
        let fingerprints = bytes.len().checked_sub(DESCRIPTOR)? as u64;
        // Probing indexes without looking: three segments from anywhere below `count`.
        let sound = length.is_power_of_two()
            && mask == length - 1
            && count > 0
            && count % length == 0
            && fingerprints == count + 2 * length;
        sound.then_some(Self { bytes })
    }

    /// False if no key with this hash is in the chunk.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let (descriptor, fingerprints) = self.bytes.split_at(DESCRIPTOR);
        BinaryFuse8Ref::from_dma(descriptor, fingerprints).contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_went_in_is_never_denied(mut hashes in prop::collection::vec(any::<u64>(), 1..2000)) {
            let before = hashes.clone();
            hashes.extend_from_slice(&before[..before.len() / 2]);
            let filter = Filter::from_bytes(build(&mut hashes).unwrap()).unwrap();
            prop_assert!(hashes.is_empty());
            prop_assert!(before.iter().all(|hash| filter.may_contain(*hash)));
        }

        #[test]
        fn small_and_neighbouring_words_work_too(start: u32, count in 1u64..300) {
            let mut hashes: Vec<u64> = (0..count).map(|i| u64::from(start) + i).collect();
            let before = hashes.clone();
            let filter = Filter::from_bytes(build(&mut hashes).unwrap()).unwrap();
            prop_assert!(before.iter().all(|hash| filter.may_contain(*hash)));
        }
    }

    #[test]
    fn strangers_are_mostly_denied() {
        let mut hashes: Vec<u64> = (0..10_000).map(|i| hash(&[i, 1])).collect();
        let filter = Filter::from_bytes(build(&mut hashes).unwrap()).unwrap();
        let wrong = (0..10_000).filter(|i| filter.may_contain(hash(&[*i, 2]))).count();
        assert!(wrong < 100, "{wrong} of 10,000 strangers pass");
    }

    #[test]
    fn equal_hashes_count_once_even_where_they_come_in_order() {
        let mut twice: Vec<u64> = (0..1_000).flat_map(|word| [word, word]).collect();
        let mut once: Vec<u64> = (0..1_000).collect();
        let bytes = |hashes: &mut Vec<u64>| build(hashes).unwrap().len();
        assert_eq!(bytes(&mut twice), bytes(&mut once));
    }

    #[test]
    fn nothing_makes_no_filter_and_nonsense_is_none() {
        assert!(build(&mut Vec::new()).is_none());
        assert!(Filter::from_bytes(Vec::new()).is_none());
        let good = build(&mut vec![1, 2, 3]).unwrap();
        assert!(Filter::from_bytes(good[..good.len() - 1].to_vec()).is_none());
        for at in 8..DESCRIPTOR {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Filter::from_bytes(bad).is_none(), "byte {at}");
        }
        // Segments of four, none of them to begin in.
        let mut empty = vec![0; DESCRIPTOR + 8];
        (empty[8], empty[12]) = (4, 3);
        assert!(Filter::from_bytes(empty).is_none());
    }
}
