//! Asking the server about a token in hand (RFC 7662).

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Form, TokenEndpoint, TokenSet, address,
    refusal::{EndpointError, GrantKind},
};
use crate::FetchError;

/// What an authorization server says about a token (RFC 7662 §2.2).
///
/// ```no_run
/// use tower_bearer::{LiveToken, oauth2::{RefreshToken, Stored, TokenEndpoint}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let told = endpoint.introspect("https://id.example.com/introspect", "access").await?;
/// if told.is_active() {
///     let set = told.to_token_set("access").with_refresh_token("refresh");
///     let token = LiveToken::spawn(Stored::new(RefreshToken::new(endpoint)).holding(set));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Introspection {
    active: bool,
    left: Option<Duration>,
    scope: Option<String>,
    client_id: Option<String>,
    username: Option<String>,
}

impl TokenEndpoint {
    /// Asks the introspection endpoint at this URL about a token, with the client's proof of who it is (RFC 7662 §2.1).
    ///
    /// # Errors
    /// [`FetchError::rejected`] if the URL is none, or if the server doesn't let this client ask; otherwise as for a token
    /// request. That the token isn't valid is no error.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn introspect(&self, url: &str, token: &str) -> Result<Introspection, FetchError> {
        let uri = address::parse(url, self.insecure).map_err(FetchError::rejected)?;
        let arrived = self.post(&uri, Form::empty().field("token", token), LIMIT).await?.whole()?;
        if !arrived.status.is_success() {
            return Err(arrived.answer().refusal(GrantKind::Repeatable, &arrived.masks));
        }
        let told: Told = serde_json::from_slice(&arrived.body).map_err(|_| {
            let text = format!("the authorization server answered {}, but no introspection", arrived.status);
            FetchError::try_again(EndpointError { status: Some(arrived.status), code: None, text, acted: true })
        })?;
        Ok(told.at(arrived.answered_at))
    }
}

impl Introspection {
    /// Whether the token is valid now.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The life it has left; `None` if the server doesn't say.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.left
    }

    /// Its scope, space-delimited.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The client it was issued to.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The user who authorized it, for people to read.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The access token that was asked about, with the life it has left, to be adopted.
    #[must_use]
    pub fn to_token_set(&self, access_token: &str) -> TokenSet {
        let mut set = TokenSet::of_access_token(access_token);
        set.lifetime = self.left;
        set.scope = self.scope.clone();
        set
    }
}

#[derive(Deserialize)]
struct Told {
    active: bool,
    exp: Option<Value>,
    scope: Option<String>,
    client_id: Option<String>,
    username: Option<String>,
}

impl Told {
    fn at(self, now: SystemTime) -> Introspection {
        let exp = self.exp.as_ref().and_then(|exp| exp.as_f64().or_else(|| exp.as_str()?.parse().ok()));
        let end = exp
            .and_then(|exp| Duration::try_from_secs_f64(exp).ok())
            .and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp));
        Introspection {
            active: self.active,
            left: end.map(|end| end.duration_since(now).unwrap_or_default()),
            scope: self.scope,
            client_id: self.client_id,
            username: self.username,
        }
    }
}

/// For a request that somebody waits for.
const LIMIT: Duration = Duration::from_secs(30);
