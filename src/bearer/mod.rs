//! The request path: the layer, the service it makes, and the future of a request.
//!
//! In the order of a request's way: `layer` and `service`, `origin` (may it carry the token?), `replay` (can it be sent again?),
//! `future` (send → 401 → renew → send), `challenge` (is this answer about the token?). `request` says which types all of this
//! works on.

use std::time::Duration;

use crate::{LiveToken, live::TokenId};

mod challenge;
mod future;
mod layer;
mod origin;
pub mod replay;
mod request;
mod service;

#[cfg(fuzzing)]
pub(crate) use challenge::is_refusal;
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
}

impl Link {
    /// The token to renew after a 401; nobody's if none is.
    #[inline]
    fn renews(&self) -> TokenId {
        if self.recovers { self.token.id() } else { TokenId::NONE }
    }
}
