//! Who runs, who waits, who is refused.

use std::time::Duration;

use buttress_bulkhead::Bulkhead;
use buttress_core::rejection;
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::BoxError;
use tower_test::{assert_request_eq, mock};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

// S1-046
#[test]
fn defaults_are_ten_at_once_a_hundred_waiting_and_thirty_seconds() {
    let bulkhead = Bulkhead::builder("db").build().unwrap();
    let config = bulkhead.config();
    assert_eq!((config.max_concurrent, config.max_queue), (10, 100));
    // C-26
    assert_eq!(config.queue_timeout, Some(Duration::from_secs(30)));
}

// S1-047, C-47
#[tokio::test(start_paused = true)]
async fn sixty_first_call_is_refused_while_ten_run_and_fifty_wait() {
    let bulkhead = Bulkhead::builder("db").max_concurrent(10).max_queue(50).build().unwrap();
    let (svc, _inner) = mock::spawn_layer::<u32, (), _>(bulkhead.layer());
    let mut svc = svc.into_inner();
    let mut calls = Vec::new();
    for n in 0..60 {
        let mut call = task::spawn(tower::Service::call(&mut svc, n));
        assert_pending!(call.poll());
        calls.push(call);
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.active, snapshot.queued), (10, 50));

    let mut late = task::spawn(tower::Service::call(&mut svc, 60));
    let refused = assert_ready_err!(late.poll());
    let why = rejection(&*refused).unwrap();
    assert_eq!((why.code(), why.policy(), why.was_sent()), ("BULKHEAD_QUEUE_FULL", "db", false));
    assert_eq!(bulkhead.snapshot().rejected, 1);
}

// S1-049, C-47, vector blipee-bulkhead-queue-timeout
#[tokio::test(start_paused = true)]
async fn waiter_that_timed_out_leaves_the_line_and_the_next_call_runs_at_once() {
    let bulkhead =
        Bulkhead::builder("db").max_concurrent(1).max_queue(5).queue_timeout(ms(100)).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(bulkhead.layer());
    inner.allow(2);

    let mut a = task::spawn(svc.call("a"));
    assert_pending!(a.poll());
    let mut b = task::spawn(svc.call("b"));
    assert_pending!(b.poll());
    advance(ms(99)).await;
    assert_pending!(b.poll());
    advance(ms(1)).await;
    assert!(b.is_woken());
    let refused: BoxError = assert_ready_err!(b.poll());
    assert_eq!(rejection(&*refused).unwrap().code(), "BULKHEAD_QUEUE_TIMEOUT");
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.queued, snapshot.queue_timeouts, snapshot.rejected), (0, 1, 0));

    assert_request_eq!(inner, "a").send_response("done");
    assert_eq!(assert_ready_ok!(a.poll()), "done");
    let mut c = task::spawn(svc.call("c"));
    assert_pending!(c.poll());
    assert_request_eq!(inner, "c");
}
