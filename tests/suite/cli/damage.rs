//! Damaged state, full disks and locked databases: a clear error, never a wrong answer, and the next run
//! carries on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::super::fixture::{Fixture, assert_says, files_of, output_of};
use super::super::small;
use super::super::tables::{Row, Tables};
use super::newest_commit;

/// The rows of all current tables, without the commit of their last change.
fn answers(fixture: &Fixture) -> Vec<BTreeSet<Row>> {
    let mut tables = Tables::open(&fixture.catalog(), "small");
    let rows = ["regional", "path"].map(|table| {
        let rows = tables.current(table).into_iter().map(|mut row| {
            row.remove("_commit");
            row
        });
        rows.collect()
    });
    rows.into()
}

fn slabs(fixture: &Fixture) -> Vec<PathBuf> {
    let files = files_of(&fixture.path(small::STATE));
    files.into_iter().filter(|file| file.extension().is_some_and(|is| is == "slab")).collect()
}

/// Touches every user and every id.
fn touch_all(fixture: &Fixture) {
    for number in 0..40 {
        fixture.append("events", (number % 2) as i32, small::event(number));
        fixture.append("events", (number % 2) as i32, small::event(number + 1000));
    }
    for number in 0..10 {
        fixture.append("users", 0, small::user(number, "west"));
    }
}

/// What a job gives that was never disturbed.
fn undisturbed() -> (Fixture, Vec<BTreeSet<Row>>) {
    let fixture = small::fixture();
    fixture.report(&["--workers=1"]);
    touch_all(&fixture);
    fixture.report(&["--workers=1"]);
    let answers = answers(&fixture);
    (fixture, answers)
}

#[test]
fn a_slab_that_is_cut_short_or_missing_is_refused_by_name() {
    let (_, expected) = undisturbed();
    let fixture = small::fixture();
    fixture.report(&["--workers=1"]);
    let commit = newest_commit(&fixture);
    touch_all(&fixture);
    let slabs = slabs(&fixture);
    assert!(slabs.len() >= 4, "ids, dimension, rows and steps: {slabs:?}");
    for slab in slabs {
        let name = slab.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&slab).unwrap();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&slab, &bytes[..length]).unwrap();
            let stderr = fixture.refused(3, &[]);
            assert_says(&stderr, &[name, "damaged", "restore", "tidewater recover"]);
        }
        fs::remove_file(&slab).unwrap();
        let stderr = fixture.refused(3, &[]);
        assert_says(&stderr, &[name, "missing", "restore", "tidewater recover"]);
        fs::write(&slab, &bytes).unwrap();
        assert_eq!(newest_commit(&fixture), commit, "{name}");
    }
    fixture.report(&[]);
    assert_eq!(answers(&fixture), expected, "with the slabs restored the run goes on");
}

#[test]
fn a_slab_with_a_flipped_bit_is_refused_by_name_or_does_not_matter() {
    let (_, expected) = undisturbed();
    let fixture = small::fixture();
    fixture.report(&["--workers=1"]);
    touch_all(&fixture);
    let whole = fixture.path("copy");
    let copy = |from: &str, to: &str| {
        let mut command = Command::new("cp");
        command.arg("-a").arg(fixture.path(from)).arg(fixture.path(to));
        assert!(output_of(command).status.success());
    };
    copy("lake", "copy");
    let (mut refused, mut unread) = (0, 0);
    for slab in slabs(&fixture) {
        let name = slab.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&slab).unwrap();
        for place in (0..16).map(|part| part * (bytes.len() - 1) / 15) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            fs::write(&slab, flipped).unwrap();
            let output = fixture.run(&[]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            if output.status.code() == Some(3) {
                assert_says(&stderr, &[&name, "damaged", "restore"]);
                refused += 1;
                fs::write(&slab, &bytes).unwrap();
                continue;
            }
            assert_eq!(output.status.code(), Some(0), "{name} flipped at {place}: {stderr}");
            assert_eq!(answers(&fixture), expected, "{name} flipped at {place}");
            unread += 1;
            fs::remove_dir_all(fixture.path("lake")).unwrap();
            copy("copy", "lake");
        }
    }
    assert!(whole.exists() && refused > 10 * unread, "{refused} refused, {unread} not read");
}

