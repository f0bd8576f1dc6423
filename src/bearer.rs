//! The request path: the layer, the service it makes, and the future of a request.
//!
//! In the order in which a request travels: `layer` (with `service_builder_ext`, its short form) and `service`; `origin` says whether the
//! request may carry the token; `per_request` has the options of a single request; `replay` decides whether it can be sent again; `future`
//! sends it, and after a 401 renews the token and sends it again. `cold` has the rarer states of that future, `grpc_deadline` the limit of
//! gRPC calls, and `held` the 401 that is kept meanwhile. `challenge` says whether a response is about the token, or the user's own judge
//! in `on_unauthorized`. `request` says for which types all of this works. `tonic` and `reqwest_middleware` are for stacks without tower.

use std::time::Duration;

use crate::{
    LiveToken,
    clock::{Moment, Stamp},
    live::{CellView, Generation, Sharded, TokenId},
};

mod challenge;
mod cold;
mod future;
mod grpc_deadline;
mod held;
mod layer;
mod on_unauthorized;
mod origin;
mod per_request;
pub mod replay;
mod request;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
mod service;
#[cfg(feature = "tower")]
mod service_builder_ext;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(fuzzing)]
pub(crate) use challenge::is_refusal;
pub use future::ResponseFuture;
pub use layer::BearerAuthLayer;
use on_unauthorized::Judge;
pub use on_unauthorized::OnUnauthorized;
pub use origin::{InvalidOrigin, Origin};
pub use per_request::PerRequest;
pub use request::{HttpRequest, HttpResponse};
pub use service::BearerAuth;
#[cfg(feature = "tower")]
pub use service_builder_ext::ServiceBuilderExt;
#[cfg(feature = "tonic")]
pub use tonic::{TonicAuth, TonicAuthLayer, TonicResponseFuture};

/// What all services of a layer share.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    token: LiveToken,
    view: CellView,
    fence: origin::Fence,
    max_wait: Duration,
    keeps_authorization: bool,
    asks_requests: bool,
    judge: Option<Judge>,
    /// One of the three options above is set, so each request is inspected before it gets the header.
    inspects_requests: bool,
}

impl Link {
    /// A layer that inspects requests gives its services an empty cell. They find no token in it, so each request takes the path for
    /// requests without one (`call_rarely`), which inspects it. For other layers this costs nothing: their path has no further condition.
    fn share(mut self) -> Sharded<Self> {
        self.inspects_requests = self.keeps_authorization || self.asks_requests || self.judge.is_some();
        self.view = CellView::of(if self.inspects_requests { self.token.empty_cell() } else { self.token.cell() });
        Sharded::new(self)
    }

    /// The options of this request, if the layer reads them.
    fn wishes_of<R: HttpRequest>(&self, request: &R) -> PerRequest {
        if !self.asks_requests {
            return PerRequest::default();
        }
        let Some(extensions) = request.extensions() else {
            self.token.warn_not_asked::<R>();
            return PerRequest::default();
        };
        extensions.get().copied().unwrap_or_default()
    }

    /// How long this request may wait for a token. `ends`: its deadline.
    fn max_wait(&self, request: &impl HttpRequest, ends: Option<Moment>) -> Duration {
        let wait = self.wishes_of(request).wait().unwrap_or(self.max_wait);
        ends.map_or(wait, |ends| wait.min(ends.since(self.token.time().now())))
    }

    /// The deadline of a call that began at this moment, or now.
    fn deadline(&self, request: &impl HttpRequest, began: Option<&Stamp>) -> Option<Moment> {
        let timeout = grpc_deadline::timeout(request.headers())?;
        let time = self.token.time();
        Some(began.map_or_else(|| time.now(), |began| time.at(began)) + timeout)
    }
}

/// What is needed to judge a response.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    /// The live token to renew after a 401; [`TokenId::NONE`] if none is renewed.
    token: TokenId,
    /// The generation that the request carried.
    generation: Generation,
    sent_to: request::sealed::Mark,
    /// Whether the user expects the request to be sent again.
    replays: bool,
}
