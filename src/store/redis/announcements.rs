//! The subscription to changes of the entry: what is heard there, what counts as a change, and when to subscribe again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use fastrand::Rng;
use futures_util::StreamExt;
use redis::{ErrorKind, RedisError, Value};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{connection::Connection, redis_error::redis_error};
use crate::panics::contained;

/// What was heard so far.
///
/// The last version is enough, because the versions of an entry rise. If one doesn't, the entry was removed or set back, and everybody must
/// read it again. So they must after the first announcement of a subscription, because the version before it is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// The number of events.
    pub(super) number: u64,
    /// The last event after which everybody must read the entry, whatever version they know.
    must_read_at: u64,
    /// The version that was announced last in this subscription.
    version: Option<u64>,
}

impl Heard {
    /// There is a new subscription. Announcements before it are unknown.
    pub(super) fn subscribed(&mut self) {
        self.number += 1;
        (self.must_read_at, self.version) = (self.number, None);
    }

    /// A version was announced. `None`: it is no number.
    pub(super) fn announced(&mut self, version: Option<u64>) {
        self.number += 1;
        if self.version.is_none() || self.version >= version {
            self.must_read_at = self.number;
        }
        self.version = version;
    }

    /// What this means for a caller that knows this version, and all events up to this number.
    pub(super) fn change_for(&self, known_events: u64, known_version: u64) -> Change {
        if self.number <= known_events {
            Change::None
        } else if self.must_read_at <= known_events && self.version == Some(known_version) {
            Change::Known
        } else {
            Change::Other
        }
    }

    /// Whether a caller that has just stored this version, and knows all events up to this number, knows everything.
    pub(super) fn is_covered_by(&self, stored_version: u64, known_events: u64) -> bool {
        self.must_read_at <= known_events && self.version.is_none_or(|version| version <= stored_version)
    }
}

/// What [`Heard`] means for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// No new announcement.
    None,
    /// The version that was announced is known.
    Known,
    /// There may be another version.
    Other,
}

/// Listens to announcements, until all receivers are dropped.
pub(super) async fn listen(connection: Arc<Connection>, channel: String, heard: watch::Sender<Heard>) {
    let listening = Listening { connection, channel, heard: &heard, ping_every: PING_EVERY };
    tokio::select! {
        () = heard.closed() => {}
        never = listening.for_ever() => match never {},
    }
}

struct Listening<'a> {
    connection: Arc<Connection>,
    channel: String,
    heard: &'a watch::Sender<Heard>,
    ping_every: Duration,
}

/// How a subscription ended, or why there was none.
enum End {
    /// It had worked for a while.
    Lived,
    /// The connection for commands was replaced, so this one may lead to the wrong server.
    Replaced,
    Failed(RedisError),
}

impl Listening<'_> {
    async fn for_ever(&self) -> Infallible {
        let (mut failures, mut rng) = (0, Rng::new());
        loop {
            // Taken before the subscription, so that a replacement meanwhile is noticed.
            let mut replaced = self.connection.replaced();
            match self.once(&mut replaced).await {
                End::Lived => failures = 0,
                End::Replaced => {}
                End::Failed(error) => {
                    failures += 1;
                    // One warning, until it has worked for a while.
                    if failures == 1 {
                        let error = redis_error(&error);
                        contained(
                            || warn!(%error, "announcements of the token store can't be heard; this is tried again, less and less often"),
                        );
                    }
                }
            }
            // Announcements may have been missed, so everybody must read the entry.
            if failures <= 1 {
                self.heard.send_modify(Heard::subscribed);
            }
            tokio::select! {
                () = sleep(pause(failures, &mut rng)) => {}
                // Redis is back, at least for commands.
                _ = replaced.changed(), if failures > 1 => {}
            }
        }
    }

    async fn once(&self, replaced: &mut watch::Receiver<u64>) -> End {
        let subscribe = async {
            let mut subscription = self.connection.client().get_async_pubsub().await?;
            subscription.subscribe(&self.channel).await?;
            Ok(subscription)
        };
        let limit = self.connection.limit();
        let subscription = match timeout(limit, subscribe).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(error)) => return End::Failed(error),
            Err(_) => return End::Failed((ErrorKind::Io, "timed out subscribing").into()),
        };
        self.heard.send_modify(Heard::subscribed);
        let (mut sink, mut messages) = subscription.split();
        let mut lived = false;
        let pings = async {
            loop {
                sleep(self.ping_every).await;
                // Any answer will do, even that this user may not ping.
                match timeout(limit, sink.ping::<Value>()).await {
                    Ok(Err(error)) if error.is_io_error() => return,
                    Err(_) => return,
                    Ok(_) => lived = true,
                }
            }
        };
        let hears = async {
            while let Some(message) = messages.next().await {
                let version = std::str::from_utf8(message.get_payload_bytes()).ok().and_then(|text| text.parse().ok());
                self.heard.send_modify(|heard| heard.announced(version));
            }
        };
        let replaced = tokio::select! {
            () = pings => false,
            () = hears => false,
            _ = replaced.changed() => true,
        };
        match (lived, replaced) {
            (true, _) => End::Lived,
            (false, true) => End::Replaced,
            (false, false) => End::Failed((ErrorKind::Io, "the subscription was closed").into()),
        }
    }
}

