//! Token introspection (RFC 7662).

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::{
    EndpointError, Form, TokenEndpoint, TokenSet,
    endpoint::{address, exchange::REQUEST_LIMIT},
    grant::GrantKind,
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
/// let introspection = endpoint.introspect("https://id.example.com/introspect", "access").await?;
/// if introspection.is_active() {
///     let set = introspection.to_token_set("access").with_refresh_token("refresh");
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
    /// Asks the introspection endpoint at this URL about a token, with the client's authentication (RFC 7662 §2.1).
    /// [`Introspection`] has an example.
    ///
    /// # Errors
    /// [`FetchError::rejected`] if the URL is invalid, or if the server refuses the client. Otherwise as for a token request. A token
    /// that isn't valid is no error.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn introspect(&self, url: &str, token: &str) -> Result<Introspection, FetchError> {
        let uri = address::parse(url, self.insecure).map_err(FetchError::rejected)?;
        let arrived = self.post(&uri, Form::empty().param("token", token), REQUEST_LIMIT).await?.whole()?;
        if !arrived.status.is_success() {
            return Err(arrived.response().refusal(GrantKind::Repeatable, &arrived.masks));
        }
        let response = arrived.response();
        let members: Members = serde_json::from_slice(response.text()).map_err(|_| {
            if let Some(error) = response.error_in_success(&arrived.masks, None) {
                return error;
            }
            let text = format!(
                "the authorization server at {} answered {}, but no introspection",
                arrived.endpoint, arrived.status
            );
            FetchError::try_again(EndpointError { status: Some(arrived.status), code: None, text, acted: true })
        })?;
        Ok(members.read_at(arrived.answered_at))
    }
}

impl Introspection {
    /// Whether the token is valid now.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The lifetime that the token has left. `None` if the server doesn't say.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.left
    }

    /// The scope, space-delimited.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The client that the token was issued to. If the server names several, the first one.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The user who authorized it, as a name for people.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// A token set with this access token, the lifetime that it has left, and the scope.
    #[must_use]
    pub fn to_token_set(&self, access_token: &str) -> TokenSet {
        let mut set = TokenSet::of_access_token(access_token);
        set.lifetime = self.left;
        set.scope = self.scope.clone();
        set
    }
}

/// The members of a response. Some servers have a string for a flag, or a list where RFC 7662 has a string.
#[derive(Deserialize)]
struct Members {
    active: Value,
    exp: Option<Value>,
    scope: Option<Value>,
    client_id: Option<Value>,
    username: Option<Value>,
}

/// The strings in a value: itself, or those of a list.
fn strings(value: Option<Value>) -> Vec<String> {
    let values = match value {
        Some(Value::Array(values)) => values,
        value => value.into_iter().collect(),
    };
    values.into_iter().filter_map(|text| text.as_str().map(str::to_owned)).filter(|text| !text.is_empty()).collect()
}

impl Members {
    fn read_at(self, now: SystemTime) -> Introspection {
        let exp = self.exp.as_ref().and_then(|exp| exp.as_f64().or_else(|| exp.as_str()?.parse().ok()));
        let active = match &self.active {
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            active => active.as_bool() == Some(true),
        };
        let end = exp
            // Some servers mean "unknown" by zero.
            .filter(|exp| *exp > 0.0)
            .and_then(|exp| Duration::try_from_secs_f64(exp).ok())
            .and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp));
        Introspection {
            active,
            left: end.map(|end| end.duration_since(now).unwrap_or_default()),
            scope: Some(strings(self.scope).join(" ")).filter(|scope| !scope.is_empty()),
            client_id: strings(self.client_id).into_iter().next(),
            username: strings(self.username).into_iter().next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_servers_write_in_another_way_is_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let read = |value: Value| serde_json::from_value::<Members>(value).unwrap().read_at(now);
        let seconds = |read: &Introspection| read.time_left().map(|left| left.as_secs());
        for (value, active, left, scope, client) in [
            (
                json!({"active": true, "exp": 1060, "scope": "a b", "client_id": "app"}),
                true,
                Some(60),
                Some("a b"),
                Some("app"),
            ),
            (
                json!({"active": "true", "exp": "1060", "scope": ["a", "b"], "client_id": ["app", "other"]}),
                true,
                Some(60),
                Some("a b"),
                Some("app"),
            ),
            (json!({"active": true, "exp": 0, "scope": "", "client_id": []}), true, None, None, None),
            (json!({"active": "True", "exp": 900}), true, Some(0), None, None),
            (json!({"active": "false"}), false, None, None, None),
            (json!({"active": 1, "scope": 7}), false, None, None, None),
        ] {
            let read = read(value.clone());
            assert_eq!((read.is_active(), seconds(&read)), (active, left), "{value}");
            assert_eq!((read.scope(), read.client_id()), (scope, client), "{value}");
        }
        assert!(serde_json::from_value::<Members>(json!({"scope": "a"})).is_err());
    }
}
