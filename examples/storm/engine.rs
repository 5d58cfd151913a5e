//! The storm itself: one schedule of arrivals for all gateways, one script for all upstreams. It runs on
//! sockets in real time and on plain services in paused time alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::arrivals::Arrivals;
use crate::naive::NaiveConfig;
use crate::script::{Health, Script};
use crate::tally::{Fate, Lag, Tally};
use crate::upstream::Upstream;
use crate::wire::Target;

/// What will happen, settled before it does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) script: Script,
    /// Requests per second to each gateway.
    pub(crate) rate: u32,
    pub(crate) seed: u64,
    /// Permits of a healthy upstream.
    pub(crate) permits: usize,
    /// When a client gives up.
    pub(crate) patience: Duration,
    pub(crate) naive: NaiveConfig,
    /// Goes round the script until stopped.
    pub(crate) endless: bool,
}

impl Plan {
    pub(crate) fn new(script: Script, rate: u32, seed: u64, naive: NaiveConfig) -> Self {
        // One and a half times the load at least, in fives, so that a fifth of it is a whole number.
        let wanted = f64::from(rate) * 1.5 * script.phases[0].service.as_secs_f64();
        // Thirty is six fives, also where it is 30.000000000000004.
        let permits = ((wanted / 5.0 - 1e-9).ceil() as usize).max(1) * 5;
        Self { script, rate, seed, permits, patience: Duration::from_secs(1), naive, endless: false }
    }

    /// How long a request takes while all is well.
    pub(crate) fn usual(&self) -> Duration {
        self.script.phases[0].service
    }

    pub(crate) fn seconds(&self) -> u32 {
        self.script.seconds()
    }

    /// What a second of the run is in the script: endless runs go round.
    pub(crate) fn in_script(&self, at: Duration) -> Duration {
        if !self.endless {
            return at;
        }
        let round = u64::from(self.seconds());
        Duration::new(at.as_secs() % round, at.subsec_nanos())
    }

    pub(crate) fn health(&self, at: Duration) -> Health {
        let (phase, progress) = self.script.at(self.in_script(at));
        self.script.health(phase, progress, self.permits)
    }

    /// Capacity in the middle of a second, in requests per second.
    pub(crate) fn capacity(&self, second: u32) -> f64 {
        self.health(Duration::from_millis(u64::from(second) * 1000 + 500)).capacity()
    }

    pub(crate) fn healthy_capacity(&self) -> f64 {
        self.script.health(0, 0.0, self.permits).capacity()
    }
}

/// A gateway, its upstream and its figures.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    pub(crate) upstream: Upstream,
    pub(crate) tally: Arc<Tally>,
    /// Names the breaker's state; empty where there is none.
    pub(crate) breaker: Arc<dyn Fn() -> &'static str + Send + Sync>,
}

impl Lane {
    pub(crate) fn new(name: &'static str, target: Target, upstream: Upstream) -> Self {
        Self { name, target, upstream, tally: Arc::default(), breaker: Arc::new(|| "") }
    }

    pub(crate) fn with_breaker(mut self, state: impl Fn() -> &'static str + Send + Sync + 'static) -> Self {
        self.breaker = Arc::new(state);
        self
    }

    /// One client: sends, waits, gives up.
    async fn visit(self, due: Duration, start: Instant, patience: Duration, lag: Arc<Lag>) {
        // Here, and not where the task was made: what the runtime takes to come to it is lateness too.
        lag.record(Instant::now().saturating_duration_since(start + due));
        self.tally.arrived(due);
        let fate = timeout(patience, self.target.send()).await.unwrap_or(Fate::GaveUp);
        self.tally.ended(due, start.elapsed(), fate);
    }
}

/// A storm under way, or past.
#[derive(Clone)]
pub(crate) struct Storm {
    pub(crate) plan: Arc<Plan>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) lag: Arc<Lag>,
    /// Somebody pressed a key that changed the run: the figures are no longer judged.
    pub(crate) touched: Arc<AtomicBool>,
}

