//! Compares every table at every commit with the answers at that commit's cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::super::tables::{Cell, Cut, Row, Snapshot, Tables};
use super::answers::Answers;
use super::log::{Decoded, Record};
use super::spec::{DIMENSION_COLUMNS, EVENT_COLUMNS, Spec};

/// Fails with what is only in one of two collections.
fn assert_same<T: Ord + Debug>(what: &str, found: &BTreeSet<T>, expected: &BTreeSet<T>) {
    let only = |left: &BTreeSet<T>, right: &BTreeSet<T>| -> Vec<String> {
        left.difference(right).take(5).map(|item| format!("\n    {item:?}")).collect()
    };
    assert!(
        found == expected,
        "{what}: {} found, {} expected\n  found, not expected: {}\n  expected, not found: {}",
        found.len(),
        expected.len(),
        only(found, expected).concat(),
        only(expected, found).concat(),
    );
}

/// A set of the items, none of which may be there twice.
fn distinct<T: Ord + Debug + Clone>(what: &str, items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for item in items {
        assert!(set.insert(item.clone()), "{what}: {item:?} is there twice");
    }
    set
}

fn without(row: &Row, names: &[&str]) -> Row {
    let mut row = row.clone();
    for name in names {
        assert!(row.remove(*name).is_some(), "no column {name} in {row:?}");
    }
    row
}

fn position_of(row: &Row) -> (String, i32, i64) {
    let partition = row["_partition"].as_number() as i32;
    (row["_topic"].as_text().to_owned(), partition, row["_offset"].as_number())
}

/// A commit with what it contains.
#[derive(Debug)]
struct Commit<'r> {
    number: u64,
    before: Cut,
    cut: Cut,
    answers: Answers<'r>,
}

/// A job's tables and the records that they stand for.
#[derive(Debug)]
pub struct Check<'r> {
    spec: &'r Spec,
    records: &'r [Record],
    tables: Tables,
    commits: Vec<Commit<'r>>,
}

impl<'r> Check<'r> {
    /// Checks all tables at all commits; gives the number of the newest one.
    pub fn all(spec: &'r Spec, records: &'r [Record], tables: Tables) -> (u64, Cut) {
        let mut before = Cut::new();
        let mut commits = Vec::new();
        for (index, snapshot) in tables.snapshots("cuts").into_iter().enumerate() {
            assert_eq!(snapshot.commit, index as u64 + 1, "the table of cuts has every commit");
            let answers = Answers::at(spec, records, &snapshot.cut);
            let cut = snapshot.cut;
            commits.push(Commit { number: snapshot.commit, before, cut: cut.clone(), answers });
            before = cut;
        }
        let mut check = Check { spec, records, tables, commits };
        check.current_tables();
        check.dead_letters();
        check.versions();
        let admitted = if spec.events { check.events() } else { BTreeMap::new() };
        if spec.raw {
            check.raw();
        }
        check.cuts(&admitted);
        (check.commits.len() as u64, before)
    }

    /// The rows of a table at every commit: it has no snapshot of a commit that doesn't change it.
    fn at_commits(&mut self, table: &str) -> Vec<Vec<Row>> {
        let snapshots: Vec<Snapshot> = self.tables.snapshots(table);
        let mut at_commits = Vec::new();
        for commit in &self.commits {
            let newest = snapshots.iter().rfind(|snapshot| snapshot.commit <= commit.number);
            if let Some(snapshot) = newest.filter(|snapshot| snapshot.commit == commit.number) {
                assert_eq!(
                    snapshot.cut, commit.cut,
                    "{table}: the cut of commit {}",
                    commit.number
                );
            }
            at_commits.push(newest.map_or_else(Vec::new, |newest| self.tables.rows(newest)));
        }
        at_commits
    }

    fn current_tables(&mut self) {
        for table in self.spec.current_tables() {
            let current = self.at_commits(table);
            let changes = self.at_commits(&format!("{table}_changes"));
            for (index, commit) in self.commits.iter().enumerate() {
                let number = commit.number;
                let what = format!("{table} at commit {number}");
                let visible = |row: &Row| {
                    let row = row.iter().filter(|(name, _)| !is_hidden(name));
                    row.map(|(name, cell)| (name.clone(), cell.clone())).collect::<Row>()
                };
                let rows: Vec<Row> = current[index].iter().map(visible).collect();
                let values = distinct(&what, rows.iter().map(|row| without(row, &["_commit"])));
                assert_same(&what, &values, &commit.answers.current[table]);
                check_commit_column(
                    &what,
                    &rows,
                    number,
                    index.checked_sub(1).map(|i| &current[i][..]),
                );
                let summed = summed(&changes[index], number);
                assert_same(&format!("{what}: the sum of its changes"), &summed, &values);
            }
        }
    }

