//! The end: both gateways side by side, and the verdicts.

use crate::verdicts::{Figures, Verdict, decimal, millis, percent};

/// What came of it, in one sentence; `None` where the run cannot tell.
pub(crate) fn headline(naive: &Figures, protected: &Figures) -> Option<String> {
    let came_back = |figures: &Figures| match (figures.recovered, figures.recovery_seconds) {
        (None, _) => None,
        (_, None) => Some("was still down when the run ended".to_owned()),
        (_, Some(_)) => Some(format!("was back after {}", figures.back())),
    };
    let (one, two) = (came_back(naive)?, came_back(protected)?);
    Some(format!("After the same outage the naive gateway {one}; the protected one {two}."))
}

/// The rows of the comparison: what, naive, protected.
pub(crate) fn rows(naive: &Figures, protected: &Figures) -> Vec<[String; 3]> {
    let row = |what: &str, of: &dyn Fn(&Figures) -> String| [what.to_owned(), of(naive), of(protected)];
    vec![
        row("requests", &|f| f.total.offered.to_string()),
        row("answered well", &|f| format!("{} ({})", f.total.kept, share(f.total.kept, f.total.offered))),
        row("answered well in the last 10 s", &|f| percent(f.tail)),
        row("back at 95 % answered well after", &Figures::back),
        row("refused at once (503, Retry-After)", &|f| f.total.refused.to_string()),
        row("failed (5xx)", &|f| f.total.failed.to_string()),
        row("client gave up", &|f| (f.total.gave_up + f.total.broken).to_string()),
        row("calls to the upstream a request", &|f| decimal(Some(f.calls))),
        row("calls the upstream worked off", &|f| f.total.done.to_string()),
        row("of these, after the client had left", &|f| {
            format!("{} ({})", f.total.wasted, share(f.total.wasted, f.total.done))
        }),
        row("longest queue in the upstream", &|f| f.total.queued.to_string()),
        row("a refusal took, p99", &|f| millis(f.refusal_p99)),
        row("anything else took, p50", &|f| millis(f.wait(0.5))),
        row("anything else took, p99", &|f| millis(f.wait(0.99))),
    ]
}

fn share(part: u32, whole: u32) -> String {
    percent((whole > 0).then(|| crate::tally::ratio(part, whole)))
}

/// All of it, as text.
pub(crate) fn text(naive: &Figures, protected: &Figures, verdicts: &[Verdict]) -> String {
    let mut out = headline(naive, protected).map_or_else(String::new, |sentence| format!("{sentence}\n\n"));
    out += &format!("{:<36} {:>20} {:>20}\n", "", "naive", "protected");
    for [what, one, two] in rows(naive, protected) {
        out += &format!("{what:<36} {one:>20} {two:>20}\n");
    }
    out.push('\n');
    for verdict in verdicts {
        out += &format!("{:<10} {} [{}]\n", verdict.word(), verdict.claim, verdict.got);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headline_says_who_came_back_and_nothing_where_the_run_cannot_tell() {
        let figures =
            |recovered, recovery_seconds| Figures { recovered, recovery_seconds, ..Figures::default() };
        let (down, back) = (figures(Some(0.0), None), figures(Some(0.99), Some(2)));
        assert_eq!(
            headline(&down, &back).unwrap(),
            "After the same outage the naive gateway was still down when the run ended; the protected one was back \
             after 3 s."
        );
        assert!(headline(&back, &back).unwrap().contains("naive gateway was back after 3 s"));
        assert_eq!(headline(&figures(None, None), &back), None);
    }
}
