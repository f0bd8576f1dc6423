//! Plays a scene, and compares what happened with what was to happen.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_bearer::{
    BearerAuthLayer, BoxTokenSource, Error, ErrorKind, LiveToken, Origin, PerRequest, TokenSource,
    oauth2::{ClientCredentials, LegacyPassword, RefreshToken, Stored, TokenEndpoint, TokenSet},
    replay::Never,
};

use crate::{
    clock::paused,
    read::{Origin as Told, Range, parse},
    scene::{self, Fetch, Grant, Left, Scene, Status},
    world::{Fetched, Number, World},
};

type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, Error<std::convert::Infallible>>;

/// Where the rules are told.
const RULES: &str = include_str!("../../vectors/README.md");

/// Plays it once for each seed: what is random must not matter.
pub(crate) fn run(case: &Value, seeds: u64) -> Result<(), String> {
    for seed in 0..seeds {
        let scene: Scene = parse(case)?;
        scene.check()?;
        let wrong = paused(play(scene, seed))?;
        if !wrong.is_empty() {
            return Err(format!("with the seed {seed}:\n{}", wrong.join("\n")));
        }
    }
    Ok(())
}

/// Whether a case can be read.
pub(crate) fn is_readable(case: &Value) -> bool {
    parse::<Scene>(case).is_ok()
}

impl Scene {
    fn check(&self) -> Result<(), String> {
        Told { source: &self.source, maps: self.maps.as_deref(), departs: self.departs.as_deref() }.check()?;
        if !RULES.contains(&format!("\n| `{}` |", self.rule)) {
            return Err(format!("there is no rule called {}", self.rule));
        }
        if self.endpoint.is_empty() || self.fetches.is_empty() {
            return Err("it has no endpoint or no fetches".into());
        }
        if !self.script.is_sorted_by(|one, other| one.at <= other.at) {
            return Err("its script isn't in order".into());
        }
        self.api.paths.values().try_for_each(|answer| answer.response().map(drop))
    }

    fn source(&self, world: &World) -> Result<BoxTokenSource, String> {
        let hands = world.hands();
        let endpoint = TokenEndpoint::new("https://id.test/token")
            .map_err(|error| error.to_string())?
            .client_secret_basic("app", "secret")
            .http_service(world.endpoint())
            .clock(hands.clone());
        Ok(match self.client.grant {
            Grant::ClientCredentials => Stored::new(ClientCredentials::new(endpoint)).clock(hands.clone()).boxed(),
            Grant::RefreshToken => {
                let stored = Stored::new(RefreshToken::new(endpoint)).clock(hands.clone());
                stored.holding(TokenSet::of_refresh_token("r0")).boxed()
            }
            Grant::Password => Stored::new(LegacyPassword::new(endpoint, "anna", "pw")).clock(hands.clone()).boxed(),
        })
    }

    fn start(&self, world: &World, seed: u64) -> Result<LiveToken, String> {
        let mut builder = LiveToken::builder(self.source(world)?).clock(world.hands().clone()).seed(seed);
        let client = &self.client;
        if let Some(time) = client.fetch_timeout {
            builder = builder.fetch_timeout(seconds(time));
        }
        if let Some(lifetime) = client.assumed_lifetime {
            builder = builder.assume_lifetime(seconds(lifetime));
        }
        if let Some(share) = client.renew_at {
            builder = builder.renew_at(share);
        }
        if let Some(left) = client.renew_before {
            builder = builder.renew_before(seconds(left));
        }
        Ok(builder.spawn())
    }
}

/// What was wrong.
async fn play(mut scene: Scene, seed: u64) -> Result<Vec<String>, String> {
    let world = World::new(std::mem::take(&mut scene.api), std::mem::take(&mut scene.endpoint));
    let token = scene.start(&world, seed)?;
    let origin = Origin::parse("https://api.test").map_err(|error| error.to_string())?;
    let mut layer = BearerAuthLayer::new(token.clone(), origin).ask_requests();
    if let Some(wait) = scene.client.max_wait {
        layer = layer.max_wait(seconds(wait));
    }
    let again = Client::new(ServiceBuilder::new().layer(layer.clone()).service(world.api()));
    let once = Client::new(ServiceBuilder::new().layer(layer.replay(Never)).service(world.api()));
    let mut stage = Stage { world, token, again, once, actors: Vec::new(), wrong: Vec::new(), requests: 0 };
    for step in scene.script {
        stage.world.hands().until(step.at).await;
        stage.act(step)?;
    }
    stage.world.hands().until(scene.until).await;
    let mut wrong = stage.wrong;
    for (at, actor) in stage.actors {
        if !actor.is_finished() {
            wrong.push(format!("what began at {at} isn't over at the end"));
        } else if let Err(what) = actor.await.map_err(|error| error.to_string())? {
            wrong.push(format!("what began at {at}: {what}"));
        }
    }
    let fetches = stage.world.fetches();
    if let Err(what) = compare(&scene.fetches, &fetches) {
        wrong.push(format!("{what}; fetches: {}", shown(&fetches)));
    }
    Ok(wrong)
}