impl Storm {
    pub(crate) fn new(plan: Arc<Plan>, lanes: Vec<Lane>) -> Self {
        Self { plan, lanes, lag: Arc::new(Lag::new()), touched: Arc::default() }
    }

    pub(crate) fn was_touched(&self) -> bool {
        self.touched.load(Relaxed)
    }

    /// Sends every request when it is due, to each gateway, and waits for the last answer.
    pub(crate) async fn generate(&self, start: Instant, mut stop: watch::Receiver<bool>) {
        let plan = &self.plan;
        let end = if plan.endless { Duration::MAX } else { Duration::from_secs(plan.seconds().into()) };
        let mut clients = JoinSet::new();
        for due in Arrivals::new(plan.seed, plan.rate, end) {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return,
                () = sleep_until(start + due) => {}
            }
            for lane in &self.lanes {
                clients.spawn(lane.clone().visit(due, start, plan.patience, self.lag.clone()));
            }
            while clients.try_join_next().is_some() {}
        }
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => {}
            () = async { while clients.join_next().await.is_some() {} } => {}
        }
    }

    /// Plays the script to the upstreams and takes the figures of each second, until `over`.
    pub(crate) async fn direct(
        &self,
        start: Instant,
        view: &mut dyn View,
        over: impl Future<Output = End>,
    ) -> End {
        const TICK: Duration = Duration::from_millis(50);
        let mut before = vec![Default::default(); self.lanes.len()];
        let mut over = std::pin::pin!(over);
        let mut forced = None;
        let mut tick = 0u32;
        loop {
            let at = TICK.saturating_mul(tick);
            tokio::select! {
                biased;
                () = sleep_until(start + at) => {}
                end = &mut over => return end,
            }
            if tick > 0 && tick % 20 == 0 {
                let second = tick / 20 - 1;
                self.take(second, &mut before);
                view.second(self, second);
            }
            if self.plan.endless && at.as_millis() % (1000 * u128::from(self.plan.seconds())) == 0 {
                // Between two rounds somebody restarts the upstreams: else the naive gateway, and the memory
                // that its queue takes, would never come back.
                self.lanes.iter().for_each(|lane| lane.upstream.restart());
            }
            match view.tick(self) {
                Some(Command::Force(phase)) => forced = Some(phase),
                Some(Command::Follow) => forced = None,
                Some(Command::Leave) => return End::Left,
                Some(Command::Interrupt) => return End::Interrupted,
                None => {}
            }
            let health = match forced {
                Some(phase) => self.plan.script.health(phase, 0.0, self.plan.permits),
                None => self.plan.health(at),
            };
            self.lanes.iter().for_each(|lane| lane.upstream.set_health(health));
            tick += 1;
        }
    }

    fn take(&self, second: u32, before: &mut [crate::upstream::Counts]) {
        for (lane, before) in self.lanes.iter().zip(before) {
            let now = lane.upstream.counts();
            lane.tally.second(second.into(), |s| {
                s.calls = (now.calls - before.calls) as u32;
                s.done = (now.done - before.done) as u32;
                s.wasted = (now.wasted - before.wasted) as u32;
                s.queued = now.queued;
                s.breaker = (lane.breaker)();
            });
            if let Some(old) = second.checked_sub(600).filter(|_| self.plan.endless) {
                lane.tally.forget(old.into());
            }
            *before = now;
        }
    }
}

/// Who watches.
pub(crate) trait View {
    /// The figures of `second` are in.
    fn second(&mut self, storm: &Storm, second: u32);

    /// Asked twenty times a second for what the watcher wants.
    fn tick(&mut self, _: &Storm) -> Option<Command> {
        None
    }
}

/// What a watcher may want.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    /// Hold this phase of the script.
    Force(usize),
    /// Back to the script.
    Follow,
    /// End the run now.
    Leave,
    /// The same, as Ctrl-C has it.
    Interrupt,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Over,
    /// By a key.
    Left,
    /// By Ctrl-C.
    Interrupted,
}

/// Watches nothing.
pub(crate) struct Blind;

impl View for Blind {
    fn second(&mut self, _: &Storm, _: u32) {}
}
