//! Middleware that is broken on purpose: each mistake must be found, by its name and where it shows.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use buttress_test::{
    BoxError, Probe,
    contract::{self, Contract, Report, Rule, Scenario},
};
use tower::{Layer, Service, ServiceExt, layer::layer_fn};

type BoxFuture = Pin<Box<dyn Future<Output = Result<u32, BoxError>>>>;

fn found(report: &Report, rule: Rule, scenario: Scenario) -> bool {
    report.violations().iter().any(|one| (one.rule, one.scenario) == (rule, scenario))
}

#[track_caller]
fn assert_found(report: &Report, expected: &[(Rule, Scenario)]) {
    for (rule, scenario) in expected {
        assert!(found(report, *rule, *scenario), "{rule:?} in {scenario:?} is not in: {report}");
    }
}

/// Implements what the broken services have in common: types, and readiness passed on unless said otherwise.
macro_rules! service {
    ($name:ident, $($part:tt)*) => {
        impl Service<u32> for $name {
            type Response = u32;
            type Error = BoxError;
            type Future = BoxFuture;
            $($part)*
        }
    };
}

macro_rules! ready_as_inner {
    () => {
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.inner.poll_ready(cx)
        }
    };
}

// ---- readiness

#[derive(Clone)]
struct CallsAClone {
    inner: Probe,
}

service! { CallsAClone,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        Box::pin(self.inner.clone().call(req))
    }
}

#[test]
fn calling_a_fresh_clone_is_found() {
    let report = contract::check(|| layer_fn(|inner| CallsAClone { inner }));
    assert_found(
        &report,
        &[(Rule::CallAfterReadiness, Scenario::Answers), (Rule::GiveReservationBack, Scenario::Answers)],
    );
    let text = report.to_string();
    assert!(
        text.starts_with("violations of the contract of `Service` by CallsAClone in 20 scenarios: "),
        "{text}"
    );
    assert!(text.contains("\n- call without readiness: when calls are answered: `call` without a"), "{text}");
}

/// What many an example does: the clone is readied inside, and the readied one keeps its reservation meanwhile.
#[derive(Clone)]
struct ReadiesAClone {
    inner: Probe,
}

service! { ReadiesAClone,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        Box::pin(self.inner.clone().oneshot(req))
    }
}

#[test]
fn waiting_for_a_clone_beside_the_readied_one_is_found() {
    let report = contract::check(|| layer_fn(|inner| ReadiesAClone { inner }));
    assert_found(&report, &[(Rule::NoHang, Scenario::Answers)]);
    // With two slots nothing hangs; the reservation is still seen.
    let report = Contract::new(|| layer_fn(|inner| ReadiesAClone { inner })).slots(2).run();
    assert_found(&report, &[(Rule::GiveReservationBack, Scenario::Answers)]);
    assert!(!found(&report, Rule::NoHang, Scenario::Answers), "{report}");
}

#[derive(Clone)]
struct RemembersReadiness {
    inner: Probe,
    is_ready: bool, // goes to the clone, and should not
}

