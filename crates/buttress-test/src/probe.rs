use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use buttress_core::BoxError;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use crate::script::{End, Step};

/// A service for the inside of a stack under test: it answers by script, keeps the requests, and watches how it
/// is treated.
///
/// Clones share the script, the requests and the slots; keep one to ask. As the `Service` contract has it, a
/// clone is not ready, however ready the original is, and a call needs a `poll_ready` on its very instance.
/// With [`slots`](Self::slots), readiness is a reservation, as in tower's `ConcurrencyLimit` and `Buffer`: taken
/// by `poll_ready`, given back when the call has ended, when its future is dropped, and when a readied instance
/// is dropped.
///
/// A [`Breach`] of the contract panics, and is kept in any case; see [`lenient`](Self::lenient).
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_test::{BoxError, Probe, step};
/// use tower::{Service, ServiceExt};
///
/// let mut service = Probe::new(|n: &u32| step::ok::<_, BoxError>(n + 1)).slots(1);
/// assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 2);
/// service.ready().await.unwrap();
/// assert_eq!(service.free_slots(), 0); // reserved by an instance that is ready
/// let watch = service.clone();
/// drop(service);
/// assert_eq!(watch.free_slots(), 1);
/// # });
/// ```
pub struct Probe<Req = u32, Res = u32, E = BoxError> {
    shared: Arc<Shared<Req, Res, E>>,
    pool: Arc<Pool>,
    id: u64,
    ready: Option<Slot>,
}

struct Shared<Req, Res, E> {
    // Two locks, so that the answering closure may ask the probe.
    answer: Mutex<Answer<Req, Res, E>>,
    state: Mutex<State<Req, Res, E>>,
}

type Answer<Req, Res, E> = Box<dyn FnMut(&Req) -> Option<Step<Res, E>> + Send>;

struct State<Req, Res, E> {
    requests: Vec<Req>,
    held: VecDeque<Weak<Held<Res, E>>>,
    ready_errors: VecDeque<E>,
}

/// A way in which the `Service` contract was broken towards a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Breach {
    /// `call` on an instance whose `poll_ready` had not just answered `Ready(Ok(()))`.
    CallWithoutReadiness,
    /// A future was polled after it had resolved.
    PolledAfterEnd,
    /// An instance was used again after its `poll_ready` had failed.
    UsedAfterReadyError,
    /// There were more calls than steps in the script.
    ScriptRanOut,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallWithoutReadiness => {
                "`call` without a `poll_ready` that answered ready on that instance"
            }
            Self::PolledAfterEnd => "a future was polled after it had resolved",
            Self::UsedAfterReadyError => "an instance was used after its `poll_ready` had failed",
            Self::ScriptRanOut => "the script has no step left for this call",
        })
    }
}

impl<Req, Res, E> Probe<Req, Res, E> {
    /// Makes a service that answers each request by the step that `answer` makes. No limit on slots.
    pub fn new(mut answer: impl FnMut(&Req) -> Step<Res, E> + Send + 'static) -> Self {
        Self::playing(move |req| Some(answer(req)))
    }

    pub(crate) fn playing(answer: impl FnMut(&Req) -> Option<Step<Res, E>> + Send + 'static) -> Self {
        let state = State { requests: Vec::new(), held: VecDeque::new(), ready_errors: VecDeque::new() };
        let shared = Shared { answer: Mutex::new(Box::new(answer)), state: Mutex::new(state) };
        let pool = Arc::new(Pool::default());
        let id = pool.new_id();
        Self { shared: Arc::new(shared), pool, id, ready: None }
    }

    /// With `slots` slots, shared by all clones.
    pub fn slots(self, slots: usize) -> Self {
        self.set_slots(slots);
        self
    }

    /// Calls keep their slots until their futures are dropped, as those of tower's `ConcurrencyLimit` do, and not
    /// only until they have resolved.
    pub fn slots_until_drop(self) -> Self {
        self.pool.lock().until_drop = true;
        self
    }

    /// Keeps breaches to itself instead of panicking: read them with [`breaches`](Self::breaches).
    pub fn lenient(self) -> Self {
        self.pool.lock().lenient = true;
        self
    }

    /// Changes the number of slots. Slots that are taken stay taken.
    pub fn set_slots(&self, slots: usize) {
        self.pool.change(|pool| pool.slots = slots);
    }

    /// Fails the next `poll_ready` of any instance that is not ready yet.
    pub fn fail_readiness(&self, error: E) {
        self.state().ready_errors.push_back(error);
        self.pool.change(|_| ());
    }

    /// Resolves the oldest call that stays [`pending`](crate::step::pending) and has not been dropped. `false`: none.
    pub fn answer(&self, answer: Result<Res, E>) -> bool {
        let mut state = self.state();
        while let Some(held) = state.held.pop_front() {
            if let Some(held) = held.upgrade() {
                drop(state);
                held.resolve(answer);
                return true;
            }
        }
        false
    }

