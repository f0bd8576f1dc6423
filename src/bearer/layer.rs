//! The layer: options, and what every service of it shares.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{BearerAuth, Link, Origin, origin::Fence, replay};
use crate::{IntoTokenSource, LiveToken};

/// Puts a live token on every request: `Authorization: Bearer …` (RFC 6750 §2.1).
///
/// - A request to an origin that the layer was not made for is an error, and is not sent: a redirect followed above the layer
///   can't carry the token away. URIs that are only a path count as the first origin.
/// - While there is a valid token, no request waits. Without one it waits up to [`max_wait`](Self::max_wait), less if waiting is
///   in vain.
/// - A 401 renews the token; the request is sent again, once, if its body allows it ([`replay`]).
/// - An `Authorization` header that a request brings is replaced.
///
/// Put it innermost, right around the client: then the token is chosen when the request is sent, not before it waits in a queue.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, header::AUTHORIZATION};
/// use http_body_util::Empty;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_bearer::BoxError> {
/// # let http_client = service_fn(|request: Request<Empty<Bytes>>| async move {
/// #     assert_eq!(request.headers()[AUTHORIZATION], "Bearer secret");
/// #     Ok::<_, std::io::Error>(Response::new(()))
/// # });
/// let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let mut client = ServiceBuilder::new()
///     .layer(BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?))
///     .service(http_client);
///
/// let request = Request::get("https://api.example.com/documents").body(Empty::<Bytes>::new())?;
/// let response = client.ready().await?.call(request).await?;
/// # assert!(response.status().is_success());
/// # Ok(())
/// # }
/// ```
#[must_use = "a layer does nothing until it wraps a service"]
pub struct BearerAuthLayer<P = replay::Auto> {
    token: LiveToken,
    fence: Fence,
    max_wait: Duration,
    recovers: bool,
    policy: P,
}

impl BearerAuthLayer {
    /// A layer that sends this token to this origin.
    pub fn new(token: LiveToken, origin: Origin) -> Self {
        Self { token, fence: Fence::around(origin), max_wait: MAX_WAIT, recovers: true, policy: replay::Auto }
    }

    /// The same, with a token of its own from this source: [`LiveToken::spawn`] and [`BearerAuthLayer::new`] in one.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(source: impl IntoTokenSource, origin: Origin) -> Self {
        Self::new(LiveToken::spawn(source), origin)
    }
}

impl<P> BearerAuthLayer<P> {
    /// Sends the token to this origin as well.
    pub fn also_origin(mut self, origin: Origin) -> Self {
        self.fence.admit(origin);
        self
    }

    /// Sends the token to whatever https origin a request names. Whoever can make this client request a URL, or redirect it,
    /// gets the token.
    pub fn dangerous_any_https_origin(mut self) -> Self {
        self.fence.admit_any_https();
        self
    }

    /// How long a request may wait for a token, before it is first sent and once more after a 401. 10 s unless said otherwise.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Which requests are sent again after a 401: [`replay::Auto`] unless said otherwise.
    pub fn replay<Q>(self, policy: Q) -> BearerAuthLayer<Q> {
        let Self { token, fence, max_wait, recovers, policy: _ } = self;
        BearerAuthLayer { token, fence, max_wait, recovers, policy }
    }

    /// Hands on every 401 and draws no conclusions from it: the token is renewed on its schedule only. For APIs that answer 401
    /// for reasons other than the token.
    pub fn without_recovery(mut self) -> BearerAuthLayer<replay::Never> {
        self.recovers = false;
        self.replay(replay::Never)
    }

    /// The token that this layer sends.
    pub fn token(&self) -> &LiveToken {
        &self.token
    }
}

impl<S: Clone, P: Clone> Layer<S> for BearerAuthLayer<P> {
    type Service = BearerAuth<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let link = Link {
            token: self.token.clone(),
            fence: self.fence.clone(),
            max_wait: self.max_wait,
            recovers: self.recovers,
        };
        BearerAuth::new(inner, Arc::new(link), self.policy.clone())
    }
}

impl<P: Clone> Clone for BearerAuthLayer<P> {
    fn clone(&self) -> Self {
        Self {
            token: self.token.clone(),
            fence: self.fence.clone(),
            max_wait: self.max_wait,
            recovers: self.recovers,
            policy: self.policy.clone(),
        }
    }
}

impl<P> fmt::Debug for BearerAuthLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthLayer")
            .field("token", &self.token)
            .field("fence", &self.fence)
            .field("max_wait", &self.max_wait)
            .field("recovers", &self.recovers)
            .finish_non_exhaustive()
    }
}

/// Long enough for one slow exchange with a token endpoint, short enough for a person who waits.
const MAX_WAIT: Duration = Duration::from_secs(10);