service! { RemembersReadiness,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !self.is_ready {
            ready!(self.inner.poll_ready(cx))?;
            self.is_ready = true;
        }
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        self.is_ready = false;
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn readiness_that_goes_to_the_clone_is_found() {
    let report = contract::check(|| layer_fn(|inner| RemembersReadiness { inner, is_ready: false }));
    let wrong: Vec<_> = report.violations().iter().map(|one| (one.rule, one.scenario)).collect();
    assert_eq!(wrong, [(Rule::CallAfterReadiness, Scenario::CloneOfReady)]);
}

#[derive(Clone)]
struct ReservesAgain {
    inner: Probe,
    before: Vec<Probe>,
}

service! { ReservesAgain,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let fresh = self.inner.clone();
        self.before.push(std::mem::replace(&mut self.inner, fresh));
        self.inner.poll_ready(cx)
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        self.before.clear();
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn reserving_again_at_each_poll_is_found() {
    let make = || layer_fn(|inner| ReservesAgain { inner, before: Vec::new() });
    assert_found(&contract::check(make), &[(Rule::NoHang, Scenario::ReadyRepeated)]);
    let report = Contract::new(make).slots(9).run();
    assert_found(&report, &[(Rule::GiveReservationBack, Scenario::ReadyRepeated)]);
}

#[derive(Clone)]
struct WantsOnePoll {
    inner: Probe,
    polled: bool,
}

service! { WantsOnePoll,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.polled {
            std::panic::resume_unwind(Box::new("polled ready twice"));
        }
        ready!(self.inner.poll_ready(cx))?;
        self.polled = true;
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        self.polled = false;
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn panic_at_a_repeated_poll_is_found() {
    let report = contract::check(|| layer_fn(|inner| WantsOnePoll { inner, polled: false }));
    assert_found(&report, &[(Rule::NoPanic, Scenario::ReadyRepeated)]);
    assert!(report.to_string().contains("polled ready twice"), "{report}");
}

#[derive(Clone)]
struct TriesAgain {
    inner: Probe,
}

service! { TriesAgain,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => self.inner.poll_ready(cx),
        }
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn use_after_a_readiness_error_is_found() {
    let report = contract::check(|| layer_fn(|inner| TriesAgain { inner }));
    assert_found(&report, &[(Rule::DiscardAfterReadyError, Scenario::ReadinessFails)]);
}

struct NeverDropped {
    inner: std::mem::ManuallyDrop<Probe>,
}

service! { NeverDropped,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn reservation_of_a_dropped_service_is_missed() {
    let make = || layer_fn(|inner| NeverDropped { inner: std::mem::ManuallyDrop::new(inner) });
    let report = Contract::new(make).run_without_clones();
    assert!(!report.scenarios().contains(&Scenario::CloneOfReady));
    assert_found(&report, &[(Rule::GiveReservationBack, Scenario::ServiceDropped)]);
}

// ---- own capacity

/// Counts calls under way, and forgets those that did not end by themselves.
#[derive(Clone)]
struct CountsByHand {
    inner: Probe,
    free: Rc<Cell<usize>>,
}

service! { CountsByHand,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        let Some(left) = self.free.get().checked_sub(1) else {
            self.inner = self.inner.clone();
            return Box::pin(async { Err("too many".into()) });
        };
        self.free.set(left);
        let (call, free) = (self.inner.call(req), self.free.clone());
        Box::pin(async move {
            let answer = call.await?; // an error gives nothing back either
            free.set(free.get() + 1);
            Ok(answer)
        })
    }
}

struct CountsLayer {
    free: Rc<Cell<usize>>,
}

impl Layer<Probe> for CountsLayer {
    type Service = CountsByHand;

    fn layer(&self, inner: Probe) -> CountsByHand {
        CountsByHand { inner, free: self.free.clone() }
    }
}

#[test]
fn capacity_not_given_back_is_found_wherever_it_is_lost() {
    let report = contract::check(|| CountsLayer { free: Rc::new(Cell::new(9)) });
    let lost: Vec<_> = report.violations().iter().map(|one| (one.rule, one.scenario)).collect();
    let at = |scenario| (Rule::PassHealthyCallsOn, scenario);
    assert_eq!(
        lost,
        [
            at(Scenario::Errors),
            at(Scenario::DroppedBeforePoll),
            at(Scenario::DroppedAfterPoll),
            at(Scenario::PanicInCall),
            at(Scenario::PanicInPoll),
        ]
    );
}

// ---- wake-ups

#[derive(Clone)]
struct SpinsForReadiness {
    inner: Probe,
}

service! { SpinsForReadiness,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = self.inner.poll_ready(cx);
        if ready.is_pending() {
            cx.waker().wake_by_ref();
        }
        ready
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn self_waking_is_found() {
    let report = contract::check(|| layer_fn(|inner| SpinsForReadiness { inner }));
    assert_found(&report, &[(Rule::NoBusyPolling, Scenario::StillWhileFull)]);
}

#[derive(Clone)]
struct Ticks {
    inner: Probe,
}

service! { Ticks,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        let mut call = Box::pin(self.inner.call(req));
        Box::pin(async move {
            loop {
                tokio::select! {
                    biased;
                    answer = &mut call => return answer,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        })
    }
}

#[test]
fn looking_by_the_clock_is_found() {
    let report = contract::check(|| layer_fn(|inner| Ticks { inner }));
    assert_found(&report, &[(Rule::NoBusyPolling, Scenario::StillWhilePending)]);
}

/// Spins on a task of its own, where no caller sees it.
#[derive(Clone)]
struct SpinsOnATask {
    inner: Probe,
}

service! { SpinsOnATask,
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        let mut inner = self.inner.clone();
        let spinning = tokio::spawn(async move {
            loop {
                let ready = poll_fn(|cx| Poll::Ready(inner.poll_ready(cx))).await;
                if ready.is_ready() {
                    return inner.call(req).await;
                }
                tokio::task::yield_now().await;
            }
        });
        Box::pin(async move { spinning.await? })
    }
}

#[test]
fn spinning_on_another_task_is_found() {
    let report = contract::check(|| layer_fn(|inner| SpinsOnATask { inner }));
    assert_found(&report, &[(Rule::NoBusyPolling, Scenario::StillWhileFull)]);
}

/// Hands on the waker of the first poll for ever.
struct KeepsTheFirstWaker {
    inner: Probe,
    first: Option<Waker>,
}

impl Clone for KeepsTheFirstWaker {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), first: None }
    }
}

service! { KeepsTheFirstWaker,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let first = self.first.get_or_insert_with(|| cx.waker().clone());
        ready!(self.inner.poll_ready(&mut Context::from_waker(first)))?;
        self.first = None;
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        let (mut call, mut first) = (Box::pin(self.inner.call(req)), None);
        Box::pin(poll_fn(move |cx| {
            let first = first.get_or_insert_with(|| cx.waker().clone());
            call.as_mut().poll(&mut Context::from_waker(first))
        }))
    }
}

