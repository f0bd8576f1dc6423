//! Which faults the next requests meet.

use std::time::Duration;

use tokio::time::Instant;

use super::AuthorizationServer;
use crate::testing::fault::Fault;

/// Faults.
///
/// A token request meets the first fault of the queue. If the queue is empty, it meets the fault of the time window. If
/// there is no window, it meets the permanent fault.
impl AuthorizationServer {
    /// The next token request meets `fault`. Faults queue up: each call adds one more.
    ///
    /// Example: [`Fault`].
    pub fn fault(&self, fault: Fault) {
        self.faults(1, fault);
    }

    /// The next `times` token requests meet `fault`, after the faults that are queued already.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::testing::Fault;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// server.faults(3, Fault::status(503).retry_after(Duration::from_secs(1))); // an outage,
    /// server.fault(Fault::drop_before_acting()); //                                then a bad connection
    /// # Ok(())
    /// # }
    /// ```
    pub fn faults(&self, times: usize, fault: Fault) {
        self.shared.lock().token_faults.queue(times, fault);
    }

    /// Every token request from now until `time` has passed meets `fault`, unless a fault is queued.
    ///
    /// A second call replaces the first.
    ///
    /// Example: [`Fault`].
    pub fn fault_for(&self, time: Duration, fault: Fault) {
        self.shared.lock().token_faults.set_window(Instant::now(), time, fault);
    }

    /// Every token request meets `fault` unless another one is due, until [`clear_faults`](Self::clear_faults).
    ///
    /// A second call replaces the first.
    ///
    /// ```
    /// use tower_bearer::testing::Fault;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tower_bearer::testing::AuthorizationServer::start().await?;
    /// server.fault_always(Fault::status(503));
    /// // … the outage is over
    /// server.clear_faults();
    /// # Ok(())
    /// # }
    /// ```
    pub fn fault_always(&self, fault: Fault) {
        self.shared.lock().token_faults.set_always(fault);
    }

    /// Removes all faults that no request has met yet, of the token endpoint and of the API.
    ///
    /// Example: [`fault_always`](Self::fault_always).
    pub fn clear_faults(&self) {
        let mut state = self.shared.lock();
        state.token_faults.clear();
        state.api_faults.clear();
    }

    /// The next request to the API meets `fault`, whatever token it carries. Faults queue up.
    ///
    /// Faults that only change the members of a token response ([`Fault::token_type`], [`Fault::member`], …) have no
    /// effect here.
    ///
    /// Example: [`api_faults`](Self::api_faults).
    pub fn api_fault(&self, fault: Fault) {
        self.api_faults(1, fault);
    }

    /// The next `times` requests to the API meet `fault`, after the faults that are queued already.
    ///
    /// ```
    /// use tower_bearer::testing::{AuthorizationServer, Fault};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = AuthorizationServer::start().await?;
    /// server.api_faults(2, Fault::status(503));
    /// server.api_fault(Fault::status(429));
    /// assert_eq!(reqwest::get(server.api_url("/documents")).await?.status(), 503);
    /// assert_eq!(server.api().faulted, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn api_faults(&self, times: usize, fault: Fault) {
        self.shared.lock().api_faults.queue(times, fault);
    }
}
