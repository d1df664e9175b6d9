//! Tests of [`super`]: single paths, and whole funnels against their definition.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::fact::testing::NOTHING;

fn path(events: &[(i64, u8)], steps: u8, within_us: Option<i64>) -> u8 {
    let mut events: Vec<u64> = events.iter().map(|(time, step)| pack(*time, *step)).collect();
    events.sort_unstable();
    let mut times = vec![0; usize::from(steps)];
    earliest_path(&events, &mut times);
    reached(&times, within_us)
}

#[test]
fn steps_count_along_the_earliest_path() {
    assert_eq!(path(&[], 3, None), 0);
    assert_eq!(path(&[(5, 2), (6, 3)], 3, None), 0);
    assert_eq!(path(&[(1, 2), (2, 1), (3, 3)], 3, None), 1);
    assert_eq!(path(&[(1, 1), (2, 2), (3, 3)], 3, None), 3);
    assert_eq!(path(&[(-9, 1), (-8, 2)], 3, None), 2);
}

#[test]
fn steps_at_the_same_time_count_in_any_order() {
    assert_eq!(path(&[(7, 3), (7, 2), (7, 1)], 3, None), 3);
    assert_eq!(path(&[(7, 3), (7, 1), (8, 2)], 3, None), 2);
}

#[test]
fn the_bound_counts_from_the_first_step_and_includes_its_end() {
    assert_eq!(path(&[(0, 1), (10, 2), (11, 3)], 3, Some(10)), 2);
    assert_eq!(path(&[(0, 1), (5, 1), (15, 2)], 2, Some(10)), 1);
}

#[test]
fn packing_keeps_the_order_of_time() {
    for (time, step) in [(-5, 3), (0, 1), (7_258_118_399_999_999, 255)] {
        assert_eq!(unpack(pack(time, step)), (time, step));
    }
    assert!(pack(-1, 9) < pack(0, 1) && pack(0, 9) < pack(1, 0));
}

const TABLE: usize = 6;
const SLOT: usize = 5;
const BYTE: usize = 6;
const STEPS: u8 = 4;

fn funnel(within_us: Option<i64>) -> Funnel {
    let spec = FunnelSpec {
        name: "f".into(),
        group_by: Vec::new(),
        column: 0,
        steps: (1..=STEPS).map(|step| step.to_string()).collect(),
        within_us,
    };
    Funnel::new(&spec, SLOT, FunnelLayout { byte: BYTE }, TABLE)
}

/// A step event; 0 for an event that is a step of other funnels alone.
fn fact(user: u32, time: i64, step: u8) -> Fact {
    let mut steps = [9; 8];
    steps[BYTE] = step;
    let mut fact = Fact { user: hash(user), time, ..NOTHING };
    fact.slots[SLOT] = u64::from_le_bytes(steps);
    fact
}

fn hash(user: u32) -> u64 {
    u64::from(user) << 40 | 7
}

/// The furthest step of a user with these events, by the definition: in no order, nothing forgotten.
fn furthest(events: &[(i64, u8)], within_us: Option<i64>) -> u8 {
    let (mut furthest, mut at, mut first) = (0, i64::MIN, None);
    for step in 1..=STEPS {
        let of_step = events.iter().filter(|(time, of)| *of == step && *time >= at);
        let Some(time) = of_step.map(|(time, _)| *time).min() else { break };
        let first = *first.get_or_insert(time);
        if within_us.is_some_and(|within| time > first + within) {
            break;
        }
        (furthest, at) = (step, time);
    }
    furthest
}

/// What happens to a funnel.
#[derive(Debug, Clone)]
enum Event {
    /// Facts of an epoch: user, time, step.
    Epoch(Vec<(u32, i64, u8)>),
    /// A user moves to a group.
    Move(u32, u64),
    /// A commit; memory may be freed behind it.
    Commit(bool),
}

const USERS: u32 = 4;

fn events() -> impl Strategy<Value = Vec<Event>> {
    let facts = prop::collection::vec((0..USERS, -20..20_i64, 0..=STEPS), 0..6);
    let event = prop_oneof![
        6 => facts.prop_map(Event::Epoch),
        2 => (0..USERS, 1..4_u64).prop_map(|(user, group)| Event::Move(user, group)),
        2 => any::<bool>().prop_map(Event::Commit),
    ];
    prop::collection::vec(event, 0..40)
}

