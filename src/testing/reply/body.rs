//! The body of a response. It can break off, be padded, or drip byte by byte.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Reply, outcome::Delivery};

/// The data, and how it is sent.
pub(crate) struct ReplyBody {
    data: Bytes,
    /// Spaces after the data.
    filler: u64,
    /// Bytes that `Content-Length` counts but that are never sent. The connection is closed instead.
    missing: u64,
    drip: Option<Drip>,
    /// Hyper had time to send its buffer.
    flushed: bool,
}

/// A byte at a time.
struct Drip {
    total: Duration,
    bytes: usize,
    /// When the first poll was, and the wait for the next byte.
    since: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl ReplyBody {
    pub(crate) fn whole(reply: Reply) -> Response<Self> {
        Self::response(reply, Delivery::Whole)
    }

    pub(crate) fn response(reply: Reply, delivery: Delivery) -> Response<Self> {
        let mut response = Response::new(Self::new(reply.content.into_bytes(), delivery));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        response
    }

    fn new(data: Bytes, delivery: Delivery) -> Self {
        let mut body = Self { data, filler: 0, missing: 0, drip: None, flushed: false };
        let bytes = body.data.len();
        match delivery {
            Delivery::Whole => {}
            Delivery::Truncated => {
                body.data.truncate(bytes / 2);
                body.missing = (bytes - bytes / 2).max(1) as u64;
            }
            Delivery::Padded(to) => body.filler = to.saturating_sub(bytes) as u64,
            Delivery::Drip(total) => body.drip = Some(Drip { total, bytes, since: None }),
        }
        body
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let next = if !this.data.is_empty() {
            match &mut this.drip {
                None => std::mem::take(&mut this.data),
                Some(drip) => {
                    ready!(drip.poll_due(this.data.len(), cx));
                    this.data.split_to(1)
                }
            }
        } else if this.filler > 0 {
            let len = FILLER.len().min(usize::try_from(this.filler).unwrap_or(usize::MAX));
            this.filler -= len as u64;
            Bytes::from_static(&FILLER[..len])
        } else if this.missing == 0 {
            return Poll::Ready(None);
        } else if !this.flushed {
            // After an error hyper drops its buffer. A pause before makes it send the buffer.
            this.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        } else {
            return Poll::Ready(Some(Err(io::Error::other("body cut on purpose"))));
        };
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.filler == 0 && self.missing == 0
    }

    /// The value of `Content-Length`.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64 + self.filler + self.missing)
    }
}

impl Drip {
    /// Byte n is due after n/bytes of the total time, so the last one is due at its end, however coarse the timer is.
    fn poll_due(&mut self, left: usize, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let (since, sleep) = self.since.get_or_insert_with(|| (now, Box::pin(sleep_until(now))));
        let share = (self.bytes - left + 1) as f64 / self.bytes as f64;
        let due = *since + self.total.mul_f64(share);
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody").field("length", &self.size_hint().exact()).finish_non_exhaustive()
    }
}

static FILLER: [u8; 64 << 10] = [b' '; 64 << 10];
