//! How does a program on a person's machine get a token? Through the browser (RFC 8252): it listens on a loopback port, sends the
//! browser to the authorization server, and takes the code that comes back. Then it does what `call` does.
//!
//! ```sh
//! cargo run --example login -- --authorization-url https://id.example.com/authorize \
//!     --token-url https://id.example.com/token --client-id my-app --client-auth none \
//!     --scope "documents offline_access" --count 10 --interval 500 https://api.example.com/documents
//! ```

#[path = "shared/calls.rs"]
mod calls;
#[path = "shared/endpoint.rs"]
mod endpoint;

use std::{process::ExitCode, time::Duration};

use calls::{Calls, pair};
use clap::Parser;
use endpoint::Endpoint;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower_bearer::{
    BoxError, LiveToken,
    oauth2::{AuthorizationCode, RefreshToken, Stored},
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
    calls: Calls,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    args.calls.run(login(&args).await.map(LiveToken::spawn)).await
}

async fn login(args: &Args) -> Result<Stored<RefreshToken>, BoxError> {
    // Any free port: servers let native apps choose it (RFC 8252 §7.3).
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let redirect_uri = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());

    let endpoint = args.endpoint.open()?;
    let mut login =
        AuthorizationCode::new(endpoint.clone(), &args.authorization_url, redirect_uri)?.scope(args.scope.join(" "));
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
    let callback = tokio::time::timeout(Duration::from_secs(600), callback(listener)).await??;
    let set = login.finish(pending, &callback).await?;
    Ok(Stored::new(RefreshToken::new(endpoint)).holding(set))
}

/// Waits for the browser to come back; returns where it went.
async fn callback(listener: TcpListener) -> Result<String, BoxError> {
    let (found, mut callbacks) = mpsc::channel(1);
    // One task each: browsers open connections ahead and send nothing on them.
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, found.clone()));
        }
    });
    let callback = callbacks.recv().await;
    server.abort();
    callback.ok_or_else(|| "the listener broke".into())
}

/// Answers one request, and hands its target on if it is the callback.
async fn answer(mut stream: TcpStream, found: mpsc::Sender<String>) -> Result<(), BoxError> {
    let mut lines = BufReader::new(&mut stream).lines();
    // "GET /callback?code=… HTTP/1.1". Browsers ask for an icon, too.
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (status, text) = match target.starts_with("/callback?") {
        true => ("200 OK", "You can close this page and go back to the program."),
        false => ("404 Not Found", "There is nothing here."),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all((head + text).as_bytes()).await?;
    stream.shutdown().await?;
    if target.starts_with("/callback?") {
        found.send(target.to_owned()).await?;
    }
    Ok(())
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
