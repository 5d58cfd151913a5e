//! The figures a run is judged by, and the judgement.

use std::time::Duration;

use crate::engine::{Lane, Plan, Storm};
use crate::tally::{Lag, Second, quantile, ratio};

/// What a run says about one gateway. A figure is `None` where the script or the length of the run does
/// not give it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Good answers in the last ten seconds, as a share of what arrived.
    pub(crate) tail: Option<f64>,
    /// The same from five seconds after the capacity was back above the load.
    pub(crate) recovered: Option<f64>,
    /// Seconds from then to the first in which 95 % were answered well.
    pub(crate) recovery_seconds: Option<u32>,
    /// Good answers at a quarter of the permits or less, as a share of what the upstream could do then.
    pub(crate) squeezed: Option<f64>,
    /// Upstream calls for each request, from two seconds after the upstream died until it came back.
    pub(crate) dead_calls: Option<f64>,
    /// Upstream calls for each request, in the whole run.
    pub(crate) calls: f64,
    pub(crate) refusal_p99: Option<Duration>,
    /// The whole run, as one second.
    pub(crate) total: Second,
}

const TAIL: u32 = 10;
const SETTLE: u32 = 5;

impl Figures {
    /// Takes the figures of a run of `seconds`; one that was cut short, or has no end, has totals only.
    pub(crate) fn of(plan: &Plan, lane: &Lane, seconds: u32) -> Self {
        let end = plan.seconds();
        // Until the last answer is in, a second or two after the last request.
        let total = lane.tally.sum(0, seconds + 3);
        let totals = Self {
            calls: total.calls_per_request(),
            refusal_p99: quantile(&total.refusals, 0.99).map(|us| Duration::from_micros(us.into())),
            total,
            ..Self::default()
        };
        if plan.endless || seconds < end {
            return totals;
        }
        let share = |begin, end| {
            let sum = lane.tally.sum(begin, end);
            (sum.offered > 0).then(|| ratio(sum.kept, sum.offered))
        };
        let load = f64::from(plan.rate);
        let tail_is_healthy = end > TAIL && (end - TAIL..end).all(|s| plan.capacity(s) >= 1.2 * load);
        let tail = if tail_is_healthy { share(end - TAIL, end) } else { None };

        // The first second from which on the capacity stays at or above the load, after it was below.
        let back = (0..end).rev().find(|s| plan.capacity(*s) < load).map(|last_low| last_low + 1);
        let back = back.filter(|back| back + SETTLE < end);
        let recovered = back.and_then(|back| share(back + SETTLE, end));
        let recovery_seconds =
            back.and_then(|back| (back..end).find(|s| share(*s, s + 1) >= Some(0.95)).map(|s| s - back));

        let (mut could, mut did, mut dead) = (0.0, 0, Second::default());
        for (n, phase) in plan.script.phases.iter().enumerate() {
            let (begin, end) = plan.script.span(n);
            let squeezed = phase.share.0 == phase.share.1 && (0.0..=0.25).contains(&phase.share.0);
            // In a shorter one, how the requests that were under way end says more than those that came.
            if squeezed && phase.share.0 > 0.0 && end - begin >= 3 {
                could += plan.capacity(begin) * f64::from(end - begin);
                did += lane.tally.sum(begin, end).kept;
            }
            if phase.share == (0.0, 0.0) && begin + 2 < end {
                let sum = lane.tally.sum(begin + 2, end);
                dead.offered += sum.offered;
                dead.calls += sum.calls;
            }
        }
        Self {
            tail,
            recovered,
            recovery_seconds,
            squeezed: (could > 0.0).then(|| f64::from(did) / could),
            dead_calls: (dead.offered > 0).then(|| dead.calls_per_request()),
            ..totals
        }
    }
}

impl Figures {
    /// How long those waited that were not refused.
    pub(crate) fn wait(&self, q: f64) -> Option<Duration> {
        quantile(&self.total.waits, q).map(|us| Duration::from_micros(us.into()))
    }

    /// How long it took until 95 % were answered well again, or a dash where this run cannot tell.
    pub(crate) fn back(&self) -> String {
        match (self.recovered, self.recovery_seconds) {
            (None, _) => "-".into(),
            (_, None) => "not yet".into(),
            // The second in which it was good is part of the wait.
            (_, Some(seconds)) => format!("{} s", seconds + 1),
        }
    }
}

/// One figure held against what is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) claim: &'static str,
    pub(crate) got: String,
    /// `None`: this run cannot tell.
    pub(crate) holds: Option<bool>,
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match self.holds {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "not judged",
        }
    }
}

/// `12.3 %`, or a dash.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0))
}

/// `0.123`, or a dash.
pub(crate) fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.3}"))
}

/// `1.2 ms`, or a dash.
pub(crate) fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
}

