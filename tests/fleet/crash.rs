//! A hundred kills, or two hundred, for each store: at every step of refresh → store → publish, and at random moments, with a server that answers a spent refresh token once more for a while and with one that takes it for stolen.
//!
//! After each, another process starts. Either what is stored is the newest that the server issued, or the loss is reported.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_bearer::{
    store::FileDirectory,
    testing::{AuthorizationServer, Fault},
};

use crate::{
    any_store::{DIRECTORY, SEALED},
    postgres_server::PostgresServer,
    process::{Process, number, replays, say, stored},
    redis_server::{Directory, RedisServer},
    replica::Orders,
    steps::{Step, What},
};

/// On a file and on Redis.
pub(crate) async fn matrix() {
    let redis = RedisServer::start().await;
    let chains = all_chains("a file", 0, async |_| None).await.into_iter();
    // Each in a database of its own: the account is the same.
    let on_redis = all_chains("Redis", 0, async |number| Some(format!("{}{number}", redis.url()))).await;
    play(chains.chain(on_redis), 200).await;
}

/// Two hundred kills on each store, plain and sealed.
pub(crate) async fn on_every_store() {
    for before in ["", SEALED] {
        let (redis, postgres, directory) =
            (RedisServer::start().await, PostgresServer::start().await, Directory::new());
        let path = |name: &str, number| directory.file(&format!("{name}{number}"));
        let file = async |number| Some(format!("{before}{}", path("file", number)));
        let of_many = async |number| {
            std::fs::create_dir(path("many", number)).unwrap();
            Some(format!("{before}{DIRECTORY}{}", path("many", number)))
        };
        let on_redis = async |number| Some(format!("{before}{}{number}", redis.url()));
        let on_postgres =
            async |number| Some(before.to_owned() + &postgres.new_database(&format!("chain{number}")).await);
        let name = |store: &str| if before.is_empty() { store.to_owned() } else { format!("{store}, sealed") };
        for round in 0..2 {
            play(all_chains(&name("a file"), round, file).await, 100).await;
            play(all_chains(&name("a file of many"), round, of_many).await, 100).await;
            play(all_chains(&name("Redis"), round, on_redis).await, 100).await;
            play(all_chains(&name("PostgreSQL"), round, on_postgres).await, 100).await;
        }
    }
}

/// One after the other, and how it dies. `place` is the store of the chain with this number.
async fn all_chains(kind: &str, round: u32, place: impl AsyncFn(u32) -> Option<String>) -> Vec<(Chain, Kills)> {
    let mut chains = Vec::new();
    for grace in [false, true] {
        let lives = [
            (Life::Short, Kills::AtEveryStep),
            (Life::Long, Kills::AtEveryStep),
            (Life::Short, Kills::AtRandom { seed: u64::from(round) }),
        ];
        for (life, kills) in lives {
            let store = place(CHAINS * round + chains.len() as u32).await;
            chains.push((Chain::new(kind, store, grace, life).await, kills));
        }
    }
    chains
}

/// In a round on a store.
const CHAINS: u32 = 6;

#[derive(Clone, Copy)]
enum Kills {
    AtEveryStep,
    AtRandom { seed: u64 },
}

async fn play(all: impl IntoIterator<Item = (Chain, Kills)>, expected: u32) {
    let mut chains = JoinSet::new();
    for (chain, kills) in all {
        match kills {
            Kills::AtEveryStep => chains.spawn(chain.at_every_step()),
            Kills::AtRandom { seed } => chains.spawn(chain.at_random(seed)),
        };
    }
    let (mut kills, mut losses, mut again) = (0, 0, 0);
    while let Some(ended) = chains.join_next().await {
        let chain = ended.unwrap();
        let replays = replays(&chain.server);
        say(&format!(
            "{}: {} kills, {} reported losses, {replays} replays, the intent resolved in {:.1?}",
            chain.name, chain.kills, chain.losses, chain.longest
        ));
        (kills, losses, again) = (kills + chain.kills, losses + chain.losses, again + replays);
        assert!(chain.losses == 0 || !chain.grace, "nothing need be lost with {}", chain.name);
    }
    say(&format!("{kills} kills, {losses} losses reported, {again} refresh tokens sent once more"));
    assert_eq!(kills, expected);
    assert!(losses > 0 && again > 0, "nothing was tried");
}

