//! What `call` and `login` share: which requests to send, how they are sent with a live token, and the report at the end.
//!
//! Secrets are random, and some begin with a hyphen. So the word after an option is always its value (`allow_hyphen_values`).

use std::{
    collections::BTreeMap,
    mem::replace,
    process::ExitCode,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Method};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, BoxError, LiveToken, Origin, Storage, replay};

/// Which requests to send.
#[derive(clap::Args)]
pub(crate) struct Calls {
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value = "GET")]
    method: Method,
    /// The body of the request
    #[arg(short, long, value_name = "BODY", allow_hyphen_values = true)]
    data: Option<String>,
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = pair(':'), allow_hyphen_values = true)]
    header: Vec<(String, String)>,
    /// How many requests, one after the other
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Milliseconds from one to the next
    #[arg(long, value_name = "MS", default_value_t = 0)]
    interval: u64,
    /// What to call
    url: reqwest::Url,
}

impl Calls {
    /// Sends the requests: a line for each on stderr, at the end one JSON object on stdout.
    pub(crate) async fn run(&self, token: Result<LiveToken, BoxError>) -> ExitCode {
        let mut report = Report::default();
        let outcome = match token {
            Ok(token) => {
                let outcome = self.send_all(&token, &mut report).await;
                if token.status().storage() == Storage::Unsaved {
                    // The newest refresh token is not stored yet, so this process alone has it.
                    eprintln!("Waiting for the store, ten seconds at the most.");
                    token.shutdown().await;
                }
                outcome
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let text = with_causes(&*error);
            eprintln!("{text}");
            report.error.get_or_insert(text);
        }
        println!("{}", report.to_json());
        if report.is_good(self.count) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    async fn send_all(&self, token: &LiveToken, report: &mut Report) -> Result<(), BoxError> {
        let origin = Origin::parse(&self.url.origin().ascii_serialization())?;
        let mut client = BearerAuthLayer::new(token.clone(), origin).layer(reqwest::Client::new());
        let mut ticks = tokio::time::interval(Duration::from_millis(self.interval.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 1..=self.count {
            if self.interval > 0 {
                ticks.tick().await;
            }
            let request = self.request()?;
            let start = Instant::now();
            let outcome = send(&mut client, request).await;
            let took = start.elapsed();
            let status = token.status();
            report.generations = status.generation();
            // If there is no token, the request's error says what is wrong.
            if status.is_usable() && status.storage() != Storage::Sound && !replace(&mut report.is_not_kept, true) {
                eprintln!(
                    "Until the store is mended, the next run begins without this token: mend it, or choose another."
                );
            }
            match outcome {
                Ok((status, length)) => {
                    eprintln!("{number}: {status}, {length} bytes, {took:.1?}");
                    report.answered(status, took);
                }
                Err(error) => {
                    let text = with_causes(&*error);
                    eprintln!("{number}: {text}, {took:.1?}");
                    report.failed(text, took);
                }
            }
        }
        Ok(())
    }

    fn request(&self) -> Result<reqwest::Request, BoxError> {
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        for (name, value) in &self.header {
            request.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        *request.body_mut() = self.data.clone().map(Into::into);
        Ok(request)
    }
}

/// Sends one request, and reads its response to the end.
async fn send(client: &mut Client, request: reqwest::Request) -> Result<(http::StatusCode, usize), BoxError> {
    let response = client.ready().await?.call(request).await?;
    let status = response.status();
    Ok((status, response.bytes().await?.len()))
}

type Client = BearerAuth<reqwest::Client, replay::Auto>;

/// What goes to stdout at the end.
#[derive(Default)]
struct Report {
    ok: usize,
    statuses: BTreeMap<u16, usize>,
    generations: u64,
    times: Vec<Duration>,
    error: Option<String>,
    /// Whether stderr says that the store doesn't have the token.
    is_not_kept: bool,
}

impl Report {
    fn answered(&mut self, status: http::StatusCode, took: Duration) {
        *self.statuses.entry(status.as_u16()).or_default() += 1;
        self.ok += usize::from(status.is_success());
        self.times.push(took);
    }

    fn failed(&mut self, error: String, took: Duration) {
        self.error.get_or_insert(error);
        self.times.push(took);
    }

    fn is_good(&self, wanted: usize) -> bool {
        self.error.is_none() && self.ok == wanted
    }

    fn to_json(&self) -> serde_json::Value {
        let mut times = self.times.clone();
        times.sort_unstable();
        let share = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        let micros = |percent| share(percent).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        json!({
            "requests": self.times.len(),
            "ok": self.ok,
            "failed": self.times.len() - self.ok,
            "statuses": self.statuses.iter().map(|(status, n)| (status.to_string(), *n)).collect::<BTreeMap<_, _>>(),
            "generations": self.generations,
            "p50_us": micros(50),
            "p99_us": micros(99),
            "max_us": micros(100),
            "error": self.error,
        })
    }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn pair(separator: char) -> impl Fn(&str) -> Result<(String, String), String> + Clone {
    move |text| match text.split_once(separator) {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim_start().to_owned())),
        None => Err(format!("there is no '{separator}' in it")),
    }
}
