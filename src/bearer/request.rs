//! The types of requests and responses that work with a token: those of `http`, and reqwest's own.

use std::num::NonZeroU32;

use http::{Extensions, HeaderMap, Method, StatusCode};

use super::origin::{self, Fence};

/// A request that can carry a token: [`http::Request`] with any body, and `reqwest::Request`. Sealed. See the example of
/// [`BearerAuthLayer`](crate::BearerAuthLayer).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no request that can carry a token",
    label = "neither `http::Request<_>` nor `reqwest::Request` (0.13, with the feature `reqwest`)",
    note = "a type of that name is of another version (`cargo tree --duplicates` shows it; http 1 and reqwest 0.13 fit), or the feature is missing"
)]
pub trait HttpRequest: sealed::Request {}

/// A response that can refuse a token: [`http::Response`] with any body, and `reqwest::Response`. Sealed. See the example of
/// [`BearerAuthLayer`](crate::BearerAuthLayer).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no response that can refuse a token",
    label = "neither `http::Response<_>` nor `reqwest::Response` (0.13, with the feature `reqwest`)",
    note = "a type of that name is of another version (`cargo tree --duplicates` shows it; http 1 and reqwest 0.13 fit), or the feature is missing"
)]
pub trait HttpResponse: sealed::Response {}

impl<B> HttpRequest for http::Request<B> {}
impl<B> HttpResponse for http::Response<B> {}

pub(crate) mod sealed {
    use super::{Extensions, Fence, HeaderMap, Method, NonZeroU32, StatusCode};

    pub trait Request {
        /// Whether the request may carry the token.
        fn is_within(&self, fence: &Fence) -> bool;
        fn describe_origin(&self) -> String;
        /// Where the request is sent, as far as it says. If the client follows redirects itself, the response is compared with this.
        fn mark(&self) -> Mark;
        fn method(&self) -> &Method;
        fn headers(&self) -> &HeaderMap;
        fn headers_mut(&mut self) -> &mut HeaderMap;
        /// `None` if the request doesn't show them.
        fn extensions(&self) -> Option<&Extensions>;
    }

    pub trait Response {
        fn status(&self) -> StatusCode;
        fn headers(&self) -> &HeaderMap;
        /// Whether the response comes from where the request was sent, as far as that is known.
        fn whence(&self, sent_to: Mark) -> Whence;
    }

    /// Tells URLs apart in four bytes, by hashes: 24 bits for the origin, 8 for the rest. Two URLs may look the same. `None`, the default:
    /// unknown, so any response counts as the request's own.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Mark(pub(super) Option<NonZeroU32>);

    /// Where a response comes from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Whence {
        /// From the URL of the request.
        Asked,
        /// From another URL of the same origin. Redirects lead there, perhaps through other origins. Then the token was lost on the way.
        Redirected,
        /// From another origin, to which the token was not sent.
        Elsewhere,
    }
}

impl<B> sealed::Request for http::Request<B> {
    #[inline]
    fn is_within(&self, fence: &Fence) -> bool {
        fence.admits(self.uri())
    }

    fn describe_origin(&self) -> String {
        origin::describe(self.uri())
    }

    #[inline]
    fn mark(&self) -> sealed::Mark {
        sealed::Mark::default()
    }

    fn method(&self) -> &Method {
        self.method()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn extensions(&self) -> Option<&Extensions> {
        Some(self.extensions())
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

    fn whence(&self, _: sealed::Mark) -> sealed::Whence {
        sealed::Whence::Asked
    }
}

#[cfg(feature = "reqwest")]
mod for_reqwest {
    use reqwest::{Request, Response, Url};

    use super::{Extensions, Fence, HeaderMap, HttpRequest, HttpResponse, Method, NonZeroU32, StatusCode, sealed};

    impl HttpRequest for Request {}
    impl HttpResponse for Response {}

    impl sealed::Request for Request {
        fn is_within(&self, fence: &Fence) -> bool {
            is_within(fence, self.url())
        }

        fn describe_origin(&self) -> String {
            self.url().origin().ascii_serialization()
        }

        fn mark(&self) -> sealed::Mark {
            mark(self.url())
        }

        fn method(&self) -> &Method {
            self.method()
        }

        fn headers(&self) -> &HeaderMap {
            self.headers()
        }

        fn headers_mut(&mut self) -> &mut HeaderMap {
            self.headers_mut()
        }

        fn extensions(&self) -> Option<&Extensions> {
            None
        }
    }

    impl sealed::Response for Response {
        fn status(&self) -> StatusCode {
            self.status()
        }

        fn headers(&self) -> &HeaderMap {
            self.headers()
        }

        /// reqwest follows redirects itself, and removes the token if they lead to another host or port. A response from there says nothing
        /// about the token, even if the layer would send the token there. It doesn't tell the way that a request took.
        fn whence(&self, sent_to: sealed::Mark) -> sealed::Whence {
            let (Some(asked), Some(answered)) = (sent_to.0, mark(self.url()).0) else { return sealed::Whence::Asked };
            if asked == answered {
                sealed::Whence::Asked
            } else if asked.get() >> 8 == answered.get() >> 8 {
                sealed::Whence::Redirected
            } else {
                sealed::Whence::Elsewhere
            }
        }
    }

    fn mark(url: &Url) -> sealed::Mark {
        let port = url.port_or_known_default().unwrap_or_default().to_be_bytes();
        let origin = hash([url.scheme().as_bytes(), &port, url.host_str().unwrap_or_default().as_bytes()]);
        // Without the fragment, which isn't sent.
        let rest = hash([url.path().as_bytes(), b"?", url.query().unwrap_or_default().as_bytes()]);
        sealed::Mark(NonZeroU32::new(origin & !0xff | rest >> 24))
    }

    /// FNV-1a: a few multiplications, which are nothing beside the cost of a reqwest request.
    fn hash(parts: [&[u8]; 3]) -> u32 {
        let bytes = parts.into_iter().flatten();
        bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    fn is_within(fence: &Fence, url: &Url) -> bool {
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
