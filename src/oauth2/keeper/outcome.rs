//! What is written to the entry after an exchange, or after its failure.

use std::time::Duration;

use super::{
    Grant, Keeper,
    plan::{self, Spend},
};
use crate::{
    FetchError, FetchErrorKind, FetchRequest, backoff,
    oauth2::{EndpointError, TokenSet},
    store::{
        Credentials, Swap, TokenStore,
        record::{Dead, End, Failure, Guess, Record, Suspicion},
    },
};

/// An exchange that failed.
pub(super) struct FailedExchange<'a> {
    /// The last spending lease before it.
    pub(super) spending_lease_before: u64,
    pub(super) spend: Spend,
    /// The stored record.
    pub(super) record: Record,
    pub(super) version: u64,
    pub(super) request: &'a FetchRequest,
    pub(super) took: Duration,
    /// What the client authenticated with.
    pub(super) credentials: Option<Credentials>,
}

impl<G: Grant, S: TokenStore> Keeper<G, S> {
    /// Judges the failure of an exchange, and writes it to the entry for the other keepers. If the store fails, the error stays the same:
    /// without the note the next exchange is only more careful. `None` if another keeper has changed the entry, which counts then.
    pub(super) async fn record_failure(&self, failed: FailedExchange<'_>, error: FetchError) -> Option<FetchError> {
        let FailedExchange { spending_lease_before, spend, mut record, version, request, took, credentials } = failed;
        let configuration = self.configuration(credentials.as_ref());
        let before = record.clone();
        let refusal = error.cause().downcast_ref::<EndpointError>();
        // Where nobody knows what the client authenticates with, others may have another secret.
        let is_refused = credentials.is_some()
            && error.kind() == FetchErrorKind::Rejected
            && refusal.is_some_and(|refusal| refusal.status().is_some());
        if spend == Spend::Once && refusal.is_some_and(|refusal| !refusal.may_have_acted()) {
            // Nothing was spent. If the intent can't be removed, this keeper still knows that.
            record.intent = None;
            self.memo().last_spending_lease = spending_lease_before;
        }
        let (error, guess) = self.confirm_guess(&record, error, request, &configuration);
        let error = self.wait_within_grace(&record, error, request);
        let kind = error.kind();
        // A guess isn't the end of an authorization: it is tried again.
        if kind == FetchErrorKind::ReauthorizationRequired && spend != Spend::Nothing && guess.is_none() {
            let error = match spend {
                Spend::Again => explain(&error, SPENT),
                _ if self.may_be_older() => explain(&error, FAILOVER),
                _ => error,
            };
            record.dead = Some(self.dead(End::Refused, &record, &error, credentials.as_ref()));
            return self.write_if_unchanged(version, &before, &record).await.then_some(error);
        }
        if kind == FetchErrorKind::Rejected && !error.is_tried_unattended() && credentials.is_some() {
            record.dead = Some(self.dead(End::Password, &record, &error, credentials.as_ref()));
        } else if kind == FetchErrorKind::TryAgain || guess.is_some() || is_refused {
            record.failure = self.failure(&record, &error, guess, took, configuration);
        }
        self.write_if_unchanged(version, &before, &record).await.then_some(error)
    }

    /// Writes the record, unless another keeper has changed the entry: then `false`. A store that fails counts as unchanged.
    async fn write_if_unchanged(&self, version: u64, before: &Record, record: &Record) -> bool {
        !matches!(self.swap_if_unchanged(version, before, record).await, Ok(Swap::Lost))
    }

    /// The record after a response, and an error if the response has no access token.
    pub(super) fn record_after(
        &self,
        record: &Record,
        mut brought: TokenSet,
        held: Option<&TokenSet>,
        request: &FetchRequest,
        credentials: Option<&Credentials>,
    ) -> (Record, Option<FetchError>) {
        let flaw = brought.flaw.take();
        let spent = held.and_then(TokenSet::refresh_token);
        let rotated = brought.refresh_token().is_some_and(|new| Some(new) != spent);
        let asks = if brought.access_token.is_some() { self.account.asks() } else { &record.asks };
        let mut next = record.clone().with_set(brought.succeed(held), asks);
        if spent.is_some() {
            // One rotation is enough: some servers rotate only late in the lifetime of a refresh token.
            next.rotates = Some(rotated || record.rotates == Some(true));
        }
        let Some(flaw) = flaw else { return (next, None) };
        // Whatever the error says of the old refresh token, there is a new one to try.
        let is_passing = flaw.kind() == FetchErrorKind::TryAgain;
        let flaw = if is_passing { flaw } else { FetchError::try_again(endpoint_error_of(&flaw)) };
        let configuration = self.configuration(credentials);
        let (flaw, guess) = self.confirm_guess(record, flaw, request, &configuration);
        next.failure = self.failure(record, &flaw, guess, Duration::ZERO, configuration);
        (next, Some(flaw))
    }