struct Stage {
    world: World,
    token: LiveToken,
    again: Client,
    once: Client,
    /// What isn't over yet, and when it began.
    actors: Vec<(f64, JoinHandle<Result<(), String>>)>,
    wrong: Vec<String>,
    requests: u64,
}

impl Stage {
    fn act(&mut self, step: scene::Step) -> Result<(), String> {
        let at = step.at;
        let mut acts = 0;
        if let Some(request) = step.request {
            acts += 1;
            for _ in 0..request.count {
                self.requests += 1;
                let client = if request.once { self.once.clone() } else { self.again.clone() };
                let actor = send(self.world.clone(), client, request.clone(), self.requests);
                self.actors.push((at, tokio::spawn(actor)));
            }
        }
        if let Some(refresh) = step.refresh {
            acts += 1;
            for _ in 0..refresh.count {
                let (token, world, refresh) = (self.token.clone(), self.world.clone(), refresh.clone());
                let actor = async move {
                    let began = world.hands().running();
                    let error = token.refresh().await.err().map(|error| error.kind());
                    took(refresh.took, world.hands().running() - began)?;
                    same("its error", &refresh.error, &error.map(name_of).transpose()?)
                };
                self.actors.push((at, tokio::spawn(actor)));
            }
        }
        if let Some(shutdown) = step.shutdown {
            acts += 1;
            let (token, world) = (self.token.clone(), self.world.clone());
            let actor = async move {
                let began = world.hands().running();
                token.shutdown().await;
                took(shutdown.took, world.hands().running() - began)
            };
            self.actors.push((at, tokio::spawn(actor)));
        }
        if let Some(status) = &step.status {
            acts += 1;
            let found = status_is(status, &self.token.status());
            self.wrong.extend(found.into_iter().map(|what| format!("the status at {at}: {what}")));
        }
        if let Some(time) = step.suspend {
            acts += 1;
            self.world.hands().suspend(time);
        }
        if let Some(time) = step.step_wall_clock {
            acts += 1;
            self.world.hands().step(time);
        }
        if let Some(which) = &step.revoke {
            acts += 1;
            self.world.revoke(which)?;
        }
        if let Some(endpoint) = step.endpoint.filter(|acts| !acts.is_empty()) {
            acts += 1;
            self.world.play(endpoint);
        }
        if acts == 1 { Ok(()) } else { Err(format!("{acts} things happen at {at}, and not one")) }
    }
}

async fn send(world: World, client: Client, wanted: scene::Request, number: u64) -> Result<(), String> {
    let mut request = Request::post(format!("https://api.test{}", wanted.path)).extension(Number(number));
    if let Some(wait) = wanted.max_wait {
        request = request.extension(PerRequest::new().max_wait(seconds(wait)));
    }
    let request = request.body(Full::from("a body")).map_err(|error| error.to_string())?;
    let began = world.hands().running();
    let response = client.oneshot(request);
    let response = match wanted.dropped_after {
        Some(time) => match timeout(seconds(time), response).await {
            Ok(_) => return Err("it was over before it was dropped".into()),
            Err(_) => return Ok(()),
        },
        None => response.await,
    };
    let lasted = world.hands().running() - began;
    let (status, error) = match response {
        Ok(response) => (Some(response.status().as_u16()), None),
        Err(error) => (None, Some(name_of(error.kind())?)),
    };
    same("its status", &wanted.status, &status)?;
    same("its error", &wanted.error, &error)?;
    if let Some(sent) = &wanted.sent {
        same("sent with", sent, &world.arrived(number))?;
    }
    took(wanted.took, lasted)
}

