//! Tests of [`super`]: a current table against a map over random commits, and the sizes of its leaves.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type};
use proptest::prelude::*;

use super::super::testing::Lake;
use super::*;
use crate::changes::SumDelta;

/// Rows of a full leaf.
const FULL: usize = 8;

/// The totals of a kind: events, users, and the sums of longs and decimals with their numbers of values.
type Totals = (i64, i64, [(i64, i64); 2]);
/// What readers see of a kind: events, users, sums.
type Seen = (i64, i64, Option<i64>, Option<i128>);

/// A current table beside what it should hold.
struct Bench {
    lake: Lake,
    table: CurrentTable,
    /// By kind: the totals, and the commit that last changed what readers see.
    rows: BTreeMap<i64, (Totals, u64)>,
    /// What readers of the changelog have made of it.
    replayed: BTreeMap<i64, Seen>,
    commit: u64,
}

/// What a commit did to leaves.
struct Applied {
    removed: Vec<String>,
    added: Vec<WrittenFile>,
}

fn seen((count, users, [long, decimal]): Totals) -> Seen {
    let shown = |(value, values): (i64, i64)| (values > 0).then_some(value);
    (count, users, shown(long), shown(decimal).map(i128::from))
}

impl Bench {
    fn new() -> Self {
        let mut lake = Lake::new();
        lake.job.lake.leaf_rows = FULL;
        let table = CurrentTable::new(&lake.context(), lake.tables.aggregate(0));
        Bench { lake, table, rows: BTreeMap::new(), replayed: BTreeMap::new(), commit: 0 }
    }

    fn group(&self, kind: i64) -> GroupKey {
        let mut content = Vec::new();
        Value::Long(kind).encode(&mut content);
        let event = self.lake.interner.intern(&content).0;
        GroupKey { table: self.table.index, window: 0, event, dimension: 0 }
    }

    /// Makes a commit after which these kinds have these totals, or are gone, and checks everything.
    fn apply(&mut self, wanted: BTreeMap<i64, Option<Totals>>) -> Applied {
        self.commit += 1;
        let mut changes = Vec::new();
        for (kind, wanted) in wanted {
            let before = self.rows.get(&kind).copied();
            let (old, after) = (before.map(|(totals, _)| totals), wanted.unwrap_or_default());
            changes.push((self.group(kind), difference(after, old.unwrap_or_default())));
            let same = old.map(seen) == wanted.map(seen);
            let commit = before.filter(|_| same).map_or(self.commit, |(_, commit)| commit);
            self.rows.remove(&kind);
            self.rows.extend(wanted.map(|totals| (kind, (totals, commit))));
        }
        // They come in no order.
        changes.sort_by_key(|(group, _)| group.event);
        changes.retain(|(_, delta)| !delta.is_zero());
        if changes.is_empty() {
            // The operator leaves such tables alone.
            return Applied { removed: Vec::new(), added: Vec::new() };
        }
        let before = self.paths();
        let parts = self.table.apply(Commit(self.commit), changes).unwrap();
        self.check(parts, &before)
    }

    fn paths(&self) -> BTreeSet<String> {
        self.table.leaves.iter().map(|leaf| leaf.path.clone()).collect()
    }

    fn check(&mut self, parts: Vec<Finished>, before: &BTreeSet<String>) -> Applied {
        let mut parts = parts.into_iter();
        let Some(Finished::Leaves { table, removed, added, directory, changes }) = parts.next()
        else {
            panic!("the leaves come first")
        };
        assert_eq!((table, &directory), (self.table.index, &self.table.leaves));
        let after = self.paths();
        assert_eq!(removed.iter().cloned().collect::<BTreeSet<_>>(), before - &after);
        let new = added.iter().map(|file| file.path.clone());
        assert_eq!(new.collect::<BTreeSet<_>>(), &after - before);
        self.check_leaves(&added);
        let mut replayed = 0;
        for part in parts {
            let Finished::File { table, file } = part else { panic!("{part:?}") };
            assert_eq!(table, self.lake.tables.changes_of(self.table.index));
            replayed += self.replay(&file.path);
        }
        assert_eq!(replayed, changes);
        let expected = self.rows.iter().map(|(kind, (totals, _))| (*kind, seen(*totals)));
        assert_eq!(self.replayed, expected.collect());
        Applied { removed, added }
    }

