use std::{error::Error as StdError, fmt};

use crate::{Rejection, Verdict, rejection};

/// The boxed error of the Tower ecosystem.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error type that can carry a rejection, so that every layer of a stack has the same error type.
///
/// Implemented for [`BoxError`] and [`Error<E>`]; implement it for an enum of your own, whose `source()` must
/// then return the rejection. Error types of other crates get there through
/// [`lift_errors`](crate::LiftErrorsLayer) or [`typed_errors`](crate::TypedErrorsLayer).
///
/// ```
/// use std::{error::Error, fmt, io};
/// use buttress_core::{Classify, Code, FromRejection, Name, Rejection, Standard, Verdict, rejection};
///
/// #[derive(Debug)]
/// enum StoreError {
///     Refused(Rejection),
///     Io(io::Error),
/// }
///
/// impl fmt::Display for StoreError {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("the store failed")
///     }
/// }
///
/// impl Error for StoreError {
///     fn source(&self) -> Option<&(dyn Error + 'static)> {
///         match self {
///             Self::Refused(why) => Some(why),
///             Self::Io(why) => Some(why),
///         }
///     }
/// }
///
/// impl FromRejection for StoreError {
///     fn from_rejection(rejection: Rejection) -> Self {
///         Self::Refused(rejection)
///     }
///
///     fn rejection(&self) -> Option<&Rejection> {
///         match self {
///             Self::Refused(why) => Some(why),
///             Self::Io(_) => None,
///         }
///     }
///
///     fn as_error(&self) -> Option<&(dyn Error + 'static)> {
///         Some(self)
///     }
/// }
///
/// const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
/// let refused = StoreError::from_rejection(Rejection::new(OPEN, &Name::new("store")));
/// assert_eq!(rejection(&refused).unwrap().code(), "CIRCUIT_OPEN");
/// let missing = StoreError::Io(io::ErrorKind::NotFound.into());
/// assert_eq!(Standard.classify(Err::<&(), _>(&missing)), Verdict::permanent()); // seen through `as_error`
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a buttress rejection",
    note = "put `.lift_errors()` innermost, directly around the service, to turn `{Self}` into `BoxError`",
    note = "or `.typed_errors()` to turn it into `buttress::Error<{Self}>`",
    note = "or implement `FromRejection` for your own error enum",
    note = "around a plain function there is no service: give `.call` one with `.map_err(BoxError::from)`, or run it through a stack that ends in `.typed_errors().functions()`"
)]
pub trait FromRejection {
    /// Makes an error that is nothing but the rejection.
    fn from_rejection(rejection: Rejection) -> Self;

    /// The rejection this error carries, if it is one.
    fn rejection(&self) -> Option<&Rejection>;

    /// The same error, of a call of which something had been sent before this: a refusal must not say then that
    /// nothing was. Where a rejection is not all there is to your type's refusals, keep the rest here; unless you do,
    /// the refusal is made anew by [`from_rejection`](Self::from_rejection).
    fn sent_before(self) -> Self
    where
        Self: Sized,
    {
        match sent(&self) {
            Some(rejection) => Self::from_rejection(rejection),
            None => self,
        }
    }

    /// What this error says of itself; `None` leaves it to the classifier.
    fn verdict(&self) -> Option<Verdict> {
        None
    }

    /// The error as a trait object; `Some(self)` for an enum of your own. Where it is `None`, nobody can look into
    /// the error: events do not have it, a breaker has no text of what opened it, [`OnlyErrors`](crate::OnlyErrors)
    /// finds no code or type in it, and [`Standard`](crate::Standard) knows no I/O error that stays as it is.
    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        None
    }

    /// Adds the refusal or limit that ended the call after this failure, if the type has room for both; the failure
    /// alone by default. [`BoxError`] and [`Error<E>`] carry both, the failure as the source; if the failure was ended
    /// before, by a policy inside, the outermost refusal stands for both.
    fn ended_by(self, rejection: Rejection) -> Self
    where
        Self: Sized,
    {
        let _ = rejection;
        self
    }

    /// Adds the failure `first`, of the service that another one stood in for, to the failure of that one, if the type
    /// has room for both; the later failure alone by default. [`BoxError`] carries both ([`FailedTwice`]), and
    /// [`Error<E>`] a failure that a refusal followed.
    fn after(self, first: Self) -> Self
    where
        Self: Sized,
    {
        drop(first);
        self
    }

    /// Makes an error of what is said of a failed answer, such as `503`, if the type has room for text, as
    /// [`BoxError`] has. `None` by default.
    fn from_text(text: String) -> Option<Self>
    where
        Self: Sized,
    {
        drop(text);
        None
    }
}

