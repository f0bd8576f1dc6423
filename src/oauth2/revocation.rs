//! Giving a token back (RFC 7009).

use std::time::Duration;

use super::{Form, TokenEndpoint, endpoint::address, endpoint_error::codes::Topic, grant::GrantKind};
use crate::FetchError;

impl TokenEndpoint {
    /// Revokes an access token or a refresh token at the revocation endpoint at this URL, with the client's proof of who it is
    /// (RFC 7009 §2.1). Servers end with a refresh token what was issued with it.
    ///
    /// A token that the server doesn't know is as good as revoked, and no error (RFC 7009 §2.2).
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
    /// [`FetchError::rejected`] if the URL is none, or if the server refuses the client or the kind of token; otherwise as for a
    /// token request.
    ///
    /// # Cancel safety
    /// When the future is dropped, the token may be revoked or not.
    pub async fn revoke(&self, url: &str, token: &str) -> Result<(), FetchError> {
        let uri = address::parse(url, self.insecure).map_err(FetchError::rejected)?;
        let arrived = self.post(&uri, Form::empty().field("token", token), LIMIT).await?;
        let answer = arrived.answer();
        match arrived.status.is_success() {
            // Slack's errors come with 200. One about the token says that it isn't valid, which is what was wanted.
            true => answer.error_in_success(&arrived.masks, Some(Topic::Grant)).map_or(Ok(()), Err),
            false => Err(answer.refusal(GrantKind::Repeatable, &arrived.masks)),
        }
    }
}

/// For a request that somebody waits for.
const LIMIT: Duration = Duration::from_secs(30);