    /// The leaves hold the rows, each in its range, and new ones are neither too large nor too small.
    fn check_leaves(&self, added: &[WrittenFile]) {
        let leaves = &self.table.leaves;
        let mut all = Vec::new();
        for (index, leaf) in leaves.iter().enumerate() {
            let rows = read(&leaf.path);
            assert_eq!((rows.len() as u64, leaf.lower.is_empty()), (leaf.rows, index == 0));
            let upper = leaves.get(index + 1).map(|next| &next.lower);
            for (kind, _, _) in &rows {
                let key = vec![Value::Long(*kind)];
                assert!(leaf.lower <= key && upper.is_none_or(|upper| key < *upper));
            }
            if added.iter().any(|file| file.path == leaf.path) {
                let least = if upper.is_some() { FULL / 4 } else { 1 };
                assert!((least..=FULL + FULL / 2).contains(&rows.len()), "{} rows", rows.len());
            }
            all.extend(rows.into_iter().map(|(kind, seen, commit)| (kind, (seen, commit))));
        }
        let expected = self.rows.iter();
        let expected = expected.map(|(kind, (totals, commit))| (*kind, (seen(*totals), *commit)));
        assert_eq!(all, expected.collect::<Vec<_>>());
    }

    /// Takes in a file of the changelog; gives its rows.
    fn replay(&mut self, path: &str) -> u64 {
        let mut rows = 0;
        for batch in read_data_file(path, None).unwrap() {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let diffs = column("_diff").as_primitive::<Int32Type>().values().iter();
            let commits = column("_commit").as_primitive::<Int64Type>().values();
            assert!(commits.iter().all(|commit| *commit == self.commit as i64));
            for ((kind, seen), diff) in rows_of(&batch).into_iter().zip(diffs) {
                let before = match *diff {
                    1 => self.replayed.insert(kind, seen).map(|_| "a row twice"),
                    -1 => (self.replayed.remove(&kind) != Some(seen)).then_some("another row"),
                    _ => Some("another difference"),
                };
                assert_eq!(before, None, "kind {kind}");
            }
            rows += batch.num_rows() as u64;
        }
        rows
    }
}

fn difference(after: Totals, before: Totals) -> Delta {
    let sums = after.2.iter().zip(before.2).map(|(after, before)| SumDelta {
        value: i128::from(after.0 - before.0),
        values: after.1 - before.1,
    });
    Delta { count: after.0 - before.0, users: after.1 - before.1, sums: sums.collect() }
}

fn rows_of(batch: &RecordBatch) -> Vec<(i64, Seen)> {
    let longs = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    let (kinds, counts, users) = (longs("kind"), longs("n"), longs("people"));
    let prices = batch.column_by_name("price").unwrap().as_primitive::<Decimal128Type>();
    let sums = longs("amount").iter().zip(prices.iter());
    let sums = sums.enumerate().map(|(row, (amount, price))| {
        (kinds.value(row), (counts.value(row), users.value(row), amount, price))
    });
    sums.collect()
}

/// Kind, what readers see, and the commit of each row of a leaf.
fn read(path: &str) -> Vec<(i64, Seen, u64)> {
    let mut rows = Vec::new();
    for batch in read_data_file(path, None).unwrap() {
        let commits = batch.column_by_name("_commit").unwrap().as_primitive::<Int64Type>();
        let commits = commits.values().iter();
        let read = rows_of(&batch).into_iter().zip(commits);
        rows.extend(read.map(|((kind, seen), commit)| (kind, seen, *commit as u64)));
    }
    rows
}

/// What a commit makes of a kind; half of all commits take kinds away.
fn totals() -> impl Strategy<Value = Option<Totals>> {
    let sum = |value: i64, values: i64, count: i64| {
        let values = values.min(count);
        (if values > 0 { value } else { 0 }, values)
    };
    let totals = (1..4_i64, 1..4_i64, (-2..3_i64, 0..4_i64), (-2..3_i64, 0..4_i64)).prop_map(
        move |(count, users, long, decimal)| {
            let sums = [sum(long.0, long.1, count), sum(decimal.0, decimal.1, count)];
            (count, users.min(count), sums)
        },
    );
    prop::option::of(totals)
}

