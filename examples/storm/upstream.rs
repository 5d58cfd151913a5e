//! The upstream that fails: so many permits, so long a request, and an endless queue before them.
//!
//! Capacity is permits and sleeping, never processor time, so two gateways on one small machine do not
//! slow each other down. Work is a task of its own: a client that gives up does not stop it, as in any
//! server that has handed the request to a thread, a database or another server.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::script::Health;

/// Of all requests, this share fails even on the best of days. That is what retries are for.
const BLIPS: f64 = 0.01;

/// One upstream. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    floor: Mutex<Floor>,
    calls: AtomicU64,
    done: AtomicU64,
    wasted: AtomicU64,
    leavers: Leavers,
}

/// The shop floor: who works, and who waits.
#[derive(Debug)]
struct Floor {
    health: Health,
    busy: usize,
    /// First come, first served, without a bound: the shape most servers have.
    queue: VecDeque<oneshot::Sender<()>>,
    chance: Chance,
    refused_last: bool,
}

/// What becomes of the work for clients who left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leavers {
    /// It is done, in its turn: the upstream does not notice.
    Served,
    /// It is dropped at once, in the queue and under way.
    Dropped,
}

/// Totals since the start, and who is inside now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Requests that arrived.
    pub(crate) calls: u64,
    /// Worked on to the end.
    pub(crate) done: u64,
    /// Of these: finished when nobody waited for the answer any more.
    pub(crate) wasted: u64,
    pub(crate) queued: usize,
}

impl Upstream {
    pub(crate) fn new(seed: u64, health: Health) -> Self {
        Self::with(seed, health, Leavers::Served)
    }

    pub(crate) fn with(seed: u64, health: Health, leavers: Leavers) -> Self {
        let (queue, chance) = (VecDeque::new(), Chance::new(seed));
        let floor = Mutex::new(Floor { health, busy: 0, queue, chance, refused_last: false });
        let (calls, done, wasted) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
        Self { shared: Arc::new(Shared { floor, calls, done, wasted, leavers }) }
    }

    /// From now on the upstream fares like this. Work under way goes on at the old pace.
    pub(crate) fn set_health(&self, health: Health) {
        self.on_floor(|floor| {
            floor.health = health;
            floor.hand_out();
        });
    }

    /// Throws everybody out of the queue: an operator restarts the process.
    pub(crate) fn restart(&self) {
        self.on_floor(|floor| floor.queue.clear());
    }

    pub(crate) fn counts(&self) -> Counts {
        let queued = self.on_floor(|floor| floor.queue.len());
        let shared = &self.shared;
        let (calls, done) = (shared.calls.load(Relaxed), shared.done.load(Relaxed));
        Counts { calls, done, wasted: shared.wasted.load(Relaxed), queued }
    }

