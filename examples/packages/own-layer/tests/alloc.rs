//! What calls and refusals allocate: nothing. A binary of its own, because the counter replaces the allocator.

use std::{future::pending, pin::pin, task::Context, task::Poll, task::Waker};

use buttress_core::{Error, Rejection};
use own_layer::Turnstile;

type Answer = Result<u32, Error<Rejection>>;

fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

fn poll<F: Future>(call: F) -> Poll<F::Output> {
    pin!(call).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn calls_and_refusals_allocate_nothing() {
    let turnstile = Turnstile::builder("search").max_in_flight(1).build().unwrap();
    let counted = allocations(|| {
        for _ in 0..100 {
            assert!(matches!(poll(turnstile.call(|| async { Answer::Ok(1) })), Poll::Ready(Ok(1))));
            let held = turnstile.call(pending::<Answer>);
            assert!(matches!(poll(turnstile.call(pending::<Answer>)), Poll::Ready(Err(_))));
            drop(held);
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn calls_and_refusals_of_a_known_key_allocate_nothing() {
    let turnstiles = Turnstile::keyed("tenants").max_in_flight(1).build().unwrap().show_keys();
    let _ = poll(turnstiles.call("acme", || async { Answer::Ok(1) }));
    let counted = allocations(|| {
        for _ in 0..100 {
            assert!(matches!(poll(turnstiles.call("acme", || async { Answer::Ok(1) })), Poll::Ready(Ok(1))));
            let held = turnstiles.call("acme", pending::<Answer>);
            assert!(matches!(poll(turnstiles.call("acme", pending::<Answer>)), Poll::Ready(Err(_))));
            drop(held);
        }
    });
    assert_eq!(counted, 0);
}
