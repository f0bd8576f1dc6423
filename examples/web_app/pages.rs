//! The pages that users see. Plain HTML: no script, nothing loaded from other hosts, and everything that other hosts sent is shown as text.

use std::time::Duration;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tower_bearer::{
    BoxError, FetchError, State, Status,
    oauth2::{AuthorizationError, AuthorizationErrorKind},
};

use crate::{account::Ended, provider::Provider};

pub(crate) fn start(provider: &Provider, connected: bool) -> Response {
    if connected {
        return page(StatusCode::OK, "Welcome back", include_str!("welcome_back.html"));
    }
    let api = text(&provider.api_url.origin().ascii_serialization());
    let how = match provider.is_loopback() {
        true => "It has brought a provider along, in its own process: there nobody has to sign in.".into(),
        false => {
            format!("You agree on the pages of <code>{}</code>; your password stays there.", text(&provider.address))
        }
    };
    page(StatusCode::OK, "Connect your account", &format!(include_str!("start.html"), api = api, how = how))
}

pub(crate) fn account(
    provider: &Provider,
    answer: &Result<(StatusCode, String), BoxError>,
    status: &Status,
) -> Response {
    let ended = status.state() == State::ReauthorizationRequired;
    let works = answer.as_ref().is_ok_and(|(code, _)| code.is_success());
    let (class, state) = match status.state() {
        State::Live => ("good", "Live"),
        State::Starting => ("bad", "Waiting for the first token"),
        State::Failing => ("bad", "Live, but the last renewal failed"),
        State::Expired => ("bad", "Expired, and not renewed yet"),
        State::Rejected => ("bad", "This app’s credentials are refused"),
        State::ReauthorizationRequired => ("bad", "Needs you to connect again"),
        _ => ("bad", "Stopped"),
    };
    let notice = match status.time_left().filter(|_| works) {
        _ if !ended => String::new(),
        None => format!(include_str!("reconnect.html"), meanwhile = ""),
        Some(left) => {
            let meanwhile = format!("What it has still works for {}.", words(left));
            format!(include_str!("reconnect.html"), meanwhile = meanwhile)
        }
    };
    let content = format!(
        include_str!("account.html"),
        notice = notice,
        answer = api_answer(provider, answer),
        class = class,
        state = state,
        generation = status.generation(),
        time_left = status.time_left().map_or("–".into(), words),
        renewed_in = status.next_attempt_in().map_or("–".into(), words),
        authorization_left = match status.authorization_left() {
            _ if ended => "no longer".into(),
            Some(left) => words(left),
            None => "as long as the provider likes: it doesn’t say".into(),
        },
        last_error = status.last_error().map_or("worked".into(), |error| text(&error.to_string())),
        hint = if provider.is_loopback() && !ended { HINT } else { "" },
        pretend = if provider.is_loopback() && !ended { include_str!("pretend.html") } else { "" },
    );
    page(StatusCode::OK, "Your account", &content)
}

fn api_answer(provider: &Provider, answer: &Result<(StatusCode, String), BoxError>) -> String {
    let url = text(provider.api_url.as_str());
    match answer {
        Ok((code, body)) => {
            let (code, body) = (text(&code.to_string()), text(&readable(body)));
            let body = if body.is_empty() { body } else { format!("\n<pre id=\"api\">{body}</pre>") };
            format!("<p><code>{url}</code> answered <strong id=\"api-status\">{code}</strong>.</p>{body}")
        }
        Err(error) => {
            format!(
                "<p><code>{url}</code> was not reached: <span id=\"api-error\">{}</span>.</p>",
                text(&error.to_string())
            )
        }
    }
}

