//! Carries out the grants: client credentials, password, authorization code, refresh token, and others like the first (RFC 6749 §4, §6).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::grant_request::{Grant, GrantRequest};
use crate::testing::{
    issued::{
        Issued,
        codes::{CodeError, Exchange},
        tokens::{Standing, Subject},
    },
    reply::error_response::ErrorResponse,
    rules::Rules,
};

/// The tokens that a request gets.
pub(crate) struct Granted {
    pub(crate) access: Arc<str>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh: Option<Arc<str>>,
    pub(crate) scope: Option<Arc<str>>,
}

impl Issued {
    /// Carries out a grant. If a fault has `chosen` an access token, that one is issued.
    pub(crate) fn grant(
        &mut self,
        request: GrantRequest<'_>,
        rules: &mut Rules,
        chosen: Option<String>,
        now: Instant,
    ) -> Result<Granted, ErrorResponse> {
        let GrantRequest { client, grant, lifetime } = request;
        let (subject, refresh) = match grant {
            Grant::ClientCredentials { scope } | Grant::Extension { scope } => {
                // RFC 6749 §4.4.3: no refresh token. The client can repeat its request. An extension grant is treated alike.
                (Subject { client, scope: scope.map(Into::into), ..Subject::default() }, None)
            }
            Grant::Password { user, password, scope } => {
                if !rules.users.check(user, password) {
                    return Err(ErrorResponse::password());
                }
                let family = Some(self.new_family());
                let subject = Subject { client, user: Some(user.into()), scope: scope.map(Into::into), family };
                (subject.clone(), Some(subject))
            }
            Grant::AuthorizationCode { code, redirect_uri, verifier } => {
                let redirect_uri_needed = rules.quirks.redirect_uri_again;
                let by = Exchange { client: &client, redirect_uri, redirect_uri_needed, verifier };
                let subject = self.exchange(code, &by, now)?;
                (subject.clone(), Some(subject))
            }
            Grant::RefreshToken { token, scope } => {
                let (subject, next) = self.spend(token, &client, scope, rules, now)?;
                (subject, rules.rotation.then_some(next))
            }
        };
        let scope = subject.scope.clone();
        let access = self.issue_access_token(chosen, lifetime, subject, now);
        let refresh = refresh.filter(|_| rules.offers("refresh_token"));
        let refresh = refresh.map(|subject| self.issue_refresh_token(subject, rules, now));
        Ok(Granted { access, lifetime, refresh, scope })
    }

    /// Exchanges a code. A code that was used before revokes its tokens (RFC 6749 §4.1.2).
    fn exchange(&mut self, code: &str, by: &Exchange<'_>, now: Instant) -> Result<Subject, ErrorResponse> {
        match self.codes.exchange(code, by, now) {
            Ok(authorization) => Ok(authorization.subject),
            Err(CodeError::Invalid(why)) => Err(ErrorResponse::invalid_grant(why)),
            Err(CodeError::Used { family }) => {
                self.revoke_family(family, now);
                Err(ErrorResponse::invalid_grant("the code was used before"))
            }
        }
    }

