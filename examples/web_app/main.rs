//! How does a web app call an API on behalf of its users?
//!
//! Run `cargo run --example web_app`, and open the URL that it prints. A user connects an account. From then on the app has a live token
//! for that user, and fetches with it what the page shows. Without a provider in its environment, it starts one in this process, whose
//! tokens live for 20 seconds, so that you can see them change. With a provider (`provider.rs` has all names):
//!
//! ```sh
//! LISTEN=127.0.0.1:8080 CLIENT_ID=my-app CLIENT_SECRET=… SCOPE="openid offline_access read" AUTHORIZATION_PARAMS="prompt=consent" \
//!     AUTHORIZATION_URL=https://id.example.com/authorize TOKEN_URL=https://id.example.com/token \
//!     API_URL=https://api.example.com/documents cargo run --example web_app
//! ```
//!
//! The files, in a user's order: `main` (the addresses), `session` (who the user is), `provider` (where the user authorizes), `account`
//! (the user's live token), `pages` (what the user sees).

mod account;
mod pages;
mod provider;
mod session;

use std::{collections::HashMap, env, sync::Arc};

use axum::{
    Router,
    extract::{Query, RawQuery, State},
    http::{HeaderMap, StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tower_bearer::{BoxError, oauth2::PendingAuthorization};
use tower_http::csrf::CsrfLayer;

use account::Account;
use provider::Provider;
use session::Sessions;

struct App {
    provider: Provider,
    sessions: Sessions,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind(env::var("LISTEN").as_deref().unwrap_or("127.0.0.1:0")).await?;
    let address = format!("http://{}", listener.local_addr()?);
    // The address for browsers, if it is another one (for example, behind a proxy that speaks TLS).
    let public = env::var("PUBLIC_URL").map_or_else(|_| address.clone(), |url| url.trim_end_matches('/').to_owned());
    let provider = Provider::from_environment(&format!("{public}/callback")).await?;
    let app = App { provider, sessions: Sessions::new(public.starts_with("https:")) };

    let mut pages = Router::new()
        .route("/", get(start))
        .route("/connect", post(connect))
        .route("/callback", get(callback))
        .route("/account", get(account))
        .route("/disconnect", post(disconnect));
    if app.provider.is_loopback() {
        pages = pages.route("/end-authorization", post(end_authorization));
    }
    // Each request that changes something is a POST, and only this app's own pages may send one.
    let pages = pages
        .fallback(pages::not_found)
        .layer(CsrfLayer::new().with_rejection_response(|_| pages::forged()))
        .with_state(Arc::new(app));

    println!("listening on {address}");
    tokio::select! {
        ended = axum::serve(listener, pages) => ended?,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    Ok(())
}

async fn start(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    pages::start(&app.provider, app.sessions.account(&headers).is_some())
}

/// The first step: send the browser to the provider. The session keeps what is needed when the browser comes back.
async fn connect(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, pages::Failure> {
    let pending = app.provider.login.start();
    let cookie = app.sessions.remember(&headers, pending.state(), serde_json::to_string(&pending)?)?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to(pending.url())).into_response())
}

/// The second step: the provider has sent the browser back, with a code or with the reason why there is none.
async fn callback(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(answer): Query<HashMap<String, String>>,
    RawQuery(query): RawQuery,
) -> Result<Response, pages::Failure> {
    let pending = answer.get("state").and_then(|state| app.sessions.recall(&headers, state));
    let Some(pending) = pending else { return Ok(pages::unknown_answer()) };
    let pending: PendingAuthorization = serde_json::from_str(&pending)?;
    // The query alone: a proxy in front of this app may change the rest of the URL.
    let set = match app.provider.login.finish(pending, &query.unwrap_or_default()).await {
        Ok(set) => set,
        Err(error) => return Ok(pages::not_connected(&error)),
    };
    let account = match app.sessions.account(&headers) {
        // The same live token uses the new authorization, even if the old one has ended. Nothing is built anew.
        Some(account) => {
            account.adopt(set).await;
            account
        }
        None => Account::new(&app.provider, set)?,
    };
    let cookie = app.sessions.connected(&headers, account)?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/account")).into_response())
}

async fn account(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Some(account) = app.sessions.account(&headers) else { return Redirect::to("/").into_response() };
    let answer = account.call(&app.provider.api_url).await;
    // After the call: it notices if the provider has ended the authorization.
    pages::account(&app.provider, &answer, &account.status())
}

/// Forgets the tokens, and revokes them at the provider.
async fn disconnect(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Some(account) = app.sessions.forget(&headers) else { return Redirect::to("/").into_response() };
    pages::disconnected(account.end(&app.provider).await)
}

/// Only with the provider in this process: what a user does in the settings of a real one. Nobody tells the app; it has to notice.
async fn end_authorization(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if let Some(account) = app.sessions.account(&headers)
        && let Err(error) = account.revoke(&app.provider).await
    {
        eprintln!("could not end the authorization: {error}");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    Redirect::to("/account").into_response()
}
