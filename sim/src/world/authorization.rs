//! What users have allowed, and the refresh tokens that stand for it.

use std::{collections::BTreeMap, time::Duration};

use super::{World, millis};
use crate::{
    plan::{Grant, Plan},
    trace::Happened,
};

#[derive(Default)]
pub struct Authorizations {
    /// By number; the last one is the user's latest.
    all: BTreeMap<u64, Authorization>,
    refresh_tokens: BTreeMap<u64, RefreshToken>,
    /// How many were issued, those included that the server knows no more.
    issued: u64,
    /// When the user ended the last one that was dead.
    replaced: Option<Duration>,
    /// The refresh token that somebody has heard of last in an answer, and when.
    latest: Option<(u64, Duration)>,
}

struct Authorization {
    revoked: bool,
    ends: Option<Duration>,
}

struct RefreshToken {
    authorization: u64,
    issued: Duration,
    /// When it was shown for the first time, where that spends it.
    spent: Option<Duration>,
    /// When the client had all of an answer to that.
    heard: Option<Duration>,
}

/// What becomes of a refresh token that is shown.
pub enum Shown {
    /// It stands for this authorization, which ends then.
    Good {
        authorization: u64,
        ends: Option<Duration>,
    },
    Refused,
    /// And everything that was allowed is taken back.
    Stolen {
        heard: Option<Duration>,
    },
}

impl Authorizations {
    pub fn revoke(&mut self) {
        self.all.values_mut().for_each(|authorization| authorization.revoked = true);
    }

    /// What was issued or spent later isn't known any more.
    pub fn set_back(&mut self, to: Duration) {
        self.refresh_tokens.retain(|_, token| token.issued <= to);
        for token in self.refresh_tokens.values_mut() {
            token.spent.take_if(|spent| *spent > to);
        }
    }

    /// Somebody shows a refresh token.
    pub fn show(&mut self, number: u64, plan: &Plan, now: Duration) -> Shown {
        let Some(token) = self.refresh_tokens.get_mut(&number) else { return Shown::Refused };
        let number = token.authorization;
        let authorization = self.all.get_mut(&number).expect("it was issued for one");
        if authorization.revoked || authorization.ends.is_some_and(|ends| ends <= now) {
            return Shown::Refused;
        }
        if let Grant::Rotating { grace } = plan.server.grant {
            let first = *token.spent.get_or_insert(now);
            if now > first + millis(grace) {
                authorization.revoked = true;
                return Shown::Stolen { heard: token.heard };
            }
        }
        if let Some(ending) = plan.server.ends.filter(|ending| ending.slides) {
            authorization.ends = Some(now + millis(ending.after));
        }
        Shown::Good { authorization: number, ends: authorization.ends }
    }

    /// The number of a new refresh token for this authorization.
    pub fn issue(&mut self, authorization: u64, now: Duration) -> u64 {
        let number = self.issued;
        self.issued += 1;
        self.refresh_tokens.insert(number, RefreshToken { authorization, issued: now, spent: None, heard: None });
        number
    }

    /// Whether the server would take the refresh token that it issued last.
    fn lives(&self, now: Duration) -> bool {
        let latest = self.refresh_tokens.get(&(self.issued - 1));
        latest
            .and_then(|token| self.all.get(&token.authorization))
            .is_some_and(|authorization| !authorization.revoked && authorization.ends.is_none_or(|ends| now < ends))
    }
}

impl World {
    /// The user authorizes: the number of the refresh token that comes of it.
    pub fn authorize(&self) -> u64 {
        let now = self.trace.now();
        let ends = self.plan.server.ends.map(|ending| now + millis(ending.after));
        let mut state = self.lock();
        let authorizations = &mut state.authorizations;
        if authorizations.issued > 0 && !authorizations.lives(now) {
            authorizations.replaced = Some(now);
        }
        // What becomes of it is the user's to see.
        authorizations.latest = None;
        let number = authorizations.all.len() as u64;
        authorizations.all.insert(number, Authorization { revoked: false, ends });
        authorizations.issue(number, now)
    }

    /// Notes whether the store has the refresh token that came last.
    pub fn look_into_the_store(&self) {
        if let Some((heard, at)) = self.lock().authorizations.latest {
            let stored = self.shelf.refresh_token().and_then(|token| token.strip_prefix('r')?.parse().ok());
            self.trace.note(Happened::Kept { stored, heard, at });
        }
    }

    /// Whether the authorization lives, or none is needed.
    pub fn authorization_lives(&self) -> bool {
        let now = self.trace.now();
        self.plan.server.grant == Grant::ClientCredentials || self.lock().authorizations.lives(now)
    }

    /// Whether it has lived for a minute: what was refused before may be heard later.
    pub fn authorization_has_lived(&self) -> bool {
        let replaced = self.lock().authorizations.replaced;
        self.authorization_lives() && replaced.is_none_or(|at| self.trace.now() > at + millis(60_000))
    }

    pub(super) fn show(&self, number: u64) -> Shown {
        let now = self.trace.now();
        let shown = self.lock().authorizations.show(number, &self.plan, now);
        if let Shown::Stolen { heard } = shown {
            self.trace.note(Happened::Reused { heard });
            // RFC 9700 section 4.14.2: the access tokens go, too.
            self.lock().tokens.values_mut().for_each(|token| token.ends = token.ends.min(now));
        }
        shown
    }

    /// The client has an answer to this refresh token, with the next.
    pub(super) fn heard(&self, number: Option<u64>, next: Option<u64>) {
        let now = self.trace.now();
        let mut state = self.lock();
        state.authorizations.latest = next.map(|next| (next, now)).or(state.authorizations.latest);
        if let Some(token) = number.and_then(|number| state.authorizations.refresh_tokens.get_mut(&number)) {
            token.heard.get_or_insert(now);
        }
    }
}
