//! The spans and events for `tracing`: that they are those of the documentation, field by field, and what they tell.
//!
//! One test, because what subscribes is the whole process's.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex},
};

use http::{Request, StatusCode};
use http_body_util::StreamBody;
use support::{API, Api, Issuer, Still, get, layer, ok, refused, secs, send};
use tokio::time::{sleep, timeout};
use tower::Layer;
use tower_bearer::{AccessToken, FetchError, FetchReason, FetchRequest, LiveToken, Storage, TokenSource, source_fn};
use tracing::{Event, Metadata, Subscriber, field, span};

/// What was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone, Debug, Default)]
struct Entry {
    level: String,
    /// An event's message, a span's name.
    what: String,
    fields: BTreeMap<&'static str, String>,
    /// The span it happened in.
    within: Option<u64>,
}

impl field::Visit for Entry {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.what = format!("{value:?}"),
            name => drop(self.fields.insert(name, format!("{value:?}"))),
        }
    }
}

thread_local! {
    static WITHIN: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Told {
    fn add(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Entry)) -> u64 {
        let within = WITHIN.with_borrow(|within| within.last().copied());
        let level = metadata.level().to_string().to_lowercase();
        let mut entry = Entry { level, what: metadata.name().into(), within, ..Entry::default() };
        record(&mut entry);
        let mut all = self.0.lock().unwrap();
        all.push(entry);
        all.len() as u64
    }

    fn all(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, what: &str) -> Vec<Entry> {
        self.all().into_iter().filter(|entry| entry.what == what).collect()
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target.starts_with("tower_bearer") || target == "the_source"
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.add(span.metadata(), |entry| span.record(entry)))
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {
        panic!("no span learns something later");
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        self.add(event.metadata(), |entry| event.record(entry));
    }
    fn enter(&self, span: &span::Id) {
        WITHIN.with_borrow_mut(|within| within.push(span.into_u64()));
    }
    fn exit(&self, _: &span::Id) {
        WITHIN.with_borrow_mut(|within| within.pop());
    }
}

/// The rows of the table in the documentation: level, what is told, and the fields.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let docs = include_str!("../src/live/telemetry.rs");
    let table = docs.split_once("| level | span or event | fields |").unwrap().1.split_once("\n//!\n").unwrap().0;
    let rows = table.lines().filter_map(|row| row.strip_prefix("//! | ")).map(|row| {
        let cells: Vec<_> = row.trim_end_matches(" |").split(" | ").collect();
        let what = match cells[1].split_once('`') {
            Some((_, span)) => span.split('`').next().unwrap().to_owned(),
            None => cells[1].split(" (").next().unwrap().to_owned(),
        };
        let fields = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (what, (cells[0].to_owned(), fields))
    });
    rows.collect()
}

async fn source(request: FetchRequest, number: u32) -> Result<AccessToken, FetchError> {
    tracing::info!(target: "the_source", number, "asked");
    sleep(secs(1)).await;
    match (request.reason(), number) {
        (FetchReason::Asked, 3) => Ok(AccessToken::new("marked-t2")?.expires_in(secs(600))),
        (FetchReason::Asked, 4) => Err(FetchError::rejected("unknown client")),
        (_, 5..) => Err(FetchError::try_again("down")),
        _ => Ok(AccessToken::new(format!("marked-t{number}"))?.expires_in(secs(600)).authorization_ends_in(secs(900))),
    }
}

/// Its store fails the first time.
struct Storing(u32);

impl TokenSource for Storing {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        self.0 += 1;
        Ok(AccessToken::new("marked-stored")?)
    }
    fn storage(&self) -> Storage {
        if self.0 == 1 { Storage::Unsaved } else { Storage::Sound }
    }
}

/// A client that has followed a redirect to somebody who wants a token, too.
#[cfg(feature = "reqwest")]
async fn redirected(_: reqwest::Request) -> Result<reqwest::Response, std::convert::Infallible> {
    let url = "https://elsewhere.test/".parse().unwrap();
    let response = reqwest::ResponseBuilderExt::url(http::Response::builder(), url);
    Ok(response.status(401).body("").unwrap().into())
}

#[cfg(feature = "reqwest")]
async fn fine(_: reqwest::Request) -> Result<reqwest::Response, std::convert::Infallible> {
    Ok(http::Response::new("").into())
}

