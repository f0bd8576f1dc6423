//! A store that is emptied, keepers that are overtaken, configurations that are taken back: the keeper that knows the newest set wins.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::{sync::watch, time::sleep};

use super::scene::{
    Fault, HOUR, MINUTE, Mood, Rotating, SECOND, Server, Shelf, Wall, account, begin, carried, rotating, run,
};
use crate::{
    FetchError, LiveToken, State, Storage,
    clock::Clock,
    oauth2::{EndpointError, Grant, Stored, TokenSet},
    store::{Account, Entry, Lease, StoreError, Swap, TokenStore},
};

/// A grant that sends its request late.
struct Late(Server, watch::Receiver<Duration>);

impl Grant for Late {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        let wait = *self.1.borrow();
        sleep(wait).await;
        Rotating(self.0.clone()).exchange(held, limit).await
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        account()
    }
}

/// A machine's network stops for some seconds: its lease ends, another process renews, and then its own request is refused.
#[tokio::test(start_paused = true)]
async fn who_was_overtaken_and_refused_goes_on_with_what_its_successor_has_stored() {
    let mut wrong = Vec::new();
    for stays in [true, false] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(HOUR);
        server.grace(SECOND);
        let late = watch::Sender::new(Duration::ZERO);
        let source = Stored::in_store(Late(server.clone(), late.subscribe()), shelf.clone()).clock(server.wall);
        let source = source.replay_grace(10 * SECOND).holding(TokenSet::of_refresh_token("r0"));
        let slow = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
        slow.ready().await.unwrap();
        late.send_replace(8 * SECOND);
        let renewing = slow.clone();
        tokio::spawn(async move { renewing.refresh().await });
        sleep(SECOND / 2).await;
        shelf.put_holder_to_sleep();
        // A successor finds its intent, and the ended lease.
        let (other, _) = begin(&server, &shelf);
        other.ready().await.unwrap();
        let refreshed = other.refresh().await;
        assert!(
            refreshed.is_ok() && shelf.refresh_token().as_deref() == Some("r2"),
            "{refreshed:?} {:?}",
            shelf.refresh_token()
        );
        if !stays {
            other.shutdown().await;
        }
        sleep(MINUTE).await;
        let after_a_minute = (slow.status().state(), slow.status().is_usable());
        sleep(12 * HOUR).await;
        let later = (slow.status().state(), slow.status().is_usable());
        if after_a_minute.0 != State::Live || later.0 != State::Live {
            wrong.push(format!("successor stays: {stays}: after a minute {after_a_minute:?}, after 12 h {later:?}; stored: {:?}, dead: {:?}", shelf.refresh_token(), shelf.record().dead));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Refresh tokens that can be used several times. Access tokens are named after them.
struct Reusable(Server);

impl Grant for Reusable {
    async fn exchange(&self, held: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        let token = held.and_then(TokenSet::refresh_token).unwrap_or("none").to_owned();
        sleep(SECOND / 10).await;
        if token == "mistyped" {
            return Err(FetchError::reauthorize(EndpointError {
                status: Some(StatusCode::BAD_REQUEST),
                code: Some("invalid_grant".into()),
                text: "no".into(),
                acted: false,
            }));
        }
        let mut set = TokenSet::of_access_token(format!("of-{token}")).expires_in(MINUTE);
        (set.requested_at, set.refresh_requested_at) = (self.0.wall.wall(), self.0.wall.wall());
        Ok(set)
    }

    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        held.is_some_and(|held| held.refresh_token().is_some())
    }

    fn account(&self) -> Account {
        account()
    }
}

/// A rollout with a wrong refresh token is taken back. For a while both configurations run.
#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_taken_back_is_not_undone_by_an_old_process() {
    for with_access_token in [false, true] {
        let (server, shelf) = (Server::new(), Shelf::new());
        let start = |seed: &str| {
            let source = Stored::in_store(Reusable(server.clone()), shelf.clone()).clock(server.wall);
            let set = TokenSet::of_access_token(format!("first-{seed}")).expires_in(MINUTE).with_refresh_token(seed);
            run(
                &server,
                source.holding(match with_access_token {
                    true => set.with_requested_at(server.wall.wall()),
                    false => TokenSet::of_refresh_token(seed),
                }),
            )
        };
        let first = start("good");
        first.ready().await.unwrap();
        first.shutdown().await;
        sleep(MINUTE).await;
        let wrong = start("mistyped");
        sleep(2 * MINUTE).await;
        assert_eq!(wrong.status().state(), State::ReauthorizationRequired);
        let mended = start("good");
        sleep(SECOND).await;
        wrong.shutdown().await;
        drop(wrong);
        sleep(10 * MINUTE).await;
        let found = (mended.status().state(), carried(&mended));
        let why = mended.status().last_error().map(ToString::to_string);
        assert_eq!(found, (State::Live, Some("of-good".into())), "{with_access_token}: {why:?}");
    }
}

