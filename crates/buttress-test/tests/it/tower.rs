//! tower's own middleware before the contract: what keeps it, and what tower itself does not keep.

use std::{future::Ready, future::ready, time::Duration};

use buttress_test::{
    BoxError,
    contract::{self, Contract, Rule},
};
use tower::{
    buffer::BufferLayer,
    layer::util::Identity,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
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
