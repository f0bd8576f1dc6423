//! An API that answers before it has read the request: what replays have to cope with.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, SizeHint};
use http_body_util::BodyExt;
use tower::{BoxError, Service};

use super::{ok, refused};

/// An API that refuses the first token after it has read some frames of the body, and the next as well if told so.
#[derive(Clone)]
pub struct Hasty {
    reads: usize,
    refuses: u64,
    calls: Arc<AtomicU64>,
    /// What came with each call, and how it ended.
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub size_hint: SizeHint,
    pub data: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub end: End,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum End {
    #[default]
    StillSending,
    Whole,
    Error(String),
}

impl Hasty {
    pub fn new(reads: usize) -> Self {
        Self { reads, refuses: 1, calls: Arc::default(), seen: Arc::default() }
    }

    /// How many calls it refuses, one unless said.
    pub fn refuses(mut self, calls: u64) -> Self {
        self.refuses = calls;
        self
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Reads up to so many frames. `false` if there are no more.
    pub async fn read<B: Body<Data = Bytes, Error: Into<BoxError>>>(
        &self,
        call: usize,
        body: &mut Pin<Box<B>>,
        frames: usize,
    ) -> bool {
        for _ in 0..frames {
            let frame = body.frame().await;
            let seen = &mut self.seen.lock().unwrap()[call];
            match frame {
                None => seen.end = End::Whole,
                Some(Err(error)) => seen.end = End::Error(error.into().to_string()),
                Some(Ok(frame)) => {
                    match frame.into_data() {
                        Ok(data) => seen.data.extend_from_slice(&data),
                        Err(frame) => seen.trailers = frame.into_trailers().ok(),
                    }
                    continue;
                }
            }
            return false;
        }
        true
    }
}

impl<B> Service<Request<B>> for Hasty
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<String>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let number = this.calls.fetch_add(1, Ordering::SeqCst);
        let mut body = Box::pin(request.into_body());
        this.seen.lock().unwrap().push(Seen { size_hint: body.size_hint(), ..Seen::default() });
        let call = this.seen.lock().unwrap().len() - 1;
        Box::pin(async move {
            let refused_early = number < this.refuses;
            if this.read(call, &mut body, if refused_early { this.reads } else { usize::MAX }).await {
                // As a client's connection does: it goes on sending while the answer is there already.
                tokio::spawn(async move { this.read(call, &mut body, usize::MAX).await });
            } else if let End::Error(error) = &this.seen()[call].end {
                return Err(error.clone().into());
            }
            Ok(if refused_early { refused() } else { ok() })
        })
    }
}
