//! Stores that lose data: an entry is set back to an older state, a lease is lost while its holder is well.

use std::time::Duration;

use tokio::time::sleep;

use super::scene::{Fault, HOUR, MINUTE, Mood, Rotating, SECOND, Server, Shelf, begin, carried, rotating};
use crate::{
    FetchReason, FetchRequest, LiveToken, State, Storage, TokenSource,
    oauth2::{Stored, TokenSet},
    store::{Entry, Lease, StoreError, Swap, TokenStore},
};

/// A store that is far away: 40 ms for each call.
#[derive(Clone)]
struct Far(Shelf);

impl TokenStore for Far {
    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        sleep(FAR).await;
        self.0.load().await
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        sleep(FAR).await;
        self.0.swap(expected, data).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        sleep(FAR).await;
        self.0.lease(holder, time).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        sleep(FAR).await;
        self.0.release(holder).await
    }

    async fn changed(&self, known: u64) {
        self.0.changed(known).await;
    }
}

const FAR: Duration = Duration::from_millis(40);

/// Eight keepers of one authorization, each with its own schedule.
fn eight(server: &Server, store: &(impl TokenStore + Clone)) -> Vec<LiveToken> {
    let owners = (0..8).map(|number| {
        let source = Stored::in_store(Rotating(server.clone()), store.clone()).clock(server.wall);
        let source = source.replay_grace(10 * SECOND).holding(TokenSet::of_refresh_token("r0"));
        LiveToken::builder(source).clock(server.wall).seed(number).spawn()
    });
    owners.collect()
}

/// All live tokens carry the stored access token.
fn agree(owners: &[LiveToken], shelf: &Shelf, what: &str) {
    let stored = shelf.record().set.and_then(|set| set.access_token().map(str::to_owned));
    for owner in owners {
        let status = owner.status();
        assert_eq!(
            (status.state(), status.storage()),
            (State::Live, Storage::Sound),
            "{what}: {:?}",
            status.last_error()
        );
        assert_eq!(carried(owner), stored, "{what}");
    }
}

/// All states of the entry during two renewals, with their times.
async fn states(server: &Server, shelf: &Shelf) -> Vec<Option<Entry>> {
    let mut states = vec![shelf.entry()];
    let issued = server.issued();
    while server.issued() < issued + 2 || shelf.record().intent.is_some() {
        sleep(SECOND / 100).await;
        if *states.last().unwrap() != shelf.entry() {
            states.push(shelf.entry());
        }
    }
    states
}

