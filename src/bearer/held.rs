//! A 401 that is held while its token is renewed, and returned if that fails. Nobody reads its body meanwhile.
//!
//! A body that nobody reads takes room: in HTTP/1 its connection; in HTTP/2 a part of the window that all streams of a connection share
//! (RFC 9113 §5.2), and the token response may come over the same connection. So a live token holds only a few 401s at a time. The others
//! are dropped, which frees their room. If the renewal fails, their requests are sent again with the current token, and the API repeats its
//! response. (If that token has expired meanwhile, they fail for want of a token.)

use http::{HeaderMap, HeaderName, header::CONTENT_LENGTH};

use super::Link;
use crate::live::{MOST_HELD, Sharded};

/// A response that is held. Dropping it frees its room.
pub(super) struct Held<T> {
    response: T,
    _room: Room,
}

impl<T> Held<T> {
    /// Holds a response whose body takes this much room; `None` if there is no room. `must_be_held`: the request may turn out not to be
    /// whole when it is sent again.
    pub(super) fn new(response: T, kib: u16, link: &Sharded<Link>, must_be_held: bool) -> Option<Self> {
        let has_room = link.token.make_room(kib, must_be_held);
        has_room.then(|| Self { response, _room: Room { kib, link: link.clone() } })
    }

    pub(super) fn into_response(self) -> T {
        self.response
    }
}

struct Room {
    kib: u16,
    link: Sharded<Link>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.link.token.free_room(self.kib);
    }
}

/// How much room the body of a response with these headers takes, in KiB.
pub(super) fn size(headers: &HeaderMap) -> u16 {
    // A gRPC response with its status in the headers has no body.
    if headers.contains_key(&GRPC_STATUS) {
        return 0;
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.map_or(UNKNOWN, |length| u16::try_from(length.div_ceil(1024)).unwrap_or(u16::MAX))
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Assumed for a body of unknown length: one of those is held at a time.
const UNKNOWN: u16 = MOST_HELD;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_a_response_takes() {
        for (name, value, expected) in [
            ("content-length", "0", 0),
            ("content-length", "1", 1),
            ("content-length", "1024", 1),
            ("content-length", "1025", 2),
            ("content-length", "18446744073709551615", u16::MAX),
            ("content-length", "-1", UNKNOWN),
            ("content-length", "many", UNKNOWN),
            ("transfer-encoding", "chunked", UNKNOWN),
            ("grpc-status", "16", 0),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(size(&headers), expected, "{name}: {value}");
        }
    }
}
