//! Asking a provider's own URL whether a token is valid.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use secrecy::SecretString;

use super::{
    Form, TokenEndpoint, TokenSet,
    endpoint::{address, exchange::REQUEST_LIMIT},
    grant::GrantKind,
};
use crate::{AccessToken, FetchError};

/// What a verification request is authorized with. [`TokenEndpoint::verify`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProvedBy {
    /// The access token itself, as `Bearer`.
    Token,
    /// The client's HTTP Basic.
    Client,
}

impl TokenEndpoint {
    /// Asks a provider's own URL about an access token, with `GET`. The response is like that to a token request. Prefer
    /// [`introspect`](Self::introspect) (RFC 7662) if the provider has it. signNow has this, at its token endpoint.
    ///
    /// Returns the token with the lifetime that it has left.
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
    /// [`FetchError::rejected`] if the URL is invalid or the token isn't valid. Otherwise as for a token request.
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
            ProvedBy::Client => masks.with_white_space(self.white_space(&Form::empty())),
        };
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        let arrived = self.send(request, Some(authorization), masks, REQUEST_LIMIT).await?.whole()?;
        let tokens = arrived.response().read_about_token(GrantKind::Repeatable, &arrived.masks)?;
        if tokens.access_token.is_none() && tokens.lifetime.is_none() {
            return Err(arrived.response().malformed("it says nothing about a token".into()));
        }
        let mut set = arrived.with(tokens);
        set.access_token.get_or_insert_with(|| SecretString::from(access_token));
        Ok(set)
    }
}
