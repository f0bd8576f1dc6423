//! Looks at no response.

use super::{ReplayPolicy, Spare};

/// Returns each 401 and draws no conclusions from it. [`BearerAuthLayer::without_recovery`](crate::BearerAuthLayer::without_recovery)
/// chooses it, and has an example.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

// The notes of the trait name this policy.
#[diagnostic::do_not_recommend]
impl<R> ReplayPolicy<R> for Off {
    fn keep(&self, _: &mut R) -> Option<Spare<R>> {
        None
    }

    fn replays(&self) -> bool {
        false
    }

    fn recovers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn off_keeps_nothing_and_renews_nothing() {
        assert!(Off.keep(&mut Request::new(String::new())).is_none());
        assert!(!ReplayPolicy::<Request<String>>::replays(&Off));
        assert!(!ReplayPolicy::<Request<String>>::recovers(&Off));
    }
}
