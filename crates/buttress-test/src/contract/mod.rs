//! Judges a middleware by the contract of `Service`, whoever wrote it.
//!
//! [`check`] puts the layer around a [`Probe`] whose readiness is a reservation of scarce slots,
//! as in tower's `ConcurrencyLimit` and `Buffer`, and goes through the ways in which a call can end, a future be
//! dropped, a service be cloned and a caller be woken. Each [`Scenario`] has a thread, a runtime and paused time
//! of its own, so it may be called from any test; the [`Report`] says which [`Rule`] was broken, when, and how.
//!
//! ```
//! use std::time::Duration;
//! use buttress_test::contract::{self, Contract, Rule};
//! use tower::{limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};
//!
//! // tower's timeout keeps the call it gave up for as long as its own future lives, and says so here:
//! let report = contract::check(|| TimeoutLayer::new(Duration::from_secs(1)));
//! assert_eq!(report.rules().into_iter().collect::<Vec<_>>(), [Rule::FinishedHoldsNothing]);
//!
//! // A rule that one can live without:
//! Contract::new(|| ConcurrencyLimitLayer::new(4)).allow(Rule::FinishedHoldsNothing).run().assert_clean();
//! ```
//!
//! tower 0.5 itself keeps all of it with `Buffer`, `Retry` and `LoadShed`. `Timeout` and `ConcurrencyLimit` break
//! [`Rule::FinishedHoldsNothing`]: the one keeps the call it gave up, the other its permit, until the future is
//! dropped. What `ConcurrencyLimit` is also known for, that a service which is ready and never called keeps its
//! permit, is within the contract: callers must drop such a service. [`Contract::owning`] layers must do better.
//! A p2c `Balance` of one endpoint waits for another one once that has failed to be ready, which reads as
//! [`Rule::NoHang`]; its other layers keep everything.
//!
//! What is asked for is a function that makes the layer, because most layers keep state: each scenario begins
//! with a fresh one. Set the layer up so that it can lose something: a limit below [`ROUNDS`] that leaks once a
//! call runs dry within a scenario. An hour of paused time passes before the call that must be answered again,
//! so a circuit breaker has time to close.

mod drive;
mod report;
mod scenarios;

use std::{any::type_name, fmt, sync::Arc, sync::mpsc, thread, time::Duration};

use buttress_core::BoxError;
use tower_layer::Layer;
use tower_service::Service;

pub use self::report::{Report, Rule, Scenario, Violation};
use self::scenarios::Bench;
use crate::Probe;

