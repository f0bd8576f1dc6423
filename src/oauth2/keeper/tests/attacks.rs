//! Cases that were once wrong: each of them ended an authorization without need, sent a spent refresh token again, or never ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::scene::{Call, HOUR, MINUTE, Mood, SECOND, Server, Shelf, Wall, account, begin, carried, rotating};
use crate::{
    LiveToken, State,
    clock::Clock,
    oauth2::{Stored, TokenSet, endpoint_error::reported_error::ReportedError},
    store::{Entry, Lease, StoreError, Swap, TokenStore},
};

/// The user logs out while another process renews.
#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_after_a_flush_does_not_take_its_seed_for_a_new_authorization() {
    for told in [true, false] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.grace(SECOND / 100);
        server.lifetime(HOUR);
        let (token, _account) = begin(&server, &shelf);
        token.ready().await.unwrap();
        token.refresh().await.unwrap();
        shelf.put(None);
        if told {
            shelf.announce();
        }
        // Two at the same moment, and one more while the first one waits.
        let (other, _) = begin(&server, &shelf);
        sleep(SECOND / 2).await;
        let (third, _) = begin(&server, &shelf);
        sleep(5 * MINUTE).await;
        assert_eq!(server.reuses(), 0, "one is there who knows r2, and the seed r0 has been spent long ago");
        for token in [&token, &other, &third] {
            assert_eq!(token.status().state(), State::Live);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_logged_out_while_somebody_renews_stays_logged_out() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(2 * SECOND);
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let renewing = token.clone();
    tokio::spawn(async move { renewing.refresh().await });
    sleep(SECOND).await;
    assert!(shelf.record().intent.is_some());
    let removed = rotating(&server, &shelf).remove().await.unwrap();
    assert!(removed.is_some() && shelf.record().set.is_none());
    sleep(MINUTE).await;
    assert!(shelf.record().set.is_none(), "{:?} is back", shelf.refresh_token());
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
}

/// The user logs out while the store has forgotten the entry, and another process remembers it.
#[tokio::test(start_paused = true)]
async fn who_is_logged_out_while_the_store_has_forgotten_stays_logged_out() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    shelf.put(None);
    rotating(&server, &shelf).remove().await.unwrap();
    sleep(2 * HOUR).await;
    assert_eq!(shelf.refresh_token(), None, "it was put back after `remove()` had returned");
    assert!(!token.status().is_usable());
}

/// A store whose announcements can be lost for a while, and that takes a millisecond for everything.
#[derive(Clone)]
struct Partly {
    shelf: Shelf,
    deaf: watch::Sender<bool>,
    swaps: Arc<AtomicU64>,
}

impl TokenStore for Partly {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        sleep(SECOND / 1000).await;
        self.shelf.load().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        sleep(SECOND / 1000).await;
        self.swaps.fetch_add(1, Ordering::Relaxed);
        self.shelf.swap(expected, data).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.shelf.lease(holder, time).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.shelf.release(holder).await
    }

    async fn changed(&self, known: u64) {
        let mut deaf = self.deaf.subscribe();
        if *deaf.borrow() {
            let _ = deaf.wait_for(|deaf| !deaf).await;
            // A new connection counts as a change.
            return;
        }
        tokio::select! {
            () = self.shelf.changed(known) => {}
            _ = deaf.wait_for(|deaf| *deaf) => {}
        }
    }
}

/// Two keepers, each of which takes the other's restored entry for older.
#[tokio::test(start_paused = true)]
async fn two_owners_do_not_put_back_what_they_know_for_ever() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.grace(SECOND / 100);
    server.lifetime(HOUR);
    let (deaf, swaps) = (watch::Sender::new(false), Arc::new(AtomicU64::new(0)));
    let partly = || Partly { shelf: shelf.clone(), deaf: deaf.clone(), swaps: swaps.clone() };
    let owner = |seed| {
        let source = Stored::in_store(super::scene::Rotating(server.clone()), partly()).clock(server.wall);
        let source = source.replay_grace(10 * SECOND).holding(TokenSet::of_refresh_token("r0"));
        LiveToken::builder(source).clock(server.wall).seed(seed).spawn()
    };
    let one = owner(1);
    one.ready().await.unwrap();
    let old = shelf.entry();
    one.refresh().await.unwrap();
    // It has seen r2 only.
    let other = owner(2);
    other.ready().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(carried(&one), carried(&other));

    // A failover to a replica without the last write. The subscriptions are lost for a moment, and a process starts that writes.
    deaf.send_replace(true);
    sleep(SECOND).await;
    shelf.put(old);
    server.mood(Mood::Busy);
    let (third, _) = begin(&server, &shelf);
    third.ready().await.unwrap();
    for _ in 0..4 {
        third.refresh().await.unwrap_err();
        sleep(2 * SECOND).await;
    }
    drop(third);
    server.mood(Mood::Fine);
    deaf.send_replace(false);

    sleep(10 * SECOND).await;
    let before = swaps.load(Ordering::Relaxed);
    sleep(MINUTE).await;
    let written = swaps.load(Ordering::Relaxed) - before;
    assert!(written < 20, "{written} writes in a minute in which nothing happens");
    sleep(2 * HOUR).await;
    assert_eq!((one.status().state(), other.status().state(), server.reuses()), (State::Live, State::Live, 0));
}

