use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use crate::{Name, Verdict};

/// Why a policy refused or ended a call.
///
/// Each kind has a stable code, see [`RejectionKind::code`]. `Custom` is for policies outside this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The circuit is open, isolated, or half-open with no free probe. Code `CIRCUIT_OPEN`.
    CircuitOpen,
    /// The breaker's own call time-out passed. Code `CIRCUIT_TIMEOUT`.
    CircuitTimeout,
    /// A deadline passed. Code `TIMEOUT`.
    Timeout,
    /// The bulkhead is full and so is its queue. Code `BULKHEAD_QUEUE_FULL`.
    BulkheadQueueFull,
    /// The call waited in the bulkhead's queue for too long. Code `BULKHEAD_QUEUE_TIMEOUT`.
    BulkheadQueueTimeout,
    /// The bulkhead's queue was cleared by hand. Code `BULKHEAD_QUEUE_CLEARED`.
    BulkheadQueueCleared,
    /// The bulkhead was closed for good. Code `BULKHEAD_CLOSED`.
    BulkheadClosed,
    /// The rate limit is used up. Code `RATE_LIMITED`.
    RateLimited,
    /// Every attempt failed, and the policy was asked to say so. Code `RETRIES_EXHAUSTED`.
    RetriesExhausted,
    /// Anything else, by a policy of somebody else's. The code is the text.
    Custom(&'static str),
}

const CODES: [(RejectionKind, &str); 9] = [
    (RejectionKind::CircuitOpen, "CIRCUIT_OPEN"),
    (RejectionKind::CircuitTimeout, "CIRCUIT_TIMEOUT"),
    (RejectionKind::Timeout, "TIMEOUT"),
    (RejectionKind::BulkheadQueueFull, "BULKHEAD_QUEUE_FULL"),
    (RejectionKind::BulkheadQueueTimeout, "BULKHEAD_QUEUE_TIMEOUT"),
    (RejectionKind::BulkheadQueueCleared, "BULKHEAD_QUEUE_CLEARED"),
    (RejectionKind::BulkheadClosed, "BULKHEAD_CLOSED"),
    (RejectionKind::RateLimited, "RATE_LIMITED"),
    (RejectionKind::RetriesExhausted, "RETRIES_EXHAUSTED"),
];

/// Stored instead of an index into `CODES` for custom kinds.
const CUSTOM: u8 = u8::MAX;

impl RejectionKind {
    /// The stable code, upper case with underscores: what logs, answers and alerts should match on.
    pub fn code(self) -> &'static str {
        match self {
            Self::Custom(code) => code,
            known => CODES.get(usize::from(known.place())).map_or("CUSTOM", |(_, code)| code),
        }
    }

    /// Its place in `CODES`, found without a search: a refusal must cost next to nothing.
    fn place(self) -> u8 {
        match self {
            Self::CircuitOpen => 0,
            Self::CircuitTimeout => 1,
            Self::Timeout => 2,
            Self::BulkheadQueueFull => 3,
            Self::BulkheadQueueTimeout => 4,
            Self::BulkheadQueueCleared => 5,
            Self::BulkheadClosed => 6,
            Self::RateLimited => 7,
            Self::RetriesExhausted => 8,
            Self::Custom(_) => CUSTOM,
        }
    }

    /// Whether this kind ends a call that had already been passed on.
    fn ends_a_sent_call(self) -> bool {
        matches!(self, Self::CircuitTimeout | Self::Timeout | Self::RetriesExhausted)
    }
}

impl From<&'static str> for RejectionKind {
    /// The kind that has this code, or `Custom`.
    fn from(code: &'static str) -> Self {
        CODES.iter().find(|(_, known)| *known == code).map_or(Self::Custom(code), |(kind, _)| *kind)
    }
}

/// A refusal: which policy, why, whether the request was sent, and when to try again.
///
/// 24 bytes; making and cloning one allocates nothing. Times are kept in whole microseconds (limits) and whole
/// milliseconds, rounded up (retry-after).
#[derive(Clone)]
pub struct Rejection {
    policy: Name,
    // Retry-after in ms, or for time-outs the limit in µs: none has both.
    detail: u64,
    // Attempts, or for time-outs how far past the limit the call ended, in µs.
    count: u32,
    kind: u8,
    slot: u8,
    sent: bool,
    // A time-out of a call, of whatever kind: says which of the two `detail` and `count` are.
    timed: bool,
}

