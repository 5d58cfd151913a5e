use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use buttress_core::{BoxError, Never, Verdict};
use buttress_fallback::Fallback;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::{down, fallback};

#[tokio::test]
async fn value_answers_what_failed_and_nothing_else() {
    let fallback = fallback();
    let svc = fallback
        .layer()
        .value("stored")
        .layer(service_fn(|ok: bool| async move { if ok { Ok("real") } else { down().await } }));
    assert_eq!(svc.clone().oneshot(true).await.unwrap(), "real");
    assert_eq!(svc.oneshot(false).await.unwrap(), "stored");
    let snapshot = fallback.snapshot();
    assert_eq!((snapshot.answered, snapshot.failed, snapshot.not_handled), (1, 0, 0));
}

#[tokio::test]
async fn function_sees_the_final_failure() {
    let layer = fallback().layer().answer_with(|failed: Result<String, BoxError>| match failed {
        Ok(bad) => Ok(format!("instead of {bad}")),
        Err(error) => Ok(format!("after: {error}")),
    });
    let bad = |res: Result<&String, &BoxError>| match res {
        Ok(res) if res != "bad" => Verdict::Success,
        _ => Verdict::transient(),
    };
    let svc = layer.classify_with(bad).layer(service_fn(|ask: Option<&'static str>| async move {
        ask.map(str::to_owned).ok_or("down".into())
    }));
    assert_eq!(svc.clone().oneshot(Some("good")).await.unwrap(), "good");
    assert_eq!(svc.clone().oneshot(Some("bad")).await.unwrap(), "instead of bad");
    assert_eq!(svc.oneshot(None).await.unwrap(), "after: down");
}

#[tokio::test]
async fn function_sees_the_request() {
    let layer = fallback().layer().answer_for(|id: &u32, failed: Result<u32, _>| failed.or(Ok(id * 10)));
    assert_eq!(layer.layer(service_fn(|_| down())).oneshot(7).await.unwrap(), 70);
}

#[tokio::test]
async fn error_of_the_fallback_itself_is_the_one_returned() {
    let fallback = fallback();
    let layer = fallback.layer().answer_with(|_: Result<(), _>| Err(BoxError::from("nothing stored")));
    let error = layer.layer(service_fn(|()| down())).oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "nothing stored");
    assert_eq!((fallback.snapshot().failed, fallback.snapshot().answered), (1, 0));
}

#[tokio::test]
async fn second_service_gets_the_request_only_when_the_first_failed() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let fallback = fallback();
    let backup = service_fn(|n: u32| async move {
        ASKED.fetch_add(1, SeqCst);
        if n == 13 { Err(BoxError::from("backup down")) } else { Ok(n + 100) }
    });
    let primary = service_fn(|n: u32| async move { if n < 10 { Ok(n) } else { down().await } });
    let svc = fallback.layer().service(backup).layer(primary);
    assert_eq!(svc.clone().oneshot(1).await.unwrap(), 1);
    assert_eq!(ASKED.load(SeqCst), 0);
    assert_eq!(svc.clone().oneshot(12).await.unwrap(), 112);
    assert_eq!(svc.oneshot(13).await.unwrap_err().to_string(), "backup down");
    let snapshot = fallback.snapshot();
    assert_eq!((snapshot.answered, snapshot.failed, snapshot.not_handled), (1, 1, 0));
}

#[tokio::test]
async fn request_that_cannot_be_had_again_is_not_answered_for() {
    struct NotClone(u32);
    let fallback = fallback();
    let backup = service_fn(|req: NotClone| async move { Ok::<_, BoxError>(req.0) });
    let primary = service_fn(|_: NotClone| down());
    let layer = fallback.layer().service(backup);
    let again = layer.clone().replay_with(|req: &NotClone| (req.0 < 10).then_some(NotClone(req.0)));
    let svc = again.layer(primary);
    assert_eq!(svc.clone().oneshot(NotClone(3)).await.unwrap(), 3);
    assert_eq!(svc.oneshot(NotClone(30)).await.unwrap_err().to_string(), "down");
    assert_eq!(fallback.snapshot().failed, 1);
    let never = layer.replay(Never).layer(primary);
    assert_eq!(never.oneshot(NotClone(3)).await.unwrap_err().to_string(), "down");
    let function = fallback.layer().answer_for(|req: &NotClone, _| Ok(req.0));
    let function = function.replay_with(|req: &NotClone| Some(NotClone(req.0 + 1)));
    assert_eq!(function.layer(primary).oneshot(NotClone(3)).await.unwrap(), 4);
}

#[tokio::test]
async fn fallbacks_stack_and_the_inner_one_is_asked_first() {
    let near = Fallback::builder("near").build().unwrap();
    let far = Fallback::builder("far").build().unwrap();
    let svc = ServiceBuilder::new()
        .layer(far.layer().value(2))
        .layer(near.layer().answer_for(|n: &u32, failed| if *n == 1 { Ok(1) } else { failed }))
        .service(service_fn(|_: u32| down::<u32>()));
    assert_eq!(svc.clone().oneshot(1).await.unwrap(), 1);
    assert_eq!(svc.oneshot(5).await.unwrap(), 2);
    assert_eq!((near.snapshot().answered, near.snapshot().failed), (1, 1));
    assert_eq!((far.snapshot().answered, far.snapshot().failed), (1, 0));
}

#[tokio::test]
async fn handle_answers_for_a_plain_operation() {
    let fallback = fallback();
    let answer = |failed: Result<u32, BoxError>| failed.or(Ok(0));
    assert_eq!(fallback.call(|| async { Ok(5) }, answer).await.unwrap(), 5);
    assert_eq!(fallback.call(down, answer).await.unwrap(), 0);
    assert_eq!((fallback.snapshot().answered, fallback.snapshot().failed), (1, 0));
}
