//! The layer: its options, and what all of its services share.

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
/// - A request to a foreign origin, one that the layer was not made for, fails and is not sent. So a redirect that is followed above the
///   layer can't carry the token away. A URI that is only a path counts as the first origin.
/// - While there is a valid token, no request waits. Without one a request waits at most [`max_wait`](Self::max_wait), and fails at once if
///   no token can come in that time.
/// - A 401 renews the token. The request is sent again with the next one if its body allows it ([`replay`]). While the API may not know a
///   new token yet, the request is sent again up to five times.
/// - An `Authorization` header that a request brings is replaced. [`keep_authorization`](Self::keep_authorization) changes that.
///
/// Put it innermost, right around the client. Then the token is chosen when the request is sent, and not before the request waits in a
/// queue.
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
///
/// With options:
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let token = LiveToken::builder(AccessToken::new("secret")?).name("documents").spawn();
/// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?)
///     .also_origin(Origin::parse("https://files.example.com")?)
///     .max_wait(Duration::from_secs(3))
///     .keep_authorization()
///     .ask_requests();
/// assert_eq!(layer.token().name(), Some("documents"));
/// # Ok(())
/// # }
/// ```
#[must_use = "a layer does nothing until it wraps a service"]
pub struct BearerAuthLayer<P = replay::Auto> {
    link: Sharded<Link>,
    policy: P,
}

impl BearerAuthLayer {
    /// A layer that sends this token to this origin. See the example of [`BearerAuthLayer`].
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

    /// A layer with a live token of its own, from this source: [`LiveToken::spawn`] and [`BearerAuthLayer::new`] in one. See the example of
    /// [`TokenFile`](crate::TokenFile).
    ///
    /// # Panics
    /// As [`LiveToken::spawn`]: outside of a tokio runtime, and in a runtime without time.
    #[track_caller]
    pub fn spawn(source: impl IntoTokenSource, origin: Origin) -> Self {
        Self::new(LiveToken::spawn(source), origin)
    }
}

impl<P> BearerAuthLayer<P> {
    /// Sends the token to this origin, too. See the example of [`BearerAuthLayer`].
    pub fn also_origin(self, origin: Origin) -> Self {
        self.with(|link| link.fence.admit(origin))
    }

    /// Sends the token to any https origin. Whoever can make this client request a URL, or redirect it, gets the token.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// // For a token that is worth nothing to others.
    /// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?).dangerous_any_https_origin();
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    pub fn dangerous_any_https_origin(self) -> Self {
        self.with(|link| link.fence.admit_any_https())
    }

    /// How long a request may wait for a token. Default: 10 s.
    ///
    /// A request can spend this time twice: once before it is first sent, and once after 401s, for all of its 401s together. A gRPC
    /// deadline shortens both waits. See the example of [`BearerAuthLayer`].
    pub fn max_wait(self, wait: Duration) -> Self {
        self.with(|link| link.max_wait = wait)
    }

    /// Keeps an `Authorization` header that a request brings. Such a request is sent unchanged, to any origin, and its response is
    /// returned, whatever it is. Default: the header is replaced, so a proxy never forwards a caller's credentials. See the example of
    /// [`BearerAuthLayer`].
    pub fn keep_authorization(self) -> Self {
        self.with(|link| link.keeps_authorization = true)
    }

    /// Reads options of single requests, [`PerRequest`](crate::PerRequest), from their extensions. Default: no. It has no effect on a
    /// `reqwest::Request`, whose extensions can't be read. See the example of [`BearerAuthLayer`].
    pub fn ask_requests(self) -> Self {
        self.with(|link| link.asks_requests = true)
    }

    /// Judges each response by this function. For APIs that respond with 403 to an expired token, or with 401 for other reasons. Default:
    /// [`OnUnauthorized::by_rule`].
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
    ///         // This API means "not found" by that.
    ///         StatusCode::UNAUTHORIZED if !headers.contains_key(WWW_AUTHENTICATE) => OnUnauthorized::HandOn,
    ///         _ => OnUnauthorized::by_rule(status, headers),
    ///     }
    /// });
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A request that the [replay policy](crate::replay) doesn't keep then costs an allocation. After
    /// [`without_recovery`](Self::without_recovery) the function isn't called.
    pub fn on_unauthorized<F>(self, judge: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> OnUnauthorized + Send + Sync + 'static,
    {
        self.with(|link| link.judge = Some(Judge::new(judge)))
    }

    /// Sets the [replay policy](crate::replay): which requests are kept to be sent again after a 401. Default: [`replay::Auto`].
    ///
    /// ```
    /// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay::Never};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?).replay(Never);
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    pub fn replay<Q>(self, policy: Q) -> BearerAuthLayer<Q> {
        BearerAuthLayer { link: self.link, policy }
    }

    /// Returns each 401 and draws no conclusions from it: the token is renewed on schedule only. For APIs that respond with 401 for reasons
    /// other than the token. The same as [`replay`](Self::replay) with [`replay::Off`]. If both are called, the last one counts.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let token = LiveToken::spawn(AccessToken::new("secret")?);
    /// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?).without_recovery();
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_recovery(self) -> BearerAuthLayer<replay::Off> {
        self.replay(replay::Off)
    }

    /// The live token of this layer. See the example of [`BearerAuthLayer`].
    pub fn token(&self) -> &LiveToken {
        &self.link.token
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Link)) -> Self {
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
