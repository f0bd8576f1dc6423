//! What the server issued: access tokens, refresh tokens and authorization codes.

use std::{iter, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::testing::rules::Rules;

pub(crate) mod code_challenge;
pub(crate) mod codes;
pub(crate) mod tokens;

use codes::{Authorization, Codes};
use tokens::{Subject, Tokens};

/// Everything that the server issued and still remembers.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) access: Tokens,
    pub(crate) refresh: Tokens,
    pub(crate) codes: Codes,
    /// How often a spent refresh token was used again.
    pub(crate) reuse_detections: u64,
    families: u64,
}

impl Issued {
    pub(crate) fn new(token_len: usize, remember: usize) -> Self {
        Self {
            access: Tokens::new(token_len, remember),
            refresh: Tokens::new(token_len, remember),
            codes: Codes::new(remember),
            reuse_detections: 0,
            families: 0,
        }
    }

    /// Issues a random access token, or the `chosen` one.
    pub(crate) fn issue_access_token(
        &mut self,
        chosen: Option<String>,
        lifetime: Option<Duration>,
        subject: Subject,
        now: Instant,
    ) -> Arc<str> {
        self.access.issue(chosen, end(now, lifetime), subject)
    }

    pub(crate) fn issue_refresh_token(&mut self, subject: Subject, rules: &Rules, now: Instant) -> Arc<str> {
        self.refresh.issue(None, end(now, rules.refresh_lifetime), subject)
    }

    /// Issues a code for what a user has authorized.
    pub(crate) fn issue_code(&mut self, mut authorization: Authorization, rules: &Rules, now: Instant) -> String {
        authorization.subject.family = Some(self.new_family());
        authorization.expires = end(now, Some(rules.code_lifetime));
        let code: String = iter::repeat_with(fastrand::alphanumeric).take(CODE_LEN).collect();
        self.codes.add(code.clone(), authorization);
        code
    }

    /// The number of a new token family: all tokens that come from one authorization have the same number.
    pub(crate) fn new_family(&mut self) -> u64 {
        self.families += 1;
        self.families
    }

    /// Revokes all tokens of a family.
    pub(crate) fn revoke_family(&mut self, family: Option<u64>, now: Instant) {
        if let Some(family) = family {
            self.access.revoke_family(family, now);
            self.refresh.revoke_family(family, now);
        }
    }
}

/// When a lifetime ends. `None` if it has no end.
fn end(now: Instant, lifetime: Option<Duration>) -> Option<Instant> {
    lifetime.and_then(|lifetime| now.checked_add(lifetime))
}

/// As long as the tokens are by default.
const CODE_LEN: usize = 43;
