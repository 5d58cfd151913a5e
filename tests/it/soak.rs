//! A whole stack under random faults for a long simulated time: nothing sticks, nothing leaks, every call is told
//! once. Ten minutes at 100 calls a second; `BUTTRESS_SOAK_SECONDS=86400` makes it a day.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    Backoff, BoxError, Breaker, Budget, Bulkhead, Chance, Event, Fallback, Jitter, Retry, ServiceBuilderExt,
    Timeout, breaker::State,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Answers, fails, is slow, hangs or panics, by chance; worse in some minutes than in others.
async fn faulty(chance: Arc<Chance>, start: Instant) -> Result<u32, BoxError> {
    let bad = if start.elapsed().as_secs() / 60 % 3 == 1 { 0.6 } else { 0.02 };
    let draw = chance.unit();
    sleep(ms(5 + (chance.unit() * 20.0) as u64)).await;
    match draw {
        draw if draw < bad * 0.5 => Err("down".into()),
        draw if draw < bad * 0.8 => {
            sleep(ms(400)).await;
            Ok(1)
        }
        draw if draw < bad * 0.95 => std::future::pending().await,
        draw if draw < bad => panic!("a fault of the soak's own making"),
        _ => Ok(1),
    }
}

#[tokio::test(start_paused = true)]
async fn random_faults_for_long_leave_nothing_behind() {
    let seconds =
        std::env::var("BUTTRESS_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600_u64);
    let chance = Arc::new(Chance::seeded(42));
    let (admitted, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen_admitted, seen_done) = (admitted.clone(), done.clone());
    let bulkhead = Bulkhead::builder("soak")
        .max_concurrent(20)
        .max_queue(20)
        .queue_timeout(Some(ms(100)))
        .on_event(move |event| {
            match event {
                Event::Note(note) if note.what == buttress::bulkhead::words::ADMITTED => {
                    seen_admitted.fetch_add(1, SeqCst)
                }
                Event::Done { outcome, .. } if outcome.as_str() != "cancelled" => {
                    seen_done.fetch_add(1, SeqCst)
                }
                _ => 0,
            };
        })
        .build()
        .unwrap();
    let breaker = Breaker::builder("soak").open_for(ms(2_000)).build().unwrap();
    let attempt = Timeout::builder("soak-attempt").limit(ms(200)).build().unwrap();
    let total = Timeout::builder("soak-total").limit(ms(900)).build().unwrap();
    let budget = Budget::new(0.2, 10).unwrap();
    let retry = Retry::builder("soak")
        .max_attempts(3)
        .backoff(Backoff::exponential(ms(20)).with_jitter(Jitter::Full))
        .budget(budget)
        .build()
        .unwrap();
    let fallback = Fallback::builder("soak").build().unwrap();
    let start = Instant::now();
    let faults = chance.clone();
    let service = ServiceBuilder::new()
        .fallback(fallback.layer().value(0_u32))
        .deadline(total.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .bulkhead(bulkhead.layer())
        .attempt_timeout(attempt.layer())
        .lift_errors()
        .service(service_fn(move |_: u32| faulty(faults.clone(), start)));

    let mut calls = JoinSet::new();
    let (mut good, mut ended, mut started) = (0_u64, 0_u64, 0_u64);
    for second in 0..seconds {
        for _ in 0..100 {
            sleep(ms(10)).await;
            started += 1;
            let patience = if chance.unit() < 0.05 { ms(30) } else { ms(5_000) };
            let mut service = service.clone();
            calls.spawn(
                async move { timeout(patience, async { service.ready().await?.call(1).await }).await },
            );
        }
        while let Some(ended_call) = calls.try_join_next() {
            ended += 1;
            good += u64::from(matches!(ended_call, Ok(Ok(Ok(1)))));
        }
        let now = bulkhead.snapshot();
        assert!(now.active <= 20 && now.queued <= 20, "second {second}: {now:?}");
        assert!(calls.len() < 200, "second {second}: {} calls are under way", calls.len());
    }
    while calls.join_next().await.is_some() {
        ended += 1;
    }

    assert_eq!(ended, started);
    let at_rest = bulkhead.snapshot();
    assert_eq!((at_rest.active, at_rest.queued), (0, 0), "{at_rest:?}");
    assert!(done.load(SeqCst) <= admitted.load(SeqCst), "told more ends than beginnings");
    assert!(good * 10 > started * 5, "only {good} of {started} were answered");
    // After the storm a stack is as new: the breaker closes, and calls go through.
    sleep(Duration::from_secs(120)).await;
    let calm = ServiceBuilder::new()
        .layer(breaker.layer())
        .layer(bulkhead.layer())
        .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
    for _ in 0..5 {
        calm.clone().oneshot(3).await.unwrap();
    }
    assert_eq!(breaker.state(), State::Closed);
}
