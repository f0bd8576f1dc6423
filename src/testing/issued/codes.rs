//! Authorization codes. A code can be exchanged once, within its lifetime, by the client that requested it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use tokio::time::Instant;

use super::{code_challenge, tokens::Subject};

/// What a user has authorized, until the code is exchanged.
#[derive(Clone)]
pub(crate) struct Authorization {
    /// It has the family of the tokens that the exchange will issue.
    pub(crate) subject: Subject,
    /// The `redirect_uri` of the authorization request, if it had one. The exchange must repeat it.
    pub(crate) redirect_uri: Option<String>,
    /// The code challenge of PKCE.
    pub(crate) challenge: Option<String>,
    pub(crate) expires: Option<Instant>,
}

/// What the client sends along with a code.
pub(crate) struct Exchange<'a> {
    pub(crate) client: &'a str,
    pub(crate) redirect_uri: Option<&'a str>,
    /// Some providers don't require it again.
    pub(crate) redirect_uri_needed: bool,
    /// The code verifier of PKCE.
    pub(crate) verifier: Option<&'a str>,
}

/// The newest codes. Older ones are forgotten, so memory stays bounded.
pub(crate) struct Codes {
    /// Each with whether it was used.
    codes: HashMap<String, (Authorization, bool)>,
    order: VecDeque<String>,
    remember: usize,
}

/// Why a code is rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CodeError {
    /// It is unknown or expired, or the rest of the request doesn't match it.
    Invalid(&'static str),
    /// It was used before. The tokens of its family should be revoked (RFC 6749 §4.1.2).
    Used { family: Option<u64> },
}

impl Codes {
    pub(crate) fn new(remember: usize) -> Self {
        Self { codes: HashMap::new(), order: VecDeque::new(), remember }
    }

    pub(crate) fn add(&mut self, code: String, authorization: Authorization) {
        if self.order.len() == self.remember
            && let Some(oldest) = self.order.pop_front()
        {
            self.codes.remove(&oldest);
        }
        self.order.push_back(code.clone());
        self.codes.insert(code, (authorization, false));
    }

    /// Uses the code. If an error is returned, the code stays unused.
    pub(crate) fn exchange(&mut self, code: &str, by: &Exchange<'_>, now: Instant) -> Result<Authorization, CodeError> {
        let (authorization, used) = self.codes.get_mut(code).ok_or(CodeError::Invalid("unknown code"))?;
        if *authorization.subject.client != *by.client {
            return Err(CodeError::Invalid("the code was given to another client"));
        }
        if *used {
            return Err(CodeError::Used { family: authorization.subject.family });
        }
        authorization.check(by, now).map_err(CodeError::Invalid)?;
        *used = true;
        Ok(authorization.clone())
    }
}

impl Authorization {
    fn check(&self, by: &Exchange<'_>, now: Instant) -> Result<(), &'static str> {
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err("the code expired");
        }
        let redirect_uri = self.redirect_uri.as_deref();
        if by.redirect_uri != redirect_uri && (by.redirect_uri_needed || by.redirect_uri.is_some()) {
            return Err("not the redirect_uri that the code was asked with");
        }
        match (&self.challenge, by.verifier) {
            (None, None) => Ok(()),
            (Some(challenge), Some(verifier)) if code_challenge::verifies(verifier, challenge) => Ok(()),
            (Some(_), Some(_)) => Err("not the code_verifier of the code_challenge"),
            (Some(_), None) => Err("no code_verifier"),
            // RFC 9700 §4.8.2: an attacker may have removed the challenge from the authorization request.
            (None, Some(_)) => Err("a code_verifier without a code_challenge"),
        }
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes").field("remembered", &self.codes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BY: Exchange<'_> =
        Exchange { client: "c", redirect_uri: Some("r:/"), redirect_uri_needed: true, verifier: None };

    fn codes(now: Instant) -> Codes {
        let mut codes = Codes::new(1);
        let subject = Subject { client: "c".into(), family: Some(7), ..Subject::default() };
        let expires = Some(now + Duration::from_secs(1));
        codes.add("x".into(), Authorization { subject, redirect_uri: Some("r:/".into()), challenge: None, expires });
        codes
    }

    #[test]
    fn a_code_works_once_and_a_rejected_exchange_does_not_use_it() {
        let now = Instant::now();
        let mut codes = codes(now);
        for by in [
            Exchange { client: "d", ..BY },
            Exchange { redirect_uri: None, ..BY },
            Exchange { redirect_uri: Some("r:/x"), redirect_uri_needed: false, ..BY },
            Exchange { verifier: Some("v"), ..BY },
        ] {
            assert!(matches!(codes.exchange("x", &by, now), Err(CodeError::Invalid(_))));
        }
        assert!(matches!(codes.exchange("y", &BY, now), Err(CodeError::Invalid(_))));
        assert!(matches!(codes.exchange("x", &BY, now + Duration::from_secs(1)), Err(CodeError::Invalid(_))));
        assert!(codes.exchange("x", &BY, now).is_ok());
        assert_eq!(codes.exchange("x", &BY, now).err(), Some(CodeError::Used { family: Some(7) }));
    }

    #[test]
    fn the_redirect_uri_may_be_optional_and_the_oldest_code_is_forgotten() {
        let now = Instant::now();
        let mut once = codes(now);
        assert!(once.exchange("x", &Exchange { redirect_uri: None, redirect_uri_needed: false, ..BY }, now).is_ok());
        let mut codes = codes(now);
        let (another, _) = codes.codes["x"].clone();
        codes.add("y".into(), another);
        assert!(codes.exchange("x", &BY, now).is_err() && codes.exchange("y", &BY, now).is_ok());
    }
}
