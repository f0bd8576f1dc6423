//! `moved_from`, and accounts whose names change.

use std::time::Duration;

use tokio::time::sleep;

use super::scene::{MINUTE, Rotating, SECOND, Server, Shelf, begin, run};
use crate::{
    FetchError, State,
    oauth2::{Grant, RefreshToken, Stored, TokenEndpoint, TokenSet},
    store::Account,
};

#[derive(Clone)]
struct Named(Server, Account);

impl Grant for Named {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        Rotating(self.0.clone()).exchange(held, limit).await
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        self.1.clone()
    }
}

fn named(server: &Server, shelf: &Shelf, subject: &str) -> Stored<Named, Shelf> {
    let account = Account::new("https://id.test", "app").subject(subject);
    Stored::in_store(Named(server.clone(), account), shelf.clone()).clock(server.wall)
}

/// The endpoint's path has changed, which is no part of the account. Or the old and the new name are the same.
#[tokio::test(start_paused = true)]
async fn what_is_moved_to_where_it_is_stays() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    token.shutdown().await;
    let before = shelf.refresh_token();
    let source = named(&server, &shelf, "anna").moved_from(named(&server, &shelf, "anna")).await;
    assert_eq!(shelf.refresh_token(), before, "it was removed");
    let token = run(&server, source.unwrap());
    sleep(5 * MINUTE).await;
    assert_eq!(token.status().state(), State::Live, "{:?}", token.status().last_error());
}

/// A rollout with new names for users is taken back.
#[tokio::test(start_paused = true)]
async fn what_was_moved_can_be_moved_back() {
    let (server, old, new) = (Server::new(), Shelf::new(), Shelf::new());
    let (token, _account) = begin(&server, &old);
    token.ready().await.unwrap();
    token.shutdown().await;
    let source = named(&server, &new, "user/42").moved_from(named(&server, &old, "anna")).await.unwrap();
    let token = run(&server, source);
    token.ready().await.unwrap();
    token.refresh().await.unwrap();
    token.shutdown().await;
    let source = named(&server, &old, "anna").moved_from(named(&server, &new, "user/42")).await.unwrap();
    let token = run(&server, source);
    sleep(5 * MINUTE).await;
    assert_eq!(
        token.status().state(),
        State::Live,
        "the refresh token is in neither place: {:?}",
        token.status().last_error()
    );
}

/// A changed name: the program reports `ReauthorizationRequired` and what to do, and the user does that.
#[tokio::test(start_paused = true)]
async fn a_seed_that_was_planted_under_the_new_name_is_no_later_authorization() {
    let (server, old, new) = (Server::new(), Shelf::new(), Shelf::new());
    server.grace(SECOND / 100);
    let (token, _account) = begin(&server, &old);
    token.ready().await.unwrap();
    token.refresh().await.unwrap();
    token.shutdown().await;
    let seed = || TokenSet::of_refresh_token("r0");
    let token = run(&server, named(&server, &new, "user/42").holding(seed()));
    sleep(MINUTE).await;
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    token.shutdown().await;
    let source =
        named(&server, &new, "user/42").holding(seed()).moved_from(named(&server, &old, "anna")).await.unwrap();
    let token = run(&server, source);
    sleep(5 * MINUTE).await;
    assert_eq!(
        token.status().state(),
        State::Live,
        "the live r2 was removed for the dead r0: {:?}",
        token.status().last_error()
    );
}

/// The same with an initial set under the old name, when the name is changed back and forth.
#[tokio::test(start_paused = true)]
async fn what_is_moved_keeps_the_seeds_of_where_it_goes() {
    let (server, old, new) = (Server::new(), Shelf::new(), Shelf::new());
    server.grace(SECOND / 100);
    // The new name began with r0.
    let seed = || TokenSet::of_refresh_token("r0");
    let token = run(&server, named(&server, &new, "user/42").holding(seed()));
    token.ready().await.unwrap();
    token.shutdown().await;
    sleep(SECOND).await;
    // Changed back: the user authorizes again.
    let source = named(&server, &old, "anna");
    let login = source.handle();
    let token = run(&server, source);
    login.adopt(TokenSet::of_refresh_token("fresh")).await;
    token.shutdown().await;
    // Changed once more.
    let source =
        named(&server, &new, "user/42").holding(seed()).moved_from(named(&server, &old, "anna")).await.unwrap();
    let token = run(&server, source);
    sleep(5 * MINUTE).await;
    assert_eq!((token.status().state(), server.reuses()), (State::Live, 0), "{:?}", token.status().last_error());
}

