//! Real policies, and what a process exports of them.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_breaker::Breaker;
use buttress_bulkhead::Bulkhead;
use buttress_core::{BoxError, Event};
use buttress_fallback::Fallback;
use buttress_kit::{Backoff, Budget};
use buttress_metrics::Metrics;
use buttress_retry::Retry;
use buttress_test::Series;
use buttress_timeout::Timeout;
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::Seen;

const STATES: [&str; 6] = ["closed", "open", "half_open", "isolated", "disabled", "metrics_only"];

async fn fail() -> Result<(), BoxError> {
    Err("down".into())
}

async fn succeed() -> Result<(), BoxError> {
    Ok(())
}

fn state(seen: &Seen, name: &str) -> Vec<&'static str> {
    let of = |state| seen.gauge("circuit_breaker_state", &[("name", name), ("state", state)]).unwrap();
    STATES.into_iter().filter(|state| of(state) == 1.0).collect()
}

// A layer is metered under the name it was given.
#[tokio::test(start_paused = true)]
async fn breaker_tells_calls_states_and_ratios() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let name = "service-circuit-breaker";
    let breaker = Breaker::builder(name)
        .failure_rate(0.5)
        .minimum_calls(4)
        .open_for(Duration::from_secs(5))
        .success_threshold(1)
        .observe(Metrics::default())
        .build()
        .unwrap();
    assert_eq!(state(&seen, name), ["closed"]); // before any call
    let ratio = || seen.gauge("circuit_breaker_failure_ratio", &[("name", name)]).unwrap();
    assert!(ratio().is_nan());

    breaker.call(succeed).await.unwrap();
    for _ in 0..3 {
        breaker.call(fail).await.unwrap_err();
    }
    assert_eq!(state(&seen, name), ["open"]);
    assert_eq!(ratio(), 0.75); // what opened it
    breaker.call(succeed).await.unwrap_err(); // refused
    advance(Duration::from_secs(5)).await;
    breaker.call(succeed).await.unwrap();
    assert_eq!(state(&seen, name), ["closed"]);
    assert!(ratio().is_nan());
    drop(breaker.call(|| sleep_for(3600)));
    breaker.isolate();
    assert_eq!(state(&seen, name), ["isolated"]);

    let calls = |result| seen.counter("circuit_breaker_calls_total", &[("name", name), ("result", result)]);
    assert_eq!((calls("success"), calls("failure"), calls("rejected")), (2, 3, 1));
    for (from, to) in
        [("closed", "open"), ("open", "half_open"), ("half_open", "closed"), ("closed", "isolated")]
    {
        let labels = [("name", name), ("from", from), ("to", to)];
        assert_eq!(seen.counter("circuit_breaker_state_changes_total", &labels), 1, "{from} -> {to}");
    }
    assert_eq!(seen.counter("circuit_breaker_state_changes_total", &[]), 4);
    assert!(seen.gauge("circuit_breaker_last_transition_timestamp_seconds", &[]).is_some());
}

// The share that opened the circuit is of the past by then, whoever made it half-open and whatever came since.
#[tokio::test(start_paused = true)]
async fn half_open_breaker_has_no_ratio() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let builder = Breaker::builder("x").failure_rate(0.5).minimum_calls(2).success_threshold(3);
    let breaker = builder.open_for(Duration::from_secs(1)).observe(Metrics::default()).build().unwrap();
    let ratio = || seen.gauge("circuit_breaker_failure_ratio", &[("name", "x")]).unwrap();
    for by_hand in [false, true] {
        while breaker.state() == buttress_breaker::State::Closed {
            breaker.call(fail).await.unwrap_err();
        }
        assert_eq!(ratio(), 1.0);
        advance(Duration::from_secs(1)).await;
        if by_hand {
            breaker.force_half_open().unwrap();
            assert!(ratio().is_nan());
        }
        breaker.call(succeed).await.unwrap();
        breaker.call(succeed).await.unwrap();
        assert_eq!(state(&seen, "x"), ["half_open"]);
        assert!(ratio().is_nan(), "by hand: {by_hand}");
        breaker.call(succeed).await.unwrap();
    }
}

