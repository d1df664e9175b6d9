//! Changes of a commit: differences of measures by group, added up until the commit is complete.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// A group of a current table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupKey {
    /// Index of the table.
    pub table: usize,
    /// For an aggregate the window (see [`order_bits`](crate::aggregate::order_bits)), for a funnel the step.
    pub window: u64,
    /// Symbol of the event-side group columns; 0 without any.
    pub event: u64,
    /// Symbol of the dimension-side group columns; 0 without any.
    pub dimension: u64,
}

/// A difference of measures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delta {
    /// Events.
    pub count: i64,
    /// Distinct users.
    pub users: i64,
    /// The sums of the aggregate's measures.
    pub sums: Vec<SumDelta>,
}

/// A difference of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SumDelta {
    /// The values.
    pub value: i128,
    /// How many of them are not NULL.
    pub values: i64,
}

impl Delta {
    /// True if nothing changes.
    pub fn is_zero(&self) -> bool {
        self.count == 0
            && self.users == 0
            && self.sums.iter().all(|sum| sum.value == 0 && sum.values == 0)
    }

    /// Adds `other` to this.
    ///
    /// # Panics
    /// When a sum leaves the range of 128 bits.
    pub fn add(&mut self, other: &Delta) {
        self.count += other.count;
        self.users += other.users;
        self.sums.resize(self.sums.len().max(other.sums.len()), SumDelta::default());
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            sum.value = sum
                .value
                .checked_add(other.value)
                .unwrap_or_else(|| panic!("a sum left the range of 128 bits"));
            sum.values += other.values;
        }
    }
}

/// Differences of one commit, added up by group.
#[derive(Debug, Default)]
pub struct Changes {
    groups: HashMap<GroupKey, Delta>,
}

impl Changes {
    /// The difference of `group`, with room for `sums` sums.
    pub fn entry(&mut self, group: GroupKey, sums: usize) -> &mut Delta {
        self.groups.entry(group).or_insert_with(|| Delta {
            count: 0,
            users: 0,
            sums: vec![SumDelta::default(); sums],
        })
    }

    /// Adds a difference to its group.
    pub fn add(&mut self, group: GroupKey, delta: &Delta) {
        self.groups.entry(group).or_default().add(delta);
    }

    /// Those that are not zero, in no order.
    pub fn into_iter_nonzero(self) -> impl Iterator<Item = (GroupKey, Delta)> {
        self.groups.into_iter().filter(|(_, delta)| !delta.is_zero())
    }
}
