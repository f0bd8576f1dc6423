//! The ways in for `fuzz/`, to what is private. Compiled with `--cfg fuzzing` only, which cargo-fuzz sets, and no part of the API:
//! it may change in any release.

#[cfg(feature = "oauth2")]
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

#[cfg(feature = "oauth2")]
use crate::{
    FetchError,
    oauth2::{self, Arrived, AuthorizationError, GrantKind, Masks, PendingAuthorization, TokenSet},
};

/// Reads a response of a token endpoint to a request with this grant type in which `sent` was secret.
///
/// # Errors
/// What users get for it.
#[cfg(feature = "oauth2")]
pub fn token_answer(
    grant_type: &str,
    sent: &str,
    status: StatusCode,
    headers: HeaderMap,
    body: &[u8],
) -> Result<TokenSet, FetchError> {
    let arrived = Arrived {
        endpoint: "https://id.test/token".into(),
        status,
        headers,
        body: body.to_vec().into(),
        broken: None,
        masks: Masks::new([sent].into_iter()),
        shape: Default::default(),
        requested_at: SystemTime::UNIX_EPOCH,
        answered_at: SystemTime::UNIX_EPOCH,
    };
    arrived.token_set(GrantKind::of(Some(grant_type)))
}

/// The code in a callback, which comes right after 1970 began.
///
/// # Errors
/// What users get for it.
#[cfg(feature = "oauth2")]
pub fn callback_code(callback: &str, pending: &PendingAuthorization) -> Result<String, AuthorizationError> {
    oauth2::code(callback, pending, SystemTime::UNIX_EPOCH).map(|code| code.to_string())
}

/// Whether a response refuses the token that the request carried.
#[must_use]
pub fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    crate::bearer::is_refusal(status, headers)
}
