use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{BoxError, Event, FromRejection, Outcome, context};
use buttress_timeout::Timeout;
use tokio::time;
use tokio_test::{assert_pending, task};

use crate::{Flag, ms, taking};

type Heard = Arc<Mutex<Vec<(Outcome, Option<Duration>)>>>;

fn listening(limit_ms: u64) -> (Timeout, Heard) {
    let heard = Heard::default();
    let to = heard.clone();
    let listen = move |event: &Event<'_>| {
        if let Event::Done { outcome, elapsed, .. } = *event {
            to.lock().unwrap().push((outcome, elapsed));
        }
    };
    (Timeout::builder("api").limit(ms(limit_ms)).on_event(listen).build().unwrap(), heard)
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_exactly_once() {
    let (timeout, heard) = listening(50);
    timeout.call(|| taking(10)).await.unwrap();
    timeout.call(|| async { Err::<(), BoxError>("boom".into()) }).await.unwrap_err();
    timeout.call(|| taking(60)).await.unwrap_err();
    let mut dropped = task::spawn(timeout.call(|| taking(60)));
    assert_pending!(dropped.poll());
    time::advance(ms(20)).await;
    drop(dropped);
    drop(timeout.call(|| taking(60))); // never polled
    time::advance(ms(1_000)).await;
    let told = heard.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            (Outcome::Success, Some(ms(10))),
            (Outcome::Failure, Some(ms(0))),
            (Outcome::TimedOut, Some(ms(50))),
            (Outcome::Cancelled, Some(ms(20))),
            (Outcome::Cancelled, Some(ms(0))),
        ]
    );
    let snapshot = timeout.snapshot();
    assert_eq!((snapshot.failures, snapshot.timeouts), (1, 1));
    assert_eq!((snapshot.cancelled, snapshot.refused), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn refused_call_is_told_once_whether_its_future_is_polled_or_dropped() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = told.clone();
    let listen = move |event: &Event<'_>| {
        to.lock().unwrap().push(match event {
            Event::Refused { .. } => "refused",
            Event::Done { .. } => "done",
            _ => "other",
        });
    };
    let timeout = Timeout::builder("api").on_event(listen).build().unwrap();
    let passed = context::enter_deadline(Some(time::Instant::now().into_std()));
    let (polled, dropped) = (timeout.call(|| taking(1)), timeout.call(|| taking(1)));
    drop((passed, dropped));
    assert_eq!(polled.await.unwrap_err().rejection().unwrap().code(), "TIMEOUT");
    assert_eq!(*told.lock().unwrap(), ["refused", "refused"]);
    assert_eq!((timeout.snapshot().refused, timeout.snapshot().cancelled), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn panic_in_poll_is_a_failure_even_at_the_limit() {
    let (timeout, heard) = listening(50);
    let call = timeout.call(|| async {
        time::sleep(ms(50)).await;
        assert!(std::hint::black_box(false), "in poll");
        Ok::<_, BoxError>(())
    });
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    assert_eq!(*heard.lock().unwrap(), [(Outcome::Panicked, Some(ms(50)))]);
    assert_eq!((timeout.snapshot().failures, timeout.snapshot().timeouts), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn panic_in_the_drop_of_the_cancelled_call_leaves_the_counts_right() {
    struct Bomb(#[allow(dead_code)] Flag);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::hint::black_box(false), "in drop");
        }
    }
    let (timeout, heard) = listening(50);
    let (flag, permit_back) = Flag::new();
    let call = timeout.call(|| async move {
        let _bomb = Bomb(flag);
        taking(100).await
    });
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    assert!(permit_back.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert_eq!(heard.lock().unwrap()[0].0, Outcome::TimedOut);
    let snapshot = timeout.snapshot();
    assert_eq!((snapshot.timeouts, snapshot.failures, snapshot.cancelled), (1, 0, 0));
    timeout.call(|| taking(1)).await.unwrap(); // still of use
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_drop_between_polls_counts_as_cancelled() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::hint::black_box(false), "in drop");
        }
    }
    let (timeout, heard) = listening(50);
    let mut call = task::spawn(timeout.call(|| async {
        let _bomb = Bomb;
        taking(100).await
    }));
    assert_pending!(call.poll());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err());
    assert_eq!(heard.lock().unwrap()[0].0, Outcome::Cancelled);
    assert_eq!((timeout.snapshot().cancelled, heard.lock().unwrap().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn inner_call_is_gone_before_its_end_is_told() {
    let (flag, gone) = Flag::new();
    let seen = gone.clone();
    let timeout = Timeout::builder("api")
        .limit(ms(50))
        .on_timeout(move |_| assert!(seen.load(std::sync::atomic::Ordering::SeqCst)))
        .build()
        .unwrap();
    let before = buttress_kit::listener_panics();
    let late = timeout.call(|| async move {
        let _flag = flag;
        taking(100).await
    });
    assert!(late.await.unwrap_err().rejection().is_some());
    assert!(gone.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(buttress_kit::listener_panics(), before);
}

#[tokio::test(start_paused = true)]
async fn panicking_listener_harms_nobody() {
    let timeout = Timeout::builder("api").limit(ms(50)).on_timeout(|_| panic!("listener")).build().unwrap();
    assert!(timeout.call(|| taking(100)).await.unwrap_err().rejection().is_some());
    assert_eq!(timeout.snapshot().timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn listener_may_use_the_handle() {
    let slot: Arc<std::sync::OnceLock<Timeout>> = Arc::default();
    let inside = slot.clone();
    let timeout = Timeout::builder("api")
        .limit(ms(50))
        .on_event(move |_| {
            if let Some(timeout) = inside.get() {
                let _ = (timeout.snapshot(), timeout.config());
                let mut config = timeout.config();
                config.limit = ms(70);
                timeout.reconfigure(config).unwrap();
            }
        })
        .build()
        .unwrap();
    slot.set(timeout.clone()).unwrap();
    timeout.call(|| taking(100)).await.unwrap_err();
    assert_eq!(timeout.config().limit, ms(70));
}
