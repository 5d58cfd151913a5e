//! For how long a circuit stays open.

use buttress_breaker::{Breaker, BreakerConfig, State};
use buttress_kit::{Backoff, Jitter};

use crate::support::*;

// They would be probed together, by all clients of the service that comes back.
#[tokio::test(start_paused = true)]
async fn circuits_that_opened_together_are_not_probed_together() {
    let jitter = BreakerConfig::default().open_backoff.jitter;
    assert_eq!(jitter, Jitter::Symmetric(0.5));
    let wait = Backoff::exponential(secs(10)).with_max(secs(60)).with_jitter(jitter);
    let one = |seed| Breaker::builder("x").consecutive_failures(1).open_backoff(wait.clone()).seed(seed);
    let all: Vec<Breaker> = (0..1_000).map(|seed| one(seed).build().unwrap()).collect();
    for together in all.chunks(100) {
        together.iter().for_each(|breaker| breaker.fail(1));
        pass(ms(10)).await;
    }
    let mut half_open = vec![0];
    for _ in 0..1_600 {
        pass(ms(10)).await;
        half_open.push(all.iter().filter(|breaker| breaker.state() == State::HalfOpen).count());
    }
    let most = half_open.windows(51).map(|seen| seen[50] - seen[0]).max().unwrap();
    assert!(most <= 100, "{most} within half a second");
    assert_eq!(half_open.last(), Some(&1_000));
}

#[tokio::test(start_paused = true)]
async fn open_for_is_exactly_as_long_as_it_says() {
    for seed in 0..100 {
        let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(10)).seed(seed);
        let breaker = builder.build().unwrap();
        for _ in 0..3 {
            breaker.fail(1);
            pass(ms(9_999)).await;
            breaker.is(State::Open);
            pass(ms(1)).await;
            breaker.is(State::HalfOpen);
        }
    }
}
