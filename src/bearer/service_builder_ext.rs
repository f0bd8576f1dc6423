//! The layer as a method of tower's builder.

use tower::{ServiceBuilder, layer::util::Stack};

use super::{BearerAuthLayer, Origin};
use crate::LiveToken;

/// Adds [`BearerAuthLayer`] to [`ServiceBuilder`] as a method. Requires the feature `tower`, which `oauth2` includes.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_bearer::{AccessToken, LiveToken, Origin, ServiceBuilderExt as _};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let http_client = tower::service_fn(|_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new(())) });
/// let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let client = ServiceBuilder::new()
///     .concurrency_limit(64)
///     .bearer_auth(token, Origin::parse("https://api.example.com")?)
///     .service(http_client);
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
pub trait ServiceBuilderExt<L>: sealed::Sealed {
    /// Sends this token to this origin: [`BearerAuthLayer::new`] without options. With options, use `layer(BearerAuthLayer::new(…)…)`. See
    /// the example of [`ServiceBuilderExt`].
    fn bearer_auth(self, token: LiveToken, origin: Origin) -> ServiceBuilder<Stack<BearerAuthLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn bearer_auth(self, token: LiveToken, origin: Origin) -> ServiceBuilder<Stack<BearerAuthLayer, L>> {
        self.layer(BearerAuthLayer::new(token, origin))
    }
}

mod sealed {
    pub trait Sealed {}

    impl<L> Sealed for tower::ServiceBuilder<L> {}
}
