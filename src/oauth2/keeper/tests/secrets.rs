//! A client's secret that changes at any time, as one in a file does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::{
    asking::refused,
    scene::{HOUR, MINUTE, Rotating, SECOND, Server, Shelf, account},
};
use crate::{
    FetchError, LiveToken, State,
    oauth2::{EndpointError, Grant, Stored, TokenSet},
    store::{Account, Credentials},
};

/// The refresh token grant, with a secret that is read when it is needed.
struct Changing<F, J> {
    server: Server,
    /// Reads the secret.
    secret: F,
    /// How the server refuses this secret, if it does.
    judge: J,
    exchanges: Arc<AtomicU64>,
}

impl<F, J> Grant for Changing<F, J>
where
    F: Fn() -> &'static str + Send + Sync + 'static,
    J: Fn(&str) -> Option<FetchError> + Send + Sync + 'static,
{
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        if held.and_then(TokenSet::refresh_token).is_none() {
            return Err(FetchError::reauthorize(EndpointError::unsent("there is no refresh token")));
        }
        let secret = (self.secret)();
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = (self.judge)(secret) {
            sleep(2 * SECOND).await;
            return Err(error);
        }
        Rotating(self.server.clone()).exchange(held, limit).await
    }

    fn is_repeatable(&self, _: Option<&TokenSet>) -> bool {
        false
    }

    fn account(&self) -> Account {
        account()
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(Credentials::of((self.secret)()))
    }
}

fn invalid_grant() -> FetchError {
    FetchError::reauthorize(refused(400, Some("invalid_grant")))
}

fn invalid_client() -> FetchError {
    FetchError::rejected(refused(401, Some("invalid_client")))
}

/// A live token of such a grant, and the count of its exchanges.
fn changing(
    secret: impl Fn() -> &'static str + Send + Sync + 'static,
    judge: impl Fn(&str) -> Option<FetchError> + Send + Sync + 'static,
) -> (LiveToken, Arc<AtomicU64>) {
    let server = Server::new();
    server.lifetime(HOUR);
    let (wall, exchanges) = (server.wall, Arc::<AtomicU64>::default());
    let grant = Changing { server, secret, judge, exchanges: exchanges.clone() };
    let source = Stored::in_store(grant, Shelf::new()).clock(wall).holding(TokenSet::of_refresh_token("r0"));
    (LiveToken::builder(source).clock(wall).seed(1).spawn(), exchanges)
}

/// Two wrong secrets take turns in the file, as when two tools write it.
#[tokio::test(start_paused = true)]
async fn secrets_that_take_turns_keep_to_the_backoff() {
    let down = || FetchError::try_again(refused(503, None));
    for (name, most, fails) in [("invalid_client", 8, invalid_client as fn() -> FetchError), ("503", 40, down)] {
        let count = Arc::<AtomicU64>::default();
        let next = count.clone();
        let secret = move || match count.load(Ordering::Relaxed) {
            0 => "old",
            count if count % 2 == 0 => "one",
            _ => "other",
        };
        let judge = move |secret: &str| {
            next.fetch_add(1, Ordering::Relaxed);
            Some(if secret == "old" { invalid_grant() } else { fails() })
        };
        let (_token, exchanges) = changing(secret, judge);
        sleep(10 * MINUTE).await;
        let exchanges = exchanges.load(Ordering::Relaxed);
        assert!((2..=most).contains(&exchanges), "{name}: {exchanges} token requests in ten minutes");
    }
}

/// The old secret is on its way when the new one is put into the file.
#[tokio::test(start_paused = true)]
async fn a_secret_that_came_during_an_exchange_was_not_refused() {
    let secret = Arc::new(Mutex::new("old"));
    let file = secret.clone();
    let judge = |secret: &str| (secret == "old").then(invalid_grant);
    let (token, exchanges) = changing(move || *file.lock().unwrap(), judge);
    while exchanges.load(Ordering::Relaxed) == 0 {
        sleep(SECOND / 10).await;
    }
    *secret.lock().unwrap() = "new";
    sleep(MINUTE).await;
    assert_eq!(
        (token.status().state(), exchanges.load(Ordering::Relaxed)),
        (State::Live, 2),
        "the new one is right, and was never sent: {:?}",
        token.status().last_error()
    );
}

/// The refused secret and the right one take turns for a while, whenever somebody looks. Then the right one stays.
#[tokio::test(start_paused = true)]
async fn the_right_secret_is_used_in_the_end_whatever_was_in_the_file_before() {
    let mut wrong = Vec::new();
    for pattern in 0..32_u64 {
        let (begins, looks) = (Arc::new(Mutex::new(None)), AtomicU64::new(0));
        let flaps = begins.clone();
        let secret = move || {
            let flaps: Option<tokio::time::Instant> = *flaps.lock().unwrap();
            match flaps {
                None => "old",
                Some(since) if since.elapsed() >= MINUTE => "new",
                Some(_) => match pattern >> (looks.fetch_add(1, Ordering::Relaxed) % 5) & 1 {
                    0 => "old",
                    _ => "new",
                },
            }
        };
        let (token, _) = changing(secret, |secret: &str| (secret == "old").then(invalid_grant));
        token.ready().await.unwrap_err();
        #[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
        let now = tokio::time::Instant::now();
        *begins.lock().unwrap() = Some(now);
        sleep(7 * MINUTE).await;
        if token.status().state() != State::Live {
            wrong.push(format!("{pattern:05b}: {:?}", token.status().last_error()));
        }
    }
    assert!(wrong.is_empty(), "six minutes after the right secret is there to stay: {wrong:#?}");
}
