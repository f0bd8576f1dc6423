//! Fetching while the store can't be used.

use std::sync::Arc;

use tracing::warn;

use super::{
    Grant, Handed, Keeper, TARGET,
    memo::{Place, Unsaved},
    plan,
};
use crate::{
    FetchError, FetchRequest,
    panics::contained,
    store::{StoreError, TokenStore},
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Without a store: only what can be repeated goes on.
    pub(super) async fn renew_alone(
        self: &Arc<Self>,
        error: StoreError,
        request: &FetchRequest,
    ) -> Result<Handed, FetchError> {
        self.memo().unreachable = true;
        let held = self.inbox.held();
        if !self.grant.is_repeatable(held.as_ref()) || self.memo().unsaved.as_ref().is_some_and(Unsaved::is_spent) {
            return Err(error.into());
        }
        contained(|| warn!(target: TARGET, %error, "the token store failed"));
        let sent = self.time.now();
        let mut brought = self.exchange(held.as_ref(), request.timeout()).await?;
        if let Some(flaw) = brought.flaw.take() {
            return Err(flaw);
        }
        let set = brought.succeed(held.as_ref());
        // What the store has is what it had before the first of these.
        let before = self.memo().unsaved.as_ref().map_or(held, |unsaved| unsaved.before().cloned());
        let authorized_at = self.memo().newest.authorized_at();
        self.keep_unsaved(set.clone(), Place::Free(before), authorized_at);
        self.save_later();
        self.hand_on(&set, self.time.now().since(sent))
    }

    /// What is not stored is used as long as it is good, and so is what the configuration begins with.
    pub(super) fn make_do(&self, request: &FetchRequest) -> Option<Result<Handed, FetchError>> {
        let set = {
            let memo = self.memo();
            let set = memo.unsaved.as_ref().map(|unsaved| unsaved.set.clone()).or_else(|| self.inbox.seed())?;
            plan::is_worth_handing_on(&set, &self.question(&memo, request)).then_some(set)?
        };
        self.memo().unreachable = true;
        Some(self.hand_on(&set, set.age(self.time.wall())))
    }
}
