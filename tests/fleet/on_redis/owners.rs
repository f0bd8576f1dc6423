//! Eight owners of one authorization on Redis, at a server that takes every spent refresh token for stolen, while Redis fails in each of
//! the ways in which it does: they agree again by themselves, and nothing is spent twice.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};
use tower_bearer::{
    LiveToken, State, Storage,
    oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
    store::RedisStore,
    testing::AuthorizationServer,
};

use crate::{process::say, proxy::Proxy, redis_server::RedisServer};

struct Scene {
    server: AuthorizationServer,
    /// The one that they begin on, and one that follows it.
    old: RedisServer,
    new: RedisServer,
    proxy: Proxy,
    owners: Vec<LiveToken>,
}

impl Scene {
    async fn begin() -> Self {
        let server = AuthorizationServer::builder().lifetime(Some(LIFE)).latency(LATENCY).start().await.unwrap();
        let (old, new) = (RedisServer::start().await, RedisServer::start().await);
        old.is_followed_by(&new).await;
        let proxy = Proxy::to(old.port()).await;
        let first = server.issue_refresh_token("client", Some("read"));
        let owner = |number| {
            let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
            let store = RedisStore::connect(&proxy.url(), "owners").unwrap();
            let source = Stored::in_store(RefreshToken::new(endpoint).subject("anna"), store)
                .holding(TokenSet::of_refresh_token(&first))
                .replay_grace(Duration::ZERO)
                .lease(LEASE);
            LiveToken::builder(source).seed(number).spawn()
        };
        let owners: Vec<_> = (0..8).map(owner).collect();
        let scene = Self { owners, server, old, new, proxy };
        scene.agree("at the start", PATIENCE).await;
        scene
    }

    /// Everybody is live, with the same token.
    fn agrees(&self) -> bool {
        let first = self.owners[0].authorization();
        self.owners.iter().all(|owner| {
            let status = owner.status();
            let sound = status.state() == State::Live && status.storage() == Storage::Sound;
            sound && first.is_some() && owner.authorization() == first
        })
    }