fn status_is(wanted: &Status, found: &tower_bearer::Status) -> Vec<String> {
    use scene::State::{Expired, Failing, Live, Reauthorize, Rejected, Starting, Stopped};
    let state = match found.state() {
        tower_bearer::State::Starting => Starting,
        tower_bearer::State::Live => Live,
        tower_bearer::State::Failing => Failing,
        tower_bearer::State::Expired => Expired,
        tower_bearer::State::Rejected => Rejected,
        tower_bearer::State::ReauthorizationRequired => Reauthorize,
        _ => Stopped,
    };
    let time = |what: &str, wanted: Option<Left>, found: Option<Duration>| match (wanted, found) {
        (None, _) | (Some(Left::Unknown(_)), None) => None,
        (Some(Left::In(range)), Some(found)) if range.holds(found.as_secs_f64()) => None,
        (_, found) => Some(format!("{what} is {found:?}")),
    };
    let mut wrong = Vec::new();
    wrong.extend(wanted.state.and_then(|wanted| same("the state", &wanted, &state).err()));
    wrong.extend(wanted.usable.and_then(|wanted| same("usable", &wanted, &found.is_usable()).err()));
    wrong.extend(wanted.failures.and_then(|wanted| same("failures", &wanted, &found.failures()).err()));
    wrong.extend(wanted.fetching.and_then(|wanted| same("fetching", &wanted, &found.is_fetching()).err()));
    wrong.extend(wanted.tokens.and_then(|wanted| same("tokens", &wanted, &found.generation()).err()));
    wrong.extend(time("the time left", wanted.time_left, found.time_left()));
    wrong.extend(time("the time to the next fetch", wanted.next_fetch, found.next_attempt_in()));
    wrong
}

/// Whether the fetches are those that were to be, one after another; where there may be several of a kind, as many as fit.
fn compare(wanted: &[Fetch], found: &[Fetched]) -> Result<(), String> {
    let mut next = 0;
    for (number, fetch) in wanted.iter().enumerate() {
        let times = fetch.times.unwrap_or(Range::new(1.0, 1.0));
        let mut count = 0;
        while let Some(this) = found.get(next) {
            if fetch.times.is_none() && count == 1 {
                break;
            }
            let before = next.checked_sub(1).map(|before| &found[before]);
            match fetch.fits(this, before) {
                Ok(()) => (next, count) = (next + 1, count + 1),
                Err(what) if fetch.times.is_none() => return Err(format!("the fetch {}: {what}", next + 1)),
                Err(_) => break,
            }
        }
        if !times.counts(count) {
            return Err(format!("{count} fetches of the kind {}", number + 1));
        }
    }
    if next < found.len() { Err(format!("the fetch {} was not to be", next + 1)) } else { Ok(()) }
}

impl Fetch {
    fn fits(&self, found: &Fetched, before: Option<&Fetched>) -> Result<(), String> {
        let holds = |what: &str, range: Option<Range>, time: Option<f64>| match (range, time) {
            (Some(range), Some(time)) if !range.holds(time) => Err(format!("{time:.3} s {what}, not {range:?}")),
            (Some(_), None) => Err(format!("there is nothing to count from: {what}")),
            _ => Ok(()),
        };
        holds("since the beginning", self.between, Some(found.at))?;
        holds("since the one before began", self.after_start, before.map(|before| found.at - before.at))?;
        let ended = before.and_then(|before| before.ended);
        holds("since the one before ended", self.after_end, ended.map(|ended| found.at - ended))?;
        holds("until it ended", self.took, found.ended.map(|ended| ended - found.at))?;
        match &self.refresh_token {
            Some(_) if self.refresh_token != found.refresh_token => Err(format!("sent {:?}", found.refresh_token)),
            _ => Ok(()),
        }
    }
}

fn shown(fetches: &[Fetched]) -> String {
    let shown = |fetch: &Fetched| match fetch.ended {
        Some(ended) => format!("{:.3}–{ended:.3}", fetch.at),
        None => format!("{:.3}–", fetch.at),
    };
    fetches.iter().take(30).map(shown).collect::<Vec<_>>().join(", ")
}

fn name_of(kind: ErrorKind) -> Result<scene::Error, String> {
    Ok(match kind {
        ErrorKind::Timeout => scene::Error::Timeout,
        ErrorKind::Unavailable => scene::Error::Unavailable,
        ErrorKind::Rejected => scene::Error::Rejected,
        ErrorKind::ReauthorizationRequired => scene::Error::Reauthorize,
        ErrorKind::Stopped => scene::Error::Stopped,
        other => return Err(format!("{other:?}")),
    })
}

fn took(range: Option<Range>, time: f64) -> Result<(), String> {
    match range {
        Some(range) if !range.holds(time) => Err(format!("it took {time:.3} s, not {range:?}")),
        _ => Ok(()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T) -> Result<(), String> {
    if wanted == found { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}")) }
}

fn seconds(time: f64) -> Duration {
    Duration::from_secs_f64(time)
}
