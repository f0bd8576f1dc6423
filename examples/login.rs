//! How does a program on a person's machine get a token? Through the browser (RFC 8252): it listens on a loopback port, sends the
//! browser to the authorization server, and takes the code that comes back. Then it does what `call` does.
//!
//! ```sh
//! cargo run --example login -- --authorization-url https://id.example.com/authorize \
//!     --token-url https://id.example.com/token --client-id my-app --client-auth none \
//!     --scope "documents offline_access" --count 10 --interval 500 https://api.example.com/documents
//! ```
//!
//! If the provider accepts only a registered redirect URI, name it: `--redirect-uri http://127.0.0.1:8400/callback`. With `--store FILE`,
//! or `--store redis://…` (feature `redis`), the next run needs no browser as long as the refresh token of this one is valid.

#[path = "shared/calls.rs"]
mod calls;
#[path = "shared/endpoint.rs"]
mod endpoint;
#[path = "shared/keep.rs"]
mod keep;
#[path = "shared/loopback.rs"]
mod loopback;
#[path = "shared/warnings.rs"]
mod warnings;

use std::{process::ExitCode, time::Duration};

use calls::{Calls, pair};
use clap::Parser;
use endpoint::Endpoint;
use keep::Keep;
use loopback::{Loopback, RedirectUri};
use tokio::time::timeout;
use tower_bearer::{
    BoxError, ErrorKind, LiveToken,
    oauth2::{AuthorizationCode, RefreshToken, TokenEndpoint, TokenSet},
};

/// Calls an API in the name of a person, who agrees in the browser.
#[derive(Parser)]
struct Args {
    /// Where the person agrees
    #[arg(long, value_name = "URL")]
    authorization_url: String,
    /// Who must have answered (RFC 9207)
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Where the browser comes back to, if the provider takes only what was registered. Default: any free port, /callback
    #[arg(long, value_name = "URL", value_parser = RedirectUri::parse)]
    redirect_uri: Option<RedirectUri>,
    #[command(flatten)]
    endpoint: Endpoint,
    #[arg(long, value_name = "SCOPE", allow_hyphen_values = true)]
    scope: Vec<String>,
    /// One more parameter of the authorization URL
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair('='), allow_hyphen_values = true)]
    param: Vec<(String, String)>,
    /// Only print the URL, don't open a browser
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    keep: Keep,
    /// Log in whatever the store has: for another scope, or as another person
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    calls: Calls,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    warnings::tell();
    args.calls.run(token(&args).await).await
}

/// Uses what is stored. If nothing is stored, or its authorization has ended, the person logs in, and the new token set replaces it.
async fn token(args: &Args) -> Result<LiveToken, BoxError> {
    let endpoint = args.endpoint.open()?;
    let grant = RefreshToken::new(endpoint.clone()).subject(&args.keep.subject);
    let (source, account) = args.keep.keep(grant, None)?;
    let token = LiveToken::spawn(source);
    if !args.anew {
        match timeout(Duration::from_secs(10), token.ready()).await {
            Ok(Err(error)) if error.kind() == ErrorKind::ReauthorizationRequired => {
                match (account.token_set(), error.cause()) {
                    (Some(_), Some(why)) => eprintln!("What is stored is over: {}", why.cause()),
                    _ if args.keep.store.is_some() => eprintln!("Nothing is stored yet for {}.", args.keep.subject),
                    _ => {}
                }
            }
            Ok(Ok(())) => {
                eprintln!("Going on with what is stored: no login is needed.");
                return Ok(token);
            }
            // No login helps against that. The requests say what it is.
            _ => return Ok(token),
        }
    }
    account.adopt(login(args, endpoint).await?).await;
    Ok(token)
}

async fn login(args: &Args, endpoint: TokenEndpoint) -> Result<TokenSet, BoxError> {
    let listener = Loopback::listen(args.redirect_uri.as_ref()).await?;
    let redirect_uri = &listener.redirect_uri;
    let mut login =
        AuthorizationCode::new(endpoint, &args.authorization_url, redirect_uri)?.scope(args.scope.join(" "));
    if let Some(issuer) = &args.issuer {
        login = login.issuer(issuer);
    }
    for (name, value) in &args.param {
        login = login.param(name.clone(), value);
    }

    let pending = login.start();
    eprintln!("To go on, agree here:\n{}", pending.url());
    if !args.no_browser {
        open_browser(pending.url());
    }
    let callback = timeout(Duration::from_secs(600), listener.callback(pending.state())).await??;
    Ok(login.finish(pending, &callback).await?)
}

/// Best effort: the URL is printed as well.
fn open_browser(url: &str) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let _ = std::process::Command::new(program).arg(url).stdout(std::process::Stdio::null()).spawn();
}
