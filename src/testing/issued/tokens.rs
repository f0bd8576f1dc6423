//! Issued tokens, access or refresh: whom they belong to, until when they live, which are revoked.

use std::{
    collections::{HashMap, VecDeque},
    fmt, iter,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// Whether a token is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Live,
    Expired,
    Revoked,
    Unknown,
}

/// The newest tokens. Older ones are forgotten, so memory stays bounded however long a test runs.
pub(crate) struct Tokens {
    tokens: HashMap<Arc<str>, Entry>,
    order: VecDeque<(u64, Arc<str>)>,
    count: u64,
    token_len: usize,
    remember: usize,
}

/// What the server knows of a token.
pub(crate) struct Entry {
    /// The number of the issue. It differs if the same token is issued again.
    serial: u64,
    pub(crate) subject: Subject,
    pub(crate) expires: Option<Instant>,
    /// When a refresh token was first used. It is spent since then.
    pub(crate) spent: Option<Instant>,
    revoked: bool,
}

/// The client, the user and the scope that a token was issued for.
#[derive(Clone, Default)]
pub(crate) struct Subject {
    pub(crate) client: Arc<str>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) scope: Option<Arc<str>>,
    /// The number of the token family: all tokens that come from one authorization.
    pub(crate) family: Option<u64>,
}

impl Tokens {
    pub(crate) fn new(token_len: usize, remember: usize) -> Self {
        Self { tokens: HashMap::new(), order: VecDeque::new(), count: 0, token_len, remember }
    }

    /// Issues a random token, or the `chosen` one. If the same token is issued again, its life starts anew.
    pub(crate) fn issue(&mut self, chosen: Option<String>, expires: Option<Instant>, subject: Subject) -> Arc<str> {
        let token: Arc<str> = chosen.unwrap_or_else(|| random(self.token_len)).into();
        self.count += 1;
        let entry = Entry { serial: self.count, subject, expires, spent: None, revoked: false };
        self.tokens.insert(Arc::clone(&token), entry);
        self.order.push_back((self.count, Arc::clone(&token)));
        if self.order.len() > self.remember {
            self.forget_oldest();
        }
        token
    }

    fn forget_oldest(&mut self) {
        if let Some((serial, token)) = self.order.pop_front()
            && self.tokens.get(&token).is_some_and(|entry| entry.serial == serial)
        {
            self.tokens.remove(&token);
        }
    }

    pub(crate) fn standing(&self, token: &str, now: Instant) -> Standing {
        self.tokens.get(token).map_or(Standing::Unknown, |entry| entry.standing(now))
    }

    /// Revokes a token. Returns whether it was live until now.
    pub(crate) fn revoke(&mut self, token: &str, now: Instant) -> bool {
        self.tokens.get_mut(token).is_some_and(|entry| entry.revoke(now))
    }

    /// Revokes all live tokens. Returns their number.
    pub(crate) fn revoke_all(&mut self, now: Instant) -> usize {
        self.tokens.values_mut().filter_map(|entry| entry.revoke(now).then_some(())).count()
    }

    /// Revokes all tokens of a family.
    pub(crate) fn revoke_family(&mut self, family: u64, now: Instant) {
        for entry in self.tokens.values_mut().filter(|entry| entry.subject.family == Some(family)) {
            entry.revoke(now);
        }
    }

    pub(crate) fn get(&self, token: &str) -> Option<&Entry> {
        self.tokens.get(token)
    }

    pub(crate) fn get_mut(&mut self, token: &str) -> Option<&mut Entry> {
        self.tokens.get_mut(token)
    }

