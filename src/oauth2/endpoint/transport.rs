//! The HTTP client for token requests: any tower service, by default reqwest.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::BoxError;

/// Sends one request and returns the response.
pub(crate) type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<AnswerBody>, BoxError>;

type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// Makes a transport of an HTTP service.
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

#[cfg(feature = "reqwest")]
pub(crate) mod with_reqwest {
    use std::{
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use reqwest::{Client, redirect::Policy};

    use super::{BodyExt, BoxError, Bytes, Full, Request, Response, Service, Transport};

    /// The default client. It follows no redirects, which would carry the client's secret elsewhere, and keeps no idle connections for
    /// hours.
    ///
    /// # Errors
    /// reqwest's, if TLS can't be set up.
    pub(crate) fn default() -> Result<Transport, BoxError> {
        let client = Client::builder()
            .redirect(Policy::none())
            // Shorter than the time limit of an exchange: so it is certain that nothing was sent, and nothing spent.
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("tower-bearer/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(of_client(client))
    }

    /// The user's client.
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
                let requested_url = request.url().clone();
                let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
                if *response.url() != requested_url {
                    return Err("the HTTP client followed a redirect, with the client's credentials: build it with \
                                `redirect(Policy::none())`"
                        .into());
                }
                Ok(response.into())
            })
        }
    }
}
