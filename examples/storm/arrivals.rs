//! Open-loop arrivals: when each request is due is settled before the first is sent. A slow answer
//! delays nobody behind it, as with real users who do not know of each other.

use std::time::Duration;

use crate::chance::Chance;

/// Poisson arrivals at `per_second`: the times, since the start, at which requests are due.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    chance: Chance,
    per_second: f64,
    /// Seconds since the start; absolute, so that errors do not add up.
    at: f64,
    end: f64,
}

impl Arrivals {
    pub(crate) fn new(seed: u64, per_second: u32, end: Duration) -> Self {
        let (chance, per_second) = (Chance::new(seed), f64::from(per_second));
        Self { chance, per_second, at: 0.0, end: end.as_secs_f64() }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // Exponential gaps; `1 - u` is never zero, so the logarithm is finite.
        self.at += -(1.0 - self.chance.unit()).ln() / self.per_second;
        if self.at >= self.end {
            return None;
        }
        Duration::try_from_secs_f64(self.at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_is_seeded_ordered_and_close_to_the_rate() {
        let all = |seed| Arrivals::new(seed, 200, Duration::from_secs(60)).collect::<Vec<_>>();
        let one = all(1);
        assert_eq!(one, all(1));
        assert_ne!(one, all(2));
        assert!(one.windows(2).all(|w| w[0] <= w[1]));
        assert!(one.last().unwrap() < &Duration::from_secs(60));
        // 12 000 expected, standard deviation 110.
        assert!((11_500..12_500).contains(&one.len()), "{}", one.len());
    }

    #[test]
    fn gaps_are_exponential_not_even() {
        let due: Vec<_> = Arrivals::new(3, 100, Duration::from_secs(100)).collect();
        let gaps: Vec<f64> = due.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let variation = variance.sqrt() / mean;
        assert!((0.9..1.1).contains(&variation), "coefficient of variation {variation}");
    }
}
