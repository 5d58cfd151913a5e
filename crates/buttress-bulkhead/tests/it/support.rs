use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_bulkhead::{Bulkhead, BulkheadBuilder};
use buttress_core::{Event, FromRejection, Note, Value};
use tokio::sync::oneshot;
use tokio_test::task::{Spawn, spawn};
use tower::BoxError;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn bulkhead(max_concurrent: u32, max_queue: u32) -> Bulkhead {
    builder(max_concurrent, max_queue).build().unwrap()
}

pub(crate) fn builder(max_concurrent: u32, max_queue: u32) -> BulkheadBuilder {
    Bulkhead::builder("db").max_concurrent(max_concurrent).max_queue(max_queue)
}

pub(crate) type Call = Spawn<Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>>;

/// A call that runs until it is told its answer.
pub(crate) fn call(bulkhead: &Bulkhead) -> (oneshot::Sender<Result<u32, BoxError>>, Call) {
    let (tx, rx) = oneshot::channel::<Result<u32, BoxError>>();
    let call = bulkhead.call(move || async move { rx.await.unwrap_or_else(|gone| Err(gone.into())) });
    (tx, spawn(Box::pin(call)))
}

#[track_caller]
pub(crate) fn code(refused: Result<u32, BoxError>) -> &'static str {
    let refused = refused.expect_err("a refusal");
    let why = refused.rejection().expect("a rejection");
    assert!(!why.was_sent());
    why.code().as_str()
}

/// Active, queued.
pub(crate) fn levels(bulkhead: &Bulkhead) -> (u32, u32) {
    let snapshot = bulkhead.snapshot();
    (snapshot.active, snapshot.queued)
}

/// What was told, in short.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    pub(crate) fn listen(&self, builder: BulkheadBuilder) -> BulkheadBuilder {
        let told = self.0.clone();
        builder.on_event(move |event| {
            let event = match event {
                Event::Done { outcome, elapsed, .. } => {
                    format!("done {} {}ms", outcome.as_str(), elapsed.unwrap_or_default().as_millis())
                }
                Event::Refused { rejection, shadow } => format!("refused {} {shadow}", rejection.code()),
                Event::Level(level) => format!("{} {}", level.what, level.value),
                Event::Note(Note { what, value: None, .. }) => (*what).to_owned(),
                Event::Note(Note { what, value: Some(Value::Time(time)), .. }) => format!("{what}({time:?})"),
                Event::Note(Note { what, value: Some(Value::Count(count)), .. }) => {
                    format!("{what}({count})")
                }
                other => format!("{other:?}"),
            };
            told.lock().unwrap().push(event);
        })
    }

    /// What was told since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}
