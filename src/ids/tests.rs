//! The ids of a worker: generations, copies and their contents, and what slabs give back.

use super::*;
use crate::model::fact::testing::NOTHING;
use crate::sink::testing::Lake;

const HOUR_US: i64 = 3_600_000_000;
/// Generations are an hour long.
const HORIZON_US: Option<i64> = Some(GENERATIONS_OF_HORIZON * HOUR_US);

/// The generation of events of this hour.
fn generation_of(hour: i64) -> u64 {
    generation(hour * HOUR_US, HORIZON_US)
}

fn fact(number: u64, hour: i64, content: u32) -> Fact {
    let id = [number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number];
    Fact { id, time: hour * HOUR_US, content, ..NOTHING }
}

/// The ids of a worker, and its context.
fn hourly(lake: &mut Lake) -> (Arc<WorkerContext>, IdSet) {
    lake.job.dedup_horizon_us = HORIZON_US;
    std::fs::create_dir_all(&lake.job.lake.state).unwrap();
    let context = lake.context();
    let ids = IdSet::new(&context);
    (context, ids)
}

/// Writes the new ids; how many there are by generation, and their slabs.
fn write(
    ids: &mut IdSet,
    context: &WorkerContext,
    commit: u64,
) -> (BTreeMap<u64, u64>, Vec<SlabMeta>) {
    let (mut sizes, mut slabs) = (BTreeMap::new(), Vec::new());
    for part in ids.take_fresh().write(context, Commit(commit)) {
        match part {
            Finished::Slab(slab) => slabs.push(slab),
            Finished::Generations(of) => sizes = of,
            other => panic!("{other:?} is no part of ids"),
        }
    }
    (sizes, slabs)
}

#[test]
fn generations_are_a_quarter_of_the_horizon_in_the_order_of_time() {
    let of = |time| generation(time, Some(4 * HOUR_US));
    assert_eq!(generation(5, None), generation(-5, None));
    let starts = [-2 * HOUR_US, -HOUR_US, 0, HOUR_US, 2 * HOUR_US];
    assert!(starts.windows(2).all(|pair| of(pair[0]) + 1 == of(pair[1])));
    assert!(starts.iter().all(|start| of(*start) == of(start + HOUR_US - 1)));
}

#[test]
fn every_id_is_new_once_and_is_written_with_the_generation_of_its_time() {
    let mut lake = Lake::new();
    let (context, mut ids) = hourly(&mut lake);
    let hours = [0, 5, 0, 0, 5, 0];
    let facts: Vec<Fact> = (0..).zip(hours).map(|(number, hour)| fact(number, hour, 1)).collect();
    let facts: Vec<&Fact> = facts.iter().chain(&facts[..2]).collect();
    let new = [true, true, true, true, true, true, false, false];
    assert_eq!(ids.insert(&facts), new);
    let (sizes, slabs) = write(&mut ids, &context, 1);
    assert_eq!(sizes, BTreeMap::from([(generation_of(0), 4), (generation_of(5), 2)]));
    let written: Vec<(u64, u64)> = slabs.iter().map(|slab| (slab.generation, slab.rows)).collect();
    assert_eq!(written, [(generation_of(0), 4), (generation_of(5), 2)]);
    assert_eq!(ids.insert(&[&fact(9, 5, 1)]), [true]);
    assert_eq!(write(&mut ids, &context, 2).0, BTreeMap::from([(generation_of(5), 1)]));
    assert_eq!(write(&mut ids, &context, 3), (BTreeMap::new(), Vec::new()));
}

#[test]
fn a_copy_conflicts_where_it_differs_from_the_winner_who_may_be_replaced() {
    let mut lake = Lake::new();
    let (context, mut ids) = hourly(&mut lake);
    assert_eq!(ids.insert(&[&fact(1, 0, 10)]), [true]);
    assert!(!ids.conflicts(&fact(1, 0, 10)) && ids.conflicts(&fact(1, 0, 11)));
    assert!(!ids.conflicts(&fact(2, 0, 11)), "an id that nobody knows");
    ids.replace(&fact(1, 7, 11));
    assert!(ids.conflicts(&fact(1, 0, 10)) && !ids.conflicts(&fact(1, 0, 11)));
    assert_eq!(write(&mut ids, &context, 1).0, BTreeMap::from([(generation_of(7), 1)]));
}

#[test]
fn ids_that_are_dropped_from_memory_are_found_in_slabs() {
    let mut lake = Lake::new();
    let (context, mut ids) = hourly(&mut lake);
    let empty = ids.bytes();
    let facts: Vec<Fact> = (0..20_000).map(|number| fact(number, 0, number as u32)).collect();
    assert!(ids.insert(&facts.iter().collect::<Vec<_>>()).iter().all(|new| *new));
    let bytes = ids.bytes();
    assert!((20_000 * 30..20_000 * 60).contains(&bytes), "{bytes} bytes");
    let (_, slabs) = write(&mut ids, &context, 1);
    ids.written(slabs);
    ids.evict();
    assert_eq!(ids.bytes(), empty);

    let copies = [fact(3, 0, 3), fact(4, 9, 5), fact(20_000, 0, 0)];
    ids.hydrate(&[copies.to_vec()]);
    assert_eq!(ids.insert(&copies.iter().collect::<Vec<_>>()), [false, false, true]);
    assert_eq!(copies.map(|copy| ids.conflicts(&copy)), [false, true, false]);
    assert!(!context.failure.happened());
}
