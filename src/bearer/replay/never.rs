//! Sends no request again.

use super::{ReplayPolicy, Spare};

/// Sends no request again. A 401 is returned, and the token is renewed for later requests. See the example of
/// [`BearerAuthLayer::replay`](crate::BearerAuthLayer::replay).
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

// The notes of the trait name this policy.
#[diagnostic::do_not_recommend]
impl<R> ReplayPolicy<R> for Never {
    fn keep(&self, _: &mut R) -> Option<Spare<R>> {
        None
    }

    fn replays(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn never_keeps_nothing() {
        assert!(Never.keep(&mut Request::new(String::new())).is_none());
        assert!(!ReplayPolicy::<Request<String>>::replays(&Never));
    }
}
