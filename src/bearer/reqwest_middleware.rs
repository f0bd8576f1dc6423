//! The layer as a middleware of `reqwest-middleware`.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tower_layer::Layer;
use tower_service::Service;

use super::{BearerAuthLayer, PerRequest, replay::ReplayPolicy};

/// Puts the token on each request, recovers from a 401 and checks the origin, as around any other service.
///
/// Add it last, so that it is innermost. Middlewares that were added before it (tracing, retries) then get the response after the recovery,
/// and the token is chosen when the request is sent. An error of the inner client is returned as it was. An error of this layer is
/// [`Error::Middleware`] and contains a [`tower_bearer::Error`](crate::Error). If the layer reads [options of
/// requests](BearerAuthLayer::ask_requests), it looks for [`PerRequest`] in the request's extensions (`RequestBuilder::with_extension`).
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let client = ClientBuilder::new(reqwest::Client::new())
///     .with(BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?))
///     .build();
/// # let _ = client; // client.get("https://api.example.com/documents").send().await?
/// # Ok(())
/// # }
/// ```
impl<P> Middleware for BearerAuthLayer<P>
where
    P: ReplayPolicy<Request> + Clone + Send + Sync + 'static,
{
    // Written out as `async_trait` would do it. This crate needs that macro for nothing else.
    fn handle<'life0, 'life1, 'life2, 'run>(
        &'life0 self,
        request: Request,
        extensions: &'life1 mut Extensions,
        next: Next<'life2>,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + 'run>>
    where
        'life0: 'run,
        'life1: 'run,
        'life2: 'run,
        Self: 'run,
    {
        Box::pin(async move {
            let mut layer = self.clone();
            if self.link().asks_requests {
                let wishes: PerRequest = extensions.get().copied().unwrap_or_default();
                if wishes.wants_no_token() {
                    return next.run(request, extensions).await;
                }
                // The layer itself can't read them: a `reqwest::Request` doesn't show its extensions.
                layer = layer.with(|link| {
                    link.asks_requests = false;
                    link.max_wait = wishes.wait().unwrap_or(link.max_wait);
                });
            }
            let rest = Rest { next, extensions: Arc::new(Mutex::new(mem::take(extensions))) };
            // In `Drop`, so that the extensions come back even if this future is dropped: the caller may run other middlewares after it.
            let _back = Back { travelled: rest.extensions.clone(), to: extensions };
            let result = layer.layer(rest).call(request).await;
            result.map_err(|error| error.into_inner().unwrap_or_else(Error::middleware))
        })
    }
}

/// Puts the extensions back where they came from.
struct Back<'a> {
    travelled: Arc<Mutex<Extensions>>,
    to: &'a mut Extensions,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        *self.to = mem::take(&mut *lock(&self.travelled));
    }
}

/// The extensions of one attempt. They go back when it ends or is dropped.
struct Borrowed {
    from: Arc<Mutex<Extensions>>,
    extensions: Extensions,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        *lock(&self.from) = mem::take(&mut self.extensions);
    }
}

fn lock(extensions: &Mutex<Extensions>) -> MutexGuard<'_, Extensions> {
    extensions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rest of the stack after this middleware, as a service. The extensions go from one attempt to the next.
#[derive(Clone)]
struct Rest<'a> {
    next: Next<'a>,
    extensions: Arc<Mutex<Extensions>>,
}

impl<'a> Service<Request> for Rest<'a> {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { next, extensions: shared } = self.clone();
        Box::pin(async move {
            let extensions = mem::take(&mut *lock(&shared));
            let mut borrowed = Borrowed { from: shared, extensions };
            next.run(request, &mut borrowed.extensions).await
        })
    }
}
