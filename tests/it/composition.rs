//! What holds for every layer alike.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress::{
    Backoff, BoxError, Breaker, Bulkhead, Fallback, Jitter, Retry, ServiceBuilderExt, Timeout, Verdict,
    breaker::{self, State},
    rejection,
    test::MetricsProbe,
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, load_shed::error::Overloaded, service_fn,
};

async fn down(_: u32) -> Result<u32, BoxError> {
    Err("down".into())
}

#[tokio::test]
async fn clones_and_services_of_one_layer_share_one_policy() {
    let breaker = Breaker::builder("shared").consecutive_failures(4).build().unwrap();
    let (one, two) = (breaker.wrap(service_fn(down)), breaker.wrap(service_fn(down)));
    for service in [one.clone(), one, two.clone(), two] {
        assert_eq!(breaker.state(), State::Closed);
        service.oneshot(1).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);
    let other = Breaker::builder("shared").consecutive_failures(4).build().unwrap();
    assert_eq!(other.state(), State::Closed, "the same name is not the same policy");
}

/// Polls a future that has resolved again: it may panic, as std's do, and must not count anything twice.
async fn polled_twice<F: Future>(future: F) {
    let mut future = pin!(future);
    future.as_mut().await;
    let again = std::panic::AssertUnwindSafe(|| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = future.as_mut().poll(&mut context);
    });
    let _ = std::panic::catch_unwind(again);
}

