//! Servers and routes of an API that don't take every token: some are late with a new one, some refuse everybody, and some servers end a
//! token when they issue the next. In the mixtures, good requests go on, and nothing is fetched over and over.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{
    AccessToken, FetchError, FetchRequest, LiveToken,
    replay::{Auto, Never, ReplayPolicy},
    source_fn,
};

mod support;
use support::{Api, get, layer, now, ok, refused, secs, timed};

/// A server, and the API that its tokens are for.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// When each token was issued, and when it ends for the API.
    tokens: Vec<(Instant, Option<Instant>)>,
    fetches: usize,
    is_down: bool,
    /// The next token ends the one before.
    one_at_a_time: bool,
    /// How long until the API knows a token.
    lag: Duration,
    /// As the server says, and as it is.
    life: Option<Duration>,
    really: Option<Duration>,
}

impl World {
    fn new(set: impl FnOnce(&mut Inner)) -> Self {
        let world = Self::default();
        set(&mut world.0.lock().unwrap());
        world
    }

    /// An hour's tokens, known at once or after this time.
    fn late(lag: Duration) -> Self {
        Self::new(|inner| (inner.life, inner.lag) = (Some(secs(3600)), lag))
    }

    fn fetches(&self) -> usize {
        self.0.lock().unwrap().fetches
    }

    fn revoke(&self) {
        self.0.lock().unwrap().tokens.iter_mut().for_each(|(_, ends)| *ends = Some(now()));
    }

    /// Each fetch takes 100 ms.
    fn live(&self) -> LiveToken {
        let world = self.clone();
        let source = source_fn(move |_: FetchRequest| {
            let world = world.clone();
            world.0.lock().unwrap().fetches += 1;
            async move {
                sleep(Duration::from_millis(100)).await;
                let mut inner = world.0.lock().unwrap();
                if inner.is_down {
                    return Err(FetchError::try_again("down"));
                }
                if inner.one_at_a_time {
                    inner
                        .tokens
                        .iter_mut()
                        .for_each(|(_, ends)| *ends = Some(ends.map_or(now(), |ends| ends.min(now()))));
                }
                let really = inner.really.or(inner.life);
                inner.tokens.push((now(), really.map(|life| now() + life)));
                let token = AccessToken::new(format!("t{}", inner.tokens.len()))?;
                Ok::<_, FetchError>(match inner.life {
                    Some(life) => token.expires_in(life),
                    None => token,
                })
            }
        });
        LiveToken::builder(source).seed(1).spawn()
    }

    fn takes(&self, token: &str, lag: Duration) -> bool {
        let inner = self.0.lock().unwrap();
        let (issued, ends) = inner.tokens[token[1..].parse::<usize>().unwrap() - 1];
        issued.elapsed() >= lag && ends.is_none_or(|ends| now() < ends)
    }

    /// `/bad` refuses everybody.
    fn api(&self) -> Api {
        let world = self.clone();
        let lag = world.0.lock().unwrap().lag;
        Api::new(
            move |seen| {
                if !seen.uri.ends_with("/bad") && world.takes(seen.token(), lag) { ok() } else { refused() }
            },
        )
        .after(Duration::from_millis(20))
    }
}

/// What became of requests to a path, one every so often.
struct Driven {
    failed: usize,
    sent: usize,
    longest: Duration,
}

async fn drive<P>(token: &LiveToken, api: &Api, policy: P, path: &str, every: u64, run: Duration) -> Driven
where
    P: ReplayPolicy<Request<Empty<Bytes>>> + Clone + Send + Sync + 'static,
{
    let service = ServiceBuilder::new().layer(layer(token).replay(policy)).service(api.clone());
    let (began, mut requests) = (now(), Vec::new());
    while began.elapsed() < run {
        requests.push(tokio::spawn(timed(service.clone().oneshot(get(path)))));
        sleep(Duration::from_millis(every)).await;
    }
    let mut driven = Driven { failed: 0, sent: requests.len(), longest: Duration::ZERO };
    for request in requests {
        let (answer, took) = request.await.unwrap();
        driven.failed += usize::from(answer.unwrap().status() != 200);
        driven.longest = driven.longest.max(took);
    }
    driven
}

