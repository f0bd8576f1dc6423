//! Lost answers: the refresh token is sent again within the grace, and not later.

use tokio::time::sleep;

use super::scene::{GIVEN_WAY, HOUR, MINUTE, Mood, SECOND, Server, Shelf, begin, carried, rotating};
use crate::{LiveToken, State, Storage, clock::Clock, oauth2::TokenSet};

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_at_once() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.mood(Mood::Mute);
    let (token, _account) = begin(&server, &shelf);
    sleep(GIVEN_WAY + SECOND / 2).await;
    assert!(shelf.record().intent.is_some(), "it is written down that r0 may be spent");
    server.mood(Mood::Fine);
    token.ready().await.unwrap();
    assert_eq!(server.requests(), 2);
    assert_eq!(server.reuses(), 0);
    assert!(shelf.record().intent.is_none());
    assert_eq!(shelf.refresh_token().as_deref(), Some("r2"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_ends_nothing_while_the_token_in_use_serves_and_then_only_by_the_servers_word() {
    for mood in [Mood::Mute, Mood::Broken] {
        let (server, shelf) = (Server::new(), Shelf::new());
        let (token, account) = begin(&server, &shelf);
        token.ready().await.unwrap();
        while server.requests() == 1 {
            server.mood(mood);
            sleep(SECOND / 10).await;
        }
        // The grace is over, the access token isn't.
        let began = server.wall.wall();
        while token.status().is_usable() {
            let asked = server.requests();
            sleep(SECOND / 10).await;
            let since = server.wall.wall().duration_since(began).unwrap();
            let is_last_resort = !token.status().is_usable();
            assert!(
                since < 10 * SECOND || server.requests() == asked || is_last_resort,
                "{mood:?}: asked {since:?} late"
            );
        }
        assert!((2..=8).contains(&server.requests()), "at the pace of the backoff: {}", server.requests());
        assert!([State::Failing, State::Expired].contains(&token.status().state()));
        sleep(3 * HOUR).await;
        assert_eq!(token.status().state(), State::Expired, "{mood:?}: nobody but the server ends it");

        server.mood(Mood::Fine);
        sleep(MINUTE + SECOND).await;
        if mood == Mood::Broken {
            assert_eq!((token.status().state(), server.reuses()), (State::Live, 0), "nothing was spent");
            continue;
        }
        assert_eq!(token.status().state(), State::ReauthorizationRequired);
        let error = token.status().last_error().unwrap().to_string();
        assert!(error.contains("the answer never came"), "{error}");

        // Once, by one keeper.
        let requests = server.requests();
        sleep(24 * HOUR).await;
        let (other, _) = begin(&server, &shelf);
        other.ready().await.unwrap_err();
        assert_eq!(server.requests(), requests);

        // Until the user has authorized again.
        account.adopt(TokenSet::of_refresh_token("fresh")).await;
        token.ready().await.unwrap();
        sleep(SECOND).await;
        assert_eq!((token.status().state(), other.status().state()), (State::Live, State::Live));
        assert_eq!(carried(&token), carried(&other));
        assert_eq!(server.requests(), requests + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_strict_rule_shows_nothing_twice_after_the_grace() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let source = rotating(&server, &shelf).without_last_resort().holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    server.mood(Mood::Mute);
    sleep(2 * MINUTE).await;
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    let requests = server.requests();
    server.mood(Mood::Fine);
    sleep(24 * HOUR).await;
    assert_eq!((server.requests(), server.reuses()), (requests, 0));
    let error = token.status().last_error().unwrap().to_string();
    assert!(error.contains("the answer never came"), "{error}");
    // Without the rule, the next configuration tries.
    let (other, _) = begin(&server, &shelf);
    other.ready().await.unwrap_err();
    assert_eq!(server.reuses(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_refuses_the_token_in_use_ends_the_wait_for_its_end() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.lifetime(HOUR);
    token.refresh().await.unwrap();
    server.mood(Mood::Broken);
    sleep(50 * MINUTE).await;
    server.mood(Mood::Fine);
    assert_eq!(token.status().state(), State::Failing);
    let requests = server.requests();
    let (_, generation) = token.current().unwrap();
    assert!(!token.replaced(generation, 10 * SECOND).await);
    sleep(5 * SECOND).await;
    assert_eq!((server.requests(), token.status().is_usable()), (requests, true), "one 401 ends nothing");
    for _ in 0..10 {
        token.replaced(generation, 10 * SECOND).await;
        sleep(10 * SECOND).await;
    }
    assert_eq!((token.status().state(), server.reuses()), (State::Live, 0), "401s for a minute do");
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_spent_is_never_lost() {
    for mood in [Mood::Busy, Mood::Gone] {
        let (server, shelf) = (Server::new(), Shelf::new());
        let (token, _account) = begin(&server, &shelf);
        token.ready().await.unwrap();
        server.mood(mood);
        sleep(HOUR).await;
        assert_eq!(token.status().state(), State::Expired, "{mood:?}");
        server.mood(Mood::Fine);
        sleep(2 * MINUTE).await;
        assert_eq!(token.status().state(), State::Live, "{mood:?}");
        assert_eq!(server.reuses(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_server_is_the_end_for_all_and_a_human_may_try() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.mood(Mood::Refuses);
    sleep(HOUR).await;
    assert_eq!((token.status().state(), server.requests()), (State::ReauthorizationRequired, 2));

    let (other, _) = begin(&server, &shelf);
    other.ready().await.unwrap_err();
    assert_eq!(server.requests(), 2, "one that was refused is not shown by everybody");

    // The server's refusal was a mistake.
    server.mood(Mood::Fine);
    token.refresh().await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((token.status().state(), other.status().state()), (State::Live, State::Live));
}

/// A store after a process has died while it waited for a response.
async fn crash(server: &Server, shelf: &Shelf) {
    let (token, _account) = begin(server, shelf);
    token.ready().await.unwrap();
    // Due at the latest point, and the response takes longer than the process lives.
    server.takes(HOUR);
    sleep(51 * SECOND).await;
    assert!(shelf.record().intent.is_some());
    shelf.put_holder_to_sleep();
    drop(token);
    server.takes(SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn the_next_start_asks_again_for_what_a_crash_has_lost() {
    let (server, shelf) = (Server::new(), Shelf::new());
    crash(&server, &shelf).await;
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    assert_eq!(carried(&token).as_deref(), Some("a1"), "the old one still works, and nobody waits");
    sleep(3 * SECOND).await;
    assert_eq!(carried(&token).as_deref(), Some("a3"));
    assert_eq!((server.requests(), server.reuses()), (3, 0));
    assert_eq!(token.status().state(), State::Live);
    assert!(shelf.record().intent.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_old_token_is_never_used_in_silence_after_a_loss() {
    let (server, shelf) = (Server::new(), Shelf::new());
    crash(&server, &shelf).await;
    server.grace(SECOND);
    let requests = server.requests();
    let source = rotating(&server, &shelf).replay_grace(SECOND);
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    sleep(3 * SECOND).await;
    let status = token.status();
    assert_eq!((status.state(), status.is_usable()), (State::Failing, true));
    assert!(status.last_error().unwrap().to_string().contains("the answer to the last renewal never came"));
    assert_eq!((server.requests(), status.storage()), (requests, Storage::Sound), "it is too late to ask");
    sleep(MINUTE).await;
    assert_eq!((token.status().state(), token.status().is_usable()), (State::ReauthorizationRequired, false));
    assert_eq!((server.requests(), server.reuses()), (requests + 1, 1), "the last resort, once");
}

/// A renewal's response is lost. Then one route refuses everybody, and all others accept the token in use.
#[tokio::test(start_paused = true)]
async fn one_route_that_refuses_everybody_does_not_end_the_wait_for_the_end_of_the_token() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.mood(Mood::Mute);
    let _ = token.refresh().await;
    sleep(MINUTE).await;
    server.mood(Mood::Fine);
    let (_, generation) = token.current().unwrap();
    for _ in 0..20 {
        token.replaced(generation, SECOND).await;
        sleep(SECOND).await;
        token.report_accepted(generation);
        sleep(10 * SECOND).await;
    }
    assert_eq!((server.reuses(), token.status().is_usable()), (0, true));
}
