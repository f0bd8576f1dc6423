//! Stores that fail at each step of a fetch.

use tokio::time::sleep;

use super::scene::{Fault, GIVEN_WAY, HOUR, MINUTE, SECOND, Server, Shelf, begin, carried, plain, rotating};
use crate::{LiveToken, State, Storage, clock::Clock, oauth2::TokenSet, store::Entry};

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_is_used_and_nothing_is_spent_until_it_is() {
    for fault in [Fault::Down, Fault::ReadOnly, Fault::Hung] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.takes(SECOND);
        let (token, account) = begin(&server, &shelf);
        sleep(GIVEN_WAY + SECOND / 2).await;
        shelf.fault(fault);
        token.ready().await.unwrap();
        assert_eq!(carried(&token).as_deref(), Some("a1"), "{fault:?}");
        assert_eq!(token.status().storage(), Storage::Unsaved, "{fault:?}");
        assert_eq!(account.token_set().unwrap().refresh_token(), Some("r1"));

        // It expires, and still nothing is spent: r1 is stored nowhere.
        sleep(10 * MINUTE).await;
        assert_eq!((server.requests(), token.status().is_usable()), (1, false), "{fault:?}");
        assert_eq!(token.status().storage(), Storage::Unsaved);

        shelf.fault(Fault::None);
        sleep(2 * MINUTE).await;
        assert_eq!((token.status().state(), token.status().storage()), (State::Live, Storage::Sound), "{fault:?}");
        assert_eq!(server.reuses(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_soon_is_not_noticed_by_requests() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.takes(SECOND);
    while shelf.holder().is_none() {
        sleep(SECOND / 4).await;
    }
    shelf.fault(Fault::ReadOnly);
    sleep(3 * SECOND).await;
    assert_eq!((token.status().state(), token.status().storage()), (State::Live, Storage::Unsaved));
    shelf.fault(Fault::None);
    sleep(10 * SECOND).await;
    assert_eq!((token.status().state(), token.status().storage()), (State::Live, Storage::Sound));
    assert_eq!((server.requests(), shelf.refresh_token().as_deref()), (2, Some("r2")));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_until_the_answer_is_stored_but_not_for_ever() {
    for outage in [2 * SECOND, HOUR] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.takes(SECOND);
        let (token, _account) = begin(&server, &shelf);
        sleep(GIVEN_WAY + SECOND / 2).await;
        shelf.fault(Fault::ReadOnly);
        let back = tokio::spawn({
            let shelf = shelf.clone();
            async move {
                sleep(outage).await;
                shelf.fault(Fault::None);
            }
        });
        let began = server.wall.wall();
        token.shutdown().await;
        let took = server.wall.wall().duration_since(began).unwrap();
        assert_eq!(token.status().state(), State::Stopped);
        if outage == HOUR {
            assert_eq!((token.status().storage(), shelf.refresh_token().as_deref()), (Storage::Unsaved, Some("r0")));
            assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
        } else {
            assert_eq!((token.status().storage(), shelf.refresh_token().as_deref()), (Storage::Sound, Some("r1")));
            assert!(took < 5 * SECOND, "{took:?}");
        }
        back.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_store_a_refresh_token_is_not_spent() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    shelf.fault(Fault::Down);
    sleep(50 * SECOND).await;
    let status = token.status();
    assert_eq!((status.state(), status.storage()), (State::Failing, Storage::Unreachable));
    assert!(status.last_error().unwrap().to_string().contains("store can't be reached"), "{:?}", status.last_error());
    sleep(HOUR).await;
    assert_eq!((server.requests(), token.status().state()), (1, State::Expired));
    // A fetch comes as soon as the store is back, not at the end of a backoff that grew for an hour.
    shelf.fault(Fault::None);
    sleep(3 * SECOND).await;
    assert_eq!((token.status().state(), token.status().storage()), (State::Live, Storage::Sound));
}

#[tokio::test(start_paused = true)]
async fn what_can_be_fetched_again_goes_on_without_its_store() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.fault(Fault::Down);
    let token = plain(&server, &shelf, 1);
    token.ready().await.unwrap();
    assert_eq!(token.status().storage(), Storage::Unreachable);
    for _ in 0..600 {
        sleep(SECOND).await;
        assert!(token.status().is_usable());
    }
    shelf.fault(Fault::None);
    sleep(10 * SECOND).await;
    assert_eq!(token.status().storage(), Storage::Sound, "as soon as it is back");
    let stored = shelf.record().set.unwrap();
    assert_eq!(stored.access_token().map(str::to_owned), carried(&token), "and the others have it");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_emptied_is_filled_by_who_knows_and_by_nobody_else() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let stored = shelf.refresh_token();
    shelf.put(None);
    // If the loss is announced, a keeper restores the entry at once.
    shelf.announce();
    sleep(3 * SECOND).await;
    assert_eq!((shelf.refresh_token(), server.requests()), (stored, 1));
    // Otherwise when its token is due.
    shelf.put(None);
    sleep(HOUR).await;
    assert_eq!((token.status().state(), server.reuses()), (State::Live, 0));

    drop(token);
    sleep(SECOND).await;
    shelf.put(None);
    let stranger = LiveToken::builder(rotating(&server, &shelf)).clock(server.wall).seed(2).spawn();
    stranger.ready().await.unwrap_err();
    assert_eq!(stranger.status().state(), State::ReauthorizationRequired);
    assert!(shelf.refresh_token().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_left_as_it_is() {
    for data in [
        &b"not ours"[..],
        br#"{"format":3,"new":"things"}"#,
        br#"{"format":2,"generation":1,"account":{"server":"https://id.test","client":"app","subject":{"user":"ben"}},"renewals":0}"#,
        b"",
    ] {
        let (server, shelf) = (Server::new(), Shelf::new());
        let foreign = Some(Entry::new(7, data.to_vec()));
        shelf.put(foreign.clone());
        let (token, _account) = begin(&server, &shelf);
        let error = token.ready().await.unwrap_err().to_string();
        let begins = "there is no valid token: the token store can't be used: ";
        assert!(error.starts_with(begins) && !error.contains("credentials"), "{error}");
        sleep(HOUR).await;
        assert_eq!((token.status().state(), token.status().storage()), (State::Rejected, Storage::Unreachable));
        assert_eq!((shelf.entry(), server.requests()), (foreign, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_whose_writing_got_no_answer_is_no_loss() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    shelf.fault(Fault::Deaf);
    while shelf.record().intent.is_none() {
        sleep(SECOND / 10).await;
    }
    shelf.fault(Fault::Down);
    sleep(HOUR).await;
    assert_eq!(server.requests(), 1, "nothing was sent");
    shelf.fault(Fault::None);
    sleep(2 * MINUTE).await;
    assert_eq!(token.status().state(), State::Live, "so nothing can be lost: {:?}", token.status().last_error());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_stored_without_our_knowing_is_not_stored_twice() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(SECOND);
    let (token, _account) = begin(&server, &shelf);
    sleep(GIVEN_WAY + SECOND / 2).await;
    shelf.fault(Fault::Deaf);
    token.ready().await.unwrap();
    let stored = shelf.entry();
    assert_eq!(shelf.refresh_token().as_deref(), Some("r1"));
    sleep(5 * SECOND).await;
    assert_eq!((token.status().storage(), shelf.entry()), (Storage::Sound, stored));
}

#[tokio::test(start_paused = true)]
async fn a_good_access_token_in_the_configuration_serves_while_the_store_is_down() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.fault(Fault::Down);
    let set = TokenSet::of_access_token("given").expires_in(HOUR).with_refresh_token("r0");
    let source = rotating(&server, &shelf).holding(set.with_requested_at(server.wall.wall()));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    assert_eq!((carried(&token).as_deref(), token.status().storage()), (Some("given"), Storage::Unreachable));
    shelf.fault(Fault::None);
    sleep(HOUR).await;
    assert_eq!((token.status().state(), token.status().storage()), (State::Live, Storage::Sound));
    assert_eq!(server.reuses(), 0);
}
