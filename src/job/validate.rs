//! Resolves a job file as typed into a [`Job`], or says everything that is wrong with it.

use std::path::{Path, PathBuf};

use super::definition::Deciding;
use super::error::{JobError, Mistake};
use super::file::{
    AggregatePart, ColumnPart, DimensionPart, EventsPart, FunnelPart, JobFile, SECTIONS, TimePart,
};
use super::read::{Reader, Section, Text};
use super::reference::Env;
use super::scalar::{self, MeasureText};
use super::scope::Scope;
use super::{
    AggregateSpec, Column, DimensionSpec, EventsSpec, FactLayout, FunnelSpec, Job, LakeSpec,
    LayoutError, Measure, MeasureKind, Pointer, TimeUnit, collisions, duration, file, locations,
};
use crate::model::ColumnType;
use crate::model::time::DAY_US;

/// The longest window.
const WINDOW_DAYS_MAX: i64 = 366;

/// The name of a dimension's key column where the last token of its pointer is no name.
const KEY_NAME: &str = "key";

/// Reads and checks the job file at `path`. Relative paths in it are relative to its folder.
pub fn load(path: &Path) -> Result<Job, JobError> {
    let file_name = path.display().to_string();
    let refuse = |why: String| {
        let mistake = Mistake::new(format!("the job file {file_name} can't be read: {why}"));
        JobError::new(&file_name, "", vec![mistake])
    };
    let bytes = std::fs::read(path).map_err(|error| refuse(not_read(path, &error)))?;
    let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8".into()))?;
    let absolute = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    parse(&text, &file_name, base, &|name| std::env::var(name).ok())
}

/// Why the file can't be read, and which one may have been meant.
fn not_read(path: &Path, error: &std::io::Error) -> String {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let files = folder.into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    let is_toml = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "toml");
    let near = files.map(|file| file.path()).filter(is_toml).min();
    match near {
        Some(near) => format!("{error}; did you mean {}?", near.display()),
        None => error.to_string(),
    }
}

/// Reads and checks the text of a job file; `base` is the folder that relative paths start from, `env` looks
/// up environment variables.
pub fn parse(text: &str, file_name: &str, base: &Path, env: Env<'_>) -> Result<Job, JobError> {
    let (root, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mistake = |error: &toml::de::Error| {
            let mistake = Mistake::new(format!("this is not TOML: {}", error.message()));
            mistake.at(error.span().unwrap_or_default())
        };
        return Err(JobError::new(file_name, text, errors.iter().map(mistake).collect()));
    }
    let mut reader = Reader { base, env, mistakes: Vec::new() };
    // What is missing from the file as a whole is shown at its end.
    let end = text.trim_end().len();
    let mut root = Section::new("the job file", end..end, root.get_ref());
    root.refuse_unknown(SECTIONS, &mut reader);
    let file = file::read(&root, &mut reader);
    let mut check = Check { base, mistakes: reader.mistakes };
    match check.job(&file) {
        Some(job) if check.mistakes.is_empty() => Ok(job),
        _ => Err(JobError::new(file_name, text, check.mistakes)),
    }
}

