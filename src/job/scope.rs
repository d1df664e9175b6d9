//! The columns that aggregates and funnels may name, and the looking up of these names.

use super::error::Mistake;
use super::file::{ColumnPart, JobFile};
use super::read::Text;
use super::{GroupColumn, Side, scalar};
use crate::model::ColumnType;

/// The columns of both sides.
pub(super) struct Scope<'f> {
    /// The types of the event columns; `None` where the file's type is wrong.
    pub(super) event_kinds: Vec<Option<ColumnType>>,
    /// The types of the dimension columns.
    pub(super) dimension_kinds: Vec<Option<ColumnType>>,
    events: &'f [ColumnPart],
    dimension: &'f [ColumnPart],
    has_dimension: bool,
}

impl<'f> Scope<'f> {
    /// The columns of `file`; their types are checked here, once.
    pub(super) fn new(file: &'f JobFile, mistakes: &mut Vec<Mistake>) -> Scope<'f> {
        let events = file.events.as_ref().map_or(&[][..], |part| &part.columns);
        let dimension = file.dimension.as_ref().map_or(&[][..], |part| &part.columns);
        let mut kinds = |parts: &[ColumnPart]| -> Vec<Option<ColumnType>> {
            let kind = |part: &ColumnPart| match &part.kind {
                None => Some(ColumnType::String),
                Some(text) => scalar::column_type(text).map_err(|wrong| mistakes.push(wrong)).ok(),
            };
            parts.iter().map(kind).collect()
        };
        Scope {
            event_kinds: kinds(events),
            dimension_kinds: kinds(dimension),
            events,
            dimension,
            has_dimension: file.dimension.is_some(),
        }
    }

    fn find(&self, name: &str) -> Option<Side> {
        let place = |parts: &[ColumnPart]| parts.iter().position(|part| part.name.value == name);
        place(self.events).map(Side::Event).or_else(|| place(self.dimension).map(Side::Dimension))
    }

    fn kind(&self, side: Side) -> Option<ColumnType> {
        match side {
            Side::Event(index) => self.event_kinds[index],
            Side::Dimension(index) => self.dimension_kinds[index],
        }
    }

    fn declared(&self, side: Side) -> &Text {
        match side {
            Side::Event(index) => &self.events[index].name,
            Side::Dimension(index) => &self.dimension[index].name,
        }
    }

    fn names(parts: &[ColumnPart]) -> Vec<&str> {
        parts.iter().map(|part| &*part.name.value).collect()
    }

    fn unknown(&self, text: &Text) -> Mistake {
        let mistake = Mistake::new(format!("unknown column `{}`", text.written));
        let mistake = mistake.at(text.span.clone());
        let known = [Self::names(self.events), Self::names(self.dimension)].concat();
        match super::error::nearest(&text.written, &known) {
            None if !self.has_dimension => mistake.help(
                "it is none of `[events.columns]`, and the job has no `[dimension]` whose column it could be",
            ),
            _ => mistake.suggest("columns", &text.written, &known),
        }
    }

    /// Group columns of an aggregate: of either side.
    pub(super) fn group_by(
        &self,
        names: &[Text],
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Vec<GroupColumn>> {
        let resolve = |text: &Text| self.find(&text.value).ok_or_else(|| self.unknown(text));
        self.resolve_all(names, resolve, mistakes)
    }

    /// Group columns of a funnel: of the dimension.
    pub(super) fn group_by_dimension(
        &self,
        names: &[Text],
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Vec<GroupColumn>> {
        let resolve = |text: &Text| match self.find(&text.value) {
            Some(side @ Side::Event(_)) => {
                let message =
                    format!("a funnel can't be grouped by the event column `{}`", text.written);
                let mistake = Mistake::new(message).at(text.span.clone());
                Err(mistake.also(self.declared(side).span.clone(), "an event column").help(
                    "a user's path has many events: group by dimension columns, which the user has once",
                ))
            }
            Some(side) => Ok(side),
            None if !self.has_dimension => Err(self.unknown(text)),
            None => {
                let mistake = Mistake::new(format!("unknown dimension column `{}`", text.written));
                let known = Self::names(self.dimension);
                Err(mistake.at(text.span.clone()).suggest(
                    "dimension columns",
                    &text.written,
                    &known,
                ))
            }
        };
        self.resolve_all(names, resolve, mistakes)
    }

    fn resolve_all(
        &self,
        names: &[Text],
        resolve: impl Fn(&Text) -> Result<Side, Mistake>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Vec<GroupColumn>> {
        let column = |text: &Text| {
            let side = resolve(text).map_err(|mistake| mistakes.push(mistake)).ok()?;
            Some(GroupColumn { name: text.value.clone(), side, kind: self.kind(side)? })
        };
        let columns: Vec<_> = names.iter().map(column).collect();
        columns.into_iter().collect()
    }

    /// The event column that `sum(name)` adds up.
    pub(super) fn summed(&self, name: &str, measure: &Text) -> Result<usize, Mistake> {
        let wrong = |message: String| Mistake::new(message).at(measure.span.clone());
        let help = "sums are over columns of the events of type `long` or `decimal(p,s)`";
        let index = match self.find(name) {
            Some(Side::Event(index)) => index,
            Some(side) => {
                let mistake = wrong(format!("`{}` sums a dimension column", measure.written));
                return Err(mistake
                    .also(self.declared(side).span.clone(), "declared here")
                    .help(help));
            }
            None => {
                let known = Self::names(self.events);
                let mistake = wrong(format!("`{}` sums an unknown column", measure.written));
                return Err(mistake.suggest("event columns", name, &known));
            }
        };
        match self.event_kinds[index] {
            Some(kind @ (ColumnType::String | ColumnType::Boolean | ColumnType::Timestamp)) => {
                let mistake = wrong(format!("`{}` sums a {kind}", measure.written));
                let declared = self.declared(Side::Event(index)).span.clone();
                Err(mistake.also(declared, format!("a {kind}")).help(help))
            }
            _ => Ok(index),
        }
    }

    /// The event column that holds the steps of a funnel.
    pub(super) fn step_column(&self, text: &Text) -> Result<usize, Mistake> {
        let wrong = |message: String| Mistake::new(message).at(text.span.clone());
        let help = "steps are values of a string column of the events";
        match self.find(&text.value) {
            Some(Side::Event(index)) => match self.event_kinds[index] {
                Some(ColumnType::String) | None => Ok(index),
                Some(kind) => {
                    let declared = self.declared(Side::Event(index)).span.clone();
                    let mistake = wrong(format!("the column of a funnel can't be a {kind}"));
                    Err(mistake.also(declared, format!("a {kind}")).help(help))
                }
            },
            Some(side) => {
                let declared = self.declared(side).span.clone();
                let mistake = wrong("the column of a funnel can't be a dimension column".into());
                Err(mistake.also(declared, "a dimension column").help(help))
            }
            None => {
                let known = Self::names(self.events);
                let mistake = wrong(format!("unknown event column `{}`", text.written));
                Err(mistake.suggest("event columns", &text.written, &known))
            }
        }
    }
}
