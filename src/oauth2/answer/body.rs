//! The body of an answer, read up to a limit.

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use crate::BoxError;

/// What was read of a body.
pub(crate) struct Read {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) end: End,
}

/// How it ended.
pub(crate) enum End {
    Whole,
    TooLong,
    Broke(BoxError),
}

/// Reads a body of at most so many bytes.
pub(crate) async fn read(mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin, longest: usize) -> Read {
    let mut read = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        // A body that is always ready and never ends (of empty frames) would leave no room for the timeout around this.
        tokio::task::consume_budget().await;
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Read { bytes: read, end: End::Broke(error) },
        };
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > longest {
            return Read { bytes: read, end: End::TooLong };
        }
        if read.capacity() < read.len() + data.len() {
            // Grown by hand, because a `Vec` that grows leaves what it held in memory that nobody wipes.
            let mut longer = Zeroizing::new(Vec::with_capacity((2 * (read.len() + data.len())).min(longest)));
            longer.extend_from_slice(&read);
            read = longer;
        }
        read.extend_from_slice(&data);
    }
    Read { bytes: read, end: End::Whole }
}

/// How many bytes of an answer are read. Those of real servers have one to ten KiB; a success may bring a refresh token that can't be had
/// again, so that it may be longer.
pub(crate) fn longest(status: StatusCode) -> usize {
    if status.is_success() { 1024 * 1024 } else { 64 * 1024 }
}