/// A funnel beside all events that there ever were, and its slabs.
struct Bench {
    funnel: Funnel,
    groups: Vec<Symbol>,
    all: Vec<Vec<(i64, u8)>>,
    /// Slab rows that can be read, and those written since memory was freed.
    readable: Vec<Vec<u64>>,
    written: Vec<Vec<u64>>,
    /// By group and step: the sum of all changes.
    totals: BTreeMap<(u64, u64), (i64, i64)>,
}

impl Bench {
    fn new(within_us: Option<i64>) -> Self {
        Bench {
            funnel: funnel(within_us),
            groups: vec![Symbol(1); USERS as usize],
            all: vec![Vec::new(); USERS as usize],
            readable: Vec::new(),
            written: Vec::new(),
            totals: BTreeMap::new(),
        }
    }

    fn load(&mut self, user: u32) {
        if self.readable.is_empty() || self.funnel.is_loaded(UserIndex(user)) {
            return;
        }
        for row in self.readable.iter().filter(|row| row[0] == hash(user)) {
            self.funnel.load(UserIndex(user), row);
        }
        self.funnel.loaded(UserIndex(user));
        assert!(self.funnel.is_loaded(UserIndex(user)));
    }

    fn happen(&mut self, event: Event) {
        let mut changes = Changes::default();
        match event {
            Event::Epoch(facts) => {
                facts.iter().for_each(|(user, _, _)| self.load(*user));
                let mut walked = BTreeSet::new();
                for (user, time, step) in facts {
                    self.all[user as usize].push((time, step));
                    let fact = fact(user, time, step);
                    assert_eq!(self.funnel.step(&fact), (step > 0).then_some(step));
                    walked.extend(self.funnel.absorb(UserIndex(user), &fact).then_some(user));
                }
                for user in walked {
                    let group = self.groups[user as usize];
                    self.funnel.settle(UserIndex(user), group, &mut changes);
                }
            }
            Event::Move(user, group) => {
                self.load(user);
                let from = std::mem::replace(&mut self.groups[user as usize], Symbol(group));
                self.funnel.relocate(UserIndex(user), from, Symbol(group), &mut changes);
            }
            Event::Commit(evict) => {
                let mut slab = SlabRows::new(layout("f"));
                self.funnel.take_fresh(&mut slab);
                let words = slab.into_buckets().concat();
                self.written.extend(words.chunks_exact(WIDTH).map(<[u64]>::to_vec));
                if evict {
                    self.funnel.evict();
                    assert_eq!(self.funnel.bytes(), 0);
                    assert!((0..USERS).all(|user| !self.funnel.is_loaded(UserIndex(user))));
                    self.readable.clone_from(&self.written);
                }
            }
        }
        for (key, delta) in changes.into_iter_nonzero() {
            assert_eq!((key.table, key.event, delta.sums.len()), (TABLE, 0, 0));
            let total = self.totals.entry((key.dimension, key.window)).or_default();
            *total = (total.0 + delta.count, total.1 + delta.users);
        }
        self.totals.retain(|_, total| *total != (0, 0));
    }

    /// The users of each group and step, by the definition.
    fn expected(&self, within_us: Option<i64>) -> BTreeMap<(u64, u64), (i64, i64)> {
        let mut expected = BTreeMap::<_, (i64, i64)>::new();
        for (events, group) in self.all.iter().zip(&self.groups) {
            for step in 1..=furthest(events, within_us) {
                let total = expected.entry((group.0, step.into())).or_default();
                *total = (total.0 + 1, total.1 + 1);
            }
        }
        expected
    }
}

proptest! {
    #[test]
    fn changes_add_up_to_the_definition_whatever_is_late_moved_or_freed(
        events in events(), within_us in prop::option::of(0..12_i64),
    ) {
        let mut bench = Bench::new(within_us);
        for event in events {
            bench.happen(event);
            prop_assert_eq!(&bench.totals, &bench.expected(within_us));
        }
    }
}

#[test]
fn memory_is_counted_by_user_and_by_event() {
    let mut funnel = funnel(None);
    assert_eq!(funnel.bytes(), 0);
    let users = 1 << 14;
    (0..users).for_each(|user| funnel.loaded(UserIndex(user)));
    let empty = funnel.bytes();
    let of_user = size_of::<User>() + usize::from(STEPS) * size_of::<i64>();
    assert!((1..3).contains(&(empty / (users as usize * of_user))), "{empty} bytes");
    // Before there is a first step, all events of the second one can matter.
    for time in 0..1000 {
        assert!(funnel.absorb(UserIndex(3), &fact(3, time, 2)));
    }
    let events = funnel.bytes() - empty;
    assert!((8_000..=16_384).contains(&events), "{events} bytes");
}