    /// Takes a slot, as a readied instance does; dropping it gives the slot back.
    pub fn take_slot(&self) -> Option<Slot> {
        self.pool.take(|_| ())
    }

    /// How many slots are free.
    pub fn free_slots(&self) -> usize {
        let pool = self.pool.lock();
        pool.slots.saturating_sub(pool.taken)
    }

    /// How many slots are taken: by readied instances, by calls under way, by [`take_slot`](Self::take_slot).
    pub fn taken_slots(&self) -> usize {
        self.pool.lock().taken
    }

    /// How many calls are under way: made, not resolved, not dropped.
    pub fn in_flight(&self) -> usize {
        self.pool.lock().in_flight
    }

    /// The most calls that were under way at once.
    pub fn max_in_flight(&self) -> usize {
        self.pool.lock().max_in_flight
    }

    /// How many calls were made.
    pub fn calls(&self) -> usize {
        self.state().requests.len()
    }

    /// How many calls were dropped before they had resolved.
    pub fn cancelled(&self) -> usize {
        self.pool.lock().cancelled
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Req>
    where
        Req: Clone,
    {
        self.state().requests.clone()
    }

    /// Shows the requests so far, in order, to `look`.
    pub fn with_requests<T>(&self, look: impl FnOnce(&[Req]) -> T) -> T {
        look(&self.state().requests)
    }

    /// How often `poll_ready` was called, on all instances.
    pub fn ready_polls(&self) -> usize {
        self.pool.lock().ready_polls
    }

    /// How often the futures were polled.
    pub fn call_polls(&self) -> usize {
        self.pool.lock().call_polls
    }

    /// How the contract was broken so far, in order.
    pub fn breaches(&self) -> Vec<Breach> {
        self.pool.lock().breaches.clone()
    }

    fn state(&self) -> MutexGuard<'_, State<Req, Res, E>> {
        unpoisoned(&self.shared.state)
    }

    /// The step for `req`, which is kept.
    fn next_step(&self, req: Req) -> Step<Res, E> {
        let step = unpoisoned(&self.shared.answer)(&req);
        self.state().requests.push(req);
        step.unwrap_or_else(|| {
            self.pool.breach(Breach::ScriptRanOut);
            crate::step::pending()
        })
    }
}

impl<Req, Res, E> Clone for Probe<Req, Res, E> {
    /// Neither readiness nor a slot goes to the clone.
    fn clone(&self) -> Self {
        let id = self.pool.new_id();
        Self { shared: self.shared.clone(), pool: self.pool.clone(), id, ready: None }
    }
}

impl<Req, Res, E> Drop for Probe<Req, Res, E> {
    fn drop(&mut self) {
        let mut pool = self.pool.lock();
        pool.parked.remove(&self.id);
        pool.failed.remove(&self.id);
    }
}

impl<Req, Res, E> fmt::Debug for Probe<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("ready", &self.ready.is_some())
            .field("calls", &self.calls())
            .field("free_slots", &self.free_slots())
            .field("breaches", &self.breaches())
            .finish_non_exhaustive()
    }
}

impl<Req, Res, E> Service<Req> for Probe<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = ProbeFuture<Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut pool = self.pool.lock();
        pool.ready_polls += 1;
        if pool.failed.contains(&self.id) {
            drop(pool);
            self.pool.breach(Breach::UsedAfterReadyError);
            return Poll::Pending;
        }
        drop(pool);
        if self.ready.is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.state().ready_errors.pop_front() {
            self.pool.lock().failed.insert(self.id);
            return Poll::Ready(Err(error));
        }
        let id = self.id;
        self.ready = self.pool.take(|pool| {
            pool.parked.insert(id, cx.waker().clone());
        });
        if self.ready.is_some() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, req: Req) -> ProbeFuture<Res, E> {
        let slot = self.ready.take();
        if slot.is_none() {
            self.pool.breach(Breach::CallWithoutReadiness);
        }
        let flight = Flight::new(&self.pool, slot);
        let step = self.next_step(req);
        if step.panics_in_call {
            resume_unwind(Box::new(SCRIPTED));
        }
        let end = match step.end {
            End::Answer(answer) => FutureEnd::Answer { answer: Some(answer) },
            End::Panic => FutureEnd::Panic,
            End::Held => {
                let held = Arc::new(Held::default());
                self.state().held.push_back(Arc::downgrade(&held));
                FutureEnd::Held { held }
            }
        };
        ProbeFuture { flight, yields: step.yields, delay: step.delay, sleep: None, end }
    }
}

/// What a scripted panic says. By `resume_unwind` and not `panic!`, so that it does not fill the test's output.
pub(crate) const SCRIPTED: &str = "the script panics";

pin_project! {
    /// The answer to one call of a [`Probe`].
    pub struct ProbeFuture<Res, E> {
        flight: Flight,
        yields: usize,
        delay: std::time::Duration,
        #[pin]
        sleep: Option<Sleep>,
        end: FutureEnd<Res, E>,
    }
}

