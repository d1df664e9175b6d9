//! Which ids are remembered, where the job has a horizon: the history of forgetting, replayed.
//!
//! A commit forgets the generations of ids that lie a whole horizon behind enough newer ids, and what is
//! forgotten stays so. Which ids that left depends on the order of the commits, and the table `events` says
//! of each id the commit that admitted it. So the commits are gone through once more, in numbers only.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};

use super::error::RecoverError;
use crate::ids;
use crate::lake::read::{LiveFile, data_file_batches};
use crate::model::Commit;
use crate::sink::Stored;

/// Ids by commit and generation.
type Admitted = BTreeMap<u64, BTreeMap<u64, u64>>;

/// The ids that are remembered at the newest commit.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    horizon_us: Option<i64>,
    /// For each generation that was ever forgotten: the last commit that did.
    forgotten: BTreeMap<u64, u64>,
    /// How many ids each generation holds.
    pub(super) generations: BTreeMap<u64, u64>,
}

impl Remembered {
    /// Finds out from the files of the table `events`, which stands at `newest`.
    pub(super) fn of(
        files: &[LiveFile],
        newest: Commit,
        horizon_us: Option<i64>,
    ) -> Result<Self, RecoverError> {
        if horizon_us.is_none() {
            let all: u64 = files.iter().map(|file| file.rows).sum();
            let generations = (all > 0).then_some((ids::generation(0, None), all));
            let generations = generations.into_iter().collect();
            return Ok(Remembered { generations, ..Remembered::default() });
        }
        let mut admitted = Admitted::new();
        for file in files {
            count(file, horizon_us, &mut admitted)?;
        }
        Ok(Self::replay(&admitted, newest, horizon_us))
    }

    fn replay(admitted: &Admitted, newest: Commit, horizon_us: Option<i64>) -> Self {
        let mut replayed = Stored::default();
        let mut forgotten = BTreeMap::new();
        // A commit without an event may forget too: what is enough is a share of what is left.
        for commit in 1..=newest.0 {
            for (generation, ids) in admitted.get(&commit).into_iter().flatten() {
                *replayed.generations.entry(*generation).or_default() += ids;
            }
            let before: Vec<u64> = replayed.generations.keys().copied().collect();
            replayed.forget_generations();
            let gone = before.iter().filter(|known| !replayed.generations.contains_key(*known));
            forgotten.extend(gone.map(|generation| (*generation, commit)));
        }
        Remembered { horizon_us, forgotten, generations: replayed.generations }
    }

    /// The generation of an id, if it is remembered; `commit` admitted it.
    pub(super) fn generation(&self, time_us: i64, commit: u64) -> Option<u64> {
        let generation = ids::generation(time_us, self.horizon_us);
        let forgotten = self.forgotten.get(&generation);
        forgotten.is_none_or(|forgotten| *forgotten < commit).then_some(generation)
    }
}

fn count(
    file: &LiveFile,
    horizon_us: Option<i64>,
    admitted: &mut Admitted,
) -> Result<(), RecoverError> {
    for rows in data_file_batches(&file.path, Some(&["event_time", "_commit"]))? {
        let rows = rows?;
        let column = |name| rows.column_by_name(name);
        let times =
            column("event_time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let commits = column("_commit").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(times), Some(commits)) = (times, commits) else {
            return Err(RecoverError::Columns { path: file.path.clone() });
        };
        for (time, commit) in times.values().iter().zip(commits.values()) {
            let of_commit = admitted.entry(*commit as u64).or_default();
            *of_commit.entry(ids::generation(*time, horizon_us)).or_default() += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn remembered(commits: &[&[(i64, u64)]]) -> Remembered {
        let horizon_us = Some(4 * DAY_US);
        let generation = |day: &i64| ids::generation(day * DAY_US, horizon_us);
        let admitted = (1..).zip(commits).map(|(commit, ids)| {
            (commit, ids.iter().map(|(day, ids)| (generation(day), *ids)).collect())
        });
        Remembered::replay(&admitted.collect(), Commit(commits.len() as u64), horizon_us)
    }

    #[test]
    fn an_id_is_remembered_unless_its_generation_was_forgotten_since() {
        let all = remembered(&[&[(0, 1_200)], &[(10, 1_500)], &[(0, 10), (11, 5)], &[(12, 1)]]);
        let known = |day, commit| all.generation(day * DAY_US, commit).is_some();
        // Commit 2 forgot day 0, and commit 3 what came of it again.
        assert_eq!((known(0, 1), known(0, 3)), (false, false));
        assert!(known(10, 2) && known(11, 3) && known(12, 4));
        assert_eq!(all.generations.values().sum::<u64>(), 1_506);
    }

    #[test]
    fn a_commit_without_events_forgets_too() {
        // First 2,061 ids are enough, and the newest 1,100 are not. When 200,000 are gone, they are.
        let first: &[(i64, u64)] = &[(0, 200_000), (3, 10), (5, 5_000), (8, 1_100)];
        let known = |all: &Remembered, day| all.generation(day * DAY_US, 1).is_some();
        let before = remembered(&[first]);
        assert_eq!((known(&before, 0), known(&before, 3)), (false, true));
        let after = remembered(&[first, &[]]);
        assert_eq!((known(&after, 3), known(&after, 5)), (false, true));
        assert_eq!(after.generations.values().sum::<u64>(), 6_100);
    }

    #[test]
    fn what_was_forgotten_once_stays_so_though_it_would_be_kept_today() {
        let commits: [&[(i64, u64)]; 3] = [&[(0, 10)], &[(10, 1_100)], &[(3, 200_000)]];
        let all = remembered(&commits);
        let known = |day, commit| all.generation(day * DAY_US, commit).is_some();
        assert!(!known(0, 1));
        assert!(known(10, 2));
        let later = remembered(&[&[(10, 1_100)], &[(8, 200_000)], &[(5, 7)]]);
        assert!(later.generation(5 * DAY_US, 3).is_some(), "1,100 ids are not enough any more");
    }
}
