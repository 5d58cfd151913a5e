use std::{
    sync::{
        Arc, RwLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    Event, FailureKind, Level, Levels, Note, Outcome, Value,
    context::{self, EnteredAttempt, EnteredDeadline},
};
use buttress_kit::{BackoffState, Budget, Chance, Emitter, Live, Withdrawal, unpoisoned};
use tokio::time::Instant;

use crate::{
    RetryAfter, RetryConfig,
    config::Curve,
    decide::{self, Call, Ending, Failed, Next, Stop},
    snapshot::{RetrySnapshot, RetryStops},
    words,
};

/// What all services of one policy share: settings, budget, chance, counts.
pub(crate) struct Engine {
    pub(crate) emitter: Emitter,
    pub(crate) live: Live<RetryConfig>,
    pub(crate) budget: Option<Budget>,
    curve: Option<Curve>,
    chance: Chance,
    // Copies of the settings, changed with the lock of `live` held. Two of them are numbers, because a call that
    // succeeds at once must take no lock.
    max_attempts: AtomicU32,
    max_elapsed_nanos: AtomicU64,
    rules: RwLock<Arc<RetryConfig>>,
    made: Instant,
    budget_told_millis: AtomicU64,
    retries: AtomicU64,
    stopped: [AtomicU64; Stop::COUNT],
}

/// In `max_elapsed_nanos`: no limit.
const UNLIMITED: u64 = u64::MAX;

/// The number of the level that says what is left of the budget.
const BUDGET: u32 = 0;
const BUDGET_TOLD_EVERY_MILLIS: u64 = 250;

fn elapsed_nanos(config: &RetryConfig) -> u64 {
    config.max_elapsed.map_or(UNLIMITED, |max| u64::try_from(max.as_nanos()).unwrap_or(UNLIMITED))
}

impl Engine {
    pub(crate) fn new(
        emitter: Emitter,
        config: RetryConfig,
        curve: Option<Curve>,
        budget: Option<Budget>,
        chance: Chance,
    ) -> Arc<Self> {
        let engine = Arc::new(Self {
            budget,
            curve,
            chance,
            max_attempts: AtomicU32::new(config.max_attempts),
            max_elapsed_nanos: AtomicU64::new(elapsed_nanos(&config)),
            rules: RwLock::new(Arc::new(config.clone())),
            live: Live::new(config, emitter.clone()).allowing(RetryConfig::allows),
            emitter,
            made: Instant::now(),
            budget_told_millis: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            stopped: Default::default(),
        });
        let levels: Weak<Self> = Arc::downgrade(&engine);
        engine.emitter.set_levels(levels);
        engine
    }

    /// Begins a call: pays into the budget, and reads the clock if anything asks for the time.
    #[inline]
    pub(crate) fn begin(&self) -> Call {
        let started = if self.is_plain() { None } else { self.start() };
        Call {
            started,
            // Made once: new settings do not move the deadline of a call that has begun.
            deadline: started.and_then(|started| self.deadline(started)),
            attempt: 1,
            max_attempts: self.max_attempts.load(Relaxed),
            sent: false,
            retried: None,
            granted: None,
            backoff: BackoffState::default(),
        }
    }

    /// Whether a call begins without the clock, and nothing is told or paid at its beginning.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.is_heard() && self.max_elapsed_nanos.load(Relaxed) == UNLIMITED
    }

    /// Whether the end of a call is told or paid for: to observers, or to the budget.
    #[inline]
    fn is_heard(&self) -> bool {
        self.budget.is_some() || self.emitter.is_on()
    }

    fn start(&self) -> Option<Instant> {
        let timed_budget = self.budget.as_ref().is_some_and(Budget::is_timed);
        let limited = self.max_elapsed_nanos.load(Relaxed) != UNLIMITED;
        let started = (timed_budget || limited || self.emitter.is_timed()).then(Instant::now);
        if let Some(budget) = &self.budget {
            // A budget that is not timed does not look at it.
            budget.deposit(started.unwrap_or(self.made).into_std());
        }
        started
    }

    fn deadline(&self, started: Instant) -> Option<std::time::Instant> {
        let nanos = self.max_elapsed_nanos.load(Relaxed);
        let limit = (nanos != UNLIMITED).then(|| Duration::from_nanos(nanos))?;
        started.checked_add(limit).map(Instant::into_std)
    }

    /// The settings as they are now, for a call that did not succeed at once: it takes a lock for a moment.
    pub(crate) fn rules(&self) -> Arc<RetryConfig> {
        unpoisoned(self.rules.read()).clone()
    }

    /// Puts new settings in force, with the lock of `live` held.
    pub(crate) fn apply(&self, next: &RetryConfig) {
        self.max_attempts.store(next.max_attempts, Relaxed);
        self.max_elapsed_nanos.store(elapsed_nanos(next), Relaxed);
        *unpoisoned(self.rules.write()) = Arc::new(next.clone());
    }

    /// Decides what follows an attempt. `can_resend` asks whether the request can be sent again.
    pub(crate) fn next(
        &self,
        call: &mut Call,
        failed: &Failed<'_>,
        can_resend: impl FnOnce() -> bool,
    ) -> Next {
        let rules = self.rules();
        let before = call.backoff;
        match self.wait(call, &rules, failed, can_resend) {
            Ok(delay) => {
                call.sent |= failed.was_sent();
                Next::Attempt(delay)
            }
            Err(why) => {
                call.backoff = before;
                let ending = Ending { outcome: failed.outcome(), why: Some(why) };
                Next::End(ending, self.pause(call, &rules, why))
            }
        }
    }

    /// The wait before the next attempt, or why there is none.
    fn wait(
        &self,
        call: &mut Call,
        rules: &RetryConfig,
        failed: &Failed<'_>,
        can_resend: impl FnOnce() -> bool,
    ) -> Result<Duration, Stop> {
        let hint = failed.hint(rules)?;
        // What never reached the service is no load on it: neither it nor its repetition is the budget's business.
        let budget = self.budget.as_ref().filter(|_| failed.was_sent());
        if let Some(budget) = budget {
            budget.failed(call.retried.take().map(Withdrawal::failure));
        }
        if call.is_last() {
            return Err(Stop::MaxAttempts);
        }
        if !can_resend() {
            return Err(Stop::NotReplayable);
        }
        let backoff = self.backoff(call, rules, failed.kind);
        let delay = decide::wait(rules, backoff, hint).ok_or(Stop::LongWait)?;
        if hint.is_some() && rules.retry_after == RetryAfter::Replace {
            call.backoff = BackoffState::default();
        }
        let now = Instant::now().into_std();
        decide::fits(delay, now, call.deadline_in_force())?;
        // Last, so that no other reason to stop costs a retry of the budget.
        if let Some(budget) = budget {
            call.granted = budget.withdraw(failed.kind, now);
            self.tell_budget();
            if call.granted.is_none() {
                return Err(Stop::Budget);
            }
        }
        Ok(delay)
    }

    /// How long a call that is stopped for this reason keeps its caller waiting.
    fn pause(&self, call: &mut Call, rules: &RetryConfig, why: Stop) -> Duration {
        if why != Stop::Budget || !rules.pause_without_budget {
            return Duration::ZERO;
        }
        // As the AWS SDKs do, by the backoff of ordinary failures also after throttling.
        let pause = self.backoff(call, rules, FailureKind::Transient);
        // Nobody waits for an answer after the deadline.
        let now = Instant::now().into_std();
        let left = call.deadline_in_force().map(|deadline| deadline.saturating_duration_since(now));
        left.map_or(pause, |left| pause.min(left))
    }

    fn backoff(&self, call: &mut Call, rules: &RetryConfig, failure: FailureKind) -> Duration {
        let curve = self.curve.as_ref().map(|Curve(curve)| &**curve as &dyn Fn(u32) -> Duration);
        call.backoff(rules, failure, self.chance.unit(), curve)
    }

    /// The call goes on with another attempt.
    pub(crate) fn advance(&self, call: &mut Call) {
        call.attempt = call.attempt.saturating_add(1);
        if let Some(granted) = call.granted.take() {
            call.retried = Some(granted);
        }
        self.retries.fetch_add(1, Relaxed);
    }

    /// Counts and tells why no further attempt is made, if there is a reason. `error` says what the call failed with, and
    /// is asked if somebody listens.
    pub(crate) fn stop(&self, ending: Ending, error: impl FnOnce() -> String) {
        let Some(why) = ending.why else { return };
        self.stopped[why as usize].fetch_add(1, Relaxed);
        if self.emitter.is_on() {
            let note = Note::with(words::STOPPED, Value::Word(why.word())).with_error(error());
            self.emitter.emit(Event::Note(&note));
        }
    }

    /// Tells budget and observers how a call ended.
    #[inline]
    pub(crate) fn end(&self, call: &Call, outcome: Outcome) {
        if self.is_heard() {
            self.tell_end(call, outcome);
        }
    }

    fn tell_end(&self, call: &Call, outcome: Outcome) {
        let retried = call.retried.map(Withdrawal::failure);
        match &self.budget {
            Some(budget) if outcome == Outcome::Success => budget.succeeded(retried),
            Some(budget) => {
                // It ends in a wait: the attempt that was granted is not made.
                if let Some(granted) = call.granted {
                    budget.refund(granted, Instant::now().into_std());
                    self.tell_budget();
                }
                budget.ended(retried);
            }
            None => {}
        }
        if self.emitter.is_on() {
            self.tell_done(call, outcome);
        }
    }

    fn tell_done(&self, call: &Call, outcome: Outcome) {
        if self.budget.is_some() && outcome == Outcome::Success {
            self.tell_budget_now_and_then(call.started);
        }
        let started = call.started.filter(|_| self.emitter.is_timed());
        let elapsed = started.map(|started| started.elapsed());
        self.emitter.done(outcome, call.result(outcome), elapsed, false, call.attempt, None);
    }

    /// Tells what is left of the budget.
    pub(crate) fn tell_budget(&self) {
        self.emitter.moved(BUDGET);
        self.emitter.deliver();
    }

    /// Tells what is left again at times: an outage ends with an empty budget, and nobody retries while it fills.
    fn tell_budget_now_and_then(&self, started: Option<Instant>) {
        let now = started.unwrap_or_else(Instant::now);
        let since = u64::try_from(now.saturating_duration_since(self.made).as_millis()).unwrap_or(u64::MAX);
        let told = self.budget_told_millis.load(Relaxed);
        let due = since.saturating_sub(told) >= BUDGET_TOLD_EVERY_MILLIS;
        if due && self.budget_told_millis.compare_exchange(told, since, Relaxed, Relaxed).is_ok() {
            self.tell_budget();
        }
    }

    pub(crate) fn reset(&self) {
        self.retries.store(0, Relaxed);
        self.stopped.iter().for_each(|count| count.store(0, Relaxed));
        self.emitter.note(Note::new(Note::RESET));
    }

    pub(crate) fn snapshot(&self) -> RetrySnapshot {
        let now = Instant::now().into_std();
        let stopped = |why: Stop| self.stopped[why as usize].load(Relaxed);
        RetrySnapshot {
            retries: self.retries.load(Relaxed),
            stopped: RetryStops {
                max_attempts: stopped(Stop::MaxAttempts),
                budget: stopped(Stop::Budget),
                deadline: stopped(Stop::Deadline).saturating_add(stopped(Stop::LongWait)),
                not_retryable: stopped(Stop::NotRetryable),
                not_replayable: stopped(Stop::NotReplayable),
                not_ready: stopped(Stop::NotReady),
            },
            budget_available: self.budget.as_ref().map(|budget| budget.available(now)),
            budget_available_ratio: self.budget.as_ref().map(|budget| budget.available_ratio(now)),
        }
    }
}

