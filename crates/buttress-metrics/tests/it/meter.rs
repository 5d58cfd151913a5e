//! A bare stage: what it does, and that it does nothing else.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Event, Outcome, Verdict};
use buttress_metrics::{
    Metrics,
    meter::{Meter, STARTED},
};
use tokio::time::sleep;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::Seen;

/// A stage whose error nobody of ours knows.
async fn parse(text: &'static str) -> Result<u32, io::Error> {
    sleep(Duration::from_millis(20)).await;
    text.parse().map_err(io::Error::other)
}

fn stage(metrics: &Metrics) -> Meter {
    Meter::builder("parse").observe(metrics.clone()).build().unwrap()
}

fn calls(seen: &Seen, result: &str) -> u64 {
    seen.counter("meter_calls_total", &[("name", "parse"), ("result", result)])
}

fn started(seen: &Seen) -> u64 {
    seen.counter("meter_calls_started_total", &[("name", "parse")])
}

#[tokio::test(start_paused = true)]
async fn calls_of_any_service_are_counted_when_they_begin_and_end_and_timed() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let service = stage(&Metrics::default()).layer().layer(service_fn(parse));
    assert_eq!(service.clone().oneshot("7").await.unwrap(), 7);
    assert_eq!(service.clone().oneshot("seven").await.unwrap_err().kind(), io::ErrorKind::Other);
    let mut left = tokio_test::task::spawn(service.oneshot("9"));
    assert!(left.poll().is_pending());
    assert_eq!((started(&seen), calls(&seen, "completed"), calls(&seen, "failed")), (3, 1, 1));
    drop(left);
    assert_eq!(calls(&seen, "cancelled"), 1);
    let took = |result| seen.0.histogram("meter_call_duration_seconds", &[("result", result)]);
    assert_eq!((took("completed"), took("failed"), took("cancelled")), (vec![0.02], vec![0.02], vec![0.0]));
}

#[tokio::test(start_paused = true)]
async fn panics_have_failed_wherever_they_come_from() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let meter = stage(&Metrics::default());
    let at_once =
        || -> std::future::Ready<Result<(), io::Error>> { std::panic::resume_unwind(Box::new("op")) };
    assert!(catch_unwind(AssertUnwindSafe(|| drop(meter.call(at_once)))).is_err());
    let polled = async || -> Result<(), io::Error> { std::panic::resume_unwind(Box::new("poll")) };
    let mut call = tokio_test::task::spawn(meter.call(polled));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll().is_ready())).is_err());
    assert_eq!((started(&seen), calls(&seen, "failed")), (2, 2)); // told though the future is kept
    drop(call);
    assert_eq!(calls(&seen, "cancelled"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_is_what_the_classifier_says() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let layer =
        stage(&Metrics::default()).layer().classify_with(|outcome: Result<&u32, &io::Error>| match outcome {
            Ok(status) if *status >= 500 => Verdict::transient(),
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::Ignore,
        });
    let service = layer.layer(service_fn(parse));
    for text in ["200", "503", "a page"] {
        let _ = service.clone().oneshot(text).await;
    }
    assert_eq!((calls(&seen, "completed"), calls(&seen, "failed")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn listener_hears_the_beginning_and_the_end_with_its_time() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    let listen = move |event: &Event<'_>| {
        log.lock().unwrap().push(match event {
            Event::Note(note) => (note.what, None),
            Event::Done { result, elapsed, .. } => (*result, *elapsed),
            _ => ("something else", None),
        });
    };
    let meter = Meter::builder("parse").on_event(listen).build().unwrap();
    meter.call(|| parse("7")).await.unwrap();
    let took = Some(Duration::from_millis(20));
    assert_eq!(*heard.lock().unwrap(), [(STARTED, None), (Outcome::Success.as_str(), took)]);
}

#[tokio::test]
async fn meter_fits_wherever_a_layer_does_and_its_name_is_checked() {
    let meter = Meter::new("parse").unwrap();
    let stack = ServiceBuilder::new()
        .layer(meter.layer())
        .layer(meter.layer())
        .service_fn(|n: u32| async move { Ok::<_, std::convert::Infallible>(n) });
    assert_eq!(stack.oneshot(3).await.unwrap(), 3);
    assert!(Meter::new("").unwrap_err().to_string().starts_with("meter \"\": `name`"));
}
