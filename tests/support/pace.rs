//! Lives of a second and real connections, on a machine that may stand still for longer.

use std::time::Duration;

/// Moves the paused clock of this test (`start_paused`) a millisecond whenever everybody waits.
///
/// So lives and timeouts pass as the program gets on, and not while the machine does something else: who shares one thread with
/// the server is never late. Left to itself the paused clock would jump to the end of the next timeout while an answer is on its
/// way; and so that the system can carry it, at most four milliseconds pass in a real one.
#[allow(unreachable_pub, reason = "each test binary uses its own part, and is nobody's library")]
pub fn pace() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(TICK).await;
            // There is nobody whom this keeps from working: they all wait.
            std::thread::sleep(TICK / 4);
        }
    });
}

const TICK: Duration = Duration::from_millis(1);
