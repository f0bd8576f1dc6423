//! The request path: the layer, the service it makes, and the future of a request.
//!
//! In the order of a request's way: `layer` (with `ext`, its short form) and `service`, `origin` (may it carry the token?),
//! `options` (does this request, or this layer, want something else?), `replay` (can it be sent again?), `future` (send → 401 →
//! renew → send; its rarer states are in `cold`, the `deadline` of gRPC calls limits them, `held` is the 401 meanwhile), `challenge` (is this
//! answer about the token?). `request` says which types all of this works on; `tonic` and `reqwest_middleware` are for stacks that aren't
//! tower's.

use std::time::Duration;

use crate::{
    LiveToken,
    clock::{Moment, Stamp},
    live::{CellView, Generation, Sharded, TokenId},
};

mod challenge;
mod cold;
mod deadline;
#[cfg(feature = "tower")]
mod ext;
mod future;
mod held;
mod layer;
mod options;
mod origin;
pub mod replay;
mod request;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
mod service;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(fuzzing)]
pub(crate) use challenge::is_refusal;
#[cfg(feature = "tower")]
pub use ext::ServiceBuilderExt;
pub use future::ResponseFuture;
pub use layer::BearerAuthLayer;
use options::Judge;
pub use options::{OnUnauthorized, PerRequest};
pub use origin::{InvalidOrigin, Origin};
pub use request::{HttpRequest, HttpResponse};
pub use service::BearerAuth;
#[cfg(feature = "tonic")]
pub use tonic::{TonicAuth, TonicAuthLayer, TonicResponseFuture};

/// What all services of one layer share.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    token: LiveToken,
    view: CellView,
    fence: origin::Fence,
    max_wait: Duration,
    keeps_authorization: bool,
    asks_requests: bool,
    judge: Option<Judge>,
    /// One of the three options above is set, so no request gets the header before it was inspected.
    inspects_requests: bool,
}

impl Link {
    /// A layer that inspects requests gives its services an empty cell. They find no token in it, so every request takes the path for requests
    /// without one (`call_rarely`), which inspects it. Other layers pay nothing for that: no further condition on their path.
    fn share(mut self) -> Sharded<Self> {
        self.inspects_requests = self.keeps_authorization || self.asks_requests || self.judge.is_some();
        self.view = CellView::of(if self.inspects_requests { self.token.empty_cell() } else { self.token.cell() });
        Sharded::new(self)
    }

    /// What this request wants for itself, if it is asked.
    fn wishes_of(&self, request: &impl HttpRequest) -> PerRequest {
        let wishes = request.extensions().filter(|_| self.asks_requests).and_then(|all| all.get());
        wishes.copied().unwrap_or_default()
    }

    /// How long this request may wait for a token, if it has to be done by then.
    fn max_wait(&self, request: &impl HttpRequest, ends: Option<Moment>) -> Duration {
        let wait = self.wishes_of(request).wait().unwrap_or(self.max_wait);
        ends.map_or(wait, |ends| wait.min(ends.since(self.token.time().now())))
    }

    /// When a call must be done that was begun then, or now.
    fn deadline(&self, request: &impl HttpRequest, began: Option<&Stamp>) -> Option<Moment> {
        let timeout = deadline::timeout(request.headers())?;
        let time = self.token.time();
        Some(began.map_or_else(|| time.now(), |began| time.at(began)) + timeout)
    }
}

/// What a refusal is judged by.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    /// The token to renew; nobody's if none is.
    token: TokenId,
    /// What the request was sent with.
    generation: Generation,
    sent_to: request::sealed::Mark,
    /// Whether its sender expects it to be sent again.
    replays: bool,
}
