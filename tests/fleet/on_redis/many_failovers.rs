//! Failovers to a replica that may lack the last writes, again and again, under load, at a server that takes every spent refresh token for
//! stolen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::future::join_all;
use redis::Client;
use tokio::time::{sleep, timeout};
use tower_bearer::{
    LiveToken, State,
    oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
    store::{RedisFamily, RedisStore},
    testing::AuthorizationServer,
};

use crate::{process::say, proxy::Proxy, redis_server::RedisServer};

/// With a replica that must have each write, no failover loses what was confirmed, so nothing is spent twice.
pub(crate) async fn with_a_replica_that_must_have_it() {
    let played = Played::of(200, |family| family.wait_for_replicas(1)).await;
    assert_eq!(played.reused, 0, "a spent refresh token was shown");
    assert!(played.ended.is_empty(), "authorizations ended: {:?}", played.ended);
}

/// Without that, an authorization may end where a failover has lost writes, and nowhere else.
pub(crate) async fn with_the_primary_alone() {
    let played = Played::of(60, |family| family).await;
    assert!(played.lost_writes > 0, "no failover has lost a write, so this is about nothing");
    assert!(played.ended.is_subset(&played.lost), "{:?} ended, but only {:?} lost writes", played.ended, played.lost);
    // Each of them ends an authorization. Both processes may show it before they learn that.
    assert!(played.reused <= 2 * played.ended.len() as u64, "{} shown again, {:?} ended", played.reused, played.ended);
}

struct Played {
    /// How often a spent refresh token was shown.
    reused: u64,
    /// How often a failover lost the last writes of a user.
    lost_writes: u64,
    /// The users who lost writes, and those whose authorization ended.
    lost: BTreeSet<usize>,
    ended: BTreeSet<usize>,
}

impl Played {
    async fn of(times: usize, durable: fn(RedisFamily) -> RedisFamily) -> Self {
        let server = AuthorizationServer::builder().lifetime(Some(LIFE)).latency(LATENCY).start().await.unwrap();
        let servers = [RedisServer::start().await, RedisServer::start().await];
        servers[0].is_followed_by(&servers[1]).await;
        let proxy = Proxy::to(servers[0].port()).await;
        // Two processes, and all users in each.
        let families = [0, 1].map(|_| durable(RedisStore::family(Client::open(proxy.url()).unwrap(), "users")));
        let users: Vec<[LiveToken; 2]> = (0..USERS)
            .map(|user| {
                let first = server.issue_refresh_token("client", Some("read"));
                families.each_ref().map(|family| owner(&server, family, user, &first))
            })
            .collect();
        for owner in users.iter().flatten() {
            timeout(PATIENCE, owner.ready()).await.expect("it begins").unwrap();
        }

        let mut played = Self { reused: 0, lost_writes: 0, lost: BTreeSet::new(), ended: BTreeSet::new() };
        let began = Instant::now();
        let mut rng = Rng::with_seed(7);
        for number in 0..times {
            let (old, new) = (&servers[number % 2], &servers[(number + 1) % 2]);
            sleep(Duration::from_millis(rng.u64(300..1_300))).await;
            new.order("REPLICAOF NO ONE").await;
            // The old one is written to for a while, and nobody will ever have that.
            sleep(Duration::from_millis(rng.u64(0..200))).await;
            proxy.lead_to(1);
            proxy.cut();
            let (at_old, at_new) = (versions(old).await, versions(new).await);
            for (user, version) in at_old {
                if at_new.get(&user).is_none_or(|other| *other < version) {
                    played.lost_writes += 1;
                    played.lost.insert(user);
                }
            }
            sleep(Duration::from_millis(rng.u64(0..100))).await;
            proxy.lead_to(new.port());
            new.is_followed_by(old).await;
            if number % 20 == 19 {
                let (spent, reused) = (server.token_requests(), server.reuse_detections());
                say(&format!("{} failovers, {spent} refresh tokens spent, {reused} shown again", number + 1));
            }
        }

        let settled = join_all(users.iter().enumerate().map(|(user, owners)| async move {
            let is = |state| owners.iter().any(|owner| owner.status().state() == state);
            while !is(State::ReauthorizationRequired)
                && !owners.iter().all(|owner| owner.status().state() == State::Live)
            {
                sleep(Duration::from_millis(50)).await;
            }
            is(State::ReauthorizationRequired).then_some(user)
        }));
        let settled = timeout(PATIENCE, settled).await.expect("all are live again, or ended");
        played.ended = settled.into_iter().flatten().collect();
        played.reused = server.reuse_detections();
        tell_what_was_shown_again(&server);
        say(&format!(
            "{times} failovers in {:?}: {} refresh tokens spent, {} shown again; writes of a user lost {} times; {} of {USERS} \
             authorizations ended",
            began.elapsed(),
            server.token_requests(),
            played.reused,
            played.lost_writes,
            played.ended.len(),
        ));
        played
    }
}

/// How long after the first time: after a fifth of a life it was the last resort of a process whose token was over.
fn tell_what_was_shown_again(server: &AuthorizationServer) {
    let mut first = BTreeMap::new();
    for request in server.recorded() {
        let Some(spent) = request.field("refresh_token").map(str::to_owned) else { continue };
        let at = request.received_at();
        if let Some(before) = first.insert(spent, at) {
            say(&format!("a refresh token was shown again {:?} after it was spent", at - before));
        }
    }
}

fn owner(server: &AuthorizationServer, family: &RedisFamily, user: usize, first: &str) -> LiveToken {
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
    let grant = RefreshToken::new(endpoint).subject(format!("user {user}"));
    let source = Stored::in_store(grant, family.of(user.to_string()));
    let source = source.holding(TokenSet::of_refresh_token(first)).replay_grace(Duration::ZERO);
    LiveToken::builder(source).seed(user as u64).spawn()
}

/// The version of each user's entry.
async fn versions(server: &RedisServer) -> BTreeMap<usize, u64> {
    let mut connection = Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("tower-bearer:*}").query_async(&mut connection).await.unwrap();
    let mut versions = redis::pipe();
    for key in &keys {
        versions.cmd("HGET").arg(key).arg("version");
    }
    let versions: Vec<u64> = versions.query_async(&mut connection).await.unwrap();
    let user = |key: &String| key.trim_end_matches('}').rsplit('/').next().unwrap().parse().expect("a user's number");
    keys.iter().map(user).zip(versions).collect()
}

/// Some of them renew in each second.
const USERS: usize = 60;
/// A token is renewed when a fifth of this is left. The holder of a set that the store didn't take must find the store working once in that
/// time, or another process tries the refresh token as its last resort.
const LIFE: Duration = Duration::from_secs(20);
/// Long enough for failovers to come between the intent and the new set.
const LATENCY: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(90);
