//! What was heard of one entry through the announcements of a store, and what counts as news.

/// What was heard so far.
///
/// The last version is enough, because the versions of an entry rise. If one doesn't, the entry was removed or set back, and everybody must
/// read it again. So they must after the first announcement of a subscription, because the version before it is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// The number of events.
    pub(super) number: u64,
    /// The last event after which everybody must read the entry, whatever version they know.
    must_read_at: u64,
    /// The last version, and whether a poll found it.
    version: Option<u64>,
    was_polled: bool,
}

/// What [`Heard`] means for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing new.
    None,
    /// The last version is known.
    Known,
    /// There may be another version.
    Other,
}

impl Heard {
    /// Nothing yet, in a channel that goes on counting after this number.
    #[cfg(feature = "redis")]
    pub(super) fn after(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Whether there was no subscription yet, so that the first one will be news.
    #[cfg(feature = "redis")]
    pub(super) fn is_silent(&self) -> bool {
        self.must_read_at == 0
    }

    /// There is a new subscription. Announcements before it are unknown.
    #[cfg(feature = "redis")]
    pub(super) fn subscribed(&mut self) {
        self.number += 1;
        (self.must_read_at, self.version) = (self.number, None);
    }

    /// A version was announced. `None`: it is no number.
    pub(super) fn announced(&mut self, version: Option<u64>) {
        self.number += 1;
        // A poll may find a version before its announcement comes. Any other repetition is another entry's.
        let comes_late = self.was_polled && self.version == version;
        if !comes_late && (self.version.is_none() || self.version >= version) {
            self.must_read_at = self.number;
        }
        (self.version, self.was_polled) = (version, false);
    }

    /// A poll found this version; 0 if there is no entry.
    #[cfg(feature = "postgres")]
    pub(super) fn polled(&mut self, version: u64) {
        if self.version == Some(version) {
            return;
        }
        self.number += 1;
        if self.version.is_some_and(|last| last > version) {
            self.must_read_at = self.number;
        }
        (self.version, self.was_polled) = (Some(version), true);
    }

    /// What this means for a caller that knows this version, and all events up to this number.
    pub(super) fn change_for(&self, known_events: u64, known_version: u64) -> Change {
        if self.number <= known_events {
            Change::None
        } else if self.must_read_at <= known_events && self.version == Some(known_version) {
            Change::Known
        } else {
            Change::Other
        }
    }

    /// Whether a caller that has just stored this version, and knows all events up to this number, knows everything.
    pub(super) fn is_covered_by(&self, stored_version: u64, known_events: u64) -> bool {
        self.must_read_at <= known_events && self.version.is_none_or(|version| version <= stored_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "redis")]
    #[test]
    fn any_other_version_is_news_and_a_known_one_is_none() {
        let mut heard = Heard::default();
        assert_eq!(heard.change_for(0, 0), Change::None);
        heard.subscribed();
        assert_eq!(heard.change_for(0, 3), Change::Other, "the subscription itself");
        assert_eq!(heard.change_for(1, 3), Change::None);
        heard.announced(Some(2));
        assert_eq!(heard.change_for(1, 2), Change::Other, "it may be another one of this version");
        heard.announced(Some(3));
        assert_eq!(heard.change_for(2, 2), Change::Other);
        assert_eq!(heard.change_for(2, 3), Change::Known);
        assert_eq!(heard.change_for(2, 5), Change::Other, "an older one: 5 was removed");
        assert_eq!(heard.change_for(3, 5), Change::None, "it was told already");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn versions_that_do_not_rise_are_news_for_all() {
        for versions in [&[5, 1][..], &[5, 5], &[5, 1, 2, 3, 4, 5]] {
            let mut heard = Heard::default();
            for version in versions {
                heard.announced(Some(*version));
            }
            assert_eq!(heard.change_for(1, *versions.last().unwrap()), Change::Other, "{versions:?}");
            assert!(!heard.is_covered_by(9, 1), "{versions:?}");
            assert_eq!(heard.change_for(heard.number, 9), Change::None);
        }
        let mut heard = Heard::default();
        heard.subscribed();
        for version in 1..=3 {
            heard.announced(Some(version));
        }
        assert_eq!(heard.change_for(1, 3), Change::Other, "another entry has come to the same version");
        let mut heard = Heard::default();
        heard.announced(Some(5));
        heard.announced(None);
        assert_eq!(heard.change_for(1, 5), Change::Other, "what is no version");
    }

    #[test]
    fn what_was_stored_after_it_covers_what_was_announced() {
        let mut heard = Heard::default();
        heard.announced(Some(4));
        assert!(!heard.is_covered_by(9, 0), "the first one");
        heard.announced(Some(5));
        heard.announced(Some(6));
        assert!(heard.is_covered_by(6, 1) && heard.is_covered_by(7, 1));
        assert!(!heard.is_covered_by(5, 1), "6 came later");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_channel_that_is_entered_again_has_news_for_who_left_it() {
        let mut heard = Heard::default();
        heard.subscribed();
        heard.announced(Some(5));
        let known_events = heard.number;
        let mut again = Heard::after(known_events);
        assert!(again.is_silent());
        assert_eq!(again.change_for(known_events, 5), Change::None, "it isn't subscribed yet");
        again.subscribed();
        assert!(!again.is_silent());
        assert_eq!(again.change_for(known_events, 5), Change::Other, "what was announced between is unknown");
    }
    #[cfg(feature = "postgres")]
    #[test]
    fn any_other_version_that_a_poll_finds_is_news() {
        let mut heard = Heard::default();
        assert_eq!(heard.change_for(0, 0), Change::None);
        heard.polled(3);
        assert_eq!(heard.change_for(0, 3), Change::Known);
        assert_eq!(heard.change_for(0, 2), Change::Other);
        assert_eq!(heard.change_for(1, 2), Change::None, "it was told already");
        heard.announced(Some(4));
        assert_eq!(heard.change_for(1, 3), Change::Other);
        assert_eq!(heard.change_for(1, 4), Change::Known, "this caller has stored it");
        heard.polled(4);
        assert_eq!(heard.change_for(2, 3), Change::None, "a poll that finds nothing else");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn versions_that_do_not_rise_after_a_poll_are_news_for_all() {
        for versions in [&[5, 1][..], &[5, 5], &[5, 1, 2, 3, 4, 5]] {
            let mut heard = Heard::default();
            heard.polled(4);
            for version in versions {
                heard.announced(Some(*version));
            }
            assert_eq!(heard.change_for(2, *versions.last().unwrap()), Change::Other, "{versions:?}");
            assert!(!heard.is_covered_by(9, 2), "{versions:?}");
            assert_eq!(heard.change_for(heard.number, 9), Change::None);
        }
        let mut heard = Heard::default();
        heard.announced(Some(5));
        assert_eq!(heard.change_for(0, 5), Change::Other, "the one before it is unknown");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_poll_finds_what_was_deleted_or_set_back() {
        for found in [0, 4] {
            let mut heard = Heard::default();
            heard.polled(5);
            heard.polled(found);
            assert_eq!(heard.change_for(1, 5), Change::Other, "{found}");
            assert_eq!(heard.change_for(1, found), Change::Other, "{found}: it may be another one");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_poll_that_was_faster_than_the_notification_is_news_once() {
        let mut heard = Heard::default();
        heard.polled(5);
        heard.polled(6);
        assert_eq!(heard.change_for(1, 5), Change::Other);
        heard.announced(Some(6));
        assert_eq!(heard.change_for(2, 6), Change::Known);
        heard.announced(Some(6));
        assert_eq!(heard.change_for(3, 6), Change::Other, "a second notification is another entry's");
    }
}
