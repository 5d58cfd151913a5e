//! The run as one HTML page: no script, nothing to load, to be opened, mailed and kept.

use std::fmt::Write;

use crate::ablation::Row;
use crate::engine::{Plan, Storm};
use crate::summary;
use crate::svg::{Axis, Series, escape, plot};
use crate::tally::{Second, quantile};
use crate::verdicts::{Figures, Verdict, decimal, millis, percent};

/// What the page tells.
pub(crate) struct Report<'a> {
    pub(crate) storm: &'a Storm,
    /// Whole seconds that were run.
    pub(crate) seconds: u32,
    pub(crate) naive: &'a Figures,
    pub(crate) protected: &'a Figures,
    pub(crate) verdicts: &'a [Verdict],
    pub(crate) ablation: &'a [Row],
    /// What the reader must know before believing the rest.
    pub(crate) warnings: Vec<String>,
    pub(crate) simulated: bool,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1b1b1f;--bg:#fff;--dim:#667;--band:#f1f2f5;--line:#dde;--bad:#c2410c;--good:#0f766e;--warn:#b45309}\
@media(prefers-color-scheme:dark){:root{--fg:#e6e6ea;--bg:#16171a;--dim:#99a;--band:#202227;--line:#333640;--bad:#fb923c;--good:#2dd4bf;--warn:#fbbf24}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:760px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
td,th{padding:.2rem .5rem;border-bottom:1px solid var(--line);text-align:right}td:first-child,th:first-child{text-align:left}\
figure{margin:1.5rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}.even{fill:var(--band)}.odd{fill:none}\
text{font:10px system-ui,sans-serif;fill:var(--dim)}.scale{text-anchor:end}.grid{stroke:var(--line)}\
path{fill:none;stroke-width:2;stroke-linejoin:round}path.naive{stroke:var(--bad)}path.protected{stroke:var(--good)}\
path.naive-low{stroke:var(--bad);stroke-dasharray:4 3}path.protected-low{stroke:var(--good);stroke-dasharray:4 3}\
path.capacity{stroke:var(--dim);stroke-dasharray:2 3}.key{display:inline-block;width:1.6em;border-top:3px solid;margin:0 .35em .25em 1em}\
.key.naive{border-color:var(--bad)}.key.protected{border-color:var(--good)}.key.naive-low{border-color:var(--bad);border-top-style:dashed}\
.key.protected-low{border-color:var(--good);border-top-style:dashed}.key.capacity{border-color:var(--dim);border-top-style:dotted}\
.legend{margin:.2rem 0;color:var(--dim);font-size:.85rem}.state.closed{fill:var(--good)}.state.open{fill:var(--bad)}.state.half_open{fill:var(--warn)}\
.box{border:1px solid var(--line);background:var(--band);padding:.6rem 1rem;border-radius:6px}.MISSED,.alarm{color:var(--bad);font-weight:600}.ok{color:var(--good)}\
pre{background:var(--band);padding:.8rem;overflow:auto;font-size:12px;line-height:1.4}";

impl Report<'_> {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let plan = &self.storm.plan;
        let mut out = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>storm, seed {0}</title><style>{STYLE}</style></head><body>\
             <h1>storm: two gateways, one failing upstream each</h1>\
             <p>{1} requests/s to each for {2} s, seed {0}{3}. The same arrivals, the same script, upstreams \
             of {4} permits × {5} ms = {6:.0} requests/s.</p>\n",
            plan.seed,
            plan.rate,
            self.seconds,
            if self.simulated { ", simulated in paused time without sockets" } else { "" },
            plan.permits,
            plan.usual().as_millis(),
            plan.healthy_capacity(),
        );
        for warning in &self.warnings {
            let _ = writeln!(out, "<p class=\"alarm\">{}</p>", escape(warning));
        }
        self.comparison(&mut out);
        self.plots(&mut out);
        self.not_rigged(&mut out);
        self.ablation(&mut out);
        self.settings(&mut out);
        out.push_str("</body></html>\n");
        out
    }

    fn comparison(&self, out: &mut String) {
        out.push_str("<h2>Side by side</h2><table><tr><th></th><th>naive</th><th>protected</th></tr>\n");
        for [what, one, two] in summary::rows(self.naive, self.protected) {
            let _ = writeln!(out, "<tr><td>{what}</td><td>{one}</td><td>{two}</td></tr>");
        }
        out.push_str("</table><h2>Verdicts</h2><table>\n");
        for verdict in self.verdicts {
            let word = verdict.word();
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td class=\"{word}\">{word}</td></tr>",
                escape(verdict.claim),
                escape(&verdict.got)
            );
        }
        out.push_str("</table>\n");
    }

    fn plots(&self, out: &mut String) {
        let plan = &self.storm.plan;
        let axis = axis(plan, self.seconds);
        let lanes: Vec<Vec<Second>> = self
            .storm
            .lanes
            .iter()
            .map(|lane| (0..self.seconds).map(|s| lane.tally.get(s)).collect())
            .collect();
        let series = |name, class, lane: usize, of: &dyn Fn(&Second) -> Option<f64>| Series {
            name,
            class,
            values: lanes[lane].iter().map(of).collect(),
        };
        let good = |s: &Second| Some(f64::from(s.good));
        let capacity = (0..self.seconds).map(|s| Some(plan.capacity(s))).collect();
        let capacity = Series { name: "capacity of the upstream", class: "capacity", values: capacity };
        let load = f64::from(plan.rate);
        let both = [series("naive", "naive", 0, &good), series("protected", "protected", 1, &good), capacity];
        out.push_str("<h2>Second by second</h2>\n");
        out.push_str(&plot("Goodput: good answers per second", &axis, &both, load, &[]));

        let calls = |s: &Second| (s.offered > 0).then(|| s.calls_per_request());
        let both = [series("naive", "naive", 0, &calls), series("protected", "protected", 1, &calls)];
        out.push_str(&plot("Upstream calls for each request", &axis, &both, 1.0, &[]));

        let wait = |q| move |s: &Second| quantile(&s.waits, q).map(|us| f64::from(us) / 1e3);
        let all = [
            series("naive p99", "naive", 0, &wait(0.99)),
            series("naive p50", "naive-low", 0, &wait(0.5)),
            series("protected p99", "protected", 1, &wait(0.99)),
            series("protected p50", "protected-low", 1, &wait(0.5)),
        ];
        let title = format!(
            "Latency in ms, refusals apart; a client that gives up counts {} ms",
            plan.patience.as_millis()
        );
        out.push_str(&plot(&title, &axis, &all, plan.patience.as_millis() as f64, &[]));

        let queue = |s: &Second| Some(s.queued as f64);
        let both = [series("naive", "naive", 0, &queue), series("protected", "protected", 1, &queue)];
        out.push_str(&plot("Requests waiting in the upstream's queue", &axis, &both, 10.0, &[]));

        let refused = |s: &Second| Some(f64::from(s.refused));
        let one = [series("refused per second", "protected", 1, &refused)];
        let states: Vec<&str> = lanes[1].iter().map(|s| s.breaker).collect();
        let title = "Protected: refusals, and the breaker below (green closed, amber half-open, red open)";
        out.push_str(&plot(title, &axis, &one, load, &states));
    }

    fn not_rigged(&self, out: &mut String) {
        let plan = &self.storm.plan;
        let tries = plan.naive.retries + 1;
        let calls = plan.rate * tries;
        let healthy = plan.healthy_capacity();
        let relation = if f64::from(calls) > healthy { "&gt;" } else { "&le;" };
        let lag = if self.simulated {
            "Time was simulated, so the load generator could not be late.".to_owned()
        } else {
            format!(
                "The load generator was late by {} at the 99th percentile; above 10 ms the run is invalid.",
                millis(Some(self.storm.lag.p99()))
            )
        };
        let _ = writeln!(
            out,
            "<h2>Why this is not rigged</h2><div class=\"box\"><ul>\
             <li>{lag}</li>\
             <li>Both gateways get the same requests at the same times, and each has an upstream of its own that \
             plays the same script. Capacity is permits and sleeping: neither slows the other down.</li>\
             <li>The arithmetic: load × tries = {} × {tries} = {calls} calls/s {relation} {healthy:.0} calls/s, \
             the capacity of the healthy upstream. Once every try times out in the queue, the queue is fed \
             faster than a healthy upstream can empty it; that the cause has gone does not help.</li>\
             <li>Tune the loser: <code>--naive FILE</code> with <code>timeout_ms</code>, <code>retries</code>, \
             <code>backoff_ms</code>, <code>backoff_factor</code>. With <code>retries = 0</code> it may well \
             come back.</li></ul></div>",
            plan.rate,
        );
    }

    fn ablation(&self, out: &mut String) {
        if self.ablation.is_empty() {
            return;
        }
        out.push_str(
            "<h2>What each layer is worth</h2><p>The same storm in paused time, without sockets, one layer \
             taken out in each row.</p><table><tr><th></th><th>good, last 10 s</th><th>of a fifth of the \
             capacity</th><th>calls/request, dead</th><th>calls/request, all</th><th>refused p99</th>\
             <th>waited p99</th></tr>\n",
        );
        for Row { name, figures } in self.ablation {
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(name),
                percent(figures.tail),
                percent(figures.squeezed),
                decimal(figures.dead_calls),
                decimal(Some(figures.calls)),
                millis(figures.refusal_p99),
                millis(figures.wait(0.99)),
            );
        }
        out.push_str("</table>\n");
    }

    fn settings(&self, out: &mut String) {
        let plan = &self.storm.plan;
        let naive = &plan.naive;
        let _ = writeln!(
            out,
            "<h2>Settings</h2><p>Naive</p><pre>timeout_ms = {}\nretries = {}\nbackoff_ms = {}\nbackoff_factor = {}</pre>\
             <p>Protected: the source of its stack</p><pre>{}</pre><p>Script</p><pre>",
            naive.timeout.as_millis(),
            naive.retries,
            naive.backoff.as_millis(),
            naive.backoff_factor,
            escape(include_str!("protected.rs")),
        );
        for phase in &plan.script.phases {
            let (from, to) = (phase.share.0 * 100.0, phase.share.1 * 100.0);
            let share = if from == to { format!("{from:.0}") } else { format!("{from:.0}-{to:.0}") };
            let _ = writeln!(
                out,
                "{:<12} {:>4} s {share:>7} % of the permits {:>5} ms",
                escape(&phase.name),
                phase.seconds,
                phase.service.as_millis()
            );
        }
        let _ = writeln!(
            out,
            "</pre><p>Versions: buttress {}, {}; {} {}; {} processors; seed {}.</p>",
            env!("CARGO_PKG_VERSION"),
            versions(include_str!("../../Cargo.lock"), &["tower", "axum", "hyper", "hyper-util", "tokio"]),
            std::env::consts::OS,
            std::env::consts::ARCH,
            std::thread::available_parallelism().map_or(0, |n| n.get()),
            plan.seed,
        );
    }
}

fn axis(plan: &Plan, seconds: u32) -> Axis<'_> {
    let phases = plan.script.phases.iter().enumerate().map(|(n, phase)| {
        let (begin, end) = plan.script.span(n);
        (phase.name.as_str(), begin, end.min(seconds))
    });
    Axis { seconds, phases: phases.filter(|(_, begin, end)| begin < end).collect() }
}

/// What the lock file says of `names`.
fn versions(lock: &str, names: &[&str]) -> String {
    let version = |name: &&str| {
        let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?.1;
        Some(format!("{name} {}", entry.split('"').next()?))
    };
    names.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tower-layer\"\nversion = \"0.3.3\"\n\n[[package]]\nname = \"tower\"\nversion = \"0.5.2\"\n";
        assert_eq!(versions(lock, &["tower", "absent"]), "tower 0.5.2");
    }
}
