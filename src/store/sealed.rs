//! [`Sealed`]: any store, with its entries encrypted.
//!
//! | module | what it holds |
//! |---|---|
//! | `keyring` | the keys |
//! | `envelope` | what a sealed entry looks like |

use std::{fmt, future::Future, time::Duration};

use tokio::time::{sleep, timeout};

use super::{Account, Entry, LONGEST_CALL, Lease, StoreError, Swap, TokenStore};

mod envelope;
mod keyring;

use envelope::{Opened, is_plain, open, seal};
pub use keyring::{InvalidKey, Keyring, SealingKey};

/// A store whose entries are encrypted: who reads the database, or a backup of it, has no tokens.
///
/// ```no_run
/// use tower_bearer::{
///     LiveToken,
///     oauth2::{RefreshToken, Stored, TokenEndpoint},
///     store::{FileStore, Keyring, Sealed, SealingKey},
/// };
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 32 random bytes in base64: `openssl rand -base64 32`. Keep them where the tokens are not.
/// let keyring = Keyring::new(SealingKey::from_base64("2026-11", &std::env::var("TOKEN_KEY")?)?);
/// let store = Sealed::new(FileStore::new("/var/lib/app/anna.token"), keyring);
///
/// let endpoint = TokenEndpoint::new("https://id.example.com/token")?.client_secret_basic("id", "secret");
/// let token = LiveToken::spawn(Stored::in_store(RefreshToken::new(endpoint).subject("anna"), store));
/// # Ok(())
/// # }
/// ```
///
/// - **What it protects.** Nobody without a key reads a token, or changes an entry unnoticed. The account is sealed with the tokens: an
///   entry that is moved into another user's place is another account's there, and isn't used.
/// - **What it doesn't.** Who may write to the database can remove an entry, or put back an older one of the same account.
///   [`Stored`](crate::oauth2::Stored) treats both like a store that was set back. Ids of keys, lengths and a hash of the account can be read.
/// - **How.** XChaCha20-Poly1305 with a random nonce for each write. The id of the key and the account are the associated data. An entry is
///   one JSON object of texts, so a database may keep it in a text or JSON column.
/// - **A wrong or a missing key** is an error, [`StoreError::unusable`], and so is an entry that was changed. The entry is left unchanged.
/// - **Keys change without a stop.** See [`Keyring`].
/// - **Each user of many has a store of their own**, with the same keyring: `Sealed::new(users.of(&id), keyring.clone())`.
#[derive(Clone)]
pub struct Sealed<S> {
    store: S,
    keyring: Keyring,
    accepts_plain: bool,
    /// A hash of the account whose entry this is.
    account: String,
}

/// What [`Stored::rewrap`](crate::oauth2::Stored::rewrap) has found, and has an example of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rewrapped {
    /// The entry is encrypted with the newest key now.
    Encrypted,
    /// It was so before.
    UpToDate,
    /// There is no entry: this user has never authorized, or has another name.
    NoEntry,
}

impl<S: TokenStore> Sealed<S> {
    /// Encrypts what goes into this store. [`Sealed`] has an example.
    pub fn new(store: S, keyring: Keyring) -> Self {
        Self { store, keyring, accepts_plain: false, account: String::new() }
    }

    /// Also reads an entry that isn't encrypted, and encrypts it with the next write. Default: no, such an entry is an error, because
    /// somebody without a key may have put it there.
    ///
    /// Call it while a store with plain entries changes over, until [`Stored::rewrap`](crate::oauth2::Stored::rewrap) has encrypted each of
    /// them. A process without the key can't renew a token from the first encrypted write on, and serves the one that it has to its end: finish
    /// the rollout within the last quarter of a lifetime.
    ///
    /// ```
    /// # use tower_bearer::store::{FileStore, Keyring, Sealed, SealingKey};
    /// # let keyring = Keyring::new(SealingKey::from_bytes("2026-11", [7; 32])?);
    /// let store = Sealed::new(FileStore::new("/var/lib/app/anna.token"), keyring).accept_plain();
    /// # Ok::<(), tower_bearer::store::InvalidKey>(())
    /// ```
    #[must_use]
    pub fn accept_plain(mut self) -> Self {
        self.accepts_plain = true;
        self
    }

    /// Encrypts the entry with the newest key, for [`Stored::rewrap`](crate::oauth2::Stored::rewrap), which has bound it to its account.
    pub(crate) async fn rewrap(&self) -> Result<Rewrapped, StoreError> {
        let holder = format!("rewrap-{:016x}", fastrand::u64(..));
        // A renewal holds the lease, and must not find another version when it stores its set.
        let leased = async {
            while let Lease::Held(left) = in_time(self.store.lease(&holder, LEASE)).await? {
                sleep(left.clamp(SHORTEST_WAIT, LEASE)).await;
            }
            Ok::<_, StoreError>(())
        };
        timeout(PATIENCE, leased)
            .await
            .map_err(|_| StoreError::unreachable("others use the entry all the time: try again later"))??;
        let rewrapped = self.rewrap_leased().await;
        // A lease that can't be released ends by itself.
        let _ = in_time(self.store.release(&holder)).await;
        rewrapped
    }

