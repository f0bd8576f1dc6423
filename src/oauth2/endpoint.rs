//! The token endpoint (RFC 6749 §3.2): where it is, how the client proves itself to it, and one exchange with it.

use std::{
    borrow::Cow,
    error, fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    response::Parts,
};
use http_body::Body;
use http_body_util::Full;
use secrecy::SecretString;
use tower::{Service, ServiceExt};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{
    Form,
    client_auth::{Client, ClientAuth},
    excerpt::Masks,
    refusal::{EndpointError, GrantKind},
    response::Answer,
    transport::{self, Read, Transport},
};
use crate::{
    BoxError, FetchError,
    clock::{Clock, SystemClock},
    store::TokenSet,
};

/// A token endpoint, and how the client proves to it who it is.
///
/// ```
/// use tower_bearer::oauth2::TokenEndpoint;
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// assert!(TokenEndpoint::new("http://id.example.com/token").is_err()); // the secret in clear text
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Clone)]
pub struct TokenEndpoint {
    uri: Uri,
    client: ClientAuth,
    /// The user's, or the crate's own from the first exchange on: setting up TLS takes milliseconds.
    transport: Arc<OnceLock<Transport>>,
    clock: Arc<dyn Clock>,
}

impl TokenEndpoint {
    /// The endpoint at this URL: https, or http on loopback.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] if it is no such URL, or holds user info or a fragment.
    pub fn new(url: &str) -> Result<Self, InvalidEndpoint> {
        let endpoint = Self::insecure_http(url)?;
        let is_loopback = match Url::parse(url).as_ref().map(Url::host) {
            Ok(Some(Host::Ipv4(address))) => address.is_loopback(),
            Ok(Some(Host::Ipv6(address))) => address.is_loopback(),
            // RFC 6761 §6.3.
            Ok(Some(Host::Domain(name))) => name == "localhost" || name.ends_with(".localhost"),
            _ => false,
        };
        if endpoint.uri.scheme_str() == Some("https") || is_loopback {
            Ok(endpoint)
        } else {
            Err(InvalidEndpoint("plain http shows the client's secret to everybody on the way: use https".into()))
        }
    }

