//! The shape of a collection's rows.

use super::codec::WIDTH_MAX;
use super::error::StateError;
use super::files::{COLLECTION_NAME_MAX, is_collection_name};

/// The shape of a collection's rows, known at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The collection's name; it stands in file names.
    pub collection: String,
    /// Words of a row, 1 to 24.
    pub width: usize,
    /// Words of the key, which a row begins with. Word 0 is a stable, well-mixed hash.
    pub key: usize,
    /// How many of the first words of the key the filters are over; 0 for no filter.
    pub filter: usize,
}

impl Layout {
    /// A layout whose numbers and name are in their ranges.
    pub fn new(
        collection: &str,
        width: usize,
        key: usize,
        filter: usize,
    ) -> Result<Self, StateError> {
        let layout = Self { collection: collection.to_owned(), width, key, filter };
        layout.check()?;
        Ok(layout)
    }

    pub(crate) fn check(&self) -> Result<(), StateError> {
        let Self { collection, width, key, filter } = self;
        let misuse = |what| Err(StateError::misuse(collection, what));
        if !is_collection_name(collection) {
            let of = "letters, digits, `_`, `-` and `.`";
            return misuse(format!("its name must be 1 to {COLLECTION_NAME_MAX} of {of}"));
        }
        if !(1..=WIDTH_MAX).contains(width) {
            return misuse(format!("a row has 1 to {WIDTH_MAX} words, not {width}"));
        }
        if !(1..=*width).contains(key) || filter > key {
            return misuse(format!("{key} key and {filter} filter words in a row of {width}"));
        }
        Ok(())
    }

    /// Refuses words that are not whole keys in order; equal ones may be refused too.
    pub(crate) fn check_keys(
        &self,
        words: &[u64],
        size: usize,
        distinct: bool,
    ) -> Result<(), StateError> {
        let whole = words.len().is_multiple_of(size);
        let sorted =
            words.chunks_exact(size).is_sorted_by(|a, b| if distinct { a < b } else { a <= b });
        if whole && sorted {
            return Ok(());
        }
        Err(StateError::misuse(&self.collection, "keys to look up must be whole and sorted"))
    }
}