/// The rejection of something that was not sent, with that put right.
fn sent(error: &impl FromRejection) -> Option<Rejection> {
    let rejection = error.rejection().filter(|rejection| !rejection.was_sent())?;
    Some(rejection.clone().with_sent(true))
}

impl FromRejection for BoxError {
    fn from_rejection(rejection: Rejection) -> Self {
        Box::new(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        rejection(&**self)
    }

    fn sent_before(self) -> Self {
        match sent(&self) {
            Some(rejection) if self.is::<Rejection>() => Box::new(rejection),
            // What it is inside of is not known: it stays as the source.
            Some(rejection) => self.ended_by(rejection),
            None => self,
        }
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self)
    }

    fn ended_by(self, rejection: Rejection) -> Self {
        match self.downcast::<Ended>() {
            // One more around it would nest without end, with every stack further out.
            Ok(mut ended) => {
                ended.rejection = rejection;
                ended
            }
            Err(last) => Box::new(Ended { rejection, last }),
        }
    }

    fn after(self, first: Self) -> Self {
        match self.downcast::<Rejection>() {
            Ok(refusal) => first.ended_by(*refusal),
            Err(last) => Box::new(FailedTwice { last, first }),
        }
    }

    fn from_text(text: String) -> Option<Self> {
        Some(text.into())
    }
}

/// A rejection that says of an error what that does not say itself, boxed.
#[derive(Debug)]
pub(crate) struct Ended {
    rejection: Rejection,
    last: BoxError,
}

impl Ended {
    pub(crate) fn rejection(&self) -> &Rejection {
        &self.rejection
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.rejection, f)
    }
}

impl StdError for Ended {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.last)
    }
}

/// The failures of a service and of the one that stood in for it, boxed.
///
/// It stands for the later failure: it reads as that one with all its sources, and carries a rejection if that one
/// does. Its `source()` is the first failure, so that a report of the whole chain tells both.
///
/// ```
/// use std::{error::Error, io};
/// use buttress_core::{BoxError, FailedTwice, FromRejection};
///
/// let near = BoxError::from("connection refused");
/// let far = BoxError::from(io::Error::other("disk full"));
/// let both = far.after(near);
/// assert_eq!(both.to_string(), "disk full");
/// assert_eq!(both.source().unwrap().to_string(), "connection refused");
/// assert!(both.downcast_ref::<FailedTwice>().unwrap().last().is::<io::Error>());
/// ```
#[derive(Debug)]
pub struct FailedTwice {
    last: BoxError,
    first: BoxError,
}

impl FailedTwice {
    /// Makes one of two failures.
    pub fn new(last: impl Into<BoxError>, first: impl Into<BoxError>) -> Self {
        Self { last: last.into(), first: first.into() }
    }

    /// The failure of the service that stood in.
    pub fn last(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.last
    }

    /// The failure that it stood in for.
    pub fn first(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.first
    }
}

impl fmt::Display for FailedTwice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.last, f)?;
        // The place of its sources is taken by the first failure. Bounded, because an error may be its own source.
        let sources = std::iter::successors(self.last.source(), |&error| error.source());
        sources.take(16).try_for_each(|source| write!(f, ": {source}"))
    }
}

impl StdError for FailedTwice {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.first)
    }
}