    /// The same, with plain `http` to any host: whoever is on the way can read the client's secret and the tokens. For networks
    /// that encrypt below HTTP (a service mesh, a VPN).
    ///
    /// # Errors
    /// [`InvalidEndpoint`] if it is no http or https URL, or holds user info or a fragment.
    pub fn insecure_http(url: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |why: &'static str| InvalidEndpoint(Cow::Borrowed(why));
        let url = Url::parse(url).map_err(|error| InvalidEndpoint(error.to_string().into()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(invalid("it doesn't begin with https:// (or http://)"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it holds user info: call `client_secret_basic` instead"));
        }
        // RFC 6749 §3.2.
        if url.fragment().is_some() {
            return Err(invalid("it has a fragment"));
        }
        let uri = url.as_str().parse().map_err(|_| invalid("it can't be sent in a request"))?;
        Ok(Self { uri, client: ClientAuth::Unset, transport: Arc::default(), clock: Arc::new(SystemClock) })
    }

    /// Id and secret in HTTP Basic, form-encoded first, as RFC 6749 §2.3.1 asks. Makes a difference to
    /// [`client_secret_basic_raw`](Self::client_secret_basic_raw) only if there is more in them than letters, digits and `-._*`.
    #[must_use]
    pub fn client_secret_basic(self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.client(ClientAuth::Basic(Client { id: id.into(), secret: secret.into() }))
    }

    /// Id and secret in HTTP Basic as they are, for servers that don't decode them.
    #[must_use]
    pub fn client_secret_basic_raw(self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.client(ClientAuth::BasicRaw(Client { id: id.into(), secret: secret.into() }))
    }

    /// Id and secret as `client_id` and `client_secret` in the form (RFC 6749 §2.3.1).
    #[must_use]
    pub fn client_secret_post(self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.client(ClientAuth::Post(Client { id: id.into(), secret: secret.into() }))
    }

    /// A client without a secret: `client_id` alone in the form (RFC 6749 §2.1).
    #[must_use]
    pub fn public_client(self, id: impl Into<String>) -> Self {
        self.client(ClientAuth::Public { id: id.into() })
    }

    /// Sends the requests through this service instead of the crate's own client: for proxies, client certificates, tracing,
    /// or an HTTP library of your own.
    ///
    /// It must not follow redirects: the client's secret would go with them (RFC 9700 §4.12).
    #[must_use]
    pub fn http_service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.transport = Arc::new(transport::of_service(service).into());
        self
    }

    /// Sends the requests through this client. Build it with `redirect(Policy::none())`: an answer that came by a redirect is
    /// refused.
    #[cfg(feature = "reqwest")]
    #[must_use]
    pub fn reqwest_client(mut self, client: reqwest::Client) -> Self {
        self.transport = Arc::new(transport::with_reqwest::of_client(client).into());
        self
    }

    /// Another wall clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn client(mut self, client: ClientAuth) -> Self {
        self.client = client;
        self
    }

    /// Sends a form and reads the token set in the answer, for grants: `limit` is how long it may take altogether.
    ///
    /// # Errors
    /// A [`FetchError`] with what to do next; behind it an [`EndpointError`] with what happened.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection. Whether the server has acted by then, nobody knows.
    pub async fn exchange(&self, form: Form, limit: Duration) -> Result<TokenSet, FetchError> {
        let unsent = |text: &str| EndpointError { status: None, code: None, text: text.to_owned() };
        let proof = self.client.prove(form).map_err(|why| FetchError::rejected(unsent(why)))?;
        let transport = self.transport().map_err(|error| FetchError::rejected(unsent(&error.to_string())))?;

        let mut secrets = self.client.sent();
        // Some gateways take a key there.
        let query = self.uri.query().unwrap_or_default().as_bytes();
        secrets.extend(form_urlencoded::parse(query).map(|(_, value)| Zeroizing::new(value.into_owned())));
        let masks = Masks::new(proof.form.values().chain(secrets.iter().map(|secret| secret.as_str())));
        let mut request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(Full::new(proof.form.urlencoded()))
            .map_err(|error| FetchError::rejected(unsent(&error.to_string())))?;
        if let Some(authorization) = proof.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }

        let requested_at = self.clock.wall();
        let answered = tokio::time::timeout(limit, send(transport, request)).await;
        let failed = |status: Option<StatusCode>, what: &str| {
            let answer = status.map(|status| format!("answered {status}, but ")).unwrap_or_default();
            let text = format!("the token endpoint {answer}{what}");
            FetchError::try_again(EndpointError { status, code: None, text })
        };
        let (head, body) = match answered {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                return Err(failed(None, &format!("gave no answer: {}", masks.excerpt(&chain(&*error)))));
            }
            Err(_) => return Err(failed(None, &format!("gave no whole answer within {limit:?}"))),
        };
        let body = match body {
            Ok(Some(body)) => body,
            Ok(None) => return Err(failed(Some(head.status), "with more than 64 KiB")),
            Err(error) => {
                let what = format!("the answer broke off: {}", masks.excerpt(&chain(&*error)));
                return Err(failed(Some(head.status), &what));
            }
        };
        let answer = Answer { status: head.status, headers: &head.headers, body: &body, now: self.clock.wall() };
        let brought = answer.read(GrantKind::Repeatable, &masks)?;
        Ok(TokenSet {
            access_token: brought.access_token,
            refresh_token: brought.refresh_token,
            scope: brought.scope,
            lifetime: brought.lifetime,
            requested_at,
            version: 1,
        })
    }

    fn transport(&self) -> Result<Transport, BoxError> {
        match self.transport.get() {
            Some(transport) => Ok(transport.clone()),
            #[cfg(feature = "reqwest")]
            None => {
                let transport = transport::with_reqwest::default()?;
                Ok(self.transport.get_or_init(|| transport).clone())
            }
            #[cfg(not(feature = "reqwest"))]
            None => Err("there is no HTTP client: call `http_service`, or enable the feature `reqwest`".into()),
        }
    }
}

/// Sends, and reads to the end.
async fn send(transport: Transport, request: Request<Full<Bytes>>) -> Result<(Parts, Read), BoxError> {
    let (head, body) = transport.oneshot(request).await?.into_parts();
    Ok((head, transport::read(body).await))
}

/// An error with its causes: the outermost of an HTTP client says little ("error sending request").
fn chain(error: &(dyn error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = (self.uri.scheme_str(), self.uri.authority(), self.uri.path());
        let url = format!("{}://{}{}", place.0.unwrap_or_default(), place.1.map_or("", |host| host.as_str()), place.2);
        f.debug_struct("TokenEndpoint").field("url", &url).finish_non_exhaustive()
    }
}

/// Why a text is no URL of a [`TokenEndpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint(Cow<'static, str>);

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the URL of a token endpoint: {}", self.0)
    }
}

impl error::Error for InvalidEndpoint {}
