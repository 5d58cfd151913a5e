use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use crate::{FromRejection, Outcome, Rejection, rejection::inside};

/// What one finished call says about the service behind it.
///
/// Breaker, retry, fallback and bulkhead share it, so that they never disagree about what a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It works.
    Success,
    /// It failed.
    Failure {
        /// A new try will fail the same way: never retried, still a failure to a breaker.
        permanent: bool,
        /// The service said when to try again.
        retry_after: Option<Duration>,
    },
    /// It says nothing about the service: not counted, not retried.
    Ignore,
}

impl From<Verdict> for Outcome {
    #[inline]
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Success,
            Verdict::Failure { .. } => Self::Failure,
            Verdict::Ignore => Self::Ignored,
        }
    }
}

impl Verdict {
    /// A failure that a new try may cure.
    pub const fn transient() -> Self {
        Self::Failure { permanent: false, retry_after: None }
    }

    /// A failure that no new try will cure.
    pub const fn permanent() -> Self {
        Self::Failure { permanent: true, retry_after: None }
    }

    /// A transient failure, and the service said when to try again.
    pub const fn retry_after(after: Duration) -> Self {
        Self::Failure { permanent: false, retry_after: Some(after) }
    }

    /// Whether it is a failure, of either sort.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure { .. })
    }

    /// Whether it is a failure that a new try may cure.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Failure { permanent: false, .. })
    }
}

/// Whether a call that failed can have taken effect at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It cannot: it was never sent, or is known to have been refused unread.
    No,
    /// Nobody knows. A time-out is no proof that nothing happened.
    Unknown,
}

/// Of what an attempt failed, as far as the wait and the price of the next one depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// Of anything.
    #[default]
    Transient,
    /// The service asked for fewer calls.
    Throttled,
    /// It took too long.
    TimedOut,
}

/// What is said of a failure of which nothing is known.
const FAILED: &str = "the call failed";

/// Tells what a finished call says about the service. A closure `Fn(Result<&Res, &Err>) -> Verdict` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell what an outcome `Result<{Res}, {Err}>` says about the service",
    note = "`.lift_errors()` or `.typed_errors()` innermost makes errors that `Standard` and `OnlyErrors` can tell",
    note = "or `.classify_with(|outcome: Result<&{Res}, &{Err}>| ..)`, a closure that returns a `Verdict`",
    note = "or `HttpClassify` of `buttress-http`, if the response is an `http::Response`",
    note = "or `.map_err(BoxError::from)` in the function that `.call` of a single handle is given"
)]
pub trait Classify<Res, Err> {
    /// The verdict on one outcome. Runs once per attempt, on the caller's task: keep it cheap.
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict;

    /// Of what a transient failure failed. Rejections that are time-outs or say that a caller asks too much are known to be;
    /// this is asked for all others.
    fn failure_kind(&self, outcome: Result<&Res, &Err>) -> FailureKind {
        let _ = outcome;
        FailureKind::Transient
    }

    /// Told before the wait for a new attempt: the 1-based number of the attempt that failed, how, and the wait.
    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &Err>, delay: Duration) {
        let _ = (attempt, outcome, delay);
    }

    /// Says in a few words what the outcome was, such as `503` or `connection refused`: for log lines, for what a
    /// breaker says of its last failure, and for refusals that follow a failed response.
    ///
    /// By default always the same words, for closures too: nothing is known of the types here. [`Standard`] and
    /// [`OnlyErrors`] say what the error displays, if it can be seen as one ([`FromRejection::as_error`]).
    fn describe(&self, outcome: Result<&Res, &Err>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = outcome;
        f.write_str(FAILED)
    }

    /// Whether a failed answer may be held while the call waits for another attempt: only one that holds no
    /// connection, because its body was read. No by default.
    fn keeps(&self, response: &Res) -> bool {
        let _ = response;
        false
    }

    /// The refusal of ours that an answer stands for, if it is one, as a nested stack's 503 is. It says nothing about
    /// the service, unless it was sent, and the caller is without an answer all the same: a fallback handles it.
    fn refusal<'a>(&self, response: &'a Res) -> Option<&'a Rejection> {
        let _ = response;
        None
    }

    /// Whether the call can have taken effect. Own refusals that say that nothing was sent are known not to have;
    /// this is asked of all other outcomes, and by default nobody knows.
    fn applied(&self, outcome: Result<&Res, &Err>) -> Applied {
        let _ = outcome;
        Applied::Unknown
    }

    /// The error the caller gets for the last one, after so many attempts. Unchanged by default.
    fn last_error(&self, attempts: u32, error: Err) -> Err
    where
        Err: Sized,
    {
        let _ = attempts;
        error
    }
}

