//! Sets that are adopted, and exchanges whose fetch was dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::{
    AccessToken, FetchError, FetchRequest, LiveToken, State, TokenSource,
    oauth2::{EndpointError, Grant, Stored, TokenSet},
    store::Account,
};

const SECOND: Duration = Duration::from_secs(1);

/// A grant that takes two seconds. It brings `a1`, `a2`, … with a lifetime of a minute, or refuses for good.
#[derive(Default)]
struct Slow {
    calls: Arc<AtomicU32>,
    refuses: bool,
}

impl Grant for Slow {
    async fn exchange(&self, _: Option<&TokenSet>, _: Duration) -> Result<TokenSet, FetchError> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(2 * SECOND).await;
        match self.refuses {
            true => Err(FetchError::rejected_for_good(EndpointError::unsent("no"))),
            false => Ok(TokenSet::of_access_token(format!("a{number}")).expires_in(60 * SECOND)),
        }
    }

    fn account(&self) -> Account {
        Account::new("https://id.test", "app")
    }
}

async fn fetch(source: &mut Stored<Slow>) -> AccessToken {
    source.fetch(FetchRequest::new(SECOND)).await.unwrap()
}

async fn given_up(source: &mut Stored<Slow>) {
    timeout(SECOND, source.fetch(FetchRequest::new(SECOND))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn what_is_given_at_the_start_is_no_reason_to_ask_twice() {
    let grant = Slow { refuses: true, ..Slow::default() };
    let calls = grant.calls.clone();
    let token = LiveToken::spawn(Stored::new(grant).holding(TokenSet::of_refresh_token("r")));
    token.ready().await.unwrap_err();
    sleep(60 * SECOND).await;
    assert_eq!(token.status().state(), State::Rejected);
    assert_eq!(calls.load(Ordering::Relaxed), 1, "what is rejected for good is not tried again by itself");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_comes_while_an_older_exchange_is_finished_is_not_forgotten() {
    let mut source = Stored::new(Slow::default());
    given_up(&mut source).await;
    let adopted = tokio::spawn(source.handle().adopt(TokenSet::of_access_token("new")));
    timeout(SECOND, source.changed()).await.unwrap();
    assert_eq!(fetch(&mut source).await.expose_secret(), "a1");
    timeout(SECOND, source.changed()).await.expect("the new one is not taken up yet");
    assert_eq!(fetch(&mut source).await.expose_secret(), "new");
    timeout(SECOND, source.changed()).await.unwrap_err();
    adopted.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_an_abandoned_exchange_brought_has_aged_when_it_is_picked_up() {
    let mut source = Stored::new(Slow::default());
    given_up(&mut source).await;
    sleep(40 * SECOND).await;
    let age = fetch(&mut source).await.age_when_fetched().unwrap();
    assert!(age >= 41 * SECOND, "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn adopting_returns_when_there_is_nobody_to_adopt() {
    // Never spawned.
    let source = Stored::new(Slow::default());
    let account = source.handle();
    let waiting = tokio::spawn(account.adopt(TokenSet::of_access_token("early")));
    sleep(SECOND).await;
    drop(source);
    timeout(SECOND, waiting).await.unwrap().unwrap();
    timeout(SECOND, account.adopt(TokenSet::of_access_token("late"))).await.unwrap();

    // Shut down, with a token without an end.
    let source = Stored::new(Slow::default()).holding(TokenSet::of_access_token("a"));
    let account = source.handle();
    let token = LiveToken::spawn(source);
    token.ready().await.unwrap();
    token.shutdown().await;
    timeout(SECOND, account.adopt(TokenSet::of_access_token("late"))).await.unwrap();
    assert!(token.status().is_usable());
}
