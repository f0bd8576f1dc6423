//! Where tokens come from. The request wing and the OAuth 2.0 wing meet only here.

use std::{future::Future, pin::Pin, time::Duration};

use crate::{AccessToken, FetchError, live::LONGEST_EXCHANGE};

mod file;
mod func;
mod one_thread;

pub use file::TokenFile;
pub use func::{SourceFn, source_fn};

/// Where tokens come from.
///
/// One task owns the source and calls it one call at a time, so `&mut self` needs no lock. An [`AccessToken`] is itself a source, of a
/// fixed token. [`source_fn`] makes a source of a closure, [`TokenFile`] reads a file, and the grants in `oauth2` ask a token endpoint.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, FetchError, FetchRequest, TokenSource};
///
/// struct Vault;
///
/// impl TokenSource for Vault {
///     async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
///         let secret = tokio::time::timeout(request.timeout(), ask_the_vault())
///             .await
///             .map_err(FetchError::try_again)?;
///         Ok(AccessToken::new(secret)?.expires_in(Duration::from_secs(300)))
///     }
/// }
/// # async fn ask_the_vault() -> String { "secret".into() }
/// ```
pub trait TokenSource: Send + 'static {
    /// Fetches a token. See the example of [`TokenSource`].
    ///
    /// A source that uses a network keeps to [`FetchRequest::timeout`]. A source that doesn't return is dropped after twice the [longest
    /// timeout](crate::Builder::fetch_timeout) (default: after a minute) and called again. A panic counts as [`FetchError::try_again`].
    ///
    /// # Errors
    /// A [`FetchError`] says what to do next. Whatever it says, a token that is still valid stays in use.
    ///
    /// # Cancel safety
    /// The future is dropped only if it takes longer than that, or if the runtime ends. Cancelled requests, `shutdown` and the end of the
    /// last handle don't drop it.
    fn fetch(&mut self, request: FetchRequest) -> impl Future<Output = Result<AccessToken, FetchError>> + Send;

    /// Resolves when the source has something new that is worth a [`fetch`](TokenSource::fetch) at once, whatever failed before. For
    /// example, the user has authorized again, or another process has fetched a token. It isn't polled while a fetch runs, and it causes at
    /// most one fetch a second. Default: never.
    ///
    /// # Cancel safety
    /// The future may be dropped and made again at any time; each fetch does that. What it reports must not be lost with it.
    ///
    /// ```
    /// use tokio::sync::watch;
    /// use tower_bearer::{AccessToken, FetchError, FetchRequest, TokenSource};
    ///
    /// /// The newest token, which another task writes.
    /// struct Shared(watch::Receiver<String>);
    ///
    /// impl TokenSource for Shared {
    ///     async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
    ///         Ok(AccessToken::new(self.0.borrow_and_update().as_str())?)
    ///     }
    ///
    ///     async fn changed(&mut self) {
    ///         if self.0.changed().await.is_err() {
    ///             std::future::pending().await // nobody writes any more
    ///         }
    ///     }
    /// }
    /// # let _ = Shared(watch::channel("secret".to_owned()).1).boxed();
    /// ```
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// The same for what this process itself does, such as [`StoredHandle::adopt`](crate::oauth2::StoredHandle::adopt). It is polled
    /// instead of [`changed`](TokenSource::changed) while nobody uses the token ([`Builder::renew_while_used`](crate::Builder::renew_while_used)), so it must
    /// not ask anybody, and needs no timer. Default: never.
    ///
    /// # Cancel safety
    /// As for [`changed`](TokenSource::changed), where the example is.
    fn changed_here(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Whether what the source returned last is stored. The task asks after each fetch, and [`Status::storage`](crate::Status::storage)
    /// shows the answer. Default: [`Storage::Sound`]. See the example of [`Storage`].
    fn storage(&self) -> Storage {
        Storage::Sound
    }

    /// The same source in a box, so that sources of several types have one type.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, BoxTokenSource, TokenFile, TokenSource};
    ///
    /// fn source(path: Option<&str>) -> Result<BoxTokenSource, tower_bearer::InvalidToken> {
    ///     Ok(match path {
    ///         Some(path) => TokenFile::new(path).boxed(),
    ///         None => AccessToken::new("secret")?.boxed(),
    ///     })
    /// }
    /// # source(Some("/run/token")).and(source(None))?;
    /// # Ok::<(), tower_bearer::InvalidToken>(())
    /// ```
    fn boxed(self) -> BoxTokenSource
    where
        Self: Sized,
    {
        BoxTokenSource(Box::new(self))
    }
}

