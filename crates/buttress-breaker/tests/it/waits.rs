//! For how long a circuit stays open.

use std::time::Duration;

use buttress_breaker::{Breaker, BreakerConfig, State};
use buttress_core::{BoxError, FromRejection, Rejection, Verdict};
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

/// Answers are statuses and what they say of a later try; all are failures.
async fn fails(breaker: &Breaker, retry_after: Option<Duration>) {
    let call = breaker.call(|| async { Ok::<_, BoxError>(429) });
    let judged = call
        .classify_with(move |_: Result<&u16, &BoxError>| Verdict::Failure { permanent: false, retry_after });
    judged.await.unwrap();
}

// A quota that is used up for a minute is no crash.
#[tokio::test(start_paused = true)]
async fn failure_that_says_when_to_try_again_keeps_the_circuit_open_until_then_within_bounds() {
    for (max, said, expected) in [
        (Some(secs(60)), None, secs(5)),
        (Some(secs(60)), Some(secs(2)), secs(5)),
        (Some(secs(60)), Some(secs(40)), secs(40)),
        (Some(secs(60)), Some(secs(3_600)), secs(60)),
        (Some(secs(60)), Some(Duration::MAX), secs(60)),
        (None, Some(secs(40)), secs(5)),
    ] {
        let builder = Breaker::builder("x").consecutive_failures(2).open_for(secs(5)).retry_after_max(max);
        let (breaker, heard) = Heard::by(builder);
        // What an earlier one said is not asked for.
        fails(&breaker, Some(secs(50))).await;
        fails(&breaker, said).await;
        assert_eq!(breaker.refused().retry_after(), Some(expected), "{max:?}, {said:?}");
        pass(expected.checked_sub(ms(1)).unwrap()).await;
        breaker.is(State::Open);
        pass(ms(1)).await;
        breaker.is(State::HalfOpen);
        // And of a probe.
        fails(&breaker, said).await;
        assert_eq!(breaker.refused().retry_after(), Some(expected), "{max:?}, {said:?}");
        breaker.reset();
        assert_eq!(heard.transitions().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn permits_and_errors_may_say_when_to_try_again_too() {
    struct Busy;
    impl FromRejection for Busy {
        fn from_rejection(_: Rejection) -> Self {
            Self
        }

        fn rejection(&self) -> Option<&Rejection> {
            None
        }

        fn verdict(&self) -> Option<Verdict> {
            Some(Verdict::retry_after(secs(30)))
        }
    }
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(5));
    let breaker = builder.retry_after_max(secs(60)).build().unwrap();
    breaker.try_acquire().unwrap().record(Verdict::retry_after(secs(40)));
    assert_eq!(breaker.refused().retry_after(), Some(secs(40)));
    breaker.reset();
    assert!(breaker.call(|| async { Err::<(), _>(Busy) }).await.is_err());
    assert_eq!(breaker.refused().retry_after(), Some(secs(30)));
}

#[test]
fn longest_wait_that_may_be_asked_for_can_be_set_in_a_file() {
    let read: BreakerConfig = serde_json::from_str(r#"{"retry_after_max":"2m"}"#).unwrap();
    assert_eq!((read.retry_after_max, BreakerConfig::default().retry_after_max), (Some(secs(120)), None));
    let mut config = BreakerConfig::default();
    config.retry_after_max = Some(Duration::ZERO);
    assert_eq!(config.validate().unwrap_err().field(), "retry_after_max");
}
