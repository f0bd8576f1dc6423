//! What a live token gets of a token set: the access token, and how old it is.

use std::time::Duration;

use super::{Grant, TokenSet, keeper::Keeper};
use crate::{
    AccessToken, FetchError,
    clock::Moment,
    store::{TokenStore, record::Record},
};

/// An access token, and how old it was at which moment.
pub(super) struct Handed {
    pub(super) token: AccessToken,
    pub(super) age: Duration,
    pub(super) at: Moment,
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// A set out of the store. If it is a question whether it will ever be followed by another, that is answered soon.
    pub(super) fn hand_on_stored(&self, record: &Record, set: &TokenSet) -> Result<Handed, FetchError> {
        let now = self.time.now();
        self.memo().resolve_at = match record {
            Record { dead: Some(_), .. } => Some(now),
            Record { intent: Some(_), .. } => Some(now + self.options.lease),
            _ => None,
        };
        self.hand_on(set, set.age(self.time.wall()))
    }

    pub(super) fn hand_on(&self, set: &TokenSet, age: Duration) -> Result<Handed, FetchError> {
        let token = set.to_access_token(age, self.time.wall());
        let token = token.ok_or_else(|| FetchError::try_again("there is no access token in the set"))??;
        self.inbox.hold(Some(set));
        self.memo().handed.clone_from(&set.access_token);
        Ok(Handed { token, age, at: self.time.now() })
    }
}
