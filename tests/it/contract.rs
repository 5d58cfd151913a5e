//! Every layer, and a stack of them, before the contract of `Service`: in place, refused, dropped, starved, woken.

use std::time::Duration;

use buttress::{
    BoxError, Breaker, Bulkhead, Fallback, FallbackLayer, LiftErrorsLayer, Meter, RespondLayer, Retry,
    RetryConfig, Timeout,
    breaker::{OnCancel, State},
    test::{Probe, contract::Contract, step},
};
use http::{Request, Response};
use tower::ServiceBuilder;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Opens at three failures, so that the scenarios see it closed, open and half-open.
fn breaker() -> Breaker {
    let builder = Breaker::builder("contract").consecutive_failures(3).open_for(ms(500));
    builder.on_cancel(OnCancel::Failure).success_threshold(2).seed(1).build().unwrap()
}

#[test]
fn breaker_keeps_the_contract_in_every_state() {
    Contract::new(|| breaker().layer()).through().run().assert_clean();
    let force_open = || {
        let breaker = breaker();
        (breaker.layer(), move || breaker.force_open())
    };
    Contract::new(|| breaker().layer()).refusing(force_open).run().assert_clean();
    let isolate = || {
        let breaker = breaker();
        (breaker.layer(), move || breaker.isolate())
    };
    Contract::new(|| breaker().layer()).refusing(isolate).run().assert_clean();

    let half_open =
        || Breaker::builder("contract").initial_state(State::HalfOpen).open_for(ms(500)).build().unwrap();
    Contract::new(move || half_open().layer()).run().assert_clean();
    let gated = || Breaker::builder("contract").gate_readiness(true).build().unwrap();
    Contract::new(move || gated().layer()).through().run().assert_clean();
    let timed = || Breaker::builder("contract").call_timeout(ms(200)).build().unwrap();
    Contract::new(move || timed().layer()).through().run().assert_clean();
}

#[test]
fn retry_keeps_the_contract() {
    for attempts in [1, 3] {
        let retry = move || Retry::new("contract", RetryConfig::fixed(attempts, ms(10))).unwrap();
        Contract::new(move || retry().layer()).through().drops_finished().run().assert_clean();
    }
}

#[test]
fn timeout_keeps_the_contract() {
    let timeout = || Timeout::builder("contract").limit(ms(1_000)).build().unwrap();
    Contract::new(move || timeout().layer()).through().drops_finished().run().assert_clean();
}

#[test]
fn bulkhead_keeps_the_contract() {
    for (max_concurrent, max_queue) in [(1, 0), (1, 3), (3, 100)] {
        let bulkhead = move || {
            let builder = Bulkhead::builder("contract").max_concurrent(max_concurrent);
            builder.max_queue(max_queue).build().unwrap()
        };
        let close = move || {
            let bulkhead = bulkhead();
            (bulkhead.layer(), move || bulkhead.close())
        };
        for slots in [1, 4] {
            let contract = Contract::new(move || bulkhead().layer()).refusing(close).slots(slots);
            contract.owning().drops_finished().run().assert_clean();
        }
    }
}

#[test]
fn fallback_keeps_the_contract() {
    let layer = || -> FallbackLayer { Fallback::builder("contract").build().unwrap().layer() };
    Contract::new(move || layer().value(9)).through().drops_finished().run().assert_clean();
    let second = || Probe::<u32, u32, BoxError>::new(|_| step::ok(3)).slots(1);
    let by_service = move || layer().service(second());
    Contract::new(by_service).owning().drops_finished().run().assert_clean();
}

#[test]
fn meter_keeps_the_contract() {
    let meter = || Meter::new("contract").unwrap();
    Contract::new(move || meter().layer()).through().run().assert_clean();
    let watched = || Meter::builder("contract").on_event(|_| {}).build().unwrap();
    Contract::new(move || watched().layer()).through().run().assert_clean();
}

#[test]
fn respond_and_lift_keep_the_contract() {
    Contract::new(LiftErrorsLayer::new).through().run().assert_clean();
    let (request, response) = (|| Request::new(()), || Response::new("fine".to_owned()));
    let error = || -> BoxError { "down".into() };
    Contract::with(RespondLayer::new, request, response, error).run().assert_clean();
}

#[test]
fn six_layers_keep_the_contract() {
    let stack = || {
        ServiceBuilder::new()
            .layer(Timeout::builder("total").limit(ms(3_000)).build().unwrap().layer())
            .layer(Retry::new("retry", RetryConfig::fixed(3, ms(10))).unwrap().layer())
            .layer(breaker().layer())
            .layer(Bulkhead::builder("bulkhead").max_concurrent(2).max_queue(4).build().unwrap().layer())
            .layer(Timeout::builder("attempt").limit(ms(300)).build().unwrap().layer())
            .layer(LiftErrorsLayer::new())
            .into_inner()
    };
    Contract::new(stack).run().assert_clean();
}
