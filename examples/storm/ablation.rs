//! What the naive gateway suffers from and what each layer of the other is worth: the same storm once more for
//! every cause and every layer, without it. Time is paused, so that thirty-five seconds take a fraction of one,
//! and the gateways are called without sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{Blind, End, Lane, Plan, Storm};
use crate::layers::{self, Layer, Layers};
use crate::naive;
use crate::protected::Protected;
use crate::tally::ratio;
use crate::upstream::{Leavers, Upstream};
use crate::verdicts::Figures;
use crate::wire::{self, Target};

/// One row of a table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: Figures,
}

/// What the simulations say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// The naive gateway, and without what may keep it down.
    pub(crate) causes: Vec<Row>,
    /// The protected gateway, and without some of its layers.
    pub(crate) layers: Vec<Row>,
}

pub(crate) fn run(plan: &Arc<Plan>) -> Tables {
    Tables { causes: causes(plan), layers: layers(plan) }
}

/// What may keep the naive gateway down is its retries, and an upstream that works for clients who left.
fn causes(plan: &Arc<Plan>) -> Vec<Row> {
    let mut gentle = Plan::clone(plan);
    gentle.naive.retries = 0;
    let more = plan.seconds();
    let longer = |plan: &Plan| {
        let mut plan = plan.clone();
        plan.script.phases.last_mut().expect("a script has phases").seconds += more;
        plan
    };
    let runs = [
        ("as it is".to_owned(), Plan::clone(plan), Leavers::Served),
        (format!("as it is, {more} s longer"), longer(plan), Leavers::Served),
        ("without retries".to_owned(), gentle.clone(), Leavers::Served),
        (format!("without retries, {more} s longer"), longer(&gentle), Leavers::Served),
        ("its upstream drops who left".to_owned(), Plan::clone(plan), Leavers::Dropped),
        ("its upstream drops who left, without retries".to_owned(), gentle, Leavers::Dropped),
    ];
    // Of a gateway that was told not to retry, three rows would say what the other three do.
    let runs =
        runs.into_iter().filter(|(name, ..)| plan.naive.retries > 0 || !name.contains("without retries"));
    let rows = runs.map(|(name, plan, leavers)| {
        let plan = Arc::new(plan);
        let storm = simulate(&plan, || vec![naive(&plan, leavers)]);
        Row { name, figures: Figures::of(&plan, &storm.lanes[0], plan.seconds()) }
    });
    rows.collect()
}

/// What follows from [`Tables::causes`], of a gateway that stays down; `None` where nothing does.
pub(crate) fn conclusion(causes: &[Row]) -> Option<String> {
    let [as_it_is, longer, gentle, gentle_longer, noticed, both] = causes else { return None };
    let back = |row: &Row| row.figures.recovery_seconds.map(|_| row.figures.back());
    if back(as_it_is).is_some() {
        return None;
    }
    let mut out = match (back(gentle), back(noticed), back(both)) {
        (None, None, Some(after)) => format!(
            "Each of the two is enough to keep it down in this run; without both it is back after {after}."
        ),
        (Some(after), None, _) => format!("The retries keep it down: without them it is back after {after}."),
        (None, Some(after), _) => {
            format!("The work for nobody keeps it down: without that it is back after {after}.")
        }
        (Some(one), Some(other), _) => format!(
            "It takes both to keep it down: without retries it is back after {one}, and with an upstream that \
             notices after {other}."
        ),
        (None, None, None) => return None,
    };
    if let (None, Some(after)) = (back(longer), back(gentle_longer)) {
        out += &format!(
            " But without retries the queue comes to an end: in a longer run it is back after {after}. With them it \
             does not."
        );
    }
    Some(out)
}

/// The naive gateway, the whole stack, and the stack without each of its layers in turn.
fn layers(plan: &Arc<Plan>) -> Vec<Row> {
    let both = side_by_side(plan);
    let row = |name: String, storm: &Storm, lane: usize| {
        let figures = Figures::of(plan, &storm.lanes[lane], plan.seconds());
        Row { name, figures }
    };
    let mut rows = vec![row("naive".into(), &both, 0), row("protected".into(), &both, 1)];
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
        rows.push(row(format!("without {}", names.join(", ")), &storm, 0));
    }
    rows
}

/// Both gateways under the same simulated storm.
pub(crate) fn side_by_side(plan: &Arc<Plan>) -> Storm {
    simulate(plan, || vec![naive(plan, Leavers::Served), protected(plan, Layers::ALL)])
}

