//! Tests of [`super`]: what moves, what is refused, and what is known after a failure.

use rusqlite::Connection;

use super::*;

const JOB: &str = "subscriptions";

fn open(folder: &Path) -> Catalog {
    Catalog::open(&folder.join("a/catalog.db"), "tidewater", Duration::from_millis(50)).unwrap()
}

fn job(incarnation: u64, from_commit: u64, to_commit: u64) -> JobSwap {
    let body = format!("body of {to_commit}");
    JobSwap { job: JOB.into(), incarnation, from_commit, to_commit, body }
}

fn table(name: &str) -> NewTable {
    let metadata_location = format!("{name}-0");
    NewTable { namespace: "ns".into(), table: name.into(), metadata_location }
}

fn swap(name: &str, from: u64, to: u64) -> Swap {
    let at = |version: u64| format!("{name}-{version}");
    Swap { namespace: "ns".into(), table: name.into(), from: at(from), to: at(to) }
}

/// A catalog with tables a, b and c of a job in its first run.
fn with_tables(folder: &Path) -> Catalog {
    let mut catalog = open(folder);
    assert_eq!(catalog.begin_run(JOB, None).unwrap(), 1);
    catalog.create_tables(&[table("a"), table("b"), table("c")], &job(1, 0, 0)).unwrap();
    catalog
}

/// Takes over the job as it is.
fn begin(catalog: &mut Catalog) {
    let row = catalog.read_job(JOB).unwrap();
    catalog.begin_run(JOB, row.as_ref()).unwrap();
}

fn locations(catalog: &Catalog) -> Vec<String> {
    let names = catalog.list_tables("ns").unwrap();
    names.iter().map(|name| catalog.table_location("ns", name).unwrap().unwrap()).collect()
}

#[test]
fn a_commit_moves_all_tables_and_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = with_tables(folder.path());
    catalog.commit(&[swap("a", 0, 1), swap("c", 0, 1)], &job(1, 0, 1)).unwrap();
    catalog.commit(&[swap("a", 1, 2)], &job(1, 1, 2)).unwrap();
    let mut again = open(folder.path());
    assert_eq!(locations(&again), ["a-2", "b-0", "c-1"]);
    let row = again.read_job(JOB).unwrap().unwrap();
    assert_eq!((row.incarnation, row.commit, row.body.as_deref()), (1, 2, Some("body of 2")));
    assert_eq!(again.begin_run(JOB, Some(&row)).unwrap(), 2);
    assert_eq!(again.read_job(JOB).unwrap(), Some(JobRow { incarnation: 2, ..row }));
    assert_eq!(again.read_job("other").unwrap(), None);
    assert_eq!(again.table_location("ns", "zz").unwrap(), None);
}

#[test]
fn a_stale_pointer_moves_nothing_and_the_same_commit_can_follow() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = with_tables(folder.path());
    let swaps = [swap("a", 0, 1), swap("b", 0, 1), swap("c", 7, 8)];
    let error = catalog.commit(&swaps, &job(1, 0, 1)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CommitError::TableChanged { .. }), "{text}");
    assert!(text.contains("ns.c") && text.contains("c-7") && text.contains("c-0"), "{text}");
    assert_eq!(locations(&catalog), ["a-0", "b-0", "c-0"]);
    assert_eq!(catalog.read_job(JOB).unwrap().unwrap().commit, 0);
    catalog.commit(&[swap("a", 0, 1), swap("b", 0, 1)], &job(1, 0, 1)).unwrap();
    let dropped = catalog.commit(&[swap("zz", 0, 1)], &job(1, 1, 2)).unwrap_err().to_string();
    assert!(dropped.contains("no such table"), "{dropped}");
}

#[test]
fn an_instance_that_was_taken_over_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = with_tables(folder.path());
    let mut new = open(folder.path());
    begin(&mut new);
    let error = old.commit(&[swap("a", 0, 1)], &job(1, 0, 1)).unwrap_err();
    assert!(matches!(error, CommitError::Fenced { ours: 1, found: Some(2), .. }), "{error}");
    // Even where the new instance has moved the tables on, the fence is what is reported.
    new.commit(&[swap("a", 0, 1)], &job(2, 0, 1)).unwrap();
    let error = old.commit(&[swap("a", 0, 9)], &job(1, 0, 1)).unwrap_err();
    assert!(matches!(error, CommitError::Fenced { .. }), "{error}");
    let error = new.commit(&[swap("a", 1, 2)], &job(2, 5, 6)).unwrap_err();
    assert!(matches!(error, CommitError::CommitMoved { expected: 5, found: 1, .. }), "{error}");
    let gone = JobSwap { job: "gone".into(), ..job(1, 0, 1) };
    let error = new.commit(&[], &gone).unwrap_err();
    assert!(matches!(error, CommitError::Fenced { found: None, .. }), "{error}");
    assert_eq!(locations(&new), ["a-1", "b-0", "c-0"]);
}

