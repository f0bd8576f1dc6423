//! Races between keepers, at the moments when they could cost a refresh token.

use tokio::time::{sleep, timeout};

use super::scene::{
    Call, Fault, GIVEN_WAY, HOUR, MINUTE, Mood, Rotating, SECOND, Server, Shelf, begin, carried, plain, rotating,
};
use crate::{
    FetchError, FetchReason, FetchRequest, State, Storage, TokenSource,
    clock::Clock,
    oauth2::{Stored, TokenSet},
};

/// Fetches. The first time this takes the stored token.
async fn fetch(owner: &mut Stored<Rotating, Shelf>) -> Result<String, FetchError> {
    owner.fetch(FetchRequest::new(10 * SECOND)).await.map(|token| token.expose_secret().to_owned())
}

/// Two keepers with `a1` and `r1`.
async fn two(server: &Server, shelf: &Shelf) -> (Stored<Rotating, Shelf>, Stored<Rotating, Shelf>) {
    let mut one = rotating(server, shelf).holding(TokenSet::of_refresh_token("r0"));
    let mut other = rotating(server, shelf);
    assert_eq!((fetch(&mut one).await.unwrap(), fetch(&mut other).await.unwrap()), ("a1".into(), "a1".into()));
    (one, other)
}

#[tokio::test(start_paused = true)]
async fn who_sent_nothing_does_not_know_what_others_have_sent() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (mut one, mut other) = two(&server, &shelf).await;
    // The server is busy, but the intent can't be removed from the store.
    server.mood(Mood::Busy);
    server.takes(SECOND);
    let _ = tokio::join!(fetch(&mut one), async {
        sleep(SECOND / 2).await;
        shelf.fault(Fault::ReadOnly);
    });
    assert!(shelf.record().intent.is_some());
    // Another process asks again, and that response is lost.
    shelf.fault(Fault::None);
    server.mood(Mood::Mute);
    fetch(&mut other).await.unwrap_err();

    server.mood(Mood::Fine);
    sleep(MINUTE / 3).await;
    let request = FetchRequest::because(FetchReason::Due, None, 10 * SECOND, false);
    let error = one.fetch(request).await.unwrap_err();
    assert!(error.waits_for_token_end(), "{error}");
    assert_eq!((server.requests(), server.reuses()), (3, 0), "too late");
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_nothing_followed_is_no_loss_however_often_the_store_fails() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (mut one, _) = two(&server, &shelf).await;
    shelf.fault(Fault::Deaf);
    fetch(&mut one).await.unwrap_err();
    shelf.fault(Fault::ReadOnly);
    for _ in 0..3 {
        fetch(&mut one).await.unwrap_err();
    }
    assert!(server.requests() == 1 && shelf.record().intent.is_some());

    shelf.fault(Fault::None);
    sleep(HOUR).await;
    assert_eq!(fetch(&mut one).await.unwrap(), "a2");
}

