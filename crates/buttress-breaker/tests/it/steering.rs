//! What operators can see and do.

use buttress_breaker::{
    Breaker, State,
    words::{FAILURE_RATIO, OPEN_FOR, REJECTED},
};
use buttress_core::{BoxError, Event, Level, Value, rejection};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn transitions_are_told_in_their_order() {
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).success_threshold(1);
    let (breaker, heard) = Heard::by(builder);
    breaker.fail(1);
    pass(secs(1)).await;
    breaker.ok(1);
    assert_eq!(heard.transitions(), ["closed>open auto", "open>half_open auto", "half_open>closed auto"]);
}

#[tokio::test(start_paused = true)]
async fn reset_begins_anew_and_always_says_so() {
    let (breaker, heard) = Heard::by(Breaker::builder("x").consecutive_failures(3));
    breaker.reset();
    breaker.fail(3);
    breaker.is(State::Open);
    breaker.reset();
    breaker.is(State::Closed);
    assert_eq!(heard.count("reset"), 2);
    assert_eq!(heard.transitions(), ["closed>open auto", "open>closed manual"]);
    let seen = breaker.snapshot();
    assert_eq!((seen.failures, seen.successes, seen.total, seen.last_error), (0, 0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn last_error_is_the_one_that_opened() {
    let breaker = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).build().unwrap();
    breaker.call(|| async { Err::<(), BoxError>("first".into()) }).await.unwrap_err();
    assert_eq!(breaker.last_error(), None);
    breaker.call(|| async { Err::<(), BoxError>("second".into()) }).await.unwrap_err();
    assert_eq!(breaker.last_error().as_deref(), Some("second"));
    let refused = breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_eq!(breaker.last_error().as_deref(), Some("second"));
    breaker.reset();
    assert_eq!(breaker.last_error(), None);
}

#[tokio::test(start_paused = true)]
async fn forced_open_recovers_and_isolated_stays() {
    let breaker = Breaker::builder("x").open_for(secs(5)).build().unwrap();
    breaker.force_open();
    breaker.is(State::Open);
    pass(secs(5)).await;
    breaker.is(State::HalfOpen);
    breaker.isolate();
    pass(secs(3_600)).await;
    breaker.is(State::Isolated);
    assert_eq!(breaker.refused().retry_after(), Some(secs(5)));
    breaker.force_close();
    breaker.is(State::Closed);
}

// Each change of state tells the calls refused since the circuit was last closed
#[tokio::test(start_paused = true)]
async fn every_transition_tells_how_many_were_refused_since_it_was_closed() {
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let to = told.clone();
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).success_threshold(1);
    let builder = builder.on_event(move |event| {
        if let Event::Transition(change) = event {
            let open_for = change.get(OPEN_FOR).and_then(Value::as_time).map(|time| time.as_secs());
            let rejected = change.get(REJECTED).and_then(Value::as_count).unwrap();
            to.lock().unwrap().push((change.from, change.to, rejected, open_for));
        }
    });
    let breaker = builder.build().unwrap();
    let refused = |times| (0..times).for_each(|_| _ = breaker.refused());
    breaker.fail(1);
    refused(3);
    pass(secs(1)).await;
    let probe = breaker.try_acquire().unwrap();
    refused(2);
    probe.failure();
    refused(4);
    pass(secs(1)).await;
    breaker.ok(1);
    // None of the past is in the next.
    breaker.fail(1);
    refused(1);
    breaker.force_close();
    breaker.isolate();
    refused(6);
    pass(secs(9)).await;
    breaker.reset();
    let all = [
        ("closed", "open", 0, Some(1)),
        ("open", "half_open", 3, None),
        ("half_open", "open", 5, Some(1)),
        ("open", "half_open", 9, None),
        ("half_open", "closed", 9, Some(2)),
        ("closed", "open", 0, Some(1)),
        ("open", "closed", 1, Some(0)),
        ("closed", "isolated", 0, None),
        ("isolated", "closed", 6, Some(9)),
    ];
    assert_eq!(*told.lock().unwrap(), all);
}

// Shadow: decides, counts, refuses nothing.
#[tokio::test(start_paused = true)]
async fn shadow_refuses_nothing_and_counts_what_it_would_have() {
    let builder = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).success_threshold(1);
    let (breaker, heard) = Heard::by(builder.mode(buttress_kit::Mode::Shadow));
    breaker.fail(2);
    breaker.is(State::Open);
    breaker.fail(3);
    breaker.ok(3);
    breaker.is(State::Open);
    let seen = breaker.snapshot();
    assert_eq!((seen.would_reject, seen.rejected, seen.total), (6, 0, 2));
    assert_eq!(heard.count("refused CIRCUIT_OPEN shadow"), 6);
    pass(secs(1)).await;
    let probe = breaker.try_acquire().unwrap();
    breaker.ok(1); // beside the probe
    assert_eq!(breaker.snapshot().would_reject, 7);
    probe.success();
    breaker.is(State::Closed);
    // Each of them has its `Done`, recorded or not.
    assert_eq!(heard.count("done success") + heard.count("done failure"), 10);
}

