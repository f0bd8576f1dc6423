//! What an owner of a token set does next: pure. `keeper` asks it twice, before it has the lease and again when it has it.

use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret;

use crate::{
    AccessToken, FetchError, FetchReason, FetchRequest,
    store::{
        TokenSet,
        record::{Dead, Record},
    },
};

/// What has to be known.
pub(super) struct Question<'a> {
    pub(super) request: &'a FetchRequest,
    /// The access token that was handed on last.
    pub(super) handed: Option<&'a str>,
    /// This process, among those that share the store.
    pub(super) me: &'a str,
    /// The last lease of ours under which something may have been spent: the intents of later ones were followed by nothing.
    pub(super) spent: u64,
    /// What became of an intent is to be found out now, though the access token still works.
    pub(super) resolve: bool,
    /// How long after a refresh token may have been spent it is sent again.
    pub(super) grace: Duration,
    pub(super) now: SystemTime,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Plan {
    /// The set in the store is as good as a new one.
    HandOn(TokenSet),
    /// Another process has failed just now: nobody tries again yet.
    Wait(FetchError),
    /// Ask for a new one.
    Fetch(Fetch),
}

#[derive(Debug)]
pub(super) struct Fetch {
    /// What is left to ask with.
    pub(super) held: Option<TokenSet>,
    pub(super) spend: Spend,
    /// Why there is no refresh token in `held`.
    pub(super) dead: Option<Dead>,
}

/// What an exchange does to the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spend {
    /// Nothing: it can simply be repeated.
    Nothing,
    /// It is spent, so it is written down first that this is about to happen.
    Once,
    /// It may have been spent before, and is sent again while the server may still answer (its grace).
    Again,
}

/// Decides. `repeatable` says whether an exchange with this set can be repeated.
pub(super) fn plan(record: &Record, question: &Question<'_>, repeatable: impl Fn(Option<&TokenSet>) -> bool) -> Plan {
    let resolves = question.resolve && (record.intent.is_some() || record.dead.is_some());
    if let Some(set) = record.set.as_ref().filter(|set| !resolves && is_worth_handing_on(set, question)) {
        return Plan::HandOn(set.clone());
    }
    if let Some(wait) = failed_elsewhere(record, question) {
        return Plan::Wait(wait);
    }
    let asked = question.request.reason() == FetchReason::Asked;
    // A refusal may have been a mistake, and somebody who asks may know. What was lost stays lost.
    let dead = record.dead.clone().filter(|dead| dead.lost || !asked);
    let lost = || record.intent.as_ref().filter(|intent| !is_unsent(&intent.by, question));
    let (spend, dead) = match lost() {
        _ if dead.is_some() || repeatable(record.set.as_ref()) => (Spend::Nothing, dead),
        None => (Spend::Once, None),
        Some(intent) if distance(intent.at, question.now) < question.grace => (Spend::Again, None),
        // Later, to show it again is what a thief would do (RFC 9700 §4.14.2).
        Some(_) => (Spend::Nothing, Some(Dead { lost: true, text: LOST.to_owned() })),
    };
    let held = record.set.clone().map(|set| if dead.is_some() { set.without_refresh_token() } else { set });
    Plan::Fetch(Fetch { held, spend, dead })
}

/// Whether the set is one that hasn't been handed on yet, and still good: one that was adopted, one that another process brought, or
/// this one before it was started anew.
pub(super) fn is_worth_handing_on(set: &TokenSet, question: &Question<'_>) -> bool {
    // One that came from elsewhere and can't be sent is no better than none: the refresh token is what is left.
    let Some(token) = set.access_token.as_ref().filter(|token| AccessToken::new(token.expose_secret()).is_ok()) else {
        return false;
    };
    let token = token.expose_secret();
    let refused = question.request.refused().is_some_and(|refused| refused.expose_secret() == token);
    let alive = set.lifetime.is_none_or(|lifetime| set.age(question.now) < lifetime);
    // Told that there is something new, and there is not: what is there is handed on again, and nothing is spent.
    let new = question.handed != Some(token) || question.request.reason() == FetchReason::Changed;
    new && alive && !refused
}