    async fn rewrap_leased(&self) -> Result<Rewrapped, StoreError> {
        loop {
            let Some(entry) = in_time(self.store.load()).await? else { return Ok(Rewrapped::NoEntry) };
            let opened = self.open(&entry)?;
            if opened.is_newest {
                return Ok(Rewrapped::UpToDate);
            }
            if opened.account.is_none() && !is_plain(&opened.data) {
                return Err(StoreError::unusable(
                    "what is stored is neither sealed nor a plain entry: look at it, then move it away",
                ));
            }
            let sealed = seal(&opened.data, opened.account.as_deref().unwrap_or(&self.account), self.keyring.newest())?;
            if in_time(self.store.swap(entry.version(), &sealed)).await? == Swap::Done {
                return Ok(Rewrapped::Encrypted);
            }
        }
    }

    /// `Stored` compares the account that is inside, so it isn't compared here: so `Stored` can name another account, and move its entry.
    fn opened(&self, entry: &Entry) -> Result<Entry, StoreError> {
        Ok(Entry::new(entry.version(), self.open(entry)?.into_data()))
    }

    fn open(&self, entry: &Entry) -> Result<Opened, StoreError> {
        open(entry.data(), &self.keyring, self.accepts_plain)
    }
}

impl<S: TokenStore> TokenStore for Sealed<S> {
    fn bind(&mut self, account: &Account) {
        self.account = account.owner_hash();
        self.store.bind(account);
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.store.load().await?.map(|entry| self.opened(&entry)).transpose()
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let sealed = seal(data, &self.account, self.keyring.newest())?;
        self.store.swap(expected, &sealed).await
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.store.lease(holder, time).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.store.release(holder).await
    }

    async fn lease_and_load(&self, holder: &str, time: Duration) -> Result<(Lease, Option<Entry>), StoreError> {
        let (lease, entry) = self.store.lease_and_load(holder, time).await?;
        match entry.map(|entry| self.opened(&entry)).transpose() {
            Ok(entry) => Ok((lease, entry)),
            Err(error) => {
                let _ = in_time(self.store.release(holder)).await;
                Err(error)
            }
        }
    }

    async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Result<Swap, StoreError> {
        let sealed = seal(data, &self.account, self.keyring.newest())?;
        let Some(before) = before else {
            return self.store.swap_and_release(expected, None, &sealed, holder).await;
        };
        // What is stored has a nonce of its own, so it must be read to be compared.
        let Some(stored) = in_time(self.store.load()).await? else { return Ok(Swap::Lost) };
        if self.open(&stored)?.data[..] != *before {
            return Ok(Swap::Lost);
        }
        self.store.swap_and_release(expected, Some(stored.data()), &sealed, holder).await
    }

    async fn changed(&self, known: u64) {
        self.store.changed(known).await;
    }
}

impl<S: fmt::Debug> fmt::Debug for Sealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("store", &self.store).field("keyring", &self.keyring).finish_non_exhaustive()
    }
}

/// A store that hangs must not hang its caller.
async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::unreachable(format!("it took longer than {LONGEST_CALL:?}"));
    timeout(LONGEST_CALL, call).await.map_err(late)?
}

/// For a read and a write.
const LEASE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A store may not know how long somebody has the lease.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// A store whose lease somebody has, without an end; or, if `hangs`, one that never says anything.
    struct Held {
        hangs: bool,
        asked: Arc<AtomicU32>,
    }

    impl TokenStore for Held {
        async fn load(&self) -> Result<Option<Entry>, StoreError> {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Ok(None)
        }

        async fn swap(&self, _: u64, _: &[u8]) -> Result<Swap, StoreError> {
            Ok(Swap::Lost)
        }

        async fn lease(&self, _: &str, _: Duration) -> Result<Lease, StoreError> {
            assert!(self.asked.fetch_add(1, Ordering::Relaxed) < 10_000, "asked over and over");
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Ok(Lease::Held(Duration::ZERO))
        }

        async fn release(&self, _: &str) -> Result<(), StoreError> {
            Ok(())
        }

        async fn changed(&self, _: u64) {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_rewraps_is_told_whether_others_use_the_entry_or_the_store_hangs() {
        for (hangs, why) in [(false, "others use the entry"), (true, "it took longer than")] {
            let keyring = Keyring::new(SealingKey::from_bytes("k", [1; 32]).unwrap());
            let store = Sealed::new(Held { hangs, asked: Arc::default() }, keyring);
            let error = store.rewrap().await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(store.store.asked.load(Ordering::Relaxed) < 2_000);
        }
    }
    /// What an exchange has brought waits for it, and is used after that.
    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_is_given_up_as_soon_as_a_call_of_its_own() {
        let keyring = Keyring::new(SealingKey::from_bytes("k", [1; 32]).unwrap());
        let store = Sealed::new(Held { hangs: true, asked: Arc::default() }, keyring);
        let stored = timeout(LONGEST_CALL + LEASE, store.swap_and_release(1, Some(b"before"), b"next", "me"));
        stored.await.expect("it hangs").unwrap_err();
    }
}
