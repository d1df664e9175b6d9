//! What a worker knows of users: numbers, versions, and what goes to slabs.

use super::*;

const NOTHING: Symbol = Symbol(1);

fn version(user: u64, partition: i32, offset: i64, columns: u64) -> DimensionChange {
    let position = Position { partition, offset };
    DimensionChange { user, position, columns: Symbol(columns), deleted: false }
}

/// The rows of the next slab.
fn dirty(users: &mut Users) -> Vec<u64> {
    let mut slab = SlabRows::new(layout());
    users.take_dirty(&mut slab);
    slab.into_buckets().concat()
}

#[test]
fn a_user_keeps_a_number_and_begins_without_a_version() {
    let mut users = Users::new(NOTHING);
    for hash in [7, 1 << 60, 9] {
        assert_eq!(users.find(hash), None);
        let index = users.index(hash);
        assert_eq!((users.index(hash), users.find(hash)), (index, Some(index)));
        let user = users.get(index);
        assert_eq!(
            (user.hash, user.columns, user.version, user.whole),
            (hash, NOTHING, None, false)
        );
    }
    let whole = users.index(9);
    users.set_whole(whole);
    assert!(users.get(whole).whole && !users.get(UserIndex(0)).whole);
}

#[test]
fn only_a_later_version_is_news() {
    let mut users = Users::new(NOTHING);
    let user = users.index(7);
    assert!(users.is_news(user, &version(7, 0, 0, 2)));
    assert_eq!(users.change(user, &version(7, 0, 5, 2)), NOTHING);
    assert!(users.is_news(user, &version(7, 0, 6, 3)));
    for known in [4, 5] {
        assert!(!users.is_news(user, &version(7, 0, known, 3)));
    }
    assert_eq!(users.change(user, &version(7, 0, 6, 3)), Symbol(2));
    let deleted = DimensionChange { deleted: true, ..version(7, 0, 7, 4) };
    assert_eq!(users.change(user, &deleted), Symbol(3));
    assert_eq!(users.get(user).columns, NOTHING);
}

#[test]
fn what_changed_goes_to_the_next_slab_once_and_comes_back_from_it() {
    let mut users = Users::new(NOTHING);
    let (one, _) = (users.index(7), users.index(8));
    users.change(one, &version(7, 2, 5, 2));
    users.change(one, &DimensionChange { deleted: true, ..version(7, 2, 6, 4) });
    let row = [7, 2, 6, NOTHING.0, 1];
    assert_eq!(dirty(&mut users), row);
    assert!(dirty(&mut users).is_empty());

    let mut again = Users::new(NOTHING);
    again.load(&[7, 2, 6, 3, 0]);
    let user = again.index(7);
    assert_eq!(again.get(user).version, Some(Position { partition: 2, offset: 6 }));
    assert_eq!(again.get(user).columns, Symbol(3));
    assert!(dirty(&mut again).is_empty(), "it differs from no slab");
    again.change(user, &version(7, 2, 9, 5));
    assert_eq!(dirty(&mut again), [7, 2, 9, 5, 0]);
}

#[test]
fn versions_from_another_partition_than_the_one_before_are_strays() {
    let mut users = Users::new(NOTHING);
    let user = users.index(7);
    for (partition, offset) in [(0, 1), (0, 2), (3, 1), (4, 0)] {
        users.change(user, &version(7, partition, offset, 2));
    }
    assert_eq!((users.take_strays(), users.take_strays()), (2, 0));
}

#[test]
fn memory_is_counted_and_given_back() {
    let mut users = Users::new(NOTHING);
    for hash in 0..1_000_u64 {
        users.index(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    let least = 1_000 * (size_of::<User>() + 17);
    assert!((least..3 * least).contains(&users.bytes()), "{} bytes", users.bytes());
    users.evict();
    assert_eq!((users.bytes(), users.find(0)), (0, None));
}