// `increase` over a series that begins at 1 is 0: the first opening would be seen by no alert.
#[tokio::test(start_paused = true)]
async fn changes_that_a_rule_makes_are_counted_from_zero() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let breaker = Breaker::builder("payments").observe(Metrics::default()).build().unwrap();
    breaker.call(succeed).await.unwrap();
    let series = seen.0.series();
    let changes = series.iter().filter(|one| one.name == "circuit_breaker_state_changes_total");
    let label = |one: &Series, key| one.labels.iter().find(|(k, _)| k == key).unwrap().1.clone();
    let mut moves: Vec<_> = changes.map(|one| (label(one, "from"), label(one, "to"))).collect();
    moves.sort();
    let by_rule = [("closed", "open"), ("half_open", "closed"), ("half_open", "open"), ("open", "half_open")];
    assert_eq!(moves, by_rule.map(|(from, to)| (from.to_owned(), to.to_owned())));
    assert_eq!(seen.counter("circuit_breaker_state_changes_total", &[]), 0);
}

async fn sleep_for(seconds: u64) -> Result<(), BoxError> {
    sleep(Duration::from_secs(seconds)).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn breaker_tells_durations_and_slow_calls() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let breaker = Breaker::builder("payments")
        .slow_call_duration(Duration::from_secs(2))
        .slow_call_rate(1.0)
        .minimum_calls(2)
        .observe(Metrics::default())
        .build()
        .unwrap();
    breaker.call(|| sleep_for(1)).await.unwrap();
    breaker.call(|| sleep_for(3)).await.unwrap();
    let ratio = |name| seen.gauge(name, &[("name", "payments")]);
    assert_eq!(ratio("circuit_breaker_slow_ratio"), Some(0.5));
    assert_eq!(ratio("circuit_breaker_failure_ratio"), Some(0.0));
    let success = [("name", "payments"), ("result", "success")];
    assert_eq!(seen.counter("circuit_breaker_calls_total", &success), 2);
    assert_eq!(seen.counter("circuit_breaker_slow_calls_total", &success), 1);
    assert_eq!(seen.0.histogram("circuit_breaker_call_duration_seconds", &success), [1.0, 3.0]);
}

#[tokio::test(start_paused = true)]
async fn retry_tells_attempts_after_the_first_and_why_it_stopped() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let retry = Retry::builder("payments")
        .max_attempts(3)
        .backoff(Backoff::constant(Duration::from_millis(200)))
        .budget(Budget::new(0.0, 10).unwrap())
        .observe(Metrics::default())
        .build()
        .unwrap();
    let made = AtomicU32::new(0);
    let second = || async {
        match made.fetch_add(1, Relaxed) {
            0 => fail().await,
            _ => succeed().await,
        }
    };
    retry.call(succeed).await.unwrap();
    retry.call(second).await.unwrap();
    retry.call(fail).await.unwrap_err();
    drop(tokio_test::task::spawn(retry.call(|| sleep_for(3600))).poll());

    let calls = |result| seen.counter("retry_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("successful_without_retry"), calls("successful_with_retry")), (1, 1));
    assert_eq!((calls("failed_with_retry"), calls("failed_without_retry"), calls("cancelled")), (1, 0, 1));
    assert_eq!(seen.counter("retry_attempts_total", &[("reason", "error")]), 3);
    assert_eq!(seen.counter("retry_stopped_total", &[("reason", "max_attempts")]), 1);
    assert_eq!(seen.0.histogram("retry_backoff_seconds", &[]), [0.2, 0.2, 0.2]);
    // Three retries are taken out within the last second, and the floor has filled up to nine of ten again.
    assert_eq!(seen.gauge("retry_budget_available_ratio", &[("name", "payments")]), Some(0.75));
}

#[tokio::test(start_paused = true)]
async fn timeout_tells_operations_by_result() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let timeout = Timeout::builder("payments")
        .limit(Duration::from_secs(2))
        .observe(Metrics::default())
        .build()
        .unwrap();
    timeout.call(|| sleep_for(1)).await.unwrap();
    timeout.call(|| sleep_for(3)).await.unwrap_err();
    timeout.call(fail).await.unwrap_err();
    drop(tokio_test::task::spawn(timeout.call(|| sleep_for(1))).poll());

    let calls =
        |result| seen.counter("timeout_operations_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("success"), calls("timeout"), calls("failure"), calls("cancelled")), (1, 1, 1, 1));
    let took = |result| seen.0.histogram("timeout_operation_duration_seconds", &[("result", result)]);
    assert_eq!((took("success"), took("timeout")), (vec![1.0], vec![2.0]));
}