const NO_DETAIL: u64 = u64::MAX;

impl Rejection {
    /// Makes a refusal by `policy`. `kind` is a [`RejectionKind`], or a code such as `"GATE_SHUT"`.
    ///
    /// A policy may use eight different custom codes; further ones all read `CUSTOM`.
    pub fn new(kind: impl Into<RejectionKind>, policy: &Name) -> Self {
        let kind = kind.into();
        let sent = kind.ends_a_sent_call();
        let timed = matches!(kind, RejectionKind::Timeout | RejectionKind::CircuitTimeout);
        let (kind, slot) = match kind {
            RejectionKind::Custom(code) => (CUSTOM, policy.slot_of(code)),
            known => (known.place(), 0),
        };
        Self { policy: policy.clone(), detail: NO_DETAIL, count: 0, kind, slot, sent, timed }
    }

    /// Makes the end of a call that ran into `limit` after `elapsed`.
    pub fn timed_out(
        kind: impl Into<RejectionKind>,
        policy: &Name,
        limit: Duration,
        elapsed: Duration,
    ) -> Self {
        let mut rejection = Self::new(kind, policy);
        rejection.detail = u64::try_from(limit.as_micros()).unwrap_or(NO_DETAIL - 1);
        rejection.count = u32::try_from(elapsed.saturating_sub(limit).as_micros()).unwrap_or(u32::MAX);
        rejection.sent = true;
        rejection.timed = true;
        rejection
    }

    /// Says when to try again, from now on. Rounded up to whole milliseconds. Without effect on time-outs.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        if !self.timed {
            let part = u64::from(after.subsec_nanos().div_ceil(1_000_000));
            self.detail = after.as_secs().saturating_mul(1_000).saturating_add(part).min(NO_DETAIL - 1);
        }
        self
    }

    /// Says how many attempts were made. Without effect on time-outs.
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        if !self.timed {
            self.count = attempts;
        }
        self
    }

    /// Says whether the request may have reached the inner service.
    pub fn with_sent(mut self, sent: bool) -> Self {
        self.sent = sent;
        self
    }

    /// Why.
    pub fn kind(&self) -> RejectionKind {
        match CODES.get(usize::from(self.kind)) {
            Some((kind, _)) => *kind,
            None => RejectionKind::Custom(self.policy.code_at(self.slot)),
        }
    }

    /// The stable code, such as `CIRCUIT_OPEN`.
    pub fn code(&self) -> &'static str {
        match CODES.get(usize::from(self.kind)) {
            Some((_, code)) => code,
            None => self.policy.code_at(self.slot),
        }
    }

    /// The name of the policy that refused.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The name as it is shared by the policy.
    pub fn name(&self) -> &Name {
        &self.policy
    }

    /// When a new try may succeed, from the moment of the refusal on. Whole milliseconds, rounded up.
    pub fn retry_after(&self) -> Option<Duration> {
        (!self.timed && self.detail != NO_DETAIL).then(|| Duration::from_millis(self.detail))
    }

    /// Whether the request may have reached the inner service. `false` is certain; `true` means "do not assume
    /// that nothing happened". What a retry or a fallback returns is about all that was tried.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// The limit a call ran into, for time-outs.
    pub fn limit(&self) -> Option<Duration> {
        (self.timed && self.detail != NO_DETAIL).then(|| Duration::from_micros(self.detail))
    }

    /// How long the call had run when it was ended, for time-outs.
    pub fn elapsed(&self) -> Option<Duration> {
        self.limit().map(|limit| limit.saturating_add(Duration::from_micros(self.count.into())))
    }

    /// How many attempts were made, where the policy says so.
    pub fn attempts(&self) -> Option<u32> {
        (!self.timed && self.count > 0).then_some(self.count)
    }

    /// Whether this stands for "it took too long": the time-outs, the queue time-out, and a rate limit whose
    /// wait would have been too long.
    pub fn is_timeout(&self) -> bool {
        use RejectionKind::{BulkheadQueueTimeout, CircuitTimeout, RateLimited, Timeout};
        matches!(self.kind(), Timeout | CircuitTimeout | BulkheadQueueTimeout | RateLimited)
    }

    /// What the rejection means to a policy further out: a call that was never sent says nothing about the
    /// service ([`Verdict::Ignore`]); a time-out is a failure; exhausted retries are a permanent one, and so is what
    /// was refused after an earlier attempt had been sent.
    pub fn verdict(&self) -> Verdict {
        use RejectionKind::{
            BulkheadClosed, BulkheadQueueCleared, BulkheadQueueFull, BulkheadQueueTimeout, CircuitOpen,
            RetriesExhausted,
        };
        match self.kind() {
            RetriesExhausted => Verdict::permanent(),
            _ if !self.sent => Verdict::Ignore,
            _ if self.timed => Verdict::transient(),
            CircuitOpen | BulkheadQueueFull | BulkheadQueueTimeout | BulkheadQueueCleared
            | BulkheadClosed => Verdict::permanent(),
            _ => Verdict::transient(),
        }
    }
}

