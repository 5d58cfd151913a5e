//! Plain functions as the requests of a stack, and what is lent to their attempts.

use std::{
    future::{Ready, poll_fn, ready},
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
};

use buttress_core::{BoxError, Error, Functions, Lend, LiftErrorsLayer, TypedErrorsLayer};
use tokio_test::{assert_pending, task};
use tower::{
    ServiceBuilder, ServiceExt,
    retry::{Policy, RetryLayer},
};

use crate::gate::GateLayer;

#[tokio::test]
async fn function_goes_through_a_stack_and_fails_with_an_error_of_its_own() {
    let stack = ServiceBuilder::new()
        .layer(GateLayer::open("files"))
        .layer(LiftErrorsLayer::new())
        .service(Functions);
    let read = || async { Ok::<_, io::Error>("content".to_owned()) };
    assert_eq!(stack.clone().oneshot(read).await.unwrap(), "content");
    let missing = || async { Err::<String, _>(io::Error::from(io::ErrorKind::NotFound)) };
    let error = stack.oneshot(missing).await.unwrap_err();
    assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn function_is_not_called_if_the_stack_refuses() {
    let called = AtomicU32::new(0);
    let count = || {
        called.fetch_add(1, SeqCst);
        ready(Ok::<(), io::Error>(()))
    };
    let shut = ServiceBuilder::new().layer(GateLayer::shut("files")).layer(TypedErrorsLayer::new());
    let refused: Result<(), Error<io::Error>> = shut.service(Functions).oneshot(count).await;
    assert_eq!(refused.unwrap_err().rejection().unwrap().policy(), "files");
    assert_eq!(called.load(SeqCst), 0);
}

#[tokio::test]
async fn async_closure_borrows_what_stands_around_it() {
    let stack = ServiceBuilder::new().layer(LiftErrorsLayer::new()).service(Functions);
    let (text, count) = (String::from("local"), AtomicU32::new(0));
    let length = async || {
        tokio::task::yield_now().await;
        count.fetch_add(1, SeqCst);
        Ok::<_, io::Error>(text.len())
    };
    assert_eq!(stack.oneshot(&length).await.unwrap(), 5);
    assert_eq!(stack.oneshot(length).await.unwrap(), 5);
    assert_eq!((text.as_str(), count.into_inner()), ("local", 2));
}

/// Up to so many more attempts.
#[derive(Clone)]
struct Again(u32);

impl<Req: Clone, Res, E> Policy<Req, Res, E> for Again {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Req, result: &mut Result<Res, E>) -> Option<Ready<()>> {
        let again = result.is_err() && self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, req: &Req) -> Option<Req> {
        Some(req.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spawned_function_is_called_once_for_each_attempt() {
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(Again(3)))
        .layer(LiftErrorsLayer::new())
        .service(Functions);
    let called = Arc::new(AtomicU32::new(0));
    let third = {
        let called = Arc::clone(&called);
        move || {
            let n = called.fetch_add(1, SeqCst) + 1;
            async move {
                tokio::task::yield_now().await;
                if n == 3 { Ok(n) } else { Err(io::Error::other("not yet")) }
            }
        }
    };
    let answer = tokio::spawn(stack.oneshot(third)).await.unwrap();
    assert_eq!((answer.unwrap(), called.load(SeqCst)), (3, 3));
}

/// What cannot be shared, as a connection.
struct Connection {
    sent: Vec<&'static str>,
}

impl Connection {
    async fn send(&mut self, what: &'static str) -> io::Result<usize> {
        tokio::task::yield_now().await;
        self.sent.push(what);
        if self.sent.len() < 3 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(self.sent.len()) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lent_goes_from_one_attempt_to_the_next_also_if_it_is_spawned() {
    let stack = ServiceBuilder::new().layer(RetryLayer::new(Again(3))).service(Functions);
    let lend = Arc::new(Lend::new(Connection { sent: Vec::new() }));
    let send = {
        let lend = Arc::clone(&lend);
        move || {
            let lend = Arc::clone(&lend);
            async move { lend.take().send("hello").await }
        }
    };
    assert_eq!(tokio::spawn(stack.oneshot(send)).await.unwrap().unwrap(), 3);
    let connection = Arc::into_inner(lend).and_then(Lend::into_inner).unwrap();
    assert_eq!(connection.sent, ["hello"; 3]);
}

#[tokio::test]
async fn what_is_lent_comes_back_from_an_attempt_that_is_dropped_half_way() {
    let lend = Lend::new(1);
    let attempt = || async {
        let mut lent = lend.take();
        *lent += 1;
        poll_fn::<(), _>(|_| Poll::Pending).await;
        Ok::<_, BoxError>(*lent)
    };
    let mut first = task::spawn(Functions.oneshot(attempt));
    assert_pending!(first.poll());
    assert!(lend.try_take().is_none());
    drop(first);
    assert_eq!(lend.into_inner(), Some(2));
}

#[test]
fn what_is_lent_comes_back_from_an_attempt_that_panics() {
    let lend = Lend::new(1);
    let panics = || {
        *lend.take() += 1;
        let _lent = lend.take();
        panic::resume_unwind(Box::new("inside"))
    };
    panic::catch_unwind::<_, ()>(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!(*lend.take(), 2);
}

#[test]
#[should_panic(expected = "to one attempt at a time")]
fn two_attempts_at_once_are_told_so() {
    let lend = Lend::new(());
    let (_first, _second) = (lend.take(), lend.take());
}

#[test]
fn what_was_leaked_does_not_come_back() {
    let lend = Lend::new(1);
    std::mem::forget(lend.take());
    assert!(lend.try_take().is_none());
    assert_eq!(lend.into_inner(), None);
}
