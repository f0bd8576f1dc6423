//! One request to an authorization server, and its whole response, within one time limit.

use std::{
    error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    response::Parts,
};
use http_body_util::Full;
use tower::ServiceExt;
use zeroize::Zeroizing;

use super::{Form, TokenEndpoint, address, transport::Transport};
use crate::{
    BoxError, FetchError,
    error::is_unsent,
    oauth2::{
        EndpointError, TokenSet,
        endpoint_error::verdict::may_have_acted,
        grant::GrantKind,
        masking::Masks,
        response::{
            EndpointResponse,
            body::{self, End, Read},
            shape::ResponseShape,
            token_response::TokenResponse,
        },
    },
};

/// A response that arrived, and what an error must not show of it.
pub(crate) struct Arrived {
    /// The endpoint's URL without its query, to be shown.
    pub(crate) endpoint: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// Why the body isn't complete.
    pub(crate) broken: Option<FetchError>,
    pub(crate) masks: Masks,
    pub(crate) shape: Arc<ResponseShape>,
    /// By the wall clock.
    pub(crate) requested_at: SystemTime,
    pub(crate) answered_at: SystemTime,
}

impl TokenEndpoint {
    /// Sends a form, and reads the token set in the response. For grants; [`Grant`](crate::oauth2::Grant) has an example. `limit` is the time
    /// limit for connecting, sending and reading together.
    ///
    /// If the response has a refresh token but no usable access token, the set has the refresh token alone. It must not be lost, because
    /// the old one may be spent for it.
    ///
    /// # Errors
    /// A [`FetchError`] says what to do next. Its cause is an [`EndpointError`] that says what happened.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection. The server may have acted by then.
    pub async fn exchange(&self, form: Form, limit: Duration) -> Result<TokenSet, FetchError> {
        self.exchange_as(GrantKind::of(form.grant_type()), form, limit).await
    }

    /// [`exchange`](Self::exchange) for a grant of which more is known than its name.
    pub(crate) async fn exchange_as(
        &self,
        grant: GrantKind,
        form: Form,
        limit: Duration,
    ) -> Result<TokenSet, FetchError> {
        self.post(&self.uri, form, limit).await?.token_set(grant)
    }

    /// Sends a form to one of the authorization server's endpoints, with the client's authentication.
    pub(crate) async fn post(&self, to: &Uri, form: Form, limit: Duration) -> Result<Arrived, FetchError> {
        let authenticated =
            self.client.authenticate(form).map_err(|why| FetchError::rejected(EndpointError::unsent(why)))?;
        let masks =
            self.masks(to, authenticated.form.secrets()).with_white_space(self.white_space(&authenticated.form));
        let (content_type, body) = authenticated.form.encode(self.encoding).await.map_err(FetchError::rejected)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = to.clone();
        request.headers_mut().insert(&CONTENT_TYPE, content_type);
        self.send(request, authenticated.authorization, masks, limit).await
    }

    /// Sends a request, and reads the whole response.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        authorization: Option<HeaderValue>,
        masks: Masks,
        limit: Duration,
    ) -> Result<Arrived, FetchError> {
        let unsent = |error: BoxError| FetchError::rejected(EndpointError::unsent(&error.to_string()));
        let transport = self.transport().map_err(unsent)?;
        request.headers_mut().insert(&ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            request.headers_mut().insert(&AUTHORIZATION, authorization);
        }
        let endpoint = address::without_query(request.uri());
        let requested_at = self.clock.wall();
        let answered = tokio::time::timeout(limit, send_and_read(transport, request)).await;
        let failed = |status: Option<StatusCode>, acted: bool, what: &str| {
            let response = status.map(|status| format!("answered {status}, but ")).unwrap_or_default();
            let text = format!("the authorization server at {endpoint} {response}{what}");
            FetchError::try_again(EndpointError { status, code: None, text, acted })
        };
        let (head, body) = match answered {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                let what = format!("gave no answer: {}", masks.excerpt(&chain(&*error)));
                return Err(failed(None, !is_unsent(&*error), &what));
            }
            Err(_) => return Err(failed(None, true, &format!("gave no whole answer within {limit:?}"))),
        };
        let what = match &body.end {
            End::Whole => None,
            End::TooLong => Some(format!("with more than {} KiB", body::longest(head.status) / 1024)),
            End::Broke(error) => Some(format!("the answer broke off: {}", masks.excerpt(&chain(&**error)))),
        };
        let broken = what.map(|what| failed(Some(head.status), may_have_acted(head.status, None), &what));
        let (answered_at, body) = (self.clock.wall(), body.bytes);
        let shape = self.shape.clone();
        let arrived = Arrived {
            endpoint,
            status: head.status,
            headers: head.headers,
            body,
            broken,
            masks,
            shape,
            requested_at,
            answered_at,
        };
        match &arrived.broken {
            // A success that broke off may still hold a refresh token.
            Some(error) if !arrived.status.is_success() => Err(error.clone()),
            _ => Ok(arrived),
        }
    }
}

impl Arrived {
    pub(crate) fn response(&self) -> EndpointResponse<'_> {
        EndpointResponse {
            endpoint: &self.endpoint,
            status: self.status,
            headers: &self.headers,
            body: &self.body,
            shape: &self.shape,
            now: self.answered_at,
        }
    }

    /// The response, or why it isn't complete.
    pub(crate) fn whole(self) -> Result<Self, FetchError> {
        match self.broken {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    pub(crate) fn token_set(&self, grant: GrantKind) -> Result<TokenSet, FetchError> {
        let tokens = match &self.broken {
            None => self.response().read_tokens(grant, &self.masks)?,
            Some(error) => self.response().salvage(error.clone())?,
        };
        Ok(self.with(tokens))
    }

    /// The token set of a response, with the time of its request.
    pub(crate) fn with(&self, tokens: TokenResponse) -> TokenSet {
        TokenSet {
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            scope: tokens.scope,
            lifetime: tokens.lifetime,
            refresh_lifetime: tokens.refresh_lifetime,
            requested_at: self.requested_at,
            refresh_requested_at: self.requested_at,
            flaw: tokens.flaw,
            worked: false,
        }
    }
}

/// Sends the request, and reads the response's body.
async fn send_and_read(transport: Transport, request: Request<Full<Bytes>>) -> Result<(Parts, Read), BoxError> {
    let (head, body) = transport.oneshot(request).await?.into_parts();
    let read = body::read(body, body::longest(head.status)).await;
    Ok((head, read))
}

/// An error's text with those of its sources: an HTTP client's own says little ("error sending request").
fn chain(error: &(dyn error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The time limit of a request that a user waits for: introspection, revocation, verification.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(30);
