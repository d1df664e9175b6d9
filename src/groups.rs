//! From a dimension's tuple to the part of it that each aggregate and funnel groups by.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::job::{GroupColumn, Job, Side};
use crate::model::value::{decode_tuple, null_tuple};
use crate::model::{ColumnType, Interner, Symbol};

/// The dimension-side groups of one tuple.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// For each aggregate; `Symbol(0)` where it has no dimension column.
    pub aggregates: Vec<Symbol>,
    /// For each funnel; `Symbol(0)` where it has no group column.
    pub funnels: Vec<Symbol>,
}

/// The number of a tuple on this worker in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupsIndex(u32);

/// Groups by tuple, found once for each tuple.
#[derive(Debug)]
pub struct DimensionGroups {
    interner: Arc<Interner>,
    kinds: Vec<ColumnType>,
    aggregates: Vec<Vec<usize>>,
    funnels: Vec<Vec<usize>>,
    numbers: HashMap<Symbol, GroupsIndex>,
    known: Vec<Groups>,
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
    /// For the aggregates and funnels of `job`.
    pub fn new(job: &Job, interner: &Arc<Interner>) -> Self {
        let columns = job.dimension.iter().flat_map(|dimension| &dimension.columns);
        let aggregates = job.aggregates.iter().map(|spec| dimension_columns(&spec.group_by));
        let funnels = job.funnels.iter().map(|spec| dimension_columns(&spec.group_by));
        DimensionGroups {
            interner: Arc::clone(interner),
            kinds: columns.map(|column| column.kind).collect(),
            aggregates: aggregates.collect(),
            funnels: funnels.collect(),
            numbers: HashMap::new(),
            known: Vec::new(),
        }
    }

    /// The number of a tuple.
    pub fn index(&mut self, columns: Symbol) -> GroupsIndex {
        if let Some(number) = self.numbers.get(&columns) {
            return *number;
        }
        let number = GroupsIndex(self.known.len() as u32);
        self.known.push(self.find(columns));
        self.numbers.insert(columns, number);
        number
    }

    /// The groups of a tuple.
    pub fn get(&self, tuple: GroupsIndex) -> &Groups {
        &self.known[tuple.0 as usize]
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
