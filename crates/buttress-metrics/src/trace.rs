//! Log lines for what happens to policies, through `tracing`.
//!
//! ```
//! # mod buttress { pub mod metrics { pub use buttress_metrics::*; } }
//! buttress::metrics::trace::install();
//! ```
//!
//! Beside [`install`](crate::install) or alone; it needs no recorder of metrics. What happens once in a while is
//! told at INFO and above, what may happen with every call at DEBUG.
//!
//! At INFO and above a policy writes each line at most once a second for one reason: the words of the event, such as the
//! states and the cause of a change, or why a retry stopped. The others are counted, and the next line has their number
//! as the field `suppressed`. So neither an outage nor a circuit that opens a thousand times a second floods the log.
//! The keys of a keyed policy share its lines.
//!
//! Which lines there are is said by the tables of the kinds ([`Line`]), a third party's too; these are those of buttress:
//!
//! | line | of | level | fields, besides `policy.name` and `policy.kind` |
//! |---|---|---|---|
//! | `refused` | all | DEBUG | `code`, `retry_after_ms`, `shadow`, `policy.key` |
//! | `timed out` | all | DEBUG | `elapsed_ms` |
//! | `policy reset` | all | WARN | |
//! | `policy reconfigured` | all | INFO | |
//! | `circuit opened` | breaker | WARN | `breaker.from`, `breaker.to`, `rule`, `count`, `breaker.failure_ratio`, `breaker.slow_ratio`, `breaker.calls`, `breaker.open_for_ms`, `cause`, `error`, `policy.key` |
//! | `circuit half-open` | breaker | INFO | `breaker.from`, `breaker.to`, `breaker.rejected_while_open`, `cause`, `policy.key` |
//! | `circuit closed` | breaker | INFO | `breaker.from`, `breaker.to`, `breaker.open_for_ms`, `breaker.rejected_while_open`, `cause`, `policy.key` |
//! | `circuit forced` | breaker | WARN | `breaker.from`, `breaker.to`, `breaker.open_for_ms`, `breaker.rejected_while_open`, `cause`, `policy.key`: by hand, or into a state that lasts until somebody ends it |
//! | `threshold passed` | breaker | WARN | `rule`: if the policy only watches |
//! | `probe lost` | breaker | DEBUG | |
//! | `attempt failed` | retry | DEBUG | `attempt`, `delay_ms`, `reason`, `error` |
//! | `retries exhausted` | retry | WARN | `reason`, `error`, `suppressed` |
//! | `not retried` | retry | DEBUG | `reason`, `error` |
//! | `queue cleared` | bulkhead | WARN | `count` |
//! | `fallback answered` | fallback | DEBUG | `elapsed_ms` |
//! | `fallback failed` | fallback | ERROR | `error`, `elapsed_ms` |
//! | `stale answer given` | fallback | DEBUG | `age_ms` |
//! | ``a second live breaker named `orders` `` | all | WARN | : of one kind and name, once |
//!
//! The target of a line is `buttress::` and the name of its kind, so that `RUST_LOG=buttress::breaker=debug` works. No
//! span is opened: the host has one around the call already. Call sites are made when the first policy of a kind is,
//! so lines go to subscribers of `tracing` only, and not to `log` by the feature of that name.

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use buttress_core::{Event, Kind, Line, Name, Note, Observer, On, Recorder, Source, Value, Word, observe};

use buttress_kit::unpoisoned;

use crate::{
    check::MOST,
    clock,
    namesakes::Namesakes,
    site::{Site, adds_suppressed, is_throttled},
};

/// How often one policy may write a line for one reason.
const PERIOD: Duration = Duration::from_secs(1);

/// How many reasons for one line are told apart. Words are few, so no line of ours has as many.
const REASONS: usize = 64;

/// Tells of all policies of the process, those that exist and those to come. Calling it again changes nothing.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| observe::install(Trace::default()));
}

/// Emits `tracing` events; the [module](self) says which. An observer for the whole process ([`install`]), or for
/// single policies (`.observe(Trace::default())` in their builders). Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    namesakes: Arc<Namesakes>,
}

