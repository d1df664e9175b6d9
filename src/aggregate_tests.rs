//! Tests of [`super`]: rows and their sums against a recomputation from all facts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::changes::{Delta, SumDelta};
use crate::job::{GroupColumn, Side};
use crate::model::ColumnType;
use crate::model::fact::testing::NOTHING;

const TABLE: usize = 4;
/// Slots of the group, of a long, and of a decimal.
const GROUP: usize = 1;
const LONG: usize = 2;
const WIDE: usize = 5;

fn spec(window_us: Option<i64>, group_by: Vec<GroupColumn>) -> AggregateSpec {
    AggregateSpec { name: "a".into(), group_by, window_us, measures: Vec::new() }
}

fn aggregate(window_us: Option<i64>, group_slot: Option<usize>) -> Aggregate {
    let sums = vec![
        SumSlot { column: 0, slot: LONG, wide: false },
        SumSlot { column: 1, slot: WIDE, wide: true },
    ];
    Aggregate::new(&spec(window_us, Vec::new()), AggregateLayout { group_slot, sums }, TABLE)
}

/// An event: its user, time and group, and what it adds to the sums.
#[derive(Debug, Clone, Copy)]
struct Event {
    user: u32,
    time: i64,
    group: u64,
    long: Option<i64>,
    wide: Option<i128>,
}

impl Event {
    fn fact(&self) -> Fact {
        let mut fact = Fact { user: hash(self.user), time: self.time, ..NOTHING };
        fact.slots[GROUP] = self.group;
        fact.slots[LONG] = self.long.unwrap_or(77) as u64;
        let wide = self.wide.unwrap_or(-77);
        (fact.slots[WIDE], fact.slots[WIDE + 1]) = (wide as u64, (wide >> 64) as u64);
        // Other slots may be NULL too.
        fact.nulls = 1 << GROUP
            | u8::from(self.long.is_none()) << LONG
            | u8::from(self.wide.is_none()) << WIDE;
        fact
    }
}

fn hash(user: u32) -> u64 {
    u64::from(user) << 50 | 3
}

/// What happens to an aggregate.
#[derive(Debug, Clone)]
enum Step {
    Epoch(Vec<Event>),
    /// A user moves to a group of the dimension.
    Move(u32, u64),
    /// A commit; memory may be freed behind it.
    Commit(bool),
}

const USERS: u32 = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wide = any::<i64>().prop_map(|value| i128::from(value) * 5_000_000_007);
    let sums = (prop::option::of(-1000..1000_i64), prop::option::of(wide));
    let event = (0..USERS, -25..25_i64, 0..3_u64, sums)
        .prop_map(|(user, time, group, (long, wide))| Event { user, time, group, long, wide });
    let step = prop_oneof![
        6 => prop::collection::vec(event, 0..8).prop_map(Step::Epoch),
        2 => (0..USERS, 1..4_u64).prop_map(|(user, group)| Step::Move(user, group)),
        2 => any::<bool>().prop_map(Step::Commit),
    ];
    prop::collection::vec(step, 0..30)
}

/// Window, event group and dimension group.
type Group = (u64, u64, u64);

/// An aggregate beside all events that there ever were, and its slabs.
struct Bench {
    aggregate: Aggregate,
    window_us: Option<i64>,
    group_slot: Option<usize>,
    groups: Vec<u64>,
    events: Vec<Event>,
    /// The newest slab rows that can be read, and those written since memory was freed.
    readable: BTreeMap<Vec<u64>, Vec<u64>>,
    written: BTreeMap<Vec<u64>, Vec<u64>>,
    totals: BTreeMap<Group, Delta>,
}

impl Bench {
    fn new(window_us: Option<i64>, group_slot: Option<usize>) -> Self {
        Bench {
            aggregate: aggregate(window_us, group_slot),
            window_us,
            group_slot,
            groups: vec![1; USERS as usize],
            events: Vec::new(),
            readable: BTreeMap::new(),
            written: BTreeMap::new(),
            totals: BTreeMap::new(),
        }
    }

    fn happen(&mut self, step: Step) {
        let mut changes = Changes::default();
        match step {
            Step::Epoch(events) => events.iter().for_each(|event| self.add(event, &mut changes)),
            Step::Move(user, to) => {
                let rows = self.readable.values().filter(|row| row[0] == hash(user));
                rows.for_each(|row| self.aggregate.load(UserIndex(user), row));
                let from = std::mem::replace(&mut self.groups[user as usize], to);
                let (user, from, to) = (UserIndex(user), Symbol(from), Symbol(to));
                self.aggregate.relocate(user, from, to, &mut changes);
            }
            Step::Commit(evict) => self.commit(evict),
        }
        for (key, delta) in changes.into_iter_nonzero() {
            assert_eq!(key.table, TABLE);
            let group = (key.window, key.event, key.dimension);
            self.totals.entry(group).or_default().add(&delta);
        }
        self.totals.retain(|_, total| !total.is_zero());
    }

