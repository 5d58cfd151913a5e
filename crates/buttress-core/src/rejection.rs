use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use crate::{Class, Code, FailedTwice, Name, Verdict, error::Ended};

/// A refusal: which policy, why, whether the request was sent, and when to try again.
///
/// 24 bytes; making, cloning and dropping one allocates nothing. Times are exact to the microsecond (limits) or the
/// millisecond (retry-after) as long as they are short: whole microseconds up to 268 s, milliseconds up to 74 h,
/// seconds up to 8 years; what is cut is rounded up.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejection {
    code: &'static Code,
    name: Name,
    // From the top: sent (1), timed (1), a time (2 bits of unit, 28 of value), and attempts or for time-outs how far
    // past the limit the call ended, in µs (32). 8 more bytes would cost every success 2 to 3 instructions, because
    // each `Result` on the way is larger.
    word: u64,
}

const SENT: u64 = 1 << 63;
/// The end of a call that took too long: the time is its limit, not a retry-after.
const TIMED: u64 = 1 << 62;
const TIME_AT: u32 = 32;
const VALUE_BITS: u32 = 28;
const VALUE: u64 = (1 << VALUE_BITS) - 1;
/// No time: the largest value in the coarsest unit.
const NO_TIME: u64 = (3 << VALUE_BITS) | VALUE;
const COUNT: u64 = u32::MAX as u64;
/// Microseconds, milliseconds, seconds, 2^16 seconds, each in nanoseconds.
const UNITS: [u128; 4] = [1_000, 1_000_000, 1_000_000_000, 65_536_000_000_000];
const MICROS: usize = 0;
const MILLIS: usize = 1;

/// A time in 30 bits, in the finest unit that has room for it, but none finer than this one.
#[inline]
fn pack(time: Duration, finest: usize) -> u64 {
    if finest == MILLIS {
        // Nearly every retry-after is in whole milliseconds that fit.
        let part = u64::from(time.subsec_nanos().div_ceil(1_000_000));
        let millis = time.as_secs().saturating_mul(1_000).saturating_add(part);
        if millis <= VALUE {
            return (1 << VALUE_BITS) | millis;
        }
    }
    pack_any(time, finest)
}

fn pack_any(time: Duration, finest: usize) -> u64 {
    let nanos = time.as_nanos();
    let units = UNITS.iter().enumerate().skip(finest);
    let fits = |(at, unit): (usize, &u128)| {
        let value = u64::try_from(nanos.div_ceil(*unit)).ok().filter(|value| *value <= VALUE)?;
        Some(((at as u64) << VALUE_BITS) | value).filter(|packed| *packed != NO_TIME)
    };
    // The longest time there is, if it is longer than can be said.
    units.into_iter().find_map(fits).unwrap_or(NO_TIME - 1)
}

