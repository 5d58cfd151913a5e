//! Strategies that read the request. Values, not traits on requests: so a host crate can serve types it does
//! not own.

use std::{borrow::Borrow, fmt, hash::Hash};

use crate::Applied;

/// Makes the request again for a further attempt.
///
/// `save` is asked before an attempt after which another one may follow, never before the last.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot send a request `{Req}` again",
    note = "`.replay(Never)` makes one attempt, whatever the request is",
    note = "or `.replay_with(|req| ..)` makes an equal request, or says `None` of one that cannot be sent twice",
    note = "or make the request `Clone`: a function that changes what it captures takes that from a `Lend`"
)]
pub trait Replay<Req> {
    /// An equal request to send later, or `None` where this one cannot be sent twice.
    fn save(&self, req: &Req) -> Option<Req>;

    /// Whether a saved request can be sent, now that the attempt before it has failed, and has or has not taken
    /// effect. For requests that must not happen twice; and for those that share something with the attempt under
    /// way, such as a body that is being read: may make sure that it shares no more.
    fn can_resend(&self, saved: &Req, applied: Applied) -> bool {
        let _ = (saved, applied);
        true
    }

    /// Whether `save` could ever answer. Where not, nothing is kept for later, the service included.
    fn ever(&self) -> bool {
        true
    }
}

/// Replays by `Clone`. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClone;

// So that a request that is not `Clone` is told of the remedies above, and not of `Clone` alone.
#[diagnostic::do_not_recommend]
impl<Req: Clone> Replay<Req> for ByClone {
    fn save(&self, req: &Req) -> Option<Req> {
        Some(req.clone())
    }
}

/// Replays nothing: one attempt, whatever the request type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Never;

impl<Req> Replay<Req> for Never {
    fn save(&self, _req: &Req) -> Option<Req> {
        None
    }

    fn ever(&self) -> bool {
        false
    }
}

/// A closure as a strategy; made by the setters that take one.
#[derive(Clone, Copy)]
pub struct ByFn<F>(pub F);

impl<F> fmt::Debug for ByFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByFn(..)")
    }
}

impl<Req, F> Replay<Req> for ByFn<F>
where
    F: Fn(&Req) -> Option<Req>,
{
    fn save(&self, req: &Req) -> Option<Req> {
        self.0(req)
    }
}

/// Finds the key of a request, borrowed, so that looking up a known key allocates nothing.
pub trait KeyOf<Req> {
    /// What keys are compared as, such as `str`.
    type Key: Hash + Eq + ToOwned<Owned: Hash + Eq + Clone + Send + Sync + 'static> + ?Sized;

    /// Calls `then` with the key.
    fn with_key<T>(&self, req: &Req, then: impl FnOnce(&Self::Key) -> T) -> T;

    /// The key as events, log lines and refusals show it. By default it is shown nowhere: a key may be a secret, or name
    /// a person.
    fn show(&self, key: &Self::Key) -> Option<String> {
        let _ = key;
        None
    }
}

impl<Req, K, F> KeyOf<Req> for ByFn<F>
where
    F: Fn(&Req) -> K,
    K: Borrow<K> + Hash + Eq + Clone + Send + Sync + 'static,
{
    type Key = K;

    fn with_key<T>(&self, req: &Req, then: impl FnOnce(&K) -> T) -> T {
        then(&self.0(req))
    }
}