/// The pause after so many failures in a row: uniform(½, 1) · min(30 s, ¼ s · 2ⁿ). Half of it is random, because a whole fleet loses its
/// server at the same moment.
fn pause(failures: u32, rng: &mut Rng) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + 0.5 * rng.f64())
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Without announcements a process finds a new token when it reads the entry before it fetches.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps the connection open where idle ones are closed after a minute, and notices one that died silently. A subscription that has lived
/// for so long starts a new count of failures.
const PING_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use redis::Client;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tracing::{Event, Metadata, Subscriber, field::Field, span};

    use super::*;

    #[test]
    fn any_other_version_is_news_and_a_known_one_is_none() {
        let mut heard = Heard::default();
        assert_eq!(heard.change_for(0, 0), Change::None);
        heard.subscribed();
        assert_eq!(heard.change_for(0, 3), Change::Other, "the subscription itself");
        assert_eq!(heard.change_for(1, 3), Change::None);
        heard.announced(Some(2));
        assert_eq!(heard.change_for(1, 2), Change::Other, "it may be another one of this version");
        heard.announced(Some(3));
        assert_eq!(heard.change_for(2, 2), Change::Other);
        assert_eq!(heard.change_for(2, 3), Change::Known);
        assert_eq!(heard.change_for(2, 5), Change::Other, "an older one: 5 was removed");
        assert_eq!(heard.change_for(3, 5), Change::None, "it was told already");
    }

    #[test]
    fn versions_that_do_not_rise_are_news_for_all() {
        for versions in [&[5, 1][..], &[5, 5], &[5, 1, 2, 3, 4, 5]] {
            let mut heard = Heard::default();
            for version in versions {
                heard.announced(Some(*version));
            }
            assert_eq!(heard.change_for(1, *versions.last().unwrap()), Change::Other, "{versions:?}");
            assert!(!heard.is_covered_by(9, 1), "{versions:?}");
            assert_eq!(heard.change_for(heard.number, 9), Change::None);
        }
        let mut heard = Heard::default();
        heard.subscribed();
        for version in 1..=3 {
            heard.announced(Some(version));
        }
        assert_eq!(heard.change_for(1, 3), Change::Other, "another entry has come to the same version");
        let mut heard = Heard::default();
        heard.announced(Some(5));
        heard.announced(None);
        assert_eq!(heard.change_for(1, 5), Change::Other, "what is no version");
    }

    #[test]
    fn what_was_stored_after_it_covers_what_was_announced() {
        let mut heard = Heard::default();
        heard.announced(Some(4));
        assert!(!heard.is_covered_by(9, 0), "the first one");
        heard.announced(Some(5));
        heard.announced(Some(6));
        assert!(heard.is_covered_by(6, 1) && heard.is_covered_by(7, 1));
        assert!(!heard.is_covered_by(5, 1), "6 came later");
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_half_of_them_is_random() {
        let mut rng = Rng::with_seed(7);
        for (failures, longest) in [(0, 250), (1, 250), (2, 500), (5, 4_000), (8, 30_000), (u32::MAX, 30_000)] {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> = (0..200).map(|_| pause(failures, &mut rng)).collect();
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*least >= longest / 2 && *most <= longest, "{failures}: {least:?} to {most:?}");
            assert!(*most - *least > longest / 3, "{failures}: not random");
        }
    }

    /// Subscribes everybody, and then says nothing more. Counts the connections.
    async fn falls_silent() -> (Arc<Connection>, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::open(format!("redis://{}/", listener.local_addr().unwrap())).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let (mut asked, mut buffer) = (Vec::new(), [0; 1024]);
                    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                        asked.extend(text.matches("SETINFO").map(|_| "+OK\r\n"));
                        asked.extend(text.matches("SUBSCRIBE").map(|_| "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"));
                        for answer in asked.drain(..) {
                            peer.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        (Arc::new(Connection::new(client, Duration::from_millis(500))), accepted)
    }

    #[tokio::test]
    async fn a_subscription_that_died_without_a_word_is_made_anew() {
        let (connection, accepted) = falls_silent().await;
        let (heard, mut seen) = watch::channel(Heard::default());
        let ping_every = Duration::from_millis(20);
        let listening = Listening { connection, channel: "x".into(), heard: &heard, ping_every };
        // Subscribed, lost, subscribed.
        let twice = async { seen.wait_for(|heard| heard.must_read_at == 3).await.map(|_| ()) };
        tokio::select! {
            never = listening.for_ever() => match never {},
            twice = timeout(Duration::from_secs(20), twice) => twice.expect("nobody noticed").unwrap(),
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }

    /// What is told at the level warn.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Warnings {
        fn enabled(&self, about: &Metadata<'_>) -> bool {
            *about.level() == tracing::Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| text += &format!("{field}={value:?} "));
            self.0.lock().unwrap().push(text);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_listen_says_so_once_and_without_secrets() {
        let warnings = Warnings::default();
        let _told = tracing::subscriber::set_default(warnings.clone());
        let client = Client::open("redis://app:marked-secret@127.0.0.1:1/").unwrap();
        let connection = Arc::new(Connection::new(client, Duration::from_secs(1)));
        let (heard, _seen) = watch::channel(Heard::default());
        let listening = Listening { connection, channel: "x".into(), heard: &heard, ping_every: PING_EVERY };
        tokio::select! {
            never = listening.for_ever() => match never {},
            () = sleep(Duration::from_secs(600)) => {}
        }
        let told = warnings.0.lock().unwrap().clone();
        assert!(told.len() == 1 && told[0].contains("can't be heard"), "{told:?}");
        assert!(!told[0].contains("marked"), "{told:?}");
    }
}
