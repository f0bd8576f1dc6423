//! One process of a fleet: it keeps a token alive in a shared store, sends steady requests, and reports on stdout.
//!
//! A line of JSON for each report. On stdin it takes the order `refresh`, and its end when that closes: so it never outlives the test.

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BoxError, BoxTokenSource, LiveToken, Origin, State, TokenSource,
    oauth2::{ClientCredentials, Grant, RefreshToken, Stored, TokenEndpoint, TokenSet},
    replay,
    store::TokenStore,
};

use crate::{
    any_store::AnyStore,
    steps::{Progress, Step, Stepping, SteppingTransport},
};

/// What a replica is told on its command line.
#[derive(Clone, Parser)]
pub(crate) struct Orders {
    /// A file, or the URL of a Redis or PostgreSQL server
    #[arg(long)]
    pub(crate) store: String,
    #[arg(long)]
    pub(crate) token_url: String,
    #[arg(long)]
    pub(crate) api_url: String,
    /// What it begins with; without it, it has client credentials
    #[arg(long)]
    pub(crate) refresh_token: Option<String>,
    /// Milliseconds
    #[arg(long)]
    pub(crate) replay_grace: Option<u64>,
    /// Milliseconds
    #[arg(long)]
    pub(crate) lease: Option<u64>,
    #[arg(long, default_value_t = 0)]
    pub(crate) number: u32,
    /// Milliseconds from one request to the API to the next
    #[arg(long, default_value_t = 50)]
    pub(crate) every: u64,
    /// Where it dies
    #[arg(long)]
    pub(crate) dies: Option<Step>,
    /// So many microseconds after that
    #[arg(long, default_value_t = 0)]
    pub(crate) late: u64,
    /// It lives until it is told to refresh
    #[arg(long)]
    pub(crate) armed_by_order: bool,
}

impl Orders {
    /// As arguments of a process.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { store, token_url, api_url, number, every, late, .. } = self;
        let mut arguments = vec!["replica".into(), format!("--store={store}"), format!("--token-url={token_url}")];
        arguments.extend([format!("--api-url={api_url}"), format!("--number={number}"), format!("--every={every}")]);
        arguments.push(format!("--late={late}"));
        arguments.extend(self.refresh_token.iter().map(|token| format!("--refresh-token={token}")));
        arguments.extend(self.replay_grace.iter().map(|grace| format!("--replay-grace={grace}")));
        arguments.extend(self.lease.iter().map(|lease| format!("--lease={lease}")));
        arguments.extend(self.dies.iter().map(|step| format!("--dies={step:?}")));
        arguments.extend(self.armed_by_order.then(|| "--armed-by-order".into()));
        arguments
    }

    /// The grant of every replica, also for the parent, who looks into the store.
    pub(crate) fn endpoint(&self) -> TokenEndpoint {
        TokenEndpoint::new(&self.token_url).unwrap().client_secret_basic("client", "secret")
    }

    pub(crate) fn grant(&self, endpoint: TokenEndpoint) -> RefreshToken {
        RefreshToken::new(endpoint).subject("anna")
    }
}

