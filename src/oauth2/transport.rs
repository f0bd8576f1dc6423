//! The way to the token endpoint: any tower HTTP service, reqwest by default; and the reading of an answer of bounded size.

use std::{error, fmt, io};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use zeroize::Zeroizing;

use crate::BoxError;

/// Sends one request and returns the answer.
pub(crate) type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<AnswerBody>, BoxError>;
/// What was read of a body.
pub(crate) struct Read {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) end: End,
}

/// How it ended.
pub(crate) enum End {
    Whole,
    TooLong,
    Broke(BoxError),
}

type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// Any service that speaks HTTP, as a transport.
pub(crate) fn of_service<S, B>(service: S) -> Transport
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service
        .map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync()))
        .map_err(Into::into);
    BoxCloneSyncService::new(service)
}

/// Reads a body of at most so many bytes.
pub(crate) async fn read(mut body: AnswerBody, longest: usize) -> Read {
    let mut read = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        // A body that is always ready and never ends (of empty frames) would leave no room for the timeout around this.
        tokio::task::consume_budget().await;
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Read { bytes: read, end: End::Broke(error) },
        };
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > longest {
            return Read { bytes: read, end: End::TooLong };
        }
        if read.capacity() < read.len() + data.len() {
            // Grown by hand, because a `Vec` that grows leaves what it held in memory that nobody wipes.
            let mut longer = Zeroizing::new(Vec::with_capacity((2 * (read.len() + data.len())).min(longest)));
            longer.extend_from_slice(&read);
            read = longer;
        }
        read.extend_from_slice(&data);
    }
    Read { bytes: read, end: End::Whole }
}

/// Says that a request to a token endpoint was never sent, for HTTP services of your own: with it in the chain of an error's sources, a
/// refresh token isn't taken for spent.
///
/// ```
/// use std::io;
/// use tower_bearer::oauth2::NotSent;
///
/// /// What a service returns as its error when it found no connection in its pool.
/// fn pool_is_empty() -> NotSent {
///     NotSent::because(io::Error::other("the pool is empty"))
/// }
/// assert_eq!(pool_is_empty().to_string(), "the request was not sent: the pool is empty");
/// ```
#[derive(Debug)]
pub struct NotSent(BoxError);

impl NotSent {
    /// What kept it from being sent.
    pub fn because(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request was not sent: {}", self.0)
    }
}

impl error::Error for NotSent {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        // The cause's own text is part of ours, so the chain goes on behind it.
        self.0.source()
    }
}

/// Whether there never was a connection to send it on.
pub(crate) fn is_unsent(error: &(dyn error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        #[cfg(feature = "reqwest")]
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        #[cfg(feature = "hyper-util")]
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        // What is inside an I/O error isn't its source.
        let refused = |error: &io::Error| {
            error.kind() == io::ErrorKind::ConnectionRefused || error.get_ref().is_some_and(|inner| is_unsent(inner))
        };
        error.is::<NotSent>() || error.downcast_ref().is_some_and(refused)
    })
}

/// How many bytes of an answer are read. Those of real servers have one to ten KiB; a success may bring a refresh token that can't be had
/// again, so that it may be longer.
pub(crate) fn longest(status: StatusCode) -> usize {
    if status.is_success() { 1024 * 1024 } else { 64 * 1024 }
}

#[cfg(feature = "reqwest")]
pub(crate) mod with_reqwest {
    use std::{
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use reqwest::{Client, redirect::Policy};

    use super::{BodyExt, BoxError, Bytes, Full, Request, Response, Service, Transport};

    /// reqwest as it is when nobody chooses: no redirects (they would carry the client's secret elsewhere), and connections
    /// that don't lie idle for hours between two requests.
    ///
    /// # Errors
    /// reqwest's, if TLS can't be set up.
    pub(crate) fn default() -> Result<Transport, BoxError> {
        let client = Client::builder()
            .redirect(Policy::none())
            // Sooner than an exchange is given up: then it is certain that nothing was sent, and nothing spent.
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("tower-bearer/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(of_client(client))
    }

    /// A client that the user made.
    pub(crate) fn of_client(client: Client) -> Transport {
        super::of_service(Adapter(client))
    }

    #[derive(Clone)]
    struct Adapter(Client);

    impl Service<Request<Full<Bytes>>> for Adapter {
        type Response = Response<reqwest::Body>;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
            let client = self.0.clone();
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = reqwest::Request::try_from(Request::from_parts(head, body))?;
                let asked = request.url().clone();
                let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
                if *response.url() != asked {
                    return Err("the HTTP client followed a redirect, with the client's credentials: build it with \
                                `redirect(Policy::none())`"
                        .into());
                }
                Ok(response.into())
            })
        }
    }
}
