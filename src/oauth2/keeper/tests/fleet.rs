//! Several keepers with one store.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::scene::{
    GIVEN_WAY, HOUR, MINUTE, Mood, Plain, Rotating, SECOND, Server, Shelf, Wall, account, begin, carried, plain,
    rotating, run,
};
use crate::{
    FetchError, LiveToken, State,
    clock::Clock,
    oauth2::{Grant, Stored, TokenSet},
    store::{Account, Credentials, Entry},
};

/// A grant that tells what its client authenticates with.
struct Telling<G>(G);

impl<G: Grant> Grant for Telling<G> {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        self.0.exchange(held, limit).await
    }

    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        self.0.is_repeatable(held)
    }

    fn account(&self) -> Account {
        self.0.account()
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(Credentials::of("secret"))
    }
}

/// A live token of a client with that secret.
fn tells(server: &Server, shelf: &Shelf, rotates: bool, clock: impl Clock) -> LiveToken {
    if rotates {
        let source = Stored::in_store(Telling(Rotating(server.clone())), shelf.clone()).clock(clock);
        run(server, source.holding(TokenSet::of_refresh_token("r0")))
    } else {
        run(server, Stored::in_store(Telling(Plain(server.clone())), shelf.clone()).clock(clock))
    }
}

/// A clock that is behind.
struct Behind(Wall, Duration);

impl Clock for Behind {
    fn wall(&self) -> SystemTime {
        self.0.wall() - self.1
    }

    fn suspended(&self) -> Duration {
        self.0.suspended()
    }
}

#[tokio::test(start_paused = true)]
async fn who_starts_together_fetches_once() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let tokens: Vec<_> = (0..50).map(|seed| plain(&server, &shelf, seed)).collect();
    for token in &tokens {
        token.ready().await.unwrap();
        assert_eq!(carried(token).as_deref(), Some("a1"));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_fetches_little_more_than_one_process() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let tokens: Vec<_> = (0..8).map(|seed| plain(&server, &shelf, seed)).collect();
    for _ in 0..600 {
        sleep(SECOND).await;
        assert!(tokens.iter().all(|token| token.status().is_usable()));
    }
    let current: Vec<_> = tokens.iter().map(carried).collect();
    assert!(current.windows(2).all(|pair| pair[0] == pair[1]), "all have what one has fetched: {current:?}");
    // Ten lifetimes, each renewed at 75 % by the keeper that is first.
    assert!((10..=14).contains(&server.requests()), "{}", server.requests());
}

#[tokio::test(start_paused = true)]
async fn rotation_in_a_fleet_shows_no_token_twice() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let tokens: Vec<_> = (0..8).map(|_| begin(&server, &shelf)).collect();
    sleep(10 * MINUTE).await;
    for (token, _) in &tokens {
        assert_eq!(token.status().state(), State::Live);
        assert_eq!(carried(token), carried(&tokens[0].0));
    }
    assert!((10..=14).contains(&server.requests()), "{}", server.requests());
    assert_eq!(server.reuses(), 0);
}

/// A wrong secret, in fifty processes: one asks for all. Who is restarted later asks for itself, because somebody may have mended something.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_asks_once_for_its_whole_fleet() {
    for rotates in [false, true] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.mood(Mood::RefusesClients);
        let start = || tells(&server, &shelf, rotates, server.wall);
        let tokens: Vec<_> = (0..50).map(|_| start()).collect();
        sleep(HOUR + MINUTE).await;
        assert!((13..=15).contains(&server.requests()), "{} in an hour", server.requests());
        for token in &tokens {
            let status = token.status();
            let said = status.last_error().unwrap().to_string();
            assert!(status.state() == State::Rejected && said.contains("status 401"), "{status}: {said}");
        }

        let asked = server.requests();
        sleep(2 * MINUTE).await;
        start().ready().await.unwrap_err();
        assert_eq!(server.requests(), asked + 1);
        server.mood(Mood::Fine);
        sleep(MINUTE).await;
        start().ready().await.unwrap();
        sleep(SECOND).await;
        assert!(tokens.iter().all(|token| token.status().state() == State::Live), "{}", tokens[0].status());
        assert_eq!((server.requests(), server.reuses()), (asked + 2, 0));
    }
}

