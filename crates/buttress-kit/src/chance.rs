use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Seeded chance for jitter and sampling: lock-free, shared by reference, the same sequence for the same seed.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Not for secrets.
#[derive(Debug)]
pub struct Chance(AtomicU64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Chance {
    /// The sequence that belongs to `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A sequence of its own, different in every process and for every call.
    pub fn random() -> Self {
        Self::seeded(RandomState::new().hash_one(0_u8))
    }

    /// The next 64 random bits.
    pub fn bits(&self) -> u64 {
        let mut z = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number in `0.0..1.0`.
    pub fn unit(&self) -> f64 {
        // 53 bits: as many as an f64 holds exactly.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_sequence_and_no_other() {
        let draw = |chance: Chance| (0..8).map(|_| chance.bits()).collect::<Vec<_>>();
        assert_eq!(draw(Chance::seeded(7)), draw(Chance::seeded(7)));
        assert_ne!(draw(Chance::seeded(7)), draw(Chance::seeded(8)));
        assert_ne!(draw(Chance::random()), draw(Chance::random()));
    }

    #[test]
    fn units_fill_the_interval_evenly() {
        let chance = Chance::seeded(1);
        let draws: Vec<f64> = (0..100_000).map(|_| chance.unit()).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
    }
}