/// What a classifier says of an outcome ([`Classify::describe`]), as text. If it has no words of its own for an error, as
/// a closure has none, it is what the error displays, if that can be seen as one.
pub fn described<C, Res, Err>(classify: &C, outcome: Result<&Res, &Err>) -> String
where
    C: Classify<Res, Err> + ?Sized,
    Err: FromRejection,
{
    let text = shown(|f| classify.describe(outcome, f));
    if text == FAILED { shown(|f| describe(outcome.err(), f)) } else { text }
}

/// What is written; of what fails to write, what it had written so far.
fn shown(write: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result) -> String {
    struct Shown<F>(F);
    impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Shown<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (self.0)(f)
        }
    }
    let mut text = String::new();
    let _cut_short = fmt::Write::write_fmt(&mut text, format_args!("{}", Shown(write)));
    text
}

// So that whatever is no classifier is told of the remedies above, and not that it is no closure.
#[diagnostic::do_not_recommend]
impl<F, Res, Err> Classify<Res, Err> for F
where
    F: Fn(Result<&Res, &Err>) -> Verdict,
{
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        self(outcome)
    }
}

/// The default: every `Ok` is a success, every `Err` a failure.
///
/// An error that knows better is asked first ([`FromRejection::verdict`]). Rejections of calls that were never
/// sent are ignored. I/O errors that stay as they are (not found, permission denied, invalid input or data,
/// unsupported, already exists) are permanent failures, wherever they stand in the source chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard;

impl<Res, Err: FromRejection> Classify<Res, Err> for Standard {
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        match outcome {
            Ok(_) => Verdict::Success,
            Err(error) => standard(error),
        }
    }

    fn describe(&self, outcome: Result<&Res, &Err>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(outcome.err(), f)
    }

    fn applied(&self, outcome: Result<&Res, &Err>) -> Applied {
        applied(outcome.err())
    }
}

fn describe<E: FromRejection>(error: Option<&E>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(error) = error else { return f.write_str(FAILED) };
    match (error.as_error(), error.rejection()) {
        (Some(error), _) => fmt::Display::fmt(error, f),
        (None, Some(rejection)) => fmt::Display::fmt(rejection, f),
        (None, None) => f.write_str(FAILED),
    }
}

fn applied<E: FromRejection>(error: Option<&E>) -> Applied {
    match error.and_then(FromRejection::rejection) {
        Some(rejection) if !rejection.was_sent() => Applied::No,
        _ => Applied::Unknown,
    }
}

fn standard<E: FromRejection>(error: &E) -> Verdict {
    if let Some(rejection) = error.rejection() {
        return rejection.verdict();
    }
    if let Some(verdict) = error.verdict() {
        return verdict;
    }
    match error.as_error() {
        Some(error) if sources(error).any(is_permanent) => Verdict::permanent(),
        _ => Verdict::transient(),
    }
}

fn is_permanent(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidData, InvalidInput, NotFound, PermissionDenied, Unsupported};
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            AlreadyExists | InvalidData | InvalidInput | NotFound | PermissionDenied | Unsupported
        )
    })
}

/// The error and what it holds, outermost first; at most 64, because an error may be its own source.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| inside(error)).take(64)
}