#[test]
fn waker_of_an_older_poll_is_found() {
    let report = contract::check(|| layer_fn(|inner| KeepsTheFirstWaker { inner, first: None }));
    let lost = |scenario| (Rule::WakeUp, scenario);
    assert_found(&report, &[lost(Scenario::ReadinessWoken), lost(Scenario::AnswerWoken)]);
}

/// Pending without having asked anybody to wake.
#[derive(Clone)]
struct NobodyWakes {
    inner: Probe,
}

service! { NobodyWakes,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        let (mut call, mut polled) = (Box::pin(self.inner.call(req)), false);
        Box::pin(poll_fn(move |cx| {
            if !std::mem::replace(&mut polled, true) {
                return Poll::Pending;
            }
            call.as_mut().poll(cx)
        }))
    }
}

#[test]
fn pending_without_a_wake_up_is_found() {
    let report = contract::check(|| layer_fn(|inner| NobodyWakes { inner }));
    assert_found(&report, &[(Rule::WakeUp, Scenario::Answers)]);
}

/// A limit of one whose end wakes one waiter, and who goes away then takes the wake-up along.
#[derive(Clone)]
struct WakesOne {
    inner: Probe,
    limit: Arc<One>,
}

#[derive(Default)]
struct One {
    taken: AtomicUsize,
    waiting: Mutex<VecDeque<Waker>>,
    silent: bool,
}

struct Taken(Arc<One>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.store(0, SeqCst);
        let next = self.0.waiting.lock().unwrap().pop_front();
        if let Some(next) = next.filter(|_| !self.0.silent) {
            next.wake();
        }
    }
}

service! { WakesOne,
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        let (inner, limit) = (self.inner.clone(), self.limit.clone());
        Box::pin(async move {
            let _taken = poll_fn(|cx| {
                if limit.taken.swap(1, SeqCst) == 0 {
                    return Poll::Ready(Taken(limit.clone()));
                }
                limit.waiting.lock().unwrap().push_back(cx.waker().clone());
                Poll::Pending
            })
            .await;
            inner.oneshot(req).await
        })
    }
}

struct WakesOneLayer(Arc<One>);

impl Layer<Probe> for WakesOneLayer {
    type Service = WakesOne;

    fn layer(&self, inner: Probe) -> WakesOne {
        WakesOne { inner, limit: self.0.clone() }
    }
}

#[test]
fn wake_up_lost_on_a_waiter_that_went_away_is_found() {
    let report = Contract::new(|| WakesOneLayer(Arc::default())).owning().run();
    assert_found(&report, &[(Rule::WakeUp, Scenario::CrowdWithQuitters)]);
    assert!(!found(&report, Rule::WakeUp, Scenario::Crowd), "{report}");
}

#[test]
fn limit_that_wakes_nobody_is_found() {
    let silent = || One { silent: true, ..One::default() };
    let report = contract::check(move || WakesOneLayer(Arc::new(silent())));
    assert_found(&report, &[(Rule::WakeUp, Scenario::Crowd)]);
}

// ---- futures

/// Readies its own clone on a task, and keeps one that nobody fetched for the next call.
#[derive(Clone)]
struct KeepsSpares {
    inner: Probe,
    spares: Rc<RefCell<Vec<Probe>>>,
}

struct Spare(Option<Probe>, Rc<RefCell<Vec<Probe>>>);