    /// Uses a refresh token (RFC 6749 §6). Returns the subject of the access token and that of the next refresh token.
    /// They differ if the client requested a part of the scope: the next refresh token keeps the whole scope.
    fn spend(
        &mut self,
        token: &str,
        client: &str,
        scope: Option<&str>,
        rules: &Rules,
        now: Instant,
    ) -> Result<(Subject, Subject), ErrorResponse> {
        let entry = self.refresh.get_mut(token).ok_or_else(|| ErrorResponse::invalid_grant("unknown refresh token"))?;
        if *entry.subject.client != *client {
            return Err(ErrorResponse::invalid_grant("the refresh token was given to another client"));
        }
        match entry.standing(now) {
            Standing::Live => {}
            Standing::Expired => return Err(ErrorResponse::invalid_grant("the refresh token expired")),
            Standing::Revoked | Standing::Unknown => {
                return Err(ErrorResponse::invalid_grant("the refresh token was revoked"));
            }
        }
        let next = entry.subject.clone();
        if entry.spent.is_some_and(|spent| now.saturating_duration_since(spent) >= rules.refresh_grace) {
            // RFC 9700 §4.14.2: either the client or a thief has used it before. The tokens of both are revoked.
            self.reuse_detections += 1;
            self.revoke_family(next.family, now);
            return Err(ErrorResponse::invalid_grant("the refresh token was used before"));
        }
        let granted = next.scope.as_deref().unwrap_or_default();
        let mut subject = next.clone();
        if let Some(scope) = scope {
            if !scope.split(' ').all(|name| granted.split(' ').any(|known| known == name)) {
                return Err(ErrorResponse::invalid_scope());
            }
            subject.scope = Some(scope.into());
        }
        if rules.rotation {
            // A second use within the grace does not extend the grace.
            entry.spent.get_or_insert(now);
        }
        Ok((subject, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        issued: Issued,
        rules: Rules,
        now: Instant,
    }

    impl Bench {
        /// With a refresh token for the scope `a b`.
        fn new(rules: Rules) -> (Self, Arc<str>) {
            let mut bench = Self { issued: Issued::new(43, 100), rules, now: Instant::now() };
            let family = Some(bench.issued.new_family());
            let subject = Subject { client: "c".into(), scope: Some("a b".into()), family, ..Subject::default() };
            let token = bench.issued.issue_refresh_token(subject, &bench.rules, bench.now);
            (bench, token)
        }

        fn refresh_for(&mut self, token: &str, scope: Option<&str>, after: Duration) -> Result<Granted, &'static str> {
            let grant = Grant::RefreshToken { token, scope };
            let request = GrantRequest { client: "c".into(), grant, lifetime: None };
            let granted = self.issued.grant(request, &mut self.rules, None, self.now + after);
            granted.map_err(|error| if error.code == "invalid_grant" { error.description } else { error.code })
        }

        fn refresh(&mut self, token: &str, after: Duration) -> Result<Granted, &'static str> {
            self.refresh_for(token, None, after)
        }

        fn live(&self, access_token: &str) -> bool {
            self.issued.access.standing(access_token, self.now) == Standing::Live
        }
    }

    #[test]
    fn reuse_ends_the_family_and_is_counted_once() {
        let (mut bench, first) = Bench::new(Rules::default());
        let second = bench.refresh(&first, Duration::ZERO).ok().unwrap();
        let next = second.refresh.unwrap();
        assert!(next != first && bench.live(&second.access));
        assert_eq!(bench.refresh(&first, Duration::ZERO).err(), Some("the refresh token was used before"));
        assert!(!bench.live(&second.access));
        for token in [&next, &first] {
            assert_eq!(bench.refresh(token, Duration::ZERO).err(), Some("the refresh token was revoked"));
        }
        assert_eq!(bench.issued.reuse_detections, 1);
    }

    #[test]
    fn within_the_grace_a_spent_token_is_answered_again() {
        let (mut bench, first) = Bench::new(Rules { refresh_grace: SECOND, ..Rules::default() });
        let lost = bench.refresh(&first, Duration::ZERO).ok().unwrap();
        let again = bench.refresh(&first, SECOND / 2).ok().unwrap();
        assert!(lost.refresh != again.refresh && lost.access != again.access);
        assert!(bench.refresh(&first, SECOND).is_err(), "the replay did not prolong it");
        assert!(bench.refresh(&again.refresh.unwrap(), SECOND).is_err());
        assert_eq!(bench.issued.reuse_detections, 1);
    }

    #[test]
    fn without_rotation_the_token_stays() {
        let (mut bench, token) = Bench::new(Rules { rotation: false, ..Rules::default() });
        for _ in 0..3 {
            assert!(bench.refresh(&token, SECOND).ok().unwrap().refresh.is_none());
        }
        assert_eq!(bench.issued.reuse_detections, 0);
    }

    #[test]
    fn each_refresh_token_lives_as_long_as_the_first() {
        let (mut bench, token) = Bench::new(Rules { refresh_lifetime: Some(2 * SECOND), ..Rules::default() });
        let next = bench.refresh(&token, SECOND).ok().unwrap().refresh.unwrap();
        let last = bench.refresh(&next, 2 * SECOND).ok().unwrap().refresh.unwrap();
        assert_eq!(bench.refresh(&last, 4 * SECOND).err(), Some("the refresh token expired"));
    }

    #[test]
    fn a_refresh_may_ask_for_less_and_the_next_for_all_again() {
        let (mut bench, token) = Bench::new(Rules::default());
        assert_eq!(bench.refresh_for(&token, Some("a c"), SECOND).err(), Some("invalid_scope"), "and spends nothing");
        let less = bench.refresh_for(&token, Some("b"), SECOND).ok().unwrap();
        assert_eq!(less.scope.as_deref(), Some("b"));
        let all = bench.refresh(&less.refresh.unwrap(), SECOND).ok().unwrap();
        assert_eq!(all.scope.as_deref(), Some("a b"));
    }
}