fn commits() -> impl Strategy<Value = Vec<BTreeMap<i64, Option<Totals>>>> {
    let some = prop::collection::btree_map(0..40_i64, totals(), 0..20);
    let many = (0..30_i64, 1..20_i64, totals()).prop_map(|(from, count, totals)| {
        (from..from + count).map(|kind| (kind, totals)).collect::<BTreeMap<_, _>>()
    });
    prop::collection::vec(prop_oneof![some, many], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_commits_leave_the_rows_of_a_map_and_a_changelog_that_leads_there(commits in commits()) {
        let mut bench = Bench::new();
        for wanted in commits {
            bench.apply(wanted);
        }
    }
}

const ONE: Option<Totals> = Some((1, 1, [(5, 1), (0, 0)]));

/// A commit that gives these kinds the same totals.
fn all(kinds: std::ops::Range<i64>, totals: Option<Totals>) -> BTreeMap<i64, Option<Totals>> {
    kinds.map(|kind| (kind, totals)).collect()
}

fn sizes(bench: &Bench) -> Vec<u64> {
    bench.table.leaves.iter().map(|leaf| leaf.rows).collect()
}

#[test]
fn a_leaf_is_split_when_it_is_half_too_large() {
    for (rows, expected) in [
        (FULL, vec![8]),
        (FULL + FULL / 2, vec![12]),
        (FULL + FULL / 2 + 1, vec![7, 6]),
        (2 * FULL, vec![8, 8]),
        (2 * FULL + 1, vec![6, 6, 5]),
    ] {
        let mut bench = Bench::new();
        let applied = bench.apply(all(0..rows as i64, ONE));
        assert_eq!(sizes(&bench), expected, "{rows} rows");
        assert_eq!((applied.removed.len(), applied.added.len()), (0, expected.len()));
    }
}

#[test]
fn a_leaf_that_shrank_below_a_quarter_joins_the_next_and_no_other_is_touched() {
    let mut bench = Bench::new();
    bench.apply(all(0..24, ONE));
    assert_eq!(sizes(&bench), [8, 8, 8]);
    // One row less, and as few as a leaf may have.
    let applied = bench.apply(all(8..9, None));
    assert_eq!((applied.removed.len(), sizes(&bench)), (1, vec![8, 7, 8]));
    let applied = bench.apply(all(8..14, None));
    assert_eq!((applied.removed.len(), sizes(&bench)), (1, vec![8, 2, 8]));
    let applied = bench.apply(all(14..15, None));
    assert_eq!((applied.removed.len(), sizes(&bench)), (2, vec![8, 9]));
    // The last leaf has no next one.
    let applied = bench.apply(all(16..24, None));
    assert_eq!((applied.removed.len(), sizes(&bench)), (1, vec![8, 1]));
    bench.apply(all(0..24, None));
    assert!(sizes(&bench).is_empty());
}

#[test]
fn a_leaf_that_is_not_ours_is_refused_by_name() {
    let mut bench = Bench::new();
    bench.apply(all(0..3, ONE));
    let changes = bench.lake.tables.changes_of(bench.table.index);
    let group = bench.group(1);
    let delta = || difference((1, 1, Default::default()), Totals::default());
    let parts = bench.table.apply(Commit(2), vec![(group, delta())]).unwrap();
    let of_changes = parts.into_iter().find_map(|part| match part {
        Finished::File { table, file } if table == changes => Some(file.path),
        _ => None,
    });
    let path = of_changes.unwrap();
    bench.table.leaves = vec![Leaf { lower: Vec::new(), path: path.clone(), rows: 2 }];
    let refused = bench.table.apply(Commit(3), vec![(group, delta())]).unwrap_err();
    let CurrentError::Columns { table, path: found } = refused else { panic!("{refused}") };
    assert_eq!((table, found), ("small.kinds".to_owned(), path));
}
