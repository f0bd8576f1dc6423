//! Panics in users' code: in a source, in the `Display` of its errors, in a tracing subscriber.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// Runs this and goes on if it panics. A failed log message must not cost anybody the token.
pub(crate) fn contained<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// A future of users' code. It resolves to `None` if it panics, and a panic in its `drop` doesn't leave this either. Without a future it is
/// never ready.
pub(crate) struct Contained<F: ?Sized>(pub(crate) Option<Pin<Box<F>>>);

#[cfg(feature = "oauth2")]
impl<F> Contained<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<F: Future + ?Sized> Future for Contained<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        contained(|| future.as_mut().poll(cx)).map_or(Poll::Ready(None), |polled| polled.map(Some))
    }
}

impl<F: ?Sized> Drop for Contained<F> {
    fn drop(&mut self) {
        let future = self.0.take();
        contained(|| drop(future));
    }
}