/// Whether an error matches, given the listed codes.
type Rule = Arc<dyn Fn(&(dyn StdError + 'static), &[Box<str>]) -> bool + Send + Sync>;

/// Calls transient only the errors that match one of its rules; every other error is permanent.
///
/// For the lists of retryable codes, substrings and error types that other systems have.
///
/// ```
/// use std::io;
/// use buttress_core::{BoxError, Classify, OnlyErrors, Verdict};
///
/// let only = OnlyErrors::codes(["TIMEOUT", "503"]).or_type::<io::Error>();
/// let busy: BoxError = "upstream said 503".into();
/// let odd: BoxError = "no such account".into();
/// assert!(only.classify(Err::<&(), _>(&busy)).is_transient());
/// assert_eq!(only.classify(Err::<&(), _>(&odd)), Verdict::permanent());
/// ```
#[derive(Clone, Default)]
pub struct OnlyErrors {
    codes: Vec<Box<str>>,
    rules: Vec<Rule>,
}

impl OnlyErrors {
    /// Matches a rejection that has one of these codes, and an error whose text, or whose source's text,
    /// contains one.
    pub fn codes<I>(codes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Box<str>>,
    {
        Self { codes: codes.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Matches errors of type `E`, and errors that have one among their sources.
    pub fn of_type<E: StdError + 'static>() -> Self {
        Self::default().or_type::<E>()
    }

    /// Matches errors that `rule` says yes to. It is asked about the error and each of its sources; of an error that
    /// carries a rejection, about the [`Rejection`](crate::Rejection) alone, be it a `TIMEOUT` or `RETRIES_EXHAUSTED`.
    pub fn when<F>(rule: F) -> Self
    where
        F: Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    {
        Self::default().or_when(rule)
    }

    /// Also matches errors of type `E`.
    pub fn or_type<E: StdError + 'static>(self) -> Self {
        self.or_when(|error| error.is::<E>())
    }

    /// Also matches errors that `rule` says yes to.
    pub fn or_when<F>(mut self, rule: F) -> Self
    where
        F: Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    {
        self.rules.push(Arc::new(move |error, _| rule(error)));
        self
    }

    /// Takes this as the code of errors of type `E`, beside what their text says. A code that is listed matches it;
    /// part of one does not.
    ///
    /// ```
    /// use buttress_core::{BoxError, Classify, OnlyErrors};
    ///
    /// #[derive(Debug)]
    /// struct Upstream {
    ///     status: u16,
    /// }
    /// # impl std::fmt::Display for Upstream {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    /// #         f.write_str("the upstream failed")
    /// #     }
    /// # }
    /// # impl std::error::Error for Upstream {}
    ///
    /// let only = OnlyErrors::codes(["503"]).code_of(|error: &Upstream| Some(error.status.to_string()));
    /// let transient = |status| only.classify(Err::<&(), _>(&BoxError::from(Upstream { status }))).is_transient();
    /// assert!(transient(503) && !transient(404));
    /// ```
    pub fn code_of<E, F, C>(mut self, code: F) -> Self
    where
        E: StdError + 'static,
        F: Fn(&E) -> Option<C> + Send + Sync + 'static,
        C: AsRef<str>,
    {
        self.rules.push(Arc::new(move |error, codes| {
            let own = error.downcast_ref::<E>().and_then(&code);
            own.is_some_and(|own| codes.iter().any(|code| **code == *own.as_ref()))
        }));
        self
    }

    fn matches(&self, error: &(dyn StdError + 'static)) -> bool {
        if self.rules.iter().any(|rule| rule(error, &self.codes)) {
            return true;
        }
        if self.codes.is_empty() {
            return false;
        }
        let text = error.to_string();
        self.codes.iter().any(|code| text.contains(&**code))
    }
}

impl fmt::Debug for OnlyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnlyErrors").field("codes", &self.codes).field("rules", &self.rules.len()).finish()
    }
}

impl<Res, Err: FromRejection> Classify<Res, Err> for OnlyErrors {
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        let Err(error) = outcome else { return Verdict::Success };
        if let Some(rejection) = error.rejection() {
            let listed = self.codes.iter().any(|code| rejection.code() == &**code)
                || self.rules.iter().any(|rule| rule(rejection, &self.codes));
            return match rejection.verdict() {
                Verdict::Failure { retry_after, .. } => Verdict::Failure { permanent: !listed, retry_after },
                other => other,
            };
        }
        let retry_after = match error.verdict() {
            Some(Verdict::Failure { retry_after, .. }) => retry_after,
            _ => None,
        };
        let listed = error.as_error().is_some_and(|error| sources(error).any(|error| self.matches(error)));
        Verdict::Failure { permanent: !listed, retry_after }
    }

    fn describe(&self, outcome: Result<&Res, &Err>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(outcome.err(), f)
    }

    fn applied(&self, outcome: Result<&Res, &Err>) -> Applied {
        applied(outcome.err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BoxError, Name, Rejection,
        words::{CIRCUIT_TIMEOUT, EXHAUSTED, OPEN, QUEUE_FULL, QUEUE_TIMEOUT, TIMEOUT},
    };

    fn verdict(error: BoxError) -> Verdict {
        Standard.classify(Err::<&(), _>(&error))
    }

    #[test]
    fn errors_that_stay_as_they_are_are_permanent() {
        assert_eq!(verdict(io::Error::from(io::ErrorKind::NotFound).into()), Verdict::permanent());
        assert_eq!(verdict(io::Error::from(io::ErrorKind::InvalidInput).into()), Verdict::permanent());
        assert_eq!(verdict(io::Error::from(io::ErrorKind::TimedOut).into()), Verdict::transient());
        assert_eq!(verdict("odd".into()), Verdict::transient());
        let hidden = io::Error::other(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(verdict(hidden.into()), Verdict::permanent());
    }

    // It stands for the error itself, and must not hide what that one is.
    #[test]
    fn typed_error_is_judged_by_the_error_that_it_is() {
        let missing = Err::<&(), _>(&crate::Error::Inner(io::Error::from(io::ErrorKind::NotFound)));
        assert_eq!(Standard.classify(missing), Verdict::permanent());
        assert!(OnlyErrors::of_type::<io::Error>().classify(missing).is_transient());
        let refused = Rejection::new(OPEN, &Name::new("x"));
        let wrapped = crate::Error::Inner(io::Error::other(refused));
        assert_eq!(wrapped.as_error().and_then(crate::rejection).map(Rejection::code), Some(OPEN));
    }

    #[test]
    fn refusals_say_nothing_and_time_outs_are_failures() {
        let name = Name::new("p");
        assert_eq!(verdict(Rejection::new(OPEN, &name).into()), Verdict::Ignore);
        assert_eq!(verdict(Rejection::new(QUEUE_FULL, &name).into()), Verdict::Ignore);
        assert_eq!(verdict(Rejection::new(TIMEOUT, &name).into()), Verdict::transient());
        assert_eq!(verdict(Rejection::new(EXHAUSTED, &name).into()), Verdict::permanent());
        // What a retry returns where an earlier attempt had been sent.
        let refused = Rejection::new(OPEN, &name).with_sent(true);
        assert_eq!(verdict(refused.into()), Verdict::permanent());
    }

    #[test]
    fn only_listed_codes_types_and_predicates_are_transient() {
        let listed = |only: &OnlyErrors, error: BoxError| only.classify(Err::<&(), _>(&error)).is_transient();
        let codes = OnlyErrors::codes(["TIMEOUT", "503"]);
        assert!(listed(&codes, Rejection::new(TIMEOUT, &Name::new("p")).into()));
        assert!(listed(&codes, "got 503".into()));
        assert!(!listed(&codes, "got 404".into()));
        let types = OnlyErrors::of_type::<io::Error>();
        assert!(listed(&types, io::Error::other("x").into()));
        assert!(!listed(&types, "x".into()));
        let rule = OnlyErrors::when(|e| e.to_string().contains("temporarily unavailable"));
        assert!(listed(&rule, "it is temporarily unavailable".into()));
        assert!(!listed(&rule, "gone".into()));
    }

    #[test]
    fn rules_are_asked_about_rejections_and_not_about_what_those_wrap() {
        use crate::FromRejection;
        let listed = |only: &OnlyErrors, error: BoxError| only.classify(Err::<&(), _>(&error)).is_transient();
        let name = Name::new("p");
        let late =
            |error: &(dyn StdError + 'static)| crate::rejection(error).is_some_and(Rejection::is_timeout);
        let only = OnlyErrors::of_type::<io::Error>().or_when(late);
        assert!(listed(&only, io::Error::other("x").into()));
        assert!(listed(&only, Rejection::new(TIMEOUT, &name).into()));
        assert!(listed(&OnlyErrors::of_type::<Rejection>(), Rejection::new(CIRCUIT_TIMEOUT, &name).into()));
        // What was never sent says nothing, whatever the rule. What was tried to exhaustion is not tried again
        // because of what it was.
        let queued: BoxError = Rejection::new(QUEUE_TIMEOUT, &name).into();
        assert_eq!(only.classify(Err::<&(), _>(&queued)), Verdict::Ignore);
        let exhausted = Rejection::new(EXHAUSTED, &name);
        assert!(!listed(&only, BoxError::from(io::Error::other("x")).ended_by(exhausted)));
    }

    /// What a classifier says of an outcome.
    struct Described<'a, C, E>(&'a C, Result<&'a (), &'a E>);

    impl<C: Classify<(), E>, E> fmt::Display for Described<'_, C, E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.describe(self.1, f)
        }
    }

    /// An error type that cannot be seen as one.
    struct Unseen(Option<Rejection>);

    impl FromRejection for Unseen {
        fn from_rejection(rejection: Rejection) -> Self {
            Self(Some(rejection))
        }

        fn rejection(&self) -> Option<&Rejection> {
            self.0.as_ref()
        }
    }

    fn says_by_both<E: FromRejection>(outcome: Result<&(), &E>, text: &str) {
        assert_eq!(Described(&Standard, outcome).to_string(), text);
        assert_eq!(Described(&OnlyErrors::codes(["503"]), outcome).to_string(), text);
        // Nothing is known of the types that a closure is for.
        let closure = |_: Result<&(), &E>| Verdict::transient();
        assert_eq!(Described(&closure, outcome).to_string(), "the call failed");
    }

    #[test]
    fn failure_is_described_by_what_the_error_displays() {
        let refused = || Rejection::new(OPEN, &Name::new("p"));
        says_by_both(Err(&BoxError::from("connection refused")), "connection refused");
        says_by_both(Err(&BoxError::from(refused())), "circuit \"p\" is OPEN");
        says_by_both(Err(&BoxError::from("reset").ended_by(refused())), "circuit \"p\" is OPEN");
        says_by_both(Err(&crate::Error::Inner(io::Error::other("down"))), "down");
        says_by_both(Err(&crate::Error::<io::Error>::Rejected(refused())), "circuit \"p\" is OPEN");
        says_by_both(Err(&Unseen(Some(refused()))), "circuit \"p\" is OPEN");
        says_by_both(Err(&Unseen(None)), "the call failed");
        says_by_both::<BoxError>(Ok(&()), "the call failed");
    }

    #[test]
    fn error_without_words_of_the_classifier_is_described_by_what_it_displays() {
        struct Words;
        impl Classify<u16, BoxError> for Words {
            fn classify(&self, _outcome: Result<&u16, &BoxError>) -> Verdict {
                Verdict::transient()
            }

            fn describe(&self, outcome: Result<&u16, &BoxError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match outcome {
                    Ok(status) => write!(f, "{status}"),
                    Err(_) => f.write_str("half of").and(Err(fmt::Error)),
                }
            }
        }
        let down = BoxError::from("connection refused");
        assert_eq!(described(&Words, Ok(&503)), "503");
        assert_eq!(described(&Words, Err(&down)), "half of");
        let closure = |_: Result<&u16, &BoxError>| Verdict::transient();
        assert_eq!(described(&closure, Err(&down)), "connection refused");
        assert_eq!(described(&closure, Ok(&503)), "the call failed");
        let closure = |_: Result<&u16, &Unseen>| Verdict::transient();
        assert_eq!(described(&closure, Err(&Unseen(None))), "the call failed");
    }

    #[test]
    fn nothing_but_a_refusal_that_was_not_sent_is_known_to_have_had_no_effect() {
        let applied = |outcome: Result<&(), &BoxError>| {
            let applied = Standard.applied(outcome);
            assert_eq!(OnlyErrors::of_type::<io::Error>().applied(outcome), applied);
            applied
        };
        let name = Name::new("p");
        let refused = || Rejection::new(OPEN, &name);
        assert_eq!(applied(Err(&refused().into())), Applied::No);
        assert_eq!(applied(Err(&io::Error::other(refused()).into())), Applied::No);
        assert_eq!(applied(Err(&refused().with_sent(true).into())), Applied::Unknown);
        assert_eq!(applied(Err(&Rejection::new(TIMEOUT, &name).into())), Applied::Unknown);
        assert_eq!(applied(Err(&Rejection::new(EXHAUSTED, &name).into())), Applied::Unknown);
        assert_eq!(applied(Err(&"reset".into())), Applied::Unknown);
        assert_eq!(applied(Ok(&())), Applied::Unknown);
    }

    #[derive(Debug)]
    struct Coded(Option<&'static str>, &'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1)
        }
    }

    impl StdError for Coded {}

    #[test]
    fn error_has_the_code_it_is_said_to_have_besides_its_text() {
        let plain = OnlyErrors::codes(["RATE_LIMIT", "temporarily unavailable"]);
        let only = plain.clone().code_of(|error: &Coded| error.0);
        let listed = |only: &OnlyErrors, code, text| {
            let error = BoxError::from(io::Error::other(Coded(code, text)));
            only.classify(Err::<&(), _>(&error)).is_transient()
        };
        assert!(listed(&only, Some("RATE_LIMIT"), "slow down"));
        assert!(!listed(&plain, Some("RATE_LIMIT"), "slow down"));
        assert!(listed(&only, Some("OTHER"), "it is temporarily unavailable"));
        for code in [Some("RATE_LIMIT_OFF"), Some("RATE"), Some(""), None] {
            assert!(!listed(&only, code, "gone"), "{code:?}");
        }
    }
}
