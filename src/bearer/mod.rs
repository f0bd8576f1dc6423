//! The request path: the layer, the service it makes, and the future of a request.
//!
//! In the order of a request's way: `layer` and `service`, `origin` (may it carry the token?), `replay` (can it be sent again?),
//! `future` (send → 401 → renew → send), `challenge` (is this answer about the token?). `request` says which types all of this
//! works on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tracing::warn;

use crate::LiveToken;

mod challenge;
mod future;
mod layer;
mod origin;
pub mod replay;
mod request;
mod service;

pub use future::ResponseFuture;
pub use layer::BearerAuthLayer;
pub use origin::{InvalidOrigin, Origin};
pub use request::{HttpRequest, HttpResponse};
pub use service::BearerAuth;

/// What all services of one layer share.
#[derive(Debug)]
pub(crate) struct Link {
    token: LiveToken,
    fence: origin::Fence,
    max_wait: Duration,
    recovers: bool,
    warned: AtomicBool,
}

impl Link {
    /// Says once that requests of this type are not sent again.
    fn warn_not_replayed<R>(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                request = std::any::type_name::<R>(),
                "the API refused the token, and a request of this type can't be sent again: the 401 is handed on; \
                 choose another replay policy, or bodies that lie in memory"
            );
        }
    }
}
