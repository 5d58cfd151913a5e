//! What the test suites of other breakers ask besides the cases in [`peers`](crate::peers): a script a case.

use std::{
    future::pending,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_breaker::{Breaker, BreakerBuilder, Comparison, OnCancel, Permit, State, WindowConfig};
use buttress_core::{BoxError, LiftErrorsLayer, Verdict};
use buttress_kit::{Backoff, Jitter};
use tokio_test::task;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

/// Runs a script and returns the state after it:
/// `S` `F` `I` `D` a call that succeeds, fails, is ignored, is dropped; `s` `f` the same of 5 s; `L` one that is dropped after 1 s; `P` one that goes
/// on, and `+` `-` the oldest of those succeeds or fails; `x` a refused call; `.` 1 s, `_` 10 s; `o` `c` `h` `i` `d`
/// `m` `R` the circuit is opened, closed, half-opened, isolated, disabled, set to measure, reset.
async fn run(breaker: &Breaker, script: &str) -> State {
    let mut under_way = std::collections::VecDeque::new();
    for (at, step) in script.char_indices() {
        let call = || breaker.try_acquire().unwrap_or_else(|why| panic!("{script}, at {at}: {why}"));
        match step {
            'S' => call().success(),
            'F' => call().failure(),
            'I' => call().record(Verdict::Ignore),
            'D' => drop(call()),
            'L' => {
                let call = call();
                pass(secs(1)).await;
                drop(call);
            }
            's' => breaker.ok_after(secs(5)).await,
            'f' => breaker.fail_after(secs(5)).await,
            'P' => under_way.push_back(call()),
            '+' => under_way.pop_front().unwrap().success(),
            '-' => under_way.pop_front().unwrap().failure(),
            'x' => assert!(breaker.try_acquire().is_err(), "{script}, at {at}: let in"),
            '.' => pass(secs(1)).await,
            '_' => pass(secs(10)).await,
            'o' => breaker.force_open(),
            'c' => breaker.force_close(),
            'h' => breaker.force_half_open().unwrap(),
            'i' => breaker.isolate(),
            'd' => breaker.disable(),
            'm' => breaker.metrics_only(),
            'R' => breaker.reset(),
            ' ' => {}
            other => unreachable!("{other}"),
        }
    }
    breaker.state()
}

async fn check(builder: BreakerBuilder, cases: &[(&str, State)]) {
    for (script, state) in cases {
        let breaker = builder.clone().build().unwrap();
        assert_eq!(run(&breaker, script).await, *state, "{script}: {:?}", breaker.snapshot());
    }
}

fn named(name: &str) -> BreakerBuilder {
    Breaker::builder(name)
}

use State::{Closed, Disabled, HalfOpen, Isolated, MetricsOnly, Open};

#[tokio::test(start_paused = true)]
async fn resilience4j() {
    let r4j = named("r4j").window(WindowConfig::time(secs(20))).minimum_calls(5).failure_rate(0.5);
    let r4j = r4j.slow_call_duration(secs(4)).slow_call_rate(0.5).permitted_probes(4);
    let r4j = r4j.half_open_sample(4).half_open_failure_rate(0.5).open_for(secs(5));
    let cases = [
        ("FFFF", Closed),
        ("FFSSS", Closed),
        ("FFFSS x", Open),
        ("IIIII FFFF", Closed),
        ("IIII FFFFF", Open),
        // The window slides by time, and an opening needs its minimum anew.
        ("FFFF __ F", Closed),
        ("FFFF __. FFSSS", Closed),
        // Slow calls open, also where each succeeds; a call of exactly the limit is not slow.
        ("sss SS", Open),
        ("ss SSS", Closed),
        // A wait that is over, and half-open by the sample: ignored and dropped calls give their place back.
        ("o .... x", Open),
        ("o ..... SSSS", Closed),
        ("o ..... SS F", HalfOpen),
        ("o ..... SS FF x", Open),
        ("o ..... PPPP xx + P x", HalfOpen),
        ("o ..... PPPP ++--", Open),
        ("o ..... IIIIII SSSS", Closed),
        ("o ..... DD PPPP x ++++", Closed),
        ("o ..... ss x", Open),
        ("o ..... sSSS", Closed),
        ("o ..... ff x", Open),
        // By hand: closing forgets the window; every state leads to every other one that makes sense.
        ("FFFF c FFFF", Closed),
        ("o c SS FF", Closed),
        ("o h c FFFF", Closed),
        ("o i ____ x", Isolated),
        ("i h PPPP x", HalfOpen),
        ("d FFFFFFFFFF", Disabled),
        ("d FFFFFFFFFF c FFFF", Closed),
        ("m FFFFFFFFFF ffff", MetricsOnly),
        ("m FFFFFFFFFF c FFFF", Closed),
        ("m FFFFFFFFFF o x", Open),
        ("o R FFFF", Closed),
        ("i R FFFF", Closed),
        ("d R FFFFF", Open),
        // Results of before the change.
        ("PPPPP o ----- ..... SS", HalfOpen),
        ("PPPPP o c ----- FFFF", Closed),
    ];
    check(r4j.clone(), &cases).await;

    let (breaker, heard) = Heard::by(r4j);
    run(&breaker, "d FFFFF o xxx ..... PPPP x").await;
    let seen = breaker.snapshot();
    assert_eq!((seen.rejected, seen.failures, heard.count("refused CIRCUIT_OPEN")), (4, 0, 4));
    let told = ["closed>disabled manual", "disabled>open manual", "open>half_open auto"];
    assert_eq!(heard.transitions()[..3], told);
}

// Over the last ten calls, with a sample of three, and at most a second of half-open.
#[tokio::test(start_paused = true)]
async fn resilience4j_by_count_and_with_a_longest_half_open_state() {
    let by_count = named("r4j").window(WindowConfig::count(10)).minimum_calls(10).failure_rate(0.5);
    let by_count = by_count.permitted_probes(3).half_open_sample(3).half_open_failure_rate(0.5);
    let cases = [
        ("FFFFFFFFF", Closed),
        ("FFFF SSSSSS", Closed),
        ("FFFFF SSSSS", Open),
        ("FFFF SSSSSS FFFF", Closed), // the first four are gone
        ("SSSSSSSSSS FFFFF", Open),
        ("FFFFF SSSSS ..... SS", Closed),
        ("FFFFF SSSSS ..... FSF", Open),
        ("FFFFF SSSSS ..... FSS", Closed),
        ("FFFFF SSSSS ..... FF x", Open),
    ];
    let by_count = by_count.open_for(secs(5));
    check(by_count.clone(), &cases).await;
    let cases = [
        ("o ..... PP . x", Open),
        ("o ..... PP . ____", HalfOpen),
        ("o h . x", Open),
        ("o h PPP . ...x", Open),
        ("o h PPP . -- x", Open),
        ("o h P . ..... + SS", Closed),
        ("o h . ..... SSS", Closed),
        ("o h P S . ..... S", HalfOpen),
    ];
    check(by_count.half_open_timeout(secs(1)), &cases).await;
}

// Opened by hand for a time of its own: not one of the openings that make the wait longer.
#[tokio::test(start_paused = true)]
async fn resilience4j_open_for_and_growth() {
    let breaker = named("x").consecutive_failures(1).success_threshold(1);
    let breaker = breaker.open_backoff(Backoff::exponential(secs(4)).with_factor(1.5)).build().unwrap();
    let wait = || breaker.refused().retry_after().unwrap();
    breaker.fail(1);
    assert_eq!(wait(), secs(4));
    breaker.force_open_for(secs(60));
    assert_eq!(wait(), secs(60));
    pass(secs(60)).await;
    breaker.fail(1);
    assert_eq!(wait(), secs(6));
    breaker.force_open_for(Duration::MAX);
    pass(secs(100 * 365 * 86_400)).await;
    breaker.is(Open);
    breaker.force_close();
    breaker.fail(1);
    assert_eq!(wait(), secs(4));
}

#[tokio::test(start_paused = true)]
async fn polly() {
    let polly = named("polly").failure_rate(0.5).minimum_calls(4).window(WindowConfig::time(secs(30)));
    let cases = [
        ("FFF", Closed),
        ("SFFS", Open),
        ("SSSF F", Closed),
        ("SSSF FF x", Open),
        // Unhandled outcomes are no throughput.
        ("IIII FFF", Closed),
        // One call after the break; the others wait for its verdict.
        ("FFFF _ P xx +", Closed),
        ("FFFF _ P xx - x", Open),
        ("FFFF _ F _ F _ S", Closed),
        // Closed again, it counts anew.
        ("FFFF _ S FFF", Closed),
        ("FFFF i __ x c FFF", Closed),
        ("i i x c S", Closed),
        ("__ FFF ____ F", Closed),
    ];
    check(polly.open_for(secs(10)).success_threshold(1), &cases).await;
    // The defaults: a tenth of at least a hundred.
    let default = named("polly").failure_rate(0.1).minimum_calls(100).window(WindowConfig::time(secs(30)));
    let [most, all_but_one] = ["S".repeat(91), "S".repeat(89)];
    let cases = [
        (&*format!("{all_but_one} FFFFFFFFFF"), Closed),
        (&*format!("{all_but_one} FFFFFFFFFF S"), Open),
        (&*format!("{most} FFFFFFFFF"), Closed),
        (&*format!("{all_but_one} FFFFFFFFFF S ..... P x +"), Closed),
    ];
    check(default.open_for(secs(5)).success_threshold(1), &cases).await;
    let isolated = named("x").initial_state(Isolated).build().unwrap();
    // Polly says nothing here; ours is a hint.
    assert_eq!(isolated.refused().retry_after(), Some(secs(5)));
    assert_eq!(run(&isolated, "c SSS").await, Closed);
}

#[tokio::test(start_paused = true)]
async fn failsafe() {
    let once = named("defaults").consecutive_failures(1).open_for(secs(60)).success_threshold(1);
    check(once, &[("F x ______ S", Closed), ("F _____ x", Open), ("F ______ F x", Open)]).await;
    let two_of_three = named("2 of 3").failure_count(2).window(WindowConfig::count(3)).open_for(secs(1));
    let cases =
        [("FSF", Open), ("FSSF", Closed), ("FSSFF", Open), ("SSSSS FF", Open), ("FSSSFSSSFSSS", Closed)];
    check(two_of_three.half_open_sample(3), &cases).await;
    // Half-open by the same rule from the other side: two failures open, two successes make that impossible.
    let trial = named("x").consecutive_failures(1).open_for(secs(1)).half_open_sample(3).success_threshold(2);
    let cases = [
        ("F . FSF", Open),
        ("F . FSS", Closed),
        ("F . SS", Closed),
        ("F . FF x", Open),
        ("F . SF", HalfOpen),
    ];
    check(trial.permitted_probes(3), &cases).await;
    let three_of_four = named("3 of 4 close").consecutive_failures(1).open_for(secs(1)).half_open_sample(4);
    let cases = [
        ("F . SSS", Closed),
        ("F . FSSS", Closed),
        ("F . SSFS", Closed),
        ("F . FF x", Open),
        ("F . SFF x", Open),
        ("F . PPPP x -- x", Open),
    ];
    check(three_of_four.success_threshold(3).permitted_probes(4), &cases).await;
    let in_period =
        named("3 in 10 s").failure_count(3).window(WindowConfig::time(secs(10))).open_for(secs(1));
    let cases =
        [("FF SSSS F", Open), ("FF _ FF", Closed), ("F .... F ... F", Open), ("F ..... F ..... F", Closed)];
    check(in_period, &cases).await;
    let rate = named("rate").failure_rate(0.5).minimum_calls(4).window(WindowConfig::time(secs(10)));
    let rate = rate.open_for(secs(1)).half_open_sample(4).half_open_failure_rate(0.5).permitted_probes(4);
    let cases = [
        ("FFF", Closed),
        ("FFSS", Open),
        ("SSSFF", Closed),
        ("SSSFF _ FF", Closed),
        ("FFFF . FSF x", Open),
        ("FFFF . SFS", HalfOpen),
        ("FFFF . SFSS", Closed),
    ];
    check(rate, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn gobreaker() {
    let default = named("default").consecutive_failures(6).open_for(secs(60)).success_threshold(1);
    let cases = [
        ("FFFFF", Closed),
        ("FFFFF S FFFFF", Closed),
        ("FFFFF I F", Open),
        ("FFFFFF _____ x", Open),
        ("FFFFFF ______ F x", Open),
        ("FFFFFF ______ S", Closed),
    ];
    check(default, &cases).await;
    let custom = named("custom").failure_rate(0.6).minimum_calls(3).window(WindowConfig::interval(secs(30)));
    let custom = custom.open_for(secs(90)).permitted_probes(3).success_threshold(3);
    let cases = [
        ("SFF", Open),
        ("SSFF", Closed),
        ("FF ___ F", Closed),
        ("FFF _________ PPP x +++ S", Closed),
        ("FFF _________ PPP +- x", Open),
        ("F __ F __ F", Closed),
        ("SFF _________ PPP xxx ++", HalfOpen),
    ];
    check(custom, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn opossum_cockatiel_hystrix_and_sentinel() {
    let volume = named("opossum").failure_rate(0.5).comparison(Comparison::Above).minimum_calls(6);
    let volume = volume.open_for(secs(30)).success_threshold(1);
    let cases = [
        ("FFFFF", Closed),
        ("FFFSSS", Closed),
        ("FFFSSF", Open),
        ("FFFFFF ___ S", Closed),
        ("FFFFFF ___ F x", Open),
        ("FFFFF _ F", Closed),
        ("FFFF IIII S", Closed),
    ];
    check(volume, &cases).await;
    let row = named("cockatiel").consecutive_failures(3).open_for(secs(1)).success_threshold(1);
    let tolerant = row.clone().half_open_sample(10).half_open_failure_rate(0.3).comparison(Comparison::Above);
    let cases = [
        ("FFF . FFFF x", Open),
        ("FFF . FSFSFSF x", Open),
        ("FFF . FFF SSSSSS", HalfOpen),
        ("FFF . SSSSSS FFF S", Closed),
        ("FFF . SSSSSS S", Closed),
    ];
    check(tolerant, &cases).await;
    check(row, &[("FF S FF", Closed), ("FFF x . P x +", Closed), ("FFF . F x . S", Closed)]).await;
    // `SamplingBreaker { threshold: 0.2, duration: 5 s, minimumRps: 1 }`
    let sampling = named("sampling").failure_rate(0.2).comparison(Comparison::Above).minimum_calls(5);
    let sampling = sampling.window(WindowConfig::time(secs(5)).buckets(5)).open_for(secs(1));
    check(sampling, &[("FFFF", Closed), ("SSSS F", Closed), ("SSSS FF", Open), ("SF . SF . S", Open)]).await;
    let hystrix = named("hystrix").failure_rate(0.5).minimum_calls(4).open_for(secs(5)).success_threshold(1);
    let cases = [("SSFF", Open), ("SSSF", Closed), ("FFFF ..... P xxx + SFFF", Open), ("FFF", Closed)];
    check(hystrix, &cases).await;
    // A tumbling second, and a slow ratio; an opening by count.
    let slow = named("sentinel").slow_call_duration(secs(4)).slow_call_rate(0.5).minimum_calls(5);
    let slow = slow.comparison(Comparison::Above).window(WindowConfig::time(secs(60)).buckets(1));
    check(slow.clone(), &[("sss SS", Open), ("ss SS S", Closed)]).await;
    // The probe's own time decides, not only whether it failed.
    let probe = slow.minimum_calls(1).slow_call_rate(0.6).open_for(secs(2)).success_threshold(1);
    check(probe, &[("s .. s x", Open), ("s .. S", Closed), ("s .. F x", Open), ("s .. DD S", Closed)]).await;
    let count =
        named("count").failure_count(3).window(WindowConfig::time(secs(1)).buckets(1)).minimum_calls(5);
    check(count, &[("SS FFF", Open), ("SS FF . F", Closed), ("FFFF", Closed), ("FFFF S", Open)]).await;
}

// Five failures in a row, waits from 5 s to 5 min of which half is chance.
#[tokio::test(start_paused = true)]
async fn finagle() {
    let waits = Backoff::exponential(secs(5)).with_max(secs(300)).with_jitter(Jitter::Equal);
    let breaker = named("finagle").consecutive_failures(5).success_threshold(1).open_backoff(waits);
    let breaker = breaker.seed(3).build().unwrap();
    breaker.fail(5);
    for most in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
        let wait = breaker.refused().retry_after().unwrap();
        assert!((secs(most) / 2..=secs(most)).contains(&wait), "{wait:?} of {most} s");
        pass(wait).await;
        breaker.is(HalfOpen);
        breaker.fail(1);
    }
    pass(secs(300)).await;
    breaker.ok(1);
    breaker.fail(5);
    assert!(breaker.refused().retry_after().unwrap() <= secs(5));
}

// However many fail at the same time, it opens once: the others belong to the past.
#[tokio::test(start_paused = true)]
async fn calls_that_fail_together_open_once() {
    let (breaker, heard) = Heard::by(named("x").consecutive_failures(3));
    let calls: Vec<_> = (0..10).map(|_| breaker.try_acquire().unwrap()).collect();
    calls.into_iter().for_each(Permit::failure);
    let seen = breaker.snapshot();
    assert_eq!((seen.openings, seen.failures, seen.late), (1, 3, 7));
    assert_eq!(heard.transitions(), ["closed>open auto"]);
}

// However many call at once when the wait is over, as many get in as there are probes.
#[test]
fn of_a_thousand_calls_at_once_as_many_as_there_are_probes_get_in() {
    for probes in [1, 3] {
        let breaker = named("x").consecutive_failures(1).open_for(ms(1)).permitted_probes(probes);
        let breaker = breaker.success_threshold(5).probe_lease(secs(600)).build().unwrap();
        for _ in 0..50 {
            breaker.force_open();
            while breaker.state() == Open {
                std::thread::yield_now();
            }
            let (admitted, start) = (AtomicU32::new(0), Barrier::new(8));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        let held: Vec<Permit> = (0..125).filter_map(|_| breaker.try_acquire().ok()).collect();
                        admitted.fetch_add(held.len() as u32, SeqCst);
                        start.wait();
                    });
                }
            });
            assert_eq!(admitted.load(SeqCst), probes);
        }
    }
}

