//! What recorders are told, first of all when something is wrong: with the token endpoint, the clocks, the recorder itself.
//!
//! A recorder of each test's own, on the thread that everything in it runs on, and tokio's paused clock: every number is exact.
#![cfg(feature = "metrics")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{Response, StatusCode};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use support::{Api, Issuer, Still, get, layer, now, ok, refused, secs, send};
use tokio::time::{Instant, sleep, timeout};
use tower::Layer;
use tower_bearer::{AccessToken, ErrorKind, FetchError, LiveToken, State, clock::Clock, replay, source_fn};

const MILLI: Duration = Duration::from_millis(1);
const HEADROOM: &str = "tower_bearer_headroom_seconds{token=agrello}";
const EXPIRATION: &str = "tower_bearer_expiration_timestamp_seconds{token=agrello}";
const AGE: &str = "tower_bearer_generation_age_seconds{token=agrello}";

/// A wall clock that goes with tokio's, and can be set.
#[derive(Clone)]
struct Wall {
    start: Instant,
    set_to: Arc<Mutex<Duration>>,
}

impl Wall {
    fn new() -> Self {
        Self { start: now(), set_to: Arc::new(Mutex::new(secs(1_800_000_000))) }
    }

    fn seconds(&self) -> f64 {
        (*self.set_to.lock().unwrap() + self.start.elapsed()).as_secs_f64()
    }
}