/// How long access tokens live.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    /// Over when the next process starts, or nearly.
    Short,
    /// The one that was stored before the kill serves on.
    Long,
}

impl Life {
    fn time(self) -> Duration {
        Duration::from_millis(match self {
            Self::Short => 1000,
            Self::Long => 3_600_000,
        })
    }
}

/// One store after the other, one process after the other.
struct Chain {
    name: String,
    server: AuthorizationServer,
    orders: Orders,
    grace: bool,
    life: Life,
    kills: u32,
    losses: u32,
    /// How long it took to find out what became of an intent.
    longest: Duration,
    _directory: Directory,
}

impl Chain {
    async fn new(kind: &str, store: Option<String>, grace: bool, life: Life) -> Self {
        let builder = AuthorizationServer::builder().lifetime(Some(life.time())).latency(Duration::from_millis(3));
        let server = builder.refresh_grace(Duration::from_secs(if grace { 60 } else { 0 })).start().await.unwrap();
        let directory = Directory::new();
        let name = format!("{kind}, {life:?} lives, {}", if grace { "a grace" } else { "no grace" });
        let orders = Orders {
            store: store.unwrap_or_else(|| directory.file("tokens")),
            token_url: server.token_url(),
            api_url: server.api_url("/documents"),
            refresh_token: Some(server.issue_refresh_token("client", Some("read"))),
            replay_grace: (!grace).then_some(0),
            lease: None,
            number: 0,
            every: 50,
            dies: None,
            late: 0,
            armed_by_order: false,
        };
        Self { name, server, orders, grace, life, kills: 0, losses: 0, longest: Duration::ZERO, _directory: directory }
    }

    async fn at_every_step(mut self) -> Self {
        self.first_tokens().await;
        for step in Step::all() {
            let mut victim = self.start_victim(step).await;
            victim.dies().await;
            self.kills += 1;
            let left = self.left_behind().await;
            let has_intent = !left["intent"].is_null();
            assert_eq!(has_intent, step.leaves_an_intent(), "{}: {step:?} missed", self.name);
            self.go_on(&format!("{step:?}"), has_intent).await;
        }
        self
    }

    async fn start_victim(&self, step: Step) -> Process {
        let before = self.server.token_requests();
        let armed_by_order = self.life == Life::Long;
        if step == Step::Sent {
            self.server.fault(Fault::delay(Duration::from_secs(60)));
        }
        let mut victim = Process::start(&Orders { dies: Some(step), armed_by_order, ..self.orders.clone() });
        if armed_by_order {
            victim.until("it has a token", |report| report["state"] == "Live").await;
            victim.order_refresh().await;
        }
        if step == Step::Sent {
            let sent = self.server.wait_for_token_requests(before + 1);
            timeout(Duration::from_secs(30), sent).await.expect("a refresh");
            victim.kill().await;
        }
        victim
    }

    /// Within the writes: of the intent, and of what the server answered.
    async fn at_random(mut self, seed: u64) -> Self {
        self.name += ", within writes";
        let mut rng = Rng::with_seed(seed);
        let (mut intents, mut torn) = (0, 0);
        self.first_tokens().await;
        for turn in 0..18 {
            let step = Step::Before(if turn % 2 == 0 { What::Intent } else { What::Store });
            let late = rng.u64(..LONGEST_WRITE);
            let mut victim = Process::start(&Orders { dies: Some(step), late, ..self.orders.clone() });
            victim.dies().await;
            self.kills += 1;
            let has_intent = !self.left_behind().await["intent"].is_null();
            intents += u32::from(has_intent);
            torn += u32::from(self.half_a_file().exists());
            self.go_on(&format!("{step:?} and {late} µs"), has_intent).await;
        }
        say(&format!("{}: {intents} of 18 left an intent, {torn} half a file", self.name));
        self
    }

