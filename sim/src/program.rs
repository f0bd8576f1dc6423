//! The program under test: a live token, the layer around a client, and requests. It dies and starts again as the plan says.

use std::{future::pending, time::Duration};

use http::Request;
use tokio::{
    select,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::ServiceExt;
use tower_bearer::{
    BearerAuthLayer, BoxTokenSource, LiveToken, Origin, State, TokenSource,
    oauth2::{ClientCredentials, Grant as TokenGrant, RefreshToken, Stored, StoredHandle, TokenSet},
};

use crate::{
    plan::{Body, Grant, Route, Traffic},
    trace::Happened,
    world::{SimClock, SimStore, World, api::Label, millis},
};
use parcel::Parcel;
use stack::Client;

mod parcel;
mod stack;

/// What runs between a start and a crash.
pub struct Program {
    pub world: World,
    process: Option<Process>,
    requests: u64,
}

struct Process {
    token: LiveToken,
    account: Option<StoredHandle>,
    client: Client,
    /// The driver, and who looks at the status.
    tasks: Vec<JoinHandle<()>>,
    requests: Vec<JoinHandle<()>>,
}

impl Program {
    /// One of several that share what is stored.
    pub fn new(world: &World, number: usize) -> Self {
        Self { world: world.of_program(number), process: None, requests: number as u64 * PER_PROGRAM }
    }

    /// Starts it, unless it runs.
    pub fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.world = self.world.of_next_process();
        let (plan, world) = (self.world.plan.clone(), &self.world);
        let (source, account) = source(world);
        let builder = LiveToken::builder(source).seed(world.seed()).clock(SimClock::new(world));
        let builder = match plan.program.rests {
            Some(limit) => builder.renew_while_used(millis(limit)),
            None => builder,
        };
        let (token, driver) = builder.pair();
        let origin = Origin::parse("https://api.test").expect("an origin");
        let layer = BearerAuthLayer::new(token.clone(), origin).max_wait(millis(plan.program.max_wait));
        world.trace.note(Happened::Started { program: world.program });
        // The driver and the layers' workers are spawned from there.
        let client = stack::client(world, layer);
        let tasks = vec![
            tokio::spawn(world.drive(driver)),
            tokio::spawn(world.drive(watch(world.clone(), &token, account.clone()))),
        ];
        self.process = Some(Process { token, account, client, tasks, requests: Vec::new() });
    }

    /// Ends it at whatever it is waiting for.
    pub fn crash(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.world.end_process();
        self.world.trace.note(Happened::Crashed { program: self.world.program });
        process.tasks.iter().chain(&process.requests).for_each(JoinHandle::abort);
    }

    /// Ends it as it should end: requests are waited for, and what is under way is stored.
    pub async fn stop(&mut self) {
        if self.process.is_some() {
            self.leave().await;
            self.world.end_process();
            self.world.trace.note(Happened::Stopped { program: self.world.program });
        }
    }

    /// The same, and whatever goes on after that can be seen.
    pub async fn leave(&mut self) {
        self.rest().await;
        let Some(process) = self.process.take() else { return };
        // The user may still be awaited there; and of two who wait for the same news, tokio draws by lot who is first.
        process.tasks.iter().skip(1).for_each(JoinHandle::abort);
        let world = &self.world;
        if timeout(A_DAY, world.drive(process.token.shutdown())).await.is_err() {
            world.trace.note(Happened::Stuck);
        }
        drop(process);
        sleep(millis(1)).await;
    }

    pub fn refresh(&mut self) {
        let Some(process) = &mut self.process else { return };
        let token = process.token.clone();
        process.requests.push(tokio::spawn(self.world.drive(async move { drop(token.refresh().await) })));
    }

    /// The user authorizes again, here.
    pub async fn authorize(&mut self) {
        let Some(account) = self.process.as_ref().and_then(|process| process.account.clone()) else { return };
        // It may wait for a store that fails, or for a token endpoint.
        let _ = timeout(millis(60_000), authorize(&self.world, &account)).await;
    }

    pub fn is_dead(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.token.status().state() == State::ReauthorizationRequired)
    }

    /// Sends one request, which nobody gives up.
    pub fn ask(&mut self) {
        self.send(&Traffic { from: 0, every: 0, count: 1, width: 1, route: Route::Open, body: Body::Empty, whose: 0 });
    }

    /// Sends so many requests at once.
    pub fn send(&mut self, traffic: &Traffic) {
        let Some(process) = &mut self.process else { return };
        for _ in 0..traffic.width {
            self.requests += 1;
            let (number, client, trace) = (self.requests, process.client.clone(), self.world.trace.clone());
            let parcel = Parcel::of(number, traffic.body, &self.world.bodies);
            let label = Label { number, route: traffic.route, length: parcel.len() };
            let at = if traffic.route == Route::Elsewhere { "https://else.test/" } else { "https://api.test/a" };
            let message = Request::post(at).extension(label).body(parcel).expect("a request");
            trace.note(Happened::Made { request: number, route: traffic.route, body: traffic.body });
            process.requests.push(tokio::spawn(self.world.drive(async move {
                let result = client.oneshot(message).await;
                let result = result.map(|response| response.status().as_u16()).map_err(|error| error.to_string());
                trace.note(Happened::Ended { request: number, result });
            })));
        }
        process.requests.retain(|request| !request.is_finished());
    }

    /// Waits until no request is under way.
    pub async fn rest(&mut self) {
        while let Some(request) = self.process.as_mut().and_then(|process| process.requests.pop()) {
            // Longer than anything that the plan holds up, and than a queue of requests takes that are all refused.
            let most = millis(self.world.plan.length + 3_600_000) + IN_A_QUEUE * (self.requests % PER_PROGRAM) as u32;
            if timeout(most, request).await.is_err() {
                self.world.trace.note(Happened::Stuck);
            }
        }
        // Whatever they have told is taken in.
        sleep(millis(1)).await;
    }
}