const MINUTES: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn one_server_of_two_is_late_with_the_first_token() {
    let world = World::late(Duration::ZERO);
    let token = world.live();
    token.ready().await.unwrap();
    let (late, rng) = (world.clone(), Mutex::new(fastrand::Rng::with_seed(1)));
    let api = Api::new(move |seen| {
        let lag = if rng.lock().unwrap().bool() { Duration::from_millis(400) } else { Duration::ZERO };
        if late.takes(seen.token(), lag) { ok() } else { refused() }
    });
    let driven = drive(&token, &api.after(Duration::from_millis(20)), Auto, "/a", 25, MINUTES).await;
    assert!(driven.failed == 0 && world.fetches() <= 3, "{} failed, {} fetches", driven.failed, world.fetches());
}

/// Tokens of an unknown life end after 20 s, nothing is sent again, and the API is 100 ms late: six requests for each token fail.
#[tokio::test(start_paused = true)]
async fn without_replays_a_late_api_costs_what_the_lag_lasts() {
    let lag = Duration::from_millis(100);
    let world = World::new(|inner| (inner.lag, inner.really) = (lag, Some(secs(20))));
    let token = world.live();
    token.ready().await.unwrap();
    sleep(lag).await;
    let driven = drive(&token, &world.api(), Never, "/a", 100, secs(1800)).await;
    assert!(driven.failed <= 600, "{} of {}, {} fetches", driven.failed, driven.sent, world.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_everybody_beside_a_late_api_costs_few_fetches_and_no_request() {
    for lag in [0, 400] {
        let world = World::late(Duration::from_millis(lag));
        let token = world.live();
        token.ready().await.unwrap();
        sleep(secs(10)).await;
        let api = world.api();
        let (good, _) = tokio::join!(
            drive(&token, &api, Auto, "/a", 25, MINUTES),
            drive(&token, &api, Auto, "/bad", 970, MINUTES),
        );
        assert!(
            good.failed == 0 && world.fetches() <= 25,
            "{lag}: {} failed, {} fetches, {:?}",
            good.failed,
            world.fetches(),
            good.longest
        );
    }
}

/// They ask at the same moments, so that one of the two is always first.
#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_everybody_is_asked_in_step_with_a_good_one() {
    let world = World::late(Duration::ZERO);
    let token = world.live();
    token.ready().await.unwrap();
    sleep(secs(10)).await;
    let api = world.api();
    tokio::join!(
        drive(&token, &api, Never, "/a", 1000, MINUTES),
        drive(&token, &api, Never, "/bad", 1000, MINUTES),
        drive(&token, &api, Auto, "/a", 1000, MINUTES),
        drive(&token, &api, Auto, "/bad", 1000, MINUTES),
    );
    assert!(world.fetches() <= 25, "{} fetches", world.fetches());
}

/// At each renewal the token before serves on, although one route has refused that as well.
#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_everybody_takes_no_token_from_the_others() {
    let world = World::new(|inner| (inner.life, inner.lag) = (Some(secs(60)), secs(3)));
    let token = world.live();
    token.ready().await.unwrap();
    sleep(secs(3)).await;
    let api = world.api();
    let (good, _) =
        tokio::join!(drive(&token, &api, Auto, "/a", 25, MINUTES), drive(&token, &api, Auto, "/bad", 200, MINUTES));
    assert!(good.failed == 0 && good.longest < secs(1), "{} failed, {:?}", good.failed, good.longest);
}