fn naive(plan: &Plan, leavers: Leavers) -> Lane {
    let upstream = Upstream::with(plan.seed, plan.health(Duration::ZERO), leavers);
    let stack = naive::gateway(&plan.naive, wire::direct(upstream.clone()));
    Lane::new("naive", Target::simulated(stack), upstream)
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

/// A table as it is printed and as it stands in the report: the heads of its columns, in two lines, and the cells of a
/// row. Units are in the heads, so that the numbers are short.
pub(crate) struct Columns<const N: usize> {
    pub(crate) heads: [[&'static str; 2]; N],
    pub(crate) cells: fn(&Figures) -> [String; N],
}

/// Of [`Tables::causes`].
pub(crate) const CAUSES: Columns<4> = Columns {
    heads: [["good at", "end, %"], ["back", "after"], ["longest", "queue"], ["work for", "nobody, %"]],
    cells: |f| {
        let nobody = (f.total.done > 0).then(|| ratio(f.total.wasted, f.total.done));
        [percent(f.tail), f.back(), f.total.queued.to_string(), percent(nobody)]
    },
};

/// Of [`Tables::layers`].
pub(crate) const LAYERS: Columns<6> = Columns {
    heads: [
        ["good at", "end, %"],
        ["capacity", "used, %"],
        ["calls,", "dead"],
        ["calls,", "all"],
        ["refused", "p99, ms"],
        ["waited", "p99, ms"],
    ],
    cells: |f| {
        [
            percent(f.tail),
            percent(f.squeezed),
            number(f.dead_calls, 3),
            number(Some(f.calls), 3),
            millis(f.refusal_p99),
            millis(f.wait(0.99)),
        ]
    },
};

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.decimals$}"))
}

fn percent(share: Option<f64>) -> String {
    number(share.map(|share| share * 100.0), 1)
}

fn millis(time: Option<Duration>) -> String {
    number(time.map(|time| time.as_secs_f64() * 1e3), 0)
}

/// A table as lines, of at most 80 columns with the names there are.
pub(crate) fn lines<const N: usize>(title: &str, columns: &Columns<N>, rows: &[Row]) -> String {
    let name = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let cells: Vec<[String; N]> = rows.iter().map(|row| (columns.cells)(&row.figures)).collect();
    let width = |column: usize| {
        let heads = columns.heads[column].map(str::len).into_iter();
        heads.chain(cells.iter().map(|cells| cells[column].len())).max().unwrap_or(0)
    };
    let line = |name_of: &str, cells: [&str; N]| {
        let mut line = format!("{name_of:<name$}");
        for (column, cell) in cells.into_iter().enumerate() {
            line += &format!(" {cell:>width$}", width = width(column));
        }
        line + "\n"
    };
    let mut out = line(title, columns.heads.map(|head| head[0]));
    out += &line("", columns.heads.map(|head| head[1]));
    for (row, cells) in rows.iter().zip(&cells) {
        out += &line(&row.name, cells.each_ref().map(String::as_str));
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

    // What the report says, and once said of `retries = 0` without having tried it.
    #[test]
    fn naive_gateway_stays_down_by_its_retries_as_by_work_for_clients_who_left() {
        let rows = causes(&plan(1));
        let back: Vec<String> = rows.iter().map(|row| row.figures.back()).collect();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names[2..4], ["without retries", "without retries, 35 s longer"]);
        assert_eq!(back[..3], ["not yet"; 3]);
        // The queue is as long as the run, but it ends.
        let seconds = rows[3].figures.recovery_seconds.unwrap();
        assert!((15..25).contains(&seconds), "{seconds}");
        assert_eq!((back[4].as_str(), back[5].as_str()), ("not yet", "1 s"));
        assert!(rows[0].figures.total.wasted > rows[0].figures.total.done / 2);
        let said = conclusion(&rows).unwrap();
        assert!(said.starts_with("Each of the two is enough") && said.contains("without both"), "{said}");
        assert!(said.contains("But without retries the queue comes to an end"), "{said}");
        assert_eq!(rows[4].figures.total.wasted, 0);
    }

    // At 150 requests a second there is more room: the upstream serves 250.
    #[test]
    fn naive_gateway_without_retries_comes_back_where_there_is_time_to_work_off_its_queue() {
        let mut roomy = Plan::new(Script::parse(DEFAULT).unwrap(), 150, 1, NaiveConfig::default());
        roomy.naive.retries = 0;
        let roomy = Arc::new(roomy);
        let figures = |plan: &Arc<Plan>| {
            let storm = simulate(plan, || vec![naive(plan, Leavers::Served)]);
            Figures::of(plan, &storm.lanes[0], plan.seconds())
        };
        assert!(figures(&roomy).recovery_seconds.is_some());
    }

    #[test]
    fn tables_fit_80_columns() {
        // A quarter of the usual load takes a quarter of the time.
        let plan = Plan::new(Script::parse(DEFAULT).unwrap(), 50, 1, NaiveConfig::default());
        let tables = run(&Arc::new(plan));
        let printed =
            lines("naive, simulated", &CAUSES, &tables.causes) + &lines("simulated", &LAYERS, &tables.layers);
        for line in printed.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert_eq!(printed.lines().count(), 2 + 6 + 2 + 11);
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
