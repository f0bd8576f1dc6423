//! A live token that rests while nobody uses it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::scene::*;
use crate::{LiveToken, State, oauth2::TokenSet};

const SECOND: Duration = Duration::from_secs(1);

/// Of a user who was idle for so long that the server has ended the authorization.
#[tokio::test(start_paused = true)]
async fn asleep_it_asks_the_store_nothing_and_takes_a_new_authorization_at_once() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let source = rotating(&server, &shelf).holding(TokenSet::of_refresh_token("r0"));
    let account = source.handle();
    let token = LiveToken::builder(source).renew_while_used(Duration::ZERO).seed(1).spawn();
    token.ready().await.unwrap();
    sleep(3_600 * SECOND).await;
    assert_eq!((token.status().state(), server.requests()), (State::Asleep, 1));
    let loads = shelf.loads();
    shelf.announce();
    sleep(24 * 3_600 * SECOND).await;
    assert_eq!((shelf.loads(), server.requests()), (loads, 1));

    timeout(5 * SECOND, account.adopt(TokenSet::of_refresh_token("new"))).await.unwrap();
    assert!(server.shown("new"));
    assert!(carried(&token).is_some());
}
