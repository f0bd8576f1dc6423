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
        fn headers_mut(&mut self) -> &mut HeaderMap;
    }

    pub trait Response {
        fn status(&self) -> StatusCode;
        fn headers(&self) -> &HeaderMap;
        /// Whether the answer comes from where the token was sent to, as far as can be told.
        fn is_from_within(&self, fence: &Fence) -> bool;
    }
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

    fn is_from_within(&self, _: &Fence) -> bool {
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

        /// reqwest follows redirects inside, and takes the token off where they lead to another host.
        fn is_from_within(&self, fence: &Fence) -> bool {
            admits(fence, self.url())
        }
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
