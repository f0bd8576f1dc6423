//! The token endpoint, the same for all: tokens that say when they end, in the shapes that peers read.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::oneshot};

/// A token of 1 KiB that begins with the microsecond in which it ends, so that whoever sees it knows.
#[derive(Clone, Debug)]
pub struct Token {
    end: u64,
}

impl Token {
    fn issue(life: Duration) -> Self {
        Self { end: now() + u64::try_from(life.as_micros()).expect("a life of years at most") }
    }

    /// The token of somebody who never asks for another.
    pub fn lasting() -> String {
        Self::issue(Duration::from_secs(86_400)).text()
    }

    fn text(&self) -> String {
        format!("{:0DIGITS$}{:x<padding$}", self.end, ".", padding = LENGTH - DIGITS)
    }

    pub fn read(text: &str) -> Option<Self> {
        let end = text.get(..DIGITS)?.parse().ok()?;
        (text.len() == LENGTH).then_some(Self { end })
    }

    pub fn has_expired(&self) -> bool {
        now() >= self.end
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    u64::try_from(since.as_micros()).expect("a clock before the year 500 000")
}

const LENGTH: usize = 1024;
const DIGITS: usize = 20;

/// A running token endpoint, on loopback and on a thread of its own: it answers any request with a new token.
///
/// A token's life begins when its request has arrived; the latency comes after that.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    rules: Arc<Rules>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Rules {
    life: Duration,
    latency: Duration,
    requests: AtomicU64,
}

impl Endpoint {
    /// # Errors
    ///
    /// If there is no free port.
    pub fn start(life: Duration, latency: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules { life, latency, requests: AtomicU64::new(0) });
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = rules.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket that doesn't block");
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, rules, stop: Some(stop) })
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Where the answer is an `ExecCredential`, as Kubernetes' credential plugins print it.
    pub fn exec_url(&self) -> String {
        format!("http://{}/exec", self.address)
    }

    pub fn life(&self) -> Duration {
        self.rules.life
    }

    /// Token requests so far.
    pub fn requests(&self) -> u64 {
        self.rules.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
    }
}

async fn serve(listener: TcpListener, rules: Arc<Rules>) {
    while let Ok((stream, _)) = listener.accept().await {
        let rules = rules.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&rules, request));
            // A peer may close its connection at any time.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(rules: &Rules, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let exec = request.uri().path() == "/exec";
    request.into_body().collect().await?;
    rules.requests.fetch_add(1, Ordering::Relaxed);
    let token = Token::issue(rules.life);
    tokio::time::sleep(rules.latency).await;
    let body = if exec { exec_credential(&token) } else { token_response(&token, rules.life) };
    let response = Response::builder().header(CONTENT_TYPE, "application/json").body(body.to_string().into());
    Ok(response.expect("constants make a response"))
}

/// RFC 6749 §5.1, and `ext_expires_in`, without which Azure's client reads no answer. Several peers read whole seconds only, so
/// where it is a whole number it is written as one.
fn token_response(token: &Token, life: Duration) -> serde_json::Value {
    let seconds: serde_json::Value = match life.subsec_nanos() {
        0 => life.as_secs().into(),
        _ => life.as_secs_f64().into(),
    };
    serde_json::json!({
        "access_token": token.text(),
        "token_type": "Bearer",
        "expires_in": seconds,
        "ext_expires_in": seconds,
    })
}

fn exec_credential(token: &Token) -> serde_json::Value {
    let end = i64::try_from(token.end).ok().and_then(|end| jiff::Timestamp::from_microsecond(end).ok());
    serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "token": token.text(), "expirationTimestamp": end.expect("a time within jiff's").to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_ends() {
        let token = Token::lasting();
        assert_eq!(token.len(), LENGTH);
        assert!(!Token::read(&token).unwrap().has_expired());
        assert!(Token::read(&Token::issue(Duration::ZERO).text()).unwrap().has_expired());
        assert!(Token::read("other").is_none());
        assert!(Token::read(&token[1..]).is_none());
    }

    #[test]
    fn lives_are_whole_seconds_where_they_can_be() {
        let announced = |life| token_response(&Token::issue(life), life)["expires_in"].to_string();
        assert_eq!(announced(Duration::from_secs(21)), "21");
        assert_eq!(announced(Duration::from_millis(500)), "0.5");
    }
}
