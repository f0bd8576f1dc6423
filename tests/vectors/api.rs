//! What an API answers to a request with a token that isn't new, and whether the client renews the token.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_bearer::{AccessToken, BearerAuthLayer, FetchError, FetchRequest, LiveToken, Origin, source_fn};

use crate::{
    clock::{Hands, paused},
    read::{Answer, Origin as Told, parse},
};

const MINUTE: Duration = Duration::from_secs(60);

/// An answer of an API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiCase {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "provider")]
    _provider: String,
    source: String,
    maps: Option<String>,
    departs: Option<String>,
    answer: Answer,
    verdict: ApiVerdict,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum ApiVerdict {
    /// Another token is fetched, and the request sent again.
    Renew,
    /// The answer goes to the caller, and nothing is fetched.
    HandOn,
}

/// Shows an API's answer to the client, which has a token that isn't new.
pub(crate) fn run(case: &Value) -> Result<(), String> {
    let case: ApiCase = parse(case)?;
    Told { source: &case.source, maps: case.maps.as_deref(), departs: case.departs.as_deref() }.check()?;
    let answer = case.answer.response()?;
    paused(async {
        let fetches = Arc::new(AtomicU64::new(0));
        let fetched = fetches.clone();
        let source = source_fn(move |_: FetchRequest| {
            let number = fetched.fetch_add(1, Ordering::Relaxed) + 1;
            let token = AccessToken::new(format!("t{number}")).map(|token| token.age(MINUTE));
            std::future::ready(token.map_err(FetchError::from))
        });
        let token = LiveToken::builder(source).clock(Hands::new()).seed(1).spawn();
        token.ready().await.map_err(|error| error.to_string())?;
        // The distance between two fetches.
        sleep(MINUTE).await;
        let api = service_fn(move |request: Request<Full<Bytes>>| {
            let is_first = request.headers().get(AUTHORIZATION).is_some_and(|value| value == "Bearer t1");
            let answer = if is_first {
                answer.clone()
            } else {
                Response::builder().status(299).body(Full::default()).expect("a response")
            };
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let origin = Origin::parse("https://api.test").map_err(|error| error.to_string())?;
        let request = Request::get("https://api.test/a").body(Full::default()).map_err(|error| error.to_string())?;
        let response = BearerAuthLayer::new(token, origin).layer(api).oneshot(request).await;
        let status = response.map_err(|error| error.to_string())?.status().as_u16();
        sleep(MINUTE).await;
        let found = match (status, fetches.load(Ordering::Relaxed)) {
            (299, 2) => Some(ApiVerdict::Renew),
            (other, 1) if other == case.answer.status => Some(ApiVerdict::HandOn),
            _ => None,
        };
        if found == Some(case.verdict) {
            Ok(())
        } else {
            Err(format!("{status}, and {fetches:?} fetches, instead of {:?}", case.verdict))
        }
    })
}

/// Whether a case can be read.
pub(crate) fn is_readable(case: &Value) -> bool {
    parse::<ApiCase>(case).is_ok()
}