#[tokio::test(start_paused = true)]
async fn all_that_is_told_is_documented_and_the_other_way_round() {
    let told = Told::default();
    tracing::subscriber::set_global_default(told.clone()).unwrap();
    let mut number = 0;
    let fetch = source_fn(move |request| {
        number += 1;
        source(request, number)
    });
    let token = LiveToken::builder(fetch).name("agrello").seed(1).clock(Still).spawn();

    // It waits for the first token; the API refuses it; sent again with the second.
    let api = Api::new(|seen| if seen.token() == "marked-t1" { refused() } else { ok() });
    let mut service = layer(&token).layer(api);
    assert_eq!(send(&mut service, get("/a")).await.unwrap().status(), StatusCode::OK);
    let before = told.all().len();
    for _ in 0..100 {
        send(&mut service, get("/a")).await.unwrap();
    }
    assert_eq!(told.all().len(), before, "a request that finds its token leaves no trace");
    // The same token again, then a failure that doesn't pass, then others until it has expired.
    token.refresh().await.unwrap();
    token.refresh().await.unwrap_err();
    let mut closed = layer(&token).layer(Api::new(|_| refused()));
    let body = StreamBody::new(futures_util::stream::empty::<Result<http_body::Frame<bytes::Bytes>, FetchError>>());
    send(&mut closed, Request::post(format!("{API}/a")).body(body).unwrap()).await.unwrap();
    #[cfg(feature = "reqwest")]
    {
        let mut redirected = layer(&token).layer(tower::service_fn(redirected));
        let request = reqwest::Request::new(reqwest::Method::GET, API.parse().unwrap());
        send(&mut redirected, request).await.unwrap();
        // Options of single requests, where they can't be read.
        let mut asking = layer(&token).ask_requests().layer(tower::service_fn(fine));
        for _ in 0..2 {
            let request = reqwest::Request::new(reqwest::Method::GET, API.parse().unwrap());
            send(&mut asking, request).await.unwrap();
        }
        assert_eq!(told.all().iter().filter(|entry| entry.what.contains("of single requests")).count(), 1);
    }
    sleep(secs(1_000)).await;
    timeout(secs(1), send(&mut service, get("/a"))).await.unwrap().unwrap_err();
    // One without a name, whose user has to come back soon.
    let mut number = 0;
    let once = source_fn(move |request| {
        number += 5;
        source(request, number - 4)
    });
    let unnamed = LiveToken::builder(once).seed(1).clock(Still).spawn();
    unnamed.ready().await.unwrap();
    sleep(secs(900)).await;
    // One that can't store what it brings, and then can.
    let storing = LiveToken::builder(Storing(0)).name("agrello").seed(1).clock(Still).spawn();
    storing.ready().await.unwrap();
    storing.refresh().await.unwrap();

    // An API that knows the token before better than the new one.
    let renewed = LiveToken::builder(Issuer::new().fresh()).name("agrello").seed(1).clock(Still).spawn();
    renewed.ready().await.unwrap();
    renewed.refresh().await.unwrap();
    let mut late = layer(&renewed).layer(Api::that_takes(&["t1"]));
    assert_eq!(send(&mut late, get("/a")).await.unwrap().status(), StatusCode::OK);

    let mut documented = documented();
    documented.retain(|what, _| {
        cfg!(feature = "reqwest") || !(what.contains("without the token") || what.contains("of single requests"))
    });
    assert!(documented.len() >= 9, "{documented:#?}");
    let all = told.all();
    let ours = || all.iter().filter(|entry| entry.what != "asked");
    for entry in ours() {
        let what =
            entry.what.split(": the 401 is returned").next().unwrap().split(", so `ask_requests`").next().unwrap();
        let (level, fields) = documented.get(what).unwrap_or_else(|| panic!("{entry:?} is not documented"));
        let mut seen: BTreeSet<_> = entry.fields.keys().map(|field| (*field).to_owned()).collect();
        if !seen.contains("token") {
            seen.insert("token".into());
        }
        assert_eq!((level, fields), (&entry.level, &seen), "{what}");
        assert!(!format!("{entry:?}").contains("marked"), "{entry:?}");
    }
    for what in documented.keys() {
        assert!(ours().any(|entry| entry.what.starts_with(what)), "{what} was never told");
    }
    assert!(ours().any(|entry| !entry.fields.contains_key("token")));
    assert!(ours().all(|entry| entry.fields.get("token").is_none_or(|token| token == "\"agrello\"")));

    // What the source tells lies in the span of its fetch, which says why.
    let reasons: Vec<_> = told
        .of("asked")
        .iter()
        .take(4)
        .map(|entry| {
            let span = &all[usize::try_from(entry.within.expect("in a span")).unwrap() - 1];
            assert_eq!(span.what, "token_fetch");
            span.fields["reason"].clone()
        })
        .collect();
    assert_eq!(reasons, ["\"first\"", "\"refused\"", "\"asked\"", "\"asked\""]);

    // Tokens are told apart, and told as the same.
    let fetched = told.of("fetched a token");
    let fingerprint = |at: usize| &fetched[at].fields["fingerprint"];
    assert_ne!(fingerprint(0), fingerprint(1));
    assert_eq!(fingerprint(0), fingerprint(2), "both are marked-t1");
    assert!(fingerprint(0).len() == 8 && fingerprint(0).bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(fetched[1].fields["generation"], "2");
    assert_eq!(told.of("fetched the same token again")[0].fields["generation"], "2");
    assert_eq!(told.of("could not fetch a token")[0].fields["outcome"], "\"rejected\"");
    let headroom: f64 = told.of("could not fetch a token")[0].fields["headroom_seconds"].parse().unwrap();
    assert!((595.0..600.0).contains(&headroom), "{headroom}");
    let waits: Vec<_> = told.of("a request waited for a token").iter().map(|e| e.fields["ended"].clone()).collect();
    assert_eq!(waits, ["\"token\"", "\"token\"", "\"token\"", "\"token\"", "\"token\"", "\"failed\"", "\"token\""]);
}
