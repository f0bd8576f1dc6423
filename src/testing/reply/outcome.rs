//! What the connection does with a request: it sends a reply, stays silent, or closes.

use std::time::Duration;

use super::Reply;

/// What happens to a request, and after which wait.
pub(crate) struct Outcome {
    pub(crate) wait: Duration,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Reply(Reply, Delivery),
    /// The connection stays open, and nothing is ever sent.
    Hang,
    /// The connection is closed without a reply.
    Close,
}

/// How the body of a reply is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    Whole,
    /// The first half. `Content-Length` announces all of it.
    Truncated,
    /// Filled up with white space to this many bytes.
    Padded(usize),
    /// A byte at a time. The last one is sent after this time.
    Drip(Duration),
}

impl Outcome {
    /// The whole reply at once.
    pub(crate) fn now(reply: Reply) -> Self {
        Self { wait: Duration::ZERO, action: Action::Reply(reply, Delivery::Whole) }
    }

    /// Adds to the wait.
    pub(crate) fn after(mut self, wait: Duration) -> Self {
        self.wait = self.wait.saturating_add(wait);
        self
    }
}
