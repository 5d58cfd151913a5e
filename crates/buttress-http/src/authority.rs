use std::borrow::Cow;

use buttress_core::KeyOf;
use http::{Request, header::HOST};

/// The key of a request is the authority that it goes to: host and port, in lower case. Of the URI, or else of the `Host`
/// header; empty if there is neither. For policies by key, and for those shown in events, log lines and refusals: a host
/// is no secret. User and password that a URI may have are not part of it.
///
/// Of requests that come in, a stranger chooses it.
///
/// ```
/// # mod buttress { pub mod http { pub use buttress_http::*; } pub use buttress_core::KeyOf; }
/// use buttress::{KeyOf, http::ByAuthority};
/// use http::Request;
///
/// let request = Request::get("https://user:secret@EU.example:8443/orders").body(()).unwrap();
/// assert_eq!(ByAuthority.with_key(&request, str::to_owned), "eu.example:8443");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByAuthority;

impl<B> KeyOf<Request<B>> for ByAuthority {
    type Key = str;

    fn with_key<T>(&self, req: &Request<B>, then: impl FnOnce(&str) -> T) -> T {
        let of_header = || req.headers().get(HOST).and_then(|host| host.to_str().ok());
        let whole = req.uri().authority().map(|whole| whole.as_str()).or_else(of_header).unwrap_or_default();
        let place = whole.rsplit_once('@').map_or(whole, |(_, place)| place);
        let upper = place.bytes().any(|byte| byte.is_ascii_uppercase());
        let key = if upper { Cow::Owned(place.to_ascii_lowercase()) } else { Cow::Borrowed(place) };
        then(&key)
    }

    fn show(&self, authority: &str) -> Option<String> {
        Some(authority.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(request: http::request::Builder) -> String {
        ByAuthority.with_key(&request.body(()).unwrap(), str::to_owned)
    }

    #[test]
    fn authority_is_of_the_uri_or_else_of_the_header() {
        assert_eq!(key(Request::get("http://a.example/x")), "a.example");
        assert_eq!(key(Request::get("http://A.Example:80/x").header(HOST, "b.example")), "a.example:80");
        assert_eq!(key(Request::get("/x").header(HOST, "B.example:81")), "b.example:81");
        assert_eq!(key(Request::get("/x")), "");
        assert_eq!(key(Request::get("/x").header(HOST, &b"\xff"[..])), "");
        assert_eq!(key(Request::get("http://[::1]:80/x")), "[::1]:80");
    }

    #[test]
    fn password_is_neither_in_the_key_nor_shown() {
        let request = Request::get("http://me:secret@a.example/x").body(()).unwrap();
        let shown = ByAuthority.with_key(&request, |key| KeyOf::<Request<()>>::show(&ByAuthority, key));
        assert_eq!(shown.as_deref(), Some("a.example"));
    }
}
