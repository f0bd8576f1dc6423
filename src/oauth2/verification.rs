//! Asking a provider about a token in hand, at a URL of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use secrecy::SecretString;

use super::{Form, TokenEndpoint, TokenSet, endpoint::address, grant::GrantKind};
use crate::{AccessToken, FetchError};

/// What a verification request is authorized with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProvedBy {
    /// The token that it is about, as `Bearer`.
    Token,
    /// The client's `Basic`.
    Client,
}

impl TokenEndpoint {
    /// Asks a provider's own URL about an access token, with `GET`: the answer has the form of a token response. signNow does it
    /// like this at its token endpoint. Where there is introspection (RFC 7662), prefer [`introspect`](Self::introspect).
    ///
    /// Returns the token with the life that it has left, to be adopted.
    ///
    /// ```no_run
    /// use tower_bearer::oauth2::{ProvedBy, TokenEndpoint};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let url = "https://api.example.com/oauth2/token";
    /// let endpoint = TokenEndpoint::new(url)?.client_basic_value("aWQ6c2VjcmV0");
    /// let set = endpoint.verify(url, "from elsewhere", ProvedBy::Token).await?;
    /// println!("good for another {:?}", set.lifetime());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`FetchError::rejected`] if the URL is none or the token isn't valid; otherwise as for a token request.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn verify(&self, url: &str, access_token: &str, by: ProvedBy) -> Result<TokenSet, FetchError> {
        let uri = address::parse(url, self.insecure).map_err(FetchError::rejected)?;
        let token = AccessToken::new(access_token).map_err(FetchError::rejected)?;
        let authorization = match by {
            ProvedBy::Token => token.authorization(),
            ProvedBy::Client => {
                let authenticated = self.client.authenticate(Form::empty()).map_err(FetchError::rejected)?;
                authenticated.authorization.ok_or_else(|| FetchError::rejected("the client doesn't use HTTP Basic"))?
            }
        };
        let masks = self.masks(&uri, [access_token].into_iter());
        let masks = match by {
            ProvedBy::Token => masks,
            ProvedBy::Client => masks.with_blanks(self.white_space(&Form::empty())),
        };
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        let arrived = self.send(request, Some(authorization), masks, LIMIT).await?.whole()?;
        let told = arrived.answer().read_about(GrantKind::Repeatable, &arrived.masks)?;
        if told.access_token.is_none() && told.lifetime.is_none() {
            return Err(arrived.answer().malformed("it says nothing about a token".into()));
        }
        let mut set = arrived.with(told);
        set.access_token.get_or_insert_with(|| SecretString::from(access_token));
        Ok(set)
    }
}

/// For a request that somebody waits for.
const LIMIT: Duration = Duration::from_secs(30);
