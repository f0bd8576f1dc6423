//! Where tokens come from: the one door between the wing that carries tokens and whatever obtains them.

use std::{future::Future, pin::Pin, time::Duration};

use crate::{AccessToken, FetchError, live::LONGEST_EXCHANGE};

mod file;
mod func;
mod one_thread;

pub use file::TokenFile;
pub use func::{SourceFn, source_fn};

/// Where tokens come from.
///
/// One task owns the source and calls it one call at a time, so `&mut self` needs no lock. An [`AccessToken`] is itself a source
/// (a fixed one), [`source_fn`] makes one of a closure, [`TokenFile`] follows a file, and the grants in `oauth2` ask a token
/// endpoint.
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
    /// Brings a token.
    ///
    /// A source that waits for a network keeps to [`FetchRequest::timeout`]. If it never returns, it is dropped after twice the
    /// [longest](crate::Builder::fetch_timeout) (a minute by default) and called anew; if it panics, that counts as [`FetchError::try_again`].
    ///
    /// # Errors
    /// A [`FetchError`] says what to do next. Whatever it says, a token that still works stays in use.
    ///
    /// # Cancel safety
    /// The future is dropped only when it takes longer than that and when the runtime ends: not by requests, not by
    /// `shutdown`, and not when the last handle goes.
    fn fetch(&mut self, request: FetchRequest) -> impl Future<Output = Result<AccessToken, FetchError>> + Send;

    /// Resolves when the source has something new that is worth a [`fetch`](TokenSource::fetch) at once, whatever failed before:
    /// a user who authorized again, a token that another process fetched. Never, unless a source says otherwise. Not asked while
    /// a fetch runs, and acted upon once a second at the most.
    ///
    /// # Cancel safety
    /// The future is dropped and made anew at any time, with each fetch at the least: what it has to tell must not be lost with it.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Whether what the source brought last is stored where it should be: asked after every fetch, and shown in
    /// [`Status::storage`](crate::Status::storage). A source that keeps nothing says nothing.
    fn storage(&self) -> Storage {
        Storage::Sound
    }

    /// The same source behind a pointer, for sources of several types in one place.
    fn boxed(self) -> BoxTokenSource
    where
        Self: Sized,
    {
        BoxTokenSource(Box::new(self))
    }
}

/// What can be made into a [`TokenSource`]: every source, and everything that describes one, such as a grant.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of tokens",
    label = "can't be asked for tokens as it is",
    note = "a grant that goes on with a refresh token needs a set to begin with: `Stored::new(grant).holding(set)`",
    note = "a token endpoint needs a grant: `ClientCredentials::new(endpoint)`",
    note = "a closure becomes a source by `source_fn(async |request| ..)`, a text by `AccessToken::new(text)?`, a file by \
            `TokenFile::new(path)`",
    note = "a type of your own implements `TokenSource`, or `Grant` for `Stored::new(grant)`"
)]
pub trait IntoTokenSource {
    /// The source it becomes.
    type Source: TokenSource;

    /// Makes the source.
    fn into_token_source(self) -> Self::Source;
}

// So that the compiler speaks of the trait with the notes, and not of the one that this asks for.
#[diagnostic::do_not_recommend]
impl<T: TokenSource> IntoTokenSource for T {
    type Source = T;

    fn into_token_source(self) -> T {
        self
    }
}

/// Why a token is wanted, which one must not be handed out again, and how long it may take.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    reason: FetchReason,
    refused: Option<AccessToken>,
    timeout: Duration,
    longest: Duration,
    urgent: bool,
}

/// Why a token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// There was none yet.
    First,
    /// The one in use has had most of its life, or is over.
    Due,
    /// The API answered 401 to the one in use: see [`FetchRequest::refused`].
    Refused,
    /// [`LiveToken::refresh`](crate::LiveToken::refresh) was called.
    Asked,
    /// The source said that it has [changed](TokenSource::changed).
    Changed,
}

/// How it is with the store that a source keeps its tokens in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// Everything is where it should be, or there is no store.
    #[default]
    Sound,
    /// The store can't be reached, or can't be used. Nothing is lost by that; a refresh token that can be used once only is not used,
    /// everything else goes on, in this process alone.
    Unreachable,
    /// What is in use is not stored yet, and can't be had again: if the process ended now, the user might have to authorize again.
    /// Storing it is tried again and again.
    Unsaved,
}

impl FetchRequest {
    /// A request for a first token, for those who call a source themselves (tests above all).
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

    pub(crate) fn because(reason: FetchReason, refused: Option<AccessToken>, timeout: Duration, urgent: bool) -> Self {
        Self { reason, refused, timeout, longest: timeout.max(LONGEST_EXCHANGE), urgent }
    }

    /// So long an exchange may take at the most.
    pub(crate) fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Why a token is wanted.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// The token that the API has just refused. A source with a cache must not hand this one out again.
    #[must_use]
    pub fn refused(&self) -> Option<&AccessToken> {
        self.refused.as_ref()
    }

    /// Whether there is no valid token in use, so that requests wait.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// How long one exchange over the network may take: half of the time the token in use has left, so that there is time for a second
    /// one; but at least 2 s, and twice as long as recent ones took. At most [`Builder::fetch_timeout`](crate::Builder::fetch_timeout), and
    /// just that when there is no valid token.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long an exchange may take that can't be repeated: whatever it spends would be lost if it were given up early.
    /// [`Builder::fetch_timeout`](crate::Builder::fetch_timeout).
    #[must_use]
    pub fn longest_timeout(&self) -> Duration {
        self.longest
    }
}

/// A fixed token: fetched again, it is the same, and as old as it is.
impl TokenSource for AccessToken {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        Ok(self.clone().settled())
    }
}

/// A [`TokenSource`] of any type, made by [`TokenSource::boxed`].
pub struct BoxTokenSource(Box<dyn DynTokenSource>);

impl TokenSource for BoxTokenSource {
    fn fetch(&mut self, request: FetchRequest) -> impl Future<Output = Result<AccessToken, FetchError>> + Send {
        self.0.fetch(request)
    }

    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        self.0.changed()
    }

    fn storage(&self) -> Storage {
        self.0.storage()
    }

    fn boxed(self) -> BoxTokenSource {
        self
    }
}

impl BoxTokenSource {
    /// [`TokenSource::changed`], in a box.
    pub(crate) fn news(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.changed()
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
    fn storage(&self) -> Storage;
}

impl<T: TokenSource> DynTokenSource for T {
    fn fetch(&mut self, request: FetchRequest) -> BoxFetch<'_> {
        Box::pin(TokenSource::fetch(self, request))
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(TokenSource::changed(self))
    }

    fn storage(&self) -> Storage {
        TokenSource::storage(self)
    }
}

type BoxFetch<'a> = Pin<Box<dyn Future<Output = Result<AccessToken, FetchError>> + Send + 'a>>;
