//! The token endpoint.

pub(crate) mod grant_request;
pub(crate) mod grants;
