//! Many 401s, few fetches: routes that refuse everybody, revocations in a row, a token endpoint that is down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Response;
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{FetchError, State};

mod support;
use support::{Api, Issuer, get, layer, now, ok, refused, secs, send, timed};

#[tokio::test(start_paused = true)]
async fn a_route_that_answers_401_to_everybody_disturbs_nobody() {
    let api = Api::new(|seen| if seen.uri.ends_with("/never") { refused() } else { ok() });
    let issuer = Issuer::new().takes(Duration::from_millis(200));
    let token = issuer.ready().await;
    let mut service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let never = {
        let mut service = service.clone();
        tokio::spawn(async move {
            for number in 0..36_000 {
                let response = send(&mut service, get("/never")).await.unwrap();
                assert_eq!(response.status(), 401, "request {number}");
                sleep(Duration::from_millis(100)).await;
            }
        })
    };
    let start = now();
    let mut by_minute = Vec::new();
    while !never.is_finished() {
        let before = issuer.fetches();
        for _ in 0..60 {
            let (response, took) = timed(send(&mut service, get("/b"))).await;
            assert_eq!((response.unwrap().status().as_u16(), took), (200, Duration::ZERO));
            sleep(secs(1)).await;
        }
        by_minute.push(issuer.fetches() - before);
    }
    never.await.unwrap();
    assert!(start.elapsed() >= secs(3600));
    assert!(by_minute[0] <= 6 && by_minute[2..].iter().all(|fetches| *fetches <= 1), "{by_minute:?}");
    // Each token in turn was kept: `/b` never failed. After a fetch the token before is tried, too: the new one may not be known yet.
    let fetches = usize::try_from(issuer.fetches()).unwrap();
    let sent = api.seen().iter().filter(|seen| seen.uri.ends_with("/never")).count();
    assert!(sent <= 36_000 + 4 * fetches, "{sent} for {fetches} fetches");
}

/// Where each new token ends the one before, a fetch makes requests under way fail. That they are healed by it is no proof that it
/// was needed.
#[tokio::test(start_paused = true)]
async fn a_route_that_answers_401_to_everybody_where_a_client_has_one_token_at_a_time() {
    let issuer = Issuer::new().takes(Duration::from_millis(200));
    let server = issuer.clone();
    let api = Api::new(move |seen| {
        // From the beginning of a fetch, only its token is good.
        let good = seen.token() == format!("t{}", server.fetches()) && !seen.uri.ends_with("/never");
        if good { ok() } else { refused() }
    });
    let mut service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api);
    let mut never = service.clone();
    let never = tokio::spawn(async move {
        for _ in 0..6_000 {
            assert_eq!(send(&mut never, get("/never")).await.unwrap().status(), 401);
            sleep(Duration::from_millis(100)).await;
        }
    });
    let mut slow = 0;
    while !never.is_finished() {
        let (response, took) = timed(send(&mut service, get("/b"))).await;
        assert_eq!(response.unwrap().status(), 200);
        slow += u32::from(took > Duration::from_millis(200));
        sleep(Duration::from_millis(100)).await;
    }
    // Until it is known that the token before is never good for anything.
    assert!(slow <= 2, "{slow}");
    assert!(issuer.fetches() <= 20, "{} fetches in ten minutes", issuer.fetches());
}

/// How many fetches ten minutes cost in which every odd request that arrives is answered 401 and every even one like this.
async fn fetches_where_401s_alternate_with(answer: Response<&'static str>) -> u64 {
    let calls = AtomicU64::new(0);
    let api = Api::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => refused(),
        _ => answer.clone().map(str::to_owned),
    });
    let issuer = Issuer::new();
    let mut service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api);
    let start = now();
    while start.elapsed() < secs(600) {
        send(&mut service, get("/a")).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    issuer.fetches()
}