#[test]
fn a_damaged_symbol_file_is_refused_by_name() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let files = files_of(&fixture.path(small::STATE));
    let symbols =
        files.into_iter().find(|file| file.extension().is_some_and(|is| is == "sym")).unwrap();
    let name = symbols.file_name().unwrap().to_str().unwrap();
    let bytes = fs::read(&symbols).unwrap();
    for place in (0..8).map(|part| part * (bytes.len() - 1) / 7) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 4;
        fs::write(&symbols, flipped).unwrap();
        assert_says(&fixture.refused(3, &[]), &[name]);
    }
    fs::remove_file(&symbols).unwrap();
    assert_says(&fixture.refused(3, &[]), &[name, "missing", "restore", "tidewater recover"]);
}

#[test]
fn a_disk_that_is_full_ends_the_run_and_the_next_one_carries_on() {
    let (_, expected) = undisturbed();
    let fixture = small::fixture();
    fixture.report(&["--workers=1"]);
    touch_all(&fixture);
    let mut failed = 0;
    for kib in [0, 1, 2, 4, 8, 16, 32, 64] {
        let commit = newest_commit(&fixture);
        // A file may not grow beyond the limit: writes fail as they do on a full disk.
        let mut command = Command::new("bash");
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
        command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_tidewater"), "run"]);
        command.arg(fixture.path("job.toml"));
        let output = output_of(command);
        match output.status.code() {
            Some(0) => break,
            code => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                assert_eq!(code, Some(1), "{stderr}");
                assert_says(&stderr, &["error: "]);
                assert_eq!(newest_commit(&fixture), commit);
                failed += 1;
            }
        }
    }
    assert!(failed >= 3, "the limits were never met");
    fixture.report(&[]);
    assert_eq!(answers(&fixture), expected);
}

/// A run that may do what the modes of files allow, even if it is root's.
fn obedient(fixture: &Fixture) -> Command {
    let run = fixture.command(&[]);
    if !rustix::process::getuid().is_root() {
        return run;
    }
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-dac_override").arg(run.get_program()).args(run.get_args());
    command
}

#[test]
fn a_folder_that_may_not_be_written_to_ends_the_run_and_the_next_one_carries_on() {
    let fixture = small::fixture();
    fixture.report(&[]);
    let cuts = "lake/warehouse/small/cuts";
    let (data, metadata) = (format!("{cuts}/data"), format!("{cuts}/metadata"));
    for (number, folder) in ["lake", small::STATE, &data, &metadata].into_iter().enumerate() {
        fixture.append("events", 0, small::event(100 + number));
        let (commit, path) = (newest_commit(&fixture), fixture.path(folder));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
        let output = output_of(obedient(&fixture));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{folder}: {stderr}");
        assert_says(&stderr, &["error: ", folder, "check the "]);
        assert_eq!(stderr.matches("ermission denied").count(), usize::from(number > 0), "{stderr}");
        assert_eq!(newest_commit(&fixture), commit);
    }
    assert_eq!(fixture.report(&[])["events"], 4);
}

#[test]
fn a_locked_database_is_an_error_and_the_next_run_carries_on() {
    let fixture = small::fixture();
    fixture.report(&[]);
    fixture.append("events", 0, small::event(100));
    let catalog = rusqlite::Connection::open(fixture.catalog()).unwrap();
    catalog.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stderr = fixture.refused(1, &[]);
    assert_says(&stderr, &["catalog.db", "locked"]);
    catalog.execute_batch("ROLLBACK").unwrap();
    assert_eq!(fixture.report(&[])["events"], 1);
}
