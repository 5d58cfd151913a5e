//! Which calls are let in.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use buttress_core::{Name, Rejection};
use tokio::time::Instant;

use super::Engine;
use crate::{
    State,
    atomic::{Phase, StateWord},
    circuit::{Decision, Ticket},
    words,
};

/// Stands for "the clock was not read".
pub(crate) const NO_TIME: u64 = u64::MAX;

/// In a call's time: it was not timed as it was let in, and has been waited for since that time.
const WAITED_FOR: u64 = 1 << 63;

/// The generation of calls that nobody records.
pub(crate) const UNTRACKED: u64 = u64::MAX;

/// Whether a call is let in, and as what. Plain data without overlaps, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) generation: u64,
    /// When it was let in; or since when it is waited for, with [`WAITED_FOR`]; or [`NO_TIME`]. Refused: the wait after
    /// which another try makes sense.
    pub(crate) time: u64,
    /// The lease (32 bits), how many calls had settled as the wait began (16), and whether it is refused (1). One word
    /// that is written and read whole: parts that are written one by one and read together cost a call 6 ns.
    rest: u64,
}

const SETTLED_AT: u32 = 32;
const REFUSED: u64 = 1 << 48;

impl Admission {
    #[inline]
    fn let_in(Ticket { generation, lease }: Ticket, time: u64) -> Self {
        Self { generation, time, rest: lease.into() }
    }

    #[inline]
    pub(crate) fn refused(wait: u64) -> Self {
        Self { generation: UNTRACKED, time: wait, rest: REFUSED }
    }

    #[inline]
    pub(crate) fn is_refused(&self) -> bool {
        self.rest & REFUSED != 0
    }

    /// The number of its lease; 0 if it is no probe.
    #[inline]
    pub(crate) fn lease(&self) -> u32 {
        self.rest as u32
    }

    /// How many calls had settled when somebody began to wait for this one, as much of it as a call remembers. 0: nobody
    /// has, or nobody needs to know.
    #[inline]
    pub(crate) fn settled(&self) -> u16 {
        (self.rest >> SETTLED_AT) as u16
    }

    #[inline]
    fn set_settled(&mut self, settled: u16) {
        self.rest = (self.rest & !(u64::from(u16::MAX) << SETTLED_AT)) | (u64::from(settled) << SETTLED_AT);
    }

    pub(super) fn ticket(self) -> Ticket {
        Ticket { generation: self.generation, lease: self.lease() }
    }

    /// When the call was let in, if that is known.
    #[inline]
    pub(crate) fn began(self) -> Option<u64> {
        (self.time < WAITED_FOR).then_some(self.time)
    }

    /// Since when it is waited for, as far as that is known.
    pub(crate) fn waited_for_since(self) -> Option<u64> {
        (self.time != NO_TIME && self.settled() != 0).then_some(self.time & !WAITED_FOR)
    }
}

/// Calls are refused: until when, if that is known, and what the call that follows has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) until: Option<u64>,
    pub(crate) found: Found,
}

/// In which generation a circuit was found refusing, and the wait after which another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    generation: u64,
    wait: u64,
}

impl Found {
    pub(crate) const NOTHING: Self = Self { generation: UNTRACKED, wait: 0 };
}

impl Engine {
    // ---- what a call would find

    /// The state as a call made now would find it. Takes the lock only if the circuit was half-open for longer than it
    /// may be.
    pub(crate) fn state(&self) -> State {
        let word = self.circuit.word();
        match word.state() {
            State::Open if self.shared.now() >= self.circuit.blocked_until() => State::HalfOpen,
            State::HalfOpen => {
                let time = self.shared.now();
                if self.circuit.is_over(word, time) {
                    self.circuit.lock().found(time)
                } else {
                    State::HalfOpen
                }
            }
            stored => stored,
        }
    }

    /// When the circuit, if it is half-open, has been so for too long.
    pub(crate) fn half_open_until(&self) -> Option<Instant> {
        let half_open = self.circuit.word().phase() == Phase::HalfOpen;
        let until = Some(self.circuit.valid_until()).filter(|until| half_open && *until != u64::MAX);
        until.map(|until| self.shared.instant(until))
    }

    /// Whether no call is refused because of the state: one look at the word. A ramp refuses some of the calls,
    /// not the service.
    #[inline]
    pub(crate) fn flows(&self) -> bool {
        self.circuit.word().flows()
    }

    #[inline]
    fn isolated_for(&self) -> u64 {
        self.shared.settings.isolated_for.load(Relaxed)
    }

    /// Whether a call made now would be refused.
    #[inline]
    pub(crate) fn refusing(&self) -> Option<Refusal> {
        let word = self.circuit.word();
        let generation = word.generation();
        match word.phase() {
            _ if self.shared.is_shadow() => None,
            Phase::Isolated => {
                Some(Refusal { until: None, found: Found { generation, wait: self.isolated_for() } })
            }
            Phase::Open => {
                let until = self.circuit.blocked_until();
                let wait = until.saturating_sub(self.shared.now());
                (wait > 0).then_some(Refusal { until: Some(until), found: Found { generation, wait } })
            }
            Phase::HalfOpen => self.refusing_half_open(word),
            Phase::Closed | Phase::MetricsOnly | Phase::Ramping | Phase::Disabled => None,
        }
    }