/// A server that is down or busy says nothing about the token: that the second attempt is not refused is no proof that the fetch
/// before it was needed.
#[tokio::test(start_paused = true)]
async fn answers_that_prove_nothing_do_not_end_the_pause() {
    let answer = |status: u16| Response::builder().status(status).body("").unwrap();
    let grpc = |status| Response::builder().header("grpc-status", status).body("").unwrap();
    for answer in [answer(503), answer(429), grpc("14"), grpc("8")] {
        let what = format!("{answer:?}");
        let fetches = fetches_where_401s_alternate_with(answer).await;
        assert!(fetches <= 20, "{fetches} fetches in ten minutes: {what}");
    }
    // These do: each fetch has helped, and so the next 401 is worth one.
    for answer in [answer(200), answer(404), grpc("0")] {
        let what = format!("{answer:?}");
        let fetches = fetches_where_401s_alternate_with(answer).await;
        assert!(fetches >= 500, "{fetches} fetches in ten minutes: {what}");
    }
}

/// Nor does an answer from where the token was not sent to.
#[cfg(feature = "reqwest")]
#[tokio::test(start_paused = true)]
async fn an_answer_from_elsewhere_does_not_end_the_pause() {
    use reqwest::{Method, ResponseBuilderExt};

    let calls = Arc::new(AtomicU64::new(0));
    let api = tower::service_fn(move |_: reqwest::Request| {
        let (status, url) = match calls.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => (401, "https://api.test/a"),
            _ => (200, "https://elsewhere.test/a"),
        };
        let response = Response::builder().status(status).url(url.parse().unwrap()).body("").unwrap();
        std::future::ready(Ok::<_, std::convert::Infallible>(reqwest::Response::from(response)))
    });
    let issuer = Issuer::new();
    let mut service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api);
    let start = now();
    while start.elapsed() < secs(600) {
        let request = reqwest::Request::new(Method::GET, "https://api.test/a".parse().unwrap());
        send(&mut service, request).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(issuer.fetches() <= 20, "{} fetches in ten minutes", issuer.fetches());
}

#[tokio::test(start_paused = true)]
async fn the_second_401_is_handed_on_and_the_token_kept() {
    let api = Api::new(|seen| {
        let mut response = refused();
        response.headers_mut().insert("x-token", seen.token().parse().unwrap());
        response
    });
    let issuer = Issuer::new();
    let token = issuer.ready().await;
    let service = ServiceBuilder::new().layer(layer(&token)).service(api.clone());
    let response = service.oneshot(get("/a")).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-token"]), (401, &"t2".parse().unwrap()));
    sleep(secs(600)).await;
    assert_eq!((issuer.fetches(), api.tokens()), (2, vec!["t1".to_owned(), "t2".to_owned()]));
    assert!(token.status().is_usable() && token.status().state() == State::Live);
}

#[tokio::test(start_paused = true)]
async fn revocations_are_recovered_from_however_many_there_are() {
    // After each that was healed, the next is healed at once: the pause is for those that no token heals.
    let current = Arc::new(AtomicU64::new(1));
    let valid = current.clone();
    let api = Api::new(
        move |seen| {
            if seen.token() == format!("t{}", valid.load(Ordering::SeqCst)) { ok() } else { refused() }
        },
    );
    let issuer = Issuer::new();
    let mut service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api);
    for _ in 0..200 {
        current.fetch_add(1, Ordering::SeqCst);
        let (response, took) = timed(send(&mut service, get("/a"))).await;
        assert_eq!(response.unwrap().status(), 200);
        assert!(took <= secs(1), "no longer than the distance between fetches: {took:?}");
    }
    assert_eq!(issuer.fetches(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_is_down_is_not_stormed_by_401s() {
    let (api, issuer) = (Api::that_takes(&["t2"]), Issuer::new());
    let service = ServiceBuilder::new().layer(layer(&issuer.ready().await)).service(api);
    issuer.fails(FetchError::try_again("down"));
    for _ in 0..6_000 {
        assert_eq!(service.clone().oneshot(get("/a")).await.unwrap().status(), 401);
        sleep(Duration::from_millis(100)).await;
    }
    // As the backoff has it, no more for six thousand 401s: 1, 2, 4 … 60 s, each at least half of that.
    assert!((8..=26).contains(&issuer.fetches()), "{} in ten minutes", issuer.fetches());
    // And once it is up again, it takes no more than the longest pause.
    issuer.works();
    let ((), took) = timed(async {
        while service.clone().oneshot(get("/a")).await.unwrap().status() == 401 {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(took <= secs(61), "{took:?}");
}
