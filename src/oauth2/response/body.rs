//! Reads the body of a response, up to a limit on its size. `endpoint::exchange` limits the time.

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use crate::BoxError;

/// The part of a body that was read.
pub(crate) struct Read {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) end: End,
}

/// How the body ended.
pub(crate) enum End {
    Whole,
    TooLong,
    Broke(BoxError),
}

/// Reads a body, up to `longest` bytes.
pub(crate) async fn read(mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin, longest: usize) -> Read {
    let mut read = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        // Yields now and then. Otherwise a body that never waits and never ends would keep the timeout from firing.
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
            // Grown by hand: a `Vec` that grows by itself leaves its old memory behind without zeroizing it.
            let mut longer = Zeroizing::new(Vec::with_capacity((2 * (read.len() + data.len())).min(longest)));
            longer.extend_from_slice(&read);
            read = longer;
        }
        read.extend_from_slice(&data);
    }
    Read { bytes: read, end: End::Whole }
}

/// The limit on the size of a body, in bytes. Real responses have one to ten KiB. A success may be longer, because its refresh token can't be
/// fetched again.
pub(crate) fn longest(status: StatusCode) -> usize {
    if status.is_success() { 1024 * 1024 } else { 64 * 1024 }
}
