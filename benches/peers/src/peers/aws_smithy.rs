//! aws-smithy-runtime: the identity cache and the bearer signer of AWS's clients. The token request is the user's.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime::client::{auth::http::BearerAuthScheme, identity::IdentityCache};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        auth::{AuthScheme, AuthSchemeEndpointConfig},
        identity::{
            IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache, SharedIdentityResolver,
            http::Token,
        },
        orchestrator::HttpRequest,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};

use super::token_request::{fetch, margin};
use crate::{
    candidate::{About, Client, Failed, HEADERS, Marked, Peer, Renews, URL},
    endpoint::Endpoint,
    inner::Inner,
};

pub struct AwsSmithy;

struct Fetch {
    http: reqwest::Client,
    url: String,
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").finish_non_exhaustive()
    }
}

impl ResolveIdentity for Fetch {
    fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let asked = SystemTime::now();
            let fetched = fetch(&self.http, &self.url).await?;
            Ok(Token::new(fetched.secret, Some(asked + fetched.life)).into())
        })
    }
}

/// The cache and the signer, called as the client's orchestrator calls them; the rest of the orchestrator is left out.
struct Auth {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    scheme: BearerAuthScheme,
    components: RuntimeComponents,
    config: ConfigBag,
}

impl Auth {
    async fn authorize(&self, request: &mut HttpRequest) -> Result<(), BoxError> {
        let Self { cache, resolver, scheme, components, config } = self;
        let identity = cache.resolve_cached_identity(resolver.clone(), components, config).await?;
        scheme.signer().sign_http_request(request, &identity, AuthSchemeEndpointConfig::empty(), components, config)
    }
}

#[derive(Clone)]
pub struct Orchestrated<I> {
    auth: Option<Arc<Auth>>,
    inner: I,
}

impl<I: Inner> Client for Orchestrated<I> {
    type Request = HttpRequest;

    fn request() -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(URL).expect("a URL");
        for (name, value) in HEADERS {
            request.headers_mut().insert(name, value);
        }
        request.add_extension(Marked);
        request
    }

    async fn send(&mut self, mut request: HttpRequest) -> Result<(), Failed> {
        if let Some(auth) = &self.auth {
            auth.authorize(&mut request).await.map_err(|error| Failed(error.to_string()))?;
        }
        self.inner.receive(&request, |request| request.headers().get("authorization"));
        Ok(())
    }
}

impl Peer for AwsSmithy {
    const ABOUT: About = About {
        name: "aws-smithy",
        crates: &["aws-smithy-runtime", "aws-smithy-runtime-api"],
        how: "`IdentityCache::lazy()` and the signer of `BearerAuthScheme`, called as the orchestrator calls them, \
              with its own request type",
        life: Duration::from_millis(500),
        usable: Duration::from_millis(300),
        renews: Renews::InARequest,
    };

    type Client<I: Inner> = Orchestrated<I>;
    type Bare<I: Inner> = Orchestrated<I>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Orchestrated<I> {
        // 10 s are its default too.
        let cache = IdentityCache::lazy().buffer_time(margin(endpoint.life())).build();
        let resolver = Fetch { http: reqwest::Client::new(), url: endpoint.url() };
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build()
            .expect("all components are there");
        let auth = Auth {
            cache,
            resolver: SharedIdentityResolver::new(resolver),
            scheme: BearerAuthScheme::new(),
            components,
            config: ConfigBag::base(),
        };
        Orchestrated { auth: Some(Arc::new(auth)), inner }
    }

    fn bare<I: Inner>(inner: I) -> Orchestrated<I> {
        Orchestrated { auth: None, inner }
    }
}
