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

use buttress_core::{BoxError, LiftErrorsLayer};
use buttress_http::{HttpClassify, HttpReplay, ReplayBody, ReplayBodyLayer};
use buttress_kit::Backoff;
use buttress_retry::Retry;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, channel::Channel};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
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
    assert_eq!((calls.load(Relaxed), retry.snapshot().stopped.not_replayable), (1, 1));
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
    assert_eq!(retry.snapshot().retries, 0);
}

/// A server over HTTP/2 that refuses the first stream when its headers and so much of the body are there, and answers
/// the second one with what it was sent. What it received of the first one, and of the second.
async fn refusing(io: DuplexStream, after: usize) -> (usize, Vec<u8>) {
    let mut server = h2::server::handshake(io).await.unwrap();
    let (first, mut respond) = server.accept().await.unwrap().unwrap();
    let (mut refused, mut of_the_first) = (first.into_body(), 0);
    while of_the_first < after {
        tokio::select! {
            data = refused.data() => of_the_first += data.unwrap().unwrap().len(),
            // Drives the connection.
            _ = server.accept() => panic!("no second stream yet"),
        }
    }
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    let (second, mut respond) = server.accept().await.unwrap().unwrap();
    let collected = tokio::spawn(async move {
        let mut received = Vec::new();
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

// Over HTTP/2; the first frame of the body is there long after its stream was refused
#[tokio::test(start_paused = true)]
async fn body_that_comes_after_its_stream_was_refused_reaches_the_server_once_and_whole() {
    for after in [0, 1, 20_000] {
        let (of_the_first, received) = uploaded_in_streams(after).await;
        assert!(received, "refused after {after} bytes");
        // The second frame is there long after the stream was refused.
        assert_eq!(of_the_first, after.next_multiple_of(7_000));
    }
}

/// A body that comes slowly, the stream of which is refused after so much of it: what the server received of the first
/// stream, and whether it got all by the second.
async fn uploaded_in_streams(after: usize) -> (usize, bool) {
    let (client, server) = duplex(KIB * KIB);
    let server = tokio::spawn(refusing(server, after));
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
    assert_eq!((answer.status().as_u16(), retry.snapshot().retries), (200, 1));
    writer.await.unwrap();
    drop(answer);
    connection.abort();
    let (of_the_first, received) = server.await.unwrap();
    (of_the_first, received == whole)
}

/// What a server over HTTP/1.1 got before the client closed, or of a whole request: head and body. It answers that.
async fn request_on(mut io: DuplexStream) -> Result<(String, Vec<u8>), Vec<u8>> {
    let mut got = Vec::new();
    loop {
        if io.read_buf(&mut got).await.unwrap_or(0) == 0 {
            return Err(got);
        }
        let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(got[..end].to_vec()).unwrap().to_lowercase();
        let body = match head.split_once("content-length: ") {
            Some((_, length)) => {
                let length = length.lines().next().unwrap().parse().unwrap();
                (got.len() - end - 4 >= length).then(|| got[end + 4..].to_vec())
            }
            None => dechunked(&got[end + 4..]),
        };
        if let Some(body) = body {
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            return Ok((head, body));
        }
    }
}

/// The body in these chunks, once the last one is there.
fn dechunked(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return chunks[line..].ends_with(b"\r\n\r\n").then_some(body);
        }
        body.extend_from_slice(chunks.get(line + 2..line + 2 + length)?);
        chunks = chunks.get(line + 2 + length + 2..)?;
    }
}

/// Sends a request on a connection of its own, whose task lives on however the call ends.
async fn send_on<B>(io: DuplexStream, req: Request<B>) -> Result<Response<Incoming>, hyper::Error>
where
    B: Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    sender.send_request(req).await
}

/// A body in parts, of this length.
struct Sized(Frames, u64);

impl Body for Sized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.1 -= frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

// Over HTTP/1.1, with a length and in chunks, broken off after any part of the body
#[tokio::test(start_paused = true)]
async fn upload_that_a_server_breaks_off_reaches_the_next_one_whole() {
    // More than the client's own buffer: the first attempt does not read it to its end.
    let whole: Vec<u8> = (0..10).flat_map(|n| vec![n; 100 * KIB]).collect();
    let (parts, bytes) = (|| Frames::of(10, 100 * KIB), whole.len() as u64);
    for read in [0, 1, 200, 3_500, 200_000] {
        let in_chunks = upload(parts(), read).await;
        assert!(in_chunks.0.contains("transfer-encoding: chunked"), "{}", in_chunks.0);
        let of_length = upload(Sized(parts(), bytes), read).await;
        assert!(of_length.0.contains("content-length: 1024000"), "{}", of_length.0);
        assert!(in_chunks.1 == whole && of_length.1 == whole, "broken off after {read} bytes");
    }
}

/// Sends a body to a server that reads so much and closes, and then to one that reads all of it: what that one got.
async fn upload<B>(body: B, read: usize) -> (String, Vec<u8>)
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let ((client, mut closes), (next_client, reads)) = (duplex(1_000), duplex(1_000));
    let closing = tokio::spawn(async move {
        let mut got = vec![0; read];
        closes.read_exact(&mut got).await.unwrap();
    });
    let reading = tokio::spawn(request_on(reads));
    let clients = Arc::new(Mutex::new(VecDeque::from([client, next_client])));
    let retry = retry(3);
    let svc = ServiceBuilder::new()
        .layer(ReplayBodyLayer::new(KIB * KIB))
        .layer(retry.layer().replay(HttpReplay))
        .layer(LiftErrorsLayer::new())
        .service(service_fn(move |req: Request<ReplayBody<B>>| {
            send_on(clients.lock().unwrap().pop_front().unwrap(), req)
        }));
    assert_eq!(svc.oneshot(put(body)).await.unwrap().status(), 200);
    assert_eq!(retry.snapshot().retries, 1);
    closing.await.unwrap();
    reading.await.unwrap().unwrap()
}

// Known from a pool: the connection of an attempt that was given up came when the next one was over.
#[tokio::test(start_paused = true)]
async fn attempt_that_is_sent_when_the_next_one_is_over_is_no_whole_request() {
    let body = ReplayBody::new(Sized(Frames::of(5, 3_000), 15_000), 64 * KIB);
    let next = body.save().unwrap();
    assert!(next.can_resend());
    let (client, server) = duplex(KIB);
    let reading = tokio::spawn(request_on(server));
    assert_eq!(send_on(client, put(next)).await.unwrap().status(), 200);
    assert_eq!(reading.await.unwrap().unwrap().1.len(), 15_000);

    let (client, server) = duplex(KIB);
    let reading = tokio::spawn(request_on(server));
    send_on(client, put(body)).await.unwrap_err();
    reading.await.unwrap().unwrap_err();
}
