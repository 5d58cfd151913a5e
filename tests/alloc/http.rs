//! What a body that may be sent again costs.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use buttress::BoxError;
use buttress::http::{HttpReplay, ReplayBody, ReplayBodyLayer};
use buttress::retry::Retry;
use bytes::Bytes;
use http::{Method, Request};
use http_body::{Body, Frame};
use http_body_util::{Empty, Full};
use tower::{Layer, Service, service_fn};

const KIB: usize = 1024;

/// Polls a request through layer and retry to its end.
fn drive<B, F>(svc: &mut F, req: Request<B>)
where
    F: Service<Request<B>, Response = (), Error = BoxError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(svc.poll_ready(&mut cx).is_ready());
    let call = pin!(svc.call(req));
    assert!(call.poll(&mut cx).is_ready());
}

/// Reads a body to its end, or up to so many bytes.
fn read<B: Body<Error = BoxError, Data = Bytes> + Unpin>(mut body: B, up_to: usize) -> usize {
    let (mut cx, mut read) = (Context::from_waker(Waker::noop()), 0);
    while read < up_to {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(frame)) => read += frame.unwrap().into_data().unwrap().len(),
            _ => break,
        }
    }
    read
}

fn retry() -> Retry {
    Retry::builder("storage").max_attempts(3).backoff(buttress::Backoff::none()).build().unwrap()
}

#[test]
fn request_without_a_body_and_one_that_goes_out_once_allocate_nothing() {
    let layer = ReplayBodyLayer::default();
    let empty = service_fn(|req: Request<ReplayBody<Empty<Bytes>>>| -> Ready<Result<(), BoxError>> {
        assert_eq!(read(req.into_body(), 1), 0);
        ready(Ok(()))
    });
    let mut get = layer.layer(retry().layer().replay(HttpReplay).layer(empty));
    drive(&mut get, Request::new(Empty::new()));
    let made = allocation_counter::measure(|| drive(&mut get, Request::new(Empty::new())));
    assert_eq!(made.count_total, 0);

    let full = service_fn(|req: Request<ReplayBody<Full<Bytes>>>| -> Ready<Result<(), BoxError>> {
        assert_eq!(read(req.into_body(), 99), 5);
        ready(Ok(()))
    });
    let mut post = layer.layer(retry().layer().replay(HttpReplay).layer(full));
    let order = || {
        let mut req = Request::new(Full::from("order"));
        *req.method_mut() = Method::POST;
        req
    };
    drive(&mut post, order());
    assert_eq!(allocation_counter::measure(|| drive(&mut post, order())).count_total, 0);
}

/// Ten MiB, made as they are read.
struct Large {
    frames_left: usize,
}

const FRAME: usize = 16 * KIB;

impl Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames_left -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![7; FRAME].into()))))
    }
}

#[test]
fn no_more_is_kept_of_a_body_than_its_limit() {
    const LIMIT: usize = 64 * KIB;
    let fails = service_fn(|req: Request<ReplayBody<Large>>| -> Ready<Result<(), BoxError>> {
        assert_eq!(read(req.into_body(), KIB * KIB), KIB * KIB);
        ready(Err("reset".into()))
    });
    let retry = retry();
    let mut svc = ReplayBodyLayer::new(LIMIT).layer(retry.layer().replay(HttpReplay).layer(fails));
    let most = allocation_counter::measure(|| drive(&mut svc, Request::new(Large { frames_left: 640 })));
    assert_eq!(retry.snapshot().retries, 0);
    let bound = LIMIT + FRAME + KIB;
    assert!((LIMIT..=bound).contains(&(most.bytes_max as usize)), "{} bytes", most.bytes_max);
    assert_eq!(most.bytes_current, 0);
}