impl Call {
    /// Shows the inner service the number of the attempt and the deadline, until the guard is dropped. The caller's
    /// context is asked at every poll and not kept: a layer outside puts it in force around every poll.
    #[inline]
    pub(crate) fn show(&self) -> (EnteredDeadline, EnteredAttempt) {
        // With one attempt only, the number of a retry outside stays.
        let shown = if self.max_attempts > 1 { self.attempt } else { context::current().attempt };
        let attempt = context::enter_attempt(shown);
        (context::enter_deadline(self.deadline), attempt)
    }

    /// Whether the time for all attempts is up.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline_in_force().is_some_and(has_passed)
    }

    /// Whether the caller's deadline has passed, at which somebody outside ends the call whatever it is at. `max_elapsed`
    /// ends no attempt.
    pub(crate) fn is_over(&self) -> bool {
        context::deadline().is_some_and(has_passed)
    }

    /// The caller's deadline or the policy's own, whichever is earlier.
    pub(crate) fn deadline_in_force(&self) -> Option<std::time::Instant> {
        let context = context::current();
        self.deadline.map_or(context, |own| context.until(own)).deadline
    }
}

fn has_passed(deadline: std::time::Instant) -> bool {
    deadline <= Instant::now().into_std()
}

impl Levels for Engine {
    fn level(&self, number: u32) -> Option<Level> {
        let budget = self.budget.as_ref().filter(|_| number == BUDGET)?;
        let left = budget.available_ratio(Instant::now().into_std());
        Some(Level::new(words::BUDGET_AVAILABLE, left))
    }
}
