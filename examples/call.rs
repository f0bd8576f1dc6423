//! How do I try a provider? With a curl that always has a live token.
//!
//! ```sh
//! CLIENT_SECRET=… cargo run --example call -- --token-url https://id.example.com/token --client-id my-client \
//!     --scope document_read --count 10 --interval 500 https://api.example.com/documents
//! ```
//!
//! A line per request goes to stderr; one JSON object to stdout at the end. The exit code is 0 only if all answers were 2xx.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BoxError, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay,
};

/// Calls an API with a live OAuth 2.0 token.
#[derive(Parser)]
struct Args {
    /// Where tokens come from
    #[arg(long, value_name = "URL")]
    token_url: String,
    #[arg(long, value_name = "ID")]
    client_id: String,
    #[arg(long, value_name = "SECRET", env = "CLIENT_SECRET", hide_env_values = true, default_value = "")]
    client_secret: String,
    /// How the client proves who it is
    #[arg(long, value_enum, default_value = "basic")]
    client_auth: ClientAuth,
    #[arg(long, value_enum, default_value = "client_credentials")]
    grant: Grant,
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// One more parameter of the token request
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair('='))]
    param: Vec<(String, String)>,
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value = "GET")]
    method: Method,
    /// The body of the request
    #[arg(short, long, value_name = "BODY")]
    data: Option<String>,
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = pair(':'))]
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

#[derive(Clone, Copy, ValueEnum)]
enum ClientAuth {
    Basic,
    BasicRaw,
    Post,
    None,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Grant {
    ClientCredentials,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::default();
    if let Err(error) = run(&args, &mut report).await {
        eprintln!("{error}");
        report.error.get_or_insert(error.to_string());
    }
    println!("{}", report.to_json());
    if report.is_good(args.count) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(args: &Args, report: &mut Report) -> Result<(), BoxError> {
    let token = LiveToken::spawn(grant(args)?);
    let origin = Origin::parse(&args.url.origin().ascii_serialization())?;
    let mut client = BearerAuthLayer::new(token.clone(), origin).layer(reqwest::Client::new());
    let mut next = tokio::time::Instant::now();
    for number in 1..=args.count {
        tokio::time::sleep_until(next).await;
        next += Duration::from_millis(args.interval);
        let request = request(args)?;
        let start = Instant::now();
        let outcome = call(&mut client, request).await;
        let took = start.elapsed();
        report.generations = token.status().generation();
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

/// One request, to the end of its answer.
async fn call(client: &mut Client, request: reqwest::Request) -> Result<(http::StatusCode, usize), BoxError> {
    let response = client.ready().await?.call(request).await?;
    let status = response.status();
    Ok((status, response.bytes().await?.len()))
}

type Client = BearerAuth<reqwest::Client, replay::Auto>;

fn grant(args: &Args) -> Result<ClientCredentials, BoxError> {
    let endpoint = TokenEndpoint::new(&args.token_url)?;
    let (id, secret) = (&args.client_id, args.client_secret.clone());
    let endpoint = match args.client_auth {
        ClientAuth::Basic => endpoint.client_secret_basic(id, secret),
        ClientAuth::BasicRaw => endpoint.client_secret_basic_raw(id, secret),
        ClientAuth::Post => endpoint.client_secret_post(id, secret),
        ClientAuth::None => endpoint.public_client(id),
    };
    let mut grant = match args.grant {
        Grant::ClientCredentials => ClientCredentials::new(endpoint),
    };
    for scope in &args.scope {
        grant = grant.scope(scope);
    }
    for (name, value) in &args.param {
        grant = grant.param(name.clone(), value);
    }
    Ok(grant)
}

fn request(args: &Args) -> Result<reqwest::Request, BoxError> {
    let mut request = reqwest::Request::new(args.method.clone(), args.url.clone());
    for (name, value) in &args.header {
        request.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    *request.body_mut() = args.data.clone().map(Into::into);
    Ok(request)
}

/// What goes to stdout at the end.
#[derive(Default)]
struct Report {
    ok: usize,
    statuses: BTreeMap<u16, usize>,
    generations: u64,
    times: Vec<Duration>,
    error: Option<String>,
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
    // A token error tells its causes itself; an HTTP client's doesn't.
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.contains(&error.to_string()) {
            text += &format!(": {error}");
        }
        cause = error.source();
    }
    text
}

fn pair(separator: char) -> impl Fn(&str) -> Result<(String, String), String> + Clone {
    move |text| match text.split_once(separator) {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim_start().to_owned())),
        None => Err(format!("there is no '{separator}' in it")),
    }
}
