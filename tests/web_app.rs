//! `examples/web_app` in a real browser: with the loopback server, and with `oidc-provider` and its own pages.
//!
//! Needs Chromium and chromedriver, and Node.js for the second; `scripts/test` installs them. Asked for, it never passes by
//! skipping.
#![cfg(all(feature = "oauth2", feature = "reqwest"))]

mod support;

use std::{net::TcpListener, time::Duration};

use serde_json::{Value, json};
use support::{chromium::Chromium, node::Node, web_app::WebApp};

#[tokio::test]
#[ignore = "needs Chromium: run scripts/test"]
async fn a_user_connects_loses_the_authorization_and_connects_again() {
    let app = WebApp::start(&[("TOKEN_LIFETIME", "4")]).await;
    let mut browser = Chromium::start("web-app").await;

    browser.open(&app.url("/")).await;
    look(&mut browser, "start").await;
    assert_eq!(browser.names("button").await, ["Connect"]);
    browser.click("#connect").await;
    browser.assert_accessible().await;
    browser.shoot("consent").await;
    browser.click("#allow").await;

    assert_eq!(browser.url().await, app.url("/account"));
    look(&mut browser, "account").await;
    assert_live(&browser, 1).await;
    assert_eq!(browser.text("#authorization-left").await, "30 days");
    assert!(browser.text("#api").await.contains("\"/api/documents\""));
    assert_cookie(&browser).await;

    // The token is renewed, and nobody notices.
    let rotated = eventually(&browser, |generation| generation >= 2).await;
    assert_live(&browser, rotated).await;

    // The provider ends the authorization behind the app's back.
    browser.click("#end-authorization").await;
    assert_eq!(browser.url().await, app.url("/account"));
    look(&mut browser, "please connect again").await;
    assert_eq!(browser.text("#state").await, "Needs you to connect again");
    assert!(browser.text("#reconnect").await.starts_with("Please connect again"));
    assert_eq!(browser.text("#authorization-left").await, "no longer");
    assert!(browser.text("#last-error").await.contains("invalid_grant"));
    assert_eq!(browser.names("button").await, ["Connect again", "Disconnect"]);

    // A refusal changes nothing about that, and a new authorization revives the same live token: it goes on counting.
    browser.click("#connect").await;
    browser.click("#deny").await;
    assert!(browser.text("#description").await.contains("denied"));
    browser.open(&app.url("/account")).await;
    assert_eq!(browser.text("#state").await, "Needs you to connect again");
    let before = generation(&browser).await;
    browser.click("#connect").await;
    browser.click("#allow").await;
    assert_eq!(browser.url().await, app.url("/account"));
    assert_live(&browser, before + 1).await;
    assert!(!browser.has("#reconnect").await);
    let rotated = eventually(&browser, |generation| generation > before + 1).await;
    assert_live(&browser, rotated).await;

    browser.open(&app.url("/")).await;
    look(&mut browser, "welcome back").await;
    browser.click("#account").await;
    browser.click("#disconnect").await;
    look(&mut browser, "disconnected").await;
    assert!(browser.text("main").await.contains("The provider has taken them back."));
    browser.open(&app.url("/account")).await;
    assert_eq!(browser.url().await, app.url("/"));
}