    /// What a kill leaves of a file that is being written.
    fn half_a_file(&self) -> PathBuf {
        let place = &self.orders.store;
        let place = place.strip_prefix(SEALED).unwrap_or(place);
        match place.strip_prefix(DIRECTORY) {
            Some(directory) => Path::new(directory).join(FileDirectory::file_name("Anna/1") + ".new"),
            None => format!("{place}.new").into(),
        }
    }

    /// A set in the store, with an access token that lives.
    async fn first_tokens(&self) {
        let mut first = Process::start(&self.orders);
        first.until("it has a token", |report| number(report, "ok") > 0).await;
        first.end().await;
    }

    /// What a process that was killed has left in the store.
    async fn left_behind(&self) -> Value {
        // What it sent last may still be on its way.
        sleep(Duration::from_millis(100)).await;
        stored(&self.orders).await
    }

    /// The next process: it has the newest token, or says that it is lost.
    async fn go_on(&mut self, after: &str, has_intent: bool) {
        let what = format!("{} after {after}", self.name);
        let before = self.server.token_requests();
        let mut survivor = Process::start(&self.orders);
        if has_intent && !self.grace {
            survivor.until(&format!("the loss is reported with {what}"), |report| number(report, "losses") > 0).await;
            sleep(Duration::from_millis(300)).await;
            let last = survivor.end().await;
            assert_eq!(number(&last, "losses"), 1, "{what}: {last}");
            assert_eq!(number(&last, "failed"), 0, "{what}: {last}");
            if self.life == Life::Long {
                assert!(number(&last, "ok") > 0, "{what}: the old access token serves to its end: {last}");
            }
            let record = stored(&self.orders).await;
            assert_eq!(record["dead"]["end"], "lost", "{what}: the next process must know as well");
            assert_eq!(self.server.token_requests(), before, "{what}: nothing is sent that might be taken for stolen");
            self.losses += 1;
            // The user authorizes again, and the configuration has another refresh token.
            self.orders.refresh_token = Some(self.server.issue_refresh_token("client", Some("read")));
            self.first_tokens().await;
        } else {
            survivor.until(&format!("requests have a token with {what}"), |report| number(report, "ok") > 0).await;
            self.intent_is_resolved(&what).await;
            survivor.order_refresh().await;
            survivor.until(&format!("it refreshes with {what}"), |report| number(report, "refreshed") > 0).await;
            let last = survivor.end().await;
            assert_eq!(number(&last, "losses") + number(&last, "failed"), 0, "{what}: {last}");
            assert_eq!(last["storage"], "Sound", "{what}: {last}");
        }
        self.newest_is_stored(&what).await;
        assert_eq!(self.server.reuse_detections(), 0, "{what}");
    }

    async fn intent_is_resolved(&mut self, what: &str) {
        let began = Instant::now();
        while !stored(&self.orders).await["intent"].is_null() {
            assert!(began.elapsed() < Duration::from_secs(15), "{what}: nobody looks after the intent");
            sleep(Duration::from_millis(50)).await;
        }
        self.longest = self.longest.max(began.elapsed());
    }

    /// The refresh token in the store is one that nobody has spent.
    async fn newest_is_stored(&self, what: &str) {
        let record = stored(&self.orders).await;
        let stored = record["set"]["refresh_token"].as_str().unwrap_or_else(|| panic!("{what}: no refresh token"));
        let requests = self.server.recorded();
        assert_eq!(requests.len() as u64, self.server.token_requests(), "all are remembered");
        let spent = requests.iter().any(|request| request.field("refresh_token") == Some(stored));
        assert!(!spent || !record["intent"].is_null(), "{what}: what is stored was spent");
    }
}

/// In microseconds: what a write and two syncs take here.
const LONGEST_WRITE: u64 = 4_000;
