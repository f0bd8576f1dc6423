//! Stores that fail at each step of a fetch.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::time::{sleep, timeout};

use super::scene::{
    Fault, GIVEN_WAY, HOUR, MINUTE, Rotating, SECOND, Server, Shelf, Wall, begin, carried, plain, rotating,
};
use crate::{
    LiveToken, State, Storage,
    clock::Clock,
    oauth2::{Stored, TokenSet},
    store::{Entry, Lease, StoreError, Swap, TokenStore},
};

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

/// A store with a method that panics, `.1`: at the call, or in the future that it returns.
#[derive(Clone)]
struct Panicking(Shelf, Arc<Mutex<Option<(&'static str, bool)>>>);

impl Panicking {
    /// Panics once if it is this method's turn.
    fn meet(&self, method: &str, at_the_call: bool) {
        let mut planned = self.1.lock().unwrap();
        if *planned == Some((method, at_the_call)) {
            *planned = None;
            drop(planned);
            panic!("wanted: {method}");
        }
    }
}

impl TokenStore for Panicking {
    fn load(&self) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send {
        self.meet("load", true);
        async { (self.meet("load", false), self.0.load().await).1 }
    }

    fn swap(&self, expected: u64, data: &[u8]) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        self.meet("swap", true);
        async move { (self.meet("swap", false), self.0.swap(expected, data).await).1 }
    }

    fn lease(&self, holder: &str, time: Duration) -> impl Future<Output = Result<Lease, StoreError>> + Send {
        self.meet("lease", true);
        async move { (self.meet("lease", false), self.0.lease(holder, time).await).1 }
    }

    fn release(&self, holder: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.meet("release", true);
        async { (self.meet("release", false), self.0.release(holder).await).1 }
    }

    fn changed(&self, known: u64) -> impl Future<Output = ()> + Send {
        self.meet("changed", true);
        async move { (self.meet("changed", false), self.0.changed(known).await).1 }
    }
}

fn in_panicking(server: &Server, store: &Panicking) -> LiveToken {
    let source = Stored::in_store(Rotating(server.clone()), store.clone()).clock(server.wall).replay_grace(10 * SECOND);
    let source = source.holding(TokenSet::of_refresh_token("r0"));
    LiveToken::builder(source).clock(server.wall).seed(1).spawn()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_costs_no_answer() {
    for method in ["load", "swap", "lease", "release", "changed"] {
        for at_the_call in [true, false] {
            let (server, store) = (Server::new(), Panicking(Shelf::new(), Arc::default()));
            server.takes(SECOND);
            server.grace(Duration::ZERO);
            server.lifetime(HOUR);
            let token = in_panicking(&server, &store);
            sleep(GIVEN_WAY + SECOND / 2).await;
            assert_eq!((server.requests(), token.status().is_usable()), (1, false), "the exchange runs");
            *store.1.lock().unwrap() = Some((method, at_the_call));
            sleep(20 * SECOND).await;
            let what = format!("{method}, at the call: {at_the_call}");
            assert_eq!(*store.1.lock().unwrap(), None, "{what}: it has panicked");
            assert_eq!((token.status().state(), server.requests(), server.reuses()), (State::Live, 1, 0), "{what}");
            assert_eq!(store.0.refresh_token().as_deref(), Some("r1"), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_is_tried_again_after_a_panic() {
    for method in ["load", "swap"] {
        let (server, store) = (Server::new(), Panicking(Shelf::new(), Arc::default()));
        server.takes(SECOND);
        server.lifetime(HOUR);
        let token = in_panicking(&server, &store);
        sleep(GIVEN_WAY + SECOND / 2).await;
        store.0.fault(Fault::ReadOnly);
        token.ready().await.unwrap();
        assert_eq!((carried(&token).as_deref(), token.status().storage()), (Some("a1"), Storage::Unsaved));
        *store.1.lock().unwrap() = Some((method, false));
        sleep(10 * SECOND).await;
        assert_eq!(*store.1.lock().unwrap(), None, "{method} has panicked");
        store.0.fault(Fault::None);
        sleep(MINUTE).await;
        let found = (token.status().storage(), store.0.refresh_token());
        assert_eq!(found, (Storage::Sound, Some("r1".to_owned())), "{method}");
    }
}

/// The user has just authorized again, and waits.
#[tokio::test(start_paused = true)]
async fn what_is_adopted_while_the_store_hangs_is_used_after_one_call_to_it() {
    for moment in [HOUR, SECOND, GIVEN_WAY + SECOND / 2] {
        let (server, shelf) = (Server::new(), Shelf::new());
        server.takes(SECOND);
        let (token, account) = begin(&server, &shelf);
        sleep(moment).await;
        shelf.fault(Fault::Hung);
        sleep(10 * MINUTE).await;
        let set = TokenSet {
            refresh_token: TokenSet::of_refresh_token("fresh").refresh_token,
            ..TokenSet::of_access_token("new")
        };
        let adopted = account.adopt(set.expires_in(HOUR).with_requested_at(server.wall.wall()));
        assert!(timeout(6 * SECOND, adopted).await.is_ok(), "{moment:?}");
        assert_eq!(carried(&token).as_deref(), Some("new"), "{moment:?}");
    }
}

/// Others try the spent refresh token as their last resort when their token ends.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_is_stored_soon_after_the_store_is_back() {
    for away in [SECOND / 2, 2 * SECOND, 4 * SECOND, 20 * SECOND] {
        let (server, shelf) = (Server::new(), Shelf::new());
        let (token, _handle) = begin(&server, &shelf);
        token.ready().await.unwrap();
        server.takes(2 * SECOND);
        let fails = async {
            sleep(SECOND).await;
            shelf.fault(Fault::ReadOnly);
        };
        let (refreshed, ()) = tokio::join!(token.refresh(), fails);
        refreshed.unwrap();
        sleep(away).await;
        assert_eq!(token.status().storage(), Storage::Unsaved);
        shelf.fault(Fault::None);
        sleep(away / 16 + SECOND / 5).await;
        assert_eq!(token.status().storage(), Storage::Sound, "after {away:?}");
    }
}

/// A machine that can be suspended.
#[derive(Clone)]
struct Suspended(Wall, Arc<Mutex<Duration>>);

impl Clock for Suspended {
    fn wall(&self) -> SystemTime {
        self.0.wall() + self.suspended()
    }

    fn suspended(&self) -> Duration {
        *self.1.lock().unwrap()
    }
}

/// Nothing is tried while the machine sleeps, so that time is none of the five minutes.
#[tokio::test(start_paused = true)]
async fn a_suspend_after_the_end_of_the_source_costs_nothing_that_is_not_stored_yet() {
    let (server, shelf) = (Server::new(), Shelf::new());
    let clock = Suspended(server.wall, Arc::default());
    let source = rotating(&server, &shelf).clock(clock.clone()).holding(TokenSet::of_refresh_token("r0"));
    let token = LiveToken::builder(source).clock(clock.clone()).seed(1).spawn();
    token.ready().await.unwrap();
    server.takes(2 * SECOND);
    let fails = async {
        sleep(SECOND).await;
        shelf.fault(Fault::ReadOnly);
    };
    let (refreshed, ()) = tokio::join!(token.refresh(), fails);
    refreshed.unwrap();
    drop(token);
    sleep(SECOND).await;
    *clock.1.lock().unwrap() += HOUR;
    // The network comes back a little later than the machine.
    sleep(2 * SECOND).await;
    shelf.fault(Fault::None);
    sleep(6 * SECOND).await;
    assert_eq!(shelf.refresh_token().as_deref(), Some("r2"), "nobody has it any more");
}

/// The process that has it may have shut its live token down. The token of the other one has ended long ago.
#[tokio::test(start_paused = true)]
async fn what_is_not_stored_yet_comes_before_the_last_resort_of_another_process() {
    let outages = [[Fault::ReadOnly; 2], [Fault::Down; 2], [Fault::ReadOnly, Fault::Down]];
    for (faults, is_dropped) in outages.into_iter().flat_map(|faults| [(faults, false), (faults, true)]) {
        for away in (10..120).step_by(25) {
            let (server, shelf) = (Server::new(), Shelf::new());
            let ((one, handle), (other, _)) = (begin(&server, &shelf), begin(&server, &shelf));
            one.ready().await.unwrap();
            other.ready().await.unwrap();
            server.takes(2 * SECOND);
            let fails = async {
                sleep(SECOND).await;
                shelf.fault(faults[0]);
            };
            let (refreshed, ()) = tokio::join!(one.refresh(), fails);
            refreshed.unwrap();
            assert_eq!(one.status().storage(), Storage::Unsaved);
            let _kept = (!is_dropped).then_some((one, handle));
            sleep(80 * SECOND).await;
            shelf.fault(faults[1]);
            sleep(away * SECOND).await;
            shelf.fault(Fault::None);
            sleep(MINUTE).await;
            let what = format!("{faults:?}, the last one for {away} s, dropped: {is_dropped}");
            assert_eq!((server.reuses(), other.status().state()), (0, State::Live), "{what}");
        }
    }
}

/// A store that has each part of a call by itself: one that hangs is given up as soon as any other call.
#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_costs_no_more_than_a_call_that_hangs() {
    for fault in [Fault::Hung, Fault::LeaseHangs] {
        let (server, shelf) = (Server::new(), Shelf::new());
        shelf.fault(fault);
        let token = plain(&server, &shelf, 1);
        timeout(6 * SECOND, token.ready()).await.unwrap_or_else(|_| panic!("{fault:?}")).unwrap();
    }
    // And nobody waits for the lease to be released.
    for (fault, calls) in [(Fault::Hung, 1), (Fault::SwapHangs, 1)] {
        let (server, shelf) = (Server::new(), Shelf::new());
        let (token, _handle) = begin(&server, &shelf);
        token.ready().await.unwrap();
        server.takes(2 * SECOND);
        let hangs = async {
            sleep(SECOND).await;
            shelf.fault(fault);
        };
        let (refreshed, ()) = tokio::join!(timeout((3 + 5 * calls) * SECOND, token.refresh()), hangs);
        refreshed.unwrap_or_else(|_| panic!("{fault:?}")).unwrap();
    }
}
