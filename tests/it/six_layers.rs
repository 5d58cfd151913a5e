//! A stack of six layers under what one layer alone does not meet.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use buttress::{
    Backoff, BoxError, Breaker, Bulkhead, Chance, Event, Fallback, Kind, Name, Recorder, Retry,
    ServiceBuilderExt, Timeout, breaker::OnCancel, bulkhead::words,
};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What the policies of one stack told.
#[derive(Default)]
struct Heard {
    admitted: AtomicU64,
    ended: AtomicU64,
    calls: AtomicU64,
    in_flight: AtomicU64,
    waiting: AtomicU64,
}

/// One policy's part of it.
struct Part(Arc<Heard>, Kind);

impl Recorder for Part {
    fn record(&self, event: &Event<'_>) {
        let Self(heard, kind) = self;
        let count = match (kind.name, event) {
            ("bulkhead", Event::Level(level)) if level.what == words::IN_FLIGHT => {
                return heard.in_flight.store(level.value.to_bits(), SeqCst);
            }
            ("bulkhead", Event::Level(level)) if level.what == words::QUEUE_DEPTH => {
                return heard.waiting.store(level.value.to_bits(), SeqCst);
            }
            ("bulkhead", Event::Note(note)) if note.what == words::ADMITTED => &heard.admitted,
            // Without an attempt: it was never let in.
            ("bulkhead", Event::Done { attempts: 1.., .. }) => &heard.ended,
            ("fallback", Event::Done { .. }) => &heard.calls,
            _ => return,
        };
        count.fetch_add(1, SeqCst);
    }
}

/// Six layers around `inner`, and what to look at them by.
struct Six {
    heard: Arc<Heard>,
    bulkhead: Bulkhead,
    breaker: Breaker,
}

impl Six {
    fn new() -> Self {
        let heard = Arc::<Heard>::default();
        let bulkhead = Bulkhead::builder("six").max_concurrent(4).max_queue(6).queue_timeout(ms(40));
        let breaker = Breaker::builder("six").failure_rate(0.9).minimum_calls(50).open_for(ms(200)).seed(1);
        Self {
            bulkhead: bulkhead.observe(Self::observer(&heard)).build().unwrap(),
            breaker: breaker.on_cancel(OnCancel::Failure).build().unwrap(),
            heard,
        }
    }

    fn observer(heard: &Arc<Heard>) -> impl buttress::Observer + use<> {
        let heard = heard.clone();
        move |kind: Kind, _: &Name| Some(Arc::new(Part(heard.clone(), kind)) as Arc<dyn Recorder>)
    }

    fn around<S>(
        &self,
        inner: S,
    ) -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + use<S>
    where
        S: Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + 'static,
    {
        let backoff = Backoff::constant(ms(5));
        let retry = Retry::builder("six").max_attempts(3).backoff(backoff).seed(1).build().unwrap();
        let fallback = Fallback::builder("six").observe(Self::observer(&self.heard)).build().unwrap();
        let timeout = |limit| Timeout::builder("six").limit(ms(limit)).build().unwrap();
        ServiceBuilder::new()
            .fallback(fallback.layer().answer_with(|failed: Result<u64, BoxError>| failed))
            .deadline(timeout(120).layer())
            .retrying(retry.layer())
            .breaker(self.breaker.layer())
            .bulkhead(self.bulkhead.layer())
            .attempt_timeout(timeout(50).layer())
            .lift_errors()
            .service(inner)
    }
}

/// Answers, fails, hangs and panics by chance.
async fn by_chance(chance: Arc<Chance>) -> Result<u64, BoxError> {
    match chance.bits() % 100 {
        0..60 => sleep(ms(chance.bits() % 30)).await,
        60..80 => {
            sleep(ms(chance.bits() % 5)).await;
            return Err("down".into());
        }
        80..90 => std::future::pending().await,
        90..95 => std::panic::resume_unwind(Box::new("by chance")),
        _ => {}
    }
    Ok(1)
}

#[tokio::test(start_paused = true)]
async fn simulated_minutes_of_every_fault_leave_nothing_behind() {
    for seed in 1..=3 {
        let (six, chance) = (Six::new(), Arc::new(Chance::seeded(seed)));
        let faults = chance.clone();
        let svc = six.around(service_fn(move |_| by_chance(faults.clone())));
        let started = Instant::now();
        let mut calls = 0;
        while started.elapsed() < Duration::from_secs(60) {
            calls += 1;
            let call = tokio::spawn(svc.clone().oneshot(calls));
            if chance.bits() % 10 == 0 {
                let wait = ms(chance.bits() % 60);
                tokio::spawn(async move {
                    sleep(wait).await;
                    call.abort();
                });
            }
            sleep(ms(chance.bits() % 20)).await;
            let now = six.bulkhead.snapshot();
            assert!(now.active <= 4 && now.queued <= 6, "seed {seed}: {now:?}");
        }
        sleep(Duration::from_secs(1)).await;
        let left = six.bulkhead.snapshot();
        assert_eq!((left.active, left.queued), (0, 0), "seed {seed}: {left:?}");
        let heard = &*six.heard;
        assert_eq!(heard.admitted.load(SeqCst), heard.ended.load(SeqCst), "seed {seed}");
        assert!(heard.admitted.load(SeqCst) > 1_000, "seed {seed}");
        assert_eq!(f64::from_bits(heard.in_flight.load(SeqCst)), 0.0, "seed {seed}");
        assert_eq!(f64::from_bits(heard.waiting.load(SeqCst)), 0.0, "seed {seed}");
        // However a call went, the outermost layer told its end once.
        assert_eq!(heard.calls.load(SeqCst), calls, "seed {seed}");
        // And the stack is of use still.
        six.breaker.reset();
        let well = six.around(service_fn(|n| async move { Ok::<_, BoxError>(n) }));
        assert_eq!(well.oneshot(7).await.unwrap(), 7);
    }
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn waker_of_the_last_poll_is_the_one_that_is_woken_through_six_layers() {
    let six = Six::new();
    let (answer, answered) = tokio::sync::watch::channel(0_u64);
    let svc = six.around(service_fn(move |_| {
        let mut answered = answered.clone();
        async move { Ok(*answered.wait_for(|n| *n > 0).await?) }
    }));
    let mut call = pin!(svc.oneshot(1));
    let (first, second) = (Arc::<Bell>::default(), Arc::<Bell>::default());
    assert!(call.as_mut().poll(&mut Context::from_waker(&first.into())).is_pending());
    assert!(call.as_mut().poll(&mut Context::from_waker(&second.clone().into())).is_pending());
    answer.send(9).unwrap();
    assert_eq!(second.0.load(SeqCst), 1);
    let over = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(over, Poll::Ready(Ok(9))));
}