pub(crate) fn main() -> ExitCode {
    let orders = Orders::parse_from(std::env::args().skip(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(orders));
    // What is left is sleeping.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

async fn run(orders: Orders) {
    let progress = Progress::new(orders.dies, Duration::from_micros(orders.late), !orders.armed_by_order);
    let token = LiveToken::spawn(source(&orders, &progress));
    let api: Uri = orders.api_url.parse().unwrap();
    let origin = Origin::parse(&format!("http://{}", api.authority().unwrap())).unwrap();
    let layer = BearerAuthLayer::new(token.clone(), origin);
    let client = layer.layer(Client::builder(TokioExecutor::new()).build_http());
    let replica = Replica { token, client, progress, counts: Arc::default(), api_url: orders.api_url.into() };
    tokio::spawn(replica.clone().count_losses());

    let mut under_way = JoinSet::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut requests = every(orders.every);
    let mut reports = every(100);
    loop {
        tokio::select! {
            order = lines.next_line() => match order.ok().flatten() {
                Some(_) => drop(under_way.spawn(replica.clone().refresh())),
                None => break,
            },
            _ = requests.tick() => { under_way.spawn(replica.clone().send()); }
            _ = reports.tick() => replica.report(),
            _ = under_way.join_next(), if !under_way.is_empty() => {}
        }
    }
    // While the token serves.
    under_way.join_all().await;
    replica.token.shutdown().await;
    replica.report();
}

fn every(milliseconds: u64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_millis(milliseconds));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn source(orders: &Orders, progress: &Arc<Progress>) -> BoxTokenSource {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let transport = SteppingTransport { client, number: orders.number, progress: progress.clone() };
    let endpoint = orders.endpoint().http_service(transport);
    let store = Stepping { store: AnyStore::open(&orders.store), progress: progress.clone() };
    let lease = orders.lease.map(Duration::from_millis);
    let Some(refresh_token) = &orders.refresh_token else {
        return leased(Stored::in_store(ClientCredentials::new(endpoint), store), lease).boxed();
    };
    let stored = Stored::in_store(orders.grant(endpoint), store).holding(TokenSet::of_refresh_token(refresh_token));
    let stored = leased(stored, lease);
    match orders.replay_grace {
        // What is lost is counted, and never shown.
        Some(0) => stored.replay_grace(Duration::ZERO).without_last_resort().boxed(),
        Some(grace) => stored.replay_grace(Duration::from_millis(grace)).boxed(),
        None => stored.boxed(),
    }
}

fn leased<G: Grant, S: TokenStore>(stored: Stored<G, S>, lease: Option<Duration>) -> Stored<G, S> {
    match lease {
        Some(lease) => stored.lease(lease),
        None => stored,
    }
}

/// What this process has seen.
#[derive(Default)]
struct Counts {
    ok: AtomicU64,
    failed: AtomicU64,
    refreshed: AtomicU64,
    losses: AtomicU64,
    errors: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Replica {
    token: LiveToken,
    client: BearerAuth<Client<HttpConnector, Empty<Bytes>>, replay::Auto>,
    progress: Arc<Progress>,
    counts: Arc<Counts>,
    api_url: Arc<str>,
}

impl Replica {
    /// A refresh, because the parent wants it.
    async fn refresh(self) {
        self.progress.armed.store(true, SeqCst);
        while let Err(error) = self.token.refresh().await {
            // On a busy machine a token of a second may be over when it arrives.
            self.say(&error.to_string());
            sleep(Duration::from_millis(50)).await;
        }
        self.counts.refreshed.fetch_add(1, SeqCst);
    }

    /// One request.
    async fn send(mut self) {
        if self.is_lost() {
            return;
        }
        let published = self.progress.is_stored();
        let request = Request::get(&*self.api_url).body(Empty::new()).unwrap();
        let sent = async {
            let response = self.client.ready().await?.call(request).await?;
            let status = response.status();
            response.into_body().collect().await?;
            Ok::<_, BoxError>(status)
        };
        match timeout(Duration::from_secs(20), sent).await {
            Ok(Ok(StatusCode::OK)) => {
                self.counts.ok.fetch_add(1, SeqCst);
                if published {
                    self.progress.reach(Step::Published);
                }
            }
            Ok(Ok(status)) => self.fail(&format!("the API answered {status}")),
            Ok(Err(error)) => self.fail(&error.to_string()),
            Err(_) => self.fail("no answer within 20 s"),
        }
    }

    fn fail(&self, error: &str) {
        // After a loss there is no token, as it should be.
        if !self.is_lost() {
            self.counts.failed.fetch_add(1, SeqCst);
            self.say(error);
        }
    }

    fn is_lost(&self) -> bool {
        self.token.status().state() == State::ReauthorizationRequired
    }

    fn say(&self, error: &str) {
        let mut errors = self.counts.errors.lock().unwrap();
        if errors.len() < 5 {
            errors.push(error.to_owned());
        }
    }

    /// How often it is reported that the user must authorize again.
    async fn count_losses(self) {
        let mut watch = self.token.watch();
        let mut lost = false;
        while let Some(status) = watch.changed().await {
            let now = status.state() == State::ReauthorizationRequired;
            self.counts.losses.fetch_add(u64::from(now && !lost), SeqCst);
            lost = now;
        }
    }

    fn report(&self) {
        let Self { counts, progress, .. } = self;
        let status = self.token.status();
        let line = json!({
            "ok": counts.ok.load(SeqCst),
            "failed": counts.failed.load(SeqCst),
            "refreshed": counts.refreshed.load(SeqCst),
            "losses": counts.losses.load(SeqCst),
            "errors": *counts.errors.lock().unwrap(),
            "state": format!("{:?}", status.state()),
            "storage": format!("{:?}", status.storage()),
            "generation": status.generation(),
            "last_error": status.last_error().map(ToString::to_string),
            "exchanges": progress.exchanges.load(SeqCst),
            "store_calls": progress.store_calls.load(SeqCst),
            "store_errors": progress.store_errors.load(SeqCst),
            "cpu_ms": cpu_ms(),
        });
        // Nobody may be there any more.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// The processor time of this process, where /proc tells: in clock ticks of 10 ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // utime and stime are the 14th and 15th field, the name being the second.
    let times = after_name.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}