    /// Serves one request: waits for a permit, then takes its time. Dropping this future stops nothing.
    pub(crate) async fn serve(&self) -> StatusCode {
        let (mut answer, waiting) = oneshot::channel();
        let upstream = self.clone();
        tokio::spawn(async move {
            let status = tokio::select! {
                status = upstream.work() => status,
                () = answer.closed(), if upstream.shared.leavers == Leavers::Dropped => return,
            };
            if answer.send(status).is_err() {
                upstream.shared.wasted.fetch_add(1, Relaxed);
            }
        });
        waiting.await.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    async fn work(&self) -> StatusCode {
        self.shared.calls.fetch_add(1, Relaxed);
        match self.on_floor(Floor::enter) {
            Entry::Refused => return StatusCode::SERVICE_UNAVAILABLE,
            Entry::Admitted => {}
            Entry::Queued(turn) => {
                if turn.await.is_err() {
                    return StatusCode::SERVICE_UNAVAILABLE;
                }
            }
        }
        let _permit = Permit(self);
        let (time, blip) = self.on_floor(|floor| {
            // Plus or minus a fifth, evenly.
            let spread = 0.8 + 0.4 * floor.chance.unit();
            let micros = floor.health.service.as_micros() as f64 * spread;
            (Duration::from_micros(micros as u64), floor.chance.unit() < BLIPS)
        });
        tokio::time::sleep(time).await;
        self.shared.done.fetch_add(1, Relaxed);
        if blip { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
    }

    fn on_floor<T>(&self, act: impl FnOnce(&mut Floor) -> T) -> T {
        act(&mut self.shared.floor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Somebody is at work. Given back however the work ends.
struct Permit<'a>(&'a Upstream);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.on_floor(|floor| {
            floor.busy -= 1;
            floor.hand_out();
        });
    }
}

enum Entry {
    Refused,
    Admitted,
    Queued(oneshot::Receiver<()>),
}

impl Floor {
    fn enter(&mut self) -> Entry {
        if self.health.is_dead() {
            // Both ways of being dead: every other request is answered 503 at once, the rest hang.
            self.refused_last = !self.refused_last;
            if self.refused_last {
                return Entry::Refused;
            }
        } else if self.busy < self.health.permits && self.queue.is_empty() {
            self.busy += 1;
            return Entry::Admitted;
        }
        let (turn, wait) = oneshot::channel();
        self.queue.push_back(turn);
        Entry::Queued(wait)
    }

    /// Gives free permits to those who have waited longest.
    fn hand_out(&mut self) {
        while self.busy < self.health.permits {
            let Some(next) = self.queue.pop_front() else { return };
            if next.send(()).is_ok() {
                self.busy += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    fn health(permits: usize) -> Health {
        Health { permits, service: Duration::from_millis(100) }
    }

    #[tokio::test(start_paused = true)]
    async fn permits_bound_what_is_done_in_a_second() {
        let upstream = Upstream::new(1, health(5));
        for _ in 0..200 {
            tokio::spawn({
                let upstream = upstream.clone();
                async move { upstream.serve().await }
            });
        }
        sleep(Duration::from_secs(2)).await;
        let counts = upstream.counts();
        assert_eq!(counts.calls, 200);
        // 5 permits of 100 ms each: 50 a second.
        assert!((90..=105).contains(&counts.done), "{counts:?}");
        assert_eq!(counts.done + counts.queued as u64 + 5, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_gives_up_does_not_stop_the_work() {
        let upstream = Upstream::new(1, health(1));
        assert!(timeout(Duration::from_millis(10), upstream.serve()).await.is_err());
        let begun = Instant::now();
        assert_eq!(upstream.serve().await, StatusCode::OK);
        assert!(begun.elapsed() >= Duration::from_millis(150), "it waited for the abandoned work");
        let counts = upstream.counts();
        assert_eq!((counts.calls, counts.done, counts.wasted), (2, 2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn work_for_clients_who_left_can_be_dropped_in_the_queue_and_under_way() {
        let upstream = Upstream::with(1, health(1), Leavers::Dropped);
        let short = Duration::from_millis(10);
        let (one, two) = (timeout(short, upstream.serve()), timeout(short, upstream.serve()));
        let (one, two) = tokio::join!(one, two);
        assert!(one.is_err() && two.is_err());
        let begun = Instant::now();
        assert_eq!(upstream.serve().await, StatusCode::OK);
        assert!(begun.elapsed() < Duration::from_millis(130), "it waited for work that was dropped");
        let counts = upstream.counts();
        assert_eq!((counts.calls, counts.done, counts.wasted), (3, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn dead_upstream_refuses_every_other_call_and_hangs_on_the_rest_until_it_recovers() {
        let upstream = Upstream::new(1, health(0));
        let short = Duration::from_millis(500);
        assert_eq!(timeout(short, upstream.serve()).await, Ok(StatusCode::SERVICE_UNAVAILABLE));
        assert!(timeout(short, upstream.serve()).await.is_err());
        assert_eq!(timeout(short, upstream.serve()).await, Ok(StatusCode::SERVICE_UNAVAILABLE));
        upstream.set_health(health(1));
        assert_eq!(timeout(short, upstream.serve()).await, Ok(StatusCode::OK));
        assert_eq!(upstream.counts().wasted, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_permits_take_effect_as_work_ends() {
        let upstream = Upstream::new(1, health(4));
        for _ in 0..8 {
            tokio::spawn({
                let upstream = upstream.clone();
                async move { upstream.serve().await }
            });
        }
        sleep(Duration::from_millis(1)).await;
        upstream.set_health(health(1));
        sleep(Duration::from_millis(130)).await;
        let counts = upstream.counts();
        assert_eq!(counts.done, 4, "{counts:?}");
        assert_eq!(counts.queued, 3, "{counts:?}");
    }
}
