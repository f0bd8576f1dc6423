//! What one writes oneself where a peer leaves the token request to its user.

use std::time::{Duration, Instant};

use serde::Deserialize;

/// A token, and when it ends, counted from when it was asked for.
pub(super) struct Fetched {
    pub(super) secret: String,
    pub(super) life: Duration,
    pub(super) end: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: f64,
}

pub(super) async fn fetch(http: &reqwest::Client, url: &str) -> Result<Fetched, reqwest::Error> {
    let asked = Instant::now();
    let request = http.post(url).basic_auth("client", Some("secret")).body("grant_type=client_credentials");
    let answer: Answer = request.send().await?.error_for_status()?.json().await?;
    let life = Duration::from_secs_f64(answer.expires_in);
    Ok(Fetched { secret: answer.access_token, life, end: asked + life })
}

/// How long before its end a token is renewed, where that is up to the user: two fifths of its life, 10 s at most. For the refresh
/// runs' tokens of 500 ms that is twice as long as the token endpoint takes.
pub(super) fn margin(life: Duration) -> Duration {
    (life * 2 / 5).min(Duration::from_secs(10))
}
