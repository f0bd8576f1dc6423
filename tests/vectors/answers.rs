//! What a token endpoint or an API answers, and what the client makes of it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;
use tower::service_fn;
use tower_bearer::{
    BoxTokenSource, FetchError, FetchErrorKind, LiveToken, State, TokenSource,
    oauth2::{
        AnswerMember, AuthorizationCode, AuthorizationErrorKind, ClientCredentials, EndpointError, Form, Grant,
        LegacyPassword, RefreshToken, Stored, TokenEndpoint, TokenSet,
    },
    store::{Account, Credentials},
};

use crate::{
    clock::{Hands, paused},
    read::{Answer, Origin as Told, Range, parse},
};

const MINUTE: Duration = Duration::from_secs(60);

/// An answer of a token endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenCase {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "provider")]
    _provider: String,
    source: String,
    maps: Option<String>,
    departs: Option<String>,
    grant: String,
    #[serde(default)]
    client: Client,
    answer: Answer,
    verdict: Verdict,
}

/// How the client reads answers.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    answer_in: Option<String>,
    #[serde(default)]
    members: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    token: Option<Brought>,
    failure: Option<Failure>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Brought {
    access_token: String,
    /// In seconds. `None`: unknown, or too long for a timer.
    lifetime: Option<f64>,
    scope: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    kind: Kind,
    certain: Option<bool>,
    code: Option<String>,
    again: Option<Again>,
    /// It came with no access token that can be used, and must not be lost.
    refresh_token: Option<String>,
    may_have_acted: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    TryAgain,
    Rejected,
    Reauthorize,
}