impl Drop for Spare {
    fn drop(&mut self) {
        self.1.borrow_mut().extend(self.0.take());
    }
}

service! { KeepsSpares,
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        let inner = self.spares.borrow_mut().pop().unwrap_or_else(|| self.inner.clone());
        let mut spare = Spare(Some(inner), self.spares.clone());
        Box::pin(async move {
            spare.0.as_mut().unwrap().ready().await?;
            tokio::task::yield_now().await;
            spare.0.take().unwrap().call(req).await
        })
    }
}

#[test]
fn reservation_kept_for_later_is_found() {
    let report = contract::check(|| layer_fn(|inner| KeepsSpares { inner, spares: Rc::default() }));
    assert_found(&report, &[(Rule::GiveReservationBack, Scenario::DroppedAtEveryAwait)]);
}

/// Parks a waiter that outlives its caller.
#[derive(Clone)]
struct WaitsOnATask {
    inner: Probe,
}

service! { WaitsOnATask,
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        let (tell, ready) = tokio::sync::oneshot::channel();
        let waiting = self.inner.clone().ready_oneshot();
        tokio::spawn(async move {
            if let Err(Ok(unused)) = tell.send(waiting.await) {
                std::mem::forget(unused);
            }
        });
        Box::pin(async move { ready.await??.call(req).await })
    }
}

#[test]
fn waiter_that_outlives_its_caller_is_found() {
    let report = contract::check(|| layer_fn(|inner| WaitsOnATask { inner }));
    assert_found(&report, &[(Rule::GiveReservationBack, Scenario::ParkedDropped)]);
}

/// Refuses while the inner service is not ready, and counts what it refuses as under way.
#[derive(Clone)]
struct ShedsAndCounts {
    inner: Probe,
    is_ready: bool,
    free: Rc<Cell<usize>>,
}

service! { ShedsAndCounts,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.is_ready = self.inner.poll_ready(cx)?.is_ready();
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        match self.free.get().checked_sub(1) {
            Some(left) if !self.is_ready => self.free.set(left),
            Some(_) => return Box::pin(self.inner.call(req)),
            None => self.inner = self.inner.clone(),
        }
        Box::pin(async { Err("shed".into()) })
    }
}

#[test]
fn capacity_lost_on_a_refusal_is_found() {
    let make = |inner| ShedsAndCounts { inner, is_ready: false, free: Rc::new(Cell::new(20)) };
    let report = contract::check(move || layer_fn(make));
    assert_found(&report, &[(Rule::PassHealthyCallsOn, Scenario::InnerFull)]);
}

#[derive(Clone)]
struct PollsOn {
    inner: Probe,
}

service! { PollsOn,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        let mut call = Box::pin(self.inner.call(req));
        Box::pin(poll_fn(move |cx| {
            let answer = ready!(call.as_mut().poll(cx));
            assert!(call.as_mut().poll(cx).is_pending());
            Poll::Ready(answer)
        }))
    }
}

#[test]
fn poll_after_the_end_is_found() {
    let report = contract::check(|| layer_fn(|inner| PollsOn { inner }));
    assert_found(&report, &[(Rule::NoPollAfterEnd, Scenario::Answers)]);
}

#[derive(Clone)]
struct DropsResolved {
    inner: Probe,
}

service! { DropsResolved,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        let mut call = Box::pin(self.inner.call(req));
        Box::pin(async move { tokio::time::timeout(Duration::from_secs(1), call.as_mut()).await? })
    }
}

#[test]
fn async_block_that_ended_holds_nothing() {
    // The like of tower's timeout as an `async` block, which drops what it owns when it ends.
    contract::check(|| layer_fn(|inner| DropsResolved { inner })).assert_clean();
}

/// Keeps what has resolved for as long as it lives itself.
#[derive(Clone)]
struct KeepsResolved {
    inner: Probe,
}

service! { KeepsResolved,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        let mut call = Box::pin(self.inner.call(req));
        Box::pin(poll_fn(move |cx| call.as_mut().poll(cx)))
    }
}

#[test]
fn inner_future_kept_after_its_end_is_found_when_asked_for() {
    let make = || layer_fn(|inner| KeepsResolved { inner });
    contract::check(make).assert_clean();
    let report = Contract::new(make).drops_finished().run();
    assert_found(&report, &[(Rule::FinishedHoldsNothing, Scenario::FinishedKept)]);
    assert_eq!(report.violations().len(), 1, "{report}");

    let drops = || layer_fn(|inner| DropsResolved { inner });
    Contract::new(drops).drops_finished().run().assert_clean();
}

