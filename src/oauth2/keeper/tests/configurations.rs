//! Several configurations with one store, and one that changes: scopes, credentials, rules.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::{
    asking::{Asking, asking, refused},
    scene::{HOUR, MINUTE, Mood, SECOND, Server, Shelf, begin, rotating},
};
use crate::{FetchError, LiveToken, State, oauth2::TokenSet};

/// A process without `without_last_resort` finds the end that a strict one has written.
#[tokio::test(start_paused = true)]
async fn a_verdict_that_does_not_hold_for_who_starts_is_not_looked_at_every_second() {
    let mut wrong = Vec::new();
    for strict in [true, false] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(HOUR);
        let (token, other);
        if strict {
            let source = rotating(&server, &shelf).without_last_resort().holding(TokenSet::of_refresh_token("r0"));
            token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
            token.ready().await.unwrap();
            server.mood(Mood::Mute);
            let _ = token.refresh().await;
            sleep(30 * SECOND).await;
            drop(token);
            server.mood(Mood::Fine);
            (other, _) = begin(&server, &shelf);
        } else {
            // Refused, and then another secret.
            (token, _) = asking(Asking { secret: "old", ..Asking::new(&server, "read") }, &shelf, 1, Some("r0"));
            token.ready().await.unwrap();
            server.mood(Mood::Refuses);
            let _ = token.refresh().await;
            drop(token);
            server.mood(Mood::Fine);
            (other, _) = asking(Asking { secret: "new", ..Asking::new(&server, "read") }, &shelf, 2, None);
        }
        other.ready().await.unwrap();
        let before = shelf.loads();
        let mut without = 0;
        for _ in 0..6600 {
            sleep(SECOND).await;
            without += u32::from(!other.status().is_usable());
        }
        let looks = shelf.loads() - before;
        if looks >= 200 {
            wrong.push(format!(
                "{looks} looks in less than two hours, {without} s without a token (strict: {strict}), {:?} {:?}",
                other.status().state(),
                shelf.refresh_token()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An outage longer than the grace, and one more scope: nobody can use the stored access token.
#[tokio::test(start_paused = true)]
async fn a_token_that_this_configuration_cannot_use_is_not_waited_for() {
    let mut wrong = Vec::new();
    for (timeless, at_most) in [(false, 2 * MINUTE), (true, 240 * HOUR)] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(HOUR);
        let (old, _) = asking(Asking { timeless, ..Asking::new(&server, "read") }, &shelf, 1, Some("r0"));
        old.ready().await.unwrap();
        server.mood(Mood::Broken);
        let _ = old.refresh().await;
        drop(old);
        sleep(MINUTE).await;
        let (new, _) = asking(Asking { timeless, ..Asking::new(&server, "read write") }, &shelf, 2, None);
        sleep(MINUTE).await;
        server.mood(Mood::Fine);
        sleep(at_most).await;
        if !(new.status().state() == State::Live) {
            wrong.push(format!(
                "{:?}, {at_most:?} after the server is well (timeless: {timeless})",
                new.status().state()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A rollout with a scope that the user hasn't granted (Microsoft: `invalid_grant`, AADSTS65001) is taken back.
#[tokio::test(start_paused = true)]
async fn what_was_refused_for_one_more_scope_is_no_refusal_of_the_configuration_without_it() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (old, _) = asking(Asking::new(&server, "read"), &shelf, 1, Some("r0"));
    old.ready().await.unwrap();
    let refuses = Arc::new(|| Some(FetchError::reauthorize(refused(400, Some("invalid_grant")))));
    let wrong = Asking { refuses: Some(refuses), ..Asking::new(&server, "read write") };
    let (new, _) = asking(wrong, &shelf, 2, None);
    sleep(MINUTE).await;
    assert_eq!(new.status().state(), State::ReauthorizationRequired);
    drop(new);
    // The rollout is taken back.
    sleep(2 * HOUR).await;
    let (restarted, _) = asking(Asking::new(&server, "read"), &shelf, 3, None);
    sleep(MINUTE).await;
    assert_eq!(
        (old.status().state(), restarted.status().state()),
        (State::Live, State::Live),
        "the server takes r1 for what they ask for: {:?}",
        old.status().last_error()
    );
}

/// The same with a guess: the server refuses a parameter without a code.
#[tokio::test(start_paused = true)]
async fn a_guess_about_one_configuration_does_not_end_what_another_one_goes_on_with() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (old, _) = asking(Asking::new(&server, "read"), &shelf, 1, Some("r0"));
    old.ready().await.unwrap();
    drop(old);
    sleep(2 * MINUTE).await;
    let refuses = || {
        let refusal = refused(400, None);
        Some(FetchError::try_again(refusal.clone()).or_finally(FetchError::reauthorize(refusal)))
    };
    let wrong = Asking { refuses: Some(Arc::new(refuses)), ..Asking::new(&server, "read, mistyped") };
    let (new, _) = asking(wrong, &shelf, 2, None);
    sleep(10 * MINUTE).await;
    drop(new);
    let (mended, _) = asking(Asking::new(&server, "read"), &shelf, 3, None);
    sleep(10 * MINUTE).await;
    assert_eq!(mended.status().state(), State::Live, "{:?}", mended.status().last_error());
}

/// One replica with a wrong endpoint, or a faulty network, must not speak for all.
#[tokio::test(start_paused = true)]
async fn a_replica_with_a_wrong_configuration_does_not_stop_the_ones_with_a_right_one() {
    let mut wrong = Vec::new();
    for wait in [Some(HOUR), None] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(5 * MINUTE);
        let (good, _) = asking(Asking::new(&server, "read"), &shelf, 1, Some("r0"));
        good.ready().await.unwrap();
        let refuses = move || {
            let error = FetchError::try_again(refused(503, None));
            Some(match wait {
                Some(wait) => error.retry_after(wait),
                None => error,
            })
        };
        let mistaken = Asking { refuses: Some(Arc::new(refuses)), ..Asking::new(&server, "v2") };
        let (_bad, _) = asking(mistaken, &shelf, 2, None);
        let (mut without, mut longest) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..3600 {
            sleep(SECOND).await;
            without = if good.status().is_usable() { Duration::ZERO } else { without + SECOND };
            longest = longest.max(without);
        }
        if longest >= MINUTE {
            wrong.push(format!("without a token for {longest:?}, and its server is well ({wait:?})"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A refresh token that no longer works, at a server that sends no codes and limits requests.
#[tokio::test(start_paused = true)]
async fn a_guess_becomes_final_though_something_else_comes_between() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _) = asking(Asking::new(&server, "read"), &shelf, 1, Some("r0"));
    token.ready().await.unwrap();
    drop(token);
    sleep(2 * MINUTE).await;
    let count = AtomicU64::new(0);
    let refuses = move || {
        Some(if count.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            FetchError::try_again(refused(429, None))
        } else {
            let refusal = refused(400, None);
            FetchError::try_again(refusal.clone()).or_finally(FetchError::reauthorize(refusal))
        })
    };
    let grant = Asking { refuses: Some(Arc::new(refuses)), ..Asking::new(&server, "read") };
    let (token, _) = asking(grant, &shelf, 2, None);
    sleep(24 * HOUR).await;
    assert_eq!(token.status().state(), State::ReauthorizationRequired, "a day of 400, 400, 429");
}

/// The refresh token was refused. Then the client gets another secret, and that is wrong, or the server is down.
#[tokio::test(start_paused = true)]
async fn other_credentials_that_fail_keep_to_the_backoff() {
    let invalid_client = || FetchError::rejected(refused(401, Some("invalid_client")));
    let down = || FetchError::try_again(refused(503, None));
    for (name, most, fails) in [("invalid_client", 4, invalid_client as fn() -> FetchError), ("503", 30, down)] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(HOUR);
        let old = Asking { secret: "old", ..Asking::new(&server, "read") };
        let (token, _) = asking(old, &shelf, 1, Some("r0"));
        token.ready().await.unwrap();
        server.mood(Mood::Refuses);
        let _ = token.refresh().await;
        assert_eq!(token.status().state(), State::ReauthorizationRequired);
        drop(token);
        let asked = Arc::<AtomicU64>::default();
        let counted = asked.clone();
        let refuses = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Some(fails())
        };
        let new = Asking { secret: "new", refuses: Some(Arc::new(refuses)), ..Asking::new(&server, "read") };
        let (_token, _) = asking(new, &shelf, 2, None);
        sleep(10 * MINUTE).await;
        let asked = asked.load(Ordering::Relaxed);
        assert!((1..=most).contains(&asked), "{name}: {asked} token requests in ten minutes");
    }
}

/// A proxy answers token requests with a page of its own, and one route of the API refuses the token that all others accept.
#[tokio::test(start_paused = true)]
async fn a_guess_is_not_final_while_only_one_route_refuses_the_token() {
    for accepted in [true, false] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(HOUR);
        let proxy = Arc::<AtomicBool>::default();
        let is_there = proxy.clone();
        let refuses = move || {
            let refusal = refused(400, None);
            let guess = FetchError::try_again(refusal.clone()).or_finally(FetchError::reauthorize(refusal));
            is_there.load(Ordering::Relaxed).then_some(guess)
        };
        let grant = Asking { refuses: Some(Arc::new(refuses)), ..Asking::new(&server, "read") };
        let (token, _) = asking(grant, &shelf, 1, Some("r0"));
        token.ready().await.unwrap();
        sleep(MINUTE).await;
        proxy.store(true, Ordering::Relaxed);
        let (_, generation) = token.current().unwrap();
        let mut ended = 0;
        for _ in 0..1_200 {
            token.report_refused(generation);
            sleep(SECOND / 8).await;
            if accepted {
                token.report_accepted(generation);
            }
            sleep(SECOND / 8).await;
            ended += u32::from(token.status().state() == State::ReauthorizationRequired);
        }
        assert_eq!(ended > 0, !accepted, "accepted in between: {accepted}, {ended} looks");
    }
}

/// A guess of an hour ago, after which everything worked, says nothing of a deployment that takes twenty seconds.
#[tokio::test(start_paused = true)]
async fn a_guess_lasts_from_its_first_time_since_the_last_success() {
    let ends: [fn(crate::oauth2::EndpointError) -> FetchError; 2] =
        [FetchError::reauthorize, FetchError::rejected_for_good];
    for ends in ends {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(10 * SECOND);
        let proxy = Arc::<AtomicBool>::default();
        let is_there = proxy.clone();
        let refuses = move || {
            let refusal = refused(400, None);
            let guess = FetchError::try_again(refusal.clone()).or_finally(ends(refusal));
            is_there.load(Ordering::Relaxed).then_some(guess)
        };
        let grant = Asking { refuses: Some(Arc::new(refuses)), ..Asking::new(&server, "read") };
        let (token, _) = asking(grant, &shelf, 1, Some("r0"));
        token.ready().await.unwrap();
        proxy.store(true, Ordering::Relaxed);
        token.refresh().await.unwrap_err();
        proxy.store(false, Ordering::Relaxed);
        sleep(HOUR).await;
        assert_eq!(token.status().state(), State::Live);
        proxy.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for _ in 0..200 {
            sleep(SECOND / 10).await;
            seen.push(token.status().state());
        }
        proxy.store(false, Ordering::Relaxed);
        seen.dedup();
        sleep(2 * MINUTE).await;
        let is_final = |state: &State| matches!(state, State::ReauthorizationRequired | State::Rejected);
        assert!(!seen.iter().any(is_final), "within twenty seconds: {seen:?}");
        assert_eq!(token.status().state(), State::Live);
    }
}
