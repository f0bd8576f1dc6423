//! Cases that were once wrong: each of them ended an authorization without need, sent a spent refresh token again, or never ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::scene::{Call, HOUR, MINUTE, Mood, SECOND, Server, Shelf, Wall, account, begin, carried, rotating};
use crate::{
    FetchError, LiveToken, State,
    clock::Clock,
    oauth2::{
        EndpointError, Grant, Stored, StoredHandle, TokenSet,
        endpoint_error::{
            reported_error::ReportedError,
            verdict::{Verdict, judge},
        },
        grant::GrantKind,
    },
    store::{Account, Credentials, Entry, Lease, StoreError, Swap, TokenStore},
};

/// The refresh token grant at that server, asking for something.
struct Asking {
    server: Server,
    asks: &'static str,
    /// The server sends no lifetime.
    timeless: bool,
    secret: &'static str,
    /// How the server refuses this request, if it does.
    refuses: Option<Arc<dyn Fn() -> Option<FetchError> + Send + Sync>>,
}

impl Asking {
    fn new(server: &Server, asks: &'static str) -> Self {
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

fn asking(grant: Asking, shelf: &Shelf, seed: u64, holding: Option<&str>) -> (LiveToken, StoredHandle) {
    let wall = grant.server.wall;
    let mut source = Stored::in_store(grant, shelf.clone()).clock(wall).replay_grace(10 * SECOND);
    if let Some(with) = holding {
        source = source.holding(TokenSet::of_refresh_token(with));
    }
    let handle = source.handle();
    (LiveToken::builder(source).clock(wall).seed(seed).spawn(), handle)
}

fn refused(status: u16, code: Option<&str>) -> EndpointError {
    EndpointError {
        status: Some(StatusCode::from_u16(status).unwrap()),
        code: code.map(str::to_owned),
        text: format!("status {status}"),
        acted: false,
    }
}

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

fn verdict(grant: GrantKind, status: u16, body: Value) -> (Verdict, bool) {
    let status = StatusCode::from_u16(status).unwrap();
    let judged = judge(grant, status, ReportedError::of(status, body.as_object()).as_ref());
    (judged.verdict, judged.certain)
}

const RENEWAL: GrantKind = GrantKind::RefreshToken { worked: true };

/// A 401 without a known code never ends an authorization.
#[test]
fn a_401_without_a_known_code_is_never_about_the_user() {
    let mut wrong = Vec::new();
    for body in [
        // API gateways (AWS, Okta).
        json!({"message": "The incoming token has expired"}),
        json!({"errorCode": "E0000011", "errorSummary": "Invalid token provided"}),
        // Words of no specification, about the client's credentials.
        json!({"error": "invalid_credentials"}),
        json!({"error": "Bad credentials"}),
        json!({"error": "invalid_authorization_header"}),
        json!({"error": "Missing Authorization Header"}),
    ] {
        let (verdict, certain) = verdict(RENEWAL, 401, body.clone());
        if !(verdict == Verdict::Rejected) {
            wrong.push(format!("{body}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// "Later" in a provider's own words, and an unknown code that was final at once.
#[test]
fn a_code_that_is_not_registered_is_never_final_at_once() {
    let mut wrong = Vec::new();
    for (status, body) in [
        // Slack: "The workspace is undergoing an enterprise migration and will not be available until migration is complete."
        (200, json!({"ok": false, "error": "org_login_required"})),
        (400, json!({"error": "token_used_too_early"})),
        (400, json!({"error": "missing_token"})),
        (400, json!({"error": "invalid_session_affinity"})),
        (400, json!({"error": "code_unknown"})),
    ] {
        let (verdict, certain) = verdict(RENEWAL, status, body.clone());
        if verdict == Verdict::Reauthorize && certain {
            wrong.push(format!("{body}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Firebase's securetoken endpoint, which rotates: a deleted user was taken for a wrong configuration, for ever.
#[test]
fn google_identity_platform_says_that_the_refresh_token_is_dead() {
    let mut wrong = Vec::new();
    for message in ["TOKEN_EXPIRED", "USER_DISABLED", "USER_NOT_FOUND", "INVALID_REFRESH_TOKEN"] {
        let body = json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}});
        let (verdict, certain) = verdict(RENEWAL, 400, body);
        if !(verdict == Verdict::Reauthorize) {
            wrong.push(format!("{message}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An internal error is no final refusal of a password.
#[test]
fn a_5xx_never_ends_a_password_for_good() {
    let mut wrong = Vec::new();
    for (status, body) in [
        (500, json!({"error": "invalid_grant"})),
        (502, json!({"message": "upstream session not found"})),
        (504, json!({"error": "Access Denied"})),
        (503, json!({"message": "The incoming token has expired"})),
    ] {
        let (verdict, certain) = verdict(GrantKind::Password, status, body.clone());
        if verdict == Verdict::RejectedForGood && certain {
            wrong.push(format!("{status} {body}: {verdict:?}, certain: {certain}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
