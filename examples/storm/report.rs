//! The run as one HTML page: no script, nothing to load, to be opened, mailed and kept. It is read on telephones too:
//! text keeps its size, numbers do not wrap, and nothing is told by colour alone.

use std::fmt::Write;

use crate::ablation::{CAUSES, Columns, LAYERS, Row, Tables, conclusion};
use crate::engine::{Plan, Storm};
use crate::summary;
use crate::svg::{Axis, Series, escape, plot, tight};
use crate::tally::{Second, quantile};
use crate::verdicts::{Figures, Verdict, millis, percent};

/// What the page tells.
pub(crate) struct Report<'a> {
    pub(crate) storm: &'a Storm,
    /// Whole seconds that were run.
    pub(crate) seconds: u32,
    pub(crate) naive: &'a Figures,
    pub(crate) protected: &'a Figures,
    pub(crate) verdicts: &'a [Verdict],
    pub(crate) tables: &'a Tables,
    /// What the reader must know before believing the rest.
    pub(crate) warnings: Vec<String>,
    pub(crate) simulated: bool,
}

impl Report<'_> {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let plan = &self.storm.plan;
        let mut out = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>storm, seed {}</title><style>{}</style></head><body>\n",
            plan.seed,
            include_str!("report.css"),
        );
        for warning in &self.warnings {
            let _ = writeln!(out, "<p class=\"alarm\">{}</p>", escape(warning));
        }
        let headline = summary::headline(self.naive, self.protected);
        let headline =
            headline.unwrap_or_else(|| "Two gateways, and before each the same failing upstream.".into());
        let _ = writeln!(out, "<h1>{}</h1>", tight(&escape(&headline)));
        let lanes: Vec<Vec<Second>> = self
            .storm
            .lanes
            .iter()
            .map(|lane| (0..self.seconds).map(|s| lane.tally.get(s)).collect())
            .collect();
        self.goodput(&mut out, &lanes);
        let setting = format!(
            "{} requests a second to each gateway for {} s, seed {}{}: the same arrivals, and an \
             upstream each that plays the same script, with {} permits × {} ms = {:.0} requests a second when \
             healthy. Clients wait {} ms.",
            plan.rate,
            self.seconds,
            plan.seed,
            if self.simulated { ", simulated in paused time without sockets" } else { "" },
            plan.permits,
            plan.usual().as_millis(),
            plan.healthy_capacity(),
            plan.patience.as_millis(),
        );
        let _ = writeln!(out, "<p class=\"small\">{}</p>", tight(&setting));
        self.causes(&mut out);
        self.comparison(&mut out);
        self.plots(&mut out, &lanes);
        self.layers(&mut out);
        self.not_rigged(&mut out);
        self.settings(&mut out);
        out.push_str("</body></html>\n");
        out
    }

    /// The picture of the first sentence.
    fn goodput(&self, out: &mut String, lanes: &[Vec<Second>]) {
        let plan = &self.storm.plan;
        let good = |s: &Second| Some(f64::from(s.good));
        let capacity = (0..self.seconds).map(|s| Some(plan.capacity(s))).collect();
        let title = match (self.naive.tail, self.protected.tail) {
            (Some(_), Some(_)) => format!(
                "Good answers a second; of the last 10 s, {} and {} of the requests",
                percent(self.naive.tail),
                percent(self.protected.tail)
            ),
            _ => "Good answers a second".into(),
        };
        let all = [
            Series { name: "what the upstream could do", class: "capacity", values: capacity },
            series("naive", "naive", &lanes[0], &good),
            series("protected", "protected", &lanes[1], &good),
        ];
        out.push_str(&plot(&title, &axis(plan, self.seconds), &all, plan.rate.into(), &[]));
    }

    fn causes(&self, out: &mut String) {
        let plan = &self.storm.plan;
        let total = &self.naive.total;
        let tries = plan.naive.retries + 1;
        let heading = match (self.naive.recovered, self.naive.recovery_seconds) {
            (Some(_), None) => "Why the naive one stays down",
            _ => "What keeps the naive one down",
        };
        let _ = writeln!(
            out,
            "<h2>{heading}</h2><p>Its upstream never notices that a client has given up. First come, first served, it \
             works through a queue of requests whose clients have left, while those who still wait stand behind \
             them and give up in their turn: of {} calls that it worked off, {} were for nobody, and the queue grew \
             to {}.</p>",
            total.done, total.wasted, total.queued,
        );
        if tries > 1 {
            let _ = writeln!(
                out,
                "<p>And every call that times out there is made again, up to {} times: load × tries = {} × {tries} = \
                 {} calls a second, of which a healthy upstream serves {:.0}.</p>",
                plan.naive.retries,
                plan.rate,
                plan.rate * tries,
                plan.healthy_capacity(),
            );
        }
        if self.tables.causes.is_empty() {
            return;
        }
        let question = if tries > 1 { "Which of the two is the cause?" } else { "Is that the cause?" };
        let _ = writeln!(
            out,
            "<p>{question} The same storm in paused time, without sockets, and without what may be:</p>"
        );
        table(out, "naive gateway", &CAUSES, &self.tables.causes);
        if let Some(conclusion) = conclusion(&self.tables.causes) {
            let _ = writeln!(out, "<p>{}</p>", tight(&conclusion));
        }
        out.push_str(
            "<p class=\"small\">Good at the end: answered well, of the requests of the last 10 s. Back: in the first \
             second of which 95 % were answered well, from when the capacity is above the load again. Longer: as \
             many seconds more of the script's last phase.</p>\n",
        );
    }

    fn comparison(&self, out: &mut String) {
        out.push_str("<h2>Side by side</h2><table><tr><th></th><th>naive</th><th>protected</th></tr>\n");
        for [what, one, two] in summary::rows(self.naive, self.protected) {
            let _ = writeln!(out, "<tr><td>{}</td><td>{one}</td><td>{two}</td></tr>", tight(&what));
        }
        out.push_str("</table>\n");
        if self.verdicts.is_empty() {
            return;
        }
        out.push_str("<h2>Verdicts</h2><table>\n");
        for verdict in self.verdicts {
            let word = verdict.word();
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td class=\"{word}\">{word}</td></tr>",
                tight(&escape(verdict.claim)),
                escape(&verdict.got)
            );
        }
        out.push_str("</table>\n");
    }

    fn plots(&self, out: &mut String, lanes: &[Vec<Second>]) {
        let plan = &self.storm.plan;
        let axis = axis(plan, self.seconds);
        let both = |of: &dyn Fn(&Second) -> Option<f64>| {
            [series("naive", "naive", &lanes[0], of), series("protected", "protected", &lanes[1], of)]
        };
        out.push_str("<h2>Second by second</h2>\n");
        let calls = |s: &Second| (s.offered > 0).then(|| s.calls_per_request());
        out.push_str(&plot("Calls to the upstream for each request", &axis, &both(&calls), 1.0, &[]));

        let queue = |s: &Second| Some(s.queued as f64);
        out.push_str(&plot("Requests in the upstream's queue", &axis, &both(&queue), 10.0, &[]));

        let wait = |q| move |s: &Second| quantile(&s.waits, q).map(|us| f64::from(us) / 1e3);
        let all = [
            series("naive p99", "naive", &lanes[0], &wait(0.99)),
            series("naive p50", "naive low", &lanes[0], &wait(0.5)),
            series("protected p99", "protected", &lanes[1], &wait(0.99)),
            series("protected p50", "protected low", &lanes[1], &wait(0.5)),
        ];
        let patience = plan.patience.as_millis();
        let title =
            format!("Waits for an answer in ms, refusals apart; a client that gives up counts {patience} ms");
        out.push_str(&plot(&title, &axis, &all, patience as f64, &[]));

        let refused = |s: &Second| Some(f64::from(s.refused));
        let one = [series("refused", "protected", &lanes[1], &refused)];
        let states: Vec<&str> = lanes[1].iter().map(|s| s.breaker).collect();
        let title = "Protected: refusals a second, and its breaker";
        out.push_str(&plot(title, &axis, &one, plan.rate.into(), &states));
    }

    fn layers(&self, out: &mut String) {
        if self.tables.layers.is_empty() {
            return;
        }
        out.push_str(
            "<h2>What each layer is worth</h2><p>The same storm in paused time, without sockets, and without one or \
             several layers of the protected gateway. Where nothing changes, another layer stood in for the one \
             that is missing, or its turn does not come in this script.</p>\n",
        );
        table(out, "gateway", &LAYERS, &self.tables.layers);
        out.push_str(
            "<p class=\"small\">Good at the end: answered well, of the requests of the last 10 s. Capacity used: \
             answered well while a quarter of the upstream or less is left, of what it could do then. Calls: to the \
             upstream for each request, once it is dead for 2 s, and in the whole run. Refused, waited: how long a \
             refusal took, and anything else.</p>\n",
        );
    }

    fn not_rigged(&self, out: &mut String) {
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
            "<h2>Why this is not rigged</h2><ul>\
             <li>{lag}</li>\
             <li>Both gateways get the same requests at the same times, and each has an upstream of its own that \
             plays the same script. Capacity is permits and sleeping: neither slows the other down.</li>\
             <li>Tune the loser: <code>--naive FILE</code> with <code>timeout_ms</code>, <code>retries</code>, \
             <code>backoff_ms</code>, <code>backoff_factor</code>. With <code>retries = 0</code> it stays down for as long \
             as its queue takes to be worked off, as the rows above show: in the default run beyond its end, with \
             <code>--rate 150</code>, of which the upstream serves 250, 15 s.</li></ul>"
        );
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
            "</pre><p class=\"small\">Versions: buttress {}, {}; {} {}; {} processors; seed {}.</p>",
            env!("CARGO_PKG_VERSION"),
            versions(include_str!("../../Cargo.lock"), &["tower", "axum", "hyper", "hyper-util", "tokio"]),
            std::env::consts::OS,
            std::env::consts::ARCH,
            std::thread::available_parallelism().map_or(0, |n| n.get()),
            plan.seed,
        );
    }
}

fn series<'a>(
    name: &'a str,
    class: &'a str,
    lane: &[Second],
    of: &dyn Fn(&Second) -> Option<f64>,
) -> Series<'a> {
    Series { name, class, values: lane.iter().map(of).collect() }
}

/// A table of several columns of numbers; where the page is narrow its names have lines of their own.
fn table<const N: usize>(out: &mut String, of: &str, columns: &Columns<N>, rows: &[Row]) {
    let _ = write!(out, "<table class=\"wide of-{N}\"><tr><th>{of}</th>");
    for [one, two] in columns.heads {
        let _ = write!(out, "<th>{one}<br>{two}</th>");
    }
    out.push_str("</tr>\n");
    for Row { name, figures } in rows {
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        for cell in (columns.cells)(figures) {
            let _ = write!(out, "<td>{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
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