#[tokio::test(start_paused = true)]
async fn an_entry_set_back_to_any_step_is_put_right_by_who_knows_and_nothing_is_spent_twice() {
    for told in [true, false] {
        // At each step of a renewal the entry is set back to each of the states before it.
        for at in 1..=4 {
            for by in 1..=4 {
                let what = format!("told: {told}, at step {at}, by {by}");
                let (server, shelf) = (Server::new(), Shelf::new());
                server.grace(SECOND / 100);
                server.takes(2 * SECOND);
                let owners = eight(&server, &shelf);
                for owner in &owners {
                    owner.ready().await.unwrap();
                }
                let mut before = states(&server, &shelf).await;
                for _ in 0..at {
                    let now = shelf.entry();
                    while shelf.entry() == now {
                        sleep(SECOND / 100).await;
                    }
                    before.push(now);
                }
                shelf.put(before[before.len() - by].clone());
                // The lease is lost with the entry.
                shelf.lose_lease();
                if told {
                    shelf.announce();
                }
                // Two lifetimes.
                sleep(2 * MINUTE).await;
                for _ in 0..50 {
                    if shelf.record().intent.is_none()
                        && owners.iter().all(|owner| carried(owner) == carried(&owners[0]))
                    {
                        break;
                    }
                    sleep(SECOND / 10).await;
                }
                assert_eq!(server.reuses(), 0, "{what}");
                agree(&owners, &shelf, &what);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_knows_less_lets_who_knows_more_go_first() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.grace(SECOND / 100);
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let oldest = shelf.entry();
    token.refresh().await.unwrap();
    let mut other = rotating(&server, &shelf);
    assert_eq!(other.fetch(FetchRequest::new(10 * SECOND)).await.unwrap().expose_secret(), "a2");
    token.refresh().await.unwrap();
    // Not announced: one hears of it when the other has restored its entry.
    shelf.put(oldest);
    let due = FetchRequest::because(FetchReason::Due, None, 10 * SECOND, false);
    assert_eq!(other.fetch(due).await.unwrap().expose_secret(), "a3");
    assert_eq!((server.requests(), server.reuses(), shelf.refresh_token().as_deref()), (3, 0, Some("r3")));
}

#[tokio::test(start_paused = true)]
async fn what_is_set_back_while_nobody_is_left_who_knows_is_said_once() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.grace(SECOND / 100);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let old = shelf.entry();
    sleep(5 * MINUTE).await;
    drop(token);
    sleep(SECOND).await;
    shelf.put(old);

    let (other, _) = begin(&server, &shelf);
    other.ready().await.unwrap_err();
    assert_eq!((other.status().state(), server.reuses()), (State::ReauthorizationRequired, 1));
    let (third, _) = begin(&server, &shelf);
    third.ready().await.unwrap_err();
    sleep(HOUR).await;
    assert_eq!(server.reuses(), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_failed_is_named_when_a_refresh_token_is_refused() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    shelf.fault(Fault::Down);
    sleep(50 * SECOND).await;
    server.mood(Mood::Refuses);
    shelf.fault(Fault::None);
    sleep(MINUTE).await;
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
    let error = token.status().last_error().unwrap().to_string();
    assert!(error.contains("lost in a failover"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_newer_authorization_wins_over_what_anybody_remembers() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let old = shelf.entry();
    sleep(5 * MINUTE).await;
    // Set back, and the user authorizes again at a process that knows no newer set.
    shelf.put(old);
    let (_other, account) = begin(&server, &shelf);
    account.adopt(TokenSet::of_refresh_token("fresh")).await;
    sleep(5 * SECOND).await;
    assert_eq!(server.reuses(), 0);
    let shown = server.shown("fresh");
    assert!(shown, "and not what the other one remembers");
    assert_eq!((carried(&token), token.status().state()), (carried(&_other), State::Live));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_while_its_holder_is_well_is_taken_back_before_anybody_spends() {
    for (lost_at, far) in [(1, false), (5, false), (9, false), (13, false), (1, true), (5, true), (9, true), (13, true)]
    {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.grace(SECOND / 100);
        server.takes(2 * SECOND);
        let owners = if far { eight(&server, &Far(shelf.clone())) } else { eight(&server, &shelf) };
        for owner in &owners {
            owner.ready().await.unwrap();
        }
        let requests = server.requests();
        while server.requests() == requests {
            sleep(SECOND / 100).await;
        }
        // All want to renew, and wait.
        for owner in &owners {
            let owner = owner.clone();
            tokio::spawn(async move { owner.refresh().await });
        }
        sleep(lost_at * SECOND / 10).await;
        shelf.lose_lease();
        sleep(30 * SECOND).await;
        assert_eq!(server.reuses(), 0, "after {lost_at} tenths, far: {far}");
        agree(&owners, &shelf, "a lost lease");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_on_purpose_stays_away() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let removed = rotating(&server, &shelf).remove().await.unwrap().unwrap();
    assert_eq!(removed.refresh_token(), Some("r1"));
    sleep(HOUR).await;
    assert_eq!((token.status().state(), token.status().is_usable()), (State::ReauthorizationRequired, false));
    assert!(shelf.record().set.is_none());
    assert!(rotating(&server, &shelf).remove().await.unwrap().is_none());
    // The old configuration doesn't bring it back, a new one does.
    let (again, account) = begin(&server, &shelf);
    again.ready().await.unwrap_err();
    account.adopt(TokenSet::of_refresh_token("fresh")).await;
    assert_eq!(again.status().state(), State::Live);
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_while_it_is_renewed_stays_away_too() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.takes(2 * SECOND);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let renewing = tokio::spawn({
        let token = token.clone();
        async move { token.refresh().await }
    });
    sleep(2 * SECOND).await;
    assert!(shelf.record().intent.is_some(), "it is under way");
    rotating(&server, &shelf).remove().await.unwrap().unwrap();
    renewing.await.unwrap().unwrap_err();
    sleep(2 * MINUTE).await;
    assert!(shelf.record().set.is_none(), "nobody puts it back");
    assert_eq!(token.status().state(), State::ReauthorizationRequired);
}

/// Others hold the lease for a moment each, whenever this keeper asks for it: after a lease they spend what is stored.
#[tokio::test(start_paused = true)]
async fn who_knows_a_newer_set_does_not_wait_for_a_whole_lease() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let (token, _account) = begin(&server, &shelf);
    token.ready().await.unwrap();
    let before = shelf.entry();
    token.refresh().await.unwrap();
    let newest = shelf.refresh_token();
    shelf.put(before);
    shelf.lease_to_the_dead(LEASE);
    shelf.announce();
    sleep(LEASE / 20).await;
    shelf.lose_lease();
    sleep(LEASE / 4).await;
    assert_eq!((shelf.refresh_token(), server.reuses()), (newest, 0));
}

const LEASE: Duration = SECOND;

/// The same where a lease is long. The others don't wait that long before they spend an initial set: the store was empty.
#[tokio::test(start_paused = true)]
async fn who_knows_a_newer_set_comes_in_time_however_long_a_lease_is() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    shelf.tells_nothing();
    let source = rotating(&server, &shelf).lease(MINUTE).holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(server.wall).seed(1).spawn();
    token.ready().await.unwrap();
    sleep(MINUTE).await;
    shelf.fault(Fault::Down);
    token.refresh().await.unwrap_err();
    // The store comes back empty, and another process begins again.
    shelf.put(None);
    shelf.fault(Fault::None);
    let (other, _account) = begin(&server, &shelf);
    sleep(SECOND / 10).await;
    assert_eq!(shelf.refresh_token().as_deref(), Some("r0"));
    let looks = shelf.loads();
    shelf.lease_to_the_dead(MINUTE);
    while shelf.loads() < looks + 2 {
        sleep(SECOND / 100).await;
    }
    sleep(SECOND / 100).await;
    shelf.lose_lease();
    sleep(5 * SECOND).await;
    assert_eq!((token.status().state(), other.status().state(), server.reuses()), (State::Live, State::Live, 0));
}

/// Somebody keeps the lease, as during a slow exchange, and everybody else knows a newer set.
#[tokio::test(start_paused = true)]
async fn a_fleet_that_knows_a_newer_set_does_not_press_a_store_whose_lease_is_held_for_long() {
    let (server, shelf) = (Server::new(), Shelf::new());
    server.lifetime(HOUR);
    let owners = eight(&server, &shelf);
    for owner in &owners {
        owner.ready().await.unwrap();
    }
    let before = shelf.entry();
    owners[0].refresh().await.unwrap();
    sleep(5 * SECOND).await;
    agree(&owners, &shelf, "before");
    shelf.put(before);
    shelf.lease_to_the_dead(25 * SECOND);
    let looks = shelf.loads();
    shelf.announce();
    sleep(25 * SECOND).await;
    let looks = (shelf.loads() - looks) / 8;
    assert!((10..=100).contains(&looks), "each looked {looks} times in 25 s");
    sleep(5 * SECOND).await;
    assert_eq!(server.reuses(), 0);
    agree(&owners, &shelf, "after");
}
