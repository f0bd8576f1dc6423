//! Token revocation (RFC 7009).

use super::{
    Form, TokenEndpoint,
    endpoint::{address, exchange::REQUEST_LIMIT},
    endpoint_error::codes::Topic,
    grant::GrantKind,
};
use crate::FetchError;

impl TokenEndpoint {
    /// Revokes an access token or a refresh token at the revocation endpoint at this URL, with the client's authentication (RFC 7009
    /// §2.1). With a refresh token, servers also revoke the access tokens that were issued for it.
    ///
    /// An unknown token counts as revoked, and is no error (RFC 7009 §2.2).
    ///
    /// ```no_run
    /// use tower_bearer::oauth2::TokenEndpoint;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
    /// endpoint.revoke("https://id.example.com/revoke", "8xLOxBtZp8").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`FetchError::rejected`] if the URL is invalid, or if the server refuses the client or the kind of token. Otherwise as for a
    /// token request.
    ///
    /// # Cancel safety
    /// When the future is dropped, the token may be revoked already.
    pub async fn revoke(&self, url: &str, token: &str) -> Result<(), FetchError> {
        let uri = address::parse(url, self.insecure).map_err(FetchError::rejected)?;
        let arrived = self.post(&uri, Form::empty().param("token", token), REQUEST_LIMIT).await?;
        let response = arrived.response();
        match arrived.status.is_success() {
            // Slack's errors come with 200. An error about the token says that it isn't valid, and that is the purpose.
            true => response.error_in_success(&arrived.masks, Some(Topic::Grant)).map_or(Ok(()), Err),
            false => Err(response.refusal(GrantKind::Repeatable, &arrived.masks)),
        }
    }
}
