//! E2: retries in every layer of a call chain multiply, unless each layer has a budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::{Backoff, BoxError, Budget, Chance, Retry, ServiceBuilderExt};
use tokio::{runtime::Builder, task::LocalSet, task::spawn_local, time::sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

/// A thousand a second for half a minute.
const CALLS: u64 = 30_000;
const ATTEMPTS: u32 = 3;

/// Attempts at the bottom for each call at the top of some layers, each of which retries; at the bottom this share
/// fails. Budgets have no floor: a floor is not in proportion to anything.
pub(crate) fn attempts_per_call(layers: u32, ratio: Option<f64>, failing: f64, seed: u64) -> f64 {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets needs nothing that could be missing");
    LocalSet::new().block_on(&runtime, async {
        let (attempts, chance) = (Arc::new(AtomicU64::new(0)), Arc::new(Chance::seeded(seed)));
        let counted = attempts.clone();
        let bottom = service_fn(move |()| {
            counted.fetch_add(1, Relaxed);
            let fails = chance.unit() < failing;
            async move { if fails { Err(BoxError::from("down")) } else { Ok(()) } }
        });
        let mut stack = BoxCloneSyncService::new(bottom);
        for layer in 0..layers {
            let retry = Retry::builder(format!("layer-{layer}"))
                .max_attempts(ATTEMPTS)
                .backoff(Backoff::constant(Duration::from_millis(10)));
            let retry = match ratio {
                Some(ratio) => retry.budget(Budget::new(ratio, 0).expect("ratios are small")),
                None => retry,
            };
            let retry = retry.build().expect("the settings work");
            stack = BoxCloneSyncService::new(ServiceBuilder::new().retrying(retry.layer()).service(stack));
        }
        for _ in 0..CALLS {
            spawn_local(stack.clone().oneshot(()));
            sleep(Duration::from_millis(1)).await;
        }
        // The longest chain of waits is 2 · 3⁴ · 10 ms.
        sleep(Duration::from_secs(10)).await;
        attempts.load(Relaxed) as f64 / CALLS as f64
    })
}
