//! How do I notice that a token will expire before it does?
//!
//! `cargo run --features metrics --example operations` starts a service that calls an API (`/documents`) and shows the state of its
//! token: `/metrics` is for Prometheus, `/readyz` for a load balancer. Without a `TOKEN_URL` in its environment, a provider in this
//! process replaces the real one. Its tokens live for a minute. After 20 seconds its token endpoint is down for two minutes, so that
//! there is something to see: headroom falls, then `/readyz` says 503, then all is well again.
//!
//! ```sh
//! LISTEN=127.0.0.1:9000 TOKEN_URL=https://id.example.com/token CLIENT_ID=my-client CLIENT_SECRET=… \
//!     API_URL=https://api.example.com/documents cargo run --features metrics --example operations
//! ```
//!
//! The alerting rules. A token that is renewed in time always has 15 % of its lifetime left. The first rule alerts at half of that: 270 s
//! for a token of an hour. It uses the time at which the token expires, which stays right if this process hangs. It leaves out a token
//! that was shut down or that nobody uses.
//!
//! ```yaml
//! groups:
//!   - name: tokens
//!     rules:
//!       - alert: TokenRunsOut
//!         expr: >
//!           tower_bearer_expiration_timestamp_seconds - time() < 270
//!           unless on (instance, token) tower_bearer_state{state=~"stopped|asleep"} == 1
//!         for: 1m
//!         annotations:
//!           summary: "{{ $labels.token }}: requests fail in {{ $value | humanizeDuration }}, and no new token comes"
//!       - alert: TokenNeedsAPerson
//!         expr: tower_bearer_state{state=~"rejected|reauthorization_required"} == 1
//!         annotations:
//!           summary: "{{ $labels.token }}: {{ $labels.state }}; waiting doesn't help"
//!       - alert: TokenIsNotSaved
//!         expr: tower_bearer_storage{storage="unsaved"} == 1
//!         for: 1m
//!         annotations:
//!           summary: "{{ $labels.token }}: if the process ends now, a user has to log in again"
//!       - alert: RequestsWaitForAToken
//!         expr: sum by (instance, token) (rate(tower_bearer_wait_duration_seconds_count{why="no_token"}[5m])) > 0
//! ```

use std::{env, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BoxError, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay,
    testing::{AuthorizationServer, Fault},
};

#[derive(Clone)]
struct App {
    token: LiveToken,
    client: BearerAuth<reqwest::Client, replay::Auto>,
    api_url: Arc<str>,
    metrics: PrometheusHandle,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Before the token, so that nothing is missed. With bounds, durations become histograms, which can be summed.
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("duration_seconds".into()), &[0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])?
        .install_recorder()?;
    tokio::spawn(upkeep(metrics.clone()));

    let provider = Provider::open().await?;
    let endpoint = TokenEndpoint::new(&provider.token_url)?.client_secret_basic(&provider.client_id, provider.secret);
    // The name is the label `token` of all metrics.
    let token = LiveToken::builder(ClientCredentials::new(endpoint)).name("documents").spawn();
    let origin = Origin::parse(&reqwest::Url::parse(&provider.api_url)?.origin().ascii_serialization())?;
    let client = BearerAuthLayer::new(token.clone(), origin).layer(reqwest::Client::new());

    let app = App { token, client, api_url: provider.api_url.into(), metrics };
    let pages = Router::new()
        .route("/documents", get(documents))
        .route("/metrics", get(async |State(app): State<App>| app.metrics.render()))
        .route("/readyz", get(ready))
        .with_state(app);
    let listener = TcpListener::bind(env::var("LISTEN").as_deref().unwrap_or("127.0.0.1:0")).await?;
    let address = listener.local_addr()?;
    println!("http://{address}/metrics\nhttp://{address}/readyz\nhttp://{address}/documents");
    axum::serve(listener, pages).await?;
    Ok(())
}

/// The work of this service, which needs the token.
async fn documents(State(app): State<App>) -> Response {
    let request = match app.api_url.parse() {
        Ok(url) => reqwest::Request::new(reqwest::Method::GET, url),
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    match app.client.oneshot(request).await {
        Ok(response) => (response.status(), response.text().await.unwrap_or_default()).into_response(),
        Err(error) if error.kind().is_transient() => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
    }
}

/// Ready means that requests can be served now. A failed renewal is a matter for an alert, not a reason to take no requests.
async fn ready(State(app): State<App>) -> (StatusCode, String) {
    let status = app.token.status();
    let code = if status.is_usable() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let why = status.last_error().map(|error| format!(", {error}")).unwrap_or_default();
    (code, format!("{:?}, headroom {:.1?}{why}\n", status.state(), status.headroom()))
}

/// The exporter needs this now and then, whether it is scraped or not.
async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

struct Provider {
    token_url: String,
    api_url: String,
    client_id: String,
    secret: String,
}

impl Provider {
    /// The provider in the environment, or one in this process.
    async fn open() -> Result<Self, BoxError> {
        if let Ok(token_url) = env::var("TOKEN_URL") {
            let setting = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
            let (client_id, secret) = (setting("CLIENT_ID")?, setting("CLIENT_SECRET")?);
            return Ok(Self { token_url, api_url: setting("API_URL")?, client_id, secret });
        }
        let server = AuthorizationServer::builder().lifetime(Some(Duration::from_secs(60))).start().await?;
        let (token_url, api_url) = (server.token_url(), server.api_url("/documents"));
        tokio::spawn(async move {
            time::sleep(Duration::from_secs(20)).await;
            server.fault_for(Duration::from_secs(120), Fault::status(503));
            println!("the token endpoint is down for two minutes");
            std::future::pending::<()>().await;
        });
        Ok(Self { token_url, api_url, client_id: "client".into(), secret: "secret".into() })
    }
}
