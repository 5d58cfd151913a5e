//! Open-loop load in paused time: calls come as a Poisson process, whatever becomes of those before them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Once},
    time::Duration,
};

use buttress::{BoxError, Chance, Event, Kind, Name, Recorder, observe};
use reqwest::{Method, Request, Response, Url};
use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::{
    figures::{Counts, Figures, SLOT, slot_of},
    server::Server,
};

/// One client: policies of its own before the server that all share.
pub(crate) type Client = BoxCloneSyncService<Request, Response, BoxError>;

/// What befalls server and clients. Times are in seconds of the run.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) clients: usize,
    /// Calls a second, of all clients together.
    pub(crate) load: f64,
    pub(crate) trigger: Trigger,
    /// When the trigger begins.
    pub(crate) begin: u64,
    /// When it is over.
    pub(crate) end: u64,
    /// When the run is.
    pub(crate) seconds: u64,
    /// Whether the server begins no work for callers who left.
    pub(crate) notices: bool,
}

/// What sets a storm off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trigger {
    /// A fifth of the workers is left.
    Fifth,
    /// Twice the calls come.
    Twice,
    /// No worker is left; afterwards they come back within 30 s, from a tenth to all.
    Outage,
}

impl Weather {
    /// The share of the workers that is there.
    pub(crate) fn share(&self, at: f64) -> f64 {
        let (begin, end) = (self.begin as f64, self.end as f64);
        let during = (begin..end).contains(&at);
        match self.trigger {
            Trigger::Fifth if during => 0.2,
            Trigger::Outage if during => 0.0,
            Trigger::Outage if at >= end => (0.1 + 0.9 * (at - end) / 30.0).min(1.0),
            _ => 1.0,
        }
    }

    fn calls_per_second(&self, at: f64) -> f64 {
        let during = (self.begin as f64..self.end as f64).contains(&at);
        if self.trigger == Trigger::Twice && during { 2.0 * self.load } else { self.load }
    }
}

/// A time of the run.
pub(crate) fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).expect("runs are short, and time is positive")
}

thread_local! {
    /// How often closed circuits opened in the storm of this thread. A probe that fails is no further opening.
    static OPENINGS: Cell<u32> = const { Cell::new(0) };
}

/// Counts what breakers tell, for whichever storm runs on the thread.
fn count_openings() {
    struct Openings;

    impl Recorder for Openings {
        fn record(&self, event: &Event<'_>) {
            if let Event::Transition(transition) = event {
                if transition.from == "closed" && transition.to == "open" {
                    OPENINGS.set(OPENINGS.get() + 1);
                }
            }
        }
    }

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        observe::install(|kind: Kind, _: &Name| {
            (kind.name == "breaker").then(|| Arc::new(Openings) as Arc<dyn Recorder>)
        });
    });
}

/// Runs one storm.
pub(crate) fn storm(weather: &Weather, seed: u64, client: impl Fn(&Server) -> Client) -> Figures {
    count_openings();
    OPENINGS.set(0);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets needs nothing that could be missing");
    let counts = LocalSet::new().block_on(&runtime, blow(weather.clone(), seed, client));
    Figures::new(weather.clone(), counts, OPENINGS.get())
}

async fn blow(weather: Weather, seed: u64, client: impl Fn(&Server) -> Client) -> Counts {
    let server = Server::new(seed, weather.notices);
    let clients: Vec<Client> = (0..weather.clients).map(|_| client(&server)).collect();
    let start = Instant::now();

    let (changing, changes) = (server.clone(), weather.clone());
    spawn_local(async move {
        for slot in 0.. {
            let at = SLOT * slot;
            sleep_until(start + at).await;
            changing.set_share(changes.share(at.as_secs_f64()));
        }
    });

    // Not the server's seed: its times would be those between the calls.
    let chance = Chance::seeded(!seed);
    let url = Url::parse("http://orders.test/").expect("it is one");
    let slots = slot_of(time(weather.seconds as f64));
    let asked = vec![0; slots];
    let counts = Rc::new(RefCell::new(Counts { kept: asked.clone(), asked, sent: Vec::new() }));
    let mut at = 0.0;
    loop {
        at -= (1.0 - chance.unit()).ln() / weather.calls_per_second(at);
        if at >= weather.seconds as f64 {
            break;
        }
        let due = time(at);
        sleep_until(start + due).await;
        let client = clients[(chance.unit() * clients.len() as f64) as usize].clone();
        let request = Request::new(Method::GET, url.clone());
        counts.borrow_mut().asked[slot_of(due)] += 1;
        let counts = counts.clone();
        spawn_local(async move {
            if client.oneshot(request).await.is_ok() {
                counts.borrow_mut().kept[slot_of(due)] += 1;
            }
        });
    }
    // No client here has more patience than this.
    sleep(time(60.0)).await;
    let mut counts = counts.take();
    counts.sent = server.arrived();
    counts
}