/// No two machines have the same time.
#[tokio::test(start_paused = true)]
async fn a_refusal_stands_for_those_whose_clocks_are_behind_as_well() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.mood(Mood::RefusesClients);
    let start = |number| tells(&server, &shelf, false, Behind(server.wall, number * SECOND / 50));
    let _tokens: Vec<_> = (0..50).map(start).collect();
    sleep(HOUR + MINUTE).await;
    assert!((13..=15).contains(&server.requests()), "{} in an hour", server.requests());
}

/// What one client may not ask for, another may.
#[tokio::test(start_paused = true)]
async fn a_refusal_stands_for_those_who_ask_for_the_same() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.mood(Mood::RefusesClients);
    let start = || tells(&server, &shelf, false, server.wall);
    let refused = start();
    refused.ready().await.unwrap_err();
    let mut record = shelf.record();
    let failure = record.failure.as_mut().unwrap();
    assert_eq!(failure.refused.as_deref(), Some(&*record.asks));
    failure.refused = Some("something else".into());
    let version = shelf.entry().unwrap().version();
    shelf.put(Some(Entry::new(version + 1, record.write(&account()).to_vec())));
    let asked = server.requests();
    start().ready().await.unwrap_err();
    assert_eq!(server.requests(), asked + 1);
}

/// A grant of the user's own may not tell what its client authenticates with. Then nobody knows whether others have the same secret.
#[tokio::test(start_paused = true)]
async fn who_is_refused_with_a_secret_that_nobody_knows_speaks_for_itself() {
    let (refusing, server, shelf) = (Server::new(), Server::new(), Shelf::new());
    refusing.mood(Mood::RefusesClients);
    let wrong = plain(&refusing, &shelf, 1);
    wrong.ready().await.unwrap_err();
    let right = plain(&server, &shelf, 2);
    right.ready().await.unwrap();
    sleep(SECOND).await;
    assert_eq!((wrong.status().state(), carried(&wrong)), (State::Live, carried(&right)));
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_waited_for_no_longer_than_its_lease() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.lease_to_the_dead(3 * SECOND);
    let (token, _account) = begin(&server, &shelf);
    sleep(3 * SECOND - SECOND / 10).await;
    assert_eq!(server.requests(), 0);
    sleep(SECOND / 2).await;
    assert_eq!((server.requests(), token.status().state()), (1, State::Live));
}

