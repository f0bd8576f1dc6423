//! The bodies that requests have: empty, in memory, or a stream. While one is anywhere in memory, the world knows.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use tokio::time::{Sleep, sleep};
use tower::BoxError;

use crate::{plan, world::api::byte};

/// What every body can be boxed as.
pub type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// A body whose clones begin anew.
pub struct Parcel {
    content: Bytes,
    streams: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Bytes that hold a mark of the world's.
struct Marked {
    bytes: Vec<u8>,
    _mark: Arc<()>,
}

impl AsRef<[u8]> for Marked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Parcel {
    /// The body of this request.
    pub fn of(number: u64, kind: plan::Body, mark: &Arc<()>) -> Self {
        let (length, streams) = match kind {
            plan::Body::Empty => (0, false),
            plan::Body::Whole(length) => (length as usize, false),
            plan::Body::Stream(pieces) => (pieces as usize * PIECE, true),
        };
        let bytes = (0..length).map(|place| byte(number, place)).collect();
        Self { content: Bytes::from_owner(Marked { bytes, _mark: mark.clone() }), streams, pause: None }
    }

    pub fn len(&self) -> usize {
        self.content.len()
    }

    pub fn boxed(self) -> Boxed {
        match (self.streams, self.content.is_empty()) {
            (true, _) => self.map_err(|error| match error {}).boxed_unsync(),
            (false, true) => Empty::new().map_err(|error| match error {}).boxed_unsync(),
            (false, false) => Full::new(self.content).map_err(|error| match error {}).boxed_unsync(),
        }
    }

    pub fn full(self) -> Full<Bytes> {
        Full::new(self.content)
    }
}

impl Clone for Parcel {
    fn clone(&self) -> Self {
        Self { content: self.content.clone(), streams: self.streams, pause: None }
    }
}

impl Body for Parcel {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.content.is_empty() {
            return Poll::Ready(None);
        }
        let length = if self.streams { PIECE.min(self.content.len()) } else { self.content.len() };
        let piece = self.content.split_to(length);
        self.pause = self.streams.then(|| Box::pin(sleep(PAUSE)));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty() && self.pause.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}

const PIECE: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);
