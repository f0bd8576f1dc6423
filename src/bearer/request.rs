//! The requests and responses that a token can travel with: those of `http`, and reqwest's own.

use http::{HeaderMap, StatusCode};

use super::origin::{self, Fence};

/// A request that can carry a token: [`http::Request`] with any body, and `reqwest::Request`. Sealed.
pub trait HttpRequest: sealed::Request {}

/// A response that can refuse a token: [`http::Response`] with any body, and `reqwest::Response`. Sealed.
pub trait HttpResponse: sealed::Response {}

impl<B> HttpRequest for http::Request<B> {}
impl<B> HttpResponse for http::Response<B> {}

pub(crate) mod sealed {
    use super::{Fence, HeaderMap, StatusCode};

    pub trait Request {
        fn is_admitted(&self, fence: &Fence) -> bool;
        fn describe_origin(&self) -> String;
        /// Where it is sent to, for those who follow redirects inside.
        fn mark(&self) -> Mark;
        fn headers_mut(&mut self) -> &mut HeaderMap;
    }

    pub trait Response {
        fn status(&self) -> StatusCode;
        fn headers(&self) -> &HeaderMap;
        /// Whether the answer comes from where the request was sent to, as far as can be told.
        fn is_from(&self, sent_to: Mark) -> bool;
    }

    /// Tells origins apart in little space: a hash, so that two of them may look the same (one pair in four thousand million).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Mark(pub(super) u32);
}

impl<B> sealed::Request for http::Request<B> {
    #[inline]
    fn is_admitted(&self, fence: &Fence) -> bool {
        fence.admits(self.uri())
    }

    fn describe_origin(&self) -> String {
        origin::describe(self.uri())
    }

    #[inline]
    fn mark(&self) -> sealed::Mark {
        sealed::Mark::default()
    }

    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

impl<B> sealed::Response for http::Response<B> {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn is_from(&self, _: sealed::Mark) -> bool {
        true
    }
}

#[cfg(feature = "reqwest")]
mod for_reqwest {
    use reqwest::{Request, Response, Url};

    use super::{Fence, HeaderMap, HttpRequest, HttpResponse, StatusCode, sealed};

    impl HttpRequest for Request {}
    impl HttpResponse for Response {}

    impl sealed::Request for Request {
        fn is_admitted(&self, fence: &Fence) -> bool {
            admits(fence, self.url())
        }

        fn describe_origin(&self) -> String {
            self.url().origin().ascii_serialization()
        }

        fn mark(&self) -> sealed::Mark {
            mark(self.url())
        }

        fn headers_mut(&mut self) -> &mut HeaderMap {
            self.headers_mut()
        }
    }

    impl sealed::Response for Response {
        fn status(&self) -> StatusCode {
            self.status()
        }

        fn headers(&self) -> &HeaderMap {
            self.headers()
        }

        /// reqwest follows redirects inside, and takes the token off where they lead to another host or port: what is answered
        /// there says nothing about the token, even if the layer would send it there when asked to.
        fn is_from(&self, sent_to: sealed::Mark) -> bool {
            mark(self.url()) == sent_to
        }
    }

    /// FNV-1a: a few multiplications, which a request of reqwest's doesn't notice.
    fn mark(url: &Url) -> sealed::Mark {
        let port = url.port_or_known_default().unwrap_or_default().to_be_bytes();
        let parts = [url.scheme().as_bytes(), &port, url.host_str().unwrap_or_default().as_bytes()];
        let hash = parts
            .into_iter()
            .flatten()
            .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        sealed::Mark(hash)
    }

    fn admits(fence: &Fence, url: &Url) -> bool {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return false,
        };
        match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) => fence.admits_parts(https, host, port),
            _ => false,
        }
    }
}