    /// The newest live token of a client.
    pub(crate) fn newest_of(&self, client: &str, now: Instant) -> Option<&str> {
        let lives = |entry: &Entry| &*entry.subject.client == client && entry.standing(now) == Standing::Live;
        self.order.iter().rev().map(|(_, token)| &**token).find(|token| self.get(token).is_some_and(lives))
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Entry {
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        if self.revoked {
            Standing::Revoked
        } else if self.expires.is_some_and(|expires| expires <= now) {
            Standing::Expired
        } else {
            Standing::Live
        }
    }

    /// Whether the server accepts the token. It accepts a spent refresh token within the grace.
    pub(crate) fn usable(&self, grace: Duration, now: Instant) -> bool {
        self.standing(now) == Standing::Live
            && self.spent.is_none_or(|spent| now.saturating_duration_since(spent) < grace)
    }

    fn revoke(&mut self, now: Instant) -> bool {
        let live = self.standing(now) == Standing::Live;
        self.revoked |= live;
        live
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("count", &self.count)
            .field("remembered", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

fn random(len: usize) -> String {
    iter::repeat_with(fastrand::alphanumeric).take(len).collect()
}

/// Long enough (47 bits) that two random tokens are never the same.
pub(crate) const MIN_TOKEN_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_until_its_end_and_not_at_it() {
        let now = Instant::now();
        let end = now + Duration::from_millis(5);
        let mut tokens = Tokens::new(43, 8);
        let token = tokens.issue(None, Some(end), Subject::default());
        assert_eq!(token.len(), 43);
        assert_eq!(tokens.standing(&token, now), Standing::Live);
        assert_eq!(tokens.standing(&token, end - Duration::from_nanos(1)), Standing::Live);
        assert_eq!(tokens.standing(&token, end), Standing::Expired);
        assert_eq!(tokens.standing("other", now), Standing::Unknown);
    }

    #[test]
    fn revoking_counts_live_tokens_only() {
        let now = Instant::now();
        let mut tokens = Tokens::new(43, 8);
        let (dead, live) =
            (tokens.issue(None, Some(now), Subject::default()), tokens.issue(None, None, Subject::default()));
        tokens.issue(None, None, Subject::default());
        assert!(!tokens.revoke(&dead, now) && !tokens.revoke("unknown", now));
        assert!(tokens.revoke(&live, now) && !tokens.revoke(&live, now));
        assert_eq!(tokens.standing(&live, now), Standing::Revoked);
        assert_eq!(tokens.standing(&dead, now), Standing::Expired);
        assert_eq!(tokens.revoke_all(now), 1);
        assert_eq!(tokens.revoke_all(now), 0);
    }

    #[test]
    fn memory_stays_bounded_over_a_million_issues() {
        let mut tokens = Tokens::new(MIN_TOKEN_LEN, 100);
        let first = tokens.issue(None, None, Subject::default());
        for _ in 0..1_000_000 {
            tokens.issue(None, None, Subject::default());
        }
        assert_eq!(tokens.count(), 1_000_001);
        assert_eq!((tokens.tokens.len(), tokens.order.len()), (100, 100));
        assert_eq!(tokens.standing(&first, Instant::now()), Standing::Unknown);
    }

    #[test]
    fn a_token_that_is_issued_again_starts_a_new_life() {
        let now = Instant::now();
        let mut tokens = Tokens::new(43, 2);
        tokens.issue(Some("same".into()), Some(now), Subject::default());
        tokens.issue(Some("same".into()), None, Subject::default());
        tokens.issue(None, None, Subject::default());
        assert_eq!(tokens.standing("same", now), Standing::Live);
        tokens.issue(None, None, Subject::default());
        assert_eq!(tokens.standing("same", now), Standing::Unknown);
    }

    #[test]
    fn a_family_ends_together_and_the_newest_of_a_client_is_known() {
        let now = Instant::now();
        let mut tokens = Tokens::new(43, 8);
        let of = |family| Subject { client: "c".into(), family, ..Subject::default() };
        let (first, other) = (tokens.issue(None, None, of(Some(1))), tokens.issue(None, None, of(Some(2))));
        let second = tokens.issue(None, None, of(Some(1)));
        tokens.issue(None, None, Subject { client: "d".into(), ..Subject::default() });
        assert_eq!(tokens.newest_of("c", now), Some(&*second));
        tokens.revoke_family(1, now);
        assert_eq!([&first, &second].map(|token| tokens.standing(token, now)), [Standing::Revoked; 2]);
        assert_eq!((tokens.newest_of("c", now), tokens.newest_of("e", now)), (Some(&*other), None));
    }
}
