//! How news is heard: over one connection that listens, and by polls behind it. One task does both for all keys of a store or family, and
//! only while somebody waits for news.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use fastrand::Rng;
use sqlx::{
    Executor, Row,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    database::Database,
    keys::{Keys, Subscription, Waits},
    postgres_error::postgres_error,
    statements::{BACKEND, CHANNEL},
};
use crate::{panics::contained, store::StoreError};

/// What the stores of a family share. The task ends when this is dropped.
pub(super) struct Listening {
    pub(super) database: Arc<Database>,
    keys: Arc<Keys>,
}

impl Listening {
    pub(super) fn new(database: Database) -> Self {
        Self { database: Arc::new(database), keys: Arc::new(Keys::new()) }
    }

    /// What is heard of this key from now on.
    pub(super) fn subscribe(&self, key: &str) -> Subscription {
        self.keys.subscribe(key)
    }

    /// Waits until the result is dropped. The first one who waits starts the task.
    pub(super) fn wait<'a>(&self, subscription: &'a Subscription) -> Waits<'a> {
        let (waits, begins) = subscription.wait();
        if let Some(number) = begins {
            self.start(number, Duration::ZERO);
        }
        waits
    }

    /// Called when something was heard: if the task has ended, with its runtime or by a panic, those who wait in another runtime start the
    /// next one. It begins late, because it may end in the same way.
    pub(super) fn go_on(&self, waits: &Waits<'_>) {
        // With the pool it ends for good.
        if !self.database.pool().is_closed()
            && let Some(number) = waits.begins_again()
        {
            self.keys.all_are_stale();
            self.start(number, AFTER_ITS_END);
        }
    }

    fn start(&self, number: u64, after: Duration) {
        // Made here, because a runtime that ends drops the task before it runs.
        let running = Running { keys: self.keys.clone(), number };
        tokio::spawn(listen(self.database.clone(), running, after));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.keys.end();
    }
}

async fn listen(database: Arc<Database>, running: Running, after: Duration) {
    let hears = watch::Sender::new(false);
    let task = Task { database: &database, keys: &running.keys, hears: &hears, ping_every: PING_EVERY };
    tokio::select! {
        () = running.keys.nobody_waits(running.number) => {}
        // Or the connection that listens would outlive the pool.
        () = database.pool().close_event() => {}
        never = async { sleep(after).await; task.listens().await } => match never {},
        never = task.polls() => match never {},
    }
}

/// Tells that the task has ended, also if its runtime did.
struct Running {
    keys: Arc<Keys>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.keys.task_ended(self.number);
    }
}

struct Task<'a> {
    database: &'a Database,
    keys: &'a Keys,
    /// Whether notifications arrive.
    hears: &'a watch::Sender<bool>,
    ping_every: Duration,
}

/// How listening ended, or why it never began.
enum End {
    /// It had worked for a while.
    Lived,
    Failed(StoreError),
    /// Everything works, but notifications don't arrive: why.
    Deaf(&'static str),
}

impl Task<'_> {
    async fn listens(&self) -> Infallible {
        let (mut failures, mut rng) = (0, Rng::new());
        loop {
            let end = self.listens_once(&mut rng).await;
            self.hears.send_replace(false);
            let longest = match end {
                End::Lived => {
                    failures = 0;
                    LONGEST_PAUSE
                }
                End::Failed(error) => {
                    failures += 1;
                    tell(failures, &error);
                    LONGEST_PAUSE
                }
                End::Deaf(why) => {
                    failures += 1;
                    let text = format!("PostgreSQL: {why}; changes are polled for instead");
                    tell(failures, &StoreError::unreachable(text));
                    failures = failures.max(FAILURES_WITHOUT_NOTIFICATIONS);
                    LONGEST_PAUSE_WITHOUT_NOTIFICATIONS
                }
            };
            sleep(pause(failures, longest, &mut rng)).await;
        }
    }

    async fn listens_once(&self, rng: &mut Rng) -> End {
        let limit = self.database.limit();
        let connecting = "PostgreSQL: timed out connecting to listen";
        let (mut listener, listens_at) = match timeout(2 * limit, self.connects()).await {
            Ok(Ok(Some(connected))) => connected,
            Ok(Ok(None)) => return End::Deaf("a pooler in transaction mode passes no notifications on"),
            Ok(Err(error)) => return End::Failed(error),
            Err(_) => return End::Failed(StoreError::unreachable(connecting)),
        };
        // Through the pool: what a connection tells itself arrives everywhere.
        let probe = format!("probe {:016x}", rng.u64(..));
        let told = self.database.notify(&probe).await;
        let heard = timeout(limit, self.hears(&mut listener, Some(&probe))).await;
        match (told, heard) {
            (_, Ok(true)) => {}
            (_, Ok(false)) => return End::Failed(closed()),
            (told, Err(_)) => {
                let _ = timeout(LEAVING, leaves(&mut listener, listens_at)).await;
                return match told {
                    Ok(()) => End::Deaf("LISTEN works, but no notification arrives"),
                    Err(error) => End::Failed(error),
                };
            }
        }
        self.hears.send_replace(true);
        // What was told before is missed.
        self.keys.all_are_stale();
        let mut lived = false;
        // Silence may be a connection that died.
        while timeout(self.ping_every, self.hears(&mut listener, None)).await.is_err() {
            match timeout(limit, listener.execute("SELECT 1")).await {
                Ok(Ok(_)) => lived = true,
                _ => break,
            }
        }
        if lived { End::Lived } else { End::Failed(closed()) }
    }

