//! What the server recorded.

mod multipart;
pub(crate) mod token_request;
