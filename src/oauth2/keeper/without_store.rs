//! Fetching while the store can't be used.

use std::sync::Arc;

use tracing::warn;

use super::{
    AgedToken, Grant, Keeper, TARGET,
    memo::{Replaces, Unsaved},
    plan,
};
use crate::{
    FetchError, FetchRequest,
    panics::contained,
    store::{StoreError, TokenStore},
};

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Exchanges if that can be repeated. Otherwise nothing is spent: that is the store's error.
    pub(super) async fn renew_without_store(
        self: &Arc<Self>,
        error: StoreError,
        request: &FetchRequest,
    ) -> Result<AgedToken, FetchError> {
        self.memo().went_without_store = true;
        let held = self.inbox.in_use();
        let has_irreplaceable = self.memo().unsaved.as_ref().is_some_and(Unsaved::is_irreplaceable);
        if !self.grant.is_repeatable(held.as_ref()) || has_irreplaceable {
            return Err(error.into());
        }
        contained(|| warn!(target: TARGET, %error, "the token store failed"));
        let sent = self.time.now();
        let mut brought = self.exchange(held.as_ref(), request.timeout()).await?;
        if let Some(flaw) = brought.flaw.take() {
            return Err(flaw);
        }
        let set = brought.succeed(held.as_ref());
        // The store has what was there before the first of these sets.
        let before = self.memo().unsaved.as_ref().map_or(held, |unsaved| unsaved.before().cloned());
        let authorized_at = self.memo().newest.authorized_at();
        self.keep_unsaved(set.clone(), Replaces::Fetched(before), authorized_at);
        self.save_later();
        self.hand_on(&set, self.time.now().since(sent))
    }

    /// Hands on the set that isn't stored yet, or the initial one, if its access token is good.
    pub(super) fn hand_on_unsaved(&self, request: &FetchRequest) -> Option<Result<AgedToken, FetchError>> {
        let set = {
            let memo = self.memo();
            let set = memo.unsaved.as_ref().map(|unsaved| unsaved.set.clone()).or_else(|| self.inbox.initial())?;
            plan::is_worth_handing_on(&set, &self.question(&memo, request)).then_some(set)?
        };
        self.memo().went_without_store = true;
        Some(self.hand_on(&set, set.age(self.time.wall())))
    }
}