impl PartialEq for Rejection {
    fn eq(&self, other: &Self) -> bool {
        // The slot says nothing by itself: each name numbers its custom codes in the order it met them.
        self.kind() == other.kind()
            && (&self.policy, self.detail, self.count, self.sent, self.timed)
                == (&other.policy, other.detail, other.count, other.sent, other.timed)
    }
}

impl Eq for Rejection {}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Rejection");
        out.field("code", &self.code()).field("policy", &self.policy).field("was_sent", &self.sent);
        if let Some(after) = self.retry_after() {
            out.field("retry_after", &after);
        }
        if let Some(limit) = self.limit() {
            out.field("limit", &limit).field("elapsed", &self.elapsed());
        }
        if let Some(attempts) = self.attempts() {
            out.field("attempts", &attempts);
        }
        out.finish()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy();
        match self.kind() {
            RejectionKind::CircuitOpen => write!(f, "circuit {policy:?} is OPEN")?,
            RejectionKind::Timeout | RejectionKind::CircuitTimeout => {
                let limit = self.limit().unwrap_or_default();
                write!(f, "{policy:?} timed out: limit {limit:?}")?;
                if self.count > 0 {
                    write!(f, ", ended after {:?}", self.elapsed().unwrap_or_default())?;
                }
            }
            RejectionKind::BulkheadQueueFull => write!(f, "bulkhead {policy:?} and its queue are full")?,
            RejectionKind::BulkheadQueueTimeout => write!(f, "waited too long for bulkhead {policy:?}")?,
            RejectionKind::BulkheadQueueCleared => write!(f, "the queue of bulkhead {policy:?} was cleared")?,
            RejectionKind::BulkheadClosed => write!(f, "bulkhead {policy:?} is closed")?,
            RejectionKind::RateLimited => write!(f, "rate limit {policy:?} is used up")?,
            RejectionKind::RetriesExhausted => {
                write!(f, "retries of {policy:?} are exhausted after {} attempts", self.count)?;
            }
            RejectionKind::Custom(code) => write!(f, "{policy:?} refused the call: {code}")?,
        }
        match self.retry_after() {
            Some(after) => write!(f, "; retry in {after:?}"),
            None => Ok(()),
        }
    }
}

impl StdError for Rejection {}

/// Finds the outermost rejection in an error, its sources, and what I/O errors and shared errors are made of.
///
/// ```
/// use buttress_core::{Name, Rejection, rejection};
///
/// let refused: Box<dyn std::error::Error + Send + Sync> =
///     Rejection::new("CIRCUIT_OPEN", &Name::new("payments")).into();
/// assert_eq!(rejection(&*refused).unwrap().policy(), "payments");
/// assert!(rejection(&std::fmt::Error).is_none());
/// ```
pub fn rejection<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Rejection> {
    let mut next = Some(error);
    // A bound, because nothing stops a foreign error from being its own source.
    for _ in 0..64 {
        let error = next?;
        if let Some(rejection) = error.downcast_ref::<Rejection>() {
            return Some(rejection);
        }
        if let Some(before) = error.downcast_ref::<crate::error::Before>() {
            return Some(before.rejection());
        }
        next = inside(error);
    }
    None
}

