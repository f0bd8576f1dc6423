//! Blocking calls that may hang, on one thread.

use std::fmt;

use tokio::task::{JoinHandle, spawn_blocking};

/// Runs blocking calls one after the other. If the future of a call is dropped, the call goes on, because nothing can stop it. The next
/// call waits until it ends, so calls that hang occupy one thread only.
pub(super) struct OneThread<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> OneThread<T> {
    /// Returns what the call returns; `None` if it panicked or the runtime ends.
    ///
    /// # Cancel safety
    /// If the future is dropped, the result is lost. A call that hasn't begun by then never begins.
    pub(super) async fn run(&mut self, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        if let Some(left_over) = &mut self.0 {
            // Its result may be as old as its beginning, so it is dropped.
            let _ = left_over.await;
        }
        let running = self.0.insert(spawn_blocking(call));
        let result = running.await;
        self.0 = None;
        result.ok()
    }
}

impl<T> Default for OneThread<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// A copy has a thread of its own.
impl<T> Clone for OneThread<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for OneThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneThread").field("busy", &self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use tokio::{sync::oneshot, time};

    use super::*;

    #[tokio::test]
    async fn calls_that_hang_take_one_thread_however_often_they_are_given_up() {
        let (release, hangs) = mpsc::channel::<()>();
        let mut thread = OneThread::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let (begins, begun) = oneshot::channel();
        let hang = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = begins.send(());
            let _ = hangs.recv();
            1
        };
        tokio::select! {
            _ = thread.run(hang) => panic!("it hangs"),
            began = begun => began.unwrap(),
        }
        for _ in 0..20 {
            let count = calls.clone();
            let next = move || {
                count.fetch_add(1, Ordering::SeqCst);
                2
            };
            time::timeout(Duration::from_millis(2), thread.run(next)).await.unwrap_err();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        release.send(()).unwrap();
        // The result of this call, not that of an earlier one.
        assert_eq!(thread.run(|| 3).await, Some(3));
    }

    #[tokio::test]
    async fn a_call_that_panics_is_over() {
        let mut thread = OneThread::default();
        assert_eq!(thread.run(|| if true { panic!("a panic that the test wants") } else { 1 }).await, None);
        assert_eq!(thread.run(|| 2).await, Some(2));
    }
}