impl Clock for Wall {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(self.seconds())
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A recorder, and what a scrape of it would bring: the series by name and labels.
#[derive(Default)]
struct Scrapes {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    durations: Mutex<BTreeMap<String, Arc<Durations>>>,
}

#[derive(Default)]
struct Durations(Mutex<Vec<f64>>);

impl HistogramFn for Durations {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

fn told<T: Default>(series: &Mutex<BTreeMap<String, Arc<T>>>, key: &Key) -> Arc<T> {
    let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    series.lock().unwrap().entry(format!("{}{{{}}}", key.name(), labels.join(","))).or_default().clone()
}

impl Recorder for Scrapes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(told(&self.counters, key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(told(&self.gauges, key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(told(&self.durations, key))
    }
}

impl Scrapes {
    fn series(&self) -> BTreeSet<String> {
        let (counters, gauges) = (self.counters.lock().unwrap(), self.gauges.lock().unwrap());
        let durations = self.durations.lock().unwrap();
        counters.keys().chain(gauges.keys()).chain(durations.keys()).cloned().collect()
    }

    fn gauge(&self, series: &str) -> f64 {
        f64::from_bits(self.gauges.lock().unwrap()[series].load(Ordering::SeqCst))
    }

    fn count(&self, series: &str) -> u64 {
        self.counters.lock().unwrap().get(series).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// What came since this was asked last.
    fn durations(&self, series: &str) -> Vec<f64> {
        let durations = self.durations.lock().unwrap().get(series).cloned().unwrap_or_default();
        std::mem::take(&mut *durations.0.lock().unwrap())
    }

    /// The states that the token is said to be in.
    fn states(&self) -> Vec<String> {
        let is_now = |series: &&String| series.starts_with("tower_bearer_state{") && self.gauge(series) != 0.0;
        let now: Vec<_> = self.series().iter().filter(is_now).cloned().collect();
        now.iter().map(|series| series.split("state=").nth(1).unwrap().trim_end_matches('}').to_owned()).collect()
    }
}

fn live(issuer: &Issuer, clock: impl Clock) -> LiveToken {
    LiveToken::builder(issuer.clone()).name("agrello").seed(1).clock(clock).spawn()
}

fn assert_near(what: &str, seen: f64, expected: f64, tolerance: f64) {
    assert!((seen - expected).abs() <= tolerance, "{what}: {seen}, not {expected}");
}

#[tokio::test(start_paused = true)]
async fn headroom_falls_to_nothing_and_stays_there_however_long_the_endpoint_is_down() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let wall = Wall::new();
    let issuer = Issuer::new().lifetime(secs(600));
    let token = live(&issuer, wall.clone());
    token.ready().await.unwrap();
    sleep(MILLI).await;
    issuer.fails(FetchError::try_again("down"));

    let mut last = f64::INFINITY;
    while token.status().is_usable() {
        // Scraped at any moment, not at those that suit the task.
        sleep(Duration::from_millis(337)).await;
        let (headroom, expiration) = (scrapes.gauge(HEADROOM), scrapes.gauge(EXPIRATION));
        let truth = token.status().headroom().as_secs_f64();
        assert!(headroom <= last && headroom >= 0.0, "{headroom} after {last}");
        assert!(headroom >= truth && headroom - truth <= 1.002, "{headroom}, not {truth}");
        if token.status().is_usable() {
            assert_near("what the alarm computes", expiration - wall.seconds(), truth, 0.002);
        }
        last = headroom;
    }
    let ended = scrapes.gauge(EXPIRATION);
    assert_near("the end", ended, wall.seconds(), 0.4);
    for _ in 0..200 {
        sleep(secs(97)).await;
        assert_eq!(scrapes.gauge(HEADROOM), 0.0);
        assert_near("the end", scrapes.gauge(EXPIRATION), ended, 0.002);
        assert_eq!(scrapes.states(), ["expired"]);
    }
    assert_near("the generation", scrapes.gauge(AGE), now().duration_since(wall.start).as_secs_f64(), 1.1);

    issuer.works();
    timeout(secs(61), token.ready()).await.unwrap().unwrap();
    sleep(MILLI).await;
    assert_near("the next token", scrapes.gauge(HEADROOM), 600.0, 0.1);
    assert_eq!(scrapes.states(), ["live"]);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_headroom_before_the_first_token() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let _token = live(&Issuer::new().hangs(), Still);
    for wait in [1, 500, 59_000, 3_600_000] {
        sleep(MILLI * wait).await;
        assert_eq!((scrapes.gauge(HEADROOM), scrapes.gauge(EXPIRATION), scrapes.gauge(AGE)), (0.0, 0.0, 0.0));
        assert_eq!(scrapes.states(), ["starting"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_known_end_has_infinite_headroom_while_it_is_there() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let token = live(&Issuer::new(), Wall::new());
    for wait in [1, 1_000, 3_600_000] {
        sleep(MILLI * wait).await;
        assert_eq!(scrapes.gauge(HEADROOM), f64::INFINITY);
        assert_eq!(scrapes.gauge(EXPIRATION), f64::INFINITY);
    }
    // Its age goes on although nothing else happens to it.
    assert_near("age", scrapes.gauge(AGE), 3_601.0, 1.1);
    drop(token);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_moves_the_timestamp_only_and_only_to_where_it_is_right() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let wall = Wall::new();
    let issuer = Issuer::new().lifetime(secs(1_000));
    let token = live(&issuer, wall.clone());
    token.ready().await.unwrap();
    issuer.fails(FetchError::try_again("down"));
    for set_to in [1_800_003_600, 1_700_000_000, 0] {
        *wall.set_to.lock().unwrap() = secs(set_to);
        sleep(Duration::from_millis(1_010)).await;
        let truth = token.status().headroom().as_secs_f64();
        assert_near("headroom", scrapes.gauge(HEADROOM), truth, 1.002);
        assert_near("expiration", scrapes.gauge(EXPIRATION) - wall.seconds(), truth, 0.002);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_comes_late_is_told_within_a_second() {
    let scrapes = Scrapes::default();
    // None at all is no problem either.
    let token = live(&Issuer::new().lifetime(secs(3_600)), Still);
    sleep(secs(600)).await;
    let _guard = set_default_local_recorder(&scrapes);
    assert!(scrapes.series().is_empty());
    sleep(secs(1) + MILLI * 2).await;
    assert_near("headroom", scrapes.gauge(HEADROOM), token.status().headroom().as_secs_f64(), 1.002);
    assert_eq!(scrapes.states(), ["live"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_name_is_not_measured() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let issuer = Issuer::new().lifetime(secs(10));
    let tokens: Vec<_> = (0..100).map(|_| issuer.live()).collect();
    let mut service = layer(&tokens[0]).layer(Api::new(|_| refused()));
    send(&mut service, get("/a")).await.unwrap();
    sleep(secs(100)).await;
    assert!(scrapes.series().is_empty(), "{:?}", scrapes.series());
}

/// Told of anything, it panics.
struct Panics;

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("a recorder's panic that the test wants")
    }
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("a recorder's panic that the test wants")
    }
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("a recorder's panic that the test wants")
    }
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        panic!("a recorder's panic that the test wants")
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("a recorder's panic that the test wants")
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("a recorder's panic that the test wants")
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_panics_costs_no_request_and_no_renewal() {
    let _guard = set_default_local_recorder(&Panics);
    let issuer = Issuer::new().lifetime(secs(100)).takes(secs(1));
    let token = live(&issuer, Still);
    let mut service = layer(&token).layer(Api::new(|seen| if seen.token() == "t1" { refused() } else { ok() }));
    // It waits for the first token, is refused, and sent again.
    assert_eq!(send(&mut service, get("/a")).await.unwrap().status(), StatusCode::OK);
    timeout(secs(1), send(&mut service, get("/b"))).await.unwrap().unwrap();
    sleep(secs(1_000)).await;
    assert!(token.status().generation() >= 10, "{:?}", token.status());
    issuer.fails(FetchError::try_again("down"));
    sleep(secs(200)).await;
    assert_eq!(send(&mut service, get("/c")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    issuer.works();
    timeout(secs(62), token.ready()).await.unwrap().unwrap();
    token.shutdown().await;
}

/// Asks the token how it is whenever it is told something, as one that fills in labels might.
struct Asks(Mutex<Option<LiveToken>>);

impl Asks {
    fn ask(&self) {
        if let Some(token) = &*self.0.lock().unwrap() {
            let _ = (token.status(), token.authorization(), token.watch());
        }
    }
}

impl Recorder for Asks {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.ask();
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.ask();
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.ask();
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_may_ask_the_token() {
    let recorder = Asks(Mutex::new(None));
    let _guard = set_default_local_recorder(&recorder);
    let token = live(&Issuer::new().lifetime(secs(10)), Still);
    *recorder.0.lock().unwrap() = Some(token.clone());
    let mut service = layer(&token).layer(Api::that_takes(&["t2"]));
    assert_eq!(send(&mut service, get("/a")).await.unwrap().status(), StatusCode::OK);
    sleep(secs(100)).await;
    token.shutdown().await;
    assert!(!token.status().is_usable() || token.status().state() == State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_servers_and_requests_say_makes_no_series() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let mut number = 0_u32;
    let source = source_fn(move |_| {
        number += 1;
        let said = format!("marked-{number}");
        async move {
            match number % 9 {
                0 => Err(FetchError::rejected(said)),
                3 | 4 => Err(FetchError::try_again(said).retry_after(secs(2))),
                7 => panic!("a panic that the test wants"),
                _ => Ok(AccessToken::new(said)?.expires_in(secs(5))),
            }
        }
    });
    let token = LiveToken::builder(source).name("agrello").seed(1).clock(Still).spawn();
    let mut series = BTreeSet::new();
    for step in 0..2_000_u32 {
        let mut service =
            layer(&token).max_wait(secs(1)).layer(Api::new(move |_| if step % 3 == 0 { refused() } else { ok() }));
        let _ = timeout(secs(2), send(&mut service, get(&format!("/marked-{step}")))).await;
        let _ = timeout(MILLI, send(&mut service, get("/b"))).await;
        let _ = timeout(secs(1), token.refresh()).await;
        sleep(secs(1)).await;
        series.extend(scrapes.series());
    }
    assert!(token.status().generation() > 100, "{:?}", token.status());
    assert!(series.len() > 15 && series.len() <= 29, "{series:#?}");
    assert!(series.iter().all(|series| !series.contains("marked")), "{series:#?}");

    // All of them are in the documentation, with their labels and what these say.
    let docs = include_str!("../src/live/telemetry.rs");
    for series in &series {
        let (name, labels) = series.split_once('{').unwrap();
        assert!(docs.contains(&format!("| `{name}` |")), "{name}");
        for label in labels.trim_end_matches('}').split(',').filter(|label| *label != "token=agrello") {
            let (label, value) = label.split_once('=').unwrap();
            assert!(docs.contains(&format!("`{label}`")) && docs.contains(&format!("`{value}`")), "{series}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_fetch_is_counted_by_how_it_ended_and_timed() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let issuer = Issuer::new().takes(secs(3));
    let token = live(&issuer, Still);
    assert_eq!(scrapes.series().len(), 6, "the counters are there from the start");
    let fetch = async |issuer: Issuer| drop((issuer, token.refresh().await));
    fetch(issuer.works()).await;
    fetch(issuer.fails(FetchError::try_again("down"))).await;
    fetch(issuer.fails(FetchError::rejected("secret"))).await;
    fetch(issuer.fails(FetchError::rejected("secret"))).await;
    fetch(issuer.fails(FetchError::reauthorize("dead"))).await;
    // Its life is over when it arrives: that is a failure, whatever the source thinks of it.
    fetch(issuer.works().fresh().lifetime(secs(2))).await;
    let count =
        |outcome: &str| scrapes.count(&format!("tower_bearer_fetches_total{{token=agrello,outcome={outcome}}}"));
    assert_eq!((count("fetched"), count("try_again")), (1, 2));
    assert_eq!((count("rejected"), count("reauthorization_required")), (2, 1));
    let durations = scrapes.durations("tower_bearer_fetch_duration_seconds{token=agrello}");
    assert_eq!(durations.len(), 6);
    assert!(durations.iter().all(|seconds| (3.0..3.01).contains(seconds)), "{durations:?}");
}

/// How long requests waited, by why and by how that ended, since this was asked last.
fn waits(scrapes: &Scrapes, why: &str, ended: &str) -> Vec<f64> {
    scrapes.durations(&format!("tower_bearer_wait_duration_seconds{{token=agrello,why={why},ended={ended}}}"))
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_count_even_if_they_are_given_up() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let issuer = Issuer::new().lifetime(secs(100)).hangs();
    let token = live(&issuer, Still);
    let mut service = layer(&token).layer(Api::new(|_| ok()));

    timeout(secs(4), send(&mut service, get("/a"))).await.unwrap_err();
    assert_near("given up", waits(&scrapes, "no_token", "cancelled")[0], 4.0, 0.01);
    assert_eq!(send(&mut service, get("/a")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_near("max_wait", waits(&scrapes, "no_token", "timeout")[0], 10.0, 0.01);

    issuer.fails(FetchError::rejected("secret"));
    sleep(secs(60)).await;
    assert_eq!(send(&mut service, get("/a")).await.unwrap_err().kind(), ErrorKind::Rejected);
    assert_eq!(waits(&scrapes, "no_token", "failed"), [0.0]);

    issuer.works().takes(secs(2));
    // While somebody asks for a fetch, waiting makes sense.
    let asking = tokio::spawn({
        let token = token.clone();
        async move { token.refresh().await }
    });
    sleep(MILLI).await;
    let five = (0..5).map(|_| async { send(&mut service.clone(), get("/a")).await });
    let answers = futures_util::future::join_all(five).await;
    asking.await.unwrap().unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let waited = waits(&scrapes, "no_token", "token");
    assert_eq!(waited.len(), 5);
    assert!(waited.iter().all(|seconds| (1.99..2.02).contains(seconds)), "{waited:?}");

    // A request that finds its token leaves nothing.
    send(&mut service.clone(), get("/a")).await.unwrap();
    assert!(waits(&scrapes, "no_token", "token").is_empty());
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_and_those_that_were_mended() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let issuer = Issuer::new().takes(secs(1));
    let token = live(&issuer, Still);
    token.ready().await.unwrap();
    let counts = || {
        let count = |name: &str| scrapes.count(&format!("tower_bearer_{name}_total{{token=agrello}}"));
        (count("refusals"), count("recoveries"))
    };

    // Twenty at once: one fetch mends them all.
    let service = layer(&token).layer(Api::that_takes(&["t2"]));
    let twenty = (0..20).map(|_| async { send(&mut service.clone(), get("/a")).await.unwrap().status() });
    assert!(futures_util::future::join_all(twenty).await.iter().all(|status| *status == 200));
    assert_eq!((counts(), issuer.fetches()), ((20, 20), 2));
    // One that had its 401 late, when there was another token already: nobody asked for one, and it is mended too.
    let waited = waits(&scrapes, "refused", "token");
    assert_eq!(waited.len(), 20);
    assert!(waited.iter().all(|seconds| (0.99..1.02).contains(seconds)), "{waited:?}");
    let mut late = layer(&token).layer(Api::that_takes(&["t3"]).after(secs(1)));
    let (answer, renewed) = tokio::join!(send(&mut late, get("/a")), token.refresh());
    renewed.unwrap();
    assert_eq!((answer.unwrap().status(), counts()), (StatusCode::OK, (21, 21)));

    // A route that answers 401 to everybody: to the request, and when it is sent again.
    let mut closed = layer(&token).layer(Api::new(|_| refused()));
    assert_eq!(send(&mut closed, get("/a")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(counts(), (23, 21));
    // Sent again to a server that is busy: nobody knows whether the token would have been accepted.
    let busy = || Response::builder().status(503).body(String::new()).unwrap();
    let api = Api::new(move |seen| if seen.token() == "t4" { refused() } else { busy() });
    let mut busy = layer(&token).layer(api.after(secs(1)));
    let (answer, renewed) = tokio::join!(send(&mut busy, get("/a")), token.refresh());
    renewed.unwrap();
    assert_eq!((answer.unwrap().status(), counts()), (StatusCode::SERVICE_UNAVAILABLE, (24, 21)));
    // Never sent again.
    let mut never = layer(&token).replay(replay::Never).layer(Api::new(|_| refused()));
    assert_eq!(send(&mut never, get("/a")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(counts(), (25, 21));
    // Not this layer's business.
    let mut off = layer(&token).without_recovery().layer(Api::new(|_| refused()));
    send(&mut off, get("/a")).await.unwrap();
    assert_eq!(counts(), (25, 21));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_over_raises_no_alarm_unless_somebody_still_wants_it() {
    let scrapes = Scrapes::default();
    let _guard = set_default_local_recorder(&scrapes);
    let issuer = Issuer::new().lifetime(secs(100));

    // Shut down, it serves to its end.
    let token = live(&issuer, Still);
    token.ready().await.unwrap();
    token.shutdown().await;
    sleep(secs(50)).await;
    assert_eq!(scrapes.states(), ["stopped"]);
    assert_near("headroom", scrapes.gauge(HEADROOM), 50.0, 1.1);
    sleep(secs(51)).await;
    assert_eq!((scrapes.gauge(HEADROOM), scrapes.states()), (0.0, vec!["stopped".to_owned()]));
    drop(token);
    assert!(scrapes.gauge(HEADROOM).is_nan());

    // Its task ends with the runtime: requests fail, and it shows.
    let (token, driver) = LiveToken::builder(issuer.clone()).name("agrello").clock(Still).pair();
    let task = tokio::spawn(driver);
    token.ready().await.unwrap();
    task.abort();
    let _ = task.await;
    assert_eq!((scrapes.gauge(HEADROOM), scrapes.states()), (0.0, vec!["stopped".to_owned()]));

    // Nobody has it any more.
    let token = live(&issuer, Still);
    token.ready().await.unwrap();
    sleep(secs(10)).await;
    assert!(scrapes.gauge(HEADROOM) > 0.0);
    drop(token);
    sleep(secs(200)).await;
    assert!([HEADROOM, EXPIRATION, AGE].iter().all(|gauge| scrapes.gauge(gauge).is_nan()));
    assert_eq!(scrapes.states(), Vec::<String>::new());
}
