//! Symbols: a tuple of column values becomes one `u64`, the hash of its content.
//!
//! The interner of a process knows the content of each symbol it handed out, finds collisions (two contents
//! with one hash stop the run: an error, never a wrong answer), and remembers which symbols no commit has
//! persisted.

use std::sync::RwLock;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::hash::symbol_hash;

/// Content-addressed id of an encoded tuple of values.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Symbol(pub u64);

/// The symbols of a process. Shared by all its threads.
#[derive(Debug, Default)]
pub struct Interner {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    contents: HashMap<u64, Box<[u8]>>,
    fresh: Vec<Symbol>,
}

impl Interner {
    /// The symbol of an encoded tuple.
    ///
    /// # Panics
    /// When another content has the same hash: the run stops rather than mix two groups.
    pub fn intern(&self, content: &[u8]) -> Symbol {
        self.insert(content, true)
    }

    /// Takes in a symbol that an earlier commit persisted.
    pub fn load(&self, content: &[u8]) -> Symbol {
        self.insert(content, false)
    }

    /// The content of `symbol`, if it is known here.
    pub fn content(&self, symbol: Symbol) -> Option<Box<[u8]>> {
        self.read().contents.get(&symbol.0).cloned()
    }

    /// The symbols interned since the last call that no commit has persisted yet, with their contents.
    pub fn take_fresh(&self) -> Vec<(Symbol, Box<[u8]>)> {
        let mut tables = self.tables.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fresh = std::mem::take(&mut tables.fresh);
        fresh.into_iter().map(|symbol| (symbol, tables.contents[&symbol.0].clone())).collect()
    }

    /// All symbols with their contents, sorted.
    pub fn all(&self) -> Vec<(Symbol, Box<[u8]>)> {
        let tables = self.read();
        let mut all: Vec<_> = tables
            .contents
            .iter()
            .map(|(hash, content)| (Symbol(*hash), content.clone()))
            .collect();
        all.sort_unstable();
        all
    }

    fn insert(&self, content: &[u8], fresh: bool) -> Symbol {
        let hash = symbol_hash(content);
        if let Some(known) = self.read().contents.get(&hash) {
            assert_same(hash, known, content);
            return Symbol(hash);
        }
        let mut tables = self.tables.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match tables.contents.get(&hash) {
            Some(known) => assert_same(hash, known, content),
            None => {
                tables.contents.insert(hash, content.into());
                if fresh {
                    tables.fresh.push(Symbol(hash));
                }
            }
        }
        Symbol(hash)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A worker's own view of the interner: no lock for a symbol that it has met before.
#[derive(Debug)]
pub struct LocalInterner {
    shared: std::sync::Arc<Interner>,
    known: HashMap<u64, Box<[u8]>>,
    met: Vec<Symbol>,
}

impl LocalInterner {
    /// An empty view of `shared`.
    pub fn new(shared: std::sync::Arc<Interner>) -> Self {
        LocalInterner { shared, known: HashMap::new(), met: Vec::new() }
    }

    /// The symbols that were met for the first time since the last call.
    pub fn take_met(&mut self) -> Vec<Symbol> {
        std::mem::take(&mut self.met)
    }

    /// As [`Interner::intern`].
    pub fn intern(&mut self, content: &[u8]) -> Symbol {
        let hash = symbol_hash(content);
        match self.known.get(&hash) {
            Some(known) => assert_same(hash, known, content),
            None => {
                self.shared.intern(content);
                self.known.insert(hash, content.into());
                self.met.push(Symbol(hash));
            }
        }
        Symbol(hash)
    }
}

fn assert_same(hash: u64, known: &[u8], content: &[u8]) {
    assert!(
        known == content,
        "two group values share the symbol {hash:#018x}: {known:02x?} and {content:02x?}; rename one of them"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_its_content_and_is_fresh_once() {
        let interner = Interner::default();
        let symbol = interner.intern(b"eu");
        assert_eq!(interner.intern(b"eu"), symbol);
        interner.load(b"us");
        assert_eq!(interner.take_fresh(), vec![(symbol, b"eu".to_vec().into_boxed_slice())]);
        assert!(interner.take_fresh().is_empty());
        assert_eq!(interner.content(symbol).as_deref(), Some(b"eu".as_slice()));
    }
}
