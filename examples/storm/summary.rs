//! The end: both gateways side by side, and the verdicts.

use crate::verdicts::{Figures, Verdict, decimal, millis, percent};

/// The rows of the comparison: what, naive, protected.
pub(crate) fn rows(naive: &Figures, protected: &Figures) -> Vec<[String; 3]> {
    let row = |what: &str, of: &dyn Fn(&Figures) -> String| [what.to_owned(), of(naive), of(protected)];
    vec![
        row("requests", &|f| f.total.offered.to_string()),
        row("answered well", &|f| format!("{} ({})", f.total.kept, share(f.total.kept, f.total.offered))),
        row("refused at once (503, Retry-After)", &|f| f.total.refused.to_string()),
        row("failed (5xx)", &|f| f.total.failed.to_string()),
        row("client gave up", &|f| (f.total.gave_up + f.total.broken).to_string()),
        row("upstream calls a request", &|f| decimal(Some(f.calls))),
        row("upstream's work, and for nobody", &|f| format!("{}, {}", f.total.done, f.total.wasted)),
        row("longest queue in the upstream", &|f| f.total.queued.to_string()),
        row("waited, p50 / p99 (refusals apart)", &|f| {
            format!("{} / {}", millis(f.wait(0.5)), millis(f.wait(0.99)))
        }),
        row("refused within, p99", &|f| millis(f.refusal_p99)),
        row("good in the last 10 s", &|f| percent(f.tail)),
        row("back at 95 % after", &|f| match (f.recovered, f.recovery_seconds) {
            (None, _) => "-".into(),
            (_, None) => "never".into(),
            // The second in which it was good is part of the wait.
            (_, Some(seconds)) => format!("{} s", seconds + 1),
        }),
    ]
}

fn share(part: u32, whole: u32) -> String {
    percent((whole > 0).then(|| crate::tally::ratio(part, whole)))
}

/// Both, as text.
pub(crate) fn text(naive: &Figures, protected: &Figures, verdicts: &[Verdict]) -> String {
    let mut out = format!("{:<36} {:>20} {:>20}\n", "", "naive", "protected");
    for [what, one, two] in rows(naive, protected) {
        out += &format!("{what:<36} {one:>20} {two:>20}\n");
    }
    out.push('\n');
    for verdict in verdicts {
        out += &format!("{:<10} {} [{}]\n", verdict.word(), verdict.claim, verdict.got);
    }
    out
}
