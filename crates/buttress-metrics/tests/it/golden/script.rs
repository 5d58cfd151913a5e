//! All that can happen to policies, one after the other. Each policy's name says what it is there for.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    time::Duration,
};

use buttress_breaker::{Breaker, KeyedBreaker};
use buttress_bulkhead::Bulkhead;
use buttress_core::{BoxError, CallContext, Verdict, context};
use buttress_fallback::Fallback;
use buttress_kit::{Backoff, Budget, Jitter, Mode, TokenBudgetConfig};
use buttress_metrics::{HandleMode, Metrics, trace::Trace};
use buttress_retry::Retry;
use buttress_test::{Probe, Script, poll_once, step};
use buttress_timeout::Timeout;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Policies that are still there when the page is read.
pub(super) type Kept = Vec<Box<dyn Any>>;

/// Ends a builder: metrics and log lines are this policy's own listeners.
macro_rules! seen {
    ($builder:expr, $metrics:expr) => {
        $builder.observe($metrics.clone()).observe(Trace::default()).build().unwrap()
    };
}

macro_rules! kept {
    ($($policy:expr),* $(,)?) => { vec![$(Box::new($policy) as Box<dyn Any>),*] };
}

pub(super) async fn run() -> Kept {
    let metrics = Metrics::default();
    let mut kept = kept![metrics.clone()];
    kept.extend(breakers(&metrics).await);
    kept.extend(breakers_by_hand(&metrics).await);
    kept.extend(keyed(&metrics).await);
    kept.extend(retries(&metrics).await);
    kept.extend(retries_that_stop(&metrics).await);
    kept.extend(timeouts(&metrics).await);
    kept.extend(bulkheads(&metrics).await);
    kept.extend(fallbacks(&metrics).await);
    kept.extend(settings().await);
    kept.extend(busy(&metrics));
    kept
}

type Answer = Result<u32, BoxError>;

async fn good() -> Answer {
    Ok(1)
}

async fn bad() -> Answer {
    Err("down".into())
}

/// Ends as asked, after a while.
async fn after(time: Duration, answer: Answer) -> Answer {
    sleep(time).await;
    answer
}

async fn panics() -> Answer {
    resume_unwind(Box::new("on purpose"));
}

/// Polls a call that is not to end yet.
fn begun<F: Future>(call: F) -> Pin<Box<F>> {
    let mut call = Box::pin(call);
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

/// That a call panics, whose caller lives on.
fn unwinds<F: Future>(call: F) {
    let mut call = Box::pin(call);
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(call.as_mut()).is_ready())).is_err());
}

fn ignores(_: Result<&u32, &BoxError>) -> Verdict {
    Verdict::Ignore
}

// ---- breaker

