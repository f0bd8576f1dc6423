//! A grant whose configuration and server can be wrong.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::sleep;

use super::scene::{SECOND, Server, Shelf, account};
use crate::{
    FetchError, LiveToken,
    oauth2::{EndpointError, Grant, Stored, StoredHandle, TokenSet},
    store::{Account, Credentials},
};

/// The refresh token grant at that server, asking for something.
pub(super) struct Asking {
    pub(super) server: Server,
    pub(super) asks: &'static str,
    /// The server sends no lifetime.
    pub(super) timeless: bool,
    pub(super) secret: &'static str,
    /// How the server refuses this request, if it does.
    pub(super) refuses: Option<Arc<dyn Fn() -> Option<FetchError> + Send + Sync>>,
}

impl Asking {
    pub(super) fn new(server: &Server, asks: &'static str) -> Self {
        Self { server: server.clone(), asks, timeless: false, secret: "secret", refuses: None }
    }
}

impl Grant for Asking {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        if let Some(refuses) = &self.refuses
            && let Some(error) = refuses()
        {
            sleep(SECOND / 10).await;
            return Err(error);
        }
        let mut set = super::scene::Rotating(self.server.clone()).exchange(held, limit).await?;
        if self.timeless {
            set.lifetime = None;
        }
        Ok(set)
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        account().asking(self.asks)
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(Credentials::of(self.secret))
    }
}

pub(super) fn asking(grant: Asking, shelf: &Shelf, seed: u64, holding: Option<&str>) -> (LiveToken, StoredHandle) {
    let wall = grant.server.wall;
    let mut source = Stored::in_store(grant, shelf.clone()).clock(wall).replay_grace(10 * SECOND);
    if let Some(with) = holding {
        source = source.holding(TokenSet::of_refresh_token(with));
    }
    let handle = source.handle();
    (LiveToken::builder(source).clock(wall).seed(seed).spawn(), handle)
}

pub(super) fn refused(status: u16, code: Option<&str>) -> EndpointError {
    EndpointError {
        status: Some(StatusCode::from_u16(status).unwrap()),
        code: code.map(str::to_owned),
        text: format!("status {status}"),
        acted: false,
    }
}
