//! What is done with the middleware, and what must be true then.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tower_service::Service;

use super::{
    CloneOf, Kit, Placement, ROUNDS, Rule, Scenario, Violation,
    drive::{Driven, Driver, STEPS, pass, text},
};
use crate::{Probe, Slot, probe::Breach, step};

/// More polls than this while nothing changes are busy polling. A few are allowed: some layers yield once.
const IDLE_POLLS: usize = 16;

/// How many callers make a crowd.
const CROWD: usize = 8;

/// How many finished futures are kept.
const KEPT: usize = 16;

/// How the inner service answers the next calls.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Ok,
    Err,
    Held,
    /// The first call is held, the next ones are answered.
    HeldOnce,
    /// In turn: an error, and an answer that takes a few polls and some time.
    Slow,
    PanicInCall,
    PanicInPoll,
}

pub(super) struct Bench<S, Req, Res, E> {
    scenario: Scenario,
    make: Box<dyn Fn(Probe<Req, Res, E>) -> S>,
    clone: CloneOf<S>,
    kit: Kit<Req, Res, E>,
    probe: Probe<Req, Res, E>,
    mode: Arc<Mutex<Mode>>,
    slots: usize,
    found: Vec<Violation>,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq)]
enum Ended {
    Ok,
    Err,
    /// In a way that was written down as a violation, or by the panic that was scripted.
    Otherwise,
}

type Call<S, Req> = Pin<Box<<S as Service<Req>>::Future>>;

