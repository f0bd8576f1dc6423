//! How do I try a provider? With this curl, which always has a live token.
//!
//! ```sh
//! CLIENT_SECRET=… cargo run --example call -- --token-url https://id.example.com/token --client-id my-client \
//!     --scope document_read --count 10 --interval 500 https://api.example.com/documents
//! ```
//!
//! With `--store FILE`, or `--store redis://…` (feature `redis`), the next run uses the token of this one until it expires. If the store
//! doesn't work, a line on stderr says so, and the run goes on where it can.
//! A line per request goes to stderr, and one JSON object to stdout at the end. The exit code is 0 only if all responses were 2xx. For
//! grants that need a browser, use `login`.

#[path = "shared/calls.rs"]
mod calls;
#[path = "shared/endpoint.rs"]
mod endpoint;
#[path = "shared/keep.rs"]
mod keep;
#[path = "shared/warnings.rs"]
mod warnings;

use std::process::ExitCode;

use calls::{Calls, pair};
use clap::{Parser, ValueEnum};
use endpoint::Endpoint;
use keep::Keep;
use tower_bearer::{
    BoxError, LiveToken,
    oauth2::{ClientCredentials, LegacyPassword, RefreshToken, TokenSet},
};

/// Calls an API with a live OAuth 2.0 token.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
    #[arg(long, value_enum, default_value = "client_credentials")]
    grant: Grant,
    #[arg(long, value_name = "NAME", default_value = "", allow_hyphen_values = true)]
    username: String,
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PASSWORD",
        hide_env_values = true,
        default_value = "",
        allow_hyphen_values = true
    )]
    password: String,
    #[arg(long, value_name = "TOKEN", env = "REFRESH_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    refresh_token: Option<String>,
    #[arg(long, value_name = "SCOPE", allow_hyphen_values = true)]
    scope: Vec<String>,
    /// One more parameter of the token request
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair('='), allow_hyphen_values = true)]
    param: Vec<(String, String)>,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    calls: Calls,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Grant {
    ClientCredentials,
    Password,
    RefreshToken,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    warnings::tell();
    args.calls.run(token(&args)).await
}

fn token(args: &Args) -> Result<LiveToken, BoxError> {
    let (endpoint, scope) = (args.endpoint.open()?, args.scope.join(" "));
    let params = args.param.iter().cloned();
    let (source, _) = match args.grant {
        Grant::ClientCredentials => {
            let grant = ClientCredentials::new(endpoint).scope(scope);
            args.keep.keep(params.fold(grant, |grant, (name, value)| grant.param(name, value)), None)
        }
        Grant::Password => {
            let grant = LegacyPassword::new(endpoint, &args.username, args.password.clone()).scope(scope);
            args.keep.keep(params.fold(grant, |grant, (name, value)| grant.param(name, value)), None)
        }
        Grant::RefreshToken => {
            let held = args.refresh_token.clone().ok_or("--grant refresh_token needs --refresh-token")?;
            let grant = RefreshToken::new(endpoint).subject(&args.keep.subject).scope(scope);
            let grant = params.fold(grant, |grant, (name, value)| grant.param(name, value));
            args.keep.keep(grant, Some(TokenSet::of_refresh_token(held)))
        }
    }?;
    Ok(LiveToken::spawn(source))
}
