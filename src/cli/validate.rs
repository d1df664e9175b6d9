//! `tidewater validate JOB.toml`: checks a job file and says what it means.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::job::{self, FactLayout, Job, SourceSpec};
use crate::model::fact::SLOTS;
use crate::sink::TableSet;

/// Check a job file without running it, and say what it means.
///
/// Prints the topics that the job reads, the tables and columns that it maintains, how the slots of its
/// facts are used, and where catalog, warehouse and state are. What is wrong is shown with its line and
/// column, all of it at once (exit code 2). Reads no source and writes nothing.
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = ValidateOutput::Text)]
    pub output: ValidateOutput,
}

/// How to print what the job means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ValidateOutput {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Prints what the job means to `out`. A wrong job file is a [`job::JobError`] (exit code 2).
pub fn run(args: &ValidateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let job = job::load(&args.job)?;
    let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels)?;
    let (slots, tables) = (slots(&job, &layout), TableSet::new(&job)?);
    match args.output {
        ValidateOutput::Text => out.write_all(text(&job, &tables, &slots).as_bytes())?,
        ValidateOutput::Json => writeln!(out, "{}", object(&job, &tables, &slots))?,
    }
    Ok(())
}

/// What each used slot of a fact holds, in order; a decimal stands twice.
fn slots(job: &Job, layout: &FactLayout) -> Vec<String> {
    let column = |index: &usize| job.events.columns[*index].name.clone();
    let groups = layout.groups.iter();
    let mut slots: Vec<String> = groups
        .map(|group| format!("group {}", group.iter().map(column).collect::<Vec<_>>().join(", ")))
        .collect();
    for sum in &layout.sums {
        let name = format!("sum of {}", column(&sum.column));
        slots.extend(std::iter::repeat_n(name, if sum.wide { 2 } else { 1 }));
    }
    if layout.funnel_slot.is_some() {
        let names: Vec<_> = job.funnels.iter().map(|funnel| &*funnel.name).collect();
        slots.push(format!("steps of {}", names.join(", ")));
    }
    slots
}

/// The topics with what reads them and where they are. Brokers may come from a reference and are not shown.
fn topics(job: &Job) -> Vec<(&'static str, String, String)> {
    let place = |source: &SourceSpec| match source {
        SourceSpec::Directory(path) => format!("directory {}", path.display()),
        SourceSpec::Kafka(_) => "Kafka".into(),
        SourceSpec::Synthetic(_) => "made up in the process".into(),
    };
    let events = ("events", &job.events.source);
    let dimension = job.dimension.iter().map(|dimension| ("dimension", &dimension.source));
    std::iter::once(events)
        .chain(dimension)
        .map(|(role, source)| (role, source.topic(), place(source)))
        .collect()
}

fn text(job: &Job, tables: &TableSet, slots: &[String]) -> String {
    let mut lines = vec![format!("job {} is valid", job.name), String::new(), "topics".into()];
    for (role, topic, place) in topics(job) {
        lines.push(format!("  {topic}: {role}, from {place}"));
    }
    lines.push(String::new());
    lines.push(format!("tables in namespace {}", job.lake.namespace));
    for (_, table) in tables.iter() {
        lines.push(format!("  {}", table.spec.name));
        let columns =
            table.spec.columns.iter().map(|column| format!("{} {}", column.name, column.kind));
        lines.extend(wrapped(columns));
    }
    lines.push(String::new());
    lines.push(format!("slots of a fact: {} of {SLOTS} used", slots.len()));
    lines.extend(slots.iter().enumerate().map(|(slot, what)| format!("  {slot}: {what}")));
    lines.push(String::new());
    let lake = &job.lake;
    lines.push(format!("catalog    {} in {}", lake.catalog_name, lake.catalog.display()));
    lines.push(format!("warehouse  {}", lake.warehouse.display()));
    lines.push(format!("state      {}", lake.state.display()));
    lines.join("\n") + "\n"
}

/// Columns in lines of readable width.
fn wrapped(items: impl Iterator<Item = String>) -> Vec<String> {
    const WIDTH: usize = 90;
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.len() + item.len() + 2 <= WIDTH => {
                line.push_str(", ");
                line.push_str(&item);
            }
            last => {
                last.into_iter().for_each(|line| line.push(','));
                lines.push(format!("    {item}"));
            }
        }
    }
    lines
}

fn object(job: &Job, tables: &TableSet, slots: &[String]) -> Value {
    let topics = topics(job)
        .into_iter()
        .map(|(role, topic, place)| json!({ "role": role, "topic": topic, "source": place }));
    let tables = tables.iter().map(|(_, table)| {
        let columns = table.spec.columns.iter();
        let columns =
            columns.map(|column| json!({ "name": column.name, "type": column.kind.to_string() }));
        json!({ "name": table.spec.name, "columns": columns.collect::<Vec<_>>() })
    });
    json!({
        "job": job.name,
        "topics": topics.collect::<Vec<_>>(),
        "namespace": job.lake.namespace,
        "tables": tables.collect::<Vec<_>>(),
        "slots": slots,
        "catalog": job.lake.catalog.display().to_string(),
        "catalog_name": job.lake.catalog_name,
        "warehouse": job.lake.warehouse.display().to_string(),
        "state": job.lake.state.display().to_string(),
        "definition": job.definition,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = include_str!("../job/tests/subscriptions.toml");

    fn printed(text: &str, output: ValidateOutput) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        let job = folder.path().join("job.toml");
        std::fs::write(&job, text)?;
        let mut out = Vec::new();
        run(&ValidateArgs { job, output }, &mut out)?;
        Ok(String::from_utf8(out)?.replace(&*folder.path().to_string_lossy(), "FOLDER"))
    }

    #[test]
    fn a_good_job_is_summed_up() {
        insta::assert_snapshot!("summary", printed(JOB, ValidateOutput::Text).unwrap());
        let json: Value =
            serde_json::from_str(&printed(JOB, ValidateOutput::Json).unwrap()).unwrap();
        assert_eq!(json["job"], "subscriptions");
        assert_eq!(json["tables"][2]["name"], "regional");
        assert_eq!(json["tables"][2]["columns"][1], json!({ "name": "region", "type": "string" }));
        assert_eq!(json["slots"], json!(["group step", "sum of amount", "steps of signup_funnel"]));
    }

    #[test]
    fn a_wrong_job_is_a_job_error() {
        let error = printed("", ValidateOutput::Text).unwrap_err();
        assert!(error.downcast_ref::<job::JobError>().is_some());
    }
}
