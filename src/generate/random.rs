//! Random numbers that are the same on every machine and in every version: integers only.
//!
//! `Xoshiro256PlusPlus`, seeded through SplitMix64, gives the bits; ranges, chances and waiting times are
//! derived here, since a library's derivations may change between versions and `ln` differs between machines.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is used for. Streams are independent of each other, so that
/// more duplicates don't change who does what.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Who moves, upgrades or leaves, and when.
    Changes = 1,
    /// Sessions and what happens in them.
    Behaviour = 2,
    /// Which records are copied, delayed or broken.
    Faults = 3,
    /// Event and session ids.
    Ids = 4,
}

/// A stream of random integers.
#[derive(Debug, Clone)]
pub struct Random(Xoshiro256PlusPlus);

/// A probability in parts of 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u64);

impl Random {
    /// The stream of `seed` for one purpose in one round.
    pub fn new(seed: u64, round: u64, purpose: Purpose) -> Random {
        let start = mix(mix(seed).wrapping_add(mix(round << 8 | purpose as u64)));
        Random(Xoshiro256PlusPlus::seed_from_u64(start))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `[0, bound)`; the bias is below 2⁻³² × `bound`.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        scale((self.bits() >> 32) as u32, bound)
    }

    /// A number in `[0, bound)` for bounds of any size.
    #[inline]
    pub fn below_u64(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether something of this chance happens.
    #[inline]
    pub fn happens(&mut self, chance: Chance) -> bool {
        self.bits() >> 32 < chance.0
    }

    /// A waiting time of the given mean, close to exponential: `-log2(u)` with the logarithm
    /// of the fraction drawn as a straight line, in integers.
    #[inline]
    pub fn waiting(&mut self, mean: u64) -> u64 {
        let bits = self.bits() | 1;
        let zeros = u64::from(bits.leading_zeros());
        let fraction = if zeros >= 63 { 0 } else { (bits << (zeros + 1)) >> 48 };
        let halvings = ((zeros + 1) << 16) - fraction;
        // The mean of `halvings` is 1.5 × 2¹⁶: the mean of the geometric part is 2, of the fraction ½.
        ((u128::from(mean) * u128::from(halvings)) / 98_304) as u64
    }

    /// An index into `weights`, in proportion to them.
    #[inline]
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u32 = weights.iter().sum();
        pick(self.below(total), weights)
    }
}

impl Chance {
    /// A chance from a share in `[0, 1]`.
    pub fn of(share: f64) -> Chance {
        Chance((share.clamp(0.0, 1.0) * 4_294_967_296.0) as u64)
    }

    /// A chance from parts in 10,000, at most all of them.
    pub const fn per_10_000(parts: u64) -> Chance {
        let parts = if parts > 10_000 { 10_000 } else { parts };
        Chance((parts << 32) / 10_000)
    }

    /// This chance in parts of 2³².
    #[inline]
    pub fn parts(self) -> u64 {
        self.0
    }
}

/// SplitMix64's finaliser: a well-mixed function of all bits.
#[inline]
pub fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `bits / 2³² × bound`, rounded down.
#[inline]
pub fn scale(bits: u32, bound: u32) -> u32 {
    ((u64::from(bits) * u64::from(bound)) >> 32) as u32
}

/// The index whose share of the summed weights holds `point`.
#[inline]
pub fn pick(mut point: u32, weights: &[u32]) -> usize {
    for (index, &weight) in weights.iter().enumerate() {
        if point < weight {
            return index;
        }
        point -= weight;
    }
    weights.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_fixed() {
        let mut random = Random::new(1, 0, Purpose::Ids);
        let drawn: Vec<u32> = (0..6).map(|_| random.below(1000)).collect();
        let mut again = Random::new(1, 0, Purpose::Ids);
        assert_eq!(drawn, (0..6).map(|_| again.below(1000)).collect::<Vec<_>>());
        let mut other = Random::new(1, 1, Purpose::Ids);
        assert_ne!(drawn, (0..6).map(|_| other.below(1000)).collect::<Vec<_>>());
    }

    #[test]
    fn waiting_times_have_their_mean() {
        let mut random = Random::new(7, 0, Purpose::Behaviour);
        let total: u64 = (0..100_000).map(|_| random.waiting(1_000_000)).sum();
        let mean = total / 100_000;
        assert!((980_000..1_020_000).contains(&mean), "{mean}");
    }

    #[test]
    fn chances_happen_as_often_as_they_say() {
        let mut random = Random::new(3, 0, Purpose::Faults);
        let chance = Chance::of(0.05);
        let hits = (0..100_000).filter(|_| random.happens(chance)).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| random.happens(Chance::of(1.0))));
        assert!((0..1000).all(|_| !random.happens(Chance::of(0.0))));
    }

    #[test]
    fn weights_are_kept() {
        let mut random = Random::new(3, 0, Purpose::Faults);
        let mut counts = [0; 3];
        for _ in 0..60_000 {
            counts[random.weighted(&[1, 2, 3])] += 1;
        }
        assert!((9_500..10_500).contains(&counts[0]) && (29_000..31_000).contains(&counts[2]));
    }
}
