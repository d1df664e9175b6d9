//! Names that must not meet: tables in the namespace, columns in a table.
//!
//! Names are compared without case, because many engines that read the tables do so.

use super::error::Mistake;
use super::file::{ColumnPart, JobFile};
use super::read::Text;
use super::{scalar, validate};

/// Tables that every job has or may have.
const OUR_TABLES: [&str; 4] = ["events", "dead_letters", "raw", "cuts"];
/// Columns of the events table before the job's own.
const OUR_EVENT_COLUMNS: [&str; 3] = ["event_id", "user_id", "event_time"];
/// Columns of a funnel's table behind the group columns.
const OUR_FUNNEL_COLUMNS: [&str; 3] = ["step", "step_name", "users"];
/// The column of a windowed aggregate before the group columns.
const OUR_WINDOW_COLUMN: &str = "window_start";

/// Reports the names that meet.
pub(super) fn check(file: &JobFile, mistakes: &mut Vec<Mistake>) {
    tables(file, mistakes);
    columns_of_sides(file, mistakes);
    for part in &file.aggregates {
        let ours: &[_] = if part.window.is_some() { &[OUR_WINDOW_COLUMN] } else { &[] };
        let measures = part.measures.iter().map(|(name, _)| name);
        let columns = part.group_by.iter().chain(measures);
        columns_of("this aggregate's table", ours, columns, mistakes);
    }
    for part in &file.funnels {
        columns_of("a funnel's table", &OUR_FUNNEL_COLUMNS, part.group_by.iter(), mistakes);
    }
}

/// The tables that one part of the job makes.
struct Owner<'f> {
    kind: &'static str,
    name: &'f Text,
    /// What stands behind the name, a table each.
    suffixes: &'static [&'static str],
}

impl Owner<'_> {
    fn tables(&self) -> impl Iterator<Item = String> {
        self.suffixes.iter().map(|suffix| format!("{}{suffix}", self.name.value))
    }
}

fn tables<'f>(file: &'f JobFile, mistakes: &mut Vec<Mistake>) {
    let current: &'static [&'static str] = &["", "_changes"];
    let dimension = file.dimension.iter().map(|part| ("dimension", &part.name, &current[1..]));
    let aggregates = file.aggregates.iter().map(|part| ("aggregate", &part.name, current));
    let funnels = file.funnels.iter().map(|part| ("funnel", &part.name, current));
    let named = dimension.chain(aggregates).chain(funnels);
    let owner = |(kind, name, suffixes): (_, &'f Option<Text>, _)| {
        name.as_ref().map(|name| Owner { kind, name, suffixes })
    };
    let mut owners: Vec<_> = named.filter_map(owner).collect();
    owners.sort_by_key(|owner| owner.name.span.start);
    for (index, owner) in owners.iter().enumerate() {
        let Owner { kind, name, .. } = owner;
        let mistake = |message: String| Mistake::new(message).at(name.span.clone());
        if let Some(ours) = owner.tables().find_map(|table| same_as(&table, &OUR_TABLES)) {
            let message = format!(
                "the {kind} `{}` takes the name of a table that every job has",
                name.written
            );
            let help = format!("rename it: `{ours}` is tidewater's own table");
            mistakes.push(mistake(message).help(help));
            continue;
        }
        let meets = |other: &&Owner<'_>| {
            owner.tables().any(|table| other.tables().any(|taken| same(&table, &taken)))
        };
        if let Some(other) = owners[..index].iter().find(meets) {
            let message = format!(
                "the {kind} `{}` and the {} `{}` would write one table",
                name.written, other.kind, other.name.written
            );
            let mistake = mistake(message).also(other.name.span.clone(), "taken here");
            mistakes.push(mistake.help(
                "rename one: aggregates and funnels write `NAME` and `NAME_changes`, \
                 a dimension `NAME_changes`",
            ));
        }
    }
}

/// The columns of both sides stand together in the events table, and a `group_by` takes either.
fn columns_of_sides(file: &JobFile, mistakes: &mut Vec<Mistake>) {
    let events = file.events.iter().flat_map(|part| &part.columns);
    let dimension = file.dimension.iter().flat_map(|part| &part.columns);
    let columns = events.chain(dimension).map(|part: &ColumnPart| &part.name);
    columns_of(
        "the events table, which has the columns of both sides",
        &OUR_EVENT_COLUMNS,
        columns,
        mistakes,
    );
    let Some(part) = &file.dimension else { return };
    let Some(key) = part.key.as_ref().and_then(|key| scalar::pointer(key).ok()) else { return };
    let key = validate::key_name(&key);
    for column in part.columns.iter().filter(|column| same(&column.name.value, &key)) {
        // The name of the key column comes from the value of `key`, which may be a reference.
        let message =
            format!("the dimension column `{}` has the name of the key", column.name.written);
        let mistake = Mistake::new(message).at(column.name.span.clone());
        let mistake = match &part.key {
            Some(key) => mistake.also(key.span.clone(), "its last part names the key column"),
            None => mistake,
        };
        mistakes
            .push(mistake.help("rename the column, or leave it out: the key is a column already"));
    }
}

/// Reports the columns of one table that have the name of one of ours or of another.
fn columns_of<'f>(
    table: &str,
    ours: &[&str],
    columns: impl Iterator<Item = &'f Text>,
    mistakes: &mut Vec<Mistake>,
) {
    let mut seen: Vec<&Text> = Vec::new();
    for column in columns {
        let mistake = |message: String| Mistake::new(message).at(column.span.clone());
        if same_as(&column.value, ours).is_some() {
            let message = format!("`{}` is a column of tidewater's own in {table}", column.written);
            mistakes.push(mistake(message).help("give the column another name"));
        } else if let Some(first) = seen.iter().find(|other| same(&other.value, &column.value)) {
            let message = format!("two columns `{}` in {table}", column.written);
            let mistake = mistake(message).also(first.span.clone(), "first here");
            mistakes.push(mistake.help("rename one; names are compared without case"));
        } else {
            seen.push(column);
        }
    }
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn same_as<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    names.iter().copied().find(|other| same(name, other))
}
