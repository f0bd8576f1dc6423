//! A source made of a closure.

use std::{fmt, future::Future};

use tokio::time;

use crate::{AccessToken, FetchError, FetchRequest, TokenSource};

/// Makes a [`TokenSource`] of a closure that returns a future.
///
/// If the future takes longer than [`FetchRequest::timeout`], it is dropped and the fetch is tried again.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, FetchError, source_fn};
///
/// # async fn ask(key: String) -> Result<String, std::io::Error> { Ok(key) }
/// let key = String::from("k1");
/// let source = source_fn(move |_request| {
///     let key = key.clone(); // async closures can't borrow what they own here: clone into the block
///     async move {
///         let secret = ask(key).await.map_err(FetchError::try_again)?;
///         Ok(AccessToken::new(secret)?.expires_in(Duration::from_secs(600)))
///     }
/// });
/// # let _ = source;
/// ```
pub fn source_fn<F, Fut>(f: F) -> SourceFn<F>
where
    F: FnMut(FetchRequest) -> Fut + Send + 'static,
    Fut: Future<Output = Result<AccessToken, FetchError>> + Send,
{
    SourceFn(f)
}

/// A closure as a [`TokenSource`]; made by [`source_fn`]. See the example there.
#[derive(Clone)]
pub struct SourceFn<F>(F);

impl<F, Fut> TokenSource for SourceFn<F>
where
    F: FnMut(FetchRequest) -> Fut + Send + 'static,
    Fut: Future<Output = Result<AccessToken, FetchError>> + Send,
{
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let limit = request.timeout();
        match time::timeout(limit, (self.0)(request)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::try_again(format!("the source took longer than {limit:?}"))),
        }
    }
}

impl<F> fmt::Debug for SourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFn").finish_non_exhaustive()
    }
}