#[tokio::test]
#[ignore = "needs Chromium: run scripts/test"]
async fn refusals_and_answers_that_do_not_fit_are_pages() {
    let app = WebApp::start(&[]).await;
    let mut browser = Chromium::start("web-app-refusals").await;

    browser.open(&app.url("/")).await;
    browser.click("#connect").await;
    browser.click("#deny").await;
    look(&mut browser, "refused").await;
    assert_eq!(browser.text("h1").await, "You didn’t agree");
    assert_eq!(browser.text("#description").await, "The user denied the request");
    assert!(!browser.has("#account").await);

    // What the provider says comes through the browser: it is text, whatever is in it.
    browser.click("#connect").await;
    let consent = browser.url().await;
    let state = consent.split("&state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    let issuer = &consent[..consent.find("/authorize").expect("the loopback server")];
    let said = "error_description=%3Cb%20id%3D%22planted%22%3E%26amp%3B%3C%2Fb%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    browser.open(&app.url(&format!("/callback?error=access_denied&{said}&state={state}&iss={issuer}"))).await;
    look(&mut browser, "refused with markup").await;
    assert_eq!(browser.text("#description").await, "<b id=\"planted\">&amp;</b><script>alert(1)</script>");
    assert!(!browser.has("#planted").await);

    // Another state, the one before once more, none, or one from the wrong issuer.
    browser.open(&app.url("/")).await;
    browser.click("#connect").await;
    let consent = browser.url().await;
    for query in [
        "code=x&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        format!("code=x&state={state}&iss={issuer}"),
        "code=x".to_owned(),
    ] {
        browser.open(&app.url(&format!("/callback?{query}"))).await;
        assert_eq!(browser.status().await, 400, "{query}");
        assert_eq!(browser.text("h1").await, "This link doesn’t fit");
    }
    look(&mut browser, "wrong state").await;

    // The one that has begun goes on nevertheless.
    browser.open(&consent).await;
    browser.click("#allow").await;
    assert_live(&browser, 1).await;

    browser.open(&app.url("/nowhere")).await;
    assert_eq!(browser.status().await, 404);
    look(&mut browser, "not found").await;

    // Another origin's page on the same host, to which the cookie goes: its forms can't press this app's buttons.
    browser.open(&consent).await;
    let form =
        format!("'<form method=post action=\"{}\"><button id=forged>Win</button></form>'", app.url("/disconnect"));
    browser.run(&format!("document.querySelector('main').innerHTML = {form}")).await;
    browser.click("#forged").await;
    assert_eq!(browser.status().await, 403);
    look(&mut browser, "forged").await;
    browser.open(&app.url("/account")).await;
    assert_live(&browser, 1).await;
}

#[tokio::test]
#[ignore = "needs Chromium and Node.js: run scripts/test"]
async fn the_same_app_with_a_real_provider_and_its_pages() {
    let (provider, _api, app) = with_a_real_provider(&[("ACCESS_TOKEN_TTL", "4")]).await;
    let mut browser = Chromium::start("web-app-oidc").await;

    // Says no when asked to sign in.
    browser.open(&app.url("/")).await;
    look(&mut browser, "start").await;
    browser.click("#connect").await;
    browser.shoot("sign in").await;
    browser.click("#abort").await;
    assert_eq!(browser.text("#description").await, "the user said no");

    browser.click("#connect").await;
    sign_in(&browser).await;
    browser.shoot("allow").await;
    browser.click("#allow").await;

    assert_eq!(browser.url().await, app.url("/account"));
    look(&mut browser, "account").await;
    assert_live(&browser, 1).await;
    let documents: Value = serde_json::from_str(&browser.text("#api").await).expect("JSON");
    assert_eq!(documents, json!({"documents": ["a", "b"], "sub": "alice", "scope": "read", "received": 0}));
    assert!(!browser.has("#end-authorization").await);
    let rotated = eventually(&browser, |generation| generation >= 2).await;
    assert_live(&browser, rotated).await;

    browser.click("#disconnect").await;
    assert!(browser.text("main").await.contains("The provider has taken them back."));
    assert_eq!(provider.counts().await["revocation"], 1);
}

/// The refresh token ends before it is used for the first time, which is six seconds after it was issued at the earliest.
#[tokio::test]
#[ignore = "needs Chromium and Node.js: run scripts/test"]
async fn a_real_refresh_token_that_has_ended_asks_the_user_to_connect_again() {
    let (provider, _api, app) = with_a_real_provider(&[("ACCESS_TOKEN_TTL", "8"), ("REFRESH_TOKEN_TTL", "4")]).await;
    let mut browser = Chromium::start("web-app-ended").await;
    browser.open(&app.url("/")).await;
    browser.click("#connect").await;
    sign_in(&browser).await;
    browser.click("#allow").await;
    assert_live(&browser, 1).await;

    until(&browser, async || browser.has("#reconnect").await).await;
    look(&mut browser, "please connect again").await;
    assert_eq!(browser.text("#state").await, "Needs you to connect again");
    browser.click("#connect").await;
    // The provider remembers who signed in, and asks for consent only.
    browser.click("#allow").await;
    assert_live(&browser, 2).await;
    assert_eq!(provider.counts().await["authorization_code"], 2);
}

/// The provider and the API of `tests/interop`, and the app that uses them.
async fn with_a_real_provider(settings: &[(&str, &str)]) -> (Node, Node, WebApp) {
    // The provider has to know the address of the app, and the app that of the provider: so the port is chosen first.
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let callback = format!("http://{listen}/callback");
    let settings: Vec<_> = settings.iter().copied().chain([("WEB_REDIRECT_URIS", callback.as_str())]).collect();
    let provider = Node::start("authorization-server.mjs", &[], &settings).await;
    let api = Node::start("api.mjs", &[text(&provider["issuer"])], &[]).await;
    let client = &provider["clients"]["web"];
    let app = WebApp::start(&[
        ("LISTEN", &listen),
        ("AUTHORIZATION_URL", text(&provider["authorization_url"])),
        ("AUTHORIZATION_PARAMS", "prompt=consent"),
        ("TOKEN_URL", text(&provider["token_url"])),
        ("REVOCATION_URL", text(&provider["revocation_url"])),
        ("ISSUER", text(&provider["issuer"])),
        ("CLIENT_ID", text(&client["client_id"])),
        ("CLIENT_SECRET", text(&client["client_secret"])),
        ("SCOPE", "openid offline_access read"),
        ("API_URL", text(&api["documents_url"])),
    ])
    .await;
    (provider, api, app)
}

async fn sign_in(browser: &Chromium) {
    browser.type_into("#login", "alice").await;
    browser.type_into("#password", "x").await;
    browser.click("#submit").await;
}

/// Looks at a page as everybody might: on a wide and a narrow screen, light and dark. Leaves a screenshot of each.
async fn look(browser: &mut Chromium, name: &str) {
    for (scheme, width) in [("light", 1000), ("dark", 320)] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", features).await;
        let metrics = json!({"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        browser.assert_accessible().await;
        browser.shoot(&format!("{name} {scheme}")).await;
    }
    browser.devtools("Emulation.setEmulatedMedia", json!({"features": []})).await;
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
}

/// With that token, or a later one.
async fn assert_live(browser: &Chromium, generation: u64) {
    assert_eq!(browser.text("#state").await, "Live");
    assert!(self::generation(browser).await >= generation, "{generation}");
    assert_eq!(browser.text("#api-status").await, "200 OK");
    assert_eq!(browser.text("#last-error").await, "worked");
}

async fn generation(browser: &Chromium) -> u64 {
    browser.text("#generation").await.parse().expect("a number")
}

/// Looks again until there is such a token; every look must show data.
async fn eventually(browser: &Chromium, such: impl Fn(u64) -> bool) -> u64 {
    until(browser, async || {
        assert_eq!(browser.text("#api-status").await, "200 OK");
        such(generation(browser).await)
    })
    .await;
    generation(browser).await
}

/// Looks again until this is so.
async fn until(browser: &Chromium, so: impl AsyncFn() -> bool) {
    for _ in 0..100 {
        browser.click("#again").await;
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing changes: {}", browser.text("main").await);
}

/// No script sees the session, and no other site's POST brings it along.
async fn assert_cookie(browser: &Chromium) {
    assert_eq!(browser.run("return document.cookie").await, "");
    let cookies = browser.devtools("Network.getCookies", json!({})).await;
    let cookies = cookies["cookies"].as_array().expect("a list");
    let [cookie] = &cookies[..] else { panic!("one cookie: {cookies:?}") };
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Lax")));
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
