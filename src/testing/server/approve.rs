//! The user's decision at the authorization endpoint, without a browser.

use tokio::time::Instant;

use super::{AuthorizationServer, state::State};
use crate::testing::endpoints::authorize::{
    self,
    consent::{self, Consent, Stop},
};

/// The user's part of the authorization code grant, without a browser.
impl AuthorizationServer {
    /// The user visits this URL and allows what the client asks for. Returns the URL of the redirect that follows.
    ///
    /// If the server answers with an error redirect at once, the URL is that one.
    ///
    /// ```
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::start().await?;
    /// let query = "response_type=code&client_id=client&state=x&redirect_uri=http://127.0.0.1:8421/callback";
    /// let url = format!("{}?{query}", server.authorization_url());
    /// assert!(server.approve(&url).starts_with("http://127.0.0.1:8421/callback?code="));
    /// assert!(server.deny(&url).contains("?error=access_denied&"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the URL is not one of this server's authorization endpoint, with a query.
    ///
    /// If the server answers with a page that says why it doesn't ask the user: the client or the redirect URI is
    /// unknown, or a parameter is repeated.
    #[track_caller]
    pub fn approve(&self, authorize_url: &str) -> String {
        self.visit(authorize_url, |state, consent| {
            let State { rules, issued, .. } = state;
            authorize::allow(consent, rules, issued, Instant::now())
        })
    }

    /// The same, but the user denies it.
    ///
    /// Example: [`approve`](Self::approve).
    ///
    /// # Panics
    ///
    /// Where [`approve`](Self::approve) does.
    #[track_caller]
    pub fn deny(&self, authorize_url: &str) -> String {
        self.visit(authorize_url, |state, consent| consent.denied(&state.rules))
    }

    #[track_caller]
    fn visit(&self, url: &str, decide: impl FnOnce(&mut State, Consent) -> String) -> String {
        let query = url.strip_prefix(&self.authorization_url()).and_then(|rest| rest.strip_prefix('?'));
        let query = query.expect("a URL of this server's authorization endpoint, with a query");
        let query = query.split('#').next().unwrap_or_default();
        let outcome = {
            let mut state = self.shared.lock();
            assert!(state.rules.offers("authorization_code"), "this server has no authorization endpoint");
            consent::read(query, &state.rules).map(|consent| decide(&mut state, consent))
        };
        match outcome {
            Ok(url) | Err(Stop::Redirect(url)) => url,
            Err(Stop::Page(why)) => panic!("the user sees a page instead of a question: {why}"),
        }
    }
}