    /// Waits until they agree after the next renewal.
    async fn agree(&self, what: &str, within: Duration) {
        let began = Instant::now();
        while !self.agrees() {
            let states = || self.owners.iter().map(LiveToken::status).collect::<Vec<_>>();
            assert!(began.elapsed() < within, "{what}: not after {within:?}: {:#?}", states());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn renewed(&self) {
        let before = self.server.token_requests();
        timeout(PATIENCE, self.server.wait_for_token_requests(before + 1)).await.expect("somebody renews");
    }

    /// What has just gone wrong is over.
    async fn recovers(&self, what: &str) {
        self.agree(what, 2 * LIFE).await;
        // And a whole life later.
        self.renewed().await;
        self.agree(what, 2 * LIFE).await;
        assert_eq!(self.server.reuse_detections(), 0, "{what}: a spent refresh token was shown");
        say(&format!("owners, {what}: {} token requests", self.server.token_requests()));
    }
}

/// Two renewals are not in the replica that takes over.
pub(crate) async fn last_writes_lost() {
    let scene = Scene::begin().await;
    scene.new.order("REPLICAOF NO ONE").await;
    scene.renewed().await;
    scene.renewed().await;
    scene.agree("before", 2 * LIFE).await;
    scene.proxy.lead_to(scene.new.port());
    scene.proxy.cut();
    scene.recovers("a failover without the last writes").await;
}

/// The server that they write to is a replica for a while, and then another one takes over: in the middle of a renewal.
pub(crate) async fn read_only() {
    let scene = Scene::begin().await;
    scene.renewed().await;
    scene.new.order("REPLICAOF NO ONE").await;
    scene.old.follows(&scene.new).await;
    sleep(LIFE / 4).await;
    scene.proxy.lead_to(scene.new.port());
    scene.recovers("READONLY").await;
}

/// As an operator hands over.
pub(crate) async fn handed_over() {
    let scene = Scene::begin().await;
    scene.old.order("FAILOVER").await;
    sleep(LIFE / 8).await;
    scene.proxy.lead_to(scene.new.port());
    scene.proxy.cut();
    scene.recovers("FAILOVER").await;
}

/// What was stored is gone, leases too: at different moments of a renewal.
pub(crate) async fn emptied() {
    let scene = Scene::begin().await;
    for wait in [0, 1, 5, 50, 500] {
        scene.renewed().await;
        sleep(Duration::from_millis(wait)).await;
        scene.old.order("FLUSHALL").await;
        scene.recovers(&format!("FLUSHALL {wait} ms after a token request")).await;
    }
}

/// The same to one key after the other.
pub(crate) async fn deleted() {
    let scene = Scene::begin().await;
    for lost in ["entry", "lease"] {
        for _ in 0..3 {
            scene.renewed().await;
            let script = match lost {
                "entry" => {
                    "for _, key in ipairs(redis.call('KEYS', '*')) do if not key:find(':lease') then redis.call('DEL', key) end end"
                }
                _ => "for _, key in ipairs(redis.call('KEYS', '*:lease')) do redis.call('DEL', key) end",
            };
            scene.old.script(script).await;
            scene.recovers(&format!("DEL of the {lost}")).await;
        }
    }
}

/// It stands still.
pub(crate) async fn stands_still() {
    let scene = Scene::begin().await;
    for millis in [300, 1_000, 2_000, 5_000] {
        scene.renewed().await;
        scene.old.signal(Signal::SIGSTOP);
        sleep(Duration::from_millis(millis)).await;
        scene.old.signal(Signal::SIGCONT);
        scene.recovers(&format!("{millis} ms without an answer")).await;
    }
}

/// It is away for longer than a minute while nobody is due, comes back empty, and another process starts with the old refresh token at that
/// moment.
pub(crate) async fn comes_back_empty() {
    let server = AuthorizationServer::builder().lifetime(Some(Duration::from_secs(3600))).start().await.unwrap();
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let proxy = Proxy::to(old.port()).await;
    let first = server.issue_refresh_token("client", Some("read"));
    let owner = || {
        let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
        let store = RedisStore::connect(&proxy.url(), "owners").unwrap();
        let source = Stored::in_store(RefreshToken::new(endpoint).subject("anna"), store);
        LiveToken::spawn(source.holding(TokenSet::of_refresh_token(&first)).replay_grace(Duration::ZERO))
    };
    let one = owner();
    one.ready().await.unwrap();
    one.refresh().await.unwrap();
    proxy.lead_to(1);
    proxy.cut();
    sleep(Duration::from_secs(75)).await;
    proxy.lead_to(new.port());
    let two = owner();
    timeout(PATIENCE, two.ready()).await.expect("it goes on").unwrap();
    two.refresh().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.reuse_detections(), 0, "the old refresh token was shown");
    assert_eq!((one.status().state(), two.status().state()), (State::Live, State::Live));
    assert_eq!(one.authorization(), two.authorization());
}

/// It is killed, and started from a backup that lacks the last renewals.
pub(crate) async fn comes_back_older() {
    let scene = Scene::begin().await;
    let backup = scene.old.backup();
    scene.renewed().await;
    scene.renewed().await;
    scene.agree("before", 2 * LIFE).await;
    scene.old.signal(Signal::SIGKILL);
    let restored = RedisServer::start_with(backup, &[]).await;
    assert_ne!(restored.order("DBSIZE").await, redis::Value::Int(0), "the backup is empty");
    scene.proxy.lead_to(restored.port());
    scene.proxy.cut();
    scene.recovers("a restart from a backup").await;
}

/// It refuses everybody for a while, and so does what stands before it.
pub(crate) async fn refuses() {
    let scene = Scene::begin().await;
    for _ in 0..2 {
        scene.renewed().await;
        scene.old.order("CONFIG SET requirepass another").await;
        scene.proxy.cut();
        sleep(LIFE / 2).await;
        scene
            .old
            .order_as(&format!("redis://:another@127.0.0.1:{}/", scene.old.port()), "CONFIG SET requirepass ")
            .await;
        scene.recovers("a password that nobody knows").await;
    }
    let end = Instant::now() + LIFE / 2;
    while Instant::now() < end {
        scene.proxy.cut();
        sleep(Duration::from_millis(20)).await;
    }
    scene.recovers("a proxy that closes at once").await;
}

const LIFE: Duration = Duration::from_secs(8);
/// Long enough for something to happen meanwhile.
const LATENCY: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
