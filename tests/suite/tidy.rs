//! The rules of the house: every file says what it is, stays readable, and imports only what its place
//! allows.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_CHARS_MAX: usize = 110;
const FUNCTION_LINES_MAX: usize = 70;

/// Stages: collections to collections. They know neither Kafka nor Iceberg nor the clock.
const STAGES: [&str; 11] = [
    "dedup",
    "ids",
    "enrich",
    "aggregate",
    "funnel",
    "hydrate",
    "users",
    "groups",
    "changes",
    "ingest",
    "frontier",
];
const NOT_IN_STAGES: [&str; 4] = ["rdkafka", "iceberg", "tokio", "std::time"];
/// The one module with `unsafe`, which has its safety argument.
const UNSAFE_ALLOWED: &str = "src/state/codec.rs";

/// A source file: its path from the root of the repository, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Its lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// The lines of code: not of comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The module of `src` that it belongs to.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or("");
        path.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }

    /// True if the code of the line mentions the path `wanted` as a whole.
    fn mentions(line: &str, wanted: &str) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        line.match_indices(wanted).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + wanted.len()..]);
            !before.ends_with(is_name) && !after.starts_with(is_name)
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| collect(&root().join(folder), &mut paths));
    paths.sort();
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().display().to_string(),
    };
    paths.into_iter().map(source).collect()
}

fn all() -> Vec<Source> {
    sources(&["src", "tests", "benches"])
}

fn assert_none(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn every_file_opens_with_its_documentation() {
    let silent = all().into_iter().filter(|source| !source.text.starts_with("//!"));
    let silent = silent.filter(|source| !source.text.starts_with("#![doc = include_str!"));
    assert_none("files that don't open with //!", silent.map(|source| source.path).collect());
}

#[test]
fn lines_fit() {
    let mut long = Vec::new();
    for source in all() {
        for (number, line) in
            source.lines().filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX)
        {
            long.push(format!("{}:{number}: {} characters", source.path, line.chars().count()));
        }
    }
    assert_none(&format!("lines of more than {LINE_CHARS_MAX} characters"), long);
}

/// A function is what stands between its first line and the brace that closes at the same indentation.
#[test]
fn functions_fit() {
    let mut long = Vec::new();
    for source in all() {
        let mut open: Option<(usize, usize)> = None;
        for (number, line) in source.lines() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let is_head = !words.starts_with("//")
                && words
                    .split(['(', '<'])
                    .next()
                    .is_some_and(|head| head.split(' ').any(|word| word == "fn"));
            if is_head && !line.trim_end().ends_with(';') && !line.trim_end().ends_with('}') {
                open.get_or_insert((number, indent));
            }
            let Some((start, of)) = open else { continue };
            if number > start && indent == of && (words.starts_with('}') || words.ends_with(';')) {
                let lines = number - start + 1;
                if lines > FUNCTION_LINES_MAX && words.starts_with('}') {
                    long.push(format!("{}:{start}: {lines} lines", source.path));
                }
                open = None;
            }
        }
    }
    assert_none(&format!("functions of more than {FUNCTION_LINES_MAX} lines"), long);
}

#[test]
fn the_model_knows_nobody() {
    let mut offences = Vec::new();
    for source in sources(&["src/model"]) {
        for (number, line) in source.code() {
            let elsewhere = line
                .match_indices("crate::")
                .any(|(at, _)| !line[at..].starts_with("crate::model"));
            if elsewhere
                || ["rdkafka", "iceberg", "tokio"].iter().any(|name| Source::mentions(line, name))
            {
                offences.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("model imports from elsewhere", offences);
}

#[test]
fn stages_know_neither_kafka_nor_iceberg_nor_the_clock() {
    let mut offences = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| STAGES.contains(&source.module())) {
        for (number, line) in source.code() {
            if let Some(name) = NOT_IN_STAGES.iter().find(|name| Source::mentions(line, name)) {
                offences.push(format!("{}:{number}: {name}", source.path));
            }
        }
    }
    assert_none("stages that import what they must not", offences);
}

#[test]
fn nobody_knows_the_command_line() {
    let mut offences = Vec::new();
    for source in sources(&["src"]) {
        let may = ["cli", "main", "lib"].contains(&source.module());
        for (number, line) in source.code().filter(|_| !may) {
            if Source::mentions(line, "crate::cli") {
                offences.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none("files that import the command line", offences);
}

#[test]
fn unsafe_code_stands_in_one_module() {
    let mut offences = Vec::new();
    for source in all().iter().filter(|source| source.path != UNSAFE_ALLOWED) {
        for (number, line) in source.code() {
            if line.contains("unsafe {")
                || line.contains("unsafe fn")
                || line.contains("unsafe impl")
            {
                let is_rule = source.path == "tests/suite/tidy.rs";
                offences.extend((!is_rule).then(|| format!("{}:{number}", source.path)));
            }
        }
    }
    assert_none("unsafe code outside of its module", offences);
}

#[test]
fn every_failpoint_stands_in_the_list() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        for (_, line) in source.code() {
            let names =
                line.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
    found.sort();
    let mut listed = tidewater::faults::POINTS.map(|(name, _)| name);
    listed.sort_unstable();
    assert_eq!(found, listed, "the failpoints in the sources, and those in src/faults.rs");
    let document = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    for (name, before) in tidewater::faults::POINTS {
        let row = format!("| `{name}` | {before} |");
        assert!(document.contains(&row), "docs/reliability.md lacks the row {row}");
    }
}

#[test]
fn nothing_is_left_open() {
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let mut offences = Vec::new();
    for source in all() {
        for (number, line) in source.code() {
            if macros.iter().any(|name| line.contains(name)) {
                offences.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("code left open", offences);
}

#[test]
fn every_dependency_says_why() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut in_dependencies = false;
    let mut silent = Vec::new();
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies
            && line.contains('=')
            && !line.starts_with('#')
            && !line.contains(" # ")
        {
            silent.push(format!("Cargo.toml:{number}: {line}"));
        }
    }
    assert_none("dependencies without a reason", silent);
}

#[test]
fn scripts_say_what_they_do() {
    let mut silent = Vec::new();
    for folder in ["scripts", ".ci"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let second = text.lines().nth(1).unwrap_or("");
            let says = second.starts_with("# ") || second.starts_with("\"\"\"");
            silent.extend((!text.starts_with("#!") || !says).then(|| path.display().to_string()));
        }
    }
    assert_none("scripts that don't open with what they do", silent);
}