#[tokio::test(start_paused = true)]
async fn who_slept_over_its_intent_does_not_send_what_its_successor_has_spent() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (mut one, mut other) = two(&server, &shelf).await;
    server.grace(SECOND);
    shelf.answers_late(Call::Swap, 4 * SECOND);
    let late = tokio::spawn(async move { fetch(&mut one).await });
    sleep(SECOND / 10).await;
    assert_eq!(fetch(&mut other).await.unwrap(), "a2");
    // The lease is free again. Only the entry has changed.
    assert_eq!(late.await.unwrap().unwrap(), "a2");
    assert_eq!((server.requests(), server.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_granted_long_ago_is_none() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (mut one, mut other) = two(&server, &shelf).await;
    server.grace(SECOND / 10);
    server.takes(5 * SECOND);
    shelf.answers_late(Call::Lease, 3 * SECOND);
    let late = tokio::spawn(async move { fetch(&mut one).await });
    sleep(SECOND / 10).await;
    assert_eq!(fetch(&mut other).await.unwrap(), "a2");
    assert_eq!(late.await.unwrap().unwrap(), "a2");
    assert_eq!((server.requests(), server.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_all_the_time_that_it_has_changed_is_not_asked_all_the_time() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.is_nervous();
    shelf.lease_to_the_dead(SECOND);
    let token = plain(&server, &shelf, 1);
    token.ready().await.unwrap();
    assert!(shelf.loads() < 20, "{} looks in the second of a dead holder", shelf.loads());
    let before = shelf.loads();
    sleep(10 * MINUTE).await;
    let looks = shelf.loads() - before;
    assert!(looks < 1_000, "{looks} looks in 600 s");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_is_not_exchanged_for_the_older_one_that_is_there() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let token = plain(&server, &shelf, 1);
    token.ready().await.unwrap();
    shelf.fault(Fault::ReadOnly);
    while carried(&token).as_deref() == Some("a1") {
        sleep(SECOND / 10).await;
    }
    shelf.fault(Fault::None);
    sleep(5 * SECOND).await;
    assert_eq!(carried(&token).as_deref(), Some("a2"), "a1 has seconds left");
    assert_eq!(shelf.record().set.unwrap().access_token(), Some("a2"));
    assert_eq!((server.requests(), token.status().storage()), (2, Storage::Sound));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_authorizes_while_the_store_is_down_is_let_in() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.fault(Fault::Down);
    let (token, account) = begin(&server, &shelf);
    sleep(SECOND).await;
    let set = TokenSet::of_access_token("new").expires_in(HOUR).with_refresh_token("n");
    let adopted = account.adopt(set.with_requested_at(server.wall.wall()));
    timeout(5 * SECOND, adopted).await.expect("what is adopted needs no store");
    assert_eq!((carried(&token).as_deref(), token.status().storage()), (Some("new"), Storage::Unsaved));
    let before = shelf.loads();
    sleep(10 * MINUTE).await;
    // Two a second, and what `save_later` reads.
    assert!(shelf.loads() - before < 1_500, "{} looks", shelf.loads() - before);

    shelf.fault(Fault::None);
    sleep(10 * SECOND).await;
    assert_eq!((shelf.refresh_token().as_deref(), token.status().storage()), (Some("n"), Storage::Sound));
    // The initial set is known, and older.
    drop(token);
    let (again, _) = begin(&server, &shelf);
    again.ready().await.unwrap();
    assert_eq!((carried(&again).as_deref(), server.requests()), (Some("new"), 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_stored_at_the_end_is_stored_when_the_store_comes_back() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(SECOND);
    let (token, _account) = begin(&server, &shelf);
    sleep(GIVEN_WAY + SECOND / 2).await;
    shelf.fault(Fault::ReadOnly);
    token.ready().await.unwrap();
    sleep(10 * MINUTE).await;
    for _ in 0..100 {
        sleep(SECOND / 10).await;
        assert_eq!(shelf.holder(), None, "nobody is working");
    }
    token.shutdown().await;
    assert_eq!(token.status().state(), State::Stopped);
    drop(token);
    sleep(3 * SECOND).await;
    shelf.fault(Fault::None);
    sleep(10 * SECOND).await;
    assert_eq!(shelf.refresh_token().as_deref(), Some("r1"));
}

#[tokio::test(start_paused = true)]
async fn what_was_adopted_and_stored_after_the_end_goes_before_the_configuration() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.fault(Fault::Down);
    let (token, account) = begin(&server, &shelf);
    let set = TokenSet::of_access_token("new").expires_in(HOUR).with_refresh_token("n");
    account.adopt(set.with_requested_at(server.wall.wall())).await;
    drop(token);
    shelf.fault(Fault::None);
    sleep(10 * SECOND).await;
    assert_eq!(shelf.refresh_token().as_deref(), Some("n"));
    let (again, _) = begin(&server, &shelf);
    again.ready().await.unwrap();
    assert_eq!((carried(&again).as_deref(), server.requests()), (Some("new"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_hangs_does_not_stop_a_fleet_for_ever() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(100 * HOUR);
    let (one, other) = (plain(&server, &shelf, 1), plain(&server, &shelf, 2));
    sleep(SECOND).await;
    assert_eq!(server.requests(), 1);
    server.takes(SECOND);
    sleep(2 * MINUTE).await;
    assert_eq!((one.status().state(), other.status().state()), (State::Live, State::Live));
}

#[tokio::test(start_paused = true)]
async fn an_old_process_that_starts_during_a_rollout_does_not_go_back_to_what_it_began_with() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let begin = |with: &str| rotating(&server, &shelf).holding(TokenSet::of_refresh_token(with));
    assert_eq!(fetch(&mut begin("old")).await.unwrap(), "a1");
    assert_eq!(fetch(&mut begin("new")).await.unwrap(), "a2");
    for with in ["old", "new", "old"] {
        assert_eq!(fetch(&mut begin(with)).await.unwrap(), "a2", "{with}");
    }
    sleep(HOUR).await;
    assert_eq!(fetch(&mut begin("old")).await.unwrap(), "a3", "it goes on with what is stored");
    assert_eq!((shelf.refresh_token().as_deref(), server.reuses()), (Some("r3"), 0));
}