/// The login brought no token.
pub(crate) fn not_connected(error: &AuthorizationError) -> Response {
    use AuthorizationErrorKind::{CodeRefused, Denied, Expired, InteractionRequired, Refused, TryAgain};
    if error.kind() != Denied {
        eprintln!("{error}");
    }
    let (status, title, why) = match error.kind() {
        Denied => (StatusCode::OK, "You didn’t agree", "Nothing was connected, and nothing else has changed."),
        Expired | CodeRefused => {
            (StatusCode::BAD_REQUEST, "That took too long", "Nothing was connected. Please begin again.")
        }
        InteractionRequired => {
            (StatusCode::BAD_REQUEST, "The provider needs you", "Nothing was connected. Please begin again.")
        }
        TryAgain => {
            (StatusCode::BAD_GATEWAY, "The provider has trouble", "Nothing was connected. Please try again in a while.")
        }
        Refused => (StatusCode::BAD_GATEWAY, "The provider refuses this app", "Its operators have to look into that."),
        _ => return unknown_answer(),
    };
    let said = error
        .description()
        .map(|said| format!("<p>The provider says:</p>\n<blockquote id=\"description\">{}</blockquote>", text(said)));
    message(status, title, &format!("<p>{why}</p>\n{}", said.unwrap_or_default()), Some("Try again"))
}

/// A browser came back from a provider although it wasn't sent there, or the page was loaded again (RFC 9700 §4.7).
pub(crate) fn unknown_answer() -> Response {
    let why = "<p>This answer belongs to no connection that you have begun here, or to one that is done. \
               Nothing has changed.</p>";
    message(StatusCode::BAD_REQUEST, "This link doesn’t fit", why, Some("Begin again"))
}

pub(crate) fn disconnected(ended: Result<Ended, FetchError>) -> Response {
    let more = match ended {
        Ok(Ended::Revoked) => "The provider has taken them back.",
        Ok(Ended::Forgotten) => "To end the authorization, too, use your account’s settings at the provider.",
        Err(error) => {
            eprintln!("could not revoke: {error}");
            "But the provider could not be told: end the authorization in your account’s settings there."
        }
    };
    message(
        StatusCode::OK,
        "Disconnected",
        &format!("<p>This app has forgotten its tokens. {more}</p>"),
        Some("Connect"),
    )
}

pub(crate) async fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "There is no such page", "<p>Perhaps the start page helps.</p>", None)
}

/// The page of another site sent one of our forms.
pub(crate) fn forged() -> Response {
    let why = "<p>Another page has sent you here to change something. Nothing has changed.</p>";
    message(StatusCode::FORBIDDEN, "That wasn’t you", why, None)
}

/// An unexpected error. The user is told that there was one, and the operator which one.
pub(crate) struct Failure(BoxError);

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        let text = "<p>It is this app’s fault, not yours.</p>";
        message(StatusCode::INTERNAL_SERVER_ERROR, "This didn’t work", text, Some("Try again"))
    }
}

fn message(status: StatusCode, title: &str, text: &str, button: Option<&str>) -> Response {
    let button = button.map(|name| format!(include_str!("connect.html"), name = name)).unwrap_or_default();
    page(status, title, &format!(include_str!("message.html"), text = text, button = button))
}

fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let style = include_str!("style.css");
    let html = format!(include_str!("page.html"), title = title, style = style, content = content);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // The URL of the callback must not reach other hosts.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, html).into_response()
}

/// Text as HTML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// The body of an API's response, with line breaks if it is JSON, and cut if it is long.
fn readable(body: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(body).and_then(|value| serde_json::to_string_pretty(&value));
    json.as_deref().unwrap_or(body).chars().take(4000).collect()
}

/// Days, rounded: thirty days are shown as thirty when they have just begun.
fn words(time: Duration) -> String {
    match time.as_secs() {
        0 => "less than a second".into(),
        1 => "a second".into(),
        seconds @ ..120 => format!("{seconds} seconds"),
        seconds @ ..7_200 => format!("{} minutes", seconds / 60),
        seconds @ ..172_800 => format!("{} hours", seconds / 3_600),
        seconds => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

const HINT: &str = "in a while: tokens live for seconds here, so that you can see them change.";

/// Nothing but this page and its style. No `form-action`: browsers apply it to where a form's answer redirects, too, and a
/// provider may send them on to any host.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
