//! Hydrate: history is read for the users that an epoch touches, when they are first touched.
//!
//! An event needs its own row of each aggregate, its user's version of the dimension, and for a step of a
//! funnel all of the user's step events. A dimension change that moves a user needs all of the user's rows.
//! Whatever is in memory is not read again, and an untouched user costs nothing.
//!
//! *Owns* the views of the slabs of the last commit before the run (or before the last eviction).

use crate::aggregate::{self, RowKey};
use crate::enrich::Tables;
use crate::funnel;
use crate::ids;
use crate::job::{FactLayout, Job};
use crate::model::{DimensionChange, Fact};
use crate::sink::Finished;
use crate::state::{Layout, Reader, SlabMeta, StateError};
use crate::users::{self, UserIndex};
use crate::worker::WorkerContext;

/// Views of the slabs that hold what is known of users.
#[derive(Debug)]
pub struct Hydration {
    dimension: Reader,
    aggregates: Vec<Reader>,
    funnels: Vec<Reader>,
}

/// The layouts of all collections of a job.
pub fn all_layouts(job: &Job, layout: &FactLayout) -> Vec<Layout> {
    let mut layouts = vec![ids::layout(), users::layout()];
    for (spec, place) in job.aggregates.iter().zip(&layout.aggregates) {
        layouts.push(aggregate::layout(&spec.name, aggregate::row_width(&place.sums)));
    }
    layouts.extend(job.funnels.iter().map(|spec| funnel::layout(&spec.name)));
    layouts
}

impl Hydration {
    /// Opens the slabs of the last commit, and those written since.
    pub fn open(context: &WorkerContext, tables: &Tables, written: &[SlabMeta]) -> Self {
        let open = |layout: Layout| context.open_slabs(&layout, written);
        let job = &context.job;
        let rows = job.aggregates.iter().zip(&tables.aggregates);
        Hydration {
            dimension: open(users::layout()),
            aggregates: rows
                .map(|(spec, rows)| open(aggregate::layout(&spec.name, rows.width())))
                .collect(),
            funnels: job.funnels.iter().map(|spec| open(funnel::layout(&spec.name))).collect(),
        }
    }

    /// What reading slabs has cost since the last call, by collection.
    pub fn take_reads(&self) -> impl Iterator<Item = Finished> {
        let readers = self.aggregates.iter().chain(&self.funnels);
        readers.chain([&self.dimension]).map(Finished::read)
    }

    /// Brings in what `facts` and `changes` of one epoch need.
    pub fn hydrate(
        &self,
        tables: &mut Tables,
        facts: &[Vec<Fact>],
        changes: &[DimensionChange],
    ) -> Result<(), StateError> {
        self.load_versions(tables, facts, changes)?;
        self.load_moving_users(tables, changes)?;
        self.load_rows(tables, facts)?;
        self.load_paths(tables, facts)
    }

    /// Every user of the epoch gets their stored version of the dimension.
    fn load_versions(
        &self,
        tables: &mut Tables,
        facts: &[Vec<Fact>],
        changes: &[DimensionChange],
    ) -> Result<(), StateError> {
        if self.dimension.is_empty() {
            return Ok(());
        }
        let touched = facts.iter().flatten().map(|fact| fact.user);
        let touched = touched.chain(changes.iter().map(|change| change.user));
        let unknown = sorted(touched.filter(|user| tables.users.find(*user).is_none()));
        let users = &mut tables.users;
        self.dimension.get_many(&unknown, &mut |_, row| users.load(row))?;
        unknown.iter().for_each(|user| {
            users.index(*user);
        });
        Ok(())
    }

    /// A user whose columns change needs all rows and step events.
    fn load_moving_users(
        &self,
        tables: &mut Tables,
        changes: &[DimensionChange],
    ) -> Result<(), StateError> {
        let moving = sorted(changes.iter().map(|change| change.user).filter(|user| {
            tables.users.find(*user).is_none_or(|index| !tables.users.get(index).whole)
        }));
        let Tables { users, aggregates, funnels, .. } = tables;
        for (rows, reader) in aggregates.iter_mut().zip(&self.aggregates) {
            if rows.has_dimension() {
                reader.scan_prefix_many(&moving, &mut |row| rows.load(users.index(row[0]), row))?;
            }
        }
        let indices: Vec<UserIndex> = moving.iter().map(|user| users.index(*user)).collect();
        for (funnel, reader) in funnels.iter_mut().zip(&self.funnels) {
            let pairs = moving.iter().zip(&indices).filter(|(_, index)| !funnel.is_loaded(**index));
            let unloaded: Vec<(u64, UserIndex)> =
                pairs.map(|(user, index)| (*user, *index)).collect();
            let hashes: Vec<u64> = unloaded.iter().map(|(user, _)| *user).collect();
            reader.scan_prefix_many(&hashes, &mut |row| funnel.load(users.index(row[0]), row))?;
            unloaded.iter().for_each(|(_, index)| funnel.loaded(*index));
        }
        indices.into_iter().for_each(|index| users.set_whole(index));
        Ok(())
    }

    /// Every event gets its own row of each aggregate.
    fn load_rows(&self, tables: &mut Tables, facts: &[Vec<Fact>]) -> Result<(), StateError> {
        let Tables { users, aggregates, .. } = tables;
        for (rows, reader) in aggregates.iter_mut().zip(&self.aggregates) {
            if reader.is_empty() {
                continue;
            }
            let keys = facts.iter().flatten().map(|fact| rows.key(fact));
            let mut wanted: Vec<RowKey> = keys.filter(|key| !rows.has(key)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let words: Vec<u64> = wanted.iter().flat_map(RowKey::words).collect();
            reader.get_many(&words, &mut |_, row| rows.load(users.index(row[0]), row))?;
        }
        Ok(())
    }

    /// Every user who takes a step of a funnel gets all their step events.
    fn load_paths(&self, tables: &mut Tables, facts: &[Vec<Fact>]) -> Result<(), StateError> {
        let Tables { users, funnels, .. } = tables;
        for (funnel, reader) in funnels.iter_mut().zip(&self.funnels) {
            if reader.is_empty() {
                continue;
            }
            let steps = facts.iter().flatten().filter(|fact| funnel.step(fact).is_some());
            let unloaded = steps.map(|fact| fact.user);
            let unloaded = sorted(
                unloaded
                    .filter(|user| users.find(*user).is_none_or(|index| !funnel.is_loaded(index))),
            );
            reader.scan_prefix_many(&unloaded, &mut |row| funnel.load(users.index(row[0]), row))?;
            unloaded.iter().for_each(|user| funnel.loaded(users.index(*user)));
        }
        Ok(())
    }
}

fn sorted(words: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut words: Vec<u64> = words.collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::job;

    #[test]
    fn every_collection_of_a_job_has_a_layout() {
        let text = include_str!("job/tests/subscriptions.toml");
        let job = job::parse(text, "job.toml", Path::new("/jobs"), &|_| None).unwrap();
        let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels).unwrap();
        let layouts = all_layouts(&job, &layout);
        let names: Vec<&str> = layouts.iter().map(|layout| &*layout.collection).collect();
        assert_eq!(names, ["ids", "dimension", "rows.regional", "steps.signup_funnel"]);
        for layout in &layouts {
            let Layout { collection, width, key, filter } = layout;
            assert_eq!(Layout::new(collection, *width, *key, *filter).unwrap(), *layout);
        }
        // Count, and a sum of longs with its number of values.
        assert_eq!(layouts[2].width, aggregate::KEY + 1 + 2);
    }
}
