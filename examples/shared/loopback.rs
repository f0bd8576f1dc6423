//! The redirect URI to which the browser comes back: a listener on the loopback interface (RFC 8252 §7.3).

use std::{io::ErrorKind, net::IpAddr};

use http::Uri;
use reqwest::Url;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, lookup_host},
    sync::mpsc,
};
use tower_bearer::BoxError;

/// A redirect URI at which a program on a person's machine can listen.
#[derive(Clone)]
pub(crate) struct RedirectUri {
    /// To the letter: servers compare it so (RFC 9700 §2.1).
    text: String,
    host: String,
    port: u16,
}

/// The loopback interface, open for one callback.
pub(crate) struct Loopback {
    listeners: Vec<TcpListener>,
    pub(crate) redirect_uri: String,
}

impl RedirectUri {
    /// Says what to do if there can be no listener for it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("it is no URL ({error})"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if uri.scheme_str() != Some("http") || !is_loopback || has_user || text.contains('#') {
            return Err("this program can listen on its own machine only, without TLS: register and use a URL like \
                        http://127.0.0.1:8400/callback"
                .into());
        }
        let Some(port) = uri.port_u16().filter(|port| *port != 0) else {
            return Err("it names no port from 1 to 65535: register and use one that is free, as in http://127.0.0.1:8400/callback; for any free \
                        port leave the option out"
                .into());
        };
        Ok(Self { text: text.into(), host: host.into(), port })
    }
}

impl Loopback {
    /// At this URL. Without one at any free port: most servers let native apps choose it.
    pub(crate) async fn listen(uri: Option<&RedirectUri>) -> Result<Self, BoxError> {
        let Some(RedirectUri { text, host, port }) = uri else {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let redirect_uri = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
            return Ok(Self { listeners: vec![listener], redirect_uri });
        };
        let (mut listeners, mut failures) = (Vec::new(), Vec::new());
        // A lookup may find the same twice, and the second would be taken.
        let mut addresses = Vec::new();
        for address in lookup_host((host.as_str(), *port)).await?.filter(|address| address.ip().is_loopback()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        // `localhost` is two addresses, and a browser takes either: if one is another program's, that would get the code.
        for address in addresses {
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    return Err(
                        format!("another program listens at {address}: end it, or register another port").into()
                    );
                }
                // Not every machine has both.
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        if listeners.is_empty() {
            return Err(format!("nobody can listen at {text} ({})", failures.join(", ")).into());
        }
        Ok(Self { listeners, redirect_uri: text.clone() })
    }

    /// Waits for the browser to come back with this state; returns where it went. That of another login (an old page, or a page that isn't
    /// meant well) ends nothing.
    pub(crate) async fn callback(self, state: &str) -> Result<String, BoxError> {
        let called = Called { redirect_uri: self.redirect_uri.parse()?, state: state.to_owned() };
        let (found, mut callbacks) = mpsc::channel(1);
        let mut servers = tokio::task::JoinSet::new();
        for listener in self.listeners {
            let (found, called) = (found.clone(), called.clone());
            servers.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // One task each: browsers open connections ahead and send nothing on them.
                    tokio::spawn(answer(stream, called.clone(), found.clone()));
                }
            });
        }
        drop(found);
        callbacks.recv().await.ok_or_else(|| "the listener broke".into())
    }
}

/// What is waited for.
#[derive(Clone)]
struct Called {
    redirect_uri: Url,
    state: String,
}

impl Called {
    /// Whether this is the callback of this login, or of another one; `None` if it is none.
    fn is_this(&self, target: &str) -> Option<bool> {
        // As browsers write it: `/zur%C3%BCck`.
        let target = self.redirect_uri.join(target).ok()?;
        let is_callback = target.path() == self.redirect_uri.path() && target.query().is_some();
        is_callback.then(|| target.query_pairs().any(|(name, value)| name == "state" && value == self.state))
    }
}

/// Answers one request, and hands its target on if it is the callback.
async fn answer(mut stream: TcpStream, called: Called, found: mpsc::Sender<String>) -> Result<(), BoxError> {
    let mut lines = BufReader::new(&mut stream).lines();
    // "GET /callback?code=… HTTP/1.1". Browsers ask for an icon, too.
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (status, text) = match called.is_this(target) {
        Some(true) => ("200 OK", "You can close this page and go back to the program."),
        Some(false) => ("400 Bad Request", "This belongs to another login: use the URL that the program printed last."),
        None => ("404 Not Found", "There is nothing here."),
    };
    // First of all: a browser that is closed in the meantime takes no answer.
    if called.is_this(target) == Some(true) {
        found.send(target.to_owned()).await?;
    }
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all((head + text).as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}