async fn breakers(metrics: &Metrics) -> Kept {
    // A whole outage: opened by a share of failures, refusals, two probes, closed.
    let outage = Breaker::builder("outage")
        .failure_rate(0.5)
        .minimum_calls(4)
        .open_for(5 * SECOND)
        .success_threshold(2)
        .seed(1);
    let outage = seen!(outage, metrics);
    outage.call(good).await.unwrap();
    let late = begun(outage.call(|| after(9 * SECOND, Ok(1))));
    for _ in 0..3 {
        outage.call(bad).await.unwrap_err();
    }
    for _ in 0..2 {
        outage.call(good).await.unwrap_err();
    }
    advance(5 * SECOND).await;
    let probe = begun(outage.call(|| after(SECOND, Ok(1))));
    outage.call(good).await.unwrap_err(); // a second probe is one too many
    probe.await.unwrap();
    outage.call(good).await.unwrap();
    late.await.unwrap(); // of a state that is over
    outage.call(bad).await.unwrap_err();

    // Opened by failures in a row, then by a probe, for longer; and left open.
    let grows = Backoff::exponential(SECOND).with_jitter(Jitter::Equal);
    let again = Breaker::builder("open_again").consecutive_failures(2).open_backoff(grows).seed(2);
    let again = seen!(again, metrics);
    for _ in 0..2 {
        again.call(bad).await.unwrap_err();
    }
    for _ in 0..2 {
        advance(10 * SECOND).await;
        again.call(bad).await.unwrap_err();
        again.call(good).await.unwrap_err();
    }

    // Left half-open, with a failure counted and a probe that never came back.
    let trial = Breaker::builder("half_open")
        .failure_rate(1.0)
        .minimum_calls(1)
        .open_for(SECOND)
        .success_threshold(3)
        .probe_lease(2 * SECOND)
        .seed(3);
    let trial = seen!(trial, metrics);
    trial.call(bad).await.unwrap_err();
    advance(SECOND).await;
    let lost = begun(trial.call(|| after(3600 * SECOND, Ok(1))));
    advance(2 * SECOND).await;
    trial.call(good).await.unwrap();
    drop(lost);

    // Opened by slow calls, that ended in every way.
    let slow = Breaker::builder("slow")
        .slow_call_duration(100 * MILLI)
        .slow_call_rate(0.75)
        .minimum_calls(5)
        .open_for(5 * SECOND)
        .seed(4);
    let slow = seen!(slow, metrics);
    slow.call(|| after(50 * MILLI, Ok(1))).await.unwrap();
    slow.call(|| after(200 * MILLI, Ok(1))).await.unwrap();
    slow.call(|| after(200 * MILLI, Ok(1))).classify_with(ignores).await.unwrap();
    let cancelled = begun(slow.call(|| after(SECOND, Ok(1))));
    advance(400 * MILLI).await;
    drop(cancelled);
    slow.call(|| after(200 * MILLI, Err("slow and down".into()))).await.unwrap_err();
    slow.call(|| after(300 * MILLI, Ok(1))).await.unwrap();
    slow.call(good).await.unwrap_err();

    // Calls that ended in every way and opened nothing; time-outs of the breaker's own among them.
    let ended =
        Breaker::builder("ended").consecutive_failures(100).call_timeout(30 * MILLI).minimum_calls(3).seed(5);
    let ended = seen!(ended, metrics);
    ended.call(good).await.unwrap();
    ended.call(bad).await.unwrap_err();
    ended.call(bad).classify_with(ignores).await.unwrap_err();
    ended.call(|| after(SECOND, Ok(1))).await.unwrap_err();
    unwinds(ended.call(panics));
    drop(begun(ended.call(|| after(SECOND, Ok(1)))));
    ended.try_acquire().unwrap().success();
    ended.try_acquire().unwrap().failure();
    ended.try_acquire().unwrap().failure_with(&*BoxError::from("down"));
    drop(ended.try_acquire().unwrap());

    // Refuses nothing and tells what it would have.
    let shadow = Breaker::builder("shadow").consecutive_failures(1).open_for(5 * SECOND).mode(Mode::Shadow);
    let shadow = seen!(shadow.seed(6), metrics);
    shadow.call(bad).await.unwrap_err();
    shadow.call(good).await.unwrap();
    shadow.call(bad).await.unwrap_err();

    // Half-open for too long.
    let bounded = || {
        let builder = Breaker::builder("half_open_for_long").consecutive_failures(1).open_for(SECOND).seed(7);
        builder.success_threshold(2).half_open_timeout(3 * SECOND)
    };
    let opens = seen!(bounded(), metrics);
    let closes = seen!(bounded().half_open_timeout_closes(true), metrics);
    for breaker in [&opens, &closes] {
        breaker.call(bad).await.unwrap_err();
        advance(SECOND).await;
        breaker.call(good).await.unwrap();
        advance(3 * SECOND).await;
        let _ = breaker.call(good).await;
    }

    // Through a layer, as most calls come.
    let layer = Breaker::builder("layer").consecutive_failures(1).open_for(5 * SECOND).seed(8);
    let layer = seen!(layer, metrics);
    let mut svc =
        layer.layer().layer(service_fn(|n: u32| async move { if n == 0 { bad().await } else { Ok(n) } }));
    for (n, passes) in [(1, true), (0, false), (1, false)] {
        assert_eq!(svc.ready().await.unwrap().call(n).await.is_ok(), passes);
    }
    kept![outage, again, trial, slow, ended, shadow, opens, closes, layer]
}