enum FutureEnd<Res, E> {
    Answer { answer: Option<Result<Res, E>> },
    Panic,
    Held { held: Arc<Held<Res, E>> },
}

impl<Res, E> Future for ProbeFuture<Res, E> {
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Res, E>> {
        let mut this = self.project();
        this.flight.pool.lock().call_polls += 1;
        if this.flight.ended {
            this.flight.pool.breach(Breach::PolledAfterEnd);
            return Poll::Pending;
        }
        if *this.yields > 0 {
            *this.yields -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !this.delay.is_zero() {
            let delay = std::mem::take(this.delay);
            this.sleep.set(Some(tokio::time::sleep(delay)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            if sleep.poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.sleep.set(None);
        }
        let answer = match this.end {
            FutureEnd::Answer { answer } => answer.take(),
            FutureEnd::Panic => {
                this.flight.end();
                resume_unwind(Box::new(SCRIPTED));
            }
            FutureEnd::Held { held } => held.poll(cx),
        };
        match answer {
            Some(answer) => {
                this.flight.end();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl<Res, E> fmt::Debug for ProbeFuture<Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFuture").field("ended", &self.flight.ended).finish_non_exhaustive()
    }
}

/// A call that waits for [`Probe::answer`].
struct Held<Res, E>(Mutex<Waiting<Res, E>>);

struct Waiting<Res, E> {
    answer: Option<Result<Res, E>>,
    waker: Option<Waker>,
}

impl<Res, E> Default for Held<Res, E> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { answer: None, waker: None }))
    }
}

impl<Res, E> Held<Res, E> {
    fn resolve(&self, answer: Result<Res, E>) {
        let mut waiting = unpoisoned(&self.0);
        waiting.answer = Some(answer);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Option<Result<Res, E>> {
        let mut waiting = unpoisoned(&self.0);
        let answer = waiting.answer.take();
        if answer.is_none() {
            waiting.waker = Some(cx.waker().clone());
        }
        answer
    }
}

/// The slots of a probe and all its clones.
struct Pool(Mutex<PoolState>);

#[derive(Default)]
struct PoolState {
    slots: usize,
    taken: usize,
    in_flight: usize,
    max_in_flight: usize,
    cancelled: usize,
    ready_polls: usize,
    call_polls: usize,
    next_id: u64,
    parked: BTreeMap<u64, Waker>,
    failed: BTreeSet<u64>,
    breaches: Vec<Breach>,
    lenient: bool,
    until_drop: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self(Mutex::new(PoolState { slots: usize::MAX, ..PoolState::default() }))
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        unpoisoned(&self.0)
    }

    fn new_id(&self) -> u64 {
        let mut pool = self.lock();
        pool.next_id += 1;
        pool.next_id
    }

    /// Takes a slot. If there is none, calls `full`, before a slot can be given back.
    fn take(self: &Arc<Self>, full: impl FnOnce(&mut PoolState)) -> Option<Slot> {
        let mut pool = self.lock();
        if pool.taken >= pool.slots {
            full(&mut pool);
            return None;
        }
        pool.taken += 1;
        Some(Slot { pool: self.clone() })
    }

    /// Changes something that the parked wait for, and wakes them all: whoever comes too late parks again, and
    /// no wake-up is lost on one that went away.
    fn change(&self, change: impl FnOnce(&mut PoolState)) {
        let mut pool = self.lock();
        change(&mut pool);
        let parked = std::mem::take(&mut pool.parked);
        drop(pool);
        parked.into_values().for_each(Waker::wake);
    }

    fn breach(&self, breach: Breach) {
        let mut pool = self.lock();
        pool.breaches.push(breach);
        let lenient = pool.lenient;
        drop(pool);
        assert!(lenient, "contract of `Service` broken: {breach}");
    }
}

/// A slot of a [`Probe`]; dropping it gives the slot back.
pub struct Slot {
    pool: Arc<Pool>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.change(|pool| pool.taken -= 1);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// A call under way.
struct Flight {
    pool: Arc<Pool>,
    slot: Option<Slot>,
    ended: bool,
}

impl Flight {
    fn new(pool: &Arc<Pool>, slot: Option<Slot>) -> Self {
        let mut state = pool.lock();
        state.in_flight += 1;
        state.max_in_flight = state.max_in_flight.max(state.in_flight);
        drop(state);
        Self { pool: pool.clone(), slot, ended: false }
    }

    fn end(&mut self) {
        self.ended = true;
        let mut pool = self.pool.lock();
        pool.in_flight -= 1;
        let until_drop = pool.until_drop;
        drop(pool);
        if !until_drop {
            self.slot = None;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            let mut pool = self.pool.lock();
            pool.in_flight -= 1;
            pool.cancelled += 1;
        }
    }
}

fn unpoisoned<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