impl<S, Req, Res, E> Bench<S, Req, Res, E>
where
    S: Service<Req>,
    Req: 'static,
    Res: 'static,
    E: 'static,
{
    pub(super) fn new(
        scenario: Scenario,
        make: impl Fn(Probe<Req, Res, E>) -> S + 'static,
        clone: CloneOf<S>,
        kit: Kit<Req, Res, E>,
        slots: usize,
        until_drop: bool,
    ) -> Self {
        let mode = Arc::new(Mutex::new(Mode::Ok));
        let (of_probe, made, mut calls) = (mode.clone(), kit.clone(), 0_usize);
        let probe = Probe::new(move |_| {
            calls += 1;
            let ok = || step::ok((made.response)());
            let err = || step::err((made.error)());
            let mut mode = of_probe.lock().unwrap_or_else(PoisonError::into_inner);
            match *mode {
                Mode::Ok => ok(),
                Mode::Err => err(),
                Mode::Held => step::pending(),
                Mode::HeldOnce => {
                    *mode = Mode::Ok;
                    step::pending()
                }
                Mode::Slow if calls % 2 == 1 => step::yields(1, err()),
                Mode::Slow => step::yields(2, step::delay(Duration::from_millis(10), ok())),
                Mode::PanicInCall => step::panics_in_call(),
                Mode::PanicInPoll => step::yields(1, step::panics()),
            }
        });
        let mut probe = probe.slots(slots).lenient();
        if until_drop {
            probe = probe.slots_until_drop();
        }
        let (make, found) = (Box::new(make), Vec::new());
        Self { scenario, make, clone, kit, probe, mode, slots, found }
    }

    pub(super) async fn play(
        mut self,
        placement: Option<Placement>,
        switch: Option<Box<dyn FnOnce()>>,
    ) -> Vec<Violation> {
        match self.scenario {
            Scenario::Answers => self.answers().await,
            Scenario::Errors => self.errors().await,
            Scenario::DroppedBeforePoll => self.dropped(Mode::Ok, false).await,
            Scenario::DroppedAfterPoll => self.dropped(Mode::Held, true).await,
            Scenario::DroppedAtEveryAwait => self.dropped_at_every_await().await,
            Scenario::ServiceDropped => self.service_dropped().await,
            Scenario::ParkedDropped => self.parked_dropped().await,
            Scenario::PanicInCall => self.panics(Mode::PanicInCall).await,
            Scenario::PanicInPoll => self.panics(Mode::PanicInPoll).await,
            Scenario::CloneOfReady => self.clone_of_ready().await,
            Scenario::ReadyRepeated => self.ready_repeated().await,
            Scenario::ReadinessWoken => self.readiness_woken().await,
            Scenario::AnswerWoken => self.answer_woken().await,
            Scenario::Crowd => self.crowd().await,
            Scenario::CrowdWithQuitters => self.crowd_with_quitters().await,
            Scenario::StillWhileFull => self.still_while_full().await,
            Scenario::StillWhilePending => self.still_while_pending().await,
            Scenario::FinishedKept => self.finished_kept().await,
            Scenario::InnerFull => self.inner_full().await,
            Scenario::ReadinessFails => self.readiness_fails().await,
            Scenario::Placement => self.placement(placement).await,
            Scenario::Refused => self.refused(switch).await,
        }
        self.breaches();
        self.found
    }

    // ---- the scenarios

    async fn answers(&mut self) {
        let mut service = self.service();
        for _ in 0..3 {
            let Some(mut call) = self.ready_call(&mut service).await else { return };
            if self.end(&mut call).await == Ended::Err {
                self.violated(Rule::PassHealthyCallsOn, "the first calls end in an error");
            }
            self.expect_taken(0, "after the answer").await;
        }
        if self.probe.calls() == 0 {
            self.violated(Rule::PassHealthyCallsOn, "the inner service is never called");
        }
    }

    async fn errors(&mut self) {
        let mut service = self.service();
        for _ in 0..ROUNDS {
            self.set(Mode::Err);
            let Some(mut call) = self.ready_call(&mut service).await else { return };
            self.end(&mut call).await;
            self.expect_taken(0, "after an error").await;
        }
        self.healthy(&mut service, "after errors").await;
    }

    async fn dropped(&mut self, mode: Mode, poll: bool) {
        let mut service = self.service();
        for _ in 0..ROUNDS {
            self.set(mode);
            let Some(mut call) = self.ready_call(&mut service).await else { return };
            if poll {
                let mut driver = Driver::default();
                let _ = driver.poll(|cx| call.as_mut().poll(cx));
                let _ = driver.while_woken(|cx| call.as_mut().poll(cx)).await;
            }
            self.drop_quietly(call);
            self.expect_taken(0, "after the future was dropped").await;
        }
        self.healthy(&mut service, "after futures were dropped").await;
    }

    async fn dropped_at_every_await(&mut self) {
        let mut service = self.service();
        for polls in 1..=ROUNDS {
            self.set(Mode::Slow);
            let Some(mut call) = self.ready_call(&mut service).await else { return };
            let ended = self.polls(&mut call, polls).await;
            self.drop_quietly(call);
            self.expect_taken(0, &format!("after the future was dropped at poll {polls}")).await;
            if ended {
                break;
            }
        }
        self.healthy(&mut service, "after futures were dropped").await;
    }

    async fn service_dropped(&mut self) {
        let mut service = self.service();
        for _ in 0..ROUNDS {
            let mut other = self.another(&service);
            if !self.ready(&mut other).await {
                return;
            }
            self.drop_quietly(other);
            self.expect_taken(0, "after a service that was ready was dropped").await;
        }
        self.healthy(&mut service, "after services that were ready were dropped").await;
    }

    async fn parked_dropped(&mut self) {
        let mut service = self.service();
        for _ in 0..ROUNDS {
            let mut other = self.another(&service);
            let held = self.hold_all();
            let mut call = Box::pin(one_call(&mut other, (self.kit.request)()));
            let mut driver = Driver::default();
            let _ = driver.poll(|cx| call.as_mut().poll(cx));
            let _ = driver.while_woken(|cx| call.as_mut().poll(cx)).await;
            self.drop_quietly(call);
            self.drop_quietly(other);
            drop(held);
            self.expect_taken(0, "after a caller went away that waited for a slot").await;
        }
        self.healthy(&mut service, "after waiting callers went away").await;
    }

    async fn panics(&mut self, mode: Mode) {
        let mut service = self.service();
        for _ in 0..ROUNDS {
            self.set(mode);
            let mut other = self.another(&service);
            if let Some(mut call) = self.ready_call(&mut other).await {
                self.end(&mut call).await;
                self.drop_quietly(call);
            }
            self.drop_quietly(other);
            self.expect_taken(0, "after the inner service panicked").await;
        }
        // What runs the inner service on a task of its own loses that task with it: a fresh one then.
        let mut fresh = self.service();
        if self.passes(&mut service).await != Ended::Ok {
            self.healthy(&mut fresh, "after the inner service panicked").await;
        }
    }

    async fn clone_of_ready(&mut self) {
        let Some(clone) = self.clone else { return };
        let mut original = self.service();
        if !self.ready(&mut original).await {
            return;
        }
        let taken = self.probe.taken_slots();
        let mut copy = clone(&original);
        self.expect_taken(taken, "after a service that was ready was cloned").await;
        // The original first: a layer with room for one would rightly let the copy wait for it.
        if let Some(mut call) = self.call(&mut original) {
            self.end(&mut call).await;
        }
        if let Some(mut call) = self.ready_call(&mut copy).await {
            self.end(&mut call).await;
        }
        self.expect_taken(0, "after the original and the clone were called").await;
    }

    async fn ready_repeated(&mut self) {
        let mut service = self.service();
        for _ in 0..4 {
            if !self.ready(&mut service).await {
                return;
            }
        }
        let taken = self.probe.taken_slots();
        if taken > 1 {
            self.violated(Rule::GiveReservationBack, format!("one ready service has {taken} reservations"));
        }
        if let Some(mut call) = self.call(&mut service) {
            self.end(&mut call).await;
        }
        self.expect_taken(0, "after a call that was preceded by four `poll_ready`").await;
        self.healthy(&mut service, "after a repeated `poll_ready`").await;
    }

    async fn readiness_woken(&mut self) {
        let mut service = self.service();
        let held = self.hold_all();
        {
            let mut call = Box::pin(one_call(&mut service, (self.kit.request)()));
            let mut driver = Driver::default();
            let waits = self.poll_twice(&mut driver, |cx| call.as_mut().poll(cx)).await;
            drop(held);
            if waits {
                let ended = driver.go_on(|cx| call.as_mut().poll(cx)).await;
                self.judge(ended, "a caller that waits for a slot");
            }
        }
        self.healthy(&mut service, "after a wait for a slot").await;
    }

    async fn answer_woken(&mut self) {
        let mut service = self.service();
        self.set(Mode::HeldOnce);
        let Some(mut call) = self.ready_call(&mut service).await else { return };
        let mut driver = Driver::default();
        if self.poll_twice(&mut driver, |cx| call.as_mut().poll(cx)).await {
            let mut ended = None;
            // The layer may take its time before it calls.
            for step in 0..STEPS {
                if ended.is_some() || self.probe.answer(Ok((self.kit.response)())) {
                    break;
                }
                pass(Duration::from_millis(1 << step)).await;
                ended = driver.while_woken(|cx| call.as_mut().poll(cx)).await;
            }
            let ended = match ended {
                Some(ended) => ended,
                None => driver.go_on(|cx| call.as_mut().poll(cx)).await,
            };
            self.judge(ended, "a caller that waits for its answer");
        }
        drop(call);
        self.expect_taken(0, "after the answer").await;
        self.healthy(&mut service, "after a wait for an answer").await;
    }

    async fn crowd(&mut self) {
        self.set(Mode::Held);
        let first = self.service();
        let mut callers = self.callers(&first);
        self.serve_all(&mut callers).await;
        drop(callers);
        self.expect_taken(0, "after a crowd was served").await;
        let mut first = first;
        self.healthy(&mut first, "after a crowd").await;
    }

    async fn crowd_with_quitters(&mut self) {
        let first = self.service();
        for quitter in 1..CROWD {
            self.set(Mode::HeldOnce);
            self.probe.set_slots(1);
            let mut callers = self.callers(&first);
            // Each polled as long as it is woken: then one call is held, and the others wait behind it, in the
            // layer or in front of it.
            for caller in &mut callers {
                caller.start().await;
            }
            self.probe.answer(Ok((self.kit.response)()));
            crate::settle().await;
            // The first one has the call, and ends; nobody polls the others, though that may wake some.
            callers[0].go_on_while_woken().await;
            crate::settle().await;
            // Whoever was woken, the first or the second of them; or anyone.
            let mut woken = (1..callers.len()).filter(|&at| !callers[at].is_done() && callers[at].is_woken());
            let gone = woken.nth(quitter % 2).unwrap_or(quitter);
            drop(callers.remove(gone));
            self.serve_all(&mut callers).await;
            drop(callers);
            self.expect_taken(0, "after a caller went away that was woken").await;
            if !self.found.is_empty() {
                return;
            }
        }
        self.probe.set_slots(self.slots);
        let mut first = first;
        self.healthy(&mut first, "after a caller went away that was woken").await;
    }

    async fn still_while_full(&mut self) {
        let mut service = self.service();
        let held = self.hold_all();
        {
            let mut call = Box::pin(one_call(&mut service, (self.kit.request)()));
            self.expect_still(|cx| call.as_mut().poll(cx)).await;
        }
        drop(held);
        self.healthy(&mut service, "after a wait for a slot").await;
    }

    async fn still_while_pending(&mut self) {
        let mut service = self.service();
        self.set(Mode::Held);
        let Some(mut call) = self.ready_call(&mut service).await else { return };
        self.expect_still(|cx| call.as_mut().poll(cx)).await;
        self.drop_quietly(call);
    }

    async fn finished_kept(&mut self) {
        let mut service = self.service();
        let mut kept = Vec::new();
        for nth in 0..KEPT {
            let before = self.found.len();
            let call = self.ready_call(&mut service).await;
            let ended = match call {
                Some(mut call) => {
                    let ended = self.end(&mut call).await;
                    kept.push(call);
                    ended
                }
                None => Ended::Otherwise,
            };
            if ended != Ended::Ok {
                self.found.truncate(before);
                let what = format!("with {nth} resolved futures kept, a call is not answered");
                self.violated(Rule::FinishedHoldsNothing, what);
                return;
            }
        }
        // A future may also resolve while the inner call goes on: a time-out.
        self.set(Mode::Held);
        let Some(mut call) = self.ready_call(&mut service).await else { return };
        if let Driven::Done(_) = Driver::default().run(|cx| call.as_mut().poll(cx)).await {
            crate::settle().await;
            let taken = self.probe.taken_slots();
            if taken > 0 {
                let what =
                    format!("a future resolved before the inner call did and keeps {taken} reservations");
                self.violated(Rule::FinishedHoldsNothing, what);
            }
        }
    }

    async fn inner_full(&mut self) {
        let mut service = self.service();
        let held = self.hold_all();
        for _ in 0..ROUNDS {
            let mut driver = Driver::default();
            if let Poll::Ready(Driven::Done(Ok(()))) = driver.poll(|cx| service.poll_ready(cx)) {
                let Some(mut call) = self.call(&mut service) else { return };
                let _ = Driver::default().run(|cx| call.as_mut().poll(cx)).await;
                self.drop_quietly(call);
                self.expect_taken(held.len(), "after a call that found no slot").await;
            }
        }
        drop(held);
        self.healthy(&mut service, "after calls that found no slot").await;
    }

    async fn readiness_fails(&mut self) {
        for _ in 0..3 {
            let mut service = self.service();
            self.probe.fail_readiness((self.kit.error)());
            if let Some(mut call) = self.ready_call(&mut service).await {
                self.end(&mut call).await;
            }
            self.drop_quietly(service);
            self.expect_taken(0, "after a readiness error").await;
        }
        let mut fresh = self.service();
        self.healthy(&mut fresh, "after a readiness error").await;
    }

    async fn placement(&mut self, placement: Option<Placement>) {
        let mut service = self.service();
        let held = self.hold_all();
        let at_once = Driver::default().poll(|cx| service.poll_ready(cx)).is_ready();
        match placement {
            Some(Placement::Owning) if !at_once => {
                self.violated(Rule::AsDeclared, "owning, and not ready at once");
            }
            Some(Placement::Through) if at_once => {
                self.violated(Rule::AsDeclared, "through, and ready before the inner service");
            }
            _ => {}
        }
        drop(held);
        let mut service = self.service();
        if !self.ready(&mut service).await {
            return;
        }
        crate::settle().await;
        match (placement, self.probe.taken_slots()) {
            (Some(Placement::Owning), taken @ 1..) => {
                self.violated(Rule::AsDeclared, format!("owning, and holds {taken} reservations when ready"));
            }
            (Some(Placement::Through), 0) => {
                self.violated(Rule::AsDeclared, "through, and holds no reservation when ready");
            }
            _ => {}
        }
        drop(service);
    }

    async fn refused(&mut self, switch: Option<Box<dyn FnOnce()>>) {
        let mut service = self.service();
        let mut other = self.another(&service);
        if !self.ready(&mut service).await {
            return;
        }
        if let Some(switch) = switch {
            switch();
        }
        let Some(mut late) = self.call(&mut service) else { return };
        let late_end = self.end(&mut late).await;
        self.expect_taken(0, "after a refusal that came after readiness").await;
        // The readied instance and the resolved future live on.
        let mut driver = Driver::default();
        let early = match driver.run(|cx| other.poll_ready(cx)).await {
            Driven::Done(Ok(())) => self.call(&mut other),
            Driven::Done(Err(_)) => None,
            driven => {
                self.judge(driven, "a service that refuses");
                None
            }
        };
        if let Some(mut call) = early {
            if self.end(&mut call).await == Ended::Ok {
                self.violated(Rule::Refuse, "the call is answered");
            }
        }
        self.expect_taken(0, "after a refusal").await;
        if late_end == Ended::Ok || self.probe.calls() > 0 {
            self.violated(Rule::Refuse, "the inner service is called all the same");
        }
    }

    // ---- their parts

    fn service(&self) -> S {
        (self.make)(self.probe.clone())
    }

    /// A clone, or another one from the same layer.
    fn another(&self, service: &S) -> S {
        self.clone.map_or_else(|| self.service(), |clone| clone(service))
    }

    /// A crowd, each with a service of its own, which goes away with its caller.
    fn callers<'a>(&self, service: &S) -> Vec<Caller<'a>>
    where
        S: 'a,
    {
        (0..CROWD).map(|_| Caller::new(self.another(service), (self.kit.request)())).collect()
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    fn hold_all(&self) -> Vec<Slot> {
        std::iter::from_fn(|| self.probe.take_slot()).collect()
    }

    fn violated(&mut self, rule: Rule, detail: impl Into<String>) {
        let violation = Violation { rule, scenario: self.scenario, detail: detail.into() };
        if !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    /// What the probe saw.
    fn breaches(&mut self) {
        for breach in self.probe.breaches() {
            let rule = match breach {
                Breach::CallWithoutReadiness => Rule::CallAfterReadiness,
                Breach::UsedAfterReadyError => Rule::DiscardAfterReadyError,
                Breach::PolledAfterEnd => Rule::NoPollAfterEnd,
                Breach::ScriptRanOut => continue,
            };
            self.violated(rule, breach.to_string());
        }
    }

    async fn expect_taken(&mut self, expected: usize, when: &str) {
        crate::settle().await;
        let taken = self.probe.taken_slots();
        if taken > expected {
            let detail = format!("{taken} of {} slots are taken {when}, not {expected}", self.slots);
            self.violated(Rule::GiveReservationBack, detail);
        }
    }

    /// Writes down what should not be; the rest is the answer.
    fn judge<T>(&mut self, driven: Driven<T>, who: &str) -> Option<T> {
        match driven {
            Driven::Done(done) => return Some(done),
            Driven::Unwoken(done) => {
                self.violated(Rule::WakeUp, format!("{who} could go on and is not woken"));
                return Some(done);
            }
            Driven::Stuck => self.violated(Rule::NoHang, format!("{who} waits for ever")),
            Driven::Busy => {
                self.violated(Rule::NoBusyPolling, format!("{who} wakes itself again and again"));
            }
            Driven::Panicked(text) if text.starts_with(crate::probe::SCRIPTED) => {}
            Driven::Panicked(text) => self.violated(Rule::NoPanic, format!("{who}: {text}")),
        }
        None
    }

    /// Polls ready; `false` where it fails in any way.
    async fn ready(&mut self, service: &mut S) -> bool {
        let driven = Driver::default().run(|cx| service.poll_ready(cx)).await;
        matches!(self.judge(driven, "`poll_ready`"), Some(Ok(())))
    }

    fn call(&mut self, service: &mut S) -> Option<Call<S, Req>> {
        let request = (self.kit.request)();
        match catch_unwind(AssertUnwindSafe(|| service.call(request))) {
            Ok(call) => Some(Box::pin(call)),
            Err(panic) => {
                self.judge::<()>(Driven::Panicked(text(&*panic)), "`call`");
                None
            }
        }
    }

    async fn ready_call(&mut self, service: &mut S) -> Option<Call<S, Req>> {
        if self.ready(service).await { self.call(service) } else { None }
    }

    async fn end(&mut self, call: &mut Call<S, Req>) -> Ended {
        let driven = Driver::default().run(|cx| call.as_mut().poll(cx)).await;
        match self.judge(driven, "a call") {
            Some(Ok(_)) => Ended::Ok,
            Some(Err(_)) => Ended::Err,
            None => Ended::Otherwise,
        }
    }

    /// Polls that many times, when woken or after some hours; says whether it has ended.
    async fn polls(&mut self, call: &mut Call<S, Req>, times: usize) -> bool {
        let mut driver = Driver::default();
        for poll in 1..=times {
            match driver.poll(|cx| call.as_mut().poll(cx)) {
                Poll::Ready(driven) => {
                    self.judge(driven, "a call");
                    return true;
                }
                Poll::Pending if poll == times => return false,
                Poll::Pending => driver.woken().await,
            }
        }
        false
    }

    /// Polls with one waker, then with another one; `false` where there is nothing left to wait for.
    async fn poll_twice<T>(
        &mut self,
        driver: &mut Driver,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> bool {
        if driver.poll(&mut poll).is_ready() || driver.while_woken(&mut poll).await.is_some() {
            return false;
        }
        driver.poll(&mut poll).is_pending()
    }

    /// Whether it is answered, an hour later, without a word on how not.
    async fn passes(&mut self, service: &mut S) -> Ended {
        let before = self.found.len();
        self.set(Mode::Ok);
        for _ in 0..60 {
            pass(Duration::from_secs(60)).await;
        }
        let ended = match self.ready_call(service).await {
            Some(mut call) => self.end(&mut call).await,
            None => Ended::Err,
        };
        self.found.truncate(before);
        ended
    }

    /// A call to a healthy inner service must be answered, an hour later.
    async fn healthy(&mut self, service: &mut S, when: &str) {
        if self.passes(service).await != Ended::Ok {
            self.violated(Rule::PassHealthyCallsOn, format!("a call is not answered {when}"));
        }
        self.expect_taken(0, "at the end").await;
    }

    /// While nothing changes there is nothing to poll for.
    async fn expect_still<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) {
        let mut driver = Driver::default();
        let mut polls = 1;
        if driver.poll(&mut poll).is_ready() {
            return;
        }
        for _ in 0..200 {
            // 1 s of paused time, for those that look by the clock, after some that stands still.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            if driver.is_woken() {
                polls += 1;
                if driver.poll(&mut poll).is_ready() {
                    break;
                }
            } else {
                pass(Duration::from_millis(5)).await;
            }
        }
        let inner = self.probe.ready_polls().max(self.probe.call_polls());
        let most = polls.max(inner);
        if most > IDLE_POLLS {
            self.violated(Rule::NoBusyPolling, format!("{most} polls, and nothing had changed"));
        }
    }

    fn drop_quietly<T>(&mut self, dropped: T) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(dropped))) {
            self.judge::<()>(Driven::Panicked(text(&*panic)), "a drop");
        }
    }

    /// Polls whoever is woken, and answers the inner calls one at a time, until all callers have ended.
    async fn serve_all(&mut self, callers: &mut [Caller<'_>]) {
        let mut patience = 0;
        for caller in callers.iter_mut() {
            caller.start().await;
        }
        while callers.iter().any(|caller| !caller.is_done()) {
            for caller in callers.iter_mut() {
                caller.go_on_while_woken().await;
            }
            crate::settle().await;
            if callers.iter().any(|caller| !caller.is_done() && caller.is_woken()) {
                continue;
            }
            if self.probe.answer(Ok((self.kit.response)())) {
                patience = 0;
                continue;
            }
            if callers.iter().all(Caller::is_done) {
                break;
            }
            // No call is held and nobody is woken: whoever can go on now should have been.
            if patience == 0 {
                let before = self.progress(callers);
                for caller in callers.iter_mut() {
                    caller.poll_unwoken();
                }
                crate::settle().await;
                if self.progress(callers) != before {
                    self.violated(Rule::WakeUp, "a caller could go on and is not woken");
                    return;
                }
            }
            if patience == 24 {
                self.violated(Rule::NoHang, "callers wait for ever though there are slots");
                return;
            }
            pass(Duration::from_millis(1 << patience)).await;
            patience += 1;
        }
        for caller in callers.iter_mut() {
            if let Some(driven) = caller.ended.take() {
                self.judge(driven, "one of a crowd");
            }
        }
    }

    fn progress(&self, callers: &[Caller<'_>]) -> (usize, usize) {
        (self.probe.calls(), callers.iter().filter(|caller| caller.is_done()).count())
    }
}

/// A caller as they are: waits for readiness, then for the answer.
async fn one_call<S: Service<Req>, Req>(service: &mut S, request: Req) -> bool {
    match poll_fn(|cx| service.poll_ready(cx)).await {
        Ok(()) => service.call(request).await.is_ok(),
        Err(_) => false,
    }
}

/// One of a crowd.
struct Caller<'a> {
    call: Pin<Box<dyn Future<Output = bool> + 'a>>,
    driver: Driver,
    started: bool,
    done: bool,
    ended: Option<Driven<bool>>,
}

impl<'a> Caller<'a> {
    fn new<S: Service<Req> + 'a, Req: 'a>(mut service: S, request: Req) -> Self {
        let call = Box::pin(async move { one_call(&mut service, request).await });
        Self { call, driver: Driver::default(), started: false, done: false, ended: None }
    }

    async fn start(&mut self) {
        if !self.started {
            self.started = true;
            self.poll_unwoken();
            self.go_on_while_woken().await;
        }
    }

    fn poll_unwoken(&mut self) {
        if !self.done {
            let call = self.call.as_mut();
            if let Poll::Ready(driven) = self.driver.poll(|cx| call.poll(cx)) {
                self.end(driven);
            }
        }
    }

    async fn go_on_while_woken(&mut self) {
        if !self.done {
            let call = &mut self.call;
            if let Some(driven) = self.driver.while_woken(|cx| call.as_mut().poll(cx)).await {
                self.end(driven);
            }
        }
    }

    fn end(&mut self, driven: Driven<bool>) {
        self.done = true;
        self.ended = Some(driven);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn is_woken(&self) -> bool {
        self.driver.is_woken()
    }
}
