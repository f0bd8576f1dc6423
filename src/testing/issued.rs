//! What the server issued.

pub(crate) mod code_challenge;
pub(crate) mod codes;
pub(crate) mod tokens;
