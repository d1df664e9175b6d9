//! The users: where they live, what they pay for, which partition they belong in, and how that changes.
//!
//! A user's first attributes are a function of the world's seed and the user's number, and the changes of
//! a round are a function of the round: earlier rounds are replayed without generating their events.

use super::random::{Purpose, Random, mix, pick, scale};
use super::{Round, World, render};

/// A region: its share of the users, its clock and its habits.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    pub name: &'static str,
    weight: u32,
    /// Hours that its clocks are ahead of UTC.
    pub utc_offset: u8,
    pub currency: &'static [u8; 3],
    /// How readily its users convert, in percent of the average.
    pub conversion: u32,
}

const fn region(
    name: &'static str,
    weight: u32,
    utc_offset: u8,
    currency: &'static [u8; 3],
    conversion: u32,
) -> Region {
    Region { name, weight, utc_offset, currency, conversion }
}

/// Regions by number; those beyond the list are named `region-N` and behave like the one at N modulo 8.
const REGIONS: [Region; 8] = [
    region("amer", 40, 19, b"USD", 120),
    region("emea", 34, 1, b"EUR", 100),
    region("apac", 28, 8, b"JPY", 85),
    region("latam", 16, 21, b"BRL", 65),
    region("india", 14, 5, b"INR", 75),
    region("africa", 8, 2, b"ZAR", 55),
    region("nordics", 6, 1, b"SEK", 140),
    region("oceania", 5, 10, b"AUD", 110),
];

/// A plan: its name, its share, its price in cents, and its users' readiness to convert in percent.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub name: &'static str,
    weight: u32,
    pub price_cents: i64,
    pub conversion: u32,
}

impl Plan {
    /// Its users, as a weight.
    pub fn weight(&self) -> u32 {
        self.weight
    }
}

/// Plans by number.
pub const PLANS: [Plan; 4] = [
    Plan { name: "free", weight: 60, price_cents: 900, conversion: 80 },
    Plan { name: "basic", weight: 25, price_cents: 1_900, conversion: 110 },
    Plan { name: "pro", weight: 12, price_cents: 4_900, conversion: 140 },
    Plan { name: "enterprise", weight: 3, price_cents: 29_900, conversion: 170 },
];

/// Whether the dimension knows a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Known,
    /// Has no record in the dimension, ever.
    Unknown,
    Deleted,
}

/// One user as of now.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub region: u16,
    pub partition: u16,
    pub user_partition: u16,
    pub plan: u8,
    pub status: Status,
    /// How far down the funnel: an index that belongs to `sessions`.
    pub stage: u8,
}

/// All users, by number.
#[derive(Debug, Clone)]
pub struct Users {
    pub all: Vec<User>,
    regions: u16,
}

/// A change of one user at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub time_ms: i64,
    pub user: u32,
    pub kind: ChangeKind,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Move { region: u16 },
    Plan { plan: u8 },
    Delete,
    Return,
}

impl Users {
    /// The users at the beginning of the world.
    pub fn new(world: &World) -> Users {
        let unknown = super::random::Chance::of(world.unknown_users);
        let weights = region_weights(world.regions);
        let total: u32 = weights.iter().sum();
        let all = (0..world.users).map(|number| {
            let bits = mix(mix(world.seed) ^ u64::from(number));
            let more = mix(bits);
            let mut id = [0; render::USER_ID_BYTES];
            render::user_id(number, &mut id);
            let hash = murmur2(&id) & 0x7fff_ffff;
            let known = more & 0xffff_ffff >= unknown.parts();
            User {
                region: pick(scale(bits as u32, total), &weights) as u16,
                partition: (hash % world.partitions) as u16,
                user_partition: (hash % world.user_partitions) as u16,
                plan: pick(scale((bits >> 32) as u32, 100), &PLANS.map(|plan| plan.weight)) as u8,
                status: if known { Status::Known } else { Status::Unknown },
                stage: 0,
            }
        });
        Users { all: all.collect(), regions: world.regions }
    }

    /// Brings a change into effect.
    pub fn apply(&mut self, change: &Change) {
        let user = &mut self.all[change.user as usize];
        match change.kind {
            ChangeKind::Move { region } => user.region = region,
            ChangeKind::Plan { plan } => user.plan = plan,
            ChangeKind::Delete => user.status = Status::Deleted,
            ChangeKind::Return => user.status = Status::Known,
        }
    }

    /// The changes of a round in order of time, of users as they stand at its beginning.
    /// There are fewer than asked for only where no known user is left.
    pub fn changes(&self, round: &Round, number: u64) -> Vec<Change> {
        let mut random = Random::new(round.seed, number, Purpose::Changes);
        let mut due: Vec<(i64, Due)> = Vec::new();
        let wanted = [
            (Due::Move, round.moves),
            (Due::Plan, round.plan_changes),
            (Due::Delete, round.deletes),
            (Due::Return, round.deletes / 4),
        ];
        for (kind, count) in wanted {
            for _ in 0..count {
                let at = random.below_u64(round.duration_ms as u64) as i64;
                due.push((round.start_ms + at, kind));
            }
        }
        due.sort_unstable();
        let mut users = self.clone();
        let mut gone = Vec::new();
        let mut changes = Vec::with_capacity(due.len());
        for (time_ms, kind) in due {
            let Some((user, kind)) = users.choose(kind, &mut gone, &mut random) else {
                continue;
            };
            let change = Change { time_ms, user, kind };
            users.apply(&change);
            changes.push(change);
        }
        changes
    }

    fn choose(
        &self,
        due: Due,
        gone: &mut Vec<u32>,
        random: &mut Random,
    ) -> Option<(u32, ChangeKind)> {
        if due == Due::Return {
            if gone.is_empty() {
                return None;
            }
            let index = random.below(gone.len() as u32) as usize;
            return Some((gone.swap_remove(index), ChangeKind::Return));
        }
        let number = self.known(random)?;
        let user = &self.all[number as usize];
        let kind = match due {
            Due::Move => {
                let other = random.below(u32::from(self.regions) - 1) as u16 + 1;
                ChangeKind::Move { region: (user.region + other) % self.regions }
            }
            Due::Plan => {
                let other = random.below(PLANS.len() as u32 - 1) as u8 + 1;
                ChangeKind::Plan { plan: (user.plan + other) % PLANS.len() as u8 }
            }
            Due::Delete | Due::Return => {
                gone.push(number);
                ChangeKind::Delete
            }
        };
        Some((number, kind))
    }

    /// Some user whom the dimension knows: the next one after a random place.
    fn known(&self, random: &mut Random) -> Option<u32> {
        let count = self.all.len() as u32;
        let from = random.below(count);
        (from..count)
            .chain(0..from)
            .find(|&number| self.all[number as usize].status == Status::Known)
    }

    /// How many regions there are.
    pub fn regions(&self) -> u16 {
        self.regions
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Move,
    Plan,
    Delete,
    Return,
}

/// The habits of a region.
#[inline]
pub fn region_of(number: u16) -> &'static Region {
    &REGIONS[usize::from(number) % REGIONS.len()]
}

/// The name of a region, where it has one of its own.
#[inline]
pub fn region_name(number: u16) -> Option<&'static str> {
    REGIONS.get(usize::from(number)).map(|region| region.name)
}

/// The users of each region, as weights.
pub fn region_weights(regions: u16) -> Vec<u32> {
    (0..regions).map(|number| region_of(number).weight).collect()
}

/// The hash by which Kafka's Java client chooses a partition (MurmurHash2, 32 bits, its seed).
/// Source: Austin Appleby's public-domain MurmurHash2.
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