    /// A guess becomes a verdict when it was seen often enough, for long enough.
    fn confirm_guess(
        &self,
        record: &Record,
        error: FetchError,
        request: &FetchRequest,
        configuration: &str,
    ) -> (FetchError, Option<Guess>) {
        let Some(suspected) = error.suspected() else { return (error, None) };
        let verdict = match (suspected.kind(), suspected.is_tried_unattended()) {
            (FetchErrorKind::Rejected, true) => Suspicion::Client,
            (FetchErrorKind::Rejected, false) => Suspicion::Password,
            _ => Suspicion::User,
        };
        let now = self.time.now();
        let mut memo = self.memo();
        // Also measured by the monotonic clock, because the wall clock may be set.
        let since = memo.suspected.filter(|(before, _)| *before == verdict).map_or(now, |(_, since)| since);
        memo.suspected = Some((verdict, since));
        let question = plan::Question { configuration, ..self.question(&memo, request) };
        let (guess, is_final) = plan::guess(record, verdict, now.since(since), &question);
        let error = match (is_final, verdict) {
            (false, _) => error.clone(),
            // It is still a guess. Trying on spares the user a login, if it was wrong.
            (true, Suspicion::User) => suspected.clone().tried_every(GUESS_PACE),
            (true, _) => suspected.clone(),
        };
        (error, Some(guess))
    }

    /// Shortens the wait that the server asked for, so that there is another attempt within the grace.
    fn wait_within_grace(&self, record: &Record, error: FetchError, request: &FetchRequest) -> FetchError {
        let Some(asked) = error.wait_asked() else { return error };
        let memo = self.memo();
        let wait = plan::within_grace(record, &self.question(&memo, request), asked);
        error.retry_after(wait)
    }

    /// Whether the store may have gone back to an older refresh token.
    fn may_be_older(&self) -> bool {
        let memo = self.memo();
        memo.store_was_unreliable || !memo.has_stored
    }

    fn failure(
        &self,
        record: &Record,
        error: &FetchError,
        guess: Option<Guess>,
        took: Duration,
        configuration: String,
    ) -> Option<Failure> {
        let count = record.failures().saturating_add(1);
        let lifetime = record.set.as_ref().and_then(|set| set.lifetime);
        let wait = match error.kind() {
            // It was a guess, and each process finds this out for itself.
            FetchErrorKind::Rejected if guess.is_some() => Duration::ZERO,
            _ => backoff::after_failure(error, count, lifetime, &mut self.memo().rng)?,
        };
        let until = self.time.wall() + backoff::left(error, wait, took);
        // A failure of another kind leaves the guess as it was.
        let is_refused = error.kind() == FetchErrorKind::Rejected && guess.is_none();
        let refused = is_refused.then(|| self.account.asks().to_owned());
        let guess = guess.or_else(|| record.failure.as_ref()?.guess.clone());
        let (keeper, text) = (self.name.clone(), error.cause().to_string());
        let server_asked = error.wait_asked().is_some();
        Some(Failure { count, at: self.time.wall(), until, server_asked, keeper, configuration, text, guess, refused })
    }

    /// The end, with a mark of the credentials that were refused, beside those of other configurations.
    fn dead(&self, end: End, record: &Record, error: &FetchError, credentials: Option<&Credentials>) -> Dead {
        let before = record.dead.as_ref().filter(|dead| dead.end == end);
        let (mut refused_with, salt) = match before {
            Some(dead) => (dead.refused_with.clone(), dead.salt.clone()),
            None => (Vec::new(), format!("{:016x}", self.memo().rng.u64(..))),
        };
        if let Some(credentials) = credentials {
            let mark = credentials.mark(&salt);
            refused_with.retain(|known| *known != mark);
            refused_with.push(mark);
            refused_with.drain(..refused_with.len().saturating_sub(MOST_MARKS));
        }
        Dead { end, text: error.cause().to_string(), refused_with, salt }
    }
}

/// The server's refusal, with an explanation before it.
fn explain(error: &FetchError, why: &str) -> FetchError {
    let reason = endpoint_error_of(error);
    FetchError::reauthorize(EndpointError { text: format!("{why}; {}", reason.text), ..reason })
}

fn endpoint_error_of(error: &FetchError) -> EndpointError {
    let refusal = error.cause().downcast_ref::<EndpointError>();
    refusal.cloned().unwrap_or_else(|| EndpointError::unsent(&error.cause().to_string()))
}

/// The pace of a long outage, because the refusal may be a proxy's page.
const GUESS_PACE: Duration = Duration::from_secs(60);

const SPENT: &str = "the refresh token was spent and the answer never came, perhaps because a process ended in between, and the server \
                     doesn't take it again";

const FAILOVER: &str = "this refresh token was stored by another process or an earlier run, or the store has failed since: a newer one \
                        may have been lost in a failover";

/// A rollout has fewer configurations side by side.
const MOST_MARKS: usize = 16;
