//! Which layers of the protected gateway are in place: all of them, but for the ablation and for the keys.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use buttress::prelude::*;
use buttress::{BoxError, HttpClassify, HttpReplay};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::protected::{Protected, worth_repeating};
use crate::wire::{Answer, Call};

/// A layer that can be taken out, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Deadline,
    Retry,
    Budget,
    Breaker,
    Bulkhead,
    AttemptTimeout,
}

impl Layer {
    pub(crate) const ALL: [Self; 6] =
        [Self::Deadline, Self::Retry, Self::Budget, Self::Breaker, Self::Bulkhead, Self::AttemptTimeout];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Retry => "retry",
            Self::Budget => "budget",
            Self::Breaker => "breaker",
            Self::Bulkhead => "bulkhead",
            Self::AttemptTimeout => "time-out",
        }
    }

    /// The key that toggles it.
    pub(crate) fn key(self) -> char {
        match self {
            Self::Deadline => 'd',
            Self::Retry => 'r',
            Self::Budget => 'g',
            Self::Breaker => 'b',
            Self::Bulkhead => 'h',
            Self::AttemptTimeout => 't',
        }
    }
}

/// A set of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    bits: u8,
}

impl Layers {
    pub(crate) const ALL: Self = Self { bits: (1 << Layer::ALL.len()) - 1 };

    pub(crate) fn has(self, layer: Layer) -> bool {
        self.bits & (1 << layer as u8) != 0
    }

    pub(crate) fn toggled(self, layer: Layer) -> Self {
        Self { bits: self.bits ^ (1 << layer as u8) }
    }
}

/// A stack, whatever its layers.
pub(crate) type Stack = BoxCloneSyncService<Call, Answer, Infallible>;

/// The protected gateway with some of its layers; with all of them it is [`Protected::stack`] itself.
pub(crate) fn stack<S>(protected: &Protected, layers: Layers, upstream: S) -> Stack
where
    S: Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
{
    if layers == Layers::ALL {
        return BoxCloneSyncService::new(protected.stack(upstream));
    }
    let on = |layer| layers.has(layer);
    let mut retry = protected.retry.clone();
    if !on(Layer::Budget) {
        let mut config = retry.config();
        config.budget = None;
        let unbudgeted = Retry::builder("unbudgeted").config(config).seed(0).build();
        retry = unbudgeted.expect("the same settings with a budget were accepted");
    }
    let retry = retry.layer().classify_with(worth_repeating).replay(HttpReplay);
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .respond()
            .option_layer(on(Layer::Deadline).then(|| protected.deadline.layer()))
            .option_layer(on(Layer::Retry).then_some(retry))
            .option_layer(on(Layer::Breaker).then(|| protected.breaker.layer().classify(HttpClassify)))
            .option_layer(on(Layer::Bulkhead).then(|| protected.bulkhead.layer()))
            .option_layer(on(Layer::AttemptTimeout).then(|| protected.attempt.layer()))
            .service(upstream),
    )
}

/// The protected gateway's stack, exchanged while it serves. Its policies stay: a breaker that is put back
/// knows what it knew.
pub(crate) struct Switch {
    make: Box<dyn Fn(Layers) -> Stack + Send + Sync>,
    now: RwLock<Stack>,
}

impl Switch {
    pub(crate) fn new<S>(protected: Protected, upstream: S) -> Self
    where
        S: Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
    {
        let make = move |layers| stack(&protected, layers, upstream.clone());
        Self { now: RwLock::new(make(Layers::ALL)), make: Box::new(make) }
    }

    /// Calls that are under way stay in the stack they are in.
    pub(crate) fn set(&self, layers: Layers) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = (self.make)(layers);
    }

    pub(crate) fn service(
        self: &Arc<Self>,
    ) -> impl Service<Call, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
    {
        let switch = self.clone();
        service_fn(move |call| {
            let stack = switch.now.read().unwrap_or_else(PoisonError::into_inner).clone();
            stack.oneshot(call)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toggling_changes_one_layer_and_toggling_back_restores_it() {
        for layer in Layer::ALL {
            let without = Layers::ALL.toggled(layer);
            assert!(!without.has(layer));
            assert!(Layer::ALL.into_iter().filter(|other| *other != layer).all(|other| without.has(other)));
            assert_eq!(without.toggled(layer), Layers::ALL);
        }
    }
}
