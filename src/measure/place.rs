//! The folder of an experiment: a base that stays as it is, and the copy that a trial works on.
//!
//! ```text
//!  DIR/base     events, users, job.toml and the lake after the first run
//!  DIR/work     the copy; tables name their files by its path, so the base was made there too
//! ```

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::child::{Cost, Program};
use super::experiment::Change;
use crate::generate::history::History;
use crate::generate::random::mix;
use crate::generate::render;

/// Files with these endings are never changed once they are written: the copy shares them.
const IMMUTABLE: [&str; 2] = ["parquet", "slab"];
/// The job, and the same job over empty tables.
const JOBS: [&str; 2] = ["job.toml", "anew.toml"];

/// What the base is made of.
#[derive(Debug, Clone)]
pub struct World {
    /// Event records.
    pub events: u64,
    /// Users.
    pub users: u64,
    /// Event time, in words of the generator.
    pub duration: String,
    /// Decides all that is left to chance.
    pub seed: u64,
}

/// The folder of an experiment.
#[derive(Debug)]
pub struct Place<'a> {
    dir: PathBuf,
    program: &'a Program,
    workers: Option<u16>,
}

impl<'a> Place<'a> {
    /// A place in `dir`, which is made if it is not there.
    pub fn new(dir: &Path, program: &'a Program, workers: Option<u16>) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        Ok(Place { dir, program, workers })
    }

    fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Makes the base: a world, and a first run over it.
    pub fn make(&self, world: &World) -> anyhow::Result<Cost> {
        self.clear()?;
        let work = self.work();
        let numbers = [world.events, world.users, world.seed].map(|number| number.to_string());
        let [events, users, seed] = numbers.each_ref().map(String::as_str);
        let words = ["--events", events, "--users", users, "--seed", seed, "--job"];
        let words = words.into_iter().chain(["--duration", &world.duration, "--conflicts", "0"]);
        self.generate(words)?;
        let text = fs::read_to_string(work.join(JOBS[0])).context("the generator left no job")?;
        let anew = text.replace("sqlite:lake/", "sqlite:anew/").replace("\"lake/", "\"anew/");
        fs::write(work.join(JOBS[1]), anew).context("cannot write the second job file")?;
        let cost = self.run()?;
        fs::rename(&work, self.base()).context("cannot put the base aside")?;
        Ok(cost)
    }

    /// Begins a trial: the copy is as the base.
    pub fn restore(&self) -> anyhow::Result<()> {
        remove(&self.work())?;
        let (base, work) = (self.base(), self.work());
        copy(&base, &work).with_context(|| format!("cannot copy {}", base.display()))
    }