/// Checks a job file. Parts that are wrong are left out of what it returns, so that checking can go on.
struct Check<'a> {
    base: &'a Path,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn keep<T>(&mut self, result: Result<T, Mistake>) -> Option<T> {
        result.map_err(|mistake| self.mistakes.push(mistake)).ok()
    }

    fn name(&mut self, what: &str, text: Option<&Text>) -> Option<String> {
        self.keep(scalar::name(what, text?))
    }

    fn pointer(&mut self, text: Option<&Text>) -> Option<Pointer> {
        self.keep(scalar::pointer(text?))
    }

    fn duration(&mut self, text: Option<&Text>) -> Option<i64> {
        let text = text?;
        let parsed = duration::parse(&text.value, &text.written);
        self.keep(parsed.map_err(|mistake| mistake.at(text.span.clone())))
    }

    fn job(&mut self, file: &JobFile) -> Option<Job> {
        let name = self.name("the job", file.name.as_ref());
        let scope = Scope::new(file, &mut self.mistakes);
        collisions::check(file, &mut self.mistakes);
        locations::check_topics(file, self.base, &mut self.mistakes);
        let events = file.events.as_ref().and_then(|part| self.events(part, &scope));
        let dimension = file.dimension.as_ref().and_then(|part| self.dimension(part, &scope));
        let aggregates: Vec<_> =
            file.aggregates.iter().filter_map(|part| self.aggregate(part, &scope)).collect();
        let funnels: Vec<_> =
            file.funnels.iter().filter_map(|part| self.funnel(part, &scope)).collect();
        let horizon = file.horizon.as_ref().filter(|text| text.value != "unlimited");
        let dedup_horizon_us = self.duration(horizon);
        let lake = self.lake(file, name.as_deref().unwrap_or_default());
        if !self.mistakes.is_empty() {
            return None;
        }
        // Without a mistake nothing was left out.
        let (name, events, lake) = (name?, events?, lake?);
        self.layout(file, &events, &aggregates, &funnels)?;
        let deciding = Deciding {
            events: &events,
            dimension: dimension.as_ref(),
            aggregates: &aggregates,
            funnels: &funnels,
            horizon_us: dedup_horizon_us,
            lake: &lake,
        };
        let definition = deciding.definition();
        let job = Job {
            name,
            events,
            dimension,
            aggregates,
            funnels,
            dedup_horizon_us,
            lake,
            definition,
        };
        Some(job)
    }

    fn lake(&mut self, file: &JobFile, name: &str) -> Option<LakeSpec> {
        let part = file.lake.as_ref()?;
        let interval = self.duration(part.commit_interval.as_ref());
        let interval = interval.unwrap_or(locations::COMMIT_INTERVAL_US);
        locations::lake(part, name, interval, self.base, &mut self.mistakes)
    }

    fn events(&mut self, part: &EventsPart, scope: &Scope<'_>) -> Option<EventsSpec> {
        let source = part.source.as_ref();
        let source = source.and_then(|part| locations::source(part, self.base, &mut self.mistakes));
        let id = self.pointer(part.id.as_ref());
        let user = self.pointer(part.user.as_ref());
        let time = part.time.as_ref().and_then(|part| self.time(part));
        let columns = self.columns(&part.columns, &scope.event_kinds);
        let (time, time_unit) = time?;
        Some(EventsSpec {
            source: source?,
            id: id?,
            user: user?,
            time,
            time_unit,
            columns: columns?,
        })
    }

    fn time(&mut self, part: &TimePart) -> Option<(Pointer, TimeUnit)> {
        let path = self.pointer(part.path.as_ref());
        let unit = match part.unit.as_ref().map(|unit| &*unit.value) {
            None => TimeUnit::Rfc3339,
            Some("s") => TimeUnit::Seconds,
            Some("ms") => TimeUnit::Milliseconds,
            Some("us") => TimeUnit::Microseconds,
            Some(_) => {
                let unit = part.unit.as_ref()?;
                let message = format!("unknown unit of time `{}`", unit.written);
                let mistake = Mistake::new(message).at(unit.span.clone());
                let help = "the units are `s`, `ms` and `us`; RFC 3339 text has none";
                self.mistakes.push(mistake.help(help));
                return None;
            }
        };
        Some((path?, unit))
    }

    /// The columns of one side, with their types as far as these are known.
    fn columns(
        &mut self,
        parts: &[ColumnPart],
        kinds: &[Option<ColumnType>],
    ) -> Option<Vec<Column>> {
        let columns: Vec<_> =
            parts.iter().zip(kinds).map(|(part, kind)| self.column(part, *kind)).collect();
        columns.into_iter().collect()
    }

    fn column(&mut self, part: &ColumnPart, kind: Option<ColumnType>) -> Option<Column> {
        let name = self.name("a column", Some(&part.name));
        let pointer = self.pointer(part.path.as_ref());
        let default = match (kind, &part.default) {
            (Some(kind), Some((literal, span))) => {
                let default = scalar::default(kind, literal);
                Some(self.keep(default.map_err(|mistake| mistake.at(span.clone())))?)
            }
            _ => None,
        };
        Some(Column { name: name?, pointer: pointer?, kind: kind?, default })
    }

    fn dimension(&mut self, part: &DimensionPart, scope: &Scope<'_>) -> Option<DimensionSpec> {
        let name = self.name("a dimension", part.name.as_ref());
        let source = part.source.as_ref();
        let source = source.and_then(|part| locations::source(part, self.base, &mut self.mistakes));
        let key = self.pointer(part.key.as_ref());
        let deleted = self.pointer(part.deleted.as_ref());
        let columns = self.columns(&part.columns, &scope.dimension_kinds);
        let key = key?;
        let key_name = key_name(&key);
        Some(DimensionSpec {
            name: name?,
            source: source?,
            key,
            key_name,
            deleted,
            columns: columns?,
        })
    }

    fn aggregate(&mut self, part: &AggregatePart, scope: &Scope<'_>) -> Option<AggregateSpec> {
        let name = self.name("an aggregate", part.name.as_ref());
        let group_by = scope.group_by(&part.group_by, &mut self.mistakes);
        let window_us = self.duration(part.window.as_ref());
        let too_long = window_us.is_some_and(|us| us > WINDOW_DAYS_MAX * DAY_US);
        if let Some(text) = part.window.as_ref().filter(|_| too_long) {
            let message = format!("the window `{}` is too long", text.written);
            let help = format!(
                "a window has at most {WINDOW_DAYS_MAX} days; without `window` all is one total"
            );
            self.mistakes.push(Mistake::new(message).help(help).at(text.span.clone()));
        }
        let measures: Vec<_> = part
            .measures
            .iter()
            .map(|(name, text)| {
                let checked = self.name("a measure", Some(name));
                let kind = match self.keep(scalar::measure(text))? {
                    MeasureText::Count => MeasureKind::Count,
                    MeasureText::Distinct => MeasureKind::Distinct,
                    MeasureText::Sum(column) => {
                        MeasureKind::Sum(self.keep(scope.summed(&column, text))?)
                    }
                };
                Some(Measure { name: checked?, kind })
            })
            .collect();
        let measures = measures.into_iter().collect::<Option<Vec<_>>>()?;
        Some(AggregateSpec { name: name?, group_by: group_by?, window_us, measures })
    }

    fn funnel(&mut self, part: &FunnelPart, scope: &Scope<'_>) -> Option<FunnelSpec> {
        let name = self.name("a funnel", part.name.as_ref());
        let group_by = scope.group_by_dimension(&part.group_by, &mut self.mistakes);
        let column = part.column.as_ref().and_then(|text| self.keep(scope.step_column(text)));
        for (index, step) in part.steps.iter().enumerate() {
            let mistake = |message: String| Mistake::new(message).at(step.span.clone());
            if step.value.is_empty() {
                self.mistakes.push(mistake("a step is empty".into()));
            } else if let Some(first) =
                part.steps[..index].iter().find(|other| other.value == step.value)
            {
                let mistake = mistake(format!("the step `{}` stands twice", step.written));
                let mistake = mistake.also(first.span.clone(), "first here");
                self.mistakes.push(mistake.help("the steps of a funnel are distinct values"));
            }
        }
        let within_us = self.duration(part.within.as_ref());
        let steps = part.steps.iter().map(|step| step.value.clone()).collect();
        Some(FunnelSpec { name: name?, group_by: group_by?, column: column?, steps, within_us })
    }

    /// Facts must hold what the job needs.
    fn layout(
        &mut self,
        file: &JobFile,
        events: &EventsSpec,
        aggregates: &[AggregateSpec],
        funnels: &[FunnelSpec],
    ) -> Option<FactLayout> {
        let error = match FactLayout::new(events, aggregates, funnels) {
            Ok(layout) => return Some(layout),
            Err(error) => error,
        };
        let last_aggregate = file.aggregates.last().map(|part| part.span.clone());
        let last_funnel = file.funnels.last().map(|part| part.span.clone());
        let span = match &error {
            LayoutError::TooManySlots { .. } => last_aggregate.or(last_funnel),
            LayoutError::TooManyFunnels(_) => last_funnel,
            LayoutError::TooManySteps { funnel, .. } => {
                let named = funnels.iter().position(|spec| spec.name == *funnel);
                named.map(|index| file.funnels[index].span.clone())
            }
        };
        self.mistakes.push(Mistake::new(error.to_string()).at(span.unwrap_or_default()));
        None
    }
}

/// The name of the key column: the last token of the pointer, if that can be a name.
pub(super) fn key_name(key: &Pointer) -> String {
    let last = key.0.last().filter(|token| scalar::is_name(token));
    last.cloned().unwrap_or_else(|| KEY_NAME.into())
}

/// `path` as it is written, from the folder of the job file.
pub(super) fn resolve(base: &Path, path: &str) -> PathBuf {
    base.join(path).components().collect()
}
