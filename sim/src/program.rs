//! The program under test: a live token, the layer around a client, and requests. It dies and starts again as the plan says.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{task::JoinHandle, time::sleep};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_bearer::{
    BearerAuthLayer, BoxTokenSource, Error, IntoTokenSource, LiveToken, Origin, TokenSource,
    oauth2::{ClientCredentials, RefreshToken, Stored, TokenSet},
    replay::{Auto, Cloned, Never},
};

use crate::{
    plan::{Grant, Policy},
    trace::Happened,
    world::{Shelf, SimClock, SimStore, World, api::Number, millis},
};

type Client = BoxCloneSyncService<Request<Full<Bytes>>, http::Response<Full<Bytes>>, Error<std::convert::Infallible>>;

/// What runs between a start and a crash.
pub struct Program {
    world: World,
    shelf: Shelf,
    process: Option<Process>,
    requests: u64,
}

struct Process {
    token: LiveToken,
    client: Client,
    driver: JoinHandle<()>,
    requests: Vec<JoinHandle<()>>,
}

impl Program {
    /// One of several that share what is stored.
    pub fn new(world: &World, number: usize, shelf: &Shelf) -> Self {
        Self {
            world: world.of_program(number),
            shelf: shelf.clone(),
            process: None,
            requests: number as u64 * 1_000_000,
        }
    }

    /// Starts it, unless it runs.
    pub fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.world = self.world.of_next_process(self.world.program);
        let plan = self.world.plan.clone();
        let (token, driver) = LiveToken::builder(self.source())
            .seed(plan.seed + self.world.program as u64)
            .clock(SimClock::new(&self.world))
            .pair();
        let origin = Origin::parse("https://api.test").expect("an origin");
        let layer = BearerAuthLayer::new(token.clone(), origin).max_wait(millis(plan.program.max_wait));
        let api = self.world.api();
        let client = match plan.program.policy {
            Policy::Auto => Client::new(ServiceBuilder::new().layer(layer.replay(Auto)).service(api)),
            Policy::Cloned => Client::new(ServiceBuilder::new().layer(layer.replay(Cloned)).service(api)),
            Policy::Never => Client::new(ServiceBuilder::new().layer(layer.replay(Never)).service(api)),
        };
        self.world.trace.note(Happened::Started { program: self.world.program });
        self.process = Some(Process { token, client, driver: tokio::spawn(driver), requests: Vec::new() });
    }

    fn source(&self) -> BoxTokenSource {
        let endpoint = self.world.endpoint();
        match self.world.plan.server.grant {
            Grant::ClientCredentials => TokenSource::boxed(ClientCredentials::new(endpoint).into_token_source()),
            Grant::Rotating { grace } => {
                let grant = RefreshToken::new(endpoint).subject("user");
                let stored =
                    Stored::in_store(grant, SimStore::new(&self.shelf, &self.world)).clock(SimClock::new(&self.world));
                let first = TokenSet::of_refresh_token("r0");
                TokenSource::boxed(stored.replay_grace(millis(grace)).holding(first))
            }
            Grant::Staying => {
                let grant = RefreshToken::new(endpoint).subject("user").reusable();
                let stored =
                    Stored::in_store(grant, SimStore::new(&self.shelf, &self.world)).clock(SimClock::new(&self.world));
                TokenSource::boxed(stored.holding(TokenSet::of_refresh_token("r0")))
            }
        }
    }

    /// Ends it at whatever it is waiting for.
    pub fn crash(&mut self) {
        let Some(process) = self.process.take() else { return };
        process.driver.abort();
        process.requests.iter().for_each(JoinHandle::abort);
        self.world.trace.note(Happened::Crashed { program: self.world.program });
    }

    pub fn refresh(&mut self) {
        let Some(process) = &mut self.process else { return };
        let token = process.token.clone();
        self.world.trace.note(Happened::Event("Refresh".into()));
        process.requests.push(tokio::spawn(async move { drop(token.refresh().await) }));
    }

    /// Sends so many requests at once.
    pub fn send(&mut self, width: u64) {
        let Some(process) = &mut self.process else { return };
        for _ in 0..width {
            self.requests += 1;
            let (request, client) = (self.requests, process.client.clone());
            let (trace, had_token) = (self.world.trace.clone(), process.token.authorization().is_some());
            trace.note(Happened::Made { request, had_token });
            process.requests.push(tokio::spawn(async move {
                let message = Request::get("https://api.test/a").extension(Number(request)).body(Full::default());
                let result = client.oneshot(message.expect("a request")).await;
                let result = result.map(|response| response.status().as_u16()).map_err(|error| error.to_string());
                trace.note(Happened::Ended { request, result });
            }));
        }
        process.requests.retain(|request| !request.is_finished());
    }

    /// Waits until no request is under way; the status of the last one.
    pub async fn rest(&mut self) {
        while let Some(request) = self.process.as_mut().and_then(|process| process.requests.pop()) {
            let _ = request.await;
        }
        // Whatever they have told is taken in.
        sleep(millis(1)).await;
    }
}
