//! What a storm says about a stack.

use std::time::Duration;

use crate::{load::Weather, server::CAPACITY};

/// All is counted by slots of time, so that any second can be looked at, not only those that begin on a full one.
pub(crate) const SLOT: Duration = Duration::from_millis(100);
const SLOTS: usize = 10;

pub(crate) fn slot_of(at: Duration) -> usize {
    (at.as_millis() / SLOT.as_millis()) as usize
}

/// What was counted, by slot.
#[derive(Default)]
pub(crate) struct Counts {
    /// Calls that were made.
    pub(crate) asked: Vec<u32>,
    /// Of *these*: answered well, whenever that was.
    pub(crate) kept: Vec<u32>,
    /// Attempts that arrived at the server.
    pub(crate) sent: Vec<u32>,
}

pub(crate) struct Figures {
    weather: Weather,
    counts: Counts,
    openings: u32,
}

impl Figures {
    pub(crate) fn new(weather: Weather, counts: Counts, openings: u32) -> Self {
        Self { weather, counts, openings }
    }

    /// Seconds from the end of the trigger to the first five in which 95 % of the calls were answered well.
    pub(crate) fn recovery(&self) -> Option<u64> {
        let (end, last) = (self.weather.end, self.weather.seconds - 5);
        (end..=last).find(|second| self.goodput(*second, second + 5) >= 0.95).map(|second| second - end)
    }

    /// Attempts for each call in the minute after the trigger.
    pub(crate) fn amplification(&self) -> f64 {
        let end = self.weather.end;
        let after = seconds(end, end + 60);
        sum(&self.counts.sent, after.clone()) / sum(&self.counts.asked, after)
    }

    /// The most attempts for each call in any second from the beginning of the trigger on.
    pub(crate) fn peak(&self) -> f64 {
        self.highest(self.weather.begin, self.weather.seconds, |second| sum(&self.counts.asked, second))
    }

    /// The most attempts for each that the server could have served, in any second of the minute after the trigger.
    pub(crate) fn over(&self) -> f64 {
        let could = |slot: usize| self.weather.share(slot as f64 / SLOTS as f64) * CAPACITY / SLOTS as f64;
        self.highest(self.weather.end, self.weather.end + 60, |second| second.map(could).sum())
    }

    /// The share of the calls of the last minute that was answered well.
    pub(crate) fn last_minute(&self) -> f64 {
        self.goodput(self.weather.seconds - 60, self.weather.seconds)
    }

    /// How often the closed circuit of one client opened, on average.
    pub(crate) fn openings(&self) -> f64 {
        f64::from(self.openings) / self.weather.clients as f64
    }

    fn goodput(&self, begin: u64, end: u64) -> f64 {
        let slots = seconds(begin, end);
        sum(&self.counts.kept, slots.clone()) / sum(&self.counts.asked, slots)
    }

    /// The highest ratio of the attempts of a second to `to`, over all seconds from `begin` to `end`.
    fn highest(&self, begin: u64, end: u64, to: impl Fn(std::ops::Range<usize>) -> f64) -> f64 {
        let slots = seconds(begin, end);
        let ratio = |slot| {
            let second = slot..slot + SLOTS;
            sum(&self.counts.sent, second.clone()) / to(second)
        };
        (slots.start..=slots.end - SLOTS).map(ratio).fold(0.0, f64::max)
    }
}

/// The slots of some seconds, end excluded.
fn seconds(begin: u64, end: u64) -> std::ops::Range<usize> {
    begin as usize * SLOTS..end as usize * SLOTS
}

/// Beyond the last slot nothing was counted.
fn sum(column: &[u32], slots: std::ops::Range<usize>) -> f64 {
    column.iter().skip(slots.start).take(slots.len()).map(|n| f64::from(*n)).sum()
}
