//! The layer: options, and what every service of it shares.

use std::{fmt, time::Duration};

use http::{HeaderMap, StatusCode};
use tower_layer::Layer;

use super::{BearerAuth, Judge, Link, OnUnauthorized, Origin, origin::Fence, replay};
use crate::{
    IntoTokenSource, LiveToken,
    live::{CellView, Sharded},
};

/// Puts a live token on every request: `Authorization: Bearer …` (RFC 6750 §2.1).
///
/// - A request to an origin that the layer was not made for is an error, and is not sent: a redirect followed above the layer
///   can't carry the token away. URIs that are only a path count as the first origin.
/// - While there is a valid token, no request waits. Without one it waits up to [`max_wait`](Self::max_wait), less if waiting is
///   in vain.
/// - A 401 renews the token; the request is sent again with the next one if its body allows it ([`replay`]). While the API may not know
///   a new token yet, it is sent again up to five times.
/// - An `Authorization` header that a request brings is replaced, unless [told otherwise](Self::keep_authorization).
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
    link: Sharded<Link>,
    policy: P,
}

impl BearerAuthLayer {
    /// A layer that sends this token to this origin.
    pub fn new(token: LiveToken, origin: Origin) -> Self {
        let link = Link {
            view: CellView::of(token.cell()),
            token,
            fence: Fence::around(origin),
            max_wait: MAX_WAIT,
            keeps_authorization: false,
            asks_requests: false,
            judge: None,
            inspects_requests: false,
        };
        Self { link: link.share(), policy: replay::Auto }
    }

    /// The same, with a token of its own from this source: [`LiveToken::spawn`] and [`BearerAuthLayer::new`] in one.
    ///
    /// # Panics
    /// As [`LiveToken::spawn`]: outside of a tokio runtime, and in one without time.
    #[track_caller]
    pub fn spawn(source: impl IntoTokenSource, origin: Origin) -> Self {
        Self::new(LiveToken::spawn(source), origin)
    }
}

impl<P> BearerAuthLayer<P> {
    /// Sends the token to this origin as well.
    pub fn also_origin(self, origin: Origin) -> Self {
        self.with(|link| link.fence.admit(origin))
    }

    /// Sends the token to whatever https origin a request names. Whoever can make this client request a URL, or redirect it,
    /// gets the token.
    pub fn dangerous_any_https_origin(self) -> Self {
        self.with(|link| link.fence.admit_any_https())
    }

    /// How long a request may wait for a token, before it is first sent, and in all after 401s. 10 s unless said otherwise.
    pub fn max_wait(self, wait: Duration) -> Self {
        self.with(|link| link.max_wait = wait)
    }

    /// Sends a request that brings an `Authorization` header with that one, untouched, wherever it goes, and hands on whatever is
    /// answered. Without this the header is replaced, so that a proxy that passes headers on is no confused deputy.
    pub fn keep_authorization(self) -> Self {
        self.with(|link| link.keeps_authorization = true)
    }

    /// Lets each request say what it wants different, by [`PerRequest`](crate::PerRequest) in its extensions.
    pub fn ask_requests(self) -> Self {
        self.with(|link| link.asks_requests = true)
    }

    /// Judges every response in place of the rule, [`OnUnauthorized::by_rule`]: for APIs that answer 403 to a token that has
    /// expired, or 401 for reasons of their own.
    ///
    /// ```
    /// use http::{StatusCode, header::WWW_AUTHENTICATE};
    /// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, OnUnauthorized, Origin};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?).on_unauthorized(|status, headers| {
    ///     match status {
    ///         StatusCode::FORBIDDEN => OnUnauthorized::Recover,
    ///         // This API's own word for "not found".
    ///         StatusCode::UNAUTHORIZED if !headers.contains_key(WWW_AUTHENTICATE) => OnUnauthorized::HandOn,
    ///         _ => OnUnauthorized::by_rule(status, headers),
    ///     }
    /// });
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A request that the [replay policy](crate::replay) doesn't keep costs an allocation then. After
    /// [`without_recovery`](Self::without_recovery) nobody is asked.
    pub fn on_unauthorized<F>(self, judge: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> OnUnauthorized + Send + Sync + 'static,
    {
        self.with(|link| link.judge = Some(Judge::new(judge)))
    }

    /// What a 401 sets off: [`replay::Auto`] unless said otherwise.
    pub fn replay<Q>(self, policy: Q) -> BearerAuthLayer<Q> {
        BearerAuthLayer { link: self.link, policy }
    }

    /// Hands on every 401 and draws no conclusions from it: the token is renewed on its schedule only. For APIs that answer 401
    /// for reasons other than the token. The same as [`replay`](Self::replay) with [`replay::Off`]; the last of them counts.
    pub fn without_recovery(self) -> BearerAuthLayer<replay::Off> {
        self.replay(replay::Off)
    }

    /// The token that this layer sends.
    pub fn token(&self) -> &LiveToken {
        &self.link.token
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    fn with(mut self, change: impl FnOnce(&mut Link)) -> Self {
        let mut link = Link::clone(&self.link);
        change(&mut link);
        self.link = link.share();
        self
    }
}

impl<S: Clone, P: Clone> Layer<S> for BearerAuthLayer<P> {
    type Service = BearerAuth<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuth::new(inner, self.link.clone(), self.policy.clone())
    }
}

impl<P: Clone> Clone for BearerAuthLayer<P> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone(), policy: self.policy.clone() }
    }
}

impl<P> fmt::Debug for BearerAuthLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthLayer").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Long enough for one slow exchange with a token endpoint, short enough for a person who waits.
const MAX_WAIT: Duration = Duration::from_secs(10);
