use buttress_core::{Functions, LiftErrorsLayer, TypedErrorsLayer};
use tower::ServiceBuilder;
use tower_layer::{Layer, Stack};

#[cfg(feature = "breaker")]
use buttress_breaker::AnyBreakerLayer;
#[cfg(feature = "bulkhead")]
use buttress_bulkhead::BulkheadLayer;
#[cfg(feature = "fallback")]
use buttress_fallback::FallbackLayer;
#[cfg(feature = "http")]
use buttress_http::RespondLayer;
#[cfg(feature = "metrics")]
use buttress_metrics::meter::MeterLayer;
#[cfg(feature = "retry")]
use buttress_retry::RetryLayer;
#[cfg(feature = "timeout")]
use buttress_timeout::TimeoutLayer;

/// buttress's layers as methods of [`ServiceBuilder`], outermost first.
///
/// tower's own `retry` and `timeout` would shadow methods of these names, hence `retrying`, `deadline` and
/// `attempt_timeout`.
pub trait ServiceBuilderExt<L>: Sized {
    /// Answers with a response instead of failing: 503, 429 or 504, with `Retry-After`. Outermost, on servers.
    #[cfg(feature = "http")]
    fn respond(self) -> ServiceBuilder<Stack<RespondLayer, L>>;

    /// Counts and times the calls of what is inside: outermost all of them, around one stage those of that stage.
    #[cfg(feature = "metrics")]
    fn meter<C>(self, layer: MeterLayer<C>) -> ServiceBuilder<Stack<MeterLayer<C>, L>>;

    /// Answers when everything inside failed.
    #[cfg(feature = "fallback")]
    fn fallback<A, C>(self, layer: FallbackLayer<A, C>) -> ServiceBuilder<Stack<FallbackLayer<A, C>, L>>;

    /// Bounds the whole call, retries and waits included. Outside of the retry.
    #[cfg(feature = "timeout")]
    fn deadline<T, A>(self, layer: TimeoutLayer<T, A>) -> ServiceBuilder<Stack<TimeoutLayer<T, A>, L>>;

    /// Makes failed calls again.
    #[cfg(feature = "retry")]
    fn retrying<C, R>(self, layer: RetryLayer<C, R>) -> ServiceBuilder<Stack<RetryLayer<C, R>, L>>;

    /// Refuses calls to a service that fails. Inside of the retry it judges attempts, outside whole calls.
    #[cfg(feature = "breaker")]
    /// Takes the layer of one circuit, or of one for each key.
    fn breaker<B: AnyBreakerLayer>(self, layer: B) -> ServiceBuilder<Stack<B, L>>;

    /// Bounds how many calls are made at once, and how many wait.
    #[cfg(feature = "bulkhead")]
    fn bulkhead<C>(self, layer: BulkheadLayer<C>) -> ServiceBuilder<Stack<BulkheadLayer<C>, L>>;

    /// Bounds one attempt. Inside of the retry.
    #[cfg(feature = "timeout")]
    fn attempt_timeout<T, A>(self, layer: TimeoutLayer<T, A>)
    -> ServiceBuilder<Stack<TimeoutLayer<T, A>, L>>;

    /// Turns the service's errors into `BoxError`, which can carry rejections. Innermost, once.
    fn lift_errors(self) -> ServiceBuilder<Stack<LiftErrorsLayer, L>>;

    /// Turns the service's error type `E` into `Error<E>`, instead of `lift_errors`. Innermost, once.
    fn typed_errors(self) -> ServiceBuilder<Stack<TypedErrorsLayer, L>>;

    /// Ends the list: the stack takes plain functions as its requests, see [`Run`](crate::Run).
    fn functions(self) -> L::Service
    where
        L: Layer<Functions>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    #[cfg(feature = "http")]
    fn respond(self) -> ServiceBuilder<Stack<RespondLayer, L>> {
        self.layer(RespondLayer::new())
    }

    #[cfg(feature = "metrics")]
    fn meter<C>(self, layer: MeterLayer<C>) -> ServiceBuilder<Stack<MeterLayer<C>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "fallback")]
    fn fallback<A, C>(self, layer: FallbackLayer<A, C>) -> ServiceBuilder<Stack<FallbackLayer<A, C>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "timeout")]
    fn deadline<T, A>(self, layer: TimeoutLayer<T, A>) -> ServiceBuilder<Stack<TimeoutLayer<T, A>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "retry")]
    fn retrying<C, R>(self, layer: RetryLayer<C, R>) -> ServiceBuilder<Stack<RetryLayer<C, R>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "breaker")]
    fn breaker<B: AnyBreakerLayer>(self, layer: B) -> ServiceBuilder<Stack<B, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "bulkhead")]
    fn bulkhead<C>(self, layer: BulkheadLayer<C>) -> ServiceBuilder<Stack<BulkheadLayer<C>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "timeout")]
    fn attempt_timeout<T, A>(
        self,
        layer: TimeoutLayer<T, A>,
    ) -> ServiceBuilder<Stack<TimeoutLayer<T, A>, L>> {
        self.layer(layer)
    }

    fn lift_errors(self) -> ServiceBuilder<Stack<LiftErrorsLayer, L>> {
        self.layer(LiftErrorsLayer::new())
    }

    fn typed_errors(self) -> ServiceBuilder<Stack<TypedErrorsLayer, L>> {
        self.layer(TypedErrorsLayer::new())
    }

    fn functions(self) -> L::Service
    where
        L: Layer<Functions>,
    {
        self.service(Functions)
    }
}