#[test]
fn a_run_begins_only_if_the_job_is_as_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = with_tables(folder.path());
    let mut new = open(folder.path());
    let row = new.read_job(JOB).unwrap();
    old.commit(&[swap("a", 0, 1)], &job(1, 0, 1)).unwrap();
    for known in [row.as_ref(), None] {
        let error = new.begin_run(JOB, known).unwrap_err();
        assert!(matches!(error, CommitError::Overtaken { .. }), "{error}");
    }
    old.commit(&[swap("a", 1, 2)], &job(1, 1, 2)).expect("it is not fenced off");
    begin(&mut new);
    let row = old.read_job(JOB).unwrap();
    begin(&mut old);
    let error = new.begin_run(JOB, row.as_ref()).unwrap_err();
    assert!(error.to_string().contains("another run of job subscriptions began"), "{error}");
}

#[test]
fn tables_that_exist_are_not_created_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = with_tables(folder.path());
    let error = catalog.create_tables(&[table("d"), table("b")], &job(1, 0, 0)).unwrap_err();
    assert!(error.to_string().contains("ns.b exist already"), "{error}");
    assert_eq!(catalog.list_tables("ns").unwrap(), ["a", "b", "c"]);
    // Another catalog name in the same file is another catalog.
    let path = catalog.path().to_owned();
    let mut other = Catalog::open(&path, "other", Duration::ZERO).unwrap();
    assert!(other.list_tables("ns").unwrap().is_empty());
    other.create_tables(&[table("b")], &job(1, 0, 0)).unwrap();
}

#[test]
fn a_commit_whose_outcome_was_lost_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = with_tables(folder.path());
    let lost = || {
        rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some("the line went dead".into()),
        )
    };
    catalog.commit(&[swap("a", 0, 1)], &job(1, 0, 1)).unwrap();
    catalog.resolve(&job(1, 0, 1), lost()).expect("it was applied");
    let error = catalog.resolve(&job(1, 1, 2), lost()).unwrap_err();
    assert!(matches!(error, CommitError::NotSent(_)), "{error}");
    // Commit and body must both be ours.
    let other_body = JobSwap { body: "body of another".into(), ..job(1, 0, 1) };
    let other_commit = JobSwap { to_commit: 2, ..job(1, 0, 1) };
    for other in [other_body, other_commit] {
        let error = catalog.resolve(&other, lost()).unwrap_err();
        assert!(matches!(error, CommitError::NotSent(_)), "{error}");
    }
    begin(&mut open(folder.path()));
    let error = catalog.resolve(&job(1, 1, 2), lost()).unwrap_err();
    assert!(matches!(error, CommitError::Unknown { commit: 2, .. }), "{error}");
    assert!(error.to_string().contains("the line went dead"), "{error}");
}

#[test]
fn a_commit_that_fails_at_its_end_is_known_not_to_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = with_tables(folder.path());
    // A deferred foreign key fails COMMIT itself, and leaves the transaction open.
    let trap = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
      CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
      CREATE TRIGGER trap AFTER UPDATE ON iceberg_tables BEGIN INSERT INTO child VALUES (1); END;";
    catalog.database.connection.execute_batch(trap).unwrap();
    let error = catalog.commit(&[swap("a", 0, 1)], &job(1, 0, 1)).unwrap_err();
    assert!(matches!(error, CommitError::NotSent(_)), "{error}");
    assert_eq!(locations(&catalog), ["a-0", "b-0", "c-0"]);
    // The new connection does not enforce foreign keys: the same commit goes through.
    catalog.database.connection.execute_batch("DROP TRIGGER trap").unwrap();
    catalog.commit(&[swap("a", 0, 1)], &job(1, 0, 1)).unwrap();
}

#[test]
fn failures_are_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = with_tables(folder.path());
    let path = catalog.path().to_owned();
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = catalog.commit(&[swap("a", 0, 1)], &job(1, 0, 1)).unwrap_err().to_string();
    assert!(locked.contains("catalog.db") && locked.contains("let it finish"), "{locked}");
    holder.execute_batch("ROLLBACK").unwrap();

    catalog.database.connection.pragma_update(None, "max_page_count", 1).unwrap();
    let large = JobSwap { body: "x".repeat(1 << 20), ..job(1, 0, 1) };
    let full = catalog.commit(&[swap("a", 0, 1)], &large).unwrap_err().to_string();
    assert!(full.contains("free space"), "{full}");
    assert_eq!(locations(&catalog), ["a-0", "b-0", "c-0"]);

    let other = folder.path().join("text");
    std::fs::write(
        &other,
        "not a database, but long enough to look like a file of some kind\n".repeat(20),
    )
    .unwrap();
    let wrong = Catalog::open(&other, "tidewater", Duration::ZERO).unwrap_err().to_string();
    assert!(wrong.contains("another kind"), "{wrong}");
    let below = Catalog::open(&other.join("x.db"), "tidewater", Duration::ZERO).unwrap_err();
    assert!(below.to_string().contains("owner"), "{below}");
}
