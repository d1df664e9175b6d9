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
    use crate::state::SlabMeta;

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

    /// A slab of ids that exists only on paper.
    fn slab(generation: u64, file: &str) -> SlabMeta {
        SlabMeta {
            collection: ids::COLLECTION.to_owned(),
            file: file.to_owned(),
            rows: 1,
            bytes: 8,
            lower: vec![0],
            upper: vec![u64::MAX],
            commit_from: 1,
            commit_to: 1,
            generation,
            checksum: 0,
        }
    }

    /// The generations that stay of these, as numbers of ids by generation, and those of the slabs.
    fn kept(sizes: &[(u64, u64)]) -> Vec<u64> {
        let mut stored =
            Stored { generations: sizes.iter().copied().collect(), ..Stored::default() };
        let mut other = slab(0, "of users");
        other.collection = "dimension".to_owned();
        stored.slabs.add(other).unwrap();
        for generation in stored.generations.keys() {
            stored.slabs.add(slab(*generation, &generation.to_string())).unwrap();
        }
        stored.forget_generations();
        let kept: Vec<u64> = stored.generations.into_keys().collect();
        let slabs = stored.slabs.collection(ids::COLLECTION);
        assert_eq!(slabs.iter().map(|slab| slab.generation).collect::<Vec<_>>(), kept);
        assert_eq!(stored.slabs.collection("dimension").len(), 1, "generations are of ids alone");
        kept
    }

    #[test]
    fn a_generation_goes_when_enough_ids_lie_a_horizon_ahead() {
        assert!(kept(&[]).is_empty());
        // The horizon is four generations: of those ahead, a thousand ids and a hundredth of all count.
        assert_eq!(kept(&[(5, 10), (6, 10), (10, 999)]), [5, 6, 10]);
        assert_eq!(kept(&[(5, 10), (6, 10), (10, 1000)]), [6, 10]);
        assert_eq!(kept(&[(5, 10), (6, 10), (9, 990), (10, 10)]), [5, 6, 9, 10]);
        assert_eq!(kept(&[(5, 10), (6, 10), (7, 0), (10, 990), (11, 10)]), [6, 7, 10, 11]);
        assert_eq!(kept(&[(1, 1_000_000), (50, 10_100)]), [1, 50]);
        assert_eq!(kept(&[(1, 1_000_000), (50, 10_102)]), [50]);
        // Before the first horizon is over nothing can lie behind it.
        assert_eq!(kept(&[(0, 5), (3, 5000)]), [0, 3]);
    }

    #[test]
    fn state_files_of_earlier_runs_that_no_commit_names_are_orphans() {
        let of_slab = |incarnation: u64, id: u64| {
            format!("ids.i{incarnation:08}.c0000000001-0000000001.w0000.{id:032x}.slab")
        };
        let of_symbols = |incarnation: u64| format!("symbols-{incarnation:08}-000000000001-x.sym");
        let mut stored = Stored::default();
        stored.slabs.add(slab(0, &of_slab(2, 1))).unwrap();
        stored.symbols.push(of_symbols(1));
        let is_orphan = stored.state_orphans(Incarnation(3));
        for orphan in [of_slab(2, 2), of_slab(1, 1), of_symbols(2)] {
            assert!(is_orphan(&orphan), "{orphan}");
        }
        // Named, of this run, of a later one, and not ours.
        let (named, ours) = ([of_slab(2, 1), of_symbols(1)], [of_slab(3, 2), of_symbols(3)]);
        let others = [of_slab(4, 2), of_symbols(4), "catalog.db".to_owned()];
        for needed in named.iter().chain(&ours).chain(&others) {
            assert!(!is_orphan(needed), "{needed}");
        }
    }

    #[test]
    fn the_first_table_that_another_has_moved_is_named() {
        let at =
            |location: &str| StoredTable { location: location.to_owned(), ..Default::default() };
        let tables = [("a", at("a-1")), ("b", at("b-1")), ("c", at("c-1"))];
        let tables = tables.map(|(name, table)| (name.to_owned(), table)).into();
        let stored = Stored { tables, ..Stored::default() };
        let changed = |moved: &str, to: Option<&str>| {
            let found = |name: &str| {
                let stays = Some(format!("{name}-1"));
                Ok::<_, ()>(if name == moved { to.map(str::to_owned) } else { stays })
            };
            let changed = stored.changed_table(found).unwrap();
            changed.map(|(name, table, what)| (name.to_owned(), table.location.clone(), what))
        };
        assert_eq!(changed("z", None), None);
        assert_eq!(changed("b", Some("b-2")), Some(("b".into(), "b-1".into(), "changed")));
        assert_eq!(changed("c", None), Some(("c".into(), "c-1".into(), "dropped")));
        assert_eq!(stored.changed_table(|_| Err("no answer")), Err("no answer"));
    }

    #[test]
    fn a_table_has_the_leaves_that_its_commit_left() {
        let leaf = Leaf { lower: Vec::new(), path: "file".into(), rows: 3 };
        let table = StoredTable { location: "a-1".into(), leaves: vec![leaf.clone()] };
        let stored = Stored { tables: [("a".into(), table)].into(), ..Stored::default() };
        assert_eq!(stored.leaves("a"), [leaf]);
        assert!(stored.leaves("b").is_empty());
    }
}