/// What can be made into a [`TokenSource`]: every source, and what describes a source, such as a grant.
/// [`LiveToken::spawn`](crate::LiveToken::spawn) takes it: see the example of [`LiveToken`](crate::LiveToken).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of tokens",
    label = "tokens can't be fetched from this",
    note = "a grant that renews with a refresh token needs an initial token set: `Stored::new(grant).holding(set)`",
    note = "a token endpoint needs a grant: `ClientCredentials::new(endpoint)`",
    note = "a closure becomes a source by `source_fn(async |request| ..)`, a text by `AccessToken::new(text)?`, a file by \
            `TokenFile::new(path)`",
    note = "a type of your own implements `TokenSource`, or `Grant` for `Stored::new(grant)`"
)]
pub trait IntoTokenSource {
    /// The source that it becomes.
    type Source: TokenSource;

    /// Makes the source. [`LiveToken::spawn`](crate::LiveToken::spawn) calls this: see the example of [`LiveToken`](crate::LiveToken).
    fn into_token_source(self) -> Self::Source;
}

// So that the compiler shows the notes above, and not that `TokenSource` is missing.
#[diagnostic::do_not_recommend]
impl<T: TokenSource> IntoTokenSource for T {
    type Source = T;

    fn into_token_source(self) -> T {
        self
    }
}

/// What a source is told about a fetch: its reason, the token that the API refused, and how long it may take.
///
/// The task makes it. A program that calls a source itself makes one with [`FetchRequest::new`]:
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, FetchReason, FetchRequest, TokenSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let request = FetchRequest::new(Duration::from_secs(10));
/// assert_eq!((request.reason(), request.is_urgent()), (FetchReason::First, true));
/// assert_eq!((request.timeout(), request.longest_timeout()), (Duration::from_secs(10), Duration::from_secs(30)));
/// assert!(request.refused().is_none());
///
/// let mut source = AccessToken::new("secret")?;
/// assert_eq!(source.fetch(request).await?.expose_secret(), "secret");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FetchRequest {
    reason: FetchReason,
    /// With the time for which the API has refused it.
    refused: Option<(AccessToken, Duration)>,
    timeout: Duration,
    longest: Duration,
    urgent: bool,
}

/// Why a token is fetched. See the example of [`FetchRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// There is no token yet.
    First,
    /// The token has used most of its lifetime, or has expired.
    Due,
    /// The API refused the current token with a 401: see [`FetchRequest::refused`].
    Refused,
    /// [`LiveToken::refresh`](crate::LiveToken::refresh) was called.
    Asked,
    /// The source reported that it has [changed](TokenSource::changed).
    Changed,
}

/// Whether the tokens of a source are stored.
///
/// ```
/// use tower_bearer::{AccessToken, FetchError, FetchRequest, LiveToken, Storage, TokenSource};
///
/// /// A source that can't reach its store.
/// struct Unstored(AccessToken);
///
/// impl TokenSource for Unstored {
///     async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
///         Ok(self.0.clone())
///     }
///
///     fn storage(&self) -> Storage {
///         Storage::Unreachable
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let token = LiveToken::spawn(Unstored(AccessToken::new("secret")?));
/// token.ready().await?;
/// assert_eq!(token.status().storage(), Storage::Unreachable);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// Everything is stored, or there is no store.
    #[default]
    Sound,
    /// The store can't be reached or used. Nothing is lost. A single-use refresh token is not spent; everything else goes on, in this
    /// process alone.
    Unreachable,
    /// The newest token set is not stored yet, and can't be fetched again. If the process ended now, the user might have to authorize
    /// again. The source tries again and again to store it.
    Unsaved,
}