/// All of them look at the same moment, each with the lease for a moment. That must not block the others.
#[tokio::test(start_paused = true)]
async fn a_large_fleet_goes_on_without_a_dead_member_as_soon_as_a_small_one() {
    for (size, way) in [(2, 1), (8, 1), (8, 10), (50, 1), (50, 5)] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.lifetime(2 * SECOND);
        let tokens: Vec<_> = (0..size).map(|_| begin(&server, &shelf)).collect();
        for (token, _) in &tokens {
            token.ready().await.unwrap();
        }
        shelf.is_far(way * SECOND / 1000);
        server.takes(HOUR);
        let asked = server.requests();
        while server.requests() == asked {
            sleep(SECOND / 100).await;
        }
        shelf.put_holder_to_sleep();
        server.takes(SECOND / 100);
        let died = server.wall.wall();
        while server.requests() == asked + 1 {
            sleep(SECOND / 100).await;
        }
        // One lease until it counts as dead, and another in which it could come back.
        let took = server.wall.wall().duration_since(died).unwrap();
        assert!(took <= SECOND * 5 / 2, "{size} members, {way} ms to the store: {took:?}");
        assert_eq!(server.reuses(), 0);
        // All have what one has brought, those that were about to wait for a holder, too.
        sleep(SECOND / 4).await;
        let stored = shelf.record().set.and_then(|set| set.access_token().map(str::to_owned));
        let without = tokens.iter().filter(|(token, _)| carried(token) != stored).count();
        // The one that sleeps, and perhaps one whose next is under way.
        assert!(without <= 1, "{size} members, {way} ms to the store: {without} without {stored:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_as_long_as_the_exchange_takes() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(20 * SECOND);
    let (one, _) = begin(&server, &shelf);
    sleep(GIVEN_WAY + SECOND / 2).await;
    let holder = shelf.holder();
    assert!(holder.is_some());
    let (other, _) = begin(&server, &shelf);
    for _ in 0..18 {
        sleep(SECOND).await;
        assert_eq!(shelf.holder(), holder);
    }
    sleep(3 * SECOND).await;
    assert_eq!((carried(&one), carried(&other)), (Some("a1".into()), Some("a1".into())));
    assert_eq!((server.requests(), shelf.holder()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn who_slept_past_its_lease_does_not_overwrite_its_successor() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(5 * SECOND);
    let (sleeper, _) = begin(&server, &shelf);
    sleep(GIVEN_WAY + SECOND / 2).await;
    shelf.put_holder_to_sleep();
    server.takes(SECOND / 10);
    let (successor, _) = begin(&server, &shelf);
    sleep(3 * SECOND).await;
    assert_eq!((carried(&successor).as_deref(), carried(&sleeper)), (Some("a2"), None));
    let stored = shelf.entry();

    // Its response comes late, and nobody uses its token: all continue with the stored one.
    sleep(3 * SECOND).await;
    assert_eq!(shelf.entry(), stored);
    assert_eq!((carried(&successor).as_deref(), carried(&sleeper).as_deref()), (Some("a2"), Some("a2")));
    assert_eq!((server.requests(), server.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_late_answer_of_a_sleeper_saves_what_its_successor_has_lost() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(5 * SECOND);
    let (sleeper, _) = begin(&server, &shelf);
    sleep(GIVEN_WAY + SECOND / 2).await;
    shelf.put_holder_to_sleep();
    // The successor finds that it is too late to ask.
    let late = rotating(&server, &shelf).replay_grace(SECOND).without_last_resort();
    let successor = LiveToken::builder(late).clock(server.wall).seed(2).spawn();
    sleep(3 * SECOND).await;
    assert_eq!(successor.status().state(), State::ReauthorizationRequired);

    sleep(5 * SECOND).await;
    assert_eq!((carried(&sleeper).as_deref(), shelf.refresh_token().as_deref()), (Some("a1"), Some("r1")));
    assert_eq!((successor.status().state(), carried(&successor).as_deref()), (State::Live, Some("a1")));
    assert_eq!((server.requests(), server.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_attempt_stands_for_a_whole_fleet_while_the_endpoint_is_down() {
    let alone = {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.mood(Mood::Busy);
        let _token = plain(&server, &shelf, 0);
        sleep(10 * MINUTE).await;
        server.requests()
    };
    let (server, shelf) = (Server::new(), Shelf::new());
    server.mood(Mood::Busy);
    let tokens: Vec<_> = (0..50).map(|seed| plain(&server, &shelf, seed)).collect();
    sleep(10 * MINUTE).await;
    assert!(server.requests() <= 3 * alone, "{} requests of 50, {alone} of one alone", server.requests());

    server.mood(Mood::Fine);
    let before = server.requests();
    sleep(2 * MINUTE).await;
    assert!(tokens.iter().all(|token| token.status().state() == State::Live));
    assert!(server.requests() - before <= 4, "and one brings it back for all: {}", server.requests() - before);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_has_refused_is_not_taken_out_of_the_store_again() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (one, other) = (plain(&server, &shelf, 1), plain(&server, &shelf, 2));
    one.ready().await.unwrap();
    other.ready().await.unwrap();
    // A failure in the future doesn't count.
    sleep(6 * SECOND).await;
    let refused = async |token: &LiveToken| {
        let (_, generation) = token.current().unwrap();
        token.replaced(generation, SECOND * 10).await
    };
    let (one_replaced, other_replaced) = tokio::join!(refused(&one), refused(&other));
    assert!(one_replaced && other_replaced);
    assert_eq!((carried(&one).as_deref(), carried(&other).as_deref()), (Some("a2"), Some("a2")));
    assert_eq!(server.requests(), 2, "both were refused, one has fetched");
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_the_lifetime_asks_nobody() {
    let (server, shelf) = (Server::new(), Shelf::new());
    plain(&server, &shelf, 1).ready().await.unwrap();
    sleep(30 * SECOND).await;
    let again = plain(&server, &shelf, 2);
    again.ready().await.unwrap();
    assert_eq!(server.requests(), 1);
    assert!(again.status().time_left().unwrap() <= 30 * SECOND, "its age counts");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_stays_the_same_is_no_new_beginning() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _) = begin(&server, &shelf);
    token.ready().await.unwrap();
    drop(token);
    sleep(HOUR).await;
    // Again with `r0`, which was spent an hour ago.
    let (token, _) = begin(&server, &shelf);
    token.ready().await.unwrap();
    assert_eq!((server.reuses(), shelf.refresh_token().as_deref()), (0, Some("r2")));
    drop(token);

    // Somebody configures another one.
    let source = rotating(&server, &shelf).holding(TokenSet::of_refresh_token("another"));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    assert_eq!(shelf.refresh_token().as_deref(), Some("r3"));
}

#[tokio::test(start_paused = true)]
async fn an_authorization_given_elsewhere_is_found_in_a_store_that_tells_of_nothing() {
    let (server, shelf) = (Server::new(), Shelf::new());
    shelf.tells_nothing();
    let ((one, account), (other, _)) = (begin(&server, &shelf), begin(&server, &shelf));
    sleep(GIVEN_WAY + SECOND).await;
    server.mood(Mood::Refuses);
    one.refresh().await.unwrap_err();
    other.refresh().await.unwrap_err();
    assert_eq!(other.status().state(), State::ReauthorizationRequired);

    server.mood(Mood::Fine);
    account.adopt(TokenSet::of_refresh_token("new")).await;
    assert_eq!(one.status().state(), State::Live);
    sleep(61 * SECOND).await;
    assert_eq!((other.status().state(), carried(&other)), (State::Live, carried(&one)));
}

#[tokio::test(start_paused = true)]
async fn an_authorization_is_found_though_who_was_given_it_is_gone_before_its_first_exchange() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let ((one, account), (other, _)) = (begin(&server, &shelf), begin(&server, &shelf));
    sleep(GIVEN_WAY + SECOND).await;
    server.mood(Mood::Refuses);
    one.refresh().await.unwrap_err();
    other.refresh().await.unwrap_err();
    assert_eq!(other.status().state(), State::ReauthorizationRequired);

    server.takes(5 * SECOND);
    server.mood(Mood::Gone);
    let adopted = account.adopt(TokenSet::of_refresh_token("new"));
    sleep(SECOND).await;
    drop((one, account, adopted));
    server.takes(SECOND / 10);
    server.mood(Mood::Fine);
    sleep(2 * MINUTE).await;
    assert_eq!(other.status().state(), State::Live);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_process_has_not_failed() {
    for takes in [SECOND, 8 * SECOND] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.takes(takes);
        let owner = || {
            run(&server, {
                let first = TokenSet::of_refresh_token("r0");
                rotating(&server, &shelf).replay_grace(std::time::Duration::ZERO).holding(first)
            })
        };
        let tokens = [owner(), owner(), owner()];
        sleep(MINUTE).await;
        for _ in 0..6_000 {
            sleep(SECOND / 10).await;
            assert!(tokens.iter().all(|token| token.status().state() == State::Live), "{takes:?}");
        }
    }
}