    /// Applies a change to the input of the copy.
    pub fn apply(&self, change: Change, size: u64, seed: u64) -> anyhow::Result<()> {
        let (events, moves) = match change {
            Change::Moves => (0, size),
            Change::Late | Change::New => (size, 0),
        };
        let ends = ends(&self.work().join("events"))?;
        let numbers = [events, moves, seed].map(|number| number.to_string());
        let [events, moves, text] = numbers.each_ref().map(String::as_str);
        let words = ["--append", "--events", events, "--moves", moves, "--seed", text];
        let faults = ["duplicates", "conflicts", "malformed", "late", "out-of-order"];
        let faults = faults.map(|fault| format!("--{fault}"));
        let faults = faults.iter().flat_map(|fault| [fault.as_str(), "0"]);
        self.generate(words.into_iter().chain(faults))?;
        if change == Change::Late {
            let round = History::read(&self.work())?.rounds.swap_remove(0);
            for (file, end) in ends {
                let dated = date_back(&file, end, round.start_ms, round.duration_ms, seed);
                dated.with_context(|| format!("cannot change {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Runs the job of the copy.
    pub fn run(&self) -> anyhow::Result<Cost> {
        self.program.run(&self.work().join(JOBS[0]), self.workers)
    }

    /// Runs it over the whole input, with neither tables nor state.
    pub fn recompute(&self) -> anyhow::Result<Cost> {
        self.program.run(&self.work().join(JOBS[1]), self.workers)
    }

    /// The first of `tables` that does not hold the same rows after both runs.
    pub fn difference<'t>(&self, tables: &[&'t str]) -> anyhow::Result<Option<&'t str>> {
        for table in tables {
            let [one, other] = JOBS.map(|job| -> anyhow::Result<Vec<Option<String>>> {
                let job = self.work().join(job);
                let words = ["show".as_ref(), job.as_os_str(), table.as_ref()];
                let words = [&words[..], &["--output".as_ref(), "csv".as_ref()]].concat();
                let text = String::from_utf8(self.program.call(&words)?)?;
                // The last column is `_commit`.
                let row = |line: &str| line.rsplit_once(',').map(|(row, _)| row.to_owned());
                let mut rows: Vec<_> = text.lines().map(row).collect();
                rows.sort_unstable();
                Ok(rows)
            });
            if one? != other? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Removes the base and the copy.
    pub fn clear(&self) -> anyhow::Result<()> {
        remove(&self.work())?;
        remove(&self.base())
    }

    fn generate<'w>(&self, words: impl Iterator<Item = &'w str>) -> anyhow::Result<()> {
        let work = self.work();
        let mut all: Vec<&OsStr> = vec!["generate".as_ref(), "--out".as_ref(), work.as_os_str()];
        for word in words {
            all.push(word.as_ref());
        }
        self.program.call(&all).map(drop)
    }
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        let shared =
            entry.extension().is_some_and(|end| IMMUTABLE.iter().any(|known| end == *known));
        if entry.is_dir() {
            copy(&entry, &target)?;
        } else if shared {
            fs::hard_link(&entry, &target)?;
        } else {
            fs::copy(&entry, &target)?;
        }
    }
    Ok(())
}

/// The files of a topic, and their lengths.
fn ends(topic: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let end = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.path(), entry.metadata()?.len()))
    };
    let files: io::Result<Vec<_>> = fs::read_dir(topic).and_then(|files| files.map(end).collect());
    files.with_context(|| format!("cannot list {}", topic.display()))
}

/// Gives the events behind byte `end` of a file times within the span of the history.
fn date_back(path: &Path, end: u64, start_ms: i64, span_ms: i64, seed: u64) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(end))?;
    let mut lines = Vec::new();
    file.read_to_end(&mut lines)?;
    let events = lines.split_mut(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (at, line) in (0..).zip(events) {
        let place = mix(mix(seed ^ end) ^ at) % span_ms.max(1) as u64;
        render::time(start_ms + place as i64, &mut line[render::TIME_RANGE]);
    }
    file.seek(SeekFrom::Start(end))?;
    file.write_all(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_dated_back_into_the_history_and_nothing_else_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jsonl");
        let event = |ts: &str| {
            let id = "00000000-0000-4000-8000-000000000000";
            format!(
                "{{\"event_id\":\"{id}\",\"user_id\":\"u00000001\",\"ts\":\"{ts}\",\"type\":\"payment\"}}\n"
            )
        };
        let old = event("2026-01-01T10:00:00.000Z");
        let new = event("2026-02-01T00:00:00.000Z");
        fs::write(&path, format!("{old}{new}{new}")).unwrap();
        let start_ms = 1_767_225_600_000; // 2026-01-01
        date_back(&path, old.len() as u64, start_ms, 3_600_000, 7).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (kept, dated) = text.split_at(old.len());
        assert_eq!(kept, old);
        let times: Vec<&str> = dated.lines().map(|line| &line[render::TIME_RANGE]).collect();
        assert!(times.iter().all(|time| time.starts_with("2026-01-01T00:")), "{times:?}");
        assert_ne!(times[0], times[1]);
        for (line, time) in dated.lines().zip(times) {
            assert_eq!(format!("{line}\n"), event(time));
        }
    }

    #[test]
    fn a_copy_shares_what_never_changes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("data")).unwrap();
        for name in ["data/a.parquet", "data/b.slab", "catalog.db"] {
            fs::write(base.join(name), name).unwrap();
        }
        let work = dir.path().join("work");
        copy(&base, &work).unwrap();
        fs::write(work.join("catalog.db"), "changed").unwrap();
        fs::remove_file(work.join("data/b.slab")).unwrap();
        assert_eq!(fs::read_to_string(base.join("catalog.db")).unwrap(), "catalog.db");
        assert_eq!(fs::read_to_string(base.join("data/b.slab")).unwrap(), "data/b.slab");
        assert_eq!(fs::read_to_string(work.join("data/a.parquet")).unwrap(), "data/a.parquet");
    }
}
