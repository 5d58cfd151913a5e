//! What each layer is worth: the same storm once more for every layer, without it. Time is paused, so
//! that thirty-five seconds take a fraction of one, and the gateways are called without sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{Blind, End, Lane, Plan, Storm};
use crate::layers::{self, Layer, Layers};
use crate::naive;
use crate::protected::Protected;
use crate::upstream::Upstream;
use crate::verdicts::{Figures, decimal, millis, percent};
use crate::wire::{self, Target};

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: Figures,
}

/// The naive gateway, the whole stack, and the stack without each of its layers in turn.
pub(crate) fn run(plan: &Arc<Plan>) -> Vec<Row> {
    let both = side_by_side(plan);
    let row = |name: &str, storm: &Storm, lane: usize| {
        let figures = Figures::of(plan, &storm.lanes[lane], plan.seconds());
        Row { name: name.into(), figures }
    };
    let mut rows = vec![row("naive", &both, 0), row("protected, whole", &both, 1)];
    let single = Layer::ALL.map(|layer| vec![layer]);
    // These stand in for each other: only without all of them one sees what each is worth.
    let several = [
        vec![Layer::Breaker, Layer::Bulkhead],
        vec![Layer::Breaker, Layer::Bulkhead, Layer::Budget],
        vec![Layer::Deadline, Layer::AttemptTimeout],
    ];
    for taken in single.into_iter().chain(several) {
        let left = taken.iter().fold(Layers::ALL, |left, layer| left.toggled(*layer));
        let storm = simulate(plan, || vec![protected(plan, left)]);
        let names: Vec<_> = taken.iter().map(|layer| layer.name()).collect();
        rows.push(row(&format!("- {}", names.join(" ")), &storm, 0));
    }
    rows
}

/// Both gateways under the same simulated storm.
pub(crate) fn side_by_side(plan: &Arc<Plan>) -> Storm {
    simulate(plan, || {
        let upstream = Upstream::new(plan.seed, plan.health(Duration::ZERO));
        let stack = naive::gateway(&plan.naive, wire::direct(upstream.clone()));
        let naive = Lane::new("naive", Target::simulated(stack), upstream);
        vec![naive, protected(plan, Layers::ALL)]
    })
}

fn protected(plan: &Plan, layers: Layers) -> Lane {
    let upstream = Upstream::new(plan.seed, plan.health(Duration::ZERO));
    let gateway = Protected::new(plan).expect("the settings work, or the real run had not begun");
    let stack = layers::stack(&gateway, layers, wire::direct(upstream.clone()));
    Lane::new("protected", Target::simulated(stack), upstream)
        .with_breaker(move || gateway.breaker.state().as_str())
}

fn simulate(plan: &Arc<Plan>, lanes: impl FnOnce() -> Vec<Lane>) -> Storm {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without sockets needs nothing that could be missing").block_on(async {
        let storm = Storm::new(plan.clone(), lanes());
        let (_running, stop) = watch::channel(false);
        let start = Instant::now();
        let over = async {
            storm.generate(start, stop).await;
            End::Over
        };
        storm.direct(start, &mut Blind, over).await;
        storm
    })
}

/// The table as lines of at most 80 columns.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<25} {:>7} {:>8} {:>8} {:>8} {:>8} {:>9}\n{:<25} {:>7} {:>8} {:>8} {:>8} {:>8} {:>9}\n",
        "simulated",
        "last",
        "of a",
        "calls,",
        "calls,",
        "refused",
        "waited",
        "(paused time)",
        "10 s",
        "fifth",
        "dead",
        "all",
        "p99",
        "p99",
    );
    for Row { name, figures } in rows {
        out += &format!(
            "{name:<25} {:>7} {:>8} {:>8} {:>8} {:>8} {:>9}\n",
            percent(figures.tail),
            percent(figures.squeezed),
            decimal(figures.dead_calls),
            decimal(Some(figures.calls)),
            millis(figures.refusal_p99),
            millis(figures.wait(0.99)),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::NaiveConfig;
    use crate::script::{DEFAULT, Script};
    use crate::verdicts::judge;

    fn plan(seed: u64) -> Arc<Plan> {
        Arc::new(Plan::new(Script::parse(DEFAULT).unwrap(), 200, seed, NaiveConfig::default()))
    }

    fn figures(plan: &Arc<Plan>, without: &[Layer]) -> Figures {
        let left = without.iter().fold(Layers::ALL, |left, layer| left.toggled(*layer));
        let storm = simulate(plan, || vec![protected(plan, left)]);
        Figures::of(plan, &storm.lanes[0], plan.seconds())
    }

    #[test]
    fn every_figure_holds_for_five_seeds() {
        for seed in 1..=5 {
            let plan = plan(seed);
            let storm = side_by_side(&plan);
            let of = |lane: usize| Figures::of(&plan, &storm.lanes[lane], plan.seconds());
            let (naive, protected) = (of(0), of(1));
            assert_eq!(naive.total.offered, protected.total.offered, "the same requests");
            for verdict in judge(&naive, &protected) {
                assert_eq!(verdict.holds, Some(true), "seed {seed}: {verdict:?}");
            }
        }
    }

    #[test]
    fn naive_gateway_comes_back_when_it_is_told_not_to_retry() {
        let mut gentle = Plan::clone(&plan(1));
        gentle.naive = NaiveConfig::parse("retries = 0\ntimeout_ms = 1000").unwrap();
        // No death and no squeeze: one slow phase is all that the default settings need to stay down.
        gentle.script = Script::parse("well 3 100 100\nslow 2 100 250\nwell 20 100 100").unwrap();
        let mut greedy = gentle.clone();
        greedy.naive = NaiveConfig::default();
        let tail = |plan| {
            let plan = Arc::new(plan);
            Figures::of(&plan, &side_by_side(&plan).lanes[0], plan.seconds()).tail.unwrap()
        };
        assert!(tail(gentle) > 0.9);
        assert!(tail(greedy) < 0.2);
    }

    #[test]
    fn each_layer_is_worth_something_where_its_turn_comes() {
        let plan = plan(1);
        let whole = figures(&plan, &[]);
        let dead = |f: &Figures| f.dead_calls.unwrap();
        assert!(figures(&plan, &[Layer::Retry]).tail < whole.tail, "blips reach the clients");
        assert!(
            dead(&figures(&plan, &[Layer::Breaker])) > 10.0 * dead(&whole),
            "a dead upstream is asked on"
        );
        assert!(figures(&plan, &[Layer::Bulkhead]).squeezed < Some(0.5), "a slow one is run over");
        assert!(figures(&plan, &[Layer::AttemptTimeout]).wait(0.99) > whole.wait(0.99));
        let two = [Layer::Breaker, Layer::Bulkhead];
        let three = [Layer::Breaker, Layer::Bulkhead, Layer::Budget];
        assert!(figures(&plan, &two).calls < figures(&plan, &three).calls, "retries multiply");
    }
}
