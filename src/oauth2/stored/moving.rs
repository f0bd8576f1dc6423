//! From one name or place to another.

use super::{Grant, Stored};
use crate::store::{
    StoreError, Swap, TokenStore,
    record::{Record, Unreadable},
};

impl<G: Grant, S: TokenStore> Stored<G, S> {
    /// Takes up what is stored under another name, or in another store: the user's name in
    /// [`RefreshToken::subject`](crate::oauth2::RefreshToken::subject) is written in another way, the server has another host, or tokens
    /// move from files to Redis. Nothing is left there.
    ///
    /// Call it at each start until everything has moved: where nothing is left to take up it does nothing, and what was authorized
    /// here later stays. When the process dies in between, the next call goes on. Stop the processes that use the old name first.
    ///
    /// It is for the same refresh token under another name. When the *client* is another one, the user must authorize again: a refresh
    /// token belongs to the client that it was issued to (RFC 6749 §6).
    ///
    /// ```
    /// # use tower_bearer::oauth2::{RefreshToken, Stored, TokenEndpoint};
    /// # use tower_bearer::store::{FileStore, StoreError};
    /// # async fn begin(endpoint: TokenEndpoint) -> Result<(), StoreError> {
    /// let before = RefreshToken::new(endpoint.clone()).subject("anna@example.com");
    /// let before = Stored::in_store(before, FileStore::new("/var/lib/app/anna.token"));
    /// let grant = RefreshToken::new(endpoint).subject("user/42");
    /// let source = Stored::in_store(grant, FileStore::new("/var/lib/app/42.token")).moved_from(before).await?;
    /// # drop(source);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if one of the stores fails, or holds something else.
    ///
    /// # Cancel safety
    /// When the future is dropped, the set may be in the old place, in the new one or in both: call it again.
    pub async fn moved_from<H: Grant, T: TokenStore>(self, before: Stored<H, T>) -> Result<Self, StoreError> {
        let (old, new) = (&before.keeper, &self.keeper);
        loop {
            let (record, old_version) = match old.read().await? {
                (Ok(record), version) => (record, version),
                // In one place, and there already.
                (Err(Unreadable::Foreign { owner, .. }), _) if owner == *new.account.owner() => return Ok(self),
                (Err(unreadable), _) => return Err(unreadable.into_error(&old.account)),
            };
            if record.set.is_none() {
                return Ok(self);
            }
            let (there, version, in_one_place) = match new.read().await? {
                (Ok(there), version) => (there, version, false),
                (Err(Unreadable::Foreign { owner, .. }), version) if owner == *old.account.owner() => {
                    (Record::default(), version, true)
                }
                (Err(unreadable), _) => return Err(unreadable.into_error(&new.account)),
            };
            let is_newer = (record.authorized_at, record.renewals) > (there.authorized_at, there.renewals);
            if is_newer && new.swap(version, &record).await? == Swap::Lost {
                continue;
            }
            // Whoever still uses the old name finds that it was taken away.
            if in_one_place
                || old.swap(old_version, &record.authorized(None, old.account.asks(), old.time.wall())).await?
                    == Swap::Done
            {
                return Ok(self);
            }
        }
    }
}