/// What an error holds: its source. An I/O error made of another one, and a shared error, give away only that one's
/// source, and so hide what a connector was refused with.
pub(crate) fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(held);
    }
    // As redis has them.
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(&**shared);
    }
    error.source()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_is_24_bytes_also_as_an_option() {
        assert!(size_of::<Rejection>() <= 24);
        assert!(size_of::<Option<Rejection>>() <= 24);
    }

    #[test]
    fn refusal_is_found_in_io_errors_and_in_shared_ones() {
        let refused = || Rejection::new("CIRCUIT_OPEN", &Name::new("p"));
        let shared: Arc<dyn StdError + Send + Sync> = Arc::new(io::Error::other(refused()));
        assert_eq!(rejection(&shared), Some(&refused()));
        let shared: Arc<dyn StdError + Send + Sync> = Arc::new(refused());
        assert_eq!(rejection(&io::Error::other(shared)), Some(&refused()));
    }

    #[test]
    fn every_known_code_gives_its_kind_back() {
        for (kind, code) in CODES {
            assert_eq!(RejectionKind::from(code), kind);
            assert_eq!(kind.code(), code);
            let made = Rejection::new(kind, &Name::new("p"));
            assert_eq!((made.kind(), made.code()), (kind, code));
        }
        assert_eq!(Rejection::new("GATE_SHUT", &Name::new("p")).code(), "GATE_SHUT");
    }

    // S1-017, S4-017, C-47
    #[test]
    fn open_circuit_says_open_and_when_to_retry() {
        let made = Rejection::new("CIRCUIT_OPEN", &Name::new("pay"))
            .with_retry_after(Duration::from_micros(4_200_001));
        assert_eq!(made.to_string(), "circuit \"pay\" is OPEN; retry in 4.201s");
        assert_eq!(made.retry_after(), Some(Duration::from_millis(4_201)));
        assert!(!made.was_sent());
    }

    // S3-019, S1-038
    #[test]
    fn time_out_carries_limit_and_elapsed() {
        let (limit, elapsed) = (Duration::from_millis(30), Duration::from_micros(30_500));
        let made = Rejection::timed_out("TIMEOUT", &Name::new("pay"), limit, elapsed);
        assert_eq!((made.limit(), made.elapsed()), (Some(limit), Some(elapsed)));
        assert_eq!(made.to_string(), "\"pay\" timed out: limit 30ms, ended after 30.5ms");
        assert_eq!(made.with_retry_after(limit).retry_after(), None);
    }

    #[test]
    fn time_out_of_somebody_elses_policy_keeps_its_limit_and_invents_no_retry_after() {
        let (limit, elapsed) = (Duration::from_millis(30), Duration::from_millis(40));
        for kind in ["LEASE_TIMEOUT", "BULKHEAD_QUEUE_TIMEOUT"] {
            let made = Rejection::timed_out(kind, &Name::new("p"), limit, elapsed);
            assert_eq!((made.limit(), made.elapsed()), (Some(limit), Some(elapsed)), "{kind}");
            assert_eq!((made.retry_after(), made.attempts()), (None, None), "{kind}");
        }
    }

    #[test]
    fn rejections_are_equal_by_what_they_say_not_by_what_their_names_met_before() {
        let (one, other) = (Name::new("p"), Name::new("p"));
        assert_ne!(Rejection::new("GATE_SHUT", &one), Rejection::new("DOOR_SHUT", &other));
        // `GATE_SHUT` is the first code of one name and the second of the other.
        assert_eq!(Rejection::new("GATE_SHUT", &one), Rejection::new("GATE_SHUT", &other));
    }

    #[test]
    fn extreme_times_saturate() {
        let name = Name::new("p");
        let made = Rejection::new("RATE_LIMITED", &name).with_retry_after(Duration::MAX);
        assert!(made.retry_after().unwrap() > Duration::from_secs(1 << 40));
        let made = Rejection::timed_out("TIMEOUT", &name, Duration::ZERO, Duration::MAX);
        assert!(made.elapsed().unwrap() > Duration::from_secs(4_000));
    }
}
