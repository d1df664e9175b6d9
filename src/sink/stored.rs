//! What a job keeps in the catalog: the body of its row, swapped by the same transaction as the tables.
//!
//! JSON, one object. `format` is [`FORMAT`]; another number is refused. Slabs and symbol files are named
//! relative to the state folder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::finished::Leaf;
use crate::ids;
use crate::job::Definition;
use crate::model::Incarnation;
use crate::source::cut::Cut;
use crate::source::mark::Marks;
use crate::state::{self, Manifest};
use crate::symbols;

/// The version of this encoding.
const FORMAT: u32 = 1;

/// Ids that must be a whole horizon ahead before a generation is forgotten: one record stamped far in the
/// future, or a thousand of them, expire nothing.
const IDS_AHEAD_MIN: u64 = 1_000;
/// And their share of all remembered ids, as a divisor.
const IDS_AHEAD_SHARE: u64 = 100;

/// A job at a commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    format: u32,
    /// The definition that made the tables and the state.
    pub definition: Definition,
    /// What the tables contain.
    pub cut: Cut,
    /// The last record that was read of each partition, by topic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, Marks>,
    /// The tables, by name.
    pub tables: BTreeMap<String, StoredTable>,
    /// The live slabs.
    pub slabs: Manifest,
    /// The files of the symbol dictionary.
    pub symbols: Vec<String>,
    /// Ids in each generation of the dedup state.
    pub generations: BTreeMap<u64, u64>,
}

/// What a commit knows of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTable {
    /// Its metadata at that commit.
    pub location: String,
    /// For a current table: its leaves, by rising lower key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<Leaf>,
}

/// The job's row does not hold what this program writes there.
#[derive(Debug, Error)]
pub enum StoredError {
    /// Not JSON of the right shape.
    #[error(
        "the state of job {job} in the catalog can't be read ({error}); restore the catalog from a copy"
    )]
    Shape {
        /// The job.
        job: String,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// Written by another version.
    #[error(
        "the state of job {job} has format {found}, and this program reads {FORMAT}; \
         use the version that wrote it"
    )]
    Format {
        /// The job.
        job: String,
        /// The format found.
        found: u32,
    },
}

impl Stored {
    /// A job that has not committed yet.
    pub fn new(definition: Definition) -> Self {
        Stored { format: FORMAT, definition, ..Stored::default() }
    }

    /// Reads the body of the row of `job`.
    pub fn decode(job: &str, body: &str) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let shape = |error| StoredError::Shape { job: job.to_owned(), error };
        let Format { format } = serde_json::from_str(body).map_err(shape)?;
        if format != FORMAT {
            return Err(StoredError::Format { job: job.to_owned(), found: format });
        }
        serde_json::from_str(body).map_err(shape)
    }

    /// The body of the job's row.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| panic!("state always encodes: {error}"))
    }

    /// The first table whose pointer is not where this commit left it, and what became of it; `found` looks
    /// pointers up.
    pub fn changed_table<E>(
        &self,
        mut found: impl FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Option<(&str, &StoredTable, &'static str)>, E> {
        for (name, table) in &self.tables {
            match found(name)? {
                Some(found) if found == table.location => {}
                Some(_) => return Ok(Some((name, table, "changed"))),
                None => return Ok(Some((name, table, "dropped"))),
            }
        }
        Ok(None)
    }

    /// Tells by its name whether a file in the state folder is superseded or left by a crash: this commit
    /// does not refer to it, and a run before `incarnation` wrote it.
    pub fn state_orphans(&self, incarnation: Incarnation) -> impl Fn(&str) -> bool {
        let mut named = self.slabs.files();
        named.extend(self.symbols.iter().cloned());
        move |name| {
            let of = state::slab_incarnation(name).or_else(|| symbols::file_incarnation(name));
            of.is_some_and(|of| of < incarnation.0) && !named.contains(name)
        }
    }

    /// Forgets the generations of ids that lie a whole horizon behind enough newer ids.
    pub fn forget_generations(&mut self) {
        let all: u64 = self.generations.values().sum();
        let enough = IDS_AHEAD_MIN.max(all / IDS_AHEAD_SHARE);
        let mut ahead = 0;
        let mut newest_needed = None;
        for (generation, ids) in self.generations.iter().rev() {
            ahead += ids;
            if ahead >= enough {
                newest_needed = Some(*generation);
                break;
            }
        }
        let Some(newest) = newest_needed else { return };
        let oldest_kept = newest.saturating_sub(ids::GENERATIONS_OF_HORIZON as u64);
        self.generations.retain(|generation, _| *generation >= oldest_kept);
        if let Some(slabs) = self.slabs.slabs.get_mut(ids::COLLECTION) {
            slabs.retain(|slab| slab.generation >= oldest_kept);
        }
    }

    /// The leaves of a current table.
    pub fn leaves(&self, table: &str) -> Vec<Leaf> {
        self.tables.get(table).map(|stored| stored.leaves.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_round_trips_and_other_formats_are_refused() {
        let mut stored = Stored::new(Definition::from([("job.window".into(), "1h".into())]));
        stored.symbols.push("symbols-1".into());
        let body = stored.encode();
        assert_eq!(Stored::decode("j", &body).unwrap(), stored);
        let other = body.replacen("\"format\":1", "\"format\":2", 1);
        assert!(matches!(Stored::decode("j", &other), Err(StoredError::Format { found: 2, .. })));
        assert!(Stored::decode("j", &body[1..]).is_err());
    }
}