/// A rollout that removes `without_last_resort`: both configurations share a store for a while.
#[tokio::test(start_paused = true)]
async fn beside_an_owner_with_the_strict_rule_the_token_in_use_still_serves_to_its_end() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let source = rotating(&server, &shelf).without_last_resort().holding(TokenSet::of_refresh_token("r0"));
    let strict = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    strict.ready().await.unwrap();
    let began = server.wall.wall();
    let (lenient, _) = begin(&server, &shelf);
    lenient.ready().await.unwrap();
    sleep(SECOND).await;
    server.mood(Mood::Mute);
    let _ = strict.refresh().await;
    sleep(30 * SECOND).await;
    server.mood(Mood::Fine);
    drop(strict);
    assert_eq!(carried(&lenient).as_deref(), Some("a1"));
    let record = shelf.record();
    assert!(record.dead.is_some(), "what is tested: {:?}", record.intent);
    while server.wall.wall().duration_since(began).unwrap() < 59 * MINUTE {
        sleep(SECOND).await;
        let left = HOUR - server.wall.wall().duration_since(began).unwrap();
        assert_eq!(server.reuses(), 0, "r1 was shown again, long after the grace, and a1 has {left:?} left");
    }
}

/// The store loses the intent of a renewal under way, and the user authorizes again: the entry comes to the same version.
#[tokio::test(start_paused = true)]
async fn a_renewal_under_way_does_not_overwrite_a_new_authorization_that_has_the_version_of_its_lost_intent() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let before = shelf.entry();
    server.takes(10 * SECOND);
    let renewing = token.clone();
    tokio::spawn(async move { renewing.refresh().await });
    sleep(SECOND).await;
    assert!(shelf.record().intent.is_some());
    // The failover loses the intent.
    shelf.put(before);
    // A process that finishes a login and ends: a command-line tool, or a web application without a live token.
    let source = rotating(&server, &shelf);
    let login = source.handle();
    let brief = LiveToken::builder(source).clock(server.wall).seed(3).spawn();
    brief.ready().await.unwrap();
    let set = TokenSet::of_access_token("new").expires_in(HOUR).with_refresh_token("fresh");
    login.adopt(set.with_requested_at(server.wall.wall())).await;
    assert_eq!(shelf.refresh_token().as_deref(), Some("fresh"));
    brief.shutdown().await;
    drop(brief);
    sleep(MINUTE).await;
    assert_eq!(shelf.refresh_token().as_deref(), Some("fresh"), "what the user has just authorized is gone");
}

/// An adopted set has an access token that can't be sent, and the first renewal fails in an outage.
#[tokio::test(start_paused = true)]
async fn an_access_token_that_cannot_be_sent_is_not_waited_for() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.mood(Mood::Broken);
    account.adopt(TokenSet::of_access_token("can't be sent\n").with_refresh_token("fresh")).await;
    sleep(2 * MINUTE).await;
    server.mood(Mood::Fine);
    sleep(240 * HOUR).await;
    assert_eq!(token.status().state(), State::Live, "ten days later: {:?}", token.status().last_error());
}

/// A wall clock that runs ahead.
#[derive(Clone, Copy)]
struct Ahead(Wall, Duration);

impl Clock for Ahead {
    fn wall(&self) -> SystemTime {
        self.0.wall() + self.1
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A clock that is wrong until NTP sets it, a failure before that, and a restart after it.
#[tokio::test(start_paused = true)]
async fn a_failure_noted_by_a_clock_that_ran_ahead_stops_nobody_for_an_hour() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.mood(Mood::Gone);
    let clock = Ahead(server.wall, 50 * MINUTE);
    let source = rotating(&server, &shelf).clock(clock).holding(TokenSet::of_refresh_token("r0"));
    let early = LiveToken::builder(source).clock(clock).seed(1).spawn();
    sleep(5 * SECOND).await;
    drop(early);
    server.mood(Mood::Fine);
    let (token, _) = begin(&server, &shelf);
    sleep(3 * MINUTE).await;
    assert_eq!(token.status().state(), State::Live, "{:?}", token.status().last_error());
}

/// A slow store between the decision to ask again within the grace, and the request.
#[tokio::test(start_paused = true)]
async fn what_was_to_be_sent_within_the_grace_is_not_sent_after_it() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.mood(Mood::Mute);
    let _ = token.refresh().await;
    drop(token);
    server.mood(Mood::Fine);
    sleep(7 * SECOND).await;
    let (other, _) = begin(&server, &shelf);
    shelf.answers_late(Call::Swap, 4 * SECOND);
    other.ready().await.unwrap();
    sleep(MINUTE).await;
    assert_eq!(server.reuses(), 0, "it was sent after the grace, and a1 serves for most of an hour");
}