    /// Every event once, from a legal position, with its content and a stamp that was valid. Gives the number
    /// of admitted events by commit and partition.
    fn events(&mut self) -> BTreeMap<(u64, i32), i64> {
        let mut admitted: BTreeMap<(u64, i32), i64> = BTreeMap::new();
        let at_commits = self.at_commits("events");
        for (rows, commit) in at_commits.iter().zip(&self.commits) {
            let what = format!("events at commit {}", commit.number);
            let ids = distinct(&what, rows.iter().map(|row| row["event_id"].as_text()));
            let expected = commit.answers.copies.keys().copied().collect();
            assert_same(&what, &ids, &expected);
            for row in rows.iter().filter(|row| row["_commit"] == Cell::from(commit.number as i64))
            {
                self.check_event(row, commit);
                let partition = row["_partition"].as_number() as i32;
                *admitted.entry((commit.number, partition)).or_default() += 1;
            }
        }
        let all = at_commits.last().map_or(0, Vec::len) as i64;
        assert_eq!(admitted.values().sum::<i64>(), all, "rows stay what they were when admitted");
        admitted
    }

    fn check_event(&self, row: &Row, commit: &Commit<'_>) {
        let id = row["event_id"].as_text();
        let copies = &commit.answers.copies[id];
        let earlier = copies.iter().find(|(record, _)| record.is_below(&commit.before));
        assert!(earlier.is_none(), "event {id} was there before commit {}", commit.number);
        let (_, partition, offset) = position_of(row);
        let first = copies.iter().find(|(record, _)| record.partition == partition);
        let (record, event) = first.unwrap_or_else(|| panic!("{row:?} has no copy there"));
        assert_eq!(record.offset, offset, "event {id}: the first copy of a partition wins");
        assert_eq!(row["user_id"].as_text(), event.user, "event {id}");
        assert_eq!(row["event_time"].as_number(), event.time, "event {id}");
        for column in EVENT_COLUMNS {
            assert_eq!(row[column], event.columns[column], "event {id}: {column}");
        }
        let stamp = DIMENSION_COLUMNS.map(|column| row[column].clone());
        let valid = self.valid_stamps(&event.user, commit);
        assert!(valid.contains(&stamp), "event {id}: {stamp:?} is none of {valid:?}");
    }

    /// The dimension columns that a user had at any time during a commit.
    fn valid_stamps(&self, user: &str, commit: &Commit<'_>) -> Vec<[Cell; 2]> {
        let mut valid = vec![[Cell::Null, Cell::Null]];
        for record in self.records.iter().filter(|record| record.is_below(&commit.cut)) {
            let Ok(Decoded::Version(version)) = &record.decoded else { continue };
            if version.key == user {
                let columns = DIMENSION_COLUMNS.map(|column| version.columns[column].clone());
                if record.is_below(&commit.before) {
                    valid.clear();
                }
                valid.push(columns);
            }
        }
        valid
    }

    fn dead_letters(&mut self) {
        for (index, rows) in self.at_commits("dead_letters").iter().enumerate() {
            let what = format!("dead letters at commit {}", index + 1);
            let found = rows.iter().map(|row| {
                let value = row["value"].clone();
                (
                    position_of(row),
                    row["reason"].as_text().to_owned(),
                    value,
                    row["_commit"].clone(),
                )
            });
            let expected = self.below(index).filter_map(|(record, commit)| {
                let position = (record.topic.to_owned(), record.partition, record.offset);
                let reason = (*record.decoded.as_ref().err()?).to_owned();
                Some((position, reason, Cell::Bytes(record.bytes.clone()), commit))
            });
            assert_same(&what, &distinct(&what, found), &expected.collect());
        }
    }

    fn versions(&mut self) {
        for (index, rows) in self.at_commits("users_changes").iter().enumerate() {
            let what = format!("users_changes at commit {}", index + 1);
            let expected = self.below(index).filter_map(|(record, commit)| {
                let Ok(Decoded::Version(version)) = &record.decoded else { return None };
                let mut row = Row::new();
                row.insert("user".to_owned(), Cell::text(&version.key));
                row.insert("_deleted".to_owned(), i64::from(version.deleted).into());
                for column in DIMENSION_COLUMNS {
                    row.insert(column.to_owned(), version.columns[column].clone());
                }
                row.insert("_topic".to_owned(), Cell::text(record.topic));
                row.insert("_partition".to_owned(), i64::from(record.partition).into());
                row.insert("_offset".to_owned(), record.offset.into());
                row.insert("_commit".to_owned(), commit);
                Some(row)
            });
            assert_same(&what, &distinct(&what, rows.iter().cloned()), &expected.collect());
        }
    }

