//! Bodies that are streams, over whole calls of the retry.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{Backoff, BoxError, LiftErrorsLayer, observe::StopReason};
use buttress_http::{HttpClassify, HttpReplay, ReplayBody, ReplayBodyLayer};
use buttress_retry::Retry;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, channel::Channel};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower::{ServiceBuilder, ServiceExt, service_fn};

const KIB: usize = 1024;

/// A body of unknown length, in frames.
struct Frames(VecDeque<Bytes>);

impl Frames {
    fn of(count: usize, bytes: usize) -> Self {
        Self((0..count).map(|n| Bytes::from(vec![n as u8; bytes])).collect())
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

fn retry(attempts: u32) -> Retry {
    Retry::builder("storage")
        .max_attempts(attempts)
        .backoff(Backoff::constant(Duration::from_millis(10)))
        .build()
        .unwrap()
}

fn put<B>(body: B) -> Request<B> {
    Request::put("http://storage/file").header("x-kept", "yes").extension(7_u8).body(body).unwrap()
}

// vector fault R12
#[tokio::test(start_paused = true)]
async fn body_above_the_limit_goes_out_once_and_the_error_comes_out_unchanged() {
    let retry = retry(3);
    let calls = Arc::new(AtomicUsize::new(0));
    let made = calls.clone();
    let svc = ServiceBuilder::new()
        .layer(ReplayBodyLayer::default()) // 64 KiB
        .layer(retry.layer().replay(HttpReplay))
        .service_fn(move |req: Request<ReplayBody<Frames>>| {
            made.fetch_add(1, Relaxed);
            async move {
                let (mut body, mut read) = (req.into_body(), 0);
                while read < KIB * KIB {
                    read += body.frame().await.unwrap()?.into_data().unwrap().len();
                }
                Err::<Response<()>, BoxError>(std::io::Error::other("reset after 1 MiB").into())
            }
        });
    let error = svc.clone().oneshot(put(Frames::of(640, 16 * KIB))).await.unwrap_err();
    assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "reset after 1 MiB");
    assert_eq!((calls.load(Relaxed), retry.snapshot().stopped(StopReason::NotReplayable)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_gets_the_whole_request() {
    let retry = retry(3);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let bodies = seen.clone();
    let svc = ServiceBuilder::new()
        .layer(ReplayBodyLayer::new(100))
        .layer(retry.layer().replay(HttpReplay).classify(HttpClassify))
        .layer(LiftErrorsLayer::new())
        .service_fn(move |req: Request<ReplayBody<Frames>>| {
            assert_eq!((req.method(), req.uri().path()), (&Method::PUT, "/file"));
            assert_eq!(req.headers()["x-kept"], "yes");
            assert_eq!(req.extensions().get::<u8>(), Some(&7));
            let bodies = bodies.clone();
            async move {
                let mut body = req.into_body();
                let mut bodies = bodies.lock().unwrap();
                // The first attempt reads a part, the others all.
                let first = bodies.is_empty();
                let mut sent = Vec::new();
                while let Some(data) = frame_of(&mut body) {
                    sent.extend_from_slice(&data);
                    if first {
                        break;
                    }
                }
                bodies.push(sent);
                let status = if bodies.len() == 3 { 200 } else { 503 };
                Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
            }
        });
    assert_eq!(svc.oneshot(put(Frames::of(4, 20))).await.unwrap().status(), 200);
    let whole: Vec<u8> = (0..4).flat_map(|n| [n; 20]).collect();
    assert_eq!(*seen.lock().unwrap(), [whole[..20].to_vec(), whole.clone(), whole]);
}

/// The next frame, if it is there and whole.
fn frame_of(body: &mut ReplayBody<Frames>) -> Option<Bytes> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(frame)) => frame.unwrap().into_data().ok(),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn request_that_may_not_be_repeated_goes_out_once() {
    let retry = retry(3);
    let svc = ServiceBuilder::new()
        .layer(ReplayBodyLayer::default())
        .layer(retry.layer().replay(HttpReplay))
        .service_fn(|req: Request<ReplayBody<Full<Bytes>>>| async {
            assert_eq!(req.into_body().collect().await?.to_bytes(), "order");
            Err::<Response<()>, BoxError>("reset".into())
        });
    svc.oneshot(Request::post("/").body(Full::from("order")).unwrap()).await.unwrap_err();
    assert_eq!(retry.snapshot().retries(), 0);
}

/// A server over HTTP/2 that refuses the first stream as soon as its headers are there, and answers the second one
/// with what it was sent. What it received of the first one, and of the second.
async fn refusing(io: tokio::io::DuplexStream) -> (usize, Vec<u8>) {
    let mut server = h2::server::handshake(io).await.unwrap();
    let (first, mut respond) = server.accept().await.unwrap().unwrap();
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    let (second, mut respond) = server.accept().await.unwrap().unwrap();
    let collected = tokio::spawn(async move {
        let (mut refused, mut received) = (first.into_body(), Vec::new());
        let mut of_the_first = 0;
        while let Some(Ok(data)) = refused.data().await {
            of_the_first += data.len();
        }
        let mut body = second.into_body();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            let _ = body.flow_control().release_capacity(data.len());
            received.extend_from_slice(&data);
        }
        respond.send_response(Response::new(()), true).unwrap();
        (of_the_first, received)
    });
    while server.accept().await.is_some() {}
    collected.await.unwrap()
}

// vector fault R10: over HTTP/2; the first frame of the body is there long after its stream was refused
#[tokio::test(start_paused = true)]
async fn body_that_comes_after_its_stream_was_refused_reaches_the_server_once_and_whole() {
    let (client, server) = tokio::io::duplex(KIB * KIB);
    let server = tokio::spawn(refusing(server));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);

    let retry = retry(3);
    let svc = ServiceBuilder::new()
        .layer(ReplayBodyLayer::default())
        .layer(retry.layer().replay(HttpReplay))
        .layer(LiftErrorsLayer::new())
        .service(service_fn(move |req: Request<ReplayBody<Channel<Bytes>>>| {
            let mut sender = sender.clone();
            async move { sender.send_request(req).await }
        }));
    let (mut body, stream) = Channel::new(1);
    let whole: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = whole.clone();
    let writer = tokio::spawn(async move {
        for part in sent.chunks(7_000) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            body.send_data(Bytes::copy_from_slice(part)).await.unwrap();
        }
    });
    let answer = svc.oneshot(put(stream)).await.unwrap();
    assert_eq!((answer.status().as_u16(), retry.snapshot().retries()), (200, 1));
    writer.await.unwrap();
    drop(answer);
    connection.abort();
    let (of_the_first, received) = server.await.unwrap();
    assert_eq!((of_the_first, received == whole), (0, true));
}
