//! What a test reads of the server: requests, tokens, answers of the API, password attempts.

use super::AuthorizationServer;
use crate::testing::recorded::{api_counts::ApiCounts, password_counts::PasswordCounts, token_request::TokenRequest};

/// What the server saw.
///
/// ```
/// use reqwest::{Client, header::CONTENT_TYPE};
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::start().await?;
/// let request = Client::new().post(server.token_url()).basic_auth("client", Some("secret"));
/// let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
/// request.body("grant_type=client_credentials").send().await?;
///
/// server.wait_for_token_requests(1).await;
/// assert_eq!((server.token_requests(), server.tokens_issued()), (1, 1));
/// assert_eq!((server.refresh_tokens_issued(), server.reuse_detections()), (0, 0));
/// assert_eq!(server.recorded()[0].field("grant_type"), Some("client_credentials"));
///
/// reqwest::get(server.api_url("/documents")).await?;
/// assert_eq!(server.api().missing, 1);
/// assert_eq!(server.password_attempts("ann").rejected, 0);
/// # Ok(())
/// # }
/// ```
impl AuthorizationServer {
    /// How many requests reached the token endpoint. Those that met a fault count too.
    ///
    /// Example: [the module's](crate::testing#example).
    pub fn token_requests(&self) -> u64 {
        *self.shared.token_requests.borrow()
    }

    /// Waits until [`token_requests`](Self::token_requests) is at least `count`.
    ///
    /// ```
    /// # async fn waits(server: tower_bearer::testing::AuthorizationServer) {
    /// server.wait_for_token_requests(2).await; // the token was renewed once
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for_token_requests(&self, count: u64) {
        // It fails only if the sender is gone, and `self` holds the sender.
        let _ = self.shared.token_requests.subscribe().wait_for(|seen| *seen >= count).await;
    }

    /// How many access tokens were issued. A token counts even if its answer was cut off or came too late.
    ///
    /// Example: [the module's](crate::testing#example).
    pub fn tokens_issued(&self) -> u64 {
        self.shared.lock().issued.access.count()
    }

    /// How many refresh tokens were issued. A token counts even if its answer was cut off or came too late.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// server.issue_refresh_token("client", None);
    /// assert_eq!(server.refresh_tokens_issued(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn refresh_tokens_issued(&self) -> u64 {
        self.shared.lock().issued.refresh.count()
    }

    /// How often a spent refresh token was used again, after the [grace](crate::testing::Builder::refresh_grace).
    ///
    /// Each authorization counts once: the first reuse revokes all of its tokens.
    ///
    /// Example: [`Builder::tell_refresh_lifetime`](crate::testing::Builder::tell_refresh_lifetime).
    pub fn reuse_detections(&self) -> u64 {
        self.shared.lock().issued.reuse_detections
    }

    /// The last 1 024 token requests, oldest first.
    ///
    /// Example: [`TokenRequest`].
    pub fn recorded(&self) -> Vec<TokenRequest> {
        self.shared.lock().recorded.iter().cloned().collect()
    }

    /// How the requests to the API were answered.
    ///
    /// Example: [the module's](crate::testing#example).
    pub fn api(&self) -> ApiCounts {
        self.shared.lock().api
    }

    /// How the password grant was answered for a user. All counts of an unknown user are zero.
    ///
    /// Example: [`Builder::user`](crate::testing::Builder::user).
    pub fn password_attempts(&self, user: &str) -> PasswordCounts {
        self.shared.lock().rules.users.counts(user)
    }
}
