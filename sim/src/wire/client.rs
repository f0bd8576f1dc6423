//! The program's HTTP clients, which write down what they are handed and what they bring: one below the layer, one for the token endpoint.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{CaptureConnection, HttpConnector, HttpInfo, capture_connection},
    },
    rt::TokioExecutor,
};
use tokio::time::timeout;
use tower::{BoxError, Service};

use super::{
    plan::ANSWER_TIMEOUT,
    server::{ATTEMPT, EXCHANGE, REQUEST},
    trace::{Answer, Happened, Port, Trace},
};

type Hyper = Client<HttpConnector, Full<Bytes>>;
type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

fn hyper(http2: bool) -> Hyper {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(http2).build(connector)
}

/// Below the layer.
#[derive(Clone)]
pub struct ApiClient {
    client: Hyper,
    authority: Arc<str>,
    trace: Trace,
}

/// The number of a request, and how often it was sent: in its extensions.
#[derive(Clone)]
pub struct Sendings(pub u64, pub Arc<AtomicU64>);

impl ApiClient {
    /// `authority`: whom the layer was made for.
    pub fn new(http2: bool, authority: &str, trace: &Trace) -> Self {
        Self { client: hyper(http2), authority: authority.into(), trace: trace.clone() }
    }
}

impl Service<Request<Full<Bytes>>> for ApiClient {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Boxed<Response<Incoming>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let Sendings(number, sent) = request.extensions().get().cloned().expect("every request has it");
        let attempt = sent.fetch_add(1, Ordering::Relaxed) as usize + 1;
        let value = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer a")?.parse().ok());
        let is_home = request.uri().authority().is_some_and(|authority| *authority == *self.authority);
        self.trace.note(Happened::Sent { request: number, attempt, token, is_home });
        request.headers_mut().insert(REQUEST, HeaderValue::from(number));
        request.headers_mut().insert(ATTEMPT, HeaderValue::from(attempt));
        let (trace, captured) = (self.trace.clone(), capture_connection(&mut request));
        let answered = self.client.request(request);
        Box::pin(async move {
            let answered = timeout(Duration::from_millis(ANSWER_TIMEOUT), answered).await;
            let answer = match &answered {
                Ok(Ok(response)) => Answer::Whole(response.status().as_u16()),
                Ok(Err(error)) => Answer::Failed(chain(error)),
                Err(_) => Answer::GivenUp,
            };
            trace.note(Happened::Answered { request: number, attempt, port: port(&captured), answer });
            Ok(answered.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
        })
    }
}

/// For the token endpoint.
#[derive(Clone)]
pub struct TokenClient {
    client: Hyper,
    trace: Trace,
    /// How many there were, and how many are under way.
    exchanges: Arc<AtomicU64>,
    under_way: Arc<AtomicU64>,
}

impl TokenClient {
    pub fn new(http2: bool, trace: &Trace) -> Self {
        Self { client: hyper(http2), trace: trace.clone(), exchanges: Arc::default(), under_way: Arc::default() }
    }
}

impl Service<Request<Full<Bytes>>> for TokenClient {
    type Response = Response<Watched>;
    type Error = BoxError;
    type Future = Boxed<Response<Watched>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let exchange = self.exchanges.fetch_add(1, Ordering::Relaxed) + 1;
        let at_once = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.trace.note(Happened::Asked { exchange, at_once });
        request.headers_mut().insert(EXCHANGE, HeaderValue::from(exchange));
        let captured = capture_connection(&mut request);
        let (trace, under_way) = (self.trace.clone(), self.under_way.clone());
        // From here on it ends in any case.
        let mut exchange = Exchange { exchange, trace, under_way, captured, is_over: false };
        let answered = self.client.request(request);
        Box::pin(async move {
            match answered.await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    Ok(response.map(|body| Watched { body, status, exchange }))
                }
                Err(error) => {
                    exchange.ends(Answer::Failed(chain(&error)));
                    Err(error.into())
                }
            }
        })
    }
}

/// One that is under way until it is over or dropped.
struct Exchange {
    exchange: u64,
    trace: Trace,
    under_way: Arc<AtomicU64>,
    captured: CaptureConnection,
    is_over: bool,
}

impl Exchange {
    fn ends(&mut self, answer: Answer) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            self.trace.note(Happened::Brought { exchange: self.exchange, port: port(&self.captured), answer });
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.ends(Answer::GivenUp);
    }
}

/// The body of an answer of the token endpoint.
pub struct Watched {
    body: Incoming,
    status: u16,
    exchange: Exchange,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => {
                let answer = Answer::Whole(self.status);
                self.exchange.ends(answer);
            }
            Some(Err(error)) => self.exchange.ends(Answer::Failed(chain(error))),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client's end of the connection that a request was sent on last.
fn port(captured: &CaptureConnection) -> Option<Port> {
    let mut extensions = http::Extensions::new();
    captured.connection_metadata().as_ref()?.get_extras(&mut extensions);
    extensions.get::<HttpInfo>().map(|info| info.local_addr().port())
}

/// An error with its causes.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