    fn raw(&mut self) {
        let at_commits = self.at_commits("raw");
        let index = at_commits.len() - 1;
        let found = at_commits[index]
            .iter()
            .map(|row| (position_of(row), row["value"].clone(), row["_commit"].clone()));
        let expected = self.below(index).map(|(record, commit)| {
            let position = (record.topic.to_owned(), record.partition, record.offset);
            (position, Cell::Bytes(record.bytes.clone()), commit)
        });
        assert_same("raw", &distinct("raw", found), &expected.collect());
    }

    /// The records below the cut of commit `index`, each with the commit that read it.
    fn below(&self, index: usize) -> impl Iterator<Item = (&'r Record, Cell)> {
        let records = self.records.iter();
        let commits = &self.commits[..=index];
        records.filter_map(|record| {
            let commit = commits.iter().find(|commit| record.is_below(&commit.cut))?;
            Some((record, Cell::from(commit.number as i64)))
        })
    }

    /// Every partition goes on where it stood, and its counts are those of its lines.
    fn cuts(&mut self, admitted: &BTreeMap<(u64, i32), i64>) {
        let rows = self.at_commits("cuts").pop().unwrap_or_default();
        let mut position = Cut::new();
        for commit in &self.commits {
            let number = Cell::from(commit.number as i64);
            for row in rows.iter().filter(|row| row["_commit"] == number) {
                let (topic, partition) =
                    (row["topic"].as_text(), row["partition"].as_number() as i32);
                let (start, end) = (row["start_offset"].as_number(), row["end_offset"].as_number());
                let stood =
                    position.entry(topic.to_owned()).or_default().entry(partition).or_default();
                assert_eq!(*stood, start, "{topic} {partition} at commit {}", commit.number);
                assert!(start < end, "{topic} {partition} at commit {} moved", commit.number);
                *stood = end;
                let here = |record: &&Record| {
                    let offset = record.offset;
                    record.topic == topic
                        && record.partition == partition
                        && start <= offset
                        && offset < end
                };
                let here: Vec<&Record> = self.records.iter().filter(here).collect();
                let letters = here.iter().filter(|record| record.decoded.is_err()).count() as i64;
                let what = format!("{topic} {partition} in commit {}", commit.number);
                assert_eq!(row["records"].as_number(), here.len() as i64, "records of {what}");
                assert_eq!(row["dead_letters"].as_number(), letters, "dead letters of {what}");
                if self.spec.events && topic == "events" {
                    let events = admitted.get(&(commit.number, partition)).unwrap_or(&0);
                    let duplicates = here.len() as i64 - letters - events;
                    assert_eq!(row["duplicates"].as_number(), duplicates, "duplicates of {what}");
                }
            }
            let moved = |cut: &Cut| -> Cut {
                let topics = cut.iter().map(|(topic, ends)| {
                    let ends = ends.iter().filter(|(_, end)| **end > 0);
                    (topic.clone(), ends.map(|(partition, end)| (*partition, *end)).collect())
                });
                topics.filter(|(_, ends): &(_, BTreeMap<i32, i64>)| !ends.is_empty()).collect()
            };
            assert_eq!(
                moved(&position),
                moved(&commit.cut),
                "the cuts up to commit {}",
                commit.number
            );
        }
    }
}

/// A column that only the program knows.
fn is_hidden(name: &str) -> bool {
    name.starts_with('_') && !["_commit", "_diff"].contains(&name)
}

/// `_commit` is the commit of the row's last change: not in the future, and kept by a row that did not
/// change.
fn check_commit_column(what: &str, rows: &[Row], number: u64, before: Option<&[Row]>) {
    let before: BTreeSet<&Row> = before.into_iter().flatten().collect();
    let is_new = |row: &&Row| row["_commit"] == Cell::from(number as i64);
    for row in rows.iter().filter(|row| !is_new(row)) {
        let same = |known: &&&Row| row.iter().all(|(name, cell)| known.get(name) == Some(cell));
        assert!(before.iter().any(|known| same(&known)), "{what}: {row:?} is not of this commit");
    }
}

/// The rows that changes add up to, each exactly once.
fn summed(changes: &[Row], commit: u64) -> BTreeSet<Row> {
    let mut sums: BTreeMap<Row, i64> = BTreeMap::new();
    for row in changes {
        assert!(row["_commit"] <= Cell::from(commit as i64), "{row:?} is of a later commit");
        *sums.entry(without(row, &["_diff", "_commit"])).or_default() += row["_diff"].as_number();
    }
    sums.retain(|_, sum| *sum != 0);
    for (row, sum) in &sums {
        assert_eq!(*sum, 1, "at commit {commit} the changes hold {row:?} {sum} times");
    }
    sums.into_keys().collect()
}
