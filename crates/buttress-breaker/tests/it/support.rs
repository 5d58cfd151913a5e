//! A breaker driven by hand.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_breaker::{Breaker, BreakerBuilder, BreakerConfig, State, words::EXCEEDED};
use buttress_core::{Event, Note, Rejection, Value};
use tokio::time::advance;

/// The breaker's settings of another system.
pub(crate) fn profile(name: &str) -> BreakerConfig {
    let text = match name {
        "blipee" => include_str!("../../../../tests/data/sources/blipee.toml"),
        "didactic" => include_str!("../../../../tests/data/sources/didactic.toml"),
        "fluxus" => include_str!("../../../../tests/data/sources/fluxus.toml"),
        "opossum" => include_str!("../../../../tests/data/sources/opossum.toml"),
        other => panic!("{other}"),
    };
    let source: toml::Table = text.parse().unwrap();
    source["breaker"].clone().try_into().unwrap()
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) async fn pass(time: Duration) {
    advance(time).await;
}

/// Calls that take no time, and what they find.
pub(crate) trait Drive {
    fn ok(&self, times: u32);
    fn fail(&self, times: u32);
    fn refused(&self) -> Rejection;
    async fn ok_after(&self, time: Duration);
    async fn fail_after(&self, time: Duration);
    fn is(&self, state: State);
}

impl Drive for Breaker {
    #[track_caller]
    fn ok(&self, times: u32) {
        for _ in 0..times {
            self.try_acquire().expect("admitted").success();
        }
    }

    #[track_caller]
    fn fail(&self, times: u32) {
        for _ in 0..times {
            self.try_acquire().expect("admitted").failure();
        }
    }

    #[track_caller]
    fn refused(&self) -> Rejection {
        self.try_acquire().expect_err("refused")
    }

    async fn ok_after(&self, time: Duration) {
        let permit = self.try_acquire().expect("admitted");
        pass(time).await;
        permit.success();
    }

    async fn fail_after(&self, time: Duration) {
        let permit = self.try_acquire().expect("admitted");
        pass(time).await;
        permit.failure();
    }

    #[track_caller]
    fn is(&self, state: State) {
        assert_eq!(self.state(), state);
    }
}

/// What a breaker told, as short texts.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub(crate) fn by(builder: BreakerBuilder) -> (Breaker, Self) {
        let heard = Self::default();
        let to = heard.clone();
        let breaker = builder
            .on_event(move |event| {
                let text = match event {
                    Event::Transition(change) => format!("{}>{} {}", change.from, change.to, change.cause),
                    Event::Done { outcome, .. } => format!("done {}", outcome.as_str()),
                    Event::Refused { rejection, shadow } => {
                        format!("refused {}{}", rejection.code(), if *shadow { " shadow" } else { "" })
                    }
                    Event::Note(Note { what: Note::RESET, .. }) => "reset".to_owned(),
                    Event::Note(Note { what: EXCEEDED, value, .. }) => {
                        format!("exceeded {}", value.as_ref().and_then(Value::as_text).unwrap())
                    }
                    Event::Note(note) => format!("{note:?}"),
                    _ => return,
                };
                to.0.lock().unwrap().push(text);
            })
            .build()
            .unwrap();
        (breaker, heard)
    }

    /// The changes of state, and takes everything.
    pub(crate) fn transitions(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.0.lock().unwrap());
        all.into_iter().filter(|text| text.contains('>')).collect()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|heard| *heard == text).count()
    }
}
