//! The subscription to all channels of a family: when to subscribe, and when to do it again.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use fastrand::Rng;
use futures_util::StreamExt;
use redis::{
    ErrorKind, RedisError, Value,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{connection::late_error, hub::Hub, redis_error::redis_error, servers::Servers};
use crate::{panics::contained, store::heard::Heard};

/// How a subscription ended, or why there was none.
enum End {
    /// It had worked for a while.
    Lived,
    /// The connection for commands was replaced, so this one may lead to the wrong server.
    Replaced,
    Failed(RedisError),
}

pub(super) async fn for_ever(hub: &Hub, servers: &Servers) -> Infallible {
    let (mut failures, mut rng) = (0, Rng::new());
    loop {
        // Taken before the subscription, so that a replacement meanwhile is noticed.
        let mut replaced = servers.replaced();
        match once(hub, servers, &mut replaced).await {
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
            hub.tell_all(&hub.all(), Heard::subscribed);
        }
        tokio::select! {
            () = sleep(pause(failures, &mut rng)) => {}
            // Redis is back, at least for commands.
            _ = replaced.changed(), if failures > 1 => {}
        }
    }
}

async fn once(hub: &Hub, servers: &Servers, replaced: &mut watch::Receiver<u64>) -> End {
    let subscription = match servers.subscription().await {
        Ok(subscription) => subscription,
        Err(error) => return End::Failed(error),
    };
    let (sink, messages) = subscription.split();
    let mut channels = Channels { hub, limit: servers.limit(), sink: sink.clone(), entered: HashSet::new() };
    if let Err(error) = channels.enter(hub.all()).await {
        return End::Failed(error);
    }
    let mut lived = false;
    let ended = tokio::select! {
        () = pings(hub.ping_every(), servers.limit(), sink, &mut lived) => None,
        error = channels.follow() => Some(error),
        () = hear(hub, messages) => None,
        _ = replaced.changed() => return if lived { End::Lived } else { End::Replaced },
    };
    match ended {
        _ if lived => End::Lived,
        Some(error) => End::Failed(error),
        None => End::Failed((ErrorKind::Io, "the subscription was closed").into()),
    }
}

/// Ends when the connection has died.
async fn pings(every: Duration, limit: Duration, mut sink: PubSubSink, lived: &mut bool) {
    loop {
        sleep(every).await;
        // Any answer will do, even that this user may not ping.
        match timeout(limit, sink.ping::<Value>()).await {
            Ok(Err(error)) if error.is_io_error() => return,
            Err(_) => return,
            Ok(_) => *lived = true,
        }
    }
}

async fn hear(hub: &Hub, mut messages: PubSubStream) {
    while let Some(message) = messages.next().await {
        let version = std::str::from_utf8(message.get_payload_bytes()).ok().and_then(|text| text.parse().ok());
        hub.tell(message.get_channel_name(), |heard| heard.announced(version));
    }
}

/// The channels that this connection has subscribed to.
struct Channels<'a> {
    hub: &'a Hub,
    limit: Duration,
    sink: PubSubSink,
    entered: HashSet<Arc<str>>,
}

impl Channels<'_> {
    /// Enters channels that are made, and leaves those that nobody needs, until that fails.
    async fn follow(&mut self) -> RedisError {
        loop {
            let (enter, leave) = self.hub.changes(&mut self.entered);
            if enter.is_empty() && leave.is_empty() {
                self.hub.touched.notified().await;
                continue;
            }
            let followed = match self.leave(&leave).await {
                Ok(()) => self.enter(enter).await,
                left => left,
            };
            if let Err(error) = followed {
                return error;
            }
        }
    }

    async fn enter(&mut self, channels: Vec<Arc<str>>) -> Result<(), RedisError> {
        for some in channels.chunks(AT_ONCE) {
            let names: Vec<&str> = some.iter().map(|name| &**name).collect();
            timeout(self.limit, self.sink.subscribe(names)).await.map_err(|_| late_error("subscribing"))??;
            self.hub.tell_all(some, Heard::subscribed);
        }
        self.entered.extend(channels);
        Ok(())
    }

    async fn leave(&mut self, channels: &[Arc<str>]) -> Result<(), RedisError> {
        for some in channels.chunks(AT_ONCE) {
            let names: Vec<&str> = some.iter().map(|name| &**name).collect();
            timeout(self.limit, self.sink.unsubscribe(names)).await.map_err(|_| late_error("unsubscribing"))??;
        }
        Ok(())
    }
}

/// The pause after so many failures in a row: uniform(½, 1) · min(30 s, ¼ s · 2ⁿ). Half of it is random, because a whole fleet loses its
/// server at the same moment.
fn pause(failures: u32, rng: &mut Rng) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + 0.5 * rng.f64())
}

/// How many channels a command names. Redis does nothing else while it runs one.
const AT_ONCE: usize = 500;

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Without announcements a process finds a new token when it reads the entry before it fetches.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps the connection open where idle ones are closed after a minute, and notices one that died silently. A subscription that has lived
/// for so long starts a new count of failures.
pub(super) const PING_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use redis::Client;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::servers::Place, *};
    use crate::store::captured_warnings::Warned;

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
    async fn falls_silent() -> (Arc<Servers>, Arc<AtomicUsize>) {
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
        (Arc::new(Servers::new(Place::server(client), Duration::from_millis(500))), accepted)
    }

    #[tokio::test]
    async fn a_subscription_that_died_without_a_word_is_made_anew() {
        let (servers, accepted) = falls_silent().await;
        let hub = Hub::new(Duration::from_millis(20));
        hub.without_task();
        let mut seat = None;
        let mut seen = hub.listen(&servers, &mut seat, "x");
        // Subscribed, lost, subscribed.
        let twice = async { seen.wait_for(|heard| heard.number == 3).await.map(|_| ()) };
        tokio::select! {
            never = for_ever(&hub, &servers) => match never {},
            twice = timeout(Duration::from_secs(20), twice) => twice.expect("nobody noticed").unwrap(),
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_listen_says_so_once_and_without_secrets() {
        let warnings = Warned::default();
        let _told = tracing::subscriber::set_default(warnings.clone());
        let client = Client::open("redis://app:marked-secret@127.0.0.1:1/").unwrap();
        let (hub, servers) = (Hub::new(PING_EVERY), Servers::new(Place::server(client), Duration::from_secs(1)));
        tokio::select! {
            never = for_ever(&hub, &servers) => match never {},
            () = sleep(Duration::from_secs(600)) => {}
        }
        let told = warnings.events();
        assert!(told.len() == 1 && told[0].contains("can't be heard"), "{told:?}");
        assert!(!told[0].contains("marked"), "{told:?}");
    }
}