impl FetchRequest {
    /// A request for a first token, for programs that call a source themselves, above all tests. See the example of [`FetchRequest`].
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            reason: FetchReason::First,
            refused: None,
            timeout,
            longest: timeout.max(LONGEST_EXCHANGE),
            urgent: true,
        }
    }

    pub(crate) fn because(
        reason: FetchReason,
        refused: Option<(AccessToken, Duration)>,
        timeout: Duration,
        urgent: bool,
    ) -> Self {
        Self { reason, refused, timeout, longest: timeout.max(LONGEST_EXCHANGE), urgent }
    }

    /// For how long the API has refused the token, without an acceptance in between.
    #[cfg(feature = "oauth2")]
    pub(crate) fn refused_for(&self) -> Duration {
        self.refused.as_ref().map(|(_, time)| *time).unwrap_or_default()
    }

    /// Sets how long an exchange may take that can't be repeated.
    pub(crate) fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Why a token is fetched. See the example of [`FetchRequest`].
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// The token that the API has refused. A source with a cache must not return it again. See the example of [`FetchRequest`].
    #[must_use]
    pub fn refused(&self) -> Option<&AccessToken> {
        self.refused.as_ref().map(|(token, _)| token)
    }

    /// Whether there is no valid token, so that requests wait. See the example of [`FetchRequest`].
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// How long one exchange over the network may take. It is half of the time for which the current token is still valid, so that there is
    /// time for a second exchange. But it is at least 2 s, and at least twice as long as recent exchanges took.
    /// [`Builder::fetch_timeout`](crate::Builder::fetch_timeout) is the upper limit, and just that holds if there is no valid token or if
    /// its lifetime is unknown. See the example of [`TokenSource`].
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long an exchange may take that can't be repeated, such as one that spends a single-use refresh token: if it were given up early,
    /// the refresh token would be lost. It is [`Builder::fetch_timeout`](crate::Builder::fetch_timeout). See the example of
    /// [`FetchRequest`].
    #[must_use]
    pub fn longest_timeout(&self) -> Duration {
        self.longest
    }
}

/// A fixed token. Each fetch returns it again, and its lifetime goes on.
impl TokenSource for AccessToken {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        Ok(self.clone().known_to_api())
    }
}

/// A [`TokenSource`] of any type; made by [`TokenSource::boxed`]. See the example there.
pub struct BoxTokenSource(Box<dyn DynTokenSource>);

impl TokenSource for BoxTokenSource {
    fn fetch(&mut self, request: FetchRequest) -> impl Future<Output = Result<AccessToken, FetchError>> + Send {
        self.0.fetch(request)
    }

    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        self.0.changed()
    }

    fn changed_here(&mut self) -> impl Future<Output = ()> + Send {
        self.0.changed_here()
    }

    fn storage(&self) -> Storage {
        self.0.storage()
    }

    fn boxed(self) -> BoxTokenSource {
        self
    }
}

impl BoxTokenSource {
    /// [`TokenSource::changed`] in a box; while nobody uses the token, [`TokenSource::changed_here`].
    pub(crate) fn news(&mut self, asleep: bool) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        if asleep { self.0.changed_here() } else { self.0.changed() }
    }
}

impl std::fmt::Debug for BoxTokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoxTokenSource").finish_non_exhaustive()
    }
}

trait DynTokenSource: Send {
    fn fetch(&mut self, request: FetchRequest) -> BoxFetch<'_>;
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    fn changed_here(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    fn storage(&self) -> Storage;
}

impl<T: TokenSource> DynTokenSource for T {
    fn fetch(&mut self, request: FetchRequest) -> BoxFetch<'_> {
        Box::pin(TokenSource::fetch(self, request))
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(TokenSource::changed(self))
    }

    fn changed_here(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(TokenSource::changed_here(self))
    }

    fn storage(&self) -> Storage {
        TokenSource::storage(self)
    }
}

type BoxFetch<'a> = Pin<Box<dyn Future<Output = Result<AccessToken, FetchError>> + Send + 'a>>;
