//! What the server records for a test to read: token requests, and counts of answers.

pub(crate) mod api_counts;
pub(crate) mod password_counts;
pub(crate) mod token_request;

mod multipart;
