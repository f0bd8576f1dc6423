//! What is asked of everyone who takes part.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;

use crate::{endpoint::Endpoint, inner::Inner};

/// A way to put a live token on requests.
pub trait Peer: 'static {
    const ABOUT: About;

    /// Ready to send requests to an inner service, with a token.
    type Client<I: Inner>: Client;

    /// The same kind of request to the same inner service, without a token: what the peer can't be blamed for.
    type Bare<I: Inner>: Client<Request = <Self::Client<I> as Client>::Request>;

    /// Sets everything up as its documentation says.
    fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> impl Future<Output = Self::Client<I>> + Send;

    fn bare<I: Inner>(inner: I) -> Self::Bare<I>;
}

/// What a reader of the numbers has to know.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// As `--only` knows it.
    pub name: &'static str,
    /// The crates whose versions matter, the peer's own first.
    pub crates: &'static [&'static str],
    /// What was used, and how its users put it on a request.
    pub how: &'static str,
    /// How long the tokens of the refresh runs live, as the token endpoint announces it.
    pub life: Duration,
    /// How much of that goes by until the peer wants the next one at the latest: its life less the margin that it keeps.
    pub usable: Duration,
    /// Who renews: the request that finds the token too old, or a task of its own.
    pub renews: Renews,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renews {
    Never,
    InARequest,
    InTheBackground,
}

/// One user of a peer; clones share the token as the peer's own clones do.
pub trait Client: Clone + Send + 'static {
    type Request: Send + 'static;

    /// A GET with an https URL, five other headers, two of them with names of their own, and where requests have extensions, one.
    fn request() -> Self::Request;

    /// Puts the token on the request, hands it to the inner service and takes the answer.
    fn send(&mut self, request: Self::Request) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// The request was not sent; why doesn't matter for what is measured, but a run that fails for a reason unknown can't be mended.
#[derive(Debug)]
pub struct Failed(pub String);

impl<E: std::fmt::Debug> From<E> for Failed
where
    E: std::error::Error,
{
    fn from(error: E) -> Self {
        Self(format!("{error:?}"))
    }
}

pub type HttpRequest = Request<Empty<Bytes>>;

pub const ORIGIN: &str = "https://api.example.com";

pub const URL: &str = "https://api.example.com/v1/documents?page=2";

pub const HEADERS: [(&str, &str); 5] = [
    ("accept", "application/json"),
    ("accept-encoding", "gzip"),
    ("user-agent", "bench/1.0"),
    ("x-request-id", "0af7651916cd43dd8448eb211c80319c"),
    ("x-tenant", "example"),
];

/// As tracing and routing layers leave one behind.
#[derive(Clone, Debug)]
pub struct Marked;

/// The request of all peers that take those of the crate `http`.
pub fn http_request() -> HttpRequest {
    let mut request = Request::get(URL);
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    request.extension(Marked).body(Empty::new()).expect("constants make a request")
}