#[tokio::test(start_paused = true)]
async fn polling_a_resolved_future_counts_nothing_twice() {
    let breaker = Breaker::builder("twice").consecutive_failures(9).build().unwrap();
    polled_twice(breaker.wrap(service_fn(down)).ready().await.unwrap().call(1)).await;
    assert_eq!(breaker.snapshot().failures, 1);

    let bulkhead = Bulkhead::builder("twice").max_concurrent(3).build().unwrap();
    polled_twice(bulkhead.wrap(service_fn(down)).ready().await.unwrap().call(1)).await;
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.active, snapshot.available, snapshot.failed), (0, 3, 1));

    let retry = Retry::builder("twice").max_attempts(2).build().unwrap();
    polled_twice(retry.wrap(service_fn(down)).ready().await.unwrap().call(1)).await;
    assert_eq!(retry.snapshot().retries, 1);

    let timeout = Timeout::builder("twice").limit(Duration::from_secs(1)).build().unwrap();
    let hanging = service_fn(|_: u32| std::future::pending::<Result<u32, BoxError>>());
    polled_twice(timeout.wrap(hanging).ready().await.unwrap().call(1)).await;
    assert_eq!(timeout.snapshot().timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn one_classifier_is_obeyed_by_every_layer_and_by_the_metrics() {
    fn judge(outcome: Result<&u16, &BoxError>) -> Verdict {
        match outcome {
            Ok(200) => Verdict::Success,
            Ok(404) => Verdict::Ignore,
            Ok(_) => Verdict::transient(),
            // The caller's own fault, not the service's.
            Err(_) => Verdict::Ignore,
        }
    }
    let probe = MetricsProbe::install_global();
    buttress::metrics::install();
    let fallback = Fallback::builder("one-classifier").build().unwrap();
    let retry = Retry::builder("one-classifier").max_attempts(2).backoff(Backoff::none()).build().unwrap();
    let breaker = Breaker::builder("one-classifier").consecutive_failures(9).build().unwrap();
    let bulkhead = Bulkhead::builder("one-classifier").build().unwrap();
    let mut stack = ServiceBuilder::new()
        .fallback(fallback.layer().value(299).classify_with(judge))
        .retrying(retry.layer().classify_with(judge))
        .breaker(breaker.layer().classify_with(judge))
        .bulkhead(bulkhead.layer().classify_with(judge))
        .service(service_fn(|status: u16| async move {
            if status == 0 { Err::<u16, BoxError>("no such request".into()) } else { Ok(status) }
        }));
    for (status, answer) in [(200, Some(200)), (404, Some(404)), (503, Some(299)), (0, None)] {
        assert_eq!(stack.ready().await.unwrap().call(status).await.ok(), answer);
    }

    // One success, two outcomes that say nothing, and one failure that was tried twice.
    let (seen, held) = (breaker.snapshot(), bulkhead.snapshot());
    assert_eq!((seen.successes, seen.ignored, seen.failures), (1, 2, 2));
    assert_eq!((held.completed, held.failed, retry.snapshot().retries), (3, 2, 1));
    assert_eq!((fallback.snapshot().answered, fallback.snapshot().not_handled), (1, 1));
    let told = |name, result| probe.counter(name, &[("name", "one-classifier"), ("result", result)]);
    for (result, count) in [("success", 1), ("ignored", 2), ("failure", 2)] {
        assert_eq!(told("circuit_breaker_calls_total", result), count, "{result}");
    }
    assert_eq!((told("bulkhead_calls_total", "completed"), told("bulkhead_calls_total", "failed")), (3, 2));
    assert_eq!(probe.counter("retry_attempts_total", &[("name", "one-classifier")]), 1);
    assert_eq!(told("fallback_calls_total", "fallback_success"), 1);
}

// Known from a total time-out with a fallback, around a bulkhead: who waited in line got the line's refusal.
#[tokio::test(start_paused = true)]
async fn total_time_out_answers_for_calls_that_waited_in_line_until_then() {
    let total = Timeout::builder("total").limit(Duration::from_secs(1)).build().unwrap();
    let bulkhead = Bulkhead::builder("line").max_concurrent(1).build().unwrap();
    let _slot = bulkhead.try_acquire().unwrap();
    let stack = ServiceBuilder::new().deadline(total.layer()).bulkhead(bulkhead.layer());
    let why = stack.service(service_fn(down)).oneshot(1).await.unwrap_err();
    let why = rejection(&*why).unwrap();
    assert_eq!((why.code().as_str(), why.policy(), why.was_sent()), ("TIMEOUT", "total", false));
    let stack = ServiceBuilder::new().deadline(total.layer().fallback(|| 7)).bulkhead(bulkhead.layer());
    assert_eq!(stack.service(service_fn(down)).oneshot(1).await.unwrap(), 7);
    assert_eq!((total.snapshot().timeouts, bulkhead.snapshot().queue_timeouts), (2, 2));
}

// A refusal from `poll_ready` would close a buffer for good, and be one for everybody behind it.
#[tokio::test(start_paused = true)]
async fn buffer_around_a_stack_outlives_its_refusals() {
    let breaker = Breaker::builder("buffered").consecutive_failures(9).build().unwrap();
    let bulkhead = Bulkhead::builder("buffered").max_concurrent(2).max_queue(0).build().unwrap();
    let slow = service_fn(|n: u32| async move {
        tokio::time::sleep(Duration::from_millis(3)).await;
        Ok::<_, BoxError>(n)
    });
    let stack = ServiceBuilder::new().breaker(breaker.layer()).bulkhead(bulkhead.layer()).service(slow);
    let buffered = Buffer::new(stack, 4);
    let calls: Vec<_> = (0..50).map(|n| tokio::spawn(buffered.clone().oneshot(n))).collect();
    let mut refused = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert_eq!(rejection(&*error).unwrap().code(), "BULKHEAD_QUEUE_FULL");
            refused += 1;
        }
    }
    assert_eq!(refused, 48);
    breaker.isolate();
    let error = buffered.clone().oneshot(1).await.unwrap_err();
    assert_eq!(rejection(&*error).unwrap().code(), "CIRCUIT_OPEN");
    breaker.force_close();
    assert_eq!(buffered.oneshot(7).await.unwrap(), 7);
}

// Refusals come from `call`, so that load shedding outside has nothing to shed, unless the gate is asked for.
#[tokio::test(start_paused = true)]
async fn load_shedding_outside_sheds_only_what_is_not_ready() {
    for gated in [false, true] {
        let breaker = Breaker::builder("shed").gate_readiness(gated).build().unwrap();
        let echo = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
        let stack = ServiceBuilder::new().load_shed().layer(breaker.layer()).service(echo);
        breaker.force_open();
        let error = stack.clone().oneshot(1).await.unwrap_err();
        assert_eq!((error.is::<Overloaded>(), rejection(&*error).is_some()), (gated, !gated));
        breaker.force_close();
        assert_eq!(stack.oneshot(2).await.unwrap(), 2);
    }
    let bulkhead = Bulkhead::builder("shed").max_concurrent(1).max_queue(0).build().unwrap();
    let _slot = bulkhead.try_acquire().unwrap();
    let stack = ServiceBuilder::new().load_shed().service(bulkhead.layer().layer(service_fn(down)));
    assert!(rejection(&*stack.oneshot(1).await.unwrap_err()).is_some());
}

