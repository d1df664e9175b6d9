//! A generation against a map of the standard library, over random commits.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::hash::owner;

/// The hash of the id with this number, on worker 1 of 3.
fn id(number: u64) -> [u64; 2] {
    let mut seed = number;
    loop {
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(&number.to_le_bytes(), seed);
        let id = [(hash >> 64) as u64, hash as u64];
        if owner(id[0], 3) == 1 {
            return id;
        }
        seed += 1 << 32;
    }
}

#[test]
fn an_id_takes_less_than_40_bytes_however_many_there_are() {
    let mut ids = Generation::new(1);
    for number in 1..=600_000_u64 {
        let hash = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
        let id = Id::new([(hash >> 64) as u64, hash as u64], 0);
        assert!(ids.insert(id) && !ids.insert(id));
        if number >= 100_000 && number % 10_000 == 0 {
            let bytes = ids.bytes() as f64 / number as f64;
            assert!((30.0..40.0).contains(&bytes), "{bytes} bytes an id at {number} ids");
        }
    }
}

#[test]
fn ids_that_share_the_word_of_their_slots_are_told_apart() {
    let mut ids = Generation::new(1);
    let id = |number: u64| Id::new([number << 20, number << 32 | 7], number as u32);
    for number in 0..3_000 {
        assert!(ids.find(&id(number)).is_none() && ids.insert(id(number)));
    }
    for number in 0..3_000 {
        assert_eq!(ids.find(&id(number)), Some(&id(number)));
        assert!(!ids.insert(id(number)));
    }
}

#[test]
fn many_ids_are_fresh_once_wherever_a_commit_divides_them() {
    let mut ids = Generation::new(3);
    let commits = [0, 1, 40_000, 40_001, 90_000, 200_000];
    for pair in commits.windows(2) {
        let fresh: Vec<[u64; 2]> = (pair[0]..pair[1]).map(id).collect();
        fresh.iter().for_each(|id| assert!(ids.insert(Id::new(*id, 5))));
        let mut expected: Vec<[u64; WIDTH]> = fresh.iter().map(|id| [id[0], id[1], 5]).collect();
        expected.sort_unstable();
        assert_eq!(written(&mut ids), expected);
    }
}

/// What happens to ids; numbers repeat.
#[derive(Debug, Clone)]
enum Event {
    Insert(u64, u32),
    Remove(u64),
    Commit,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let number = 0..30_000_u64;
    let event = prop_oneof![
        40 => (number.clone(), any::<u32>()).prop_map(|(n, content)| Event::Insert(n, content)),
        3 => number.prop_map(Event::Remove),
        1 => Just(Event::Commit),
    ];
    // Neighbours fill tables; a few hundred events alone never would.
    prop::collection::vec((event, 1..200_u64), 0..400).prop_map(|runs| {
        let spread = |(event, count): (Event, u64)| {
            (0..count).map(move |step| match event {
                Event::Insert(n, content) => Event::Insert(n + step, content),
                Event::Remove(n) => Event::Remove(n + step),
                Event::Commit => Event::Commit,
            })
        };
        runs.into_iter().flat_map(spread).collect()
    })
}

/// The fresh rows as the slab's writer gets them: tables in the order of keys.
fn written(ids: &mut Generation) -> Vec<[u64; WIDTH]> {
    let mut all = Vec::new();
    for rows in ids.take_fresh() {
        let (len, words) = (rows.len(), rows.into_words());
        let mut of_table: Vec<[u64; WIDTH]> = words.as_chunks().0.to_vec();
        assert_eq!(len, of_table.len());
        of_table.sort_unstable();
        all.append(&mut of_table);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_generation_is_a_map_that_knows_what_is_fresh(events in events()) {
        let mut ids = Generation::new(3);
        let mut known = BTreeMap::new();
        let mut fresh = BTreeMap::new();
        for event in events {
            match event {
                Event::Insert(number, content) => {
                    let new = !known.contains_key(&id(number));
                    prop_assert_eq!(ids.insert(Id::new(id(number), content)), new);
                    if new {
                        known.insert(id(number), content);
                        fresh.insert(id(number), content);
                    }
                }
                Event::Remove(number) if fresh.contains_key(&id(number)) => {
                    ids.remove(&Id::new(id(number), 0));
                    known.remove(&id(number));
                    fresh.remove(&id(number));
                }
                Event::Remove(number) => {
                    let found = ids.find(&Id::new(id(number), 0)).map(|id| id.content);
                    prop_assert_eq!(found, known.get(&id(number)).copied());
                }
                Event::Commit => {
                    let rows = mem::take(&mut fresh).into_iter();
                    let rows: Vec<_> = rows.map(|(id, c)| [id[0], id[1], c.into()]).collect();
                    prop_assert_eq!(written(&mut ids), rows);
                }
            }
        }
        for (id, content) in known {
            prop_assert_eq!(ids.find(&Id::new(id, 0)).map(|id| id.content), Some(content));
        }
    }
}