/// Another client, server, or tenant: the documentation says that it is not for that.
#[tokio::test(start_paused = true)]
async fn nothing_is_moved_to_another_client_or_server() {
    for account in [
        Account::new("https://id.test", "other").subject("anna"),
        Account::new("https://id.test?tenant=b", "app").subject("anna"),
    ] {
        let (server, old, new) = (Server::new(), Shelf::new(), Shelf::new());
        let (token, _account) = begin(&server, &old);
        token.ready().await.unwrap();
        token.shutdown().await;
        let to = Stored::in_store(Named(server.clone(), account.clone()), new.clone()).clock(server.wall);
        let moved = to.moved_from(named(&server, &old, "anna")).await;
        assert!(moved.is_err() && old.refresh_token().is_some(), "{account:?}: r1 of one is sent by the other");
    }
}

/// Two tenants told apart by a parameter.
#[test]
fn two_tenants_told_apart_by_a_parameter_have_two_accounts() {
    let mut wrong = Vec::new();
    for name in [
        "tid",
        "zone_id",
        "portal_id",
        "business_id",
        "store_id",
        "hub_id",
        "group_id",
        "partner_id",
        "seller_id",
        "database",
        "environment_id",
        "resource",
        "hd",
        "namespace",
        "environment",
    ] {
        let of = |value: &str| {
            RefreshToken::new(TokenEndpoint::new("https://id.test/token").unwrap().public_client("app"))
                .param(name, value)
                .subject("admin")
                .account()
                .id()
        };
        if of("a") == of("b") {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// After an interrupted move the set under the old name is older than the one that was renewed under the new name.
#[tokio::test(start_paused = true)]
async fn a_move_that_was_interrupted_takes_no_older_set_when_it_is_made_again() {
    let (server, old, new) = (Server::new(), Shelf::new(), Shelf::new());
    server.grace(SECOND / 100);
    let (token, _account) = begin(&server, &old);
    token.ready().await.unwrap();
    token.shutdown().await;
    let left = old.entry();
    let source = named(&server, &new, "user/42").moved_from(named(&server, &old, "anna")).await.unwrap();
    // The process died before it removed the old one.
    old.put(left);
    let token = run(&server, source);
    token.ready().await.unwrap();
    sleep(2 * SECOND).await;
    token.refresh().await.unwrap();
    token.shutdown().await;
    let source = named(&server, &new, "user/42").moved_from(named(&server, &old, "anna")).await.unwrap();
    let token = run(&server, source);
    sleep(5 * MINUTE).await;
    assert_eq!((token.status().state(), server.reuses()), (State::Live, 0), "{:?}", token.status().last_error());
}

/// A configuration with an initial set finds another account's entry. A login that is adopted replaces it.
#[tokio::test(start_paused = true)]
async fn what_is_adopted_is_stored_beside_a_configured_beginning_too() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    token.shutdown().await;
    let source = named(&server, &shelf, "ben").holding(TokenSet::of_refresh_token("configured"));
    let login = source.handle();
    let token = run(&server, source);
    sleep(SECOND).await;
    login.adopt(TokenSet::of_refresh_token("fresh")).await;
    sleep(5 * MINUTE).await;
    assert_eq!(
        (token.status().state(), token.status().storage()),
        (State::Live, crate::Storage::Sound),
        "{:?}",
        token.status().last_error()
    );
    let ben = Account::new("https://id.test", "app").subject("ben");
    assert!(crate::store::record::Record::read(shelf.entry().as_ref(), &ben).is_ok(), "it is ben's now");
}
