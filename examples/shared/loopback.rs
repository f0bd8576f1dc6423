//! Where the browser comes back to: a listener on the loopback interface (RFC 8252 §7.3).

use std::{io::ErrorKind, net::IpAddr};

use http::Uri;
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
    path: String,
}

/// The loopback interface, open for one callback.
pub(crate) struct Loopback {
    listeners: Vec<TcpListener>,
    path: String,
    pub(crate) redirect_uri: String,
}

impl RedirectUri {
    /// Says what to do if there can be no listener for it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("it is no URL ({error})"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if uri.scheme_str() != Some("http") || !is_loopback || text.contains(['@', '#']) {
            return Err("this program can listen on its own machine only, without TLS: register and use a URL like \
                        http://127.0.0.1:8400/callback"
                .into());
        }
        let Some(port) = uri.port_u16().filter(|port| *port != 0) else {
            return Err("it names no port from 1 to 65535: register and use one that is free, as in http://127.0.0.1:8400/callback; for any free \
                        port leave the option out"
                .into());
        };
        Ok(Self { text: text.into(), host: host.into(), port, path: uri.path().into() })
    }
}

impl Loopback {
    /// At this URL. Without one at any free port: most servers let native apps choose it.
    pub(crate) async fn listen(uri: Option<&RedirectUri>) -> Result<Self, BoxError> {
        let Some(RedirectUri { text, host, port, path }) = uri else {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let redirect_uri = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
            return Ok(Self { listeners: vec![listener], path: "/callback".into(), redirect_uri });
        };
        let (mut listeners, mut failures) = (Vec::new(), Vec::new());
        // `localhost` is two addresses, and a browser takes either: if one is another program's, that would get the code.
        for address in lookup_host((host.as_str(), *port)).await?.filter(|address| address.ip().is_loopback()) {
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
        Ok(Self { listeners, path: path.clone(), redirect_uri: text.clone() })
    }

    /// Waits for the browser to come back; returns where it went.
    pub(crate) async fn callback(self) -> Result<String, BoxError> {
        let (found, mut callbacks) = mpsc::channel(1);
        let mut servers = tokio::task::JoinSet::new();
        for listener in self.listeners {
            let (found, path) = (found.clone(), self.path.clone());
            servers.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // One task each: browsers open connections ahead and send nothing on them.
                    tokio::spawn(answer(stream, path.clone(), found.clone()));
                }
            });
        }
        drop(found);
        callbacks.recv().await.ok_or_else(|| "the listener broke".into())
    }
}

/// Answers one request, and hands its target on if it is the callback.
async fn answer(mut stream: TcpStream, path: String, found: mpsc::Sender<String>) -> Result<(), BoxError> {
    let mut lines = BufReader::new(&mut stream).lines();
    // "GET /callback?code=… HTTP/1.1". Browsers ask for an icon, too.
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let target = first.split(' ').nth(1).unwrap_or_default();
    let is_callback = target.split_once('?').is_some_and(|(called, _)| called == path);
    let (status, text) = match is_callback {
        true => ("200 OK", "You can close this page and go back to the program."),
        false => ("404 Not Found", "There is nothing here."),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all((head + text).as_bytes()).await?;
    stream.shutdown().await?;
    if is_callback {
        found.send(target.to_owned()).await?;
    }
    Ok(())
}
