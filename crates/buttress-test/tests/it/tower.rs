//! tower's own middleware before the contract: what keeps it, and what tower itself does not keep.

use std::{future::Ready, future::ready, time::Duration};

use buttress_test::{
    BoxError, Probe,
    contract::{self, Contract, Rule, Scenario},
};
use tower::{
    ServiceExt,
    balance::p2c::Balance,
    buffer::BufferLayer,
    discover::ServiceList,
    filter::{AsyncFilterLayer, FilterLayer},
    hedge::{self, Hedge},
    layer::{layer_fn, util::Identity},
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer, RateLimitLayer},
    load::{CompleteOnResponse, PendingRequestsDiscover},
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer},
    service_fn,
    spawn_ready::SpawnReadyLayer,
    timeout::TimeoutLayer,
    util::{
        AndThenLayer, BoxCloneService, BoxService, MapErrLayer, MapResponseLayer, ThenLayer, option_layer,
    },
};

#[derive(Clone)]
struct Attempts(usize);

impl Policy<u32, u32, BoxError> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<u32, BoxError>) -> Option<Ready<()>> {
        self.0 = self.0.checked_sub(1)?;
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

#[test]
fn nothing_at_all_keeps_the_contract() {
    let report = Contract::new(Identity::new).through().run();
    report.assert_clean();
    assert_eq!(report.scenarios().len(), 21);
}

#[test]
fn retry_keeps_the_contract() {
    Contract::new(|| RetryLayer::new(Attempts(2))).through().run().assert_clean();
}

#[test]
fn load_shed_keeps_the_contract() {
    contract::check(LoadShedLayer::new).assert_clean();
}

#[test]
fn buffer_keeps_the_contract() {
    contract::check(|| BufferLayer::new(4)).assert_clean();
}

#[test]
fn timeout_keeps_the_call_it_gave_up() {
    let report = Contract::new(|| TimeoutLayer::new(Duration::from_secs(1))).through().run();
    assert_eq!(report.rules().into_iter().collect::<Vec<_>>(), [Rule::FinishedHoldsNothing], "{report}");
}

#[test]
fn concurrency_limit_is_held_by_finished_futures() {
    for limit in [1, 3] {
        let report = Contract::new(move || ConcurrencyLimitLayer::new(limit)).through().run();
        assert_eq!(report.rules().into_iter().collect::<Vec<_>>(), [Rule::FinishedHoldsNothing], "{report}");
    }
    let report = contract::check(|| GlobalConcurrencyLimitLayer::new(2));
    assert_eq!(report.rules().into_iter().collect::<Vec<_>>(), [Rule::FinishedHoldsNothing], "{report}");
}

#[test]
fn what_shapes_requests_and_answers_keeps_the_contract() {
    type Outcome = Result<u32, BoxError>;
    contract::check(|| MapResponseLayer::new(|n: u32| n + 1)).assert_clean();
    contract::check(|| MapErrLayer::new(|error: BoxError| error)).assert_clean();
    contract::check(|| ThenLayer::new(|outcome: Outcome| async { outcome })).assert_clean();
    contract::check(|| AndThenLayer::new(|n: u32| async move { Outcome::Ok(n) })).assert_clean();
    contract::check(|| FilterLayer::new(Outcome::Ok)).assert_clean();
    contract::check(|| AsyncFilterLayer::new(|n: u32| async move { Outcome::Ok(n) })).assert_clean();
    contract::check(|| option_layer(Some(LoadShedLayer::new()))).assert_clean();
    contract::check(BoxCloneService::layer).assert_clean();
    Contract::new(BoxService::layer).run_without_clones().assert_clean();
}

#[derive(Clone)]
struct Always;

impl hedge::Policy<u32> for Always {
    fn can_retry(&self, _: &u32) -> bool {
        true
    }

    fn clone_request(&self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

#[test]
fn what_waits_and_hedges_keeps_the_contract() {
    Contract::new(SpawnReadyLayer::new).run_without_clones().assert_clean();
    for rate in [1, 1_000_000] {
        let layer = move || RateLimitLayer::new(rate, Duration::from_secs(1));
        Contract::new(layer).run_without_clones().assert_clean();
    }
    let hedged = || layer_fn(|inner: Probe| Hedge::new(inner, Always, 10, 0.9, Duration::from_secs(60)));
    Contract::new(hedged).slots(2).run_without_clones().assert_clean();
}

// It throws the endpoint away that failed to be ready, and waits for another.
#[test]
fn balancer_of_one_waits_for_another_one_after_a_readiness_error() {
    let balanced = || {
        layer_fn(|inner: Probe| {
            let list = ServiceList::new::<u32>(vec![inner]);
            Balance::new(PendingRequestsDiscover::new(list, CompleteOnResponse::default()))
        })
    };
    let report = Contract::new(balanced).run_without_clones();
    let found: Vec<_> = report.violations().iter().map(|one| (one.rule, one.scenario)).collect();
    assert_eq!(found, [(Rule::NoHang, Scenario::ReadinessFails)], "{report}");
}

// A layer that sleeps first was taken for one that hangs: nobody answered the call it had yet to make.
#[test]
fn layer_that_takes_its_time_before_it_calls_keeps_the_contract() {
    for wait in [1, 100, 60_000] {
        let late = move |inner: Probe| {
            service_fn(move |n: u32| {
                let inner = inner.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    inner.oneshot(n).await
                }
            })
        };
        Contract::new(move || layer_fn(late)).owning().drops_finished().run().assert_clean();
    }
}