    fn add(&mut self, event: &Event, changes: &mut Changes) {
        let (user, fact) = (UserIndex(event.user), event.fact());
        let key = self.aggregate.key(&fact);
        let stored = self.readable.get(&key.words()[..]).filter(|_| !self.aggregate.has(&key));
        stored.into_iter().for_each(|row| self.aggregate.load(user, row));
        let place = self.aggregate.place(user, &fact);
        assert!(self.aggregate.has(&key));
        let group = Symbol(self.groups[event.user as usize]);
        self.aggregate.absorb(place, &fact, group, changes);
        self.events.push(*event);
    }

    fn commit(&mut self, evict: bool) {
        let width = self.aggregate.width();
        let mut slab = SlabRows::new(layout("a", width));
        self.aggregate.take_dirty(&mut slab);
        let words = slab.into_buckets().concat();
        let rows = words.chunks_exact(width).map(|row| (row[..KEY].to_vec(), row.to_vec()));
        let rows: Vec<(Vec<u64>, Vec<u64>)> = rows.collect();
        let keys: BTreeSet<_> = rows.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), rows.len(), "a row twice");
        self.written.extend(rows);
        if evict {
            self.aggregate.evict();
            assert_eq!(self.aggregate.bytes(), 0);
            let key = |words: &[u64]| RowKey { user: words[0], window: words[1], group: words[2] };
            assert!(self.written.keys().all(|words| !self.aggregate.has(&key(words))));
            self.readable.clone_from(&self.written);
        }
    }

    /// All measures, by the definition.
    fn expected(&self) -> BTreeMap<Group, Delta> {
        let (mut totals, mut users) = (BTreeMap::<Group, Delta>::new(), BTreeSet::new());
        for event in &self.events {
            let start = |size: i64| event.time.div_euclid(size) * size;
            let window = self.window_us.map_or(0, |size| start(size) as u64 ^ 1 << 63);
            let group = self.group_slot.map_or(0, |_| event.group);
            let group = (window, group, self.groups[event.user as usize]);
            let total = totals.entry(group).or_default();
            total.sums.resize(2, SumDelta::default());
            total.count += 1;
            total.users += i64::from(users.insert((group, event.user)));
            let values = [event.long.map(i128::from), event.wide];
            for (sum, value) in total.sums.iter_mut().zip(values) {
                sum.value += value.unwrap_or(0);
                sum.values += i64::from(value.is_some());
            }
        }
        totals
    }
}

proptest! {
    #[test]
    fn changes_add_up_to_a_recomputation_whatever_is_moved_or_freed(
        steps in steps(), windowed: bool, grouped: bool,
    ) {
        let mut bench = Bench::new(windowed.then_some(10), grouped.then_some(GROUP));
        for step in steps {
            bench.happen(step);
            prop_assert_eq!(&bench.totals, &bench.expected());
        }
    }

    #[test]
    fn order_bits_keep_the_order(a: i64, b: i64) {
        prop_assert_eq!(order_bits(a).cmp(&order_bits(b)), a.cmp(&b));
        prop_assert_eq!(from_order_bits(order_bits(a)), a);
    }
}

#[test]
fn users_move_where_a_group_is_of_the_dimension() {
    let column = |side| GroupColumn { name: "c".into(), side, kind: ColumnType::String };
    let of = |group_by| {
        let layout = AggregateLayout { group_slot: None, sums: Vec::new() };
        Aggregate::new(&spec(None, group_by), layout, TABLE).has_dimension()
    };
    assert!(!of(Vec::new()));
    assert!(!of(vec![column(Side::Event(0))]));
    assert!(of(vec![column(Side::Event(0)), column(Side::Dimension(1))]));
}

#[test]
fn memory_is_counted_by_row_and_by_slot_of_the_table() {
    // Rows of eight words with the link, so that pieces have no room to spare.
    let sums = vec![SumSlot { column: 0, slot: WIDE, wide: true }];
    let layout = AggregateLayout { group_slot: Some(GROUP), sums };
    let mut aggregate = Aggregate::new(&spec(None, Vec::new()), layout, TABLE);
    let rows = 1 << 16;
    for group in 0..rows {
        let mut fact = NOTHING;
        fact.slots[GROUP] = group;
        aggregate.place(UserIndex(0), &fact);
    }
    let least = rows as usize * (8 * 8 + 5);
    let bytes = aggregate.bytes();
    assert!((least..least * 3 / 2).contains(&bytes), "{bytes} bytes, and {least} are needed");
}
