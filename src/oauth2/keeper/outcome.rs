//! What a failed exchange means, and what is written down of it.

use std::time::Duration;

use super::{
    Grant, Keeper,
    plan::{self, Spend},
};
use crate::{
    FetchError, FetchErrorKind, FetchRequest, backoff,
    oauth2::{EndpointError, TokenSet},
    store::{
        Swap, TokenStore,
        record::{Dead, End, Failure, Guess, Record, Suspicion},
    },
};

/// An exchange that brought nothing.
pub(super) struct Failed<'a> {
    /// How far leases counted before it.
    pub(super) spent_before: u64,
    pub(super) spend: Spend,
    /// What is stored, in which version.
    pub(super) record: Record,
    pub(super) version: u64,
    pub(super) request: &'a FetchRequest,
    pub(super) took: Duration,
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Judges why an exchange failed, and tells the others, as far as the store lets it: what isn't written makes the next one more
    /// careful, nothing else. `None` if somebody else has taken over meanwhile, and what they have stored counts.
    pub(super) async fn write_down(&self, failed: Failed<'_>, error: FetchError) -> Option<FetchError> {
        let Failed { spent_before, spend, mut record, version, request, took } = failed;
        let before = record.clone();
        let refusal = error.cause().downcast_ref::<EndpointError>();
        if spend == Spend::Once && refusal.is_some_and(|refusal| !refusal.may_have_acted()) {
            // Should the intent stay nevertheless, this owner knows better.
            record.intent = None;
            self.memo().spent = spent_before;
        }
        let (error, guess) = self.confirm_guess(&record, error, request);
        let error = self.soon_enough(&record, error, request);
        let kind = error.kind();
        // A guess isn't written down as the end: it is tried again.
        if kind == FetchErrorKind::ReauthorizationRequired && spend != Spend::Nothing && guess.is_none() {
            let error = match spend {
                Spend::Again => explain(&error, SPENT),
                _ if self.may_be_older() => explain(&error, FAILOVER),
                _ => error,
            };
            record.dead = Some(self.dead(End::Refused, &record, &error));
            return self.is_still_ours(version, &before, &record).await.then_some(error);
        }
        if kind == FetchErrorKind::Rejected && !error.is_tried_unattended() && self.grant.credentials().is_some() {
            record.dead = Some(self.dead(End::Password, &record, &error));
        } else if kind == FetchErrorKind::TryAgain || guess.is_some() {
            record.failure = self.failure(&record, &error, guess, took);
        }
        self.is_still_ours(version, &before, &record).await.then_some(error)
    }

    /// Writes it, unless the entry is another one by now. A store that fails says nothing of that.
    async fn is_still_ours(&self, version: u64, before: &Record, record: &Record) -> bool {
        !matches!(self.swap_ours(version, before, record).await, Ok(Swap::Lost))
    }

    /// What an answer makes of the entry, and why it brings no access token, if it doesn't.
    pub(super) fn next_of(
        &self,
        record: &Record,
        mut brought: TokenSet,
        held: Option<&TokenSet>,
        request: &FetchRequest,
    ) -> (Record, Option<FetchError>) {
        let flaw = brought.flaw.take();
        let spent = held.and_then(TokenSet::refresh_token);
        let rotated = brought.refresh_token().is_some_and(|new| Some(new) != spent);
        let asks = if brought.access_token.is_some() { self.account.asks() } else { &record.asks };
        let mut next = record.clone().with_set(brought.succeed(held), asks);
        if spent.is_some() {
            // Once is enough: some servers rotate late in the life of a refresh token only.
            next.rotates = Some(rotated || record.rotates == Some(true));
        }
        let Some(flaw) = flaw else { return (next, None) };
        // Whatever it says of the one that was sent: there is a new one to go on with.
        let flaw = if flaw.kind() == FetchErrorKind::TryAgain { flaw } else { FetchError::try_again(reason(&flaw)) };
        let (flaw, guess) = self.confirm_guess(record, flaw, request);
        next.failure = self.failure(record, &flaw, guess, Duration::ZERO);
        (next, Some(flaw))
    }

    /// A guess becomes a verdict when it was seen often enough.
    fn confirm_guess(&self, record: &Record, error: FetchError, request: &FetchRequest) -> (FetchError, Option<Guess>) {
        let Some(suspected) = error.suspected() else { return (error, None) };
        let verdict = match (suspected.kind(), suspected.is_tried_unattended()) {
            (FetchErrorKind::Rejected, true) => Suspicion::Client,
            (FetchErrorKind::Rejected, false) => Suspicion::Password,
            _ => Suspicion::User,
        };
        let (now, of) = (self.time.now(), self.configuration());
        let mut memo = self.memo();
        // By the clock that can't be set, too.
        let since = memo.guessing.filter(|(before, _)| *before == verdict).map_or(now, |(_, since)| since);
        memo.guessing = Some((verdict, since));
        let question = plan::Question { of: &of, ..self.question(&memo, request) };
        let (guess, is_final) = plan::guess(record, verdict, now.since(since), &question);
        let error = match (is_final, verdict) {
            (false, _) => error.clone(),
            // Nobody knows for certain, and a user who need not log in must not have to.
            (true, Suspicion::User) => suspected.clone().tried_every(GUESS_PACE),
            (true, _) => suspected.clone(),
        };
        (error, Some(guess))
    }

    /// Within the grace there is another attempt, whatever the server asks for.
    fn soon_enough(&self, record: &Record, error: FetchError, request: &FetchRequest) -> FetchError {
        let Some(asked) = error.wait_asked() else { return error };
        let memo = self.memo();
        let wait = plan::within_grace(record, &self.question(&memo, request), asked);
        error.retry_after(wait)
    }

    /// Whether the refresh token in the store may be an older one than the last that was stored.
    fn may_be_older(&self) -> bool {
        let memo = self.memo();
        memo.store_was_unreliable || !memo.has_stored
    }

    fn failure(&self, record: &Record, error: &FetchError, guess: Option<Guess>, took: Duration) -> Option<Failure> {
        let count = record.failures().saturating_add(1);
        let lifetime = record.set.as_ref().and_then(|set| set.lifetime);
        let wait = match error.kind() {
            FetchErrorKind::Rejected => Duration::ZERO, // everybody finds out
            _ => backoff::after_failure(error, count, lifetime, &mut self.memo().rng)?,
        };
        let until = self.time.wall() + backoff::left(error, wait, took);
        // An outage in between says nothing about a guess.
        let guess = guess.or_else(|| record.failure.as_ref()?.guess.clone());
        let (by, text) = (self.me.clone(), error.cause().to_string());
        let asked = error.wait_asked().is_some();
        Some(Failure { count, at: self.time.wall(), until, asked, by, of: self.configuration(), text, guess })
    }

    /// With what it was refused, beside what others were refused with.
    fn dead(&self, end: End, record: &Record, error: &FetchError) -> Dead {
        let before = record.dead.as_ref().filter(|dead| dead.end == end);
        let (mut told, salt) = match before {
            Some(dead) => (dead.refused_with.clone(), dead.salt.clone()),
            None => (Vec::new(), format!("{:016x}", self.memo().rng.u64(..))),
        };
        if let Some(credentials) = self.credentials() {
            let mark = credentials.mark(&salt);
            told.retain(|known| *known != mark);
            told.push(mark);
            told.drain(..told.len().saturating_sub(MOST_TOLD));
        }
        Dead { end, text: error.cause().to_string(), refused_with: told, salt }
    }
}

/// The server's refusal, and what is known besides.
fn explain(error: &FetchError, why: &str) -> FetchError {
    let reason = reason(error);
    FetchError::reauthorize(EndpointError { text: format!("{why}; {}", reason.text), ..reason })
}

fn reason(error: &FetchError) -> EndpointError {
    let refusal = error.cause().downcast_ref::<EndpointError>();
    refusal.cloned().unwrap_or_else(|| EndpointError::unsent(&error.cause().to_string()))
}

/// As after a long outage: it may be a proxy's page.
const GUESS_PACE: Duration = Duration::from_secs(60);

const SPENT: &str = "the refresh token was spent and the answer never came, perhaps because a process ended in between, and the server \
                     doesn't take it again";

const FAILOVER: &str = "this refresh token was stored by another process or an earlier run, or the store has failed since: a newer one \
                        may have been lost in a failover";

/// More configurations than take turns in one rollout.
const MOST_TOLD: usize = 16;
