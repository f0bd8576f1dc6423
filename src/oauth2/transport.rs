//! The way to the token endpoint: any tower HTTP service, reqwest by default; and the reading of an answer of bounded size.

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