/// When the client asks by itself once more.
#[derive(Deserialize)]
#[serde(untagged)]
enum Again {
    After(Range),
    Never(Never),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Never {
    Never,
}

/// Shows a token endpoint's answer to the client.
pub(crate) fn run(case: &Value) -> Result<(), String> {
    let case: TokenCase = parse(case)?;
    Told { source: &case.source, maps: case.maps.as_deref(), departs: case.departs.as_deref() }.check()?;
    let run = async {
        match (&case.verdict.token, &case.verdict.failure) {
            (Some(token), None) => case.brings(token).await,
            (None, Some(failure)) => case.fails(failure).await,
            _ => Err("its verdict is not one of `token` and `failure`".into()),
        }
    };
    paused(run)
}

/// Whether a case can be read.
pub(crate) fn is_readable(case: &Value) -> bool {
    parse::<TokenCase>(case).is_ok()
}

/// The token endpoint: it always gives the same answer, and notes when it was asked with what.
#[derive(Clone)]
struct Endpoint {
    hands: Hands,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// When, and with which refresh token.
type Asked = (f64, Option<String>);

impl Endpoint {
    fn new() -> Self {
        Self { hands: Hands::new(), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl TokenCase {
    fn client(&self, at: &Endpoint) -> Result<TokenEndpoint, String> {
        let (answer, at) = (self.answer.response()?, at.clone());
        let hands = at.hands.clone();
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let (answer, at) = (answer.clone(), at.clone());
            async move {
                let body = request.into_body().collect().await.expect("a whole body").to_bytes();
                let sent = form_urlencoded::parse(&body).into_owned().find(|(name, _)| name == "refresh_token");
                at.asked.lock().expect("no panic").push((at.hands.running(), sent.map(|(_, value)| value)));
                Ok::<_, Infallible>(answer)
            }
        });
        let mut endpoint = TokenEndpoint::new("https://id.test/token")
            .map_err(|error| error.to_string())?
            .client_secret_basic("app", "secret")
            .http_service(service)
            .clock(hands);
        if let Some(path) = &self.client.answer_in {
            endpoint = endpoint.answer_in(path);
        }
        for (member, name) in &self.client.members {
            let member = match &**member {
                "access_token" => AnswerMember::AccessToken,
                "refresh_token" => AnswerMember::RefreshToken,
                "token_type" => AnswerMember::TokenType,
                "expires_in" => AnswerMember::ExpiresIn,
                "expires_at" => AnswerMember::ExpiresAt,
                "scope" => AnswerMember::Scope,
                other => return Err(format!("no member is called {other}")),
            };
            endpoint = endpoint.answer_member(member, name);
        }
        Ok(endpoint)
    }

    /// One exchange by hand.
    async fn exchange(&self) -> Result<Result<TokenSet, FetchError>, String> {
        let form = match &*self.grant {
            "refresh_token" => Form::grant("refresh_token").param("refresh_token", SENT),
            "authorization_code" => Form::grant("authorization_code").param("code", "c0"),
            "password" => Form::grant("password").param("username", "anna").param("password", "pw"),
            other => Form::grant(other),
        };
        Ok(self.client(&Endpoint::new())?.exchange(form, MINUTE).await)
    }

    /// What renews a live token with this grant; `None` for a code, which works once.
    fn source(&self, at: &Endpoint) -> Result<Option<BoxTokenSource>, String> {
        let (client, hands) = (self.client(at)?, at.hands.clone());
        Ok(Some(match &*self.grant {
            "client_credentials" => Stored::new(ClientCredentials::new(client)).clock(hands).boxed(),
            "refresh_token" => {
                let stored = Stored::new(RefreshToken::new(client)).clock(hands);
                stored.holding(TokenSet::of_refresh_token(SENT)).boxed()
            }
            "password" => Stored::new(LegacyPassword::new(client, "anna", "pw")).clock(hands).boxed(),
            "authorization_code" => return Ok(None),
            other => Stored::new(Assertion { client, grant: other.to_owned() }).clock(hands).boxed(),
        }))
    }

    async fn brings(&self, wanted: &Brought) -> Result<(), String> {
        let set = self.exchange().await?.map_err(|error| format!("{error} instead of a token"))?;
        let found = Brought {
            access_token: set.access_token().unwrap_or_default().to_owned(),
            lifetime: set.lifetime().filter(|lifetime| *lifetime < TEN_YEARS).map(|lifetime| lifetime.as_secs_f64()),
            scope: set.scope().map(str::to_owned),
            refresh_token: set.refresh_token().map(str::to_owned),
        };
        if found != *wanted {
            return Err(format!("{found:?} instead of {wanted:?}"));
        }
        let at = Endpoint::new();
        let Some(source) = self.source(&at)? else { return self.finish(Ok(())).await };
        let token = LiveToken::builder(source).clock(at.hands.clone()).seed(1).spawn();
        sleep(Duration::from_secs(2)).await;
        let sent = token.authorization().and_then(|value| value.to_str().map(str::to_owned).ok());
        if sent != Some(format!("Bearer {}", wanted.access_token)) {
            return Err(format!("{sent:?} is sent"));
        }
        if self.grant == "refresh_token" {
            let _ = token.refresh().await;
            at.has_sent_next(wanted.refresh_token.as_deref().unwrap_or(SENT))?;
        }
        Ok(())
    }

    async fn fails(&self, wanted: &Failure) -> Result<(), String> {
        let error = match (self.exchange().await?, &wanted.refresh_token) {
            (Ok(set), None) => return Err(format!("{set:?} instead of a failure")),
            (Ok(set), Some(refresh_token)) => {
                let found = (set.access_token(), set.refresh_token());
                if found != (None, Some(refresh_token)) {
                    return Err(format!("{found:?} instead of the refresh token alone"));
                }
                None
            }
            (Err(error), None) => Some(error),
            (Err(error), Some(refresh_token)) => return Err(format!("{error}: {refresh_token} is lost")),
        };
        if let Some(error) = &error {
            wanted.check(error)?;
        }
        let at = Endpoint::new();
        let Some(source) = self.source(&at)? else { return self.finish(Err(wanted.kind)).await };
        let token = LiveToken::builder(source).clock(at.hands.clone()).seed(1).spawn();
        sleep(Duration::from_millis(1)).await;
        let Some(certain) = wanted.certain.or((wanted.kind == Kind::TryAgain).then_some(true)) else {
            return Err("it doesn't say whether that is certain".into());
        };
        let first = token.status();
        let expected = if certain { wanted.kind } else { Kind::TryAgain };
        match first.last_error() {
            Some(error) if kind(error) != expected => {
                return Err(format!("{error} when it is seen first, instead of {expected:?}"));
            }
            None => return Err("it is no failure".into()),
            Some(_) => {}
        }
        sleep(10 * MINUTE).await;
        let state = token.status().state();
        let expected = match wanted.kind {
            Kind::TryAgain => State::Starting,
            Kind::Rejected => State::Rejected,
            Kind::Reauthorize => State::ReauthorizationRequired,
        };
        if state != expected {
            return Err(format!("{state:?} when it was seen again, instead of {expected:?}"));
        }
        if let Some(refresh_token) = &wanted.refresh_token {
            at.has_sent_next(refresh_token)?;
        }
        let again = wanted.again(certain);
        if matches!(&again, Again::After(range) if range.holds_more_than(600.0)) {
            // Longer than the longest pause.
            sleep(60 * MINUTE).await;
        }
        at.was_asked_again(&again)
    }

    /// The whole of a login that ends with this answer.
    async fn finish(&self, wanted: Result<(), Kind>) -> Result<(), String> {
        let login =
            AuthorizationCode::new(self.client(&Endpoint::new())?, "https://id.test/authorize", "https://app.test/cb");
        let login = login.map_err(|error| error.to_string())?;
        let pending = login.start();
        let callback = format!("?code=c0&state={}", pending.state());
        let found = login.finish(pending, &callback).await.map(drop).map_err(|error| error.kind());
        let expected = wanted.map_err(|kind| match kind {
            Kind::TryAgain => AuthorizationErrorKind::TryAgain,
            Kind::Rejected => AuthorizationErrorKind::Refused,
            Kind::Reauthorize => AuthorizationErrorKind::CodeRefused,
        });
        if found == expected { Ok(()) } else { Err(format!("{found:?} of the login instead of {expected:?}")) }
    }
}

impl Endpoint {
    /// The second request carried this.
    fn has_sent_next(&self, refresh_token: &str) -> Result<(), String> {
        let asked = self.asked();
        let next = asked.get(1).and_then(|(_, sent)| sent.as_deref());
        if next == Some(refresh_token) { Ok(()) } else { Err(format!("the next refresh sends {next:?}: {asked:?}")) }
    }