impl Observer for Trace {
    fn attach(&self, kind: Kind, name: &Name) -> Option<Arc<dyn Recorder>> {
        let all = kind.lines.iter().chain(Line::COMMON);
        let lines =
            all.map(|line| PolicyLine { line, site: Site::of(kind, line), throttle: Mutex::default() });
        self.namesakes.come(kind, name);
        let namesakes = self.namesakes.clone();
        Some(Arc::new(Lines { kind, name: name.clone(), lines: lines.collect(), namesakes }))
    }
}

/// The lines of one policy.
struct Lines {
    kind: Kind,
    name: Name,
    lines: Box<[PolicyLine]>,
    namesakes: Arc<Namesakes>,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.namesakes.go(self.kind, &self.name);
    }
}

struct PolicyLine {
    line: &'static Line,
    site: &'static Site,
    throttle: Mutex<Throttle>,
}

/// The words of an event, by which lines are told apart.
type Reason = [Word; 3];

/// Lets one line through in a [`PERIOD`] for each reason.
#[derive(Default)]
struct Throttle {
    /// When the last one was written. Grows to the number of reasons that there were.
    last: Vec<(Reason, Instant)>,
    /// How many were held back since the last one, for whatever reason.
    suppressed: u64,
}

impl Throttle {
    /// How many were held back since the last one, if this one may pass.
    fn pass(&mut self, reason: Reason, now: Instant) -> Option<u64> {
        let known = self.last.iter().position(|(one, _)| *one == reason);
        // Reasons beyond the most share a place.
        match known.or((self.last.len() >= REASONS).then_some(0)) {
            None => self.last.push((reason, now)),
            Some(place) => {
                let last = &mut self.last[place].1;
                if now.saturating_duration_since(*last) < PERIOD {
                    self.suppressed = self.suppressed.saturating_add(1);
                    return None;
                }
                *last = now;
            }
        }
        Some(std::mem::take(&mut self.suppressed))
    }
}

fn reason(on: &On, event: &Event<'_>) -> Reason {
    match (on, event) {
        (_, Event::Done { outcome, result, .. }) => [outcome.as_str(), result, ""],
        (_, Event::Refused { rejection, shadow }) => {
            [rejection.code().as_str(), if *shadow { "shadow" } else { "" }, ""]
        }
        (_, Event::Attempt { reason, .. }) => [reason, "", ""],
        (_, Event::Transition(change)) => [change.from, change.to, change.cause],
        // The line lists them. The values of other notes are no reasons: there may be any number.
        (On::NoteOf(..), Event::Note(Note { value: Some(Value::Word(word)), .. })) => [word, "", ""],
        _ => ["", "", ""],
    }
}

impl Recorder for Lines {
    fn record(&self, event: &Event<'_>) {
        let Some(PolicyLine { line, site, throttle }) =
            self.lines.iter().find(|one| is_for(&one.line.on, event))
        else {
            return;
        };
        if !site.is_enabled() {
            return;
        }
        let mut suppressed = 0;
        if is_throttled(line) {
            match unpoisoned(throttle.lock()).pass(reason(&line.on, event), clock::now()) {
                Some(count) => suppressed = count,
                None => return,
            }
        }
        let own = line.fields.iter().take(MOST).map(|(_, source)| show(*source, event, suppressed));
        let held_back = (suppressed > 0 && adds_suppressed(line)).then_some(Shown::Number(suppressed));
        let mut fields = own.chain(held_back);
        let shown: [Shown<'_>; MOST + 1] = std::array::from_fn(|_| fields.next().unwrap_or(Shown::Nothing));
        let values = shown.each_ref().map(Shown::as_value);
        site.write(format_args!("{}", line.message), &self.name, self.kind.name, values);
    }

    fn passive(&self) -> bool {
        true
    }
}

/// Whether a line is written for an event.
fn is_for(on: &On, event: &Event<'_>) -> bool {
    let any = |words: &[Word], word: Word| words.is_empty() || words.contains(&word);
    match (on, event) {
        (On::Done(outcomes), Event::Done { outcome, .. }) => outcomes.contains(outcome),
        (On::DoneAs(word), Event::Done { result, .. }) => word == result,
        (On::Refused, Event::Refused { .. }) | (On::Attempt, Event::Attempt { .. }) => true,
        (On::Change(states, causes), Event::Transition(change)) => {
            any(states, change.to) && any(causes, change.cause)
        }
        (On::Note(what), Event::Note(note)) => *what == note.what,
        (On::NoteOf(what, values), Event::Note(note)) => {
            let value = note.value.as_ref().and_then(Value::as_text);
            *what == note.what && value.is_some_and(|value| values.contains(&value))
        }
        _ => false,
    }
}

/// What a field shows of an event.
enum Shown<'a> {
    Nothing,
    Number(u64),
    Share(f64),
    Flag(bool),
    Text(&'a str),
    Error(&'a (dyn StdError + 'static)),
}