fn unpack(packed: u64) -> Option<Duration> {
    let unit = UNITS.get((packed >> VALUE_BITS) as usize).filter(|_| packed != NO_TIME)?;
    let nanos = u128::from(packed & VALUE).saturating_mul(*unit);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

impl Rejection {
    /// Makes a refusal by the policy of this name, or the end of a call that had been sent, as the code has it.
    #[inline]
    pub fn new(code: &'static Code, policy: &Name) -> Self {
        let sent = if code.is_sent() { SENT } else { 0 };
        let timed = if matches!(code.class(), Class::TimedOut) { TIMED } else { 0 };
        Self { code, name: policy.clone(), word: sent | timed | (NO_TIME << TIME_AT) }
    }

    /// Makes the end of a call that ran into `limit` after `elapsed`.
    pub fn timed_out(code: &'static Code, policy: &Name, limit: Duration, elapsed: Duration) -> Self {
        let over = u32::try_from(elapsed.saturating_sub(limit).as_micros()).unwrap_or(u32::MAX);
        let word = SENT | TIMED | (pack(limit, MICROS) << TIME_AT) | u64::from(over);
        Self { code, name: policy.clone(), word }
    }

    /// Says when to try again, from now on. Rounded up to whole milliseconds. Without effect on time-outs.
    #[inline]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        if !self.is_timed() {
            self.word = (self.word & !(NO_TIME << TIME_AT)) | (pack(after, MILLIS) << TIME_AT);
        }
        self
    }

    /// Says how many attempts were made. Without effect on time-outs.
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        if !self.is_timed() {
            self.word = (self.word & !COUNT) | u64::from(attempts);
        }
        self
    }

    /// Says whether the request may have reached the inner service.
    pub fn with_sent(mut self, sent: bool) -> Self {
        self.word = if sent { self.word | SENT } else { self.word & !SENT };
        self
    }

    /// Why, such as `CIRCUIT_OPEN`: a constant of the pattern's crate.
    pub fn code(&self) -> &'static Code {
        self.code
    }

    /// The name of the policy that refused.
    pub fn policy(&self) -> &str {
        &self.name
    }

    /// The name as it is shared by the policy.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The key that was refused, if the policy is one by key and says which. Not in what is displayed: a key may be
    /// a secret.
    pub fn key(&self) -> Option<&str> {
        self.name.key()
    }

    fn is_timed(&self) -> bool {
        self.word & TIMED != 0
    }

    fn time(&self) -> Option<Duration> {
        unpack((self.word >> TIME_AT) & NO_TIME)
    }

    fn count(&self) -> u32 {
        (self.word & COUNT) as u32
    }

    /// When a new try may succeed, from the moment of the refusal on. Rounded up to whole milliseconds.
    pub fn retry_after(&self) -> Option<Duration> {
        self.time().filter(|_| !self.is_timed())
    }

    /// Whether the request may have reached the inner service. `false` is certain; `true` means "do not assume
    /// that nothing happened". What a retry or a fallback returns is about all that was tried.
    pub fn was_sent(&self) -> bool {
        self.word & SENT != 0
    }

    /// The limit a call ran into, for time-outs.
    pub fn limit(&self) -> Option<Duration> {
        self.time().filter(|_| self.is_timed())
    }

    /// How long the call had run when it was ended, for time-outs.
    pub fn elapsed(&self) -> Option<Duration> {
        self.limit().map(|limit| limit.saturating_add(Duration::from_micros(self.count().into())))
    }

    /// How many attempts were made, if the policy says so.
    pub fn attempts(&self) -> Option<u32> {
        (!self.is_timed() && self.count() > 0).then(|| self.count())
    }

    /// Whether this stands for "it took too long": the time-outs, and a wait for a turn that was, or would have
    /// been, too long.
    pub fn is_timeout(&self) -> bool {
        self.code.is_slow()
    }

    /// What the rejection means to a policy further out: a call that was never sent says nothing about the
    /// service ([`Verdict::Ignore`]); a time-out is a failure; exhausted retries are a permanent one, and so is what
    /// was refused after an earlier attempt had been sent, unless the caller asked too much.
    pub fn verdict(&self) -> Verdict {
        if !self.was_sent() {
            Verdict::Ignore
        } else if self.code.is_permanent() && !self.is_timed() {
            Verdict::permanent()
        } else {
            Verdict::transient()
        }
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Rejection");
        out.field("code", &self.code.as_str())
            .field("policy", &self.name)
            .field("was_sent", &self.was_sent());
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
        let sentence = self.code.sentence();
        let (before, after) = sentence.split_once("{}").unwrap_or((sentence, ""));
        write!(f, "{before}{:?}{after}", self.policy())?;
        if let Some(limit) = self.limit() {
            write!(f, ": limit {limit:?}")?;
            if self.count() > 0 {
                write!(f, ", ended after {:?}", self.elapsed().unwrap_or_default())?;
            }
        }
        if let Some(attempts) = self.attempts() {
            write!(f, " after {attempts} attempts")?;
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
/// use buttress_core::{Code, Name, Rejection, rejection};
///
/// const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
/// let refused: Box<dyn std::error::Error + Send + Sync> =
///     Rejection::new(OPEN, &Name::new("payments")).into();
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
        if let Some(ended) = error.downcast_ref::<Ended>() {
            return Some(ended.rejection());
        }
        next = inside(error);
    }
    None
}