#[tokio::test(start_paused = true)]
async fn bulkhead_tells_entries_endings_and_gauges() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let bulkhead = Bulkhead::builder("payments")
        .max_concurrent(1)
        .max_queue(2)
        .queue_timeout(Duration::from_secs(5))
        .observe(Metrics::default())
        .build()
        .unwrap();
    let gauge = |name| seen.gauge(name, &[("name", "payments")]);
    assert_eq!(gauge("bulkhead_limit"), Some(1.0));

    let call = |seconds| tokio_test::task::spawn(bulkhead.call(move || sleep_for(seconds)));
    let (mut first, mut second, mut third) = (call(2), call(4), call(1));
    assert!(first.poll().is_pending() && second.poll().is_pending() && third.poll().is_pending());
    assert_eq!((gauge("bulkhead_in_flight"), gauge("bulkhead_queue_depth")), (Some(1.0), Some(2.0)));
    bulkhead.call(succeed).await.unwrap_err(); // the line is full
    first.await.unwrap();
    assert!(second.poll().is_pending()); // let in after 2 s
    third.await.unwrap_err(); // waited for 5 s
    second.await.unwrap();
    assert_eq!((gauge("bulkhead_in_flight"), gauge("bulkhead_queue_depth")), (Some(0.0), Some(0.0)));

    let entered =
        |state| seen.counter("bulkhead_executions_total", &[("name", "payments"), ("state", state)]);
    assert_eq!((entered("active"), entered("queued"), entered("rejected")), (2, 2, 2));
    let calls = |result| seen.counter("bulkhead_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("completed"), calls("rejected"), calls("queue_timeout")), (2, 1, 1));
    assert_eq!(seen.0.histogram("bulkhead_queue_wait_seconds", &[]), [2.0, 5.0]);
}

#[tokio::test(start_paused = true)]
async fn waiter_that_is_dropped_is_a_cancelled_call() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let bulkhead =
        Bulkhead::builder("payments").max_concurrent(1).observe(Metrics::default()).build().unwrap();
    let call = || tokio_test::task::spawn(bulkhead.call(|| sleep_for(1)));
    let (mut running, mut waiting) = (call(), call());
    assert!(running.poll().is_pending() && waiting.poll().is_pending());
    drop(waiting);
    drop(running);
    assert_eq!(seen.counter("bulkhead_calls_total", &[("result", "cancelled")]), 2);
}