    /// Listens over a connection of its own: one from the pool would be missing there. `None`: that is in vain.
    ///
    /// Behind a pooler in transaction mode `LISTEN` does harm: notifications reach whoever has that connection to the server next, and
    /// sqlx ends a statement in which one arrives. So it must be known before. There a client meets the backend that another one has just
    /// left, or one after the other. With the process of the server that listens, because under load these checks may all meet the same one.
    async fn connects(&self) -> Result<Option<(PgListener, i32)>, StoreError> {
        let pool = self.database.pool();
        let options = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let own = options.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await.map_err(|error| postgres_error(&error))?;
        listener.eager_reconnect(false);
        let first = backend(&mut listener).await?;
        for _ in 0..2 {
            if backend(&mut listener).await? != first {
                return Ok(None);
            }
        }
        if self.database.backend().await? == first || backend(&mut listener).await? != first {
            return Ok(None);
        }
        let listens_at = runs_at(&mut listener, &format!("LISTEN {CHANNEL}")).await?;
        Ok(Some((listener, listens_at)))
    }

    /// Hears until this word is told. False if the connection ended before. Nothing is lost if this is dropped.
    async fn hears(&self, listener: &mut PgListener, word: Option<&str>) -> bool {
        loop {
            match listener.try_recv().await {
                Ok(Some(told)) if word == Some(told.payload()) => return true,
                // Anybody may tell anything.
                Ok(Some(told)) => {
                    if let Some((version, key)) = told.payload().split_once(' ')
                        && let Ok(version) = version.parse()
                    {
                        self.keys.announced(key, version);
                    }
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }

    async fn polls(&self) -> Infallible {
        let (mut hears, mut woken, mut rng) = (self.hears.subscribe(), self.keys.woken(), Rng::new());
        let mut due = pin!(sleep(POLL_WITHOUT_NOTIFICATIONS));
        loop {
            let is_heard = *hears.borrow_and_update();
            let every = if is_heard { POLL_BESIDE_NOTIFICATIONS } else { POLL_WITHOUT_NOTIFICATIONS };
            let keys = tokio::select! {
                _ = hears.changed() => {
                    due.set(sleep(random(POLL_WITHOUT_NOTIFICATIONS, &mut rng)));
                    continue;
                }
                () = &mut due => {
                    due.set(sleep(random(every, &mut rng)));
                    self.keys.take(true)
                }
                // Who begins to wait may have missed something. Without notifications everybody waits for the next poll.
                _ = woken.changed(), if is_heard => self.keys.take(false),
            };
            if !keys.is_empty() && !self.polled(&keys).await {
                self.keys.give_back(&keys);
                due.set(sleep(random(POLL_WITHOUT_NOTIFICATIONS, &mut rng)));
            }
        }
    }

    /// Looks at the versions of these keys. False if that failed: the next call of the store tells why.
    async fn polled(&self, keys: &[String]) -> bool {
        let sql = &self.database.statements.poll;
        let Ok(rows) = self.database.ask(|| sqlx::query(sql).bind(keys)).await else { return false };
        let found =
            |row: &sqlx::postgres::PgRow| Some((row.try_get::<String, _>(0).ok()?, row.try_get::<i64, _>(1).ok()?));
        let found: std::collections::HashMap<_, _> = rows.iter().filter_map(found).collect();
        for key in keys {
            self.keys.polled(key, found.get(key).and_then(|version| (*version).try_into().ok()).unwrap_or(0));
        }
        true
    }
}

/// The process of the server behind this connection. As text, because a prepared statement would not reach it behind every pooler.
async fn backend(listener: &mut PgListener) -> Result<i32, StoreError> {
    let row = listener.fetch_one(BACKEND).await.map_err(|error| postgres_error(&error))?;
    row.try_get(0).map_err(|error| postgres_error(&error))
}

/// Runs a command without rows, and returns the process of the server that did. Both are one message, which no pooler takes apart.
async fn runs_at(listener: &mut PgListener, command: &str) -> Result<i32, StoreError> {
    let sql = format!("{command}; {BACKEND}");
    let row = listener.fetch_one(&*sql).await.map_err(|error| postgres_error(&error))?;
    row.try_get(0).map_err(|error| postgres_error(&error))
}

/// Undoes `LISTEN` in the process of the server that has it, which may be another's at the moment.
async fn leaves(listener: &mut PgListener, listens_at: i32) {
    while runs_at(listener, "UNLISTEN *").await.is_ok_and(|backend| backend != listens_at) {
        sleep(LOOKS_FOR_IT_EVERY).await;
    }
}

/// One warning, until it has worked for a while.
fn tell(failures: u32, error: &StoreError) {
    if failures == 1 {
        contained(
            || warn!(%error, "announcements of the token store can't be heard; this is tried again, less and less often"),
        );
    }
}

fn closed() -> StoreError {
    StoreError::unreachable("PostgreSQL: the connection that listens was closed")
}

/// The pause after so many failures in a row: uniform(½, 1) · min(longest, ¼ s · 2ⁿ). Half of it is random, because a whole fleet loses its
/// server at the same moment.
fn pause(failures: u32, longest: Duration, rng: &mut Rng) -> Duration {
    random(FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest), rng)
}

/// Between half of this time and all of it.
fn random(time: Duration, rng: &mut Rng) -> Duration {
    time.mul_f64(0.5 + 0.5 * rng.f64())
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A second, in case that it ends each time.
const AFTER_ITS_END: Duration = Duration::from_secs(1);

/// Without announcements a process finds a new token when it reads the entry before it fetches.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A pooler is there to stay.
const LONGEST_PAUSE_WITHOUT_NOTIFICATIONS: Duration = Duration::from_secs(600);

/// How long, and how often, a pooler is asked for the connection in which `LISTEN` must be undone.
const LEAVING: Duration = Duration::from_secs(10);
const LOOKS_FOR_IT_EVERY: Duration = Duration::from_millis(20);

/// The deaf begin with a pause of 16 to 32 s, in case that the probe was only late.
const FAILURES_WITHOUT_NOTIFICATIONS: u32 = 8;

/// Keeps the connection open where idle ones are closed after a minute, and notices one that died silently.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How often all keys that somebody waits for are polled if notifications don't arrive. A new authorization serves in every process after
/// so long; nothing else waits for it, because who fetches reads first.
const POLL_WITHOUT_NOTIFICATIONS: Duration = Duration::from_secs(5);

/// The same behind notifications. It finds what no statement of a store has done: rows that were deleted or restored by hand.
const POLL_BESIDE_NOTIFICATIONS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;
    use crate::store::{
        captured_warnings::Warned,
        postgres::{database::LIMIT, statements::Table},
    };

    #[test]
    fn pauses_grow_and_half_of_them_is_random() {
        let mut rng = Rng::with_seed(7);
        let deaf = LONGEST_PAUSE_WITHOUT_NOTIFICATIONS;
        for (failures, longest, most) in [
            (0, LONGEST_PAUSE, 250),
            (1, LONGEST_PAUSE, 250),
            (2, LONGEST_PAUSE, 500),
            (8, LONGEST_PAUSE, 30_000),
            (u32::MAX, LONGEST_PAUSE, 30_000),
            (FAILURES_WITHOUT_NOTIFICATIONS, deaf, 32_000),
            (u32::MAX, deaf, 600_000),
        ] {
            let most = Duration::from_millis(most);
            let pauses: Vec<_> = (0..200).map(|_| pause(failures, longest, &mut rng)).collect();
            let (least, longest) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*least >= most / 2 && *longest <= most, "{failures}: {least:?} to {longest:?}");
            assert!(*longest - *least > most / 3, "{failures}: not random");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_listen_says_so_once_and_without_secrets() {
        let warnings = Warned::default();
        let _told = tracing::subscriber::set_default(warnings.clone());
        let pool = PgPool::connect_lazy("postgres://app:marked-secret@127.0.0.1:1/app").unwrap();
        let database = Database::new(pool, Table::default(), LIMIT);
        let (keys, hears) = (Keys::new(), watch::Sender::new(false));
        let task = Task { database: &database, keys: &keys, hears: &hears, ping_every: PING_EVERY };
        tokio::select! {
            never = task.listens() => match never {},
            () = sleep(Duration::from_secs(600)) => {}
        }
        let told = warnings.events();
        assert!(told.len() == 1 && told[0].contains("can't be heard"), "{told:?}");
        assert!(!told[0].contains("marked"), "{told:?}");
    }

    /// A store that nobody waits for has no task, one that somebody waits for has one, and it ends with the pool or the last store.
    #[tokio::test]
    async fn the_task_ends_with_the_pool_and_with_the_last_store() {
        for closes_the_pool in [true, false] {
            let pool = PgPool::connect_lazy("postgres://app@127.0.0.1:1/app").unwrap();
            let listening = Listening::new(Database::new(pool.clone(), Table::default(), LIMIT));
            let (keys, subscription) = (listening.keys.clone(), listening.subscribe("key"));
            assert_eq!(keys.task(), None);
            let waits = listening.wait(&subscription);
            assert_eq!(keys.task(), Some(1));
            if closes_the_pool {
                pool.close().await;
            } else {
                drop(waits);
                drop(subscription);
                drop(listening);
            }
            let ends = async {
                while keys.task().is_some() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), ends).await.expect("it goes on");
        }
    }
}
