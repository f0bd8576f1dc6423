//! Where users agree: a provider from the environment, or one in this process.

use std::{env, time::Duration};

use tower_bearer::{
    BoxError,
    oauth2::{AuthorizationCode, TokenEndpoint},
    testing::AuthorizationServer,
};

pub(crate) struct Provider {
    pub(crate) login: AuthorizationCode,
    pub(crate) endpoint: TokenEndpoint,
    /// The revocation endpoint, if the provider has one (RFC 7009).
    pub(crate) revocation_url: Option<String>,
    pub(crate) api_url: reqwest::Url,
    /// What users will see in the address bar while they agree.
    pub(crate) address: String,
    loopback: Option<AuthorizationServer>,
}

impl Provider {
    /// | | |
    /// |---|---|
    /// | `AUTHORIZATION_URL`, `TOKEN_URL` | of the provider; without the first, one runs in this process |
    /// | `API_URL` | what to fetch for the user |
    /// | `CLIENT_ID`, `CLIENT_SECRET` | without a secret, a public client |
    /// | `SCOPE` | space-delimited |
    /// | `AUTHORIZATION_PARAMS` | more parameters for the authorization URL: `NAME=VALUE`, space-delimited |
    /// | `ISSUER` | if the provider announces `authorization_response_iss_parameter_supported` (RFC 9207) |
    /// | `REVOCATION_URL` | if it has one |
    /// | `TOKEN_LIFETIME` | seconds, of the tokens of the provider in this process |
    pub(crate) async fn from_environment(callback: &str) -> Result<Self, BoxError> {
        match variable("AUTHORIZATION_URL") {
            Some(authorization_url) => Self::real(&authorization_url, callback),
            None => Self::in_this_process(callback).await,
        }
    }

    fn real(authorization_url: &str, callback: &str) -> Result<Self, BoxError> {
        let id = required("CLIENT_ID")?;
        let endpoint = TokenEndpoint::new(&required("TOKEN_URL")?)?;
        let endpoint = match variable("CLIENT_SECRET") {
            Some(secret) => endpoint.client_secret_basic(id, secret),
            None => endpoint.public_client(id),
        };
        let mut login = AuthorizationCode::new(endpoint.clone(), authorization_url, callback)?;
        if let Some(scope) = variable("SCOPE") {
            login = login.scope(scope);
        }
        if let Some(issuer) = variable("ISSUER") {
            login = login.issuer(issuer);
        }
        for param in variable("AUTHORIZATION_PARAMS").unwrap_or_default().split_whitespace() {
            let (name, value) = param.split_once('=').ok_or("AUTHORIZATION_PARAMS: there is no '=' in one of them")?;
            login = login.param(name.to_owned(), value);
        }
        Ok(Self {
            login,
            endpoint,
            revocation_url: variable("REVOCATION_URL"),
            api_url: required("API_URL")?.parse()?,
            address: authorization_url.parse::<reqwest::Url>()?.origin().ascii_serialization(),
            loopback: None,
        })
    }

    async fn in_this_process(callback: &str) -> Result<Self, BoxError> {
        let seconds = variable("TOKEN_LIFETIME").map_or(Ok(20), |seconds| seconds.parse())?;
        let server = AuthorizationServer::builder()
            .client("web-app", "secret")
            .redirect_uri(callback)
            .scopes(&["documents"])
            .lifetime(Some(Duration::from_secs(seconds)))
            .refresh_lifetime(Some(Duration::from_secs(30 * 86_400)))
            .tell_refresh_lifetime(true)
            .announce_issuer(true)
            .start()
            .await?;
        let endpoint = TokenEndpoint::new(&server.token_url())?.client_secret_basic("web-app", "secret");
        let login = AuthorizationCode::new(endpoint.clone(), &server.authorization_url(), callback)?
            .scope("documents")
            .issuer(server.issuer());
        Ok(Self {
            login,
            endpoint,
            revocation_url: Some(server.revocation_url()),
            api_url: server.api_url("/documents").parse()?,
            address: server.origin(),
            loopback: Some(server),
        })
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback.is_some()
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &str) -> Result<String, BoxError> {
    variable(name).ok_or_else(|| format!("{name} is missing in the environment").into())
}