/// A store that is read four times a second, as a file is.
#[derive(Clone)]
struct Polled(Shelf);

impl TokenStore for Polled {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.0.load().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.0.swap(expected, data).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.0.lease(holder, time).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.0.release(holder).await
    }

    async fn changed(&self, known: u64) {
        loop {
            sleep(SECOND / 4).await;
            if self.0.entry().map_or(0, |entry| entry.version()) != known {
                return;
            }
        }
    }
}

/// The store is emptied. The first process that finds it so has no refresh token in its configuration, the second has.
#[tokio::test(start_paused = true)]
async fn a_seed_waits_also_where_somebody_without_one_has_looked_before() {
    let mut wrong = Vec::new();
    for millis in [50, 100, 150, 200] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.grace(SECOND / 100);
        server.lifetime(HOUR);
        let own = |seed: Option<&str>, number| {
            let mut source = Stored::in_store(Rotating(server.clone()), Polled(shelf.clone()))
                .clock(server.wall)
                .replay_grace(10 * SECOND);
            if let Some(seed) = seed {
                source = source.holding(TokenSet::of_refresh_token(seed));
            }
            LiveToken::builder(source).clock(server.wall).seed(number).spawn()
        };
        let one = own(Some("r0"), 1);
        one.ready().await.unwrap();
        one.refresh().await.unwrap();
        sleep(SECOND + Duration::from_millis(millis)).await;
        shelf.put(None);
        let _without = own(None, 2);
        sleep(Duration::from_millis(20)).await;
        let seeded = own(Some("r0"), 3);
        sleep(5 * MINUTE).await;
        if server.reuses() > 0 {
            wrong.push(format!(
                "{millis} ms: {} reuses, {:?} {:?}",
                server.reuses(),
                one.status().state(),
                seeded.status().state()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

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

/// The documentation asks for clocks that agree within about a second.
#[tokio::test(start_paused = true)]
async fn who_has_a_clock_a_second_ahead_gives_way_too() {
    let mut wrong = Vec::new();
    for ahead in [Duration::ZERO, SECOND] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.grace(SECOND / 100);
        server.lifetime(HOUR);
        let own = |number, ahead| {
            let clock = Ahead(server.wall, ahead);
            let source = Stored::in_store(Rotating(server.clone()), Polled(shelf.clone()))
                .clock(clock)
                .replay_grace(10 * SECOND)
                .holding(TokenSet::of_refresh_token("r0"));
            LiveToken::builder(source).clock(clock).seed(number).spawn()
        };
        let one = own(1, Duration::ZERO);
        one.ready().await.unwrap();
        one.refresh().await.unwrap();
        sleep(SECOND + SECOND / 10).await;
        shelf.put(None);
        let _second = own(2, Duration::ZERO);
        sleep(Duration::from_millis(20)).await;
        let _third = own(3, ahead);
        sleep(5 * MINUTE).await;
        if server.reuses() > 0 {
            wrong.push(format!("{ahead:?}: {} reuses, {:?}", server.reuses(), one.status().state()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A clock that was wrong when a user authorized, and is set right.
#[tokio::test(start_paused = true)]
async fn what_is_adopted_is_not_thrown_away_for_what_a_wrong_clock_has_written() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let clock = Ahead(server.wall, 240 * HOUR);
    let source = rotating(&server, &shelf).clock(clock).holding(TokenSet::of_refresh_token("r0"));
    let early = LiveToken::builder(source).clock(clock).seed(1).spawn();
    early.ready().await.unwrap();
    early.shutdown().await;
    let (token, account) = begin(&server, &shelf);
    sleep(SECOND).await;
    server.mood(Mood::Refuses);
    sleep(10 * MINUTE).await;
    let _ = token.refresh().await;
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    server.mood(Mood::Fine);
    account.adopt(TokenSet::of_refresh_token("fresh")).await;
    sleep(5 * MINUTE).await;
    assert_eq!(
        token.status().state(),
        State::Live,
        "{:?} {:?} {:?}",
        token.status().last_error(),
        shelf.refresh_token(),
        server.shown("fresh")
    );
}

/// A response could not be stored, and then the store is empty.
#[tokio::test(start_paused = true)]
async fn what_is_not_stored_yet_comes_before_a_seed() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.grace(SECOND / 100);
    server.lifetime(HOUR);
    let own = |number| {
        let source = Stored::in_store(Rotating(server.clone()), Polled(shelf.clone()))
            .clock(server.wall)
            .replay_grace(10 * SECOND)
            .holding(TokenSet::of_refresh_token("r0"));
        LiveToken::builder(source).clock(server.wall).seed(number).spawn()
    };
    let one = own(1);
    one.ready().await.unwrap();
    server.takes(2 * SECOND);
    let renewing = one.clone();
    tokio::spawn(async move { renewing.refresh().await });
    sleep(SECOND).await;
    shelf.fault(Fault::ReadOnly);
    sleep(40 * SECOND).await;
    assert_eq!(one.status().storage(), Storage::Unsaved);
    shelf.put(None);
    shelf.fault(Fault::None);
    let _two = own(2);
    sleep(5 * MINUTE).await;
    assert_eq!((server.reuses(), one.status().state()), (0, State::Live));
}

/// With the longest lease.
#[tokio::test(start_paused = true)]
async fn who_begins_with_a_long_lease_has_a_token_within_a_minute() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let source = rotating(&server, &shelf).lease(5 * MINUTE).holding(TokenSet::of_refresh_token("r0"));
    let account = source.handle();
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    sleep(SECOND).await;
    let set = TokenSet::of_access_token("new").expires_in(HOUR).with_refresh_token("fresh");
    let began = server.wall.wall();
    account.adopt(set.with_requested_at(began)).await;
    let adopted = server.wall.wall().duration_since(began).unwrap();
    assert!(adopted < MINUTE, "a user who has just logged in waits for {adopted:?}: {:?}", carried(&token));
}

/// An adopted set need not wait while a keeper gives way.
#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_who_gives_way() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let source = rotating(&server, &shelf).lease(5 * MINUTE).holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    sleep(SECOND).await;
    let began = server.wall.wall();
    token.shutdown().await;
    let took = server.wall.wall().duration_since(began).unwrap();
    assert!(took < MINUTE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_started_in_an_emptied_store_renews_like_others() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.grace(SECOND / 100);
    server.lifetime(HOUR);
    let own = |number| {
        let source = Stored::in_store(Rotating(server.clone()), shelf.clone()).clock(server.wall);
        let source = source.replay_grace(Duration::ZERO).holding(TokenSet::of_refresh_token("r0"));
        LiveToken::builder(source).clock(server.wall).seed(number).spawn()
    };
    let one = own(1);
    one.ready().await.unwrap();
    one.refresh().await.unwrap();
    shelf.put(None);
    sleep(75 * SECOND).await;
    let two = own(2);
    two.ready().await.unwrap();
    let began = server.wall.wall();
    two.refresh().await.unwrap();
    let took = server.wall.wall().duration_since(began).unwrap();
    assert!(took < 5 * SECOND, "{took:?}");
    sleep(5 * SECOND).await;
    assert_eq!((server.reuses(), carried(&one)), (0, carried(&two)));
}