/// Whether a failure of another process still counts: one attempt then stands for all.
fn failed_elsewhere(record: &Record, question: &Question<'_>) -> Option<FetchError> {
    let failure = record.failure.as_ref().filter(|failure| failure.by != question.me)?;
    let left = failure.until.duration_since(question.now).ok()?;
    // Longer than anybody is told to wait: the clocks of two machines don't agree, and nobody knows what it means.
    if left > LONGEST_WAIT || question.request.reason() == FetchReason::Asked {
        return None;
    }
    let text = format!("another process that shares the store has just failed: {}", failure.text);
    Some(FetchError::try_again(text).retry_after(left))
}

/// Whether nothing followed an intent that was written under this lease, because it is ours and we know it.
fn is_unsent(lease: &str, question: &Question<'_>) -> bool {
    let number = lease.strip_prefix(question.me).and_then(|number| number.strip_prefix('-'));
    number.and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number > question.spent)
}

/// Between two times, whichever comes first: a clock that was set back says no more than one that runs ahead.
fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default()
}

const LOST: &str = "the refresh token was spent and the answer never came, perhaps because a process ended in between, and it is too \
                    late to ask for it again";

/// The longest `Retry-After` that is obeyed, and what is added to it.
const LONGEST_WAIT: Duration = Duration::from_secs(3601);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::{Failure, Intent};

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn set() -> TokenSet {
        let mut set = TokenSet::of_access_token("a").expires_in(60 * SECOND).with_refresh_token("r");
        set.requested_at = now();
        set
    }

    fn request(reason: FetchReason, refused: Option<&str>) -> FetchRequest {
        FetchRequest::because(reason, refused.map(|token| AccessToken::new(token).unwrap()), SECOND)
    }

    fn ask<'a>(request: &'a FetchRequest, handed: Option<&'a str>, later: Duration) -> Question<'a> {
        Question { request, handed, me: "me", spent: 0, resolve: false, grace: 10 * SECOND, now: now() + later }
    }

    /// As the refresh token grant sees it.
    fn rotating(set: Option<&TokenSet>) -> bool {
        set.is_none_or(|set| set.refresh_token.is_none())
    }

    fn fetch(record: &Record, question: &Question<'_>) -> Fetch {
        match plan(record, question, rotating) {
            Plan::Fetch(fetch) => fetch,
            other => panic!("{other:?}"),
        }
    }

    fn hands_on(record: &Record, question: &Question<'_>) -> bool {
        matches!(plan(record, question, rotating), Plan::HandOn(_))
    }

    #[test]
    fn what_is_new_alive_and_not_refused_is_handed_on() {
        let record = Record { set: Some(set()), ..Record::default() };
        for (reason, handed, refused, later, expected) in [
            (FetchReason::First, None, None, 0, true),
            (FetchReason::First, None, None, 59, true),
            (FetchReason::First, None, None, 60, false),
            (FetchReason::Due, Some("older"), None, 0, true),
            (FetchReason::Due, Some("a"), None, 0, false),
            (FetchReason::Changed, Some("a"), None, 0, true),
            (FetchReason::Asked, Some("a"), None, 0, false),
            (FetchReason::Refused, Some("a"), Some("a"), 0, false),
            (FetchReason::Refused, Some("older"), Some("older"), 0, true),
            (FetchReason::Refused, Some("older"), Some("a"), 0, false),
            (FetchReason::Changed, Some("older"), Some("a"), 0, false),
        ] {
            let request = request(reason, refused);
            let found = hands_on(&record, &ask(&request, handed, later * SECOND));
            assert_eq!(found, expected, "{reason:?} {handed:?} {refused:?} {later}");
        }
    }

    #[test]
    fn a_refresh_token_is_spent_once_then_again_within_the_grace_then_never() {
        let due = request(FetchReason::Due, None);
        let mut record = Record { set: Some(set()), ..Record::default() };
        assert_eq!(fetch(&record, &ask(&due, Some("a"), SECOND)).spend, Spend::Once);

        record.intent = Some(Intent { at: now() + 2 * SECOND, by: "lease".into() });
        for later in [2, 11] {
            let again = fetch(&record, &ask(&due, Some("a"), later * SECOND));
            assert_eq!(again.spend, Spend::Again);
            assert_eq!(again.held.unwrap().refresh_token(), Some("r"));
        }
        // The clock was set back a little: as good as forward.
        assert_eq!(fetch(&record, &ask(&due, Some("a"), Duration::ZERO)).spend, Spend::Again);

        for reason in [FetchReason::Due, FetchReason::First, FetchReason::Asked, FetchReason::Refused] {
            let request = request(reason, Some("a"));
            let late = fetch(&record, &ask(&request, Some("a"), 12 * SECOND));
            assert_eq!(late.spend, Spend::Nothing);
            assert!(late.dead.unwrap().lost);
            assert_eq!(late.held.unwrap().refresh_token(), None);
        }
    }

    #[test]
    fn an_intent_that_nothing_followed_does_not_count() {
        let due = request(FetchReason::Due, None);
        for (by, expected) in [
            ("me-8", Spend::Once),
            ("me-7", Spend::Nothing),
            ("me-6", Spend::Nothing),
            ("other-8", Spend::Nothing),
            ("me8", Spend::Nothing),
            ("me", Spend::Nothing),
        ] {
            let intent = Some(Intent { at: now(), by: by.into() });
            let record = Record { set: Some(set()), intent, ..Record::default() };
            let question = Question { spent: 7, ..ask(&due, Some("a"), 3600 * SECOND) };
            assert_eq!(fetch(&record, &question).spend, expected, "{by}");
        }
    }

    #[test]
    fn what_can_be_repeated_needs_no_intent_and_is_never_lost() {
        let due = request(FetchReason::Due, None);
        let intent = Some(Intent { at: now(), by: "lease".into() });
        let record = Record { set: Some(set()), intent, ..Record::default() };
        let Plan::Fetch(fetch) = plan(&record, &ask(&due, Some("a"), 3600 * SECOND), |_| true) else { panic!() };
        assert_eq!((fetch.spend, fetch.dead), (Spend::Nothing, None));
        assert_eq!(fetch.held.unwrap().refresh_token(), Some("r"));
    }

    #[test]
    fn a_refused_refresh_token_is_tried_again_by_who_asks_and_a_lost_one_is_not() {
        let dead =
            |lost| Record { set: Some(set()), dead: Some(Dead { lost, text: String::new() }), ..Record::default() };
        for (lost, reason, expected) in [
            (false, FetchReason::Due, Spend::Nothing),
            (false, FetchReason::Asked, Spend::Once),
            (true, FetchReason::Due, Spend::Nothing),
            (true, FetchReason::Asked, Spend::Nothing),
        ] {
            let request = request(reason, None);
            let fetch = fetch(&dead(lost), &ask(&request, Some("a"), SECOND));
            assert_eq!(fetch.spend, expected);
            assert_eq!(fetch.held.unwrap().refresh_token().is_some(), expected == Spend::Once);
        }
        let first = request(FetchReason::First, None);
        assert!(hands_on(&dead(true), &ask(&first, None, SECOND)), "the access token still works");
    }

    #[test]
    fn one_failure_stands_for_all_until_it_is_over() {
        let failure = |by: &str, until| {
            let failure = Failure { count: 1, until: now() + until, by: by.into(), text: "503".into() };
            Record { failure: Some(failure), ..Record::default() }
        };
        let waits = |record: &Record, reason| {
            let request = request(reason, None);
            match plan(record, &ask(&request, None, Duration::ZERO), rotating) {
                Plan::Wait(error) => error.wait_asked(),
                _ => None,
            }
        };
        assert_eq!(waits(&failure("other", 5 * SECOND), FetchReason::First), Some(5 * SECOND));
        assert_eq!(waits(&failure("me", 5 * SECOND), FetchReason::First), None, "one's own backoff is enough");
        assert_eq!(waits(&failure("other", 5 * SECOND), FetchReason::Asked), None);
        assert_eq!(waits(&failure("other", Duration::ZERO), FetchReason::First), Some(Duration::ZERO));
        assert_eq!(waits(&failure("other", 10_000 * SECOND), FetchReason::First), None, "clocks that don't agree");
    }
}