async fn breakers_by_hand(metrics: &Metrics) -> Kept {
    let builder =
        |name: &'static str| Breaker::builder(name).consecutive_failures(2).open_for(5 * SECOND).seed(9);
    let by_hand = seen!(builder("by_hand"), metrics);
    by_hand.force_open();
    by_hand.call(good).await.unwrap_err();
    by_hand.force_half_open().unwrap();
    by_hand.call(bad).await.unwrap_err();
    by_hand.force_open_for(60 * SECOND);
    by_hand.force_close();
    by_hand.isolate();
    by_hand.call(good).await.unwrap_err();
    by_hand.disable();
    by_hand.call(bad).await.unwrap_err();
    by_hand.call(good).await.unwrap();
    by_hand.metrics_only();
    for _ in 0..3 {
        by_hand.call(bad).await.unwrap_err(); // passes the threshold, and is told so once
    }
    by_hand.force_open();
    by_hand.reset();
    by_hand.reset(); // though there is nothing to reset

    let isolated = seen!(builder("isolated"), metrics);
    isolated.isolate();
    let disabled = seen!(builder("disabled"), metrics);
    disabled.disable();
    disabled.call(bad).await.unwrap_err();
    let watches = Breaker::builder("metrics_only").failure_rate(0.5).slow_call_rate(0.5).minimum_calls(2);
    let watches = seen!(watches.slow_call_duration(SECOND).seed(10), metrics);
    watches.metrics_only();
    for _ in 0..2 {
        watches.call(|| after(2 * SECOND, Err("slow and down".into()))).await.unwrap_err();
    }

    let reloaded = seen!(builder("reloaded"), metrics);
    reloaded.call(bad).await.unwrap_err();
    let mut config = reloaded.config();
    config.consecutive_failures = Some(1);
    reloaded.reconfigure(config.clone()).unwrap();
    config.open_for = Some(Duration::ZERO);
    reloaded.reconfigure(config).unwrap_err();
    reloaded.call(bad).await.unwrap_err();

    // Two of one name: the gauges are those of the first, and when that is gone those of the second.
    let twins = [seen!(builder("twins"), metrics), seen!(builder("twins"), metrics)];
    for twin in &twins {
        twin.call(good).await.unwrap();
    }
    let [first, second] = twins;
    first.force_open();
    drop(first);
    kept![by_hand, isolated, disabled, watches, reloaded, second]
}

async fn keyed(metrics: &Metrics) -> Kept {
    let tenants =
        Breaker::keyed("tenants").consecutive_failures(1).minimum_calls(1).open_for(5 * SECOND).seed(11);
    let tenants: KeyedBreaker<String> =
        seen!(tenants.slow_call_duration(SECOND).slow_call_rate(1.0), metrics);
    for key in ["fine", "opens", "half_open", "isolated", "disabled", "metrics_only", "removed"] {
        tenants.call(key, good).await.unwrap();
        let one = tenants.get(key).unwrap();
        match key {
            "opens" => {
                tenants.call(key, bad).await.unwrap_err();
                tenants.call(key, good).await.unwrap_err();
            }
            "half_open" => {
                one.force_open();
                one.force_half_open().unwrap();
            }
            "isolated" => one.isolate(),
            "disabled" => one.disable(),
            "metrics_only" => {
                one.metrics_only();
                tenants.call(key, bad).await.unwrap_err();
            }
            "removed" => assert!(tenants.remove(key).is_some()),
            _ => {
                tenants.call(key, || after(2 * SECOND, Ok(1))).await.unwrap();
                unwinds(tenants.call(key, panics));
                one.reset();
            }
        }
    }
    tenants.reconfigure(tenants.config()).unwrap();

    // Keys go when nobody uses them, and all of them are reset.
    let sweeps = Breaker::keyed("sweeps").consecutive_failures(1).idle_for(60 * SECOND).seed(12);
    let sweeps: KeyedBreaker<u32> = seen!(sweeps, metrics);
    for key in 0..3 {
        sweeps.call(&key, bad).await.unwrap_err();
    }
    sweeps.reset();
    sweeps.sweep();
    sweeps.call(&0, good).await.unwrap();
    sweeps.sweep();
    assert_eq!(sweeps.len(), 1);

    let shadow = Breaker::keyed("keys_in_shadow").consecutive_failures(1).mode(Mode::Shadow).seed(13);
    let shadow: KeyedBreaker<u32> = seen!(shadow, metrics);
    shadow.call(&0, bad).await.unwrap_err();
    shadow.call(&0, good).await.unwrap();
    kept![tenants, sweeps, shadow]
}

// ---- retry