/// In the same state the keeper that is due first continues with what it takes for the newest.
#[tokio::test(start_paused = true)]
async fn two_owners_that_take_each_other_for_older_spend_nothing_twice() {
    let mut spent_twice = Vec::new();
    for seed in 0..12 {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.grace(SECOND / 100);
        server.lifetime(5 * MINUTE);
        let (deaf, swaps) = (watch::Sender::new(false), Arc::new(AtomicU64::new(0)));
        let partly = || Partly { shelf: shelf.clone(), deaf: deaf.clone(), swaps: swaps.clone() };
        let owner = |seed| {
            let source = Stored::in_store(super::scene::Rotating(server.clone()), partly()).clock(server.wall);
            let source = source.replay_grace(10 * SECOND).holding(TokenSet::of_refresh_token("r0"));
            LiveToken::builder(source).clock(server.wall).seed(seed).spawn()
        };
        let one = owner(seed);
        one.ready().await.unwrap();
        let old = shelf.entry();
        one.refresh().await.unwrap();
        let other = owner(seed + 100);
        other.ready().await.unwrap();
        sleep(SECOND).await;
        deaf.send_replace(true);
        sleep(SECOND).await;
        shelf.put(old);
        server.mood(Mood::Busy);
        let (third, _) = begin(&server, &shelf);
        third.ready().await.unwrap();
        for _ in 0..4 {
            third.refresh().await.unwrap_err();
            sleep(2 * SECOND).await;
        }
        drop(third);
        server.mood(Mood::Fine);
        deaf.send_replace(false);
        sleep(20 * MINUTE).await;
        if server.reuses() > 0 || one.status().state() != State::Live || other.status().state() != State::Live {
            spent_twice.push((seed, server.reuses(), one.status().state(), other.status().state()));
        }
    }
    assert!(spent_twice.is_empty(), "{spent_twice:#?}");
}

/// Nothing panics, whatever is stored or answered.
#[test]
fn nothing_panics_over_what_is_stored_or_answered() {
    use crate::store::record::Record;
    let full = json!({"format": 2, "generation": u64::MAX, "account": {"server": "https://id.test", "client": "app", "subject": {"user": "anna"}},
        "renewals": u64::MAX, "from_seed": "a", "authorized_at_ms": u64::MAX, "restored_at_ms": u64::MAX, "set": {"access_token": "a", "refresh_token": "r", "scope": "s", "lifetime_ms": u64::MAX,
        "requested_at_ms": u64::MAX, "refresh_lifetime_ms": u64::MAX, "refresh_requested_at_ms": u64::MAX}, "asks": "", "rotates": true, "seeds": ["a"],
        "intent": {"at_ms": u64::MAX, "by": "é-1"}, "dead": {"end": "refused", "text": "t", "refused_with": ["x"], "salt": "s"},
        "failure": {"count": u32::MAX, "at_ms": u64::MAX, "until_ms": u64::MAX, "asked": true, "by": "b", "of": "x", "text": "t", "guess": {"verdict": "user", "since_ms": u64::MAX, "seen": u32::MAX}}})
    .to_string();
    let record = Record::read(Some(&Entry::new(1, full.clone().into_bytes())), &account()).unwrap();
    let next = record.authorized(None, "", SystemTime::UNIX_EPOCH);
    assert!(next.write(&account()).len() < 4096);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..100_000 {
        let mut bytes = full.clone().into_bytes();
        for _ in 0..rng.usize(1..4) {
            if bytes.is_empty() {
                break;
            }
            let at = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[at] = rng.u8(..),
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let _ = Record::read(Some(&Entry::new(1, bytes.clone())), &account());
        if let Ok(Value::Object(answer)) = serde_json::from_slice(&bytes) {
            let _ = ReportedError::of(http::StatusCode::OK, [&answer]).and_then(|said| said.topic());
        }
    }
}

/// One route of the API answers 401 once (a missing permission, a replica that lags). All others accept the token.
#[tokio::test(start_paused = true)]
async fn one_401_does_not_show_a_spent_refresh_token_while_the_token_in_use_serves() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    server.mood(Mood::Mute);
    let _ = token.refresh().await;
    sleep(MINUTE).await;
    server.mood(Mood::Fine);
    let (_, generation) = token.current().unwrap();
    token.replaced(generation, 10 * SECOND).await;
    assert_eq!(server.reuses(), 0, "r1 was shown again 58 minutes before a1 ends: the family is revoked");
}
