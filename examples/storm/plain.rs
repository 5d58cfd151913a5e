//! A line a second: for logs, pipes and those who like it so.

use crate::engine::{Plan, Storm, View};
use crate::tally::Second;

/// Prints to standard output.
pub(crate) struct Plain;

/// The lines above the table; they fit 80 columns unless the numbers are huge.
pub(crate) fn heading(plan: &Plan) -> String {
    format!(
        "storm: {} requests/s to each gateway for {} s, seed {}; clients wait {} ms\n\
         upstream, one for each gateway: {} permits x {} ms = {:.0} requests/s when healthy\n\
         naive: {} ms a try, {} retries: {} x {} = {} calls/s if tries time out, of {:.0}",
        plan.rate,
        plan.seconds(),
        plan.seed,
        plan.patience.as_millis(),
        plan.permits,
        plan.usual().as_millis(),
        plan.healthy_capacity(),
        plan.naive.timeout.as_millis(),
        plan.naive.retries,
        plan.rate,
        plan.naive.retries + 1,
        plan.rate * (plan.naive.retries + 1),
        plan.healthy_capacity(),
    )
}

/// The table's own heading.
pub(crate) fn columns() -> &'static str {
    "                    cap. | naive                   | protected\n  \
     s phase       req/s | good lost  c/req  queue | good refd lost c/req queue breaker"
}

/// One second as a line of at most 80 columns.
pub(crate) fn line(storm: &Storm, second: u32) -> String {
    let plan = &storm.plan;
    let at = std::time::Duration::from_secs(second.into());
    let phase = &plan.script.phases[plan.script.at(plan.in_script(at)).0].name;
    let of = |lane: usize| storm.lanes.get(lane).map_or_else(Second::default, |l| l.tally.get(second));
    let (one, two) = (of(0), of(1));
    format!(
        "{second:3} {phase:<11.11} {:5.0} | {:4} {:4} {:6.2} {:6} | {:4} {:4} {:4} {:5.2} {:5} {}",
        plan.capacity(second),
        one.good,
        one.lost() + one.refused,
        one.calls_per_request(),
        one.queued,
        two.good,
        two.refused,
        two.lost(),
        two.calls_per_request(),
        two.queued,
        two.breaker,
    )
}

impl View for Plain {
    fn second(&mut self, storm: &Storm, second: u32) {
        // The seconds after the last arrival only wait for the last answers.
        if storm.plan.endless || second < storm.plan.seconds() {
            use std::io::Write;
            // A reader that went away (`| head`) is no reason to fail.
            let _ = writeln!(std::io::stdout(), "{}", line(storm, second));
        }
    }
}