async fn retries(metrics: &Metrics) -> Kept {
    let grows = || Backoff::exponential(100 * MILLI).with_jitter(Jitter::Full);
    let ended = Retry::builder("ended").max_attempts(3).backoff(grows()).seed(21);
    let ended = seen!(ended.budget(Budget::new(0.0, 10).unwrap()), metrics);
    let script = Script::new([step::ok(1), step::err("reset"), step::err("refused"), step::ok(2)]);
    let inner: Probe<u32, u32> = script.then(|| step::err("down")).service();
    let mut svc = ended.layer().layer(inner);
    svc.ready().await.unwrap().call(1).await.unwrap();
    svc.ready().await.unwrap().call(1).await.unwrap();
    svc.ready().await.unwrap().call(1).await.unwrap_err();
    drop(begun(svc.ready().await.unwrap().call(1))); // in its wait
    drop(begun(ended.call(|| after(SECOND, Ok(1))))); // in its first attempt
    unwinds(ended.call(panics));
    ended.layer().classify_with(ignores).call(bad).await.unwrap_err();

    // What calls for another attempt, and how long it waits.
    let reasons = Retry::builder("reasons").max_attempts(2).backoff(Backoff::constant(SECOND)).seed(22);
    let reasons = seen!(reasons, metrics);
    let by_response = reasons.layer().classify_with(|answer: Result<&u32, &BoxError>| match answer {
        Ok(1) => Verdict::retry_after(4 * SECOND),
        Ok(_) => Verdict::transient(),
        Err(_) => Verdict::permanent(),
    });
    by_response.call(good).await.unwrap();
    by_response.call(|| async { Ok::<_, BoxError>(2) }).await.unwrap();
    let limit = Timeout::builder("inside").limit(SECOND).build().unwrap();
    reasons.call(|| limit.call(|| after(9 * SECOND, Ok(1)))).await.unwrap_err();

    // One budget for two, and none for a third.
    let budget = Budget::new(0.0, 10).unwrap();
    let builder = |name: &'static str| Retry::builder(name).max_attempts(2).backoff(Backoff::none());
    let shares = ["shares", "shares_too"].map(|name| seen!(builder(name).budget(budget.clone()), metrics));
    for retry in &shares {
        retry.call(bad).await.unwrap_err();
    }
    let free = seen!(builder("no_budget"), metrics);
    free.call(bad).await.unwrap_err();
    let mut config = free.config();
    config.max_attempts = 1;
    free.reconfigure(config).unwrap();
    free.call(bad).await.unwrap_err();
    let [first, second] = shares;
    kept![ended, reasons, first, second, free]
}

/// A policy for each reason: of one policy's exhausted retries one line a second is written.
async fn retries_that_stop(metrics: &Metrics) -> Kept {
    let builder = |name: &'static str| {
        Retry::builder(name).max_attempts(2).backoff(Backoff::constant(100 * MILLI)).seed(23)
    };
    let attempts = seen!(builder("max_attempts"), metrics);
    attempts.call(bad).await.unwrap_err();
    let budget = seen!(builder("budget").budget(Budget::new(0.0, 0).unwrap()), metrics);
    budget.call(bad).await.unwrap_err();
    let deadline = seen!(builder("deadline").max_elapsed(50 * MILLI), metrics);
    deadline.call(bad).await.unwrap_err();
    let permanent = seen!(builder("not_retryable"), metrics);
    let classified = permanent.layer().classify_with(|_: Result<&u32, &BoxError>| Verdict::permanent());
    for _ in 0..2 {
        classified.call(bad).await.unwrap_err();
    }
    let no_replay = seen!(builder("not_replayable"), metrics);
    let once = no_replay.layer().replay_with(|_: &u32| None);
    once.layer(service_fn(|_: u32| bad())).oneshot(1).await.unwrap_err();
    let not_ready = seen!(builder("not_ready"), metrics);
    let inner: Probe<u32, u32> = Script::new([]).then(|| step::err("down")).service();
    let mut svc = not_ready.layer().layer(inner.clone());
    let call = begun(svc.ready().await.unwrap().call(1));
    inner.fail_readiness("broken for good".into());
    call.await.unwrap_err();

    let ten = TokenBudgetConfig::default().with_capacity(10).with_prices(1, 1, 1);
    let often = seen!(builder("often").budget(Budget::tokens(ten).unwrap()), metrics);
    for _ in 0..12 {
        often.call(bad).await.unwrap_err();
    }
    crate::sleep(1050 * MILLI);
    for _ in 0..2 {
        often.call(bad).await.unwrap_err();
    }
    kept![attempts, budget, deadline, permanent, no_replay, not_ready, often]
}