/// A new token that works, and one request to a route that refuses everybody: at most one other learns that the token before is dead.
#[tokio::test(start_paused = true)]
async fn where_a_client_has_one_token_at_a_time_the_one_before_is_not_tried_for_long() {
    for replays in [true, false] {
        let world = World::new(|inner| (inner.one_at_a_time, inner.life) = (true, Some(secs(3600))));
        let token = world.live();
        token.ready().await.unwrap();
        sleep(secs(60)).await;
        token.refresh().await.unwrap();
        let api = world.api();
        assert_eq!(drive(&token, &api, Never, "/a", 25, secs(1)).await.failed, 0);
        let bad = drive(&token, &api, Auto, "/bad", 2000, secs(1));
        let (good, _) = match replays {
            true => tokio::join!(drive(&token, &api, Auto, "/a", 25, secs(1)), bad),
            false => tokio::join!(drive(&token, &api, Never, "/a", 25, secs(1)), bad),
        };
        let most = usize::from(!replays);
        assert!(good.failed <= most && good.longest < Duration::from_millis(100), "{} {:?}", good.failed, good.longest);
    }
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_the_token_before_a_late_one_serves_as_well() {
    let world = World::late(Duration::from_millis(1_500));
    let token = world.live();
    token.ready().await.unwrap();
    sleep(secs(10)).await;
    token.refresh().await.unwrap();
    token.shutdown().await;
    assert_eq!(drive(&token, &world.api(), Auto, "/a", 25, secs(10)).await.failed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_whose_successor_is_late_is_replaced_once() {
    for lag in [400, 1_500, 3_000] {
        let world = World::late(Duration::from_millis(lag));
        let token = world.live();
        token.ready().await.unwrap();
        sleep(secs(60)).await;
        world.revoke();
        let driven = drive(&token, &world.api(), Auto, "/a", 25, secs(60)).await;
        assert_eq!((driven.failed, world.fetches()), (0, 2), "{lag}");
    }
}

/// What fails because the endpoint is down says nothing about new tokens.
#[tokio::test(start_paused = true)]
async fn after_an_outage_a_late_api_is_waited_for_as_before() {
    let world = World::new(|inner| (inner.really, inner.lag) = (Some(secs(20)), secs(2)));
    let token = world.live();
    token.ready().await.unwrap();
    sleep(secs(5)).await;
    world.0.lock().unwrap().is_down = true;
    // The token ends, and is asked for again and again.
    assert!(drive(&token, &world.api(), Auto, "/a", 5_000, secs(60)).await.failed > 0);
    world.0.lock().unwrap().is_down = false;
    sleep(secs(100)).await;
    let driven = drive(&token, &world.api(), Auto, "/a", 1_000, secs(10)).await;
    assert_eq!((driven.failed, driven.sent), (0, 10));
}

/// The token that everybody takes is two tokens back.
#[tokio::test(start_paused = true)]
async fn two_renewals_within_the_lag_forget_no_token_that_works() {
    let world = World::late(secs(3));
    let token = world.live();
    token.ready().await.unwrap();
    sleep(secs(10)).await;
    token.refresh().await.unwrap();
    sleep(secs(1)).await;
    token.refresh().await.unwrap();
    // One at each step.
    let driven = drive(&token, &world.api(), Never, "/a", 25, secs(10)).await;
    assert!(driven.failed <= 10, "{} of {}", driven.failed, driven.sent);
}

/// Each token ends sooner than the server said, and a route that refuses everybody has shown that some take what others refuse. That a request
/// which had asked for a token is accepted with it in the end says that fetches help all the same.
#[tokio::test(start_paused = true)]
async fn a_late_api_is_waited_for_however_often_tokens_end_early() {
    let lag = Duration::from_millis(700);
    let world = World::new(|inner| (inner.life, inner.really, inner.lag) = (Some(secs(3600)), Some(secs(20)), lag));
    let token = world.live();
    token.ready().await.unwrap();
    let api = world.api();
    tokio::join!(drive(&token, &api, Auto, "/a", 1_000, MINUTES), drive(&token, &api, Auto, "/bad", 970, MINUTES));
    sleep(secs(150)).await;
    let driven = drive(&token, &api, Auto, "/a", 100_000, secs(1800)).await;
    assert_eq!((driven.failed, driven.sent), (0, 18));
}

/// The route has a new token fetched, and shortly after that somebody else comes.
#[tokio::test(start_paused = true)]
async fn who_comes_after_a_route_that_refuses_everybody_is_not_refused_with_it() {
    for before in [1, 2, 4] {
        let world = World::late(Duration::from_millis(700));
        let token = world.live();
        token.ready().await.unwrap();
        sleep(secs(10)).await;
        let api = world.api();
        drive(&token, &api, Never, "/bad", 15_000, secs(15) * before).await;
        let bad = drive(&token, &api, Auto, "/bad", 300, Duration::from_millis(300)).await;
        assert!(bad.longest < secs(4), "{:?}", bad.longest);
        let good = drive(&token, &api, Auto, "/a", 1_000, secs(1)).await;
        assert_eq!((good.failed, good.sent), (0, 1), "{before}");
        // A minute later the next one isn't refused with it either.
        drive(&token, &api, Auto, "/bad", 1_000, secs(1)).await;
        sleep(secs(30)).await;
        world.revoke();
        let good = drive(&token, &api, Auto, "/a", 1_000, secs(1)).await;
        assert_eq!((good.failed, good.sent), (0, 1), "{before}: revoked");
    }
}