/// A concrete error `E`, or a rejection: what [`typed_errors`](crate::TypedErrorsLayer) makes of `E`.
///
/// Flat: however many layers are stacked, the type stays `Error<E>`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// A policy refused or ended the call.
    Rejected(Rejection),
    /// The service failed.
    Inner(E),
    /// The service failed, and then a refusal or a limit ended the call: every attempt was used up and the retry
    /// policy was asked to say so, or no further attempt was let in. With the last error.
    ///
    /// Its `source()` is the last error: once it is boxed, [`rejection`](fn@rejection) does not see this one.
    Ended(Rejection, E),
}

impl<E: StdError + 'static> Error<E> {
    /// The rejection, if this is one, or the service's own error holds one: a stack inside refused then.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) | Self::Ended(rejection, _) => Some(rejection),
            Self::Inner(error) => rejection(error),
        }
    }
}

impl<E> Error<E> {
    /// The service's own error, if there is one.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Self::Inner(error) | Self::Ended(_, error) => Some(error),
            Self::Rejected(_) => None,
        }
    }

    /// The service's own error, or the rejection.
    pub fn into_inner(self) -> Result<E, Rejection> {
        match self {
            Self::Inner(error) | Self::Ended(_, error) => Ok(error),
            Self::Rejected(rejection) => Err(rejection),
        }
    }
}

impl<E> FromRejection for Error<E>
where
    E: StdError + 'static,
{
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        self.rejection()
    }

    fn sent_before(self) -> Self {
        let sent = sent(&self);
        match (self, sent) {
            (Self::Rejected(rejection), _) => Self::Rejected(rejection.with_sent(true)),
            (Self::Ended(rejection, error), _) => Self::Ended(rejection.with_sent(true), error),
            (Self::Inner(error), Some(rejection)) => Self::Ended(rejection, error),
            (inner @ Self::Inner(_), None) => inner,
        }
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Whoever looks for its type would not find it behind this one, which stands for it.
            Self::Inner(error) => Some(error),
            refused => Some(refused),
        }
    }

    fn ended_by(self, rejection: Rejection) -> Self {
        match self {
            Self::Inner(error) | Self::Ended(_, error) => Self::Ended(rejection, error),
            refused @ Self::Rejected(_) => refused,
        }
    }

    fn after(self, first: Self) -> Self {
        match (self, first) {
            (Self::Rejected(rejection), Self::Inner(error) | Self::Ended(_, error)) => {
                Self::Ended(rejection, error)
            }
            (last, _) => last,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) | Self::Ended(rejection, _) => fmt::Display::fmt(rejection, f),
            Self::Inner(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    // `Rejected` names its rejection as its source, so that `rejection()` finds it behind any box;
    // `Inner` stands for the error itself, so its source is that error's.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(error) => error.source(),
            Self::Ended(_, error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{
        Name,
        words::{EXHAUSTED, OPEN},
    };

    #[test]
    fn boxed_and_typed_errors_give_the_rejection_back() {
        let made = Rejection::new(OPEN, &Name::new("p"));
        assert_eq!(BoxError::from_rejection(made.clone()).rejection(), Some(&made));
        let typed = Error::<io::Error>::from_rejection(made.clone());
        assert_eq!(typed.rejection(), Some(&made));
        let boxed: BoxError = Box::new(typed);
        assert_eq!(rejection(&*boxed), Some(&made));
    }

    #[test]
    fn what_ended_the_call_keeps_the_last_error_as_its_source() {
        let made = Rejection::new(EXHAUSTED, &Name::new("p")).with_attempts(4);
        let last: BoxError = Box::new(io::Error::other("boom"));
        let boxed = last.ended_by(made.clone());
        assert_eq!(boxed.rejection().unwrap().attempts(), Some(4));
        assert_eq!(boxed.source().unwrap().to_string(), "boom");
        let typed = Error::Inner(io::Error::other("boom")).ended_by(made);
        assert_eq!(typed.inner().unwrap().to_string(), "boom");
        assert_eq!(typed.rejection().unwrap().code(), "RETRIES_EXHAUSTED");
    }
}
