//! Where a job's group symbols, sums and funnel steps stand in a fact.

use thiserror::Error;

use super::{AggregateSpec, EventsSpec, FunnelSpec, MeasureKind, Side};
use crate::model::ColumnType;
use crate::model::fact::SLOTS;

/// Funnels of a job: one byte of one slot each.
const FUNNELS_MAX: usize = 8;
/// Steps of a funnel: they are numbered from 1 in that byte.
const STEPS_MAX: usize = 255;

/// What the slots of a fact hold, for a whole job. The same group or sum is stored once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FactLayout {
    /// Slot `i` holds the symbol of these event columns (indices into `EventsSpec::columns`).
    pub groups: Vec<Vec<usize>>,
    /// The columns that are summed, and their slots.
    pub sums: Vec<SumSlot>,
    /// The slot whose byte `i` is the step (from 1, 0 for none) of the event in funnel `i`.
    pub funnel_slot: Option<usize>,
    /// Where each aggregate finds its part.
    pub aggregates: Vec<AggregateLayout>,
    /// Where each funnel finds its part.
    pub funnels: Vec<FunnelLayout>,
}

/// A summed column in a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumSlot {
    /// Index into `EventsSpec::columns`.
    pub column: usize,
    /// The slot of the value (of its low half for a decimal, the high half follows).
    pub slot: usize,
    /// A decimal takes two slots.
    pub wide: bool,
}

/// Where an aggregate finds its part of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateLayout {
    /// The slot of the symbol of its event-side group columns; `None` if it has none.
    pub group_slot: Option<usize>,
    /// The sums of its measures, in their order (other measures need none).
    pub sums: Vec<SumSlot>,
}

/// Where a funnel finds its part of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunnelLayout {
    /// The byte of the funnel slot.
    pub byte: usize,
}

/// A job whose facts would be too large.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// More groups, sums and funnels than a fact holds.
    #[error(
        "the aggregates need {needed} slots of an event and {SLOTS} exist: each distinct set of \
         event-side group columns takes one, each summed long one, \
         each summed decimal two, all funnels together one; \
         split the aggregates over two jobs"
    )]
    TooManySlots {
        /// Slots that the job would need.
        needed: usize,
    },
    /// More funnels than a slot has bytes.
    #[error("{0} funnels, and a job holds at most {FUNNELS_MAX}; split them over two jobs")]
    TooManyFunnels(usize),
    /// More steps than a byte can number.
    #[error("funnel {funnel} has {steps} steps, and at most {STEPS_MAX} can be numbered")]
    TooManySteps {
        /// Name of the funnel.
        funnel: String,
        /// Its steps.
        steps: usize,
    },
}

impl FactLayout {
    /// Lays out the facts of a job.
    pub fn new(
        events: &EventsSpec,
        aggregates: &[AggregateSpec],
        funnels: &[FunnelSpec],
    ) -> Result<FactLayout, LayoutError> {
        let mut layout = FactLayout::default();
        let group_slots: Vec<_> = aggregates.iter().map(|spec| layout.group_slot(spec)).collect();
        let mut next = layout.groups.len();
        for (spec, group_slot) in aggregates.iter().zip(group_slots) {
            let sums = spec.measures.iter().filter_map(|measure| match measure.kind {
                MeasureKind::Sum(column) => Some(layout.sum_slot(events, column, &mut next)),
                MeasureKind::Count | MeasureKind::Distinct => None,
            });
            let sums = sums.collect();
            layout.aggregates.push(AggregateLayout { group_slot, sums });
        }
        if !funnels.is_empty() {
            layout.funnel_slot = Some(next);
            next += 1;
        }
        if next > SLOTS {
            return Err(LayoutError::TooManySlots { needed: next });
        }
        if funnels.len() > FUNNELS_MAX {
            return Err(LayoutError::TooManyFunnels(funnels.len()));
        }
        if let Some(spec) = funnels.iter().find(|spec| spec.steps.len() > STEPS_MAX) {
            return Err(LayoutError::TooManySteps {
                funnel: spec.name.clone(),
                steps: spec.steps.len(),
            });
        }
        layout.funnels = (0..funnels.len()).map(|byte| FunnelLayout { byte }).collect();
        Ok(layout)
    }

    fn group_slot(&mut self, spec: &AggregateSpec) -> Option<usize> {
        let columns: Vec<usize> = spec
            .group_by
            .iter()
            .filter_map(|column| match column.side {
                Side::Event(index) => Some(index),
                Side::Dimension(_) => None,
            })
            .collect();
        if columns.is_empty() {
            return None;
        }
        let known = self.groups.iter().position(|group| *group == columns);
        Some(known.unwrap_or_else(|| {
            self.groups.push(columns);
            self.groups.len() - 1
        }))
    }

    fn sum_slot(&mut self, events: &EventsSpec, column: usize, next: &mut usize) -> SumSlot {
        if let Some(known) = self.sums.iter().find(|sum| sum.column == column) {
            return *known;
        }
        let wide = matches!(events.columns[column].kind, ColumnType::Decimal { .. });
        let sum = SumSlot { column, slot: *next, wide };
        *next += if wide { 2 } else { 1 };
        self.sums.push(sum);
        sum
    }
}
