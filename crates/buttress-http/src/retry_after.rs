use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{DATE, HeaderName, RETRY_AFTER},
};

/// Longer waits are cut to this: nobody waits a year, and sums of times must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// No valid value is longer; a longer one is not even read.
const LONGEST_TEXT: usize = 64;

/// The wait that a `Retry-After` header asks for: seconds, or an HTTP date (RFC 9110, section 10.2.3).
///
/// Seconds may have a fraction, which RFC 9110 does not know and servers send. A date may have one of the obsolete forms
/// (RFC 850, asctime). It is compared with the response's own `Date`, as what both say is the server's clock; without
/// a `Date` that can be read, with the clock of this machine. A date that has passed asks for no wait.
///
/// `None` if there is no such header, or it says something else. At most a year; a policy clamps it further.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse()?);
/// headers.insert("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT".parse()?);
/// assert_eq!(buttress_http::retry_after(&headers), Some(Duration::from_secs(10)));
/// headers.insert("retry-after", "2.5".parse()?);
/// assert_eq!(buttress_http::retry_after(&headers), Some(Duration::from_millis(2500)));
/// # Ok::<_, http::header::InvalidHeaderValue>(())
/// ```
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = short(headers, RETRY_AFTER)?;
    if let Some(wait) = seconds(text) {
        return Some(wait.min(LONGEST));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let sent = short(headers, DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    // Only the wall clock can be compared with a date.
    let now = sent.unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default().min(LONGEST))
}

/// The text of a header, if it has no more of it than a number or a date can have.
fn short(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (text.len() <= LONGEST_TEXT).then_some(text)
}

/// Seconds, perhaps with a fraction, which is rounded up to nanoseconds.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // More digits than an u64 holds are a number all the same.
    let whole = whole.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST);
    let (kept, cut) = fraction.split_at(fraction.len().min(9));
    let nanos = format!("{kept:0<9}").parse().unwrap_or(0_u64);
    let more = u64::from(cut.bytes().any(|digit| digit != b'0'));
    Some(whole.saturating_add(Duration::from_nanos(nanos.saturating_add(more))))
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

    const SECOND: Duration = Duration::from_secs(1);

    fn read_at(date: &str, text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_str(date).ok()?);
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).ok()?);
        retry_after(&headers)
    }

    // Servers send it, though it is not valid: who is told 2.5 must not be back after 13 ms.
    #[test]
    fn fraction_of_a_second_is_read_and_never_cut_short() {
        assert_eq!(read("2.5"), Some(Duration::from_millis(2500)));
        assert_eq!(read("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(read("1.0"), Some(SECOND));
        assert_eq!(read("3.000000001"), Some(3 * SECOND + Duration::from_nanos(1)));
        assert_eq!(read("3.0000000001"), Some(3 * SECOND + Duration::from_nanos(1)));
        assert_eq!(read("0.9999999999"), Some(SECOND));
        assert_eq!(read("31536000.5"), Some(LONGEST));
        for text in ["2.", ".5", ".", "1.2.3", "1,5", "2.5s", "+2.5", "2.5e3", "0x2.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    // Where the clocks are apart, the client was back at once, or never.
    #[test]
    fn date_is_compared_with_that_of_the_response_whatever_the_clock_here_says() {
        let hour = Duration::from_secs(3600);
        let now = SystemTime::now();
        for there in [now.checked_sub(hour).unwrap(), now, now.checked_add(hour).unwrap()] {
            let date = httpdate::fmt_http_date(there);
            let until = |after| httpdate::fmt_http_date(there.checked_add(after).unwrap());
            assert_eq!(read_at(&date, &until(10 * SECOND)), Some(10 * SECOND));
            assert_eq!(read_at(&date, &date), Some(Duration::ZERO));
            assert_eq!(read_at(&until(10 * SECOND), &date), Some(Duration::ZERO));
            assert_eq!(read_at(&date, "7"), Some(7 * SECOND));
        }
        // Without a date that can be read, there is only the clock here.
        let soon = httpdate::fmt_http_date(now.checked_add(100 * SECOND).unwrap());
        for date in ["", "yesterday", "Sun, 99 Nov 9999 99:99:99 GMT", &"9".repeat(1000)] {
            let wait = read_at(date, &soon).unwrap();
            assert!((95 * SECOND..=100 * SECOND).contains(&wait), "{wait:?}");
        }
        let far = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(read_at("Thu, 01 Jan 1970 00:00:00 GMT", far), Some(LONGEST));
        assert_eq!(read_at(far, "Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn obsolete_forms_of_dates_are_read() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for later in
            ["Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994", "Sun, 06 Nov 1994 08:50:37 GMT"]
        {
            assert_eq!(read_at(date, later), Some(60 * SECOND), "{later}");
            assert_eq!(read_at(later, later), Some(Duration::ZERO), "{later}");
        }
        for odd in
            ["Sunday, 06-Nov-94", "Sun Nov 6 08:50:37", "06 Nov 1994", "Sunday, 99-Foo-94 08:50:37 GMT"]
        {
            assert_eq!(read_at(date, odd), None, "{odd}");
        }
    }

    #[test]
    fn hostile_values_are_no_wait_or_a_bounded_one() {
        for text in
            ["-1", "1e18", "NaN", "12abc", "", "-1.5", "Infinity", &"9".repeat(65), &"x".repeat(10_240)]
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
        fn any_text_gives_at_most_a_year(text in ".{0,80}", date in ".{0,80}") {
            prop_assert!(read(&text).is_none_or(|wait| wait <= LONGEST));
            prop_assert!(read_at(&date, &text).is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn what_looks_like_a_date_or_a_number_gives_at_most_a_year(
            text in "[A-Z][a-z]{2,5}, ?[0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{2,4} [0-9:]{8} GMT|[0-9]{1,40}[.]?[0-9]{0,20}",
            date in "[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        ) {
            prop_assert!(read(&text).is_none_or(|wait| wait <= LONGEST));
            prop_assert!(read_at(&date, &text).is_none_or(|wait| wait <= LONGEST));
        }
    }
}
