use buttress_core::ReadyInCallFuture;
use tower_service::Service;

/// Runs a plain function through a stack that ends in [`Functions`](crate::Functions).
///
/// One stack runs functions of all results and errors. The list's last word says what comes out: `.typed_errors()` makes
/// [`Error<E>`](crate::Error) of the function's `E`, `.lift_errors()` makes [`BoxError`](crate::BoxError), and with
/// neither an error type of your own stays, if it has room for refusals ([`FromRejection`](crate::FromRejection)). For
/// one policy alone there is `.call` of its handle.
///
/// ```
/// # #[cfg(feature = "default")]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), buttress::BoxError> {
/// use std::{cell::Cell, io, time::Duration};
///
/// use buttress::{Retry, Run, ServiceBuilderExt, Timeout};
/// use tower::ServiceBuilder;
///
/// let retry = Retry::builder("orders").max_attempts(3).build()?;
/// let attempt = Timeout::builder("orders").limit(Duration::from_secs(1)).build()?;
/// let orders = ServiceBuilder::new()
///     .retrying(retry.layer())
///     .attempt_timeout(attempt.layer())
///     .typed_errors() // io::Error becomes buttress::Error<io::Error>
///     .functions();
///
/// let tries = Cell::new(0);
/// let order = orders.run(async || {
///     tries.set(tries.get() + 1);
///     if tries.get() < 3 { Err(io::Error::other("not yet")) } else { Ok(7) }
/// });
/// assert_eq!(order.await?, 7);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "default"))]
/// # fn main() {}
/// ```
///
/// A struct that keeps a stack names its type, because no bound says "takes any function":
///
/// ```
/// # #[cfg(feature = "default")]
/// # mod orders {
/// use buttress::{Functions, TypedErrors, retry::RetryService, timeout::TimeoutService};
///
/// struct Orders {
///     stack: TimeoutService<RetryService<TypedErrors<Functions>>>,
/// }
/// # }
/// ```
pub trait Run: Clone {
    /// Readies a clone of the stack and calls it with `function`. A retry clones the function: borrows and `Arc`s
    /// cost nothing. What an attempt needs mutably is lent, see [`Lend`](crate::Lend).
    ///
    /// # Cancellation
    /// Dropping the future drops the call, as with any service.
    fn run<F>(&self, function: F) -> ReadyInCallFuture<Self, F>
    where
        Self: Service<F>,
    {
        ReadyInCallFuture::new(self.clone(), function)
    }
}

impl<S: Clone> Run for S {}