/// Judges a run of both gateways.
pub(crate) fn judge(naive: &Figures, protected: &Figures) -> Vec<Verdict> {
    let verdict = |claim, got, holds| Verdict { claim, got, holds };
    let limit = Duration::from_millis(50);
    let bare = protected.total.bare;
    vec![
        verdict(
            "naive: < 20 % good in the last 10 s, capacity back above 1.2 x load",
            percent(naive.tail),
            naive.tail.map(|share| share < 0.20),
        ),
        verdict(
            "protected: >= 95 % good from 5 s after capacity >= load",
            percent(protected.recovered),
            protected.recovered.map(|share| share >= 0.95),
        ),
        verdict(
            "protected: >= 80 % of the capacity used while there is a fifth of it",
            percent(protected.squeezed),
            protected.squeezed.map(|share| share >= 0.80),
        ),
        verdict(
            "protected: <= 0.05 upstream calls a request, 2 s after its death",
            decimal(protected.dead_calls),
            protected.dead_calls.map(|calls| calls <= 0.05),
        ),
        verdict(
            "protected: <= 1.15 upstream calls a request in the whole run",
            decimal(Some(protected.calls)),
            Some(protected.calls <= 1.15),
        ),
        verdict(
            "protected: refusals answered in < 50 ms (p99)",
            millis(protected.refusal_p99),
            protected.refusal_p99.map(|p99| p99 < limit),
        ),
        verdict(
            "protected: every refusal is a 503 with Retry-After",
            format!("{} with, {bare} without", protected.total.refused),
            (protected.total.refused + bare > 0).then_some(bare == 0),
        ),
    ]
}

/// Why a finished run proves nothing, if it does not.
pub(crate) fn invalid(storm: &Storm) -> Option<String> {
    let p99 = storm.lag.p99();
    (p99 > Lag::LIMIT).then(|| {
        format!(
            "run invalid: the load generator was late, p99 {} (limit {}); the machine is too busy",
            millis(Some(p99)),
            millis(Some(Lag::LIMIT)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::NaiveConfig;
    use crate::script::Script;
    use crate::tally::Fate;
    use crate::upstream::Upstream;
    use crate::wire::{self, Target};

    /// A lane whose requests of each second end as `fate` says, with `calls` upstream calls a second.
    fn lane(plan: &Plan, fate: impl Fn(u32) -> Fate, calls: impl Fn(u32) -> u32) -> Lane {
        let upstream = Upstream::new(1, plan.health(Duration::ZERO));
        let stack = crate::naive::gateway(&plan.naive, wire::direct(upstream.clone()));
        let lane = Lane::new("x", Target::simulated(stack), upstream);
        for second in 0..plan.seconds() {
            let at = Duration::from_secs(second.into());
            for _ in 0..plan.rate {
                lane.tally.arrived(at);
                lane.tally.ended(at, at + Duration::from_millis(20), fate(second));
            }
            lane.tally.second(second.into(), |s| s.calls = calls(second));
        }
        lane
    }

    fn plan() -> Plan {
        let script = "up 2 100 100\nfifth 4 20 100\ndead 4 0 100\nramp 2 30-100 100\nup 13 100 100";
        Plan::new(Script::parse(script).unwrap(), 200, 1, NaiveConfig::default())
    }

    #[test]
    fn figures_are_taken_from_the_seconds_they_are_about() {
        let plan = plan();
        let fate = |second| match second {
            2..6 | 10..14 => Fate::Refused,
            6..10 => Fate::Failed,
            _ => Fate::Good,
        };
        let figures = Figures::of(
            &plan,
            &lane(&plan, fate, |second| if second >= 8 { 5 } else { 300 }),
            plan.seconds(),
        );
        assert_eq!(figures.squeezed, Some(0.0));
        assert_eq!(figures.dead_calls, Some(0.025), "the first two seconds of death do not count");
        // Capacity is at the load from second 11 on (65 % to 100 % of 300): 16 to 25 are judged.
        assert_eq!((figures.recovered, figures.tail), (Some(1.0), Some(1.0)));
        assert_eq!(figures.recovery_seconds, Some(3));
        assert_eq!(figures.refusal_p99, Some(Duration::from_millis(20)));
    }

    #[test]
    fn every_figure_can_be_missed() {
        let plan = plan();
        let good = Figures::of(&plan, &lane(&plan, |_| Fate::Good, |_| 200), plan.seconds());
        let mut bad = Figures::of(&plan, &lane(&plan, |_| Fate::Bare, |_| 300), plan.seconds());
        bad.refusal_p99 = Some(Duration::from_millis(50));
        assert!(judge(&good, &bad).iter().all(|v| v.holds == Some(false)), "{:#?}", judge(&good, &bad));
    }

    #[test]
    fn what_a_script_does_not_contain_is_not_judged() {
        let script = Script::parse("up 20 100 100").unwrap();
        let plan = Plan::new(script, 200, 1, NaiveConfig::default());
        let figures = Figures::of(&plan, &lane(&plan, |_| Fate::Good, |_| 200), plan.seconds());
        assert_eq!((figures.recovered, figures.squeezed, figures.dead_calls), (None, None, None));
        assert_eq!(figures.tail, Some(1.0));
    }
}