// ---- refusals

#[derive(Clone)]
struct Gate {
    inner: Probe,
    shut: Rc<Cell<bool>>,
    gives_back: bool,
}

service! { Gate,
    ready_as_inner!();
    fn call(&mut self, req: u32) -> BoxFuture {
        if !self.shut.get() {
            return Box::pin(self.inner.call(req));
        }
        if self.gives_back {
            self.inner = self.inner.clone();
        }
        Box::pin(async { Err("shut".into()) })
    }
}

struct GateLayer {
    shut: Rc<Cell<bool>>,
    gives_back: bool,
}

impl Layer<Probe> for GateLayer {
    type Service = Gate;

    fn layer(&self, inner: Probe) -> Gate {
        Gate { inner, shut: self.shut.clone(), gives_back: self.gives_back }
    }
}

fn gate(gives_back: bool, switch_works: bool) -> Report {
    let make = move || GateLayer { shut: Rc::default(), gives_back };
    let refusing = move || {
        let layer = make();
        let shut = layer.shut.clone();
        (layer, move || shut.set(switch_works))
    };
    Contract::new(make).refusing(refusing).through().run()
}

#[test]
fn reservation_kept_by_a_refusal_is_found() {
    gate(true, true).assert_clean();
    let report = gate(false, true);
    assert_found(&report, &[(Rule::GiveReservationBack, Scenario::Refused)]);
    assert_eq!(report.rules().len(), 2, "{report}"); // and with it the second service hangs
    assert_found(&report, &[(Rule::NoHang, Scenario::Refused)]);
}

#[test]
fn refusal_that_does_not_refuse_is_found() {
    assert_found(&gate(true, false), &[(Rule::Refuse, Scenario::Refused)]);
}

// ---- the check itself

#[test]
fn layer_that_is_not_what_it_says_is_found() {
    let wakes_one = || WakesOneLayer(Arc::default());
    assert_found(&Contract::new(wakes_one).through().run(), &[(Rule::AsDeclared, Scenario::Placement)]);
    let identity = tower::layer::util::Identity::new;
    assert_found(&Contract::new(identity).owning().run(), &[(Rule::AsDeclared, Scenario::Placement)]);
}

#[test]
fn allowed_violations_are_set_apart() {
    let report = Contract::new(|| layer_fn(|inner| PollsOn { inner })).allow(Rule::NoPollAfterEnd).run();
    report.assert_clean();
    assert!(!report.allowed().is_empty());
    assert!(report.to_string().contains("allowed: poll after the end"));
}

#[derive(Clone)]
struct NeverReturns {
    inner: Probe,
}

service! { NeverReturns,
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = self.inner.poll_ready(cx);
        while let Poll::Ready(Err(_)) = &ready {
            std::thread::park();
        }
        ready
    }
    fn call(&mut self, req: u32) -> BoxFuture {
        Box::pin(self.inner.call(req))
    }
}

#[test]
fn poll_that_never_returns_is_left_behind() {
    let make = || layer_fn(|inner| NeverReturns { inner });
    let report = Contract::new(make).patience(Duration::from_secs(3)).run();
    let hung: Vec<_> = report.violations().iter().map(|one| (one.rule, one.scenario)).collect();
    assert_eq!(hung, [(Rule::NoHang, Scenario::ReadinessFails)]);
}

#[test]
fn panic_of_a_layer_is_found() {
    let make = || layer_fn(|_: Probe| -> Probe { std::panic::resume_unwind(Box::new("no service today")) });
    let report = contract::check(make);
    assert_eq!(report.rules().into_iter().collect::<Vec<_>>(), [Rule::NoPanic]);
    assert!(report.to_string().contains("no service today"), "{report}");
}

#[test]
#[should_panic(expected = "violations of the contract of `Service`")]
fn unclean_report_panics_when_asked_to() {
    contract::check(|| layer_fn(|inner| CallsAClone { inner })).assert_clean();
}

#[tokio::test]
async fn check_may_run_inside_of_a_runtime() {
    contract::check(tower::layer::util::Identity::new).assert_clean();
}

#[test]
fn requests_and_errors_may_be_of_any_type() {
    struct Opaque(#[allow(dead_code)] String);
    let (identity, opaque) = (tower::layer::util::Identity::new, || Opaque("x".to_owned()));
    Contract::with(identity, opaque, opaque, opaque).through().run().assert_clean();
}
