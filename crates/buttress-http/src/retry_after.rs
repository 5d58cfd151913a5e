use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// Longer waits are cut to this: nobody waits a year, and sums of times must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// No valid value is longer; a longer one is not even read.
const LONGEST_TEXT: usize = 64;

/// The wait that a `Retry-After` header asks for: whole seconds, or an HTTP date (RFC 9110, section 10.2.3).
///
/// A date that has passed asks for no wait. `None` where there is no such header, or it says something else.
/// At most a year; a policy clamps it further.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.is_empty() || text.len() > LONGEST_TEXT {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than an u64 holds are a number all the same.
        return Some(text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // Only the wall clock can be compared with a date.
    Some(date.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).ok()?);
        retry_after(&headers)
    }

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
        let soon = SystemTime::now().checked_add(Duration::from_secs(100)).unwrap();
        let wait = read(&httpdate::fmt_http_date(soon)).unwrap();
        assert!((Duration::from_secs(95)..=Duration::from_secs(100)).contains(&wait), "{wait:?}");
    }

    // fault R18
    #[test]
    fn hostile_values_are_no_wait_or_a_bounded_one() {
        for text in
            ["-1", "1e18", "NaN", "12abc", "", "1.5", "Infinity", &"9".repeat(65), &"x".repeat(10_240)]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("9999999999"), Some(LONGEST));
        assert_eq!(read("99999999999999999999999999"), Some(LONGEST));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let century = SystemTime::now().checked_add(LONGEST * 100).unwrap();
        assert_eq!(read(&httpdate::fmt_http_date(century)), Some(LONGEST));
        assert_eq!(read("Sun, 99 Nov 9999 99:99:99 GMT"), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_at_most_a_year(text in ".{0,80}") {
            prop_assert!(read(&text).is_none_or(|wait| wait <= LONGEST));
        }
    }
}
