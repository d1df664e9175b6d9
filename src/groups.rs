//! From a dimension's tuple to the part of it that each aggregate and funnel groups by.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::job::{GroupColumn, Side};
use crate::model::value::{decode_tuple, null_tuple};
use crate::model::{ColumnType, Interner, Symbol};
use crate::worker::WorkerContext;

/// The dimension-side groups of one tuple.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// For each aggregate; `Symbol(0)` where it has no dimension column.
    pub aggregates: Vec<Symbol>,
    /// For each funnel; `Symbol(0)` where it has no group column.
    pub funnels: Vec<Symbol>,
}

/// Groups by tuple, found once for each tuple.
#[derive(Debug)]
pub struct DimensionGroups {
    interner: Arc<Interner>,
    kinds: Vec<ColumnType>,
    aggregates: Vec<Vec<usize>>,
    funnels: Vec<Vec<usize>>,
    known: HashMap<Symbol, Arc<Groups>>,
}

/// The dimension columns of a `group_by`.
pub fn dimension_columns(group_by: &[GroupColumn]) -> Vec<usize> {
    group_by
        .iter()
        .filter_map(|column| match column.side {
            Side::Dimension(index) => Some(index),
            Side::Event(_) => None,
        })
        .collect()
}

/// The symbol of a tuple of NULLs: the columns of a user without a version.
pub fn no_version(interner: &Interner, columns: usize) -> Symbol {
    interner.intern(&null_tuple(columns))
}

impl DimensionGroups {
    /// For the aggregates and funnels of the worker's job.
    pub fn new(context: &WorkerContext) -> Self {
        let job = &context.job;
        let columns = job.dimension.iter().flat_map(|dimension| &dimension.columns);
        let aggregates = job.aggregates.iter().map(|spec| dimension_columns(&spec.group_by));
        let funnels = job.funnels.iter().map(|spec| dimension_columns(&spec.group_by));
        DimensionGroups {
            interner: Arc::clone(&context.interner),
            kinds: columns.map(|column| column.kind).collect(),
            aggregates: aggregates.collect(),
            funnels: funnels.collect(),
            known: HashMap::new(),
        }
    }

    /// The groups of a tuple.
    pub fn of(&mut self, columns: Symbol) -> Arc<Groups> {
        if let Some(groups) = self.known.get(&columns) {
            return Arc::clone(groups);
        }
        let groups = Arc::new(self.find(columns));
        self.known.insert(columns, Arc::clone(&groups));
        groups
    }

    fn find(&self, columns: Symbol) -> Groups {
        let content = self.interner.content(columns).unwrap_or_else(|| {
            panic!("symbol {:#018x} of a dimension row is not in the dictionary", columns.0)
        });
        let tuple = decode_tuple(&self.kinds, &content)
            .unwrap_or_else(|| panic!("symbol {:#018x} is no tuple of the dimension", columns.0));
        let project = |picked: &Vec<usize>| {
            if picked.is_empty() {
                return Symbol(0);
            }
            let mut content = Vec::new();
            picked.iter().for_each(|index| tuple[*index].encode(&mut content));
            self.interner.intern(&content)
        };
        Groups {
            aggregates: self.aggregates.iter().map(project).collect(),
            funnels: self.funnels.iter().map(project).collect(),
        }
    }
}
