//! A table: what goes wrong at a renewal, for how long, at which server, with which store. An authorization ends only by the server's
//! word, and everything else is well within a minute of the server's return.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part, and is nobody's library")]

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_bearer::{
    LiveToken, State,
    oauth2::{RefreshToken, Stored, TokenSet},
    store::{Account, Entry, Lease, StoreError, Swap, TokenStore},
};

use super::authority::{Answer, Authority, Outage, Rotation};

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
pub struct Cell {
    rotation: Rotation,
    outage: Outage,
    life: Duration,
}

impl Cell {
    /// Whether the token in use ends long before the server is back.
    pub fn is_over(&self) -> bool {
        self.life == SHORT
    }
}

/// All of them.
pub fn cells() -> Vec<Cell> {
    let both = [true, false];
    let mut failures = Vec::new();
    for answer in [
        Answer::Status(502),
        Answer::Status(504),
        Answer::Status(500),
        Answer::GatewayJson(500),
        Answer::Page,
        Answer::RetryAfter(500, 90),
        Answer::Timeout,
        Answer::Reset,
    ] {
        failures.extend(both.map(|first_acts| (answer, first_acts)));
    }
    // These say that nothing was done.
    failures.extend([Answer::Status(503), Answer::RetryAfter(429, 30), Answer::Gone].map(|answer| (answer, false)));
    let mut cells = Vec::new();
    for (answer, first_acts) in failures {
        for lasts in [5 * SECOND, 75 * SECOND, 10 * MINUTE, 3 * HOUR] {
            for rotation in [Rotation::Strict, Rotation::Grace(MINUTE), Rotation::Never] {
                // Still valid when the server is back, and over long before.
                for life in [8 * lasts.max(10 * SECOND), SHORT] {
                    cells.push(Cell { rotation, outage: Outage { answer, first_acts, lasts }, life });
                }
            }
        }
    }
    cells
}

/// A store that isn't looked into all the time, so that days pass in seconds.
pub struct Quiet<S>(pub S);

impl<S: TokenStore> TokenStore for Quiet<S> {
    fn bind(&mut self, account: &Account) {
        self.0.bind(account);
    }

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

    async fn changed(&self, _: u64) {
        sleep(HOUR).await;
    }
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Live,
    Ended,
}

/// Runs a cell to its end.
pub async fn run(cell: Cell, store: impl TokenStore) -> Outcome {
    let authority = Authority::new(cell.rotation, cell.life);
    let grant = RefreshToken::new(authority.endpoint()).subject("anna");
    let mut source = Stored::in_store(grant, store).holding(TokenSet::of_refresh_token("r0")).clock(authority.wall);
    match cell.rotation {
        Rotation::Strict => source = source.replay_grace(Duration::ZERO),
        Rotation::Grace(grace) => source = source.replay_grace(grace),
        Rotation::Never => {}
    }
    let token = LiveToken::builder(source).clock(authority.wall).seed(7).spawn();
    token.ready().await.unwrap();
    if cell.rotation == Rotation::Never {
        token.refresh().await.unwrap();
    }
    authority.fail(cell.outage);
    let back = authority.outage_began().await;

    let end = authority.delivered_until().expect("one was delivered");
    // A server that asks for time gets it.
    let asked = match cell.outage.answer {
        Answer::RetryAfter(_, seconds) => Duration::from_secs(seconds),
        _ => Duration::ZERO,
    };
    // Where nothing can have been spent, nobody waits for the end of the token in use.
    let certain = cell.rotation == Rotation::Never
        || matches!(cell.outage.answer, Answer::Status(503) | Answer::RetryAfter(429, _) | Answer::Gone);
    let well = if certain { back } else { back.max(end) };
    let deadline = well + MINUTE + asked + 2 * SECOND;
    let began = now();
    while now() < deadline {
        if now() + 2 * SECOND < end {
            assert!(token.status().is_usable(), "{cell:?}: the token in use serves to its end");
        }
        if now() > back + MINUTE + asked && token.status().state() == State::Live {
            break;
        }
        let step = if now() < began + 10 * MINUTE { SECOND } else { 10 * SECOND };
        sleep(step.min(deadline - now())).await;
    }
    if let Some(revoked) = authority.revoked() {
        assert!(revoked >= end, "{cell:?}: revoked while the token in use served");
    }
    let status = token.status();
    match status.state() {
        State::Live => Outcome::Live,
        State::ReauthorizationRequired => {
            assert_eq!(authority.last_word(), 400, "{cell:?}: nobody but the server ends it");
            assert!(cell.outage.first_acts, "{cell:?}: nothing was spent");
            assert_ne!(cell.rotation, Rotation::Never, "{cell:?}: nothing can be lost");
            Outcome::Ended
        }
        other => panic!("{cell:?}: {other:?}, {:?}", status.last_error()),
    }
}

/// How many of the cells may end: those where the answer was lost for longer than the server's grace.
pub fn may_end(cell: Cell) -> bool {
    let forgives = match cell.rotation {
        Rotation::Strict => Duration::ZERO,
        Rotation::Grace(grace) => grace,
        Rotation::Never => Duration::MAX,
    };
    // A timeout is noticed after half a minute.
    let noticed = if cell.outage.answer == Answer::Timeout { MINUTE / 2 } else { Duration::ZERO };
    cell.outage.first_acts && cell.outage.lasts.max(noticed) + SECOND > forgives
}

#[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
fn now() -> Instant {
    Instant::now()
}