    fn refusing_half_open(&self, word: StateWord) -> Option<Refusal> {
        let time = self.shared.now();
        if self.circuit.is_over(word, time) {
            // A call comes by, so what time has done is done and told; else every refusal would find it anew.
            self.with_view(|_, _| ());
            return self.refusing();
        }
        let until = self.circuit.blocked_until();
        let wait = until.saturating_sub(time).min(self.circuit.longest_wait());
        let found = Found { generation: word.generation(), wait };
        (wait > 0).then_some(Refusal { until: Some(until), found })
    }

    /// Refuses the call of a service that was not asked whether it is ready, because the circuit refused then, as
    /// `found`. Whatever the state is by now, it cannot be called.
    #[inline]
    pub(crate) fn refuse_unready(&self, found: Found) -> Admission {
        if found.generation == self.circuit.word().generation() {
            return Admission::refused(found.wait);
        }
        // If calls flow by now, all there is to do is to ask for readiness.
        Admission::refused(self.refusing().map_or(0, |refusal| refusal.found.wait))
    }

    // ---- a call begins

    /// Lets a call in or not. A call that is let in has to end; a refusal is yet to be counted.
    #[inline]
    pub(crate) fn admit(&self) -> Admission {
        let word = self.circuit.word();
        if word.is_closed() && !self.shared.emitter.is_on() {
            let time = if word.is_timed() { self.shared.now() } else { NO_TIME };
            return Admission::let_in(Ticket { generation: word.generation(), lease: 0 }, time);
        }
        self.admit_at(word)
    }

    fn admit_at(&self, word: StateWord) -> Admission {
        let admitted = Decision::Admitted(Ticket { generation: word.generation(), lease: 0 });
        let decision = match word.phase() {
            Phase::Closed | Phase::MetricsOnly => admitted,
            Phase::Disabled => Decision::Untracked,
            Phase::Isolated => Decision::Refused(None),
            Phase::Ramping => self.ramp(word).map_or(admitted, |wait| Decision::Refused(Some(wait))),
            Phase::Open | Phase::HalfOpen => {
                let time = self.shared.now();
                match self.circuit.refused_for(word, time) {
                    Some(left) => Decision::Refused(Some(left.min(self.circuit.longest_wait()))),
                    None => self.with(|guard| guard.admit(self.now(time))),
                }
            }
        };
        let untracked = Ticket { generation: UNTRACKED, lease: 0 };
        match decision {
            Decision::Admitted(ticket) => self.admitted(ticket),
            Decision::Untracked => self.admitted(untracked),
            Decision::Refused(wait) => {
                let wait = wait.unwrap_or_else(|| self.isolated_for());
                if !self.shared.is_shadow() {
                    return Admission::refused(wait);
                }
                self.count_refusal(wait);
                self.admitted(untracked)
            }
        }
    }

    fn admitted(&self, ticket: Ticket) -> Admission {
        let timed = self.circuit.word().is_timed() || self.shared.emitter.is_timed();
        let time = if timed { self.shared.now() } else { NO_TIME };
        Admission::let_in(ticket, time)
    }

    /// Whether a call is refused though the circuit has closed, and for how long.
    fn ramp(&self, word: StateWord) -> Option<u64> {
        let left = self.circuit.blocked_until().saturating_sub(self.shared.now());
        if left == 0 {
            self.with(|guard| {
                if guard.circuit().generation() == word.generation() {
                    guard.circuit().end_ramp();
                }
            });
            return None;
        }
        let over = self.shared.settings.ramp_over.load(Relaxed).max(1);
        let start = f64::from_bits(self.shared.settings.ramp_start.load(Relaxed));
        // More than all can be left between two settings.
        let share = start + (1.0 - start) * (1.0 - left as f64 / over as f64).max(0.0);
        // Any time is a good time to try again; but not for all who were refused at once.
        (self.shared.chance.unit() >= share).then(|| left.min(over / 10))
    }

    /// Somebody begins to wait for a call, or goes on. The clock is read for those alone: what is ready at once cannot be
    /// dropped.
    #[inline]
    pub(crate) fn waits(&self, call: &mut Admission) {
        if call.settled() == 0 && self.shared.settings.minds_abandoned.load(Relaxed) {
            self.begins_to_wait(call);
        }
    }

    fn begins_to_wait(&self, call: &mut Admission) {
        if call.generation == UNTRACKED {
            return;
        }
        if call.time == NO_TIME {
            call.time = self.shared.now() | WAITED_FOR;
        }
        call.set_settled(self.circuit.settled());
    }

    // ---- refusals

    /// Counts and tells a refusal.
    #[inline]
    pub(crate) fn count_refusal(&self, wait: u64) {
        let shadow = self.shared.is_shadow();
        let counter = if shadow { &self.would_reject } else { &self.rejected };
        counter.fetch_add(1, Relaxed);
        if self.shared.emitter.is_on() {
            self.tell_refusal(wait, shadow);
        }
    }

    fn tell_refusal(&self, wait: u64, shadow: bool) {
        self.shared.emitter.refused(&self.rejection(wait), shadow);
    }

    /// Makes what a refused call comes to. It always says when to try again, and never "at once": a caller that heeds
    /// that would call in a loop.
    #[inline]
    pub(crate) fn rejection(&self, wait: u64) -> Rejection {
        Rejection::new(words::OPEN, self.name()).with_retry_after(Duration::from_nanos(wait.max(1)))
    }

    /// The breaker's name, with the key if that is shown.
    #[inline]
    pub(crate) fn name(&self) -> &Name {
        self.name.as_ref().unwrap_or_else(|| self.shared.emitter.name())
    }
}
