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