// Known from a write that had timed out, whose retry was refused: "not sent", said the refusal.
#[tokio::test(start_paused = true)]
async fn refusal_of_a_later_attempt_does_not_say_that_nothing_was_sent() {
    let policies = || {
        let breaker = Breaker::builder("attempts").consecutive_failures(1).build().unwrap();
        (Retry::builder("attempts").backoff(Backoff::none()).build().unwrap(), breaker)
    };
    let (retry, breaker) = policies();
    let whole = Breaker::builder("whole").consecutive_failures(9).build().unwrap();
    let outer = Retry::builder("outer").backoff(Backoff::none()).build().unwrap();
    let stack = ServiceBuilder::new()
        .retrying(outer.layer())
        .breaker(whole.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .service(service_fn(down));
    let error = stack.clone().oneshot(1).await.unwrap_err();
    let why = rejection(&*error).unwrap();
    assert_eq!((why.policy(), why.code().as_str(), why.was_sent()), ("attempts", "CIRCUIT_OPEN", true));
    assert_eq!(error.source().unwrap().to_string(), "down");
    // The call has failed, and to repeat it would work against whoever refused.
    assert_eq!((outer.snapshot().retries, whole.snapshot().failures), (0, 1));
    // The only attempt of this one was not sent.
    let error = stack.oneshot(1).await.unwrap_err();
    assert!(!rejection(&*error).unwrap().was_sent());
    assert_eq!((whole.snapshot().failures, whole.snapshot().ignored), (1, 1));

    let (retry, breaker) = policies();
    let stack = ServiceBuilder::new().retrying(retry.layer()).breaker(breaker.layer()).typed_errors();
    let broken = service_fn(|_: u32| async { Err::<u32, _>(std::io::Error::other("down")) });
    let error = stack.service(broken).oneshot(1).await.unwrap_err();
    assert!(error.rejection().unwrap().was_sent());
    // Nor were those of one that was refused again and again.
    breaker.isolate();
    let again = Retry::builder("again").backoff(Backoff::none()).retry_rejections([breaker::OPEN]);
    let again = again.build().unwrap();
    let stack = ServiceBuilder::new().retrying(again.layer()).breaker(breaker.layer());
    let error = stack.service(service_fn(down)).oneshot(1).await.unwrap_err();
    assert_eq!((again.snapshot().retries, rejection(&*error).unwrap().was_sent()), (2, false));
}

// What cannot be cancelled keeps its slot for as long as it runs.
#[tokio::test]
async fn slot_moved_into_work_that_outlives_its_time_out_is_held_until_that_ends() {
    let bulkhead = Bulkhead::builder("blocking").max_concurrent(1).max_queue(0).build().unwrap();
    let timeout = Timeout::builder("blocking").limit(Duration::from_millis(20)).build().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let slots = bulkhead.clone();
    let call = timeout.call(|| async move {
        let permit = slots.acquire().await?;
        let work = move || {
            let _permit = permit;
            let _ = wait.recv();
        };
        tokio::task::spawn_blocking(work).await.map_err(BoxError::from)
    });
    assert_eq!(rejection(&*call.await.unwrap_err()).unwrap().code(), "TIMEOUT");
    assert_eq!(bulkhead.snapshot().active, 1, "the caller has gone, the work has not");
    assert_eq!(bulkhead.try_acquire().unwrap_err().code(), "BULKHEAD_QUEUE_FULL");
    go.send(()).unwrap();
    bulkhead.drain().await;
    drop(bulkhead.try_acquire().unwrap());
}

// Two limits and a retry around a line: the outer limit is up while the call waits, and everyone is told once.
#[tokio::test(start_paused = true)]
async fn deadline_that_ends_a_wait_in_line_is_a_time_out_of_both_limits_and_nothing_was_sent() {
    let bulkhead = Bulkhead::builder("line").max_concurrent(1).max_queue(1).build().unwrap();
    let limit =
        |name: &'static str, ms| Timeout::builder(name).limit(Duration::from_millis(ms)).build().unwrap();
    let (total, attempt) = (limit("total", 100), limit("attempt", 1_000));
    let retry = Retry::builder("attempts").backoff(Backoff::none()).build().unwrap();
    let whole = Breaker::builder("whole").consecutive_failures(9).build().unwrap();
    let stack = ServiceBuilder::new()
        .breaker(whole.layer())
        .deadline(total.layer())
        .retrying(retry.layer())
        .attempt_timeout(attempt.layer())
        .bulkhead(bulkhead.layer())
        .service(service_fn(down));
    let _taken = bulkhead.acquire().await.unwrap();
    let error = stack.oneshot(1).await.unwrap_err();
    let why = rejection(&*error).unwrap();
    assert_eq!((why.policy(), why.code().as_str(), why.was_sent()), ("total", "TIMEOUT", false));
    for limit in [&total, &attempt] {
        let seen = limit.snapshot();
        assert_eq!((seen.timeouts, seen.failures, seen.cancelled, seen.refused), (1, 0, 0, 0));
    }
    assert_eq!((retry.snapshot().retries, bulkhead.snapshot().queued), (0, 0));
    // It only waited for its turn.
    assert_eq!((whole.snapshot().failures, whole.snapshot().ignored), (0, 1));
}

// The deadline may end a wait, an attempt, or the room for one, as chance has it: the caller gets the same.
#[tokio::test(start_paused = true)]
async fn deadline_around_retries_is_a_time_out_with_the_last_failure_whatever_it_ends() {
    let limit =
        |name: &'static str, ms| Timeout::builder(name).limit(Duration::from_millis(ms)).build().unwrap();
    let (mut dropped, mut stopped) = (0, 0);
    for seed in 0..60 {
        let total = limit("total", 300);
        // It obeys the deadline, and notices first that this has passed.
        let attempt = limit("attempt", 3_600_000);
        let wait = Backoff::constant(Duration::from_millis(600)).with_jitter(Jitter::Full);
        let retry = Retry::builder("attempts").max_attempts(9).backoff(wait).seed(seed).build().unwrap();
        let attempts = AtomicU32::new(0);
        let stack = ServiceBuilder::new()
            .deadline(total.layer())
            .retrying(retry.layer())
            .option_layer((seed % 2 > 0).then(|| attempt.layer()))
            .service(service_fn(|n: u32| {
                let first = attempts.fetch_add(1, Relaxed) == 0;
                async move {
                    // From its second attempt on it hangs.
                    if !first {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    }
                    if first { Err(BoxError::from("disk full on node 7")) } else { Ok(n) }
                }
            }));
        let error = stack.oneshot(1).await.unwrap_err();
        assert_eq!(rejection(&*error).unwrap().code(), "TIMEOUT", "seed {seed}");
        let chain: Vec<_> =
            std::iter::successors(error.source(), |&error| error.source()).map(ToString::to_string).collect();
        assert_eq!(chain, ["disk full on node 7"], "seed {seed}");
        if total.snapshot().timeouts == 1 {
            dropped += 1
        } else {
            stopped += 1
        }
        assert_eq!(total.snapshot().cancelled, 0);
    }
    assert!(dropped > 5 && stopped > 5, "{dropped} and {stopped}");
}

#[tokio::test(start_paused = true)]
async fn retries_around_retries_that_report_exhaustion_do_not_nest_their_errors() {
    let retry = |name: &str| {
        let retry = Retry::builder(name).max_attempts(2).backoff(Backoff::none()).report_exhaustion(true);
        // Tries again what one inside gave up on.
        retry.build().unwrap().layer().classify_with(|_: Result<&u32, &BoxError>| Verdict::transient())
    };
    let five = ServiceBuilder::new()
        .retrying(retry("five"))
        .retrying(retry("four"))
        .retrying(retry("three"))
        .retrying(retry("two"))
        .retrying(retry("one"))
        .service(service_fn(down));
    let error = five.oneshot(1).await.unwrap_err();
    assert_eq!(rejection(&*error).unwrap().policy(), "five");
    let chain: Vec<_> = std::iter::successors(error.source(), |&error| error.source()).collect();
    assert_eq!(chain.iter().map(ToString::to_string).collect::<Vec<_>>(), ["down"]);
}
