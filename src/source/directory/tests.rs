//! Folders of lines as they grow, shrink and vanish.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::mark::Marks;
use super::super::{Offsets, OpenOptions, Poll, RawBatch, Source, SourceError};
use super::{DirectorySource, Unfinished};

fn options() -> OpenOptions {
    OpenOptions {
        saved: Offsets::new(),
        follow: false,
        accept_loss: false,
        connect_timeout: Duration::from_secs(1),
        share: crate::source::Share::ALL,
        headers: false,
    }
}

fn saved(offsets: impl Into<Offsets>) -> OpenOptions {
    OpenOptions { saved: offsets.into(), ..options() }
}

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, std::path::PathBuf) {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("events");
    fs::create_dir(&path).expect("a folder");
    for (name, text) in files {
        fs::write(path.join(name), text).expect("a file");
    }
    (parent, path)
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

fn open(path: &Path, options: &OpenOptions) -> DirectorySource {
    DirectorySource::open(path, options).expect("opens")
}

/// Partition, offset and value of a record.
type Line = (i32, i64, String);

fn lines(batch: &RawBatch) -> Vec<Line> {
    let line = |span| String::from_utf8_lossy(batch.get(span).expect("a value")).into_owned();
    batch.records.iter().map(|r| (batch.partition, r.offset, line(r.value))).collect()
}

/// Reads to the end of a bounded source.
fn read(source: &mut DirectorySource) -> Result<(Vec<Line>, Offsets), SourceError> {
    let mut all = Vec::new();
    let mut next = source.start();
    loop {
        match source.poll(Duration::ZERO)? {
            Poll::Batch(batch) => {
                all.extend(lines(&batch));
                assert!(next.insert(batch.partition, batch.next) < Some(batch.next));
            }
            Poll::End => return Ok((all, next)),
            other => panic!("{other:?}"),
        }
    }
}

fn loss(path: &Path, options: &OpenOptions) -> String {
    match DirectorySource::open(path, options) {
        Err(SourceError::Loss(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_are_records_at_their_byte_positions() {
    let (_parent, path) =
        folder(&[("0.jsonl", "{}\n\n[1]\r\n"), ("12.jsonl", "x\n"), ("3.jsonl", "")]);
    let mut source = open(&path, &options());
    assert_eq!(&*source.topic(), "events");
    assert_eq!(source.start(), Offsets::from([(0, 0), (3, 0), (12, 0)]));
    assert_eq!(source.ends(), Offsets::from([(0, 9), (3, 0), (12, 2)]));
    let (all, next) = read(&mut source).expect("reads");
    let expected = [(0, 0, "{}"), (0, 3, ""), (0, 4, "[1]\r"), (12, 0, "x")];
    assert_eq!(all, expected.map(|(p, o, v)| (p, o, v.to_owned())));
    assert_eq!(next, source.ends());
    assert!(matches!(source.poll(Duration::ZERO), Ok(Poll::End)));
}

#[test]
fn other_names_are_not_partitions() {
    let names = ["00.jsonl", "-1.jsonl", "1.json", "a.jsonl", "+1.jsonl", "4294967296.jsonl", "7"];
    let files: Vec<_> = names.iter().map(|name| (*name, "x\n")).collect();
    let (_parent, path) = folder(&files);
    assert_eq!(open(&path, &options()).start(), Offsets::new());
}

#[test]
fn a_last_line_without_newline_is_left_and_read_once_it_is_whole() {
    let (_parent, path) = folder(&[("0.jsonl", "a\nbc"), ("1.jsonl", "never ended")]);
    let mut source = open(&path, &options());
    let unfinished = [
        Unfinished { partition: 0, offset: 2, bytes: 2 },
        Unfinished { partition: 1, offset: 0, bytes: 11 },
    ];
    assert_eq!(source.unfinished(), unfinished);
    append(&path.join("0.jsonl"), "d\ne\n");
    let (all, next) = read(&mut source).expect("reads");
    assert_eq!(all, [(0, 0, "a".to_owned())], "the end is the one that stood at the start");
    assert_eq!(next, Offsets::from([(0, 2), (1, 0)]));
    let (all, _) = read(&mut open(&path, &saved(next))).expect("reads");
    assert_eq!(all, [(0, 2, "bcd".to_owned()), (0, 6, "e".to_owned())]);
}

#[test]
fn chunks_end_between_lines_and_long_lines_are_read_whole() {
    let short = "s".repeat(1_000);
    let long = "l".repeat(5 << 20);
    let mut text = String::new();
    let mut expected = Vec::new();
    for line in std::iter::repeat_n(&short, 3_000).chain([&long, &short, &long]) {
        expected.push((0, text.len() as i64, line.clone()));
        text.push_str(line);
        text.push('\n');
    }
    let (_parent, path) = folder(&[("0.jsonl", &text)]);
    let (all, next) = read(&mut open(&path, &options())).expect("reads");
    assert!(all == expected, "every line, once, in order");
    assert_eq!(next, Offsets::from([(0, text.len() as i64)]));
}

#[test]
fn a_line_beyond_the_bound_is_named() {
    let (_parent, path) = folder(&[("0.jsonl", "a\n")]);
    let file = fs::OpenOptions::new().append(true).open(path.join("0.jsonl")).expect("a file");
    file.set_len(70 << 20).expect("a sparse file");
    for follow in [false, true] {
        let opened = DirectorySource::open(&path, &OpenOptions { follow, ..options() });
        let error = opened.and_then(|mut source| {
            source.poll(Duration::ZERO)?;
            source.poll(Duration::ZERO)
        });
        let Err(SourceError::Failed(text)) = error else { panic!("{error:?}") };
        assert!(text.contains("0.jsonl") && text.contains("64 MiB"), "{text}");
    }
}

#[test]
fn saved_positions_that_do_not_fit_are_a_loss() {
    let (_parent, path) = folder(&[("0.jsonl", "abc\ndef\ngh")]);
    let text = loss(&path, &saved([(0, 100)]));
    for word in ["topic events", "partition 0", "100", "offset 10", "--accept-loss", "0.jsonl"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(loss(&path, &saved([(0, 5)])).contains("no line starting there"));
    let text = loss(&path, &saved([(0, 4), (7, 30)]));
    assert!(text.contains("partition 7") && text.contains("30"), "{text}");
    assert_eq!(open(&path, &saved([(0, 8)])).start(), Offsets::from([(0, 8)]));
}

#[test]
fn an_accepted_loss_goes_on_at_a_line() {
    let (_parent, path) = folder(&[("0.jsonl", "abc\ndef\ngh")]);
    for (offset, goes_on) in [(100, 8), (5, 8), (9, 8), (10, 8), (4, 4)] {
        let options = OpenOptions { accept_loss: true, ..saved([(0, offset), (7, 30)]) };
        assert_eq!(open(&path, &options).start(), Offsets::from([(0, goes_on)]), "{offset}");
    }
}

#[test]
fn following_sees_growth_and_new_files() {
    let (_parent, path) = folder(&[("1.jsonl", "a\nb")]);
    let mut source = open(&path, &OpenOptions { follow: true, ..options() });
    let mut expect = |expected: Option<(i32, i64, &str)>| {
        let wait =
            if expected.is_some() { Duration::from_secs(5) } else { Duration::from_millis(50) };
        match (source.poll(wait).expect("polls"), expected) {
            (Poll::Batch(batch), Some((partition, offset, value))) => {
                assert_eq!(lines(&batch), [(partition, offset, value.to_owned())]);
            }
            (Poll::Idle, None) => {}
            (poll, expected) => panic!("{poll:?} instead of {expected:?}"),
        }
    };
    expect(Some((1, 0, "a")));
    expect(None);
    append(&path.join("1.jsonl"), "c");
    expect(None);
    append(&path.join("1.jsonl"), "\n");
    expect(Some((1, 2, "bc")));
    fs::write(path.join("0.jsonl"), "new\n").expect("a file");
    expect(Some((0, 0, "new")));
    let asked = Instant::now();
    append(&path.join("0.jsonl"), "soon\n");
    expect(Some((0, 4, "soon")));
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(source.ends(), Offsets::from([(0, 9), (1, 5)]));
}

#[test]
fn following_notices_files_that_shrink_go_or_are_replaced() {
    for change in ["cut short", "gone", "replaced"] {
        let (_parent, path) = folder(&[("0.jsonl", "abc\ndef\n")]);
        let file = path.join("0.jsonl");
        let mut source = open(&path, &OpenOptions { follow: true, ..options() });
        assert!(matches!(source.poll(Duration::ZERO), Ok(Poll::Batch(_))));
        match change {
            "cut short" => fs::write(&file, "abc\n").expect("written"),
            "gone" => fs::remove_file(&file).expect("removed"),
            _ => {
                fs::write(path.join("other"), "abc\ndef\n").expect("written");
                fs::rename(path.join("other"), &file).expect("renamed");
            }
        }
        let error = source.poll(Duration::from_secs(5));
        let Err(SourceError::Loss(text)) = error else { panic!("{error:?}") };
        assert!(text.contains(change) && text.contains("partition 0"), "{text}");
    }
}

#[test]
fn a_folder_that_is_missing_is_refused_by_name() {
    let (_parent, path) = folder(&[]);
    match DirectorySource::open(&path.join("nowhere"), &options()) {
        Err(SourceError::Refused(text)) => assert!(text.contains("nowhere"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_was_written_anew_is_known_by_its_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("0.jsonl");
    fs::write(&file, "{\"a\":1}\n{\"a\":2}\n").unwrap();
    let mut source = DirectorySource::open(folder.path(), &options()).unwrap();
    let Poll::Batch(batch) = source.poll(Duration::ZERO).unwrap() else { panic!("no batch") };
    let marks = Marks::from([(0, batch.mark().unwrap())]);
    let saved = Offsets::from([(0, batch.next)]);
    let open = |accept_loss| {
        let options = OpenOptions { saved: saved.clone(), accept_loss, ..options() };
        DirectorySource::open(folder.path(), &options).unwrap()
    };
    let mut same = marks.clone();
    assert!(!open(false).verify(&mut same).unwrap());
    assert_eq!(same, marks);
    // As long as before, and lines begin at the same places.
    fs::write(&file, "{\"a\":1}\n{\"a\":3}\n").unwrap();
    let refused = open(false).verify(&mut marks.clone()).unwrap_err().to_string();
    for word in ["partition 0", "offset 8", "0.jsonl", "--accept-loss"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    let mut dropped = marks.clone();
    assert!(open(true).verify(&mut dropped).unwrap() && dropped.is_empty());
}