/// How often each scenario drops, fails or panics before it asks for a healthy call again.
pub const ROUNDS: usize = 32;

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every scenario over the layers that `make` makes, for requests and responses of type `u32`. See
/// [`Contract`] for other types and for options.
pub fn check<L>(make: impl Fn() -> L + Send + Sync + 'static) -> Report
where
    L: Layer<Probe> + 'static,
    L::Service: Service<u32> + Clone,
{
    Contract::new(make).run()
}

type CloneOf<S> = Option<fn(&S) -> S>;
type Make<T> = Arc<dyn Fn() -> T + Send + Sync>;
type Refusing<L> = Make<(L, Box<dyn FnOnce()>)>;

/// A check of one middleware, with options; see the [module](self).
pub struct Contract<L, Req = u32, Res = u32, E = BoxError> {
    layer: Make<L>,
    refusing: Option<Refusing<L>>,
    kit: Kit<Req, Res, E>,
    slots: usize,
    placement: Option<Placement>,
    drops_finished: bool,
    allowed: Vec<Rule>,
    patience: Duration,
}

/// Makes what goes through the layer.
struct Kit<Req, Res, E> {
    request: Make<Req>,
    response: Make<Res>,
    error: Make<E>,
}

impl<Req, Res, E> Clone for Kit<Req, Res, E> {
    fn clone(&self) -> Self {
        let (request, response, error) = (self.request.clone(), self.response.clone(), self.error.clone());
        Self { request, response, error }
    }
}

/// What a layer does with the inner service's readiness.
#[derive(Clone, Copy)]
enum Placement {
    Through,
    Owning,
}

impl<L> Contract<L> {
    /// Checks the layers that `make` makes, with requests and responses of type `u32` and boxed errors.
    pub fn new(make: impl Fn() -> L + Send + Sync + 'static) -> Self {
        Self::with(make, || 1, || 2, || "the inner service fails".into())
    }
}

impl<L, Req, Res, E> Contract<L, Req, Res, E> {
    /// Checks the layers that `make` makes, with the requests, responses and errors that the others make.
    pub fn with(
        make: impl Fn() -> L + Send + Sync + 'static,
        request: impl Fn() -> Req + Send + Sync + 'static,
        response: impl Fn() -> Res + Send + Sync + 'static,
        error: impl Fn() -> E + Send + Sync + 'static,
    ) -> Self {
        let kit = Kit { request: Arc::new(request), response: Arc::new(response), error: Arc::new(error) };
        let (layer, allowed) = (Arc::new(make), Vec::new());
        let (refusing, placement, drops_finished) = (None, None, false);
        Self { layer, refusing, kit, slots: 1, placement, drops_finished, allowed, patience: PATIENCE }
    }

    /// Also checks refusals. `make` makes a layer, and a switch: after it was pressed, calls are refused, also on
    /// instances that were ready before.
    pub fn refusing<S>(mut self, make: impl Fn() -> (L, S) + Send + Sync + 'static) -> Self
    where
        S: FnOnce() + 'static,
    {
        self.refusing = Some(Arc::new(move || {
            let (layer, switch) = make();
            (layer, Box::new(switch))
        }));
        self
    }

    /// How many slots the inner service has. Default 1; a layer that makes several calls at once needs more.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// Also checks that the layer passes readiness on: pending as long as the inner service is, and ready with
    /// the inner service's reservation in hand.
    pub fn through(mut self) -> Self {
        self.placement = Some(Placement::Through);
        self
    }

    /// Also checks that the layer is ready at once, whatever the inner service is, and reserves nothing before
    /// the call.
    pub fn owning(mut self) -> Self {
        self.placement = Some(Placement::Owning);
        self
    }

    /// Also checks that the inner future is dropped as soon as it has resolved, and not only with the layer's own:
    /// what tower's `ConcurrencyLimit` inside holds is given back then.
    pub fn drops_finished(mut self) -> Self {
        self.drops_finished = true;
        self
    }

    /// Lets a rule be broken: such violations go to [`Report::allowed`].
    pub fn allow(mut self, rule: Rule) -> Self {
        self.allowed.push(rule);
        self
    }

    /// The time on the wall after which a scenario counts as hung, because something does not return from a poll.
    /// Its thread is left behind. Default 20 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs every scenario.
    pub fn run(self) -> Report
    where
        L: Layer<Probe<Req, Res, E>> + 'static,
        L::Service: Service<Req> + Clone,
        Req: 'static,
        Res: 'static,
        E: 'static,
    {
        self.judge(Some(L::Service::clone))
    }

    /// Runs every scenario that does not clone the service.
    pub fn run_without_clones(self) -> Report
    where
        L: Layer<Probe<Req, Res, E>> + 'static,
        L::Service: Service<Req>,
        Req: 'static,
        Res: 'static,
        E: 'static,
    {
        self.judge(None)
    }

    fn judge(self, clone: CloneOf<L::Service>) -> Report
    where
        L: Layer<Probe<Req, Res, E>> + 'static,
        L::Service: Service<Req>,
        Req: 'static,
        Res: 'static,
        E: 'static,
    {
        let skip = |scenario: &Scenario| match scenario {
            Scenario::CloneOfReady => clone.is_none(),
            Scenario::Placement => self.placement.is_none(),
            Scenario::Refused => self.refusing.is_none(),
            _ => false,
        };
        let scenarios: Vec<_> = Scenario::ALL.into_iter().filter(|scenario| !skip(scenario)).collect();
        let found: Vec<_> =
            scenarios.iter().flat_map(|scenario| self.play_on_a_thread(*scenario, clone)).collect();
        let (allowed, violations) = found.into_iter().partition(|one| self.allowed.contains(&one.rule));
        Report { service: report::short_name(type_name::<L::Service>()), scenarios, violations, allowed }
    }

    fn play_on_a_thread(&self, scenario: Scenario, clone: CloneOf<L::Service>) -> Vec<Violation>
    where
        L: Layer<Probe<Req, Res, E>> + 'static,
        L::Service: Service<Req>,
        Req: 'static,
        Res: 'static,
        E: 'static,
    {
        let (layer, refusing, kit) = (self.layer.clone(), self.refusing.clone(), self.kit.clone());
        let (slots, placement) = (self.slots, self.placement);
        let until_drop = self.drops_finished && scenario == Scenario::FinishedKept;
        let (tell, told) = mpsc::channel();
        // A thread and not this runtime: the caller may have none, or one whose time is not paused; and what
        // never returns from a poll can be left behind.
        let playing = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.expect("a runtime without I/O needs nothing that can be missing");
            let found = runtime.block_on(async {
                let (layer, switch) = match (scenario, refusing) {
                    (Scenario::Refused, Some(refusing)) => {
                        let (layer, switch) = refusing();
                        (layer, Some(switch))
                    }
                    _ => (layer(), None),
                };
                let make = move |probe| layer.layer(probe);
                Bench::new(scenario, make, clone, kit, slots, until_drop).play(placement, switch).await
            });
            let _ = tell.send(found);
        });
        let gone = |rule, detail: &str| vec![Violation { rule, scenario, detail: detail.to_owned() }];
        match told.recv_timeout(self.patience) {
            Ok(found) => found,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                gone(Rule::NoHang, "a poll, a call or a drop does not return")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => match playing.join() {
                Err(panic) => gone(Rule::NoPanic, &drive::text(&*panic)),
                Ok(()) => gone(Rule::NoPanic, "the scenario ended early"),
            },
        }
    }
}

impl<L, Req, Res, E> fmt::Debug for Contract<L, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("layer", &type_name::<L>())
            .field("slots", &self.slots)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}