// A share of the calls that grows.
#[tokio::test(start_paused = true)]
async fn ramp_lets_in_a_share_that_grows_after_closing() {
    let ramp = buttress_breaker::Ramp::over(secs(10)).start(0.1);
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).success_threshold(1);
    let (breaker, heard) = Heard::by(builder.ramp(ramp).seed(7));
    breaker.fail(1);
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
    heard.transitions();
    let share = |breaker: &Breaker| {
        let admitted = (0..1_000).filter_map(|_| breaker.try_acquire().ok());
        admitted.map(buttress_breaker::Permit::success).count()
    };
    assert!((60..140).contains(&share(&breaker)));
    pass(secs(5)).await;
    let half = share(&breaker);
    assert!((500..600).contains(&half), "{half}");
    assert!(breaker.try_acquire().map_or_else(|why| why.retry_after() == Some(secs(1)), |_| true));
    pass(secs(5)).await;
    assert_eq!(share(&breaker), 1_000);
    assert!(heard.transitions().is_empty());
    // A failure while it grows opens as any other.
    breaker.fail(1);
    pass(secs(1)).await;
    breaker.ok(1);
    while breaker.state() == State::Closed {
        let _ = breaker.try_acquire().map(buttress_breaker::Permit::failure);
    }
    // Closed by hand, it is closed.
    breaker.force_close();
    assert_eq!(share(&breaker), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_why_it_does_not_close() {
    let breaker = Breaker::builder("x")
        .consecutive_failures(2)
        .open_for(secs(4))
        .success_threshold(3)
        .permitted_probes(2)
        .build()
        .unwrap();
    breaker.ok(1);
    breaker.fail(2);
    let seen = breaker.snapshot();
    assert_eq!((seen.state, seen.openings, seen.next_probe_in), (State::Open, 1, Some(secs(4))));
    assert_eq!((seen.consecutive_failures, seen.consecutive_successes), (2, 0));
    assert_eq!(seen.last_failure, Some(tokio::time::Instant::now()));
    pass(secs(4)).await;
    breaker.ok(1);
    let _probe = breaker.try_acquire().unwrap();
    let seen = breaker.snapshot();
    assert_eq!((seen.half_open_successes, seen.half_open_failures, seen.probes_in_flight), (1, 0, 1));
    assert_eq!(seen.since, tokio::time::Instant::now());
    assert_eq!(seen.next_probe_in, Some(std::time::Duration::ZERO));
    assert_eq!(seen.open_reason.map(|why| why.as_str()), Some("consecutive_failures"));
}

#[tokio::test(start_paused = true)]
async fn is_open_is_a_flag() {
    let breaker = Breaker::builder("x").open_for(secs(1)).build().unwrap();
    assert!(!breaker.is_open());
    breaker.force_open();
    assert!(breaker.is_open());
    pass(secs(1)).await;
    assert!(!breaker.is_open());
}

// Nobody has to call for observers to see half-open, and nothing runs in the background
#[tokio::test(start_paused = true)]
async fn half_open_shows_without_traffic_and_is_told_with_the_next_call() {
    let (breaker, heard) = Heard::by(Breaker::builder("x").open_for(secs(1)));
    breaker.force_open();
    pass(secs(1)).await;
    breaker.is(State::HalfOpen);
    assert_eq!(breaker.snapshot().state, State::HalfOpen);
    assert_eq!(heard.transitions(), ["closed>open manual"]);
    drop(breaker.try_acquire().unwrap());
    assert_eq!(heard.transitions(), ["open>half_open auto"]);
}

// Each admitted call has exactly one end, however it ends
#[tokio::test(start_paused = true)]
async fn each_call_is_told_once_however_it_ends() {
    let (breaker, heard) = Heard::by(Breaker::builder("x").call_timeout(secs(1)).seed(1));
    breaker.ok(1);
    breaker.fail(1);
    breaker.try_acquire().unwrap().record(buttress_core::Verdict::Ignore);
    drop(breaker.try_acquire().unwrap());
    breaker.call(std::future::pending::<Result<(), BoxError>>).await.unwrap_err();
    drop(breaker.call(std::future::pending::<Result<(), BoxError>>));
    breaker.disable();
    breaker.ok(1);
    for (text, times) in [
        ("done success", 2),
        ("done failure", 1),
        ("done ignored", 1),
        ("done cancelled", 2),
        ("done timeout", 1),
    ] {
        assert_eq!(heard.count(text), times, "{text}");
    }
}

// A listener that attaches late hears where things stand, and levels follow the window.
#[tokio::test(start_paused = true)]
async fn levels_are_told_as_they_change() {
    use std::sync::{Arc, Mutex};

    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = seen.clone();
    let breaker = Breaker::builder("x")
        .failure_rate(0.9)
        .minimum_calls(2)
        .window(buttress_breaker::WindowConfig::count(4))
        .on_event(move |event| match event {
            Event::Level(Level { what: Level::STATE, of: Some(state), .. }) => {
                to.lock().unwrap().push((*state).to_owned());
            }
            Event::Level(Level { what: FAILURE_RATIO, value, .. }) => {
                to.lock().unwrap().push(value.to_string());
            }
            _ => {}
        })
        .build()
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), ["closed", "NaN", "closed"]);
    seen.lock().unwrap().clear();
    breaker.ok(1);
    breaker.fail(1);
    assert_eq!(*seen.lock().unwrap(), ["0.5"]);
    // The share falls with successes, and is told at the latest when the failure is gone for sixteen calls.
    breaker.ok(20);
    assert_eq!(seen.lock().unwrap().last().unwrap(), "0");
}

// A share below the start, even below none, for as long as the old ramp would have taken.
#[tokio::test(start_paused = true)]
async fn a_shorter_ramp_set_while_one_is_under_way_lets_in_what_it_says() {
    for over in [Some(secs(10)), None] {
        let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).success_threshold(1);
        let long = buttress_breaker::Ramp::over(secs(100)).start(0.5);
        let breaker = builder.ramp(long).seed(3).build().unwrap();
        breaker.fail(1);
        pass(secs(1)).await;
        breaker.ok(1);
        let mut config = breaker.config();
        config.ramp = over.map(|over| buttress_breaker::Ramp::over(over).start(0.5));
        breaker.reconfigure(config).unwrap();
        let share = || {
            let admitted = (0..1_000).filter_map(|_| breaker.try_acquire().ok());
            admitted.map(buttress_breaker::Permit::success).count()
        };
        let first = share();
        assert!(if over.is_some() { (440..560).contains(&first) } else { first == 1_000 }, "{first}");
        pass(secs(10)).await;
        assert_eq!(share(), 1_000);
    }
}
