//! The server that is stormed, as a queueing model: some workers, each of whom serves one call at a time, and an endless
//! queue before them, first come first served.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buttress::Chance;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{figures::slot_of, load::time};

/// Of a healthy server.
pub(crate) const WORKERS: usize = 20;
/// How long one call takes: in seconds, exponentially distributed with this mean.
const SERVICE: f64 = 0.02;
/// Calls a second that a healthy server can serve. Half a millisecond is what tokio's timers add on average.
pub(crate) const CAPACITY: f64 = WORKERS as f64 / 0.0205;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Server {
    floor: Arc<Mutex<Floor>>,
}

struct Floor {
    start: Instant,
    chance: Chance,
    workers: usize,
    busy: usize,
    queue: VecDeque<oneshot::Sender<()>>,
    /// Whether work is not begun for callers who left.
    notices: bool,
    /// The calls that arrived, by slot of time.
    arrived: Vec<u32>,
}

impl Server {
    /// Inside a runtime, whose time it goes by.
    pub(crate) fn new(seed: u64, notices: bool) -> Self {
        let floor = Floor {
            start: Instant::now(),
            chance: Chance::seeded(seed),
            workers: WORKERS,
            busy: 0,
            queue: VecDeque::new(),
            notices,
            arrived: Vec::new(),
        };
        Self { floor: Arc::new(Mutex::new(floor)) }
    }

    /// From now on this share of the workers is there. A call under way is served to its end.
    pub(crate) fn set_share(&self, share: f64) {
        self.floor().workers = (WORKERS as f64 * share).round() as usize;
        self.begin();
    }

    /// Serves one call. A caller who drops this future has left, and the server goes on working for that caller.
    pub(crate) fn serve(&self) -> impl Future<Output = ()> + Send + use<> {
        let (done, answer) = oneshot::channel();
        let mut floor = self.floor();
        let slot = slot_of(floor.start.elapsed());
        if floor.arrived.len() <= slot {
            floor.arrived.resize(slot + 1, 0);
        }
        floor.arrived[slot] += 1;
        floor.queue.push_back(done);
        drop(floor);
        self.begin();
        async move {
            // Never sent only if the runtime ends first.
            _ = answer.await;
        }
    }

    /// The calls that arrived, by slot of time.
    pub(crate) fn arrived(&self) -> Vec<u32> {
        self.floor().arrived.clone()
    }

    /// Puts free workers to those who have waited longest.
    fn begin(&self) {
        let mut floor = self.floor();
        while floor.busy < floor.workers {
            let Some(done) = floor.queue.pop_front() else { return };
            if floor.notices && done.is_closed() {
                continue;
            }
            floor.busy += 1;
            let takes = time(-(1.0 - floor.chance.unit()).ln() * SERVICE);
            let server = self.clone();
            tokio::spawn(async move {
                sleep(takes).await;
                // It does not matter to the server whether anybody is there to hear.
                _ = done.send(());
                server.floor().busy -= 1;
                server.begin();
            });
        }
    }

    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
