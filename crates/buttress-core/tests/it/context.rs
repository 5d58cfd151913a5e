//! The context of a call, over scopes, tasks and threads.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{CallContext, context};
use tokio::task::yield_now;

fn attempt(n: u32) -> CallContext {
    CallContext::default().attempt(n)
}

fn seen() -> u32 {
    context::current().attempt
}

#[tokio::test]
async fn inner_scope_is_in_force_and_the_outer_one_comes_back() {
    let inner = || async {
        assert_eq!(seen(), 2);
        yield_now().await;
        assert_eq!(seen(), 2);
    };
    let outer = context::scope(attempt(1), async {
        assert_eq!(seen(), 1);
        context::scope(attempt(2), inner()).await;
        assert_eq!(seen(), 1);
        yield_now().await;
        assert_eq!(seen(), 1);
    });
    outer.await;
    assert_eq!(context::current(), CallContext::default());
}

#[tokio::test]
async fn scopes_that_take_turns_on_one_thread_do_not_mix() {
    let work = |n| {
        context::scope(attempt(n), async move {
            for _ in 0..10 {
                assert_eq!(seen(), n);
                yield_now().await;
            }
        })
    };
    tokio::join!(work(1), work(2), work(3));
    assert_eq!(seen(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spawned_work_has_a_context_only_if_it_is_scoped() {
    let (bare, scoped) = context::scope(attempt(3), async {
        let here = context::current();
        let bare = tokio::spawn(async { seen() });
        let scoped = tokio::spawn(context::scope(here, async {
            for _ in 0..100 {
                yield_now().await; // may go on on another thread
                assert_eq!(seen(), 3);
            }
            seen()
        }));
        (bare.await.unwrap(), scoped.await.unwrap())
    })
    .await;
    assert_eq!((bare, scoped), (0, 3));
}

#[test]
fn context_is_not_in_force_between_polls_nor_when_dropped() {
    let mut scoped = Box::pin(context::scope(attempt(1), async {
        yield_now().await;
        std::future::pending::<()>().await;
    }));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        assert!(scoped.as_mut().poll(&mut cx).is_pending());
        assert_eq!(seen(), 0);
    }
    drop(scoped);
    assert_eq!(seen(), 0);
}

#[test]
fn context_is_restored_when_the_future_panics() {
    struct Panics;
    impl Future for Panics {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            assert_eq!(seen(), 2);
            std::panic::resume_unwind(Box::new("inside"))
        }
    }
    let _outer = context::enter(attempt(1));
    let poll = || {
        let scoped = pin!(context::scope(attempt(2), Panics));
        scoped.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    std::panic::catch_unwind(poll).unwrap_err();
    assert_eq!(seen(), 1);
}

#[tokio::test(start_paused = true)]
async fn inner_deadline_can_only_be_earlier() {
    let now = tokio::time::Instant::now().into_std();
    let at = |secs| now.checked_add(Duration::from_secs(secs)).unwrap();
    let remaining = |context: CallContext| context.remaining(now).map(|left| left.as_secs());
    let outer = CallContext::default().until(at(5)).priority(7);
    context::scope(outer, async {
        let inner = context::current().until(at(9)).attempt(1);
        assert_eq!((remaining(inner), inner.priority), (Some(5), 7));
        assert_eq!(remaining(context::current().until(at(1))), Some(1));
        assert_eq!(remaining(context::current()), Some(5));
    })
    .await;
    assert_eq!(remaining(CallContext::default()), None);
}
