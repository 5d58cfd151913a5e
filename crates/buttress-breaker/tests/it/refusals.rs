//! Whoever is refused is told when to try again, whatever the reason.

use std::time::Duration;

use buttress_breaker::{Breaker, BreakerBuilder, BreakerConfig, Permit, Ramp, State};
use buttress_core::{BoxError, Rejection, rejection};
use buttress_kit::{Backoff, Jitter};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn builder() -> BreakerBuilder {
    Breaker::builder("x").consecutive_failures(1).open_for(secs(5)).success_threshold(2)
}

fn built() -> Breaker {
    builder().build().unwrap()
}

/// Half-open, with its one probe under way.
async fn probed(builder: BreakerBuilder) -> (Breaker, Permit) {
    let breaker = builder.build().unwrap();
    breaker.fail(1);
    pass(secs(5)).await;
    let probe = breaker.try_acquire().unwrap();
    (breaker, probe)
}

/// A service behind it that is never ready itself.
fn never_ready(
    breaker: &Breaker,
) -> task::Spawn<impl Service<(), Response = (), Error = BoxError> + Unpin + use<>> {
    let full = tower::limit::ConcurrencyLimit::new(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }), 0);
    task::spawn(breaker.wrap(full))
}

async fn refused_by<S>(svc: &mut task::Spawn<S>) -> Rejection
where
    S: Service<(), Response = (), Error = BoxError> + Unpin,
{
    let call = svc.enter(|_, mut svc| svc.call(()));
    rejection(&*call.await.unwrap_err()).expect("refused").clone()
}

fn is_ready<S: Service<(), Error = BoxError> + Unpin>(svc: &mut task::Spawn<S>) -> bool {
    svc.enter(|cx, mut svc| svc.poll_ready(cx)).is_ready()
}