// ---- timeout

async fn timeouts(metrics: &Metrics) -> Kept {
    let ended = seen!(Timeout::builder("ended").limit(2 * SECOND), metrics);
    ended.call(good).await.unwrap();
    ended.call(|| after(SECOND, Ok(1))).await.unwrap();
    ended.call(bad).await.unwrap_err();
    ended.call(|| after(3 * SECOND, Ok(1))).await.unwrap_err();
    ended.call_within(70 * MILLI, || after(SECOND, Ok(1))).await.unwrap_err();
    unwinds(ended.call(panics));
    let left = begun(ended.call(|| after(SECOND, Ok(1))));
    advance(300 * MILLI).await;
    drop(left);
    // The caller's deadline has passed, or passes first.
    let until = |time| CallContext::default().until((Instant::now() + time).into_std());
    context::scope(until(Duration::ZERO), async { ended.call(good).await }).await.unwrap_err();
    let shorter = async { ended.call(|| after(SECOND, Ok(1))).await };
    context::scope(until(500 * MILLI), shorter).await.unwrap_err();
    let mut config = ended.config();
    config.limit = SECOND;
    ended.reconfigure(config).unwrap();

    let answers = seen!(Timeout::builder("answers").limit(SECOND), metrics);
    let svc = answers.layer().fallback(|| 7).layer(service_fn(|_: u32| after(2 * SECOND, Ok(1))));
    assert_eq!(svc.oneshot(1).await.unwrap(), 7);
    kept![ended, answers]
}

// ---- bulkhead

async fn bulkheads(metrics: &Metrics) -> Kept {
    let full = Bulkhead::builder("full").max_concurrent(1).max_queue(2).queue_timeout(5 * SECOND);
    let full = seen!(full, metrics);
    full.call(good).await.unwrap();
    full.call(bad).await.unwrap_err();
    unwinds(full.call(panics));
    let running = begun(full.call(|| after(2 * SECOND, Ok(1))));
    let mut next = begun(full.call(|| after(4 * SECOND, Ok(1))));
    let waits = begun(full.call(good));
    full.call(good).await.unwrap_err(); // no room in the queue
    running.await.unwrap();
    assert!(poll_once(next.as_mut()).is_pending()); // let in
    waits.await.unwrap_err(); // waited for too long
    drop(begun(full.call(good))); // left the queue
    next.await.unwrap();
    drop(begun(full.call(|| after(SECOND, Ok(1))))); // left while it ran
    full.try_acquire().unwrap().record(Verdict::transient());
    drop(full.try_acquire().unwrap());
    let layer = full.layer().classify_with(ignores);
    layer.layer(service_fn(|_: u32| bad())).oneshot(1).await.unwrap_err();
    full.reset();

    // The queue is cleared, the limit changed, and in the end it is closed.
    let steered = seen!(Bulkhead::builder("steered").max_concurrent(1).max_queue(4), metrics);
    let first = begun(steered.call(|| after(SECOND, Ok(1))));
    let cleared = [begun(steered.call(good)), begun(steered.call(good))];
    assert_eq!(steered.clear_queue(), 2);
    for call in cleared {
        call.await.unwrap_err();
    }
    let mut second = begun(steered.call(|| after(SECOND, Ok(1))));
    steered.set_limit(2).unwrap();
    assert!(poll_once(second.as_mut()).is_pending());
    let mut config = steered.config();
    config.max_concurrent = 3;
    steered.reconfigure(config).unwrap();
    let third = begun(steered.call(|| after(SECOND, Ok(1))));
    let sent_away = begun(steered.call(good));
    steered.close();
    sent_away.await.unwrap_err();
    steered.call(good).await.unwrap_err();
    first.await.unwrap();
    second.await.unwrap();
    drop(third);

    let shadow = Bulkhead::builder("shadow").max_concurrent(1).max_queue(1).mode(Mode::Shadow);
    let shadow = seen!(shadow, metrics);
    let over: Vec<_> = (0..3).map(|_| begun(shadow.call(|| after(SECOND, Ok(1))))).collect();
    for call in over {
        call.await.unwrap();
    }
    kept![full, steered, shadow]
}