/// What an error holds: its source. An I/O error made of another one, and a shared error, give away only that one's
/// source, and so hide what a connector was refused with. Of two failures the later one counts: what the first one was
/// refused with is no refusal of the whole.
pub(crate) fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(held);
    }
    // As redis has them.
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(&**shared);
    }
    if let Some(twice) = error.downcast_ref::<FailedTwice>() {
        return Some(twice.last());
    }
    error.source()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{EXHAUSTED, LIMITED, OPEN, QUEUE_TIMEOUT, TIMEOUT};

    const SHUT: &Code = &Code::refused("GATE_SHUT");

    #[test]
    fn rejection_is_24_bytes_also_as_an_option() {
        assert!(size_of::<Rejection>() <= 24);
        assert!(size_of::<Option<Rejection>>() <= 24);
        assert!(size_of::<Result<u64, Rejection>>() <= 24);
    }

    #[test]
    fn refusal_is_found_in_io_errors_and_in_shared_ones() {
        let refused = || Rejection::new(OPEN, &Name::new("p"));
        let shared: Arc<dyn StdError + Send + Sync> = Arc::new(io::Error::other(refused()));
        assert_eq!(rejection(&shared), Some(&refused()));
        let shared: Arc<dyn StdError + Send + Sync> = Arc::new(refused());
        assert_eq!(rejection(&io::Error::other(shared)), Some(&refused()));
    }

    #[test]
    fn codes_stand_in_match_arms_and_are_equal_by_what_they_say() {
        // Another crate's copy of the same words.
        static COPY: Code = Code::refused("CIRCUIT_OPEN").says("circuit {} is OPEN");
        let made = Rejection::new(&COPY, &Name::new("p"));
        assert!(matches!(made.code(), OPEN));
        assert_eq!((made.code(), made.code().as_str()), (OPEN, "CIRCUIT_OPEN"));
        assert!(!matches!(Rejection::new(SHUT, &Name::new("p")).code(), OPEN | TIMEOUT));
    }

    #[test]
    fn open_circuit_says_open_and_when_to_retry() {
        let made = Rejection::new(OPEN, &Name::new("pay")).with_retry_after(Duration::from_micros(4_200_001));
        assert_eq!(made.to_string(), "circuit \"pay\" is OPEN; retry in 4.201s");
        assert_eq!(made.retry_after(), Some(Duration::from_millis(4_201)));
        assert!(!made.was_sent());
    }

    #[test]
    fn exhausted_retries_say_after_how_many_attempts() {
        let made = Rejection::new(EXHAUSTED, &Name::new("pay")).with_attempts(4);
        assert_eq!(made.to_string(), "retries of \"pay\" are exhausted after 4 attempts");
        assert!(made.was_sent());
    }

    #[test]
    fn time_out_carries_limit_and_elapsed() {
        let (limit, elapsed) = (Duration::from_millis(30), Duration::from_micros(30_500));
        let made = Rejection::timed_out(TIMEOUT, &Name::new("pay"), limit, elapsed);
        assert_eq!((made.limit(), made.elapsed()), (Some(limit), Some(elapsed)));
        assert_eq!(made.to_string(), "\"pay\" timed out: limit 30ms, ended after 30.5ms");
        assert_eq!(made.with_retry_after(limit).retry_after(), None);
    }

    #[test]
    fn time_out_of_somebody_elses_policy_keeps_its_limit_and_invents_no_retry_after() {
        const LEASE_TIMEOUT: &Code = &Code::refused("LEASE_TIMEOUT");
        let (limit, elapsed) = (Duration::from_millis(30), Duration::from_millis(40));
        for code in [LEASE_TIMEOUT, QUEUE_TIMEOUT] {
            let made = Rejection::timed_out(code, &Name::new("p"), limit, elapsed);
            assert_eq!((made.limit(), made.elapsed()), (Some(limit), Some(elapsed)), "{code}");
            assert_eq!((made.retry_after(), made.attempts()), (None, None), "{code}");
        }
    }

    #[test]
    fn retry_after_and_attempts_go_together() {
        let after = Duration::from_millis(70);
        let made = Rejection::new(OPEN, &Name::new("p")).with_attempts(7).with_retry_after(after);
        assert_eq!((made.attempts(), made.retry_after(), made.limit()), (Some(7), Some(after), None));
    }

    #[test]
    fn key_is_told_and_is_not_displayed() {
        let name = Name::new("tenants").with_key("acme");
        let made = Rejection::new(OPEN, &name);
        assert_eq!((made.policy(), made.key()), ("tenants", Some("acme")));
        assert_eq!(made.to_string(), "circuit \"tenants\" is OPEN");
        assert!(!format!("{made:?}").contains("acme"));
        assert_eq!(Rejection::new(OPEN, &Name::new("tenants")).key(), None);
    }

    #[test]
    fn rejections_are_equal_by_what_they_say() {
        const DOOR: &Code = &Code::refused("DOOR_SHUT");
        let (one, other) = (Name::new("p"), Name::new("p"));
        assert_ne!(Rejection::new(SHUT, &one), Rejection::new(DOOR, &other));
        assert_eq!(Rejection::new(SHUT, &one), Rejection::new(SHUT, &other));
    }

    #[test]
    fn times_are_never_shortened_and_are_exact_where_there_is_room() {
        let name = Name::new("p");
        for millis in [0, 1, 999, 60_000, 268_000_000, 268_435_455] {
            let after = Duration::from_millis(millis);
            assert_eq!(Rejection::new(OPEN, &name).with_retry_after(after).retry_after(), Some(after));
        }
        for nanos in [0, 1, 999, 1_001, 30_000_000, 268_435_455_000, 268_435_455_001, u64::MAX] {
            let limit = Duration::from_nanos(nanos);
            let kept = Rejection::timed_out(TIMEOUT, &name, limit, limit).limit().unwrap();
            assert!(kept >= limit && kept <= limit.saturating_mul(2) + Duration::from_micros(1), "{limit:?}");
        }
    }

    #[test]
    fn extreme_times_saturate() {
        let name = Name::new("p");
        let made = Rejection::new(LIMITED, &name).with_retry_after(Duration::MAX);
        assert!(made.retry_after().unwrap() > Duration::from_secs(1 << 40));
        let made = Rejection::timed_out(TIMEOUT, &name, Duration::ZERO, Duration::MAX);
        assert!(made.elapsed().unwrap() > Duration::from_secs(4_000));
    }
}