// One row for each way in which a call can be refused
#[tokio::test(start_paused = true)]
async fn every_refusal_says_when_to_try_again_and_never_says_at_once() {
    let mut table: Vec<(&str, Rejection, Duration)> = Vec::new();

    let breaker = built();
    breaker.fail(1);
    pass(ms(1_500)).await;
    table.push(("open by a rule", breaker.refused(), ms(3_500)));
    pass(Duration::from_nanos(3_499_999_999)).await;
    table.push(("open for another nanosecond", breaker.refused(), ms(1)));
    breaker.force_open();
    table.push(("open by hand", breaker.refused(), secs(5)));
    breaker.force_open_for(ms(70));
    table.push(("open by hand for a time of its own", breaker.refused(), ms(70)));
    breaker.force_open_for(Duration::ZERO);
    table.push(("open by hand for no time", breaker.refused(), ms(1)));
    let begun = Breaker::builder("x").initial_state(State::Open).open_for(secs(2)).build().unwrap();
    table.push(("open from the start", begun.refused(), secs(2)));
    begun.force_open_for(Duration::MAX);
    // 584 years, rounded up to the unit in which a rejection says such times.
    table.push(("open for ever", begun.refused(), secs(18_446_745_600)));

    let (breaker, _probe) = probed(builder()).await;
    table.push(("half-open, every probe taken", breaker.refused(), secs(5)));
    let (breaker, _probe) = probed(builder().probe_lease(ms(20))).await;
    table.push(("half-open, a short lease", breaker.refused(), ms(20)));
    let (breaker, _probe) = probed(builder().probe_lease(secs(600))).await;
    table.push(("half-open, a long lease", breaker.refused(), secs(5)));
    let breaker = builder().initial_state(State::HalfOpen).build().unwrap();
    let _probe = breaker.try_acquire().unwrap();
    table.push(("half-open from the start", breaker.refused(), secs(5)));
    // Three leases that ran out must not stand in the way of the one probe that is left.
    let (breaker, _first) = probed(builder().permitted_probes(3).probe_lease(secs(1))).await;
    let _others = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    let mut fewer = breaker.config();
    fewer.permitted_probes = 1;
    breaker.reconfigure(fewer).unwrap();
    pass(secs(1)).await;
    let _again = breaker.try_acquire().unwrap();
    table.push(("half-open, with fewer probes than before", breaker.refused(), secs(1)));

    let breaker = built();
    breaker.isolate();
    table.push(("isolated", breaker.refused(), secs(5)));
    pass(secs(3_600)).await;
    table.push(("isolated for an hour", breaker.refused(), secs(5)));
    let mut longer = breaker.config();
    longer.open_for = Some(secs(7));
    breaker.reconfigure(longer).unwrap();
    table.push(("isolated, with new settings", breaker.refused(), secs(7)));
    for (backoff, hint) in [
        (Backoff::exponential(secs(2)).with_jitter(Jitter::Full), secs(2)),
        (Backoff::decorrelated(secs(2)), secs(2)),
        (Backoff::list([secs(3), secs(9)]), secs(3)),
        (Backoff::exponential(Duration::from_nanos(1)), ms(1)),
    ] {
        let isolated =
            builder().open_for(None).open_backoff(backoff).initial_state(State::Isolated).build().unwrap();
        table.push(("isolated from the start", isolated.refused(), hint));
    }
    let isolated = Breaker::new("x", BreakerConfig::default()).unwrap();
    isolated.isolate();
    table.push(("isolated, default settings", isolated.refused(), secs(5)));

    for (over, hint) in [(secs(10), secs(1)), (Duration::from_nanos(1), ms(1))] {
        let ramp = Ramp::over(over).start(f64::MIN_POSITIVE);
        let (breaker, probe) = probed(builder().success_threshold(1).ramp(ramp).seed(1)).await;
        probe.success();
        table.push(("ramp", breaker.refused(), hint));
    }

    // Through a service: the decision falls in `poll_ready`, what is told belongs to the state of the call.
    let breaker = built();
    let mut svc = never_ready(&breaker);
    assert!(!is_ready(&mut svc));
    breaker.fail(1);
    assert!(svc.is_woken() && is_ready(&mut svc));
    table.push(("parked in `poll_ready`, and opened", refused_by(&mut svc).await, secs(5)));
    assert!(is_ready(&mut svc));
    breaker.force_open_for(secs(60));
    table.push(("opened anew for longer before the call", refused_by(&mut svc).await, secs(60)));
    assert!(is_ready(&mut svc));
    breaker.isolate();
    table.push(("isolated before the call", refused_by(&mut svc).await, secs(5)));
    assert!(is_ready(&mut svc));
    table.push(("isolated, through a service", refused_by(&mut svc).await, secs(5)));
    assert!(is_ready(&mut svc));
    breaker.force_close();
    table.push(("closed before the call", refused_by(&mut svc).await, ms(1)));
    table.push(("called without readiness", refused_by(&mut svc).await, ms(1)));
    breaker.force_open();
    table.push(("called without readiness, open", refused_by(&mut svc).await, secs(5)));
    assert!(is_ready(&mut svc));
    pass(secs(5)).await;
    table.push(("half-open by the time of the call", refused_by(&mut svc).await, secs(5)));
    let probe = breaker.try_acquire().unwrap();
    assert!(is_ready(&mut svc));
    table.push(("half-open, through a service", refused_by(&mut svc).await, secs(5)));
    drop(probe);
    let _probe = breaker.try_acquire().unwrap();
    let refused = breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    table.push(("half-open, through `call`", rejection(&*refused).unwrap().clone(), secs(5)));

    let keyed = Breaker::keyed("x").consecutive_failures(1).open_for(secs(5)).build().unwrap();
    keyed.try_acquire(&1).unwrap().failure();
    table.push(("a key's circuit, open", keyed.try_acquire(&1).unwrap_err(), secs(5)));
    let mut svc = keyed.layer_by(|(): &()| 1).layer(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }));
    let error = svc.ready().await.unwrap().call(()).await.unwrap_err();
    table.push(("the same, through a service", rejection(&*error).unwrap().clone(), secs(5)));
    keyed.get(&1).unwrap().isolate();
    table.push(("a key's circuit, isolated", keyed.try_acquire(&1).unwrap_err(), secs(5)));
    keyed.get(&1).unwrap().force_half_open().unwrap();
    let _probe = keyed.try_acquire(&1).unwrap();
    table.push(("a key's circuit, half-open", keyed.try_acquire(&1).unwrap_err(), secs(5)));

    for (how, refused, wait) in &table {
        assert_eq!(refused.code(), "CIRCUIT_OPEN", "{how}");
        assert_eq!(refused.retry_after(), Some(*wait), "{how}");
        assert!(*wait >= ms(1), "{how}");
    }
}

// What is only counted as refused says the same to those who listen.
#[tokio::test(start_paused = true)]
async fn shadow_tells_listeners_when_it_would_have_been_worth_another_try() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let to = heard.clone();
    let breaker = builder().mode(buttress_kit::Mode::Shadow).on_event(move |event| {
        if let buttress_core::Event::Refused { rejection, .. } = event {
            to.lock().unwrap().push(rejection.retry_after());
        }
    });
    let breaker = breaker.build().unwrap();
    breaker.fail(2);
    breaker.isolate();
    breaker.ok(1);
    assert_eq!(*heard.lock().unwrap(), [Some(secs(5)), Some(secs(5))]);
}