// ---- fallback

async fn fallbacks(metrics: &Metrics) -> Kept {
    // Neither metrics nor lines ask for the time; somebody else does.
    let ended = seen!(Fallback::builder("ended").on_event(|_| {}), metrics);
    let backup = service_fn(|n: u32| async move {
        if n == 2 { after(30 * MILLI, Err("also down".into())).await } else { after(20 * MILLI, Ok(0)).await }
    });
    let handles = |answer: Result<&u32, &BoxError>| answer.is_err_and(|error| error.to_string() == "down");
    let layer = ended.layer().service(backup).handle_with(handles);
    let svc = layer.layer(service_fn(|n: u32| async move {
        match n {
            0 => Ok(n),
            1 | 2 => bad().await,
            3 => Err("grave".into()),
            4 => panics().await,
            _ => after(SECOND, Ok(n)).await,
        }
    }));
    for (n, answered) in [(0, true), (1, true), (2, false), (3, false)] {
        assert_eq!(svc.clone().oneshot(n).await.is_ok(), answered);
    }
    unwinds(svc.clone().oneshot(4));
    drop(begun(svc.oneshot(5)));
    ended.reconfigure(ended.config()).unwrap();

    let value = seen!(Fallback::builder("value"), metrics);
    assert_eq!(value.layer().value(7).layer(service_fn(|_: u32| bad())).oneshot(1).await.unwrap(), 7);

    // Old answers: given again, too old, gone to make room.
    let store = seen!(Fallback::builder("last_good").max_keys(2).max_age(60 * SECOND), metrics);
    let layer = store.layer().last_good(|n: &(u32, bool)| n.0, |_: &mut u32, _| {});
    let mut svc = layer
        .layer(service_fn(|(n, down): (u32, bool)| async move { if down { bad().await } else { Ok(n) } }));
    for n in [1, 2, 3] {
        svc.ready().await.unwrap().call((n, false)).await.unwrap();
    }
    advance(10 * SECOND).await;
    svc.ready().await.unwrap().call((3, true)).await.unwrap();
    svc.ready().await.unwrap().call((1, true)).await.unwrap_err(); // was evicted
    advance(60 * SECOND).await;
    svc.ready().await.unwrap().call((3, true)).await.unwrap_err(); // is too old
    kept![ended, value, store]
}

// ---- settings of the metrics

async fn settings() -> Kept {
    let prefixed = Metrics::builder().prefix("acme_").histograms(false).build().unwrap();
    let per_call = Metrics::builder().handle_mode(HandleMode::PerCall).build().unwrap();
    let few_names = Metrics::builder().prefix("few_").max_names(1).build().unwrap();
    let policies = |metrics: &Metrics, name: &'static str| {
        let bulkhead = seen!(Bulkhead::builder(name).max_concurrent(1).max_queue(0), metrics);
        let breaker = Breaker::builder(name).consecutive_failures(1).open_for(5 * SECOND).seed(31);
        let timeout = seen!(Timeout::builder(name).limit(SECOND), metrics);
        (bulkhead, seen!(breaker, metrics), timeout)
    };
    let all = [
        policies(&prefixed, "prefixed"),
        policies(&per_call, "per_call"),
        policies(&few_names, "first"),
        policies(&few_names, "second"),
        policies(&few_names, "third"),
    ];
    for (bulkhead, breaker, timeout) in &all {
        let call = begun(bulkhead.call(|| after(SECOND, Ok(1))));
        bulkhead.call(good).await.unwrap_err();
        call.await.unwrap();
        breaker.call(bad).await.unwrap_err();
        breaker.force_close();
        breaker.call(bad).await.unwrap_err();
        breaker.call(good).await.unwrap_err();
        timeout.call(good).await.unwrap();
    }
    kept![all]
}

/// Busy when the page is read: one call runs and one waits. The last of all, so that no other takes time meanwhile.
fn busy(metrics: &Metrics) -> Kept {
    let busy = seen!(Bulkhead::builder("busy").max_concurrent(1).max_queue(4), metrics);
    let calls = (begun(busy.call(|| after(3600 * SECOND, Ok(1)))), begun(busy.call(good)));
    kept![busy, calls]
}