    fn was_asked_again(&self, wanted: &Again) -> Result<(), String> {
        let asked: Vec<_> = self.asked().iter().map(|(at, _)| *at).collect();
        let ok = match (wanted, &*asked) {
            (Again::Never(_), [_]) => true,
            (Again::After(range), [first, next, ..]) => range.holds(next - first),
            _ => false,
        };
        if ok { Ok(()) } else { Err(format!("asked at {asked:?}")) }
    }
}

impl Failure {
    /// Of a single exchange.
    fn check(&self, error: &FetchError) -> Result<(), String> {
        let Some(cause) = error.cause().downcast_ref::<EndpointError>() else {
            return Err(format!("{error} doesn't say what was answered"));
        };
        if self.code.is_some() && cause.code() != self.code.as_deref() {
            return Err(format!("the code is {:?}", cause.code()));
        }
        if self.may_have_acted.is_some_and(|acted| acted != cause.may_have_acted()) {
            return Err(format!("may_have_acted is {}", cause.may_have_acted()));
        }
        Ok(())
    }

    /// What the README says where the case doesn't.
    fn again(&self, certain: bool) -> Again {
        let named = self.again.as_ref().map(|again| match again {
            Again::After(range) => Again::After(*range),
            Again::Never(_) => Again::Never(Never::Never),
        });
        named.unwrap_or(match self.kind {
            Kind::Reauthorize if certain => Again::Never(Never::Never),
            Kind::Rejected if certain => Again::After(Range::new(300.0, 301.0)),
            _ => Again::After(Range::new(0.5, 1.0)),
        })
    }
}

fn kind(error: &FetchError) -> Kind {
    match error.kind() {
        FetchErrorKind::Rejected => Kind::Rejected,
        FetchErrorKind::ReauthorizationRequired => Kind::Reauthorize,
        _ => Kind::TryAgain,
    }
}

/// Any other grant: nothing is spent.
struct Assertion {
    client: TokenEndpoint,
    grant: String,
}

impl Grant for Assertion {
    async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        self.client.exchange(Form::grant(self.grant.clone()), limit).await
    }

    fn account(&self) -> Account {
        self.client.account()
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(self.client.credentials())
    }
}

/// The refresh token that is sent.
const SENT: &str = "r0";

/// What lives longer gets no timer.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
