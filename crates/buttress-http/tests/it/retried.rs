//! A retry and what comes after a response's headers.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_core::BoxError;
use buttress_http::HttpClassify;
use buttress_retry::{Retry, RetryConfig};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, channel::Channel};
use tower::{Layer, ServiceExt, service_fn};

/// Answers with ten bytes of a hundred the first time, and with all of them later.
async fn download(calls: &AtomicU32) -> Result<Response<Channel<Bytes, BoxError>>, BoxError> {
    let (mut writer, body) = Channel::new(2);
    if calls.fetch_add(1, Relaxed) == 0 {
        writer.send_data("only ten b".into()).await?;
        writer.abort("connection reset".into());
    } else {
        writer.send_data("all".into()).await?;
    }
    Ok(Response::new(body))
}

#[tokio::test]
async fn body_that_breaks_off_is_retried_by_a_call_that_reads_it_and_not_by_a_layer() {
    let retry = Retry::new("files", RetryConfig::fixed(3, Duration::ZERO)).unwrap();
    let calls = AtomicU32::new(0);
    let svc = retry.layer().classify(HttpClassify).layer(service_fn(|()| download(&calls)));
    let answer = svc.oneshot(()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "connection reset");
    assert_eq!((calls.load(Relaxed), retry.snapshot().retries), (1, 0));

    let calls = AtomicU32::new(0);
    let read = retry.call(|| async {
        let answer = download(&calls).await?;
        Ok::<_, BoxError>(answer.into_body().collect().await?.to_bytes())
    });
    assert_eq!(read.await.unwrap(), "all");
    assert_eq!((calls.load(Relaxed), retry.snapshot().retries), (2, 1));
}