#[tokio::test(start_paused = true)]
async fn fallback_tells_who_answered() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let fallback = Fallback::builder("prices").observe(Metrics::default()).build().unwrap();
    let svc = fallback
        .layer()
        .value(0)
        .layer(service_fn(|n: u32| async move { if n == 0 { Err(BoxError::from("down")) } else { Ok(n) } }));
    assert_eq!(svc.clone().oneshot(7).await.unwrap(), 7);
    assert_eq!(svc.oneshot(0).await.unwrap(), 0);
    let calls = |result| seen.counter("fallback_calls_total", &[("name", "prices"), ("result", result)]);
    assert_eq!((calls("primary"), calls("fallback_success")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn whole_stack_counts_each_call_once_in_every_layer() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let fallback = Fallback::builder("shop").observe(metrics.clone()).build().unwrap();
    let retry = Retry::builder("shop")
        .max_attempts(2)
        .backoff(Backoff::constant(Duration::from_millis(10)))
        .observe(metrics.clone())
        .build()
        .unwrap();
    let breaker =
        Breaker::builder("shop").consecutive_failures(1000).observe(metrics.clone()).build().unwrap();
    let bulkhead =
        Bulkhead::builder("shop").max_concurrent(4).max_queue(0).observe(metrics.clone()).build().unwrap();
    let timeout = Timeout::builder("shop").limit(Duration::from_millis(50)).observe(metrics).build().unwrap();
    let stack = tower::ServiceBuilder::new()
        .layer(fallback.layer().value(0))
        .layer(retry.layer())
        .layer(breaker.layer())
        .layer(bulkhead.layer())
        .layer(timeout.layer())
        .service(service_fn(|n: u32| async move {
            match n % 4 {
                0 => Err(BoxError::from("down")),
                1 => {
                    sleep(Duration::from_secs(1)).await;
                    Ok(n)
                }
                _ => {
                    sleep(Duration::from_millis(20)).await;
                    Ok(n)
                }
            }
        }));
    let started = 40;
    let calls: Vec<_> = (0..started).map(|n| tokio::spawn(stack.clone().oneshot(n))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        if n % 8 == 7 {
            call.abort();
        }
        let _ = call.await;
    }

    let sum = |name| seen.counter(name, &[("name", "shop")]);
    let result = |name, result| seen.counter(name, &[("name", "shop"), ("result", result)]);

    let calls = sum("fallback_calls_total");
    assert!(calls > 0 && calls <= u64::from(started));
    assert_eq!(sum("retry_calls_total"), calls);
    let attempts = calls + sum("retry_attempts_total");
    assert_eq!(sum("circuit_breaker_calls_total"), attempts);
    assert_eq!(sum("bulkhead_calls_total"), attempts - result("circuit_breaker_calls_total", "rejected"));
    assert_eq!(
        sum("timeout_operations_total"),
        seen.counter("bulkhead_executions_total", &[("name", "shop"), ("state", "active")])
    );
    assert!(result("timeout_operations_total", "timeout") > 0);
    assert!(result("bulkhead_calls_total", "rejected") > 0);
    assert_eq!(seen.gauge("bulkhead_in_flight", &[("name", "shop")]), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn call_that_succeeds_at_the_third_attempt_is_one_call_and_two_more_attempts() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let retry = Retry::builder("service-retry").max_attempts(3).observe(Metrics::default()).build().unwrap();
    let made = AtomicU32::new(0);
    let third = || async {
        match made.fetch_add(1, Relaxed) {
            0 | 1 => fail().await,
            _ => succeed().await,
        }
    };
    retry.call(third).await.unwrap();
    let (calls, attempts) =
        (seen.counter("retry_calls_total", &[]), seen.counter("retry_attempts_total", &[]));
    assert_eq!((calls, calls + attempts), (1, 3));
    assert_eq!(seen.counter("retry_calls_total", &[("result", "successful_with_retry")]), 1);
}

#[tokio::test(start_paused = true)]
async fn panic_is_counted_as_a_failure_in_every_layer_and_leaves_no_gauge_up() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let retry = Retry::builder("shop").observe(metrics.clone()).build().unwrap();
    let breaker = Breaker::builder("shop").consecutive_failures(5).observe(metrics.clone()).build().unwrap();
    let bulkhead = Bulkhead::builder("shop").observe(metrics.clone()).build().unwrap();
    let timeout = Timeout::builder("shop").limit(Duration::from_secs(1)).observe(metrics).build().unwrap();
    let stack = tower::ServiceBuilder::new()
        .layer(retry.layer())
        .layer(breaker.layer())
        .layer(bulkhead.layer())
        .layer(timeout.layer())
        .service(service_fn(|n: u32| async move {
            sleep(Duration::from_millis(1)).await;
            if n == 0 { panic!("on purpose") } else { Ok::<_, BoxError>(n) }
        }));
    assert!(tokio::spawn(stack.clone().oneshot(0)).await.unwrap_err().is_panic());

    let one = |name, result| assert_eq!(seen.counter(name, &[("result", result)]), 1, "{name}");
    one("retry_calls_total", "failed_without_retry");
    one("circuit_breaker_calls_total", "failure");
    one("bulkhead_calls_total", "failed");
    one("timeout_operations_total", "failure");
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
    assert_eq!(state(&seen, "shop"), ["closed"]);
    assert_eq!(stack.oneshot(1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_listeners_missed_is_counted() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    // Each call that it hears of makes it make two thousand, of which one thousand and twenty-four can wait.
    let handle: Arc<OnceLock<Bulkhead>> = Arc::default();
    let own = handle.clone();
    let begun = AtomicBool::new(false);
    let busy = Bulkhead::builder("orders").observe(metrics.clone()).on_event(move |event| {
        if matches!(event, Event::Done { .. }) && !begun.swap(true, Relaxed) {
            (0..2_000).for_each(|_| drop(own.get().unwrap().try_acquire()));
        }
    });
    let busy = handle.get_or_init(|| busy.build().unwrap());
    busy.call(succeed).await.unwrap();
    metrics.refresh();
    let missed = || seen.counter("policy_events_missed_total", &[("name", "orders"), ("kind", "bulkhead")]);
    let first = missed();
    assert!(first > 0);
    metrics.refresh();
    assert_eq!(missed(), first); // each is counted once
    // Metrics themselves miss nothing.
    assert_eq!(seen.counter("bulkhead_calls_total", &[]), 2_001);
}
