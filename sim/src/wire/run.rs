//! One run: servers, proxies, a program with a live token, and requests, all over loopback and in real time.

use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tower::{BoxError, Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tower_bearer::{
    BearerAuthLayer, BoxTokenSource, Error, IntoTokenSource, LiveToken, Origin, TokenSource,
    oauth2::{ClientCredentials, RefreshToken, Stored, TokenEndpoint, TokenSet},
    replay::{Auto, Cloned, Never},
};

use super::{
    client::{ApiClient, Sendings, TokenClient, chain},
    plan::{FETCH_TIMEOUT, Grant, Plan, Policy, Side},
    promises::{self, Broken},
    proxy::Proxy,
    server::Server,
    story::{Counts, Story},
    trace::{End, Entry, Happened, Trace},
};

/// What a run has shown.
pub struct Outcome {
    pub plan: Plan,
    pub trace: Vec<Entry>,
    pub counts: Counts,
    pub broken: Option<Broken>,
}

/// Plays a plan.
pub async fn run(plan: Plan) -> Outcome {
    let (plan, trace) = (Arc::new(plan), Trace::begin());
    let server = Server::new(&plan, &trace);
    // All that runs beside the program ends with this.
    let mut beside = JoinSet::new();
    let (token_endpoint, run) = server.start_token_endpoint().await;
    beside.spawn(run);
    let (api, run) = server.start_api().await;
    beside.spawn(run);
    let (token_endpoint, run) = Proxy::start(&plan, Side::TokenEndpoint, token_endpoint, &trace).await;
    beside.spawn(run);
    let (api, run) = Proxy::start(&plan, Side::Api, api, &trace).await;
    beside.spawn(run);
    beside.spawn(note_lateness(trace.clone()));
    for at in plan.revocations.iter().copied() {
        let (server, moment) = (server.clone(), trace.moment(at));
        beside.spawn(async move {
            sleep_until(moment).await;
            server.revoke();
        });
    }

    let endpoint = TokenEndpoint::new(&format!("http://{token_endpoint}/token"))
        .expect("a URL")
        .client_secret_basic("app", "secret")
        .http_service(TokenClient::new(plan.http2.0, &trace));
    let token = LiveToken::builder(source(&plan, endpoint))
        .seed(plan.seed)
        .fetch_timeout(Duration::from_millis(FETCH_TIMEOUT))
        .spawn();
    let mut program = Program::new(&plan, token, &api.to_string(), &trace);
    program.play(&plan, &trace).await;
    trace.note(Happened::Over);
    drop(program);
    beside.shutdown().await;

    let trace = trace.take();
    let story = Story::of(&plan, &trace);
    Outcome { counts: story.counts(), broken: promises::broken(&plan, &story), plan: Plan::clone(&plan), trace }
}

fn source(plan: &Plan, endpoint: TokenEndpoint) -> BoxTokenSource {
    match plan.grant {
        Grant::Rotating { grace } => {
            let stored = Stored::new(RefreshToken::new(endpoint)).replay_grace(Duration::from_millis(grace));
            TokenSource::boxed(stored.holding(TokenSet::of_refresh_token("r0")))
        }
        Grant::ClientCredentials => TokenSource::boxed(ClientCredentials::new(endpoint).into_token_source()),
    }
}

/// Requests that the machine's standing still makes late are not the crate's fault.
async fn note_lateness(trace: Trace) {
    loop {
        let before = trace.now();
        sleep(BEAT).await;
        let late = (trace.now() - before).saturating_sub(BEAT);
        // Less than that is in the slack anyway.
        if late > 4 * BEAT {
            trace.note(Happened::Late(late));
        }
    }
}

const BEAT: Duration = Duration::from_millis(5);

type Client = BoxCloneSyncService<Request<Full<Bytes>>, http::Response<Incoming>, Error<BoxError>>;

/// The program under test.
struct Program {
    token: LiveToken,
    client: Client,
    origin: String,
    trace: Trace,
    requests: JoinSet<()>,
    made: u64,
}

impl Program {
    fn new(plan: &Plan, token: LiveToken, api: &str, trace: &Trace) -> Self {
        let origin = format!("http://{api}");
        let layer = BearerAuthLayer::new(token.clone(), Origin::parse(&origin).expect("an origin"))
            .max_wait(Duration::from_millis(plan.max_wait));
        let below = ApiClient::new(plan.http2.1, api, trace);
        let client = match plan.policy {
            Policy::Auto => Client::new(layer.replay(Auto).layer(below)),
            Policy::Cloned => Client::new(layer.replay(Cloned).layer(below)),
            Policy::Never => Client::new(layer.replay(Never).layer(below)),
        };
        Self { token, client, origin, trace: trace.clone(), requests: JoinSet::new(), made: 0 }
    }

    async fn play(&mut self, plan: &Plan, trace: &Trace) {
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0x07ec);
        let well = plan.is_well_from();
        let mut at = 0;
        while at < well {
            sleep_until(trace.moment(at)).await;
            match rng.u8(..100) {
                0 => self.send(Method::GET, "http://127.0.0.1:1"),
                1..30 => self.send(Method::POST, &self.origin.clone()),
                _ => self.send(Method::GET, &self.origin.clone()),
            }
            // After the trouble nobody needs so many.
            at += if at < plan.last_trouble() + 1_000 { rng.u64(1..=2 * plan.every) } else { rng.u64(100..=400) };
        }
        sleep_until(trace.moment(well)).await;
        // Those that wait were made before.
        self.rest().await;
        trace.note(Happened::Well);
        for number in 0..10 {
            self.send(if number % 3 == 0 { Method::POST } else { Method::GET }, &self.origin.clone());
            sleep(Duration::from_millis(plan.life / 8)).await;
        }
        self.rest().await;
    }

    /// Until all requests have ended; those that don't are found in the trace.
    async fn rest(&mut self) {
        let ended = async { while self.requests.join_next().await.is_some() {} };
        let _ = timeout(LONGEST, ended).await;
    }

    fn send(&mut self, method: Method, origin: &str) {
        self.made += 1;
        let (number, trace) = (self.made, self.trace.clone());
        let (mut client, token) = (self.client.clone(), self.token.clone());
        let request = Request::builder().method(&method).uri(format!("{origin}/a"));
        let request = request.extension(Sendings(number, Arc::new(AtomicU64::new(0)))).body(Full::from("text"));
        let request = request.expect("a request");
        self.requests.spawn(async move {
            let end = async {
                client.ready().await?;
                let has_token = token.authorization().is_some();
                trace.note(Happened::Made { request: number, method, has_token });
                let sent = client.call(request);
                trace.note(Happened::Taken { request: number, has_token: token.authorization().is_some() });
                let response = sent.await?;
                let status = response.status().as_u16();
                let body = response.into_body().collect().await;
                Ok(body.map_or_else(|error| End::Cut(chain(&error)), |_| End::Status(status)))
            };
            let end = end.await.unwrap_or_else(|error: Error<BoxError>| End::Failed(error.kind(), chain(&error)));
            trace.note(Happened::Ended { request: number, end });
        });
        while self.requests.try_join_next().is_some() {}
    }
}

impl Outcome {
    /// The plan, and what happened between these moments.
    pub fn text(&self, between: RangeInclusive<Duration>) -> String {
        let told = self
            .trace
            .iter()
            .filter(|entry| between.contains(&entry.at) && !matches!(entry.what, Happened::Taken { .. }));
        let lines: String = told.map(|entry| format!("{entry}\n")).collect();
        format!("plan: {}\n{lines}", serde_json::to_string(&self.plan).expect("a plan can be written"))
    }
}

/// Longer than all waits, answers and attempts of a request together.
const LONGEST: Duration = Duration::from_secs(180);