// A probe's readiness is asked for before it is one.
#[tokio::test(start_paused = true)]
async fn an_inner_service_that_is_not_ready_or_broken_takes_no_probe() {
    let breaker = named("x").consecutive_failures(1).open_for(secs(1)).build().unwrap();
    run(&breaker, "F .").await;
    let (mut svc, mut inner) = tower_test::mock::spawn_layer::<(), (), _>(breaker.layer());
    inner.allow(0);
    assert!(svc.poll_ready().is_pending());
    assert_eq!(breaker.snapshot().probes_in_flight, 0);
    inner.send_error("broken");
    assert!(matches!(svc.poll_ready(), std::task::Poll::Ready(Err(_))));
    assert_eq!(run(&breaker, "SS").await, Closed);
}

// Dropped calls by each setting, closed and half-open.
#[tokio::test(start_paused = true)]
async fn dropped_calls_mean_what_is_set() {
    for (on_cancel, script, state) in [
        (OnCancel::Ignore, "DDDDDDDD", Closed),
        (OnCancel::WhenAll, "DD", Closed),
        (OnCancel::WhenAll, "DDDDDDDD", Closed),
        (OnCancel::WhenAll, "LL", Closed),
        (OnCancel::WhenAll, "LLL", Open),
        (OnCancel::WhenAll, "L D L D L", Open),
        (OnCancel::WhenAll, "S LL S LL S LL", Closed),
        (OnCancel::Ignore, "LLLLLLLL", Closed),
        (OnCancel::WhenAll, "S DD S DD S DD", Closed),
        (OnCancel::Failure, "D S DD", Closed),
        (OnCancel::Failure, "D S DDD", Open),
        (OnCancel::Ignore, "FFF . DDDDDDDD S", HalfOpen),
        (OnCancel::Failure, "FFF . D x", Open),
        (OnCancel::WhenAll, "FFF . D SS", Closed),
        (OnCancel::WhenAll, "FFF . DDDDDDDD SS", Closed),
        (OnCancel::WhenAll, "FFF . LL SS", Closed),
        (OnCancel::WhenAll, "FFF . LLL x", Open),
    ] {
        let builder = named("x").consecutive_failures(3).open_for(secs(1)).on_cancel(on_cancel);
        check(builder, &[(script, state)]).await;
    }
}

// The service goes, the call stays: nothing of it is lost with the service.
#[tokio::test(start_paused = true)]
async fn a_call_outlives_its_service_and_a_breaker_its_layers() {
    let breaker = named("x").consecutive_failures(1).open_for(secs(1)).success_threshold(1).build().unwrap();
    run(&breaker, "F .").await;
    let call = {
        let inner = service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) });
        let svc = breaker.layer().layer(LiftErrorsLayer::new().layer(inner));
        svc.oneshot(())
    };
    call.await.unwrap();
    breaker.is(Closed);
    let handle = breaker.clone();
    let mut hung = task::spawn(breaker.call(pending::<Result<(), BoxError>>));
    assert!(hung.poll().is_pending());
    drop(breaker);
    drop(hung);
    assert_eq!(handle.snapshot().cancelled, 1);
    let alone = Arc::new(handle);
    assert_eq!(run(&alone, "F x . S").await, Closed);
}