impl<'a> Shown<'a> {
    fn time(time: Option<Duration>) -> Self {
        time.map_or(Self::Nothing, |time| Self::Number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    fn value(value: Option<&'a Value>) -> Self {
        match value {
            Some(Value::Count(count)) => Self::Number(*count),
            Some(Value::Ratio(ratio)) => Self::Share(*ratio),
            Some(Value::Time(time)) => Self::time(Some(*time)),
            Some(value) => value.as_text().map_or(Self::Nothing, Self::Text),
            None => Self::Nothing,
        }
    }

    fn as_value(&self) -> Option<&dyn tracing_core::field::Value> {
        match self {
            Self::Nothing => None,
            Self::Number(number) => Some(number),
            Self::Share(share) => Some(share),
            Self::Flag(flag) => Some(flag),
            Self::Text(text) => Some(text),
            Self::Error(error) => Some(error),
        }
    }
}

fn show<'a>(source: Source, event: &'a Event<'_>, suppressed: u64) -> Shown<'a> {
    match (source, event) {
        (Source::From, Event::Transition(change)) => Shown::Text(change.from),
        (Source::To, Event::Transition(change)) => Shown::Text(change.to),
        (Source::Cause, Event::Transition(change)) => Shown::Text(change.cause),
        (Source::Detail(what), Event::Transition(change)) => Shown::value(change.get(what)),
        (Source::Code, Event::Refused { rejection, .. }) => Shown::Text(rejection.code().as_str()),
        (Source::RetryAfter, Event::Refused { rejection, .. }) => Shown::time(rejection.retry_after()),
        (Source::Shadow, Event::Refused { shadow, .. }) => Shown::Flag(*shadow),
        (Source::Attempt, Event::Attempt { n, .. }) => Shown::Number(u64::from(*n)),
        (Source::Delay, Event::Attempt { delay, .. }) => Shown::time(Some(*delay)),
        (Source::Reason, Event::Attempt { reason, .. }) => Shown::Text(reason),
        (Source::Error, Event::Attempt { error, .. } | Event::Done { error, .. }) => {
            error.map_or(Shown::Nothing, Shown::Error)
        }
        (Source::Error, Event::Note(Note { error: Some(error), .. })) => Shown::Text(error),
        (Source::Key, Event::Transition(change)) => change.key.as_deref().map_or(Shown::Nothing, Shown::Text),
        (Source::Key, Event::Refused { rejection, .. }) => {
            rejection.key().map_or(Shown::Nothing, Shown::Text)
        }
        (Source::Elapsed, Event::Done { elapsed, .. }) => Shown::time(*elapsed),
        (Source::Value, Event::Note(Note { value, .. })) => Shown::value(value.as_ref()),
        (Source::Suppressed, _) => Shown::Number(suppressed),
        _ => Shown::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_lets_one_through_in_a_second_and_counts_the_rest() {
        let (mut throttle, start) = (Throttle::default(), clock::now());
        let mut pass = |now| throttle.pass(["budget", "", ""], now);
        assert_eq!(pass(start), Some(0));
        for tenth in 1..10 {
            assert_eq!(pass(start + Duration::from_millis(100 * tenth)), None);
        }
        assert_eq!(pass(start + PERIOD), Some(9));
        assert_eq!(pass(start + PERIOD), None);
        assert_eq!(pass(start + 5 * PERIOD), Some(1));
    }

    #[test]
    fn throttle_has_a_second_for_each_reason_and_a_bound_on_those() {
        let (mut throttle, now) = (Throttle::default(), clock::now());
        let words: Vec<Word> = (0..2 * REASONS).map(|n| &*n.to_string().leak()).collect();
        let passed = words.iter().filter(|word| throttle.pass([word, "", ""], now).is_some()).count();
        assert_eq!((passed, throttle.last.len()), (REASONS, REASONS));
        assert_eq!(throttle.pass(["new", "", ""], now + PERIOD), Some(REASONS as u64));
    }
}
