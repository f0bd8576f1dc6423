//! Sends nothing again.

use super::{ReplayPolicy, Spare};

/// Sends nothing again: a 401 is handed on, the token is renewed for those who come later.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

// The notes of the trait name it.
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