/// Half of this: what one costs that is refused with each of three tokens, and sent again with each of them.
const IN_A_QUEUE: Duration = Duration::from_secs(30);

/// The numbers of its requests begin with that of the program.
pub const PER_PROGRAM: u64 = 1_000_000;

fn source(world: &World) -> (BoxTokenSource, Option<StoredHandle>) {
    let (endpoint, plan) = (world.endpoint(), world.plan.clone());
    let first = || TokenSet::of_refresh_token("r0").with_requested_at(world.wall());
    match plan.server.grant {
        Grant::ClientCredentials => {
            let grant = ClientCredentials::new(endpoint);
            let source = match plan.store.for_all {
                true => TokenSource::boxed(stored(grant, world)),
                false => TokenSource::boxed(Stored::new(grant).clock(SimClock::new(world)).seed(world.seed())),
            };
            (source, None)
        }
        Grant::Rotating { grace } => {
            let grant = RefreshToken::new(endpoint).subject("user");
            let stored = stored(grant, world).replay_grace(millis(grace)).holding(first());
            let account = stored.handle();
            (TokenSource::boxed(stored), Some(account))
        }
        Grant::Staying => {
            let stored = stored(RefreshToken::new(endpoint).subject("user").reusable(), world).holding(first());
            let account = stored.handle();
            (TokenSource::boxed(stored), Some(account))
        }
    }
}

fn stored<G: TokenGrant>(grant: G, world: &World) -> Stored<G, SimStore> {
    Stored::in_store(grant, SimStore::new(world)).clock(SimClock::new(world)).seed(world.seed())
}

async fn authorize(world: &World, account: &StoredHandle) {
    let number = world.authorize();
    account.adopt(TokenSet::of_refresh_token(format!("r{number}")).with_requested_at(world.wall())).await;
}

/// Notes what the live token shows, and sends the user to authorize again where the plan says so.
fn watch(world: World, token: &LiveToken, account: Option<StoredHandle>) -> impl Future<Output = ()> + Send + use<> {
    let mut watch = token.watch();
    async move {
        let (mut last, mut user) = (None, None);
        loop {
            let status = select! {
                biased;
                status = watch.changed() => status,
                () = comes(user) => {
                    user = None;
                    if let Some(account) = &account {
                        authorize(&world, account).await;
                    }
                    continue;
                }
            };
            let Some(status) = status else { return };
            let shown = (status.state(), status.is_usable(), status.is_authorization_ending());
            if last.replace(shown) == Some(shown) {
                continue;
            }
            let ((state, usable, ending), lives) = (shown, world.authorization_has_lived());
            world.trace.note(Happened::Shows { program: world.program, state, usable, ending, lives });
            user = match (state, world.plan.program.user_returns) {
                (State::Live, _) => None,
                (State::ReauthorizationRequired, Some(wait)) => user.or(Some(Instant::now() + millis(wait))),
                _ => user,
            };
        }
    }
}

/// At this moment, if there is one.
async fn comes(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Longer than anything may take.
const A_DAY: Duration = Duration::from_secs(24 * 3_600);
