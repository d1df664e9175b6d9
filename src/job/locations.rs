//! Where records come from and where tables go: sources, topics, Kafka options, the lake.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Mistake;
use super::file::{JobFile, LakePart, SourcePart};
use super::kafka_options::refused_option;
use super::read::Text;
use super::validate::resolve;
use super::{KafkaSpec, LakeSpec, SourceSpec, scalar};

/// How often a commit closes unless the job says otherwise.
pub(super) const COMMIT_INTERVAL_US: i64 = 10_000_000;

/// Name of the catalog unless the job says otherwise.
const CATALOG_NAME: &str = "tidewater";

/// Longest name of a Kafka topic.
const TOPIC_LENGTH_MAX: usize = 249;

/// Resolves a source.
pub(super) fn source(
    part: &SourcePart,
    base: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<SourceSpec> {
    match part {
        SourcePart::Directory(text) => {
            let path = resolve(base, &text.value);
            if text.value.is_empty() || path.file_name().is_none() {
                let message = format!("the directory `{}` has no name", text.written);
                let help = "the last part of the path names the topic in tables and cuts";
                mistakes.push(Mistake::new(message).help(help).at(text.span.clone()));
                return None;
            }
            Some(SourceSpec::Directory(path))
        }
        SourcePart::Synthetic(spec, _) => Some(SourceSpec::Synthetic(spec.clone())),
        SourcePart::Kafka { brokers, topic, options } => {
            if let Some(empty) = brokers.as_ref().filter(|brokers| brokers.value.trim().is_empty())
            {
                let mistake = Mistake::new("`brokers` is empty").help("write `host:9092,…`");
                mistakes.push(mistake.at(empty.span.clone()));
            }
            if let Some(wrong) = topic.as_ref().filter(|topic| !is_topic(&topic.value)) {
                let message = format!("`{}` can't be the name of a Kafka topic", wrong.written);
                let help = "Kafka allows letters, digits, `.`, `_` and `-`, at most 249 of them";
                mistakes.push(Mistake::new(message).help(help).at(wrong.span.clone()));
            }
            for (index, (key, _)) in options.iter().enumerate() {
                if let Some((first, _)) =
                    options[..index].iter().find(|(other, _)| other.value == key.value)
                {
                    let message = format!("the Kafka option `{}` stands twice", key.written);
                    let mistake = Mistake::new(message).at(key.span.clone());
                    mistakes.push(mistake.also(first.span.clone(), "first here"));
                }
                if let Some(why) = refused_option(&key.value) {
                    let message =
                        format!("the Kafka option `{}` can't be set in a job", key.written);
                    mistakes.push(Mistake::new(message).help(why).at(key.span.clone()));
                }
            }
            let options =
                options.iter().map(|(key, value)| (key.value.clone(), value.value.clone()));
            Some(SourceSpec::Kafka(KafkaSpec {
                brokers: brokers.as_ref()?.value.clone(),
                topic: topic.as_ref()?.value.clone(),
                options: options.collect(),
            }))
        }
    }
}

fn is_topic(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    let length = 1..=TOPIC_LENGTH_MAX;
    length.contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

/// Cuts and rows know a topic by its name alone: two topics of a job must differ in it.
pub(super) fn check_topics(file: &JobFile, base: &Path, mistakes: &mut Vec<Mistake>) {
    let events = file.events.as_ref().and_then(|part| part.source.as_ref());
    let dimension = file.dimension.as_ref().and_then(|part| part.source.as_ref());
    let Some((events, dimension)) = events.zip(dimension) else { return };
    let Some((text, first)) = topic_span(dimension).zip(topic_span(events)) else { return };
    let mut ignored = Vec::new();
    let specs = source(events, base, &mut ignored).zip(source(dimension, base, &mut ignored));
    let Some((events, dimension)) = specs else { return };
    let (message, help) = match (&events, &dimension) {
        (SourceSpec::Directory(one), SourceSpec::Directory(other)) if same_folder(one, other) => (
            "the events and the dimension are read from the same folder",
            "give each topic a folder of its own",
        ),
        _ if events.topic() == dimension.topic() => (
            "the events and the dimension have topics of the same name",
            "cuts and tables know a topic by its name: rename the folder or topic of one",
        ),
        _ => return,
    };
    mistakes.push(Mistake::new(message).help(help).at(text).also(first, "the events"));
}

/// Where the topic is named.
fn topic_span(part: &SourcePart) -> Option<Range<usize>> {
    match part {
        SourcePart::Directory(text) => Some(text.span.clone()),
        SourcePart::Kafka { topic, .. } => topic.as_ref().map(|topic| topic.span.clone()),
        SourcePart::Synthetic(_, span) => Some(span.clone()),
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

/// Resolves `[lake]` for the job `name`.
pub(super) fn lake(
    part: &LakePart,
    name: &str,
    commit_interval_us: i64,
    base: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<LakeSpec> {
    let mut keep =
        |result: Result<PathBuf, Mistake>| result.map_err(|mistake| mistakes.push(mistake)).ok();
    let catalog = part.catalog.as_ref().and_then(|text| keep(catalog(text, base)));
    let warehouse = part.warehouse.as_ref().and_then(|text| keep(folder(text, base)));
    let state = part.state.as_ref().map(|text| keep(folder(text, base)));
    let namespace = match &part.namespace {
        Some(text) => {
            scalar::name("a namespace", text).map_err(|mistake| mistakes.push(mistake)).ok()
        }
        None => Some(name.to_owned()),
    };
    if let Some(empty) = part.catalog_name.as_ref().filter(|text| text.value.is_empty()) {
        mistakes.push(Mistake::new("`catalog_name` is empty").at(empty.span.clone()));
    }
    let catalog_name = part.catalog_name.as_ref().map_or(CATALOG_NAME, |text| &text.value);
    let warehouse = warehouse?;
    let state = match state {
        Some(state) => state?,
        None => warehouse.join("_state").join(name),
    };
    Some(LakeSpec {
        catalog: catalog?,
        catalog_name: catalog_name.to_owned(),
        warehouse,
        state,
        namespace: namespace?,
        commit_interval: Duration::from_micros(commit_interval_us.unsigned_abs()),
        events: part.events,
        raw: part.raw,
        // Both were read within ranges far below the limits of their types.
        leaf_rows: part.leaf_rows as usize,
        zstd_level: part.zstd_level as i32,
        keep_snapshots: part.keep_snapshots as usize,
    })
}

fn catalog(text: &Text, base: &Path) -> Result<PathBuf, Mistake> {
    let wrong = |message: String| Mistake::new(message).at(text.span.clone());
    let written = &text.written;
    let help = "write `sqlite:` and the path of a file, as in `sqlite:lake/catalog.db`";
    match text.value.split_once(':') {
        Some(("sqlite", path)) if path.starts_with("//") => {
            Err(wrong(format!("`{written}` is ambiguous: a path follows `sqlite:` without `//`"))
                .help(help))
        }
        Some(("sqlite", "")) => Err(wrong(format!("`{written}` names no file")).help(help)),
        Some(("sqlite", path)) => Ok(resolve(base, path)),
        Some(("postgres" | "postgresql", _)) => {
            Err(wrong("a PostgreSQL catalog is not supported yet".into()).help(help))
        }
        Some(("http" | "https", _)) => {
            Err(wrong("a REST catalog is not supported yet".into()).help(help))
        }
        _ => Err(wrong(format!("`{written}` is not a catalog")).help(help)),
    }
}

fn folder(text: &Text, base: &Path) -> Result<PathBuf, Mistake> {
    let wrong = |message: String| Mistake::new(message).at(text.span.clone());
    let help = "write a folder, as in `lake/warehouse` or `file:///srv/lake/warehouse`";
    let written = &text.written;
    if text.value.is_empty() {
        return Err(wrong("the folder is empty".into()).help(help));
    }
    if let Some(path) = text.value.strip_prefix("file:") {
        return match path.strip_prefix("//").filter(|path| path.starts_with('/')) {
            Some(path) => Ok(resolve(base, path)),
            None => {
                Err(wrong(format!("`{written}` has no absolute path behind `file://`")).help(help))
            }
        };
    }
    match text.value.split_once("://") {
        Some(("s3" | "s3a" | "s3n", _)) => {
            Err(wrong("a lake on S3 is not supported yet".into()).help(help))
        }
        Some(_) => Err(wrong(format!("`{written}` is not supported")).help(help)),
        None => Ok(resolve(base, &text.value)),
    }
}
