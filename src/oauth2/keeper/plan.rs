//! Decides what a fetch does, from the stored record and what the keeper knows. Pure. `renew` asks it twice: before it has the lease, and
//! again with the lease.

use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret;

use crate::{
    AccessToken, FetchError, FetchReason, FetchRequest,
    store::{
        Credentials, TokenSet,
        record::{Dead, End, Failure, Guess, Record, Suspicion},
    },
};

/// What the decision depends on, beside the record.
pub(super) struct Question<'a> {
    pub(super) request: &'a FetchRequest,
    /// The access token that was handed on last.
    pub(super) handed_on: Option<&'a str>,
    /// How long ago the API refused it first.
    pub(super) refused_for: Duration,
    /// What access tokens are asked for, hashed.
    pub(super) asks: &'a str,
    pub(super) credentials: Option<Credentials>,
    /// A mark of this configuration.
    pub(super) configuration: &'a str,
    /// The name of this keeper, among those that share the store.
    pub(super) keeper: &'a str,
    /// The last lease of this keeper under which a refresh token may have been sent. After an intent under a later one, nothing was sent.
    pub(super) last_spending_lease: u64,
    /// Whether this is the first fetch of this keeper.
    pub(super) is_first: bool,
    /// Find out now whether the refresh token works, although the access token does.
    pub(super) check_refresh_token: bool,
    /// How long a refresh token that may be spent is sent again.
    pub(super) grace: Duration,
    /// Whether it is sent once more after that, when the access token can no longer be used.
    pub(super) last_resort: bool,
    pub(super) now: SystemTime,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Plan {
    /// Hand on the stored set: it is as good as a new one.
    HandOn(TokenSet),
    /// Fail without a request.
    Fail(FetchError),
    /// Fail, unless another keeper has the lease: then wait for its response.
    Later(FetchError),
    /// Ask for a new set.
    Fetch(Fetch),
}

#[derive(Debug)]
pub(super) struct Fetch {
    /// The set to ask with.
    pub(super) held: Option<TokenSet>,
    pub(super) spend: Spend,
    /// Why there is no refresh token in `held`.
    pub(super) dead: Option<Dead>,
}

/// What an exchange may do to the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spend {
    /// Nothing: the exchange can be repeated.
    Nothing,
    /// Spend it. An intent is written first.
    Once,
    /// It may be spent already. It is sent again within the server's grace, or as the last resort.
    Again,
}

/// Decides. `repeatable`: whether an exchange with this set can be repeated.
pub(super) fn plan(record: &Record, question: &Question<'_>, repeatable: impl Fn(Option<&TokenSet>) -> bool) -> Plan {
    let asked = question.request.reason() == FetchReason::Asked;
    let dead = record.dead.as_ref().filter(|_| !asked).filter(|dead| match dead.end {
        End::Lost => !question.last_resort,
        _ => still_holds(dead, question.credentials.as_ref()),
    });
    let checks = question.check_refresh_token && (record.intent.is_some() || record.dead.is_some());
    // A new access token is handed on even before a check. Otherwise keepers that are always at work would keep it from this one.
    let is_due = |set: &TokenSet| !checks || set.access_token() != question.handed_on;
    let good = record.set.as_ref().filter(|set| record.asks == question.asks && is_worth_handing_on(set, question));
    if let Some(set) = good.filter(|set| is_due(set)) {
        return Plan::HandOn(set.clone());
    }
    if let Some(error) = wait_after_failure(record, question) {
        return Plan::Fail(error);
    }
    let held = |dead: Option<&Dead>| {
        let mut held = record.set.clone()?;
        held.worked = record.rotates.is_some() && record.asks == question.asks;
        Some(if dead.is_some() { held.without_refresh_token() } else { held })
    };
    if let Some(dead) = dead {
        return match dead.end {
            End::Password => Plan::Fail(FetchError::rejected_for_good(dead.text.clone())),
            _ => Plan::Fetch(Fetch { held: held(Some(dead)), spend: Spend::Nothing, dead: Some(dead.clone()) }),
        };
    }
    let fetch = |spend| Plan::Fetch(Fetch { held: held(None), spend, dead: None });
    if repeatable(record.set.as_ref()) {
        return fetch(Spend::Nothing);
    }
    let Some(intent) = record.intent.as_ref().filter(|intent| !is_unsent(&intent.lease, question)) else {
        return fetch(Spend::Once);
    };
    let in_grace = distance(intent.at, question.now) < question.grace;
    // Where renewals keep the refresh token, none is ever spent. A user who asks may know that it works.
    if in_grace || asked || record.rotates == Some(false) {
        return fetch(Spend::Again);
    }
    // After the grace a server takes a second use for a theft (RFC 9700 §4.14.2), and may end the access token in use. So this waits until
    // that token can no longer be used. Then nothing can be lost: without the refresh token the user must authorize again anyway.
    match (question.last_resort, is_over(record, question) && !is_doubted(record, question)) {
        (true, true) => fetch(Spend::Again),
        (true, false) => Plan::Later(FetchError::try_again(LATER).until_token_ends()),
        (false, _) => {
            let dead = Dead { end: End::Lost, text: LOST.to_owned(), refused_with: Vec::new(), salt: String::new() };
            Plan::Fetch(Fetch { held: held(Some(&dead)), spend: Spend::Nothing, dead: Some(dead) })
        }
    }
}

/// Whether the refusal still holds for a client with these credentials.
pub(super) fn still_holds(dead: &Dead, credentials: Option<&Credentials>) -> bool {
    credentials.is_none_or(|credentials| {
        dead.refused_with.is_empty() || dead.refused_with.contains(&credentials.mark(&dead.salt))
    })
}

/// Whether the stored access token is of no use any more.
pub(super) fn is_over(record: &Record, question: &Question<'_>) -> bool {
    let Some(set) = record.set.as_ref().filter(|set| set.is_alive(question.now)) else { return true };
    let token = set.access_token();
    let refused = question.request.refused().is_some_and(|refused| Some(refused.expose_secret()) == token);
    // An urgent request has no token that works, whatever the wall clock says. A token that can't be used is not waited for.
    let unusable = record.asks != question.asks || token.is_none_or(|token| AccessToken::new(token).is_err());
    refused || (question.request.is_urgent() && (unusable || question.handed_on == token))
}

/// Whether the access token is alive and only the API's 401s speak against it, not for long yet. One route that answers everybody with 401
/// must not end a token that all other routes accept.
fn is_doubted(record: &Record, question: &Question<'_>) -> bool {
    let alive = record.set.as_ref().is_some_and(|set| set.is_alive(question.now));
    let again = question.request.reason() == FetchReason::Refused && question.refused_for >= REFUSED_LASTS;
    alive && !question.request.is_urgent() && question.request.refused().is_some() && !again
}

/// Whether the set has an access token that is valid, not refused, and not handed on yet. It was adopted, fetched by another process, or
/// fetched by this one before a restart.
pub(super) fn is_worth_handing_on(set: &TokenSet, question: &Question<'_>) -> bool {
    // A token that can't be sent in a header is no better than none. The refresh token may bring another.
    let Some(token) = set.access_token.as_ref().filter(|token| AccessToken::new(token.expose_secret()).is_ok()) else {
        return false;
    };
    let token = token.expose_secret();
    let refused = question.request.refused().is_some_and(|refused| refused.expose_secret() == token);
    // After a false report of a change, the same token is handed on again, and nothing is spent.
    let new = question.handed_on != Some(token) || question.request.reason() == FetchReason::Changed;
    new && set.is_alive(question.now) && !refused
}

/// Why to wait without a request: the last failure still holds. One of another keeper stands for all. This keeper's own one counts if the
/// server asked for a wait, and only a change in the store has caused this fetch.
fn wait_after_failure(record: &Record, question: &Question<'_>) -> Option<FetchError> {
    let failure = record.failure.as_ref().filter(|failure| failure.configuration == question.configuration)?;
    let is_own = failure.keeper == question.keeper;
    if is_own && !(failure.server_asked && question.request.reason() == FetchReason::Changed) {
        return None;
    }
    let left = failure.until.duration_since(question.now).ok()?;
    if failure.refused.is_some() && !counts_for(failure, question) {
        return None;
    }
    let longest = match failure.server_asked {
        true => LONGEST_WAIT,
        false if failure.refused.is_some() => LONGEST_REFUSAL,
        false => LONGEST_BACKOFF,
    };
    // By the clock that it was written with: by one that is a little behind, the longest wait would be too long. A failure in the future means
    // that the machines' clocks don't agree. Then it doesn't count.
    let wait = failure.until.duration_since(failure.at).unwrap_or_default();
    if wait > longest || failure.at > question.now + CLOCK_DIFFERENCE || question.request.reason() == FetchReason::Asked
    {
        return None;
    }
    let whose = if is_own { "the token endpoint" } else { "another process that shares the store" };
    let text = format!("{whose} has just failed: {}", failure.text);
    let seems_over = failure
        .guess
        .as_ref()
        .is_some_and(|guess| guess.verdict == Suspicion::User && is_final(guess, Duration::ZERO, record, question));
    Some(match seems_over {
        _ if failure.refused.is_some() => FetchError::rejected(text).pace(left),
        true => FetchError::reauthorize(text).tried_every(left),
        false => FetchError::try_again(text).retry_after(left),
    })
}

/// Whether the refusal of another keeper's client stands for this one's. Who has just started finds out for itself, unless it started with the
/// others: somebody may have mended something.
fn counts_for(failure: &Failure, question: &Question<'_>) -> bool {
    let is_fresh = distance(failure.at, question.now) < LONGEST_BACKOFF;
    failure.refused.as_deref() == Some(question.asks) && (is_fresh || !question.is_first)
}

/// Whether nothing was sent after an intent under this lease. Only the keeper that held it can know.
fn is_unsent(lease: &str, question: &Question<'_>) -> bool {
    let number = lease.strip_prefix(question.keeper).and_then(|number| number.strip_prefix('-'));
    number.and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number > question.last_spending_lease)
}

/// The time between two moments, in any order, because a clock may have been set back.
pub(super) fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default()
}

/// The guess after it was seen once more, and whether it is final: it was seen three times, over a minute, and the access token can no longer be used.
/// `seen_here`: for how long this process has seen it.
pub(super) fn guess(
    record: &Record,
    verdict: Suspicion,
    seen_here: Duration,
    question: &Question<'_>,
) -> (Guess, bool) {
    let failure = record.failure.as_ref().filter(|failure| failure.configuration == question.configuration);
    let before = failure.and_then(|failure| failure.guess.as_ref());
    let (since, seen) = match before.filter(|guess| guess.verdict == verdict && guess.since <= question.now) {
        Some(guess) => (guess.since, guess.seen.saturating_add(1)),
        None => (question.now, 1),
    };
    let guess = Guess { verdict, since, seen };
    let is_final = is_final(&guess, seen_here, record, question);
    (guess, is_final)
}

fn is_final(guess: &Guess, seen_here: Duration, record: &Record, question: &Question<'_>) -> bool {
    let lasted = distance(guess.since, question.now).max(seen_here) >= GUESS_LASTS;
    guess.seen >= GUESSES && lasted && is_over(record, question) && !is_doubted(record, question)
}

/// How long to wait when the server asked for a wait. If a response may be lost, there must be another attempt within the grace.
pub(super) fn within_grace(record: &Record, question: &Question<'_>, asked: Duration) -> Duration {
    let left = record.intent.as_ref().map(|intent| question.grace.saturating_sub(distance(intent.at, question.now)));
    match left {
        Some(left) if !left.is_zero() => asked.min(left / 2),
        _ => asked,
    }
}

/// Why nothing is sent for now.
const LATER: &str = "the answer to the last renewal never came, and it is too late to ask for it again: the refresh token is tried once \
                     more when the access token in use expires";

/// Why nothing is sent any more.
const LOST: &str = "the refresh token was spent and the answer never came, perhaps because a process ended in between, and \
                               it is too late to ask for it again";

/// The longest pause between attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The longest pause after a refusal of the client.
const LONGEST_REFUSAL: Duration = Duration::from_secs(300);

/// How far the clocks of two machines may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);

/// The longest `Retry-After` that is obeyed, and what is added to it.
const LONGEST_WAIT: Duration = Duration::from_secs(3601);

/// How long the API must refuse a token before the last resort is tried.
const REFUSED_LASTS: Duration = Duration::from_secs(60);

const GUESSES: u32 = 3;

/// Longer than a deployment, or a proxy's faulty rule that somebody soon takes back.
const GUESS_LASTS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FetchErrorKind, store::record::Intent};

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
        FetchRequest::because(
            reason,
            refused.map(|token| (AccessToken::new(token).unwrap(), Duration::ZERO)),
            SECOND,
            false,
        )
    }

    fn ask<'a>(request: &'a FetchRequest, handed: Option<&'a str>, later: Duration) -> Question<'a> {
        Question {
            request,
            handed_on: handed,
            refused_for: Duration::ZERO,
            asks: "",
            credentials: None,
            configuration: "",
            keeper: "me",
            last_spending_lease: 0,
            is_first: false,
            check_refresh_token: false,
            grace: 10 * SECOND,
            last_resort: true,
            now: now() + later,
        }
    }

    /// As the refresh token grant sees it.
    fn rotating(set: Option<&TokenSet>) -> bool {
        set.is_none_or(|set| set.refresh_token.is_none())
    }

    fn failure(by: &str, until: SystemTime, guess: Option<Guess>) -> Failure {
        let (keeper, configuration, text) = (by.into(), String::new(), "503".into());
        Failure { count: 1, at: now(), until, server_asked: true, keeper, configuration, text, guess, refused: None }
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
    fn what_is_new_is_handed_on_before_it_is_found_out_what_became_of_an_intent() {
        let record = Record { set: Some(set()), intent: Some(intent("lease")), ..Record::default() };
        let request = request(FetchReason::Changed, None);
        for (handed, expected) in [(Some("older"), true), (Some("a"), false)] {
            let question = Question { check_refresh_token: true, ..ask(&request, handed, Duration::ZERO) };
            assert_eq!(hands_on(&record, &question), expected, "{handed:?}");
        }
    }

    /// What is done about an intent of somebody else, so long after it.
    fn late<'a>(request: &'a FetchRequest, later: Duration) -> (Record, Question<'a>) {
        let record = Record { set: Some(set()), intent: Some(intent("lease")), ..Record::default() };
        (record, ask(request, Some("a"), later))
    }

    fn intent(by: &str) -> Intent {
        Intent { at: now(), lease: by.into() }
    }

    fn waits_for_the_end(record: &Record, question: &Question<'_>) -> bool {
        matches!(plan(record, question, rotating), Plan::Later(error) if error.waits_for_token_end())
    }

    #[test]
    fn a_refresh_token_is_spent_once_again_within_the_grace_and_then_when_nothing_is_left_to_lose() {
        let due = request(FetchReason::Due, None);
        let record = Record { set: Some(set()), ..Record::default() };
        assert_eq!(fetch(&record, &ask(&due, Some("a"), SECOND)).spend, Spend::Once);

        let again = |request: &FetchRequest, later| {
            let (record, question) = late(request, later);
            let again = fetch(&record, &question);
            assert_eq!((again.spend, again.held.unwrap().refresh_token()), (Spend::Again, Some("r")), "{later:?}");
        };
        again(&due, Duration::ZERO);
        again(&due, 9 * SECOND);
        for later in [10, 59] {
            let (record, question) = late(&due, later * SECOND);
            assert!(waits_for_the_end(&record, &question), "{later}");
        }
        // The access token is over, by the clock or by who uses it.
        again(&due, 60 * SECOND);
        again(&FetchRequest::because(FetchReason::Due, None, SECOND, true), 11 * SECOND);
        // Somebody who asks may know.
        again(&request(FetchReason::Asked, None), 11 * SECOND);
    }

    #[test]
    fn an_api_that_refuses_a_token_for_a_minute_is_believed() {
        for (reason, refused_for, believed) in [
            (FetchReason::Refused, 0, false),
            (FetchReason::Refused, 59, false),
            (FetchReason::Due, 60, false),
            (FetchReason::Refused, 60, true),
        ] {
            let request = request(reason, Some("a"));
            let (record, question) = late(&request, 11 * SECOND);
            let question = Question { refused_for: refused_for * SECOND, ..question };
            assert_eq!(waits_for_the_end(&record, &question), !believed, "{reason:?} {refused_for}");
        }
    }

    #[test]
    fn the_last_resort_can_be_ruled_out() {
        for (reason, later) in [(FetchReason::Due, 12), (FetchReason::Due, 61), (FetchReason::Refused, 12)] {
            let request = request(reason, Some("a"));
            let (record, question) = late(&request, later * SECOND);
            let late = fetch(&record, &Question { last_resort: false, ..question });
            assert_eq!((late.spend, late.dead.map(|dead| dead.end)), (Spend::Nothing, Some(End::Lost)), "{reason:?}");
            assert_eq!(late.held.unwrap().refresh_token(), None);
        }
    }

    #[test]
    fn where_renewals_bring_the_same_refresh_token_nothing_is_ever_lost() {
        let due = request(FetchReason::Due, None);
        for (rotates, waits) in [(None, true), (Some(true), true), (Some(false), false)] {
            let (record, question) = late(&due, 30 * SECOND);
            assert_eq!(waits_for_the_end(&Record { rotates, ..record }, &question), waits, "{rotates:?}");
        }
    }

    #[test]
    fn an_intent_that_nothing_followed_does_not_count() {
        let due = request(FetchReason::Due, None);
        for (by, expected) in [
            ("me-8", Some(Spend::Once)),
            ("me-7", None),
            ("me-6", None),
            ("other-8", None),
            ("me8", None),
            ("me", None),
        ] {
            let record = Record { set: Some(set()), intent: Some(intent(by)), ..Record::default() };
            let question = Question { last_spending_lease: 7, ..ask(&due, Some("a"), 30 * SECOND) };
            match expected {
                Some(spend) => assert_eq!(fetch(&record, &question).spend, spend, "{by}"),
                None => assert!(waits_for_the_end(&record, &question), "{by}"),
            }
        }
    }

    #[test]
    fn what_can_be_repeated_needs_no_intent_and_is_never_lost() {
        let due = request(FetchReason::Due, None);
        let intent = Some(Intent { at: now(), lease: "lease".into() });
        let record = Record { set: Some(set()), intent, ..Record::default() };
        let Plan::Fetch(fetch) = plan(&record, &ask(&due, Some("a"), 3600 * SECOND), |_| true) else { panic!() };
        assert_eq!((fetch.spend, fetch.dead), (Spend::Nothing, None));
        assert_eq!(fetch.held.unwrap().refresh_token(), Some("r"));
    }

    fn dead(end: End, told: &[&Credentials]) -> Record {
        let told = told.iter().map(|credentials| credentials.mark("salt")).collect();
        let dead = Dead { end, text: "no".into(), refused_with: told, salt: "salt".into() };
        Record { set: Some(set()), dead: Some(dead), ..Record::default() }
    }

    #[test]
    fn what_was_refused_is_tried_again_by_who_asks_and_by_who_has_other_credentials() {
        let (old, new) = (Credentials::of("old"), Credentials::of("new"));
        for (told, mine, reason, tried) in [
            (&[&old][..], Some(&old), FetchReason::Due, false),
            (&[&old], Some(&old), FetchReason::Asked, true),
            (&[&old], Some(&new), FetchReason::Due, true),
            (&[&old, &new], Some(&new), FetchReason::Due, false),
            (&[&old], None, FetchReason::Due, false),
            (&[], Some(&new), FetchReason::Due, false),
        ] {
            let request = request(reason, None);
            let question = Question { credentials: mine.cloned(), ..ask(&request, Some("a"), SECOND) };
            let fetch = fetch(&dead(End::Refused, told), &question);
            assert_eq!(fetch.held.unwrap().refresh_token().is_some(), tried, "{told:?} {mine:?} {reason:?}");

            // A password that was refused isn't even sent.
            let planned = plan(&dead(End::Password, told), &question, |_| true);
            match planned {
                Plan::Fail(error) => assert!(!tried && !error.is_tried_unattended(), "{told:?} {mine:?} {reason:?}"),
                _ => assert!(tried, "{told:?} {mine:?} {reason:?}"),
            }
        }
        let first = request(FetchReason::First, None);
        assert!(hands_on(&dead(End::Refused, &[]), &ask(&first, None, SECOND)), "the access token still works");
    }

    #[test]
    fn what_another_configuration_asked_for_is_not_handed_on_and_its_refresh_token_goes_on() {
        let first = request(FetchReason::First, None);
        let record = Record { set: Some(set()), asks: "read".into(), ..Record::default() };
        assert!(!hands_on(&record, &ask(&first, None, SECOND)));
        let fetch = fetch(&record, &ask(&first, None, SECOND));
        assert_eq!((fetch.spend, fetch.held.unwrap().refresh_token()), (Spend::Once, Some("r")));
    }

    #[test]
    fn a_set_has_worked_if_the_same_was_asked_for_and_a_renewal_is_known() {
        let due = request(FetchReason::Due, None);
        for (rotates, asks, expected) in
            [(None, "", false), (Some(true), "", true), (Some(false), "", true), (Some(true), "read", false)]
        {
            let record = Record { set: Some(set()), rotates, asks: asks.into(), ..Record::default() };
            let fetch = fetch(&record, &ask(&due, Some("a"), SECOND));
            assert_eq!(fetch.held.unwrap().worked, expected, "{rotates:?} {asks:?}");
        }
    }

    #[test]
    fn a_guess_is_final_when_it_was_seen_three_times_in_a_minute_and_no_token_is_left() {
        let due = request(FetchReason::Due, None);
        let seen = |verdict, seen, since: u32| {
            let guess = Some(Guess { verdict, since: now() + since * SECOND, seen });
            let failure = failure("me", now(), guess);
            Record { set: Some(set()), failure: Some(failure), ..Record::default() }
        };
        for (record, later, expected) in [
            (Record::default(), 60, (1, false)),
            (seen(Suspicion::User, 1, 0), 60, (2, false)),
            (seen(Suspicion::User, 2, 0), 60, (3, true)),
            (seen(Suspicion::User, 2, 0), 59, (3, false)),
            (seen(Suspicion::User, 9, 0), 59, (10, false)),
            (seen(Suspicion::User, 2, 10), 69, (3, false)),
            (seen(Suspicion::User, 2, 10), 70, (3, true)),
            (seen(Suspicion::Client, 2, 0), 70, (1, false)),
        ] {
            let (guess, is_final) =
                guess(&record, Suspicion::User, Duration::ZERO, &ask(&due, Some("a"), later * SECOND));
            assert_eq!((guess.seen, is_final), expected, "{later}");
        }
    }

    #[test]
    fn no_wait_goes_beyond_the_grace_while_an_answer_may_be_lost() {
        let due = request(FetchReason::Due, None);
        let (record, question) = late(&due, 2 * SECOND);
        assert_eq!(within_grace(&record, &question, 90 * SECOND), 4 * SECOND);
        assert_eq!(within_grace(&record, &question, SECOND), SECOND);
        assert_eq!(within_grace(&Record::default(), &question, 90 * SECOND), 90 * SECOND);
        let (record, question) = late(&due, 11 * SECOND);
        assert_eq!(within_grace(&record, &question, 90 * SECOND), 90 * SECOND);
    }

    #[test]
    fn one_failure_stands_for_all_until_it_is_over() {
        let failure = |by: &str, until| {
            let failure = super::tests::failure(by, now() + until, None);
            Record { failure: Some(failure), ..Record::default() }
        };
        let waits = |record: &Record, reason| {
            let request = request(reason, None);
            match plan(record, &ask(&request, None, Duration::ZERO), rotating) {
                Plan::Fail(error) => error.wait_asked(),
                _ => None,
            }
        };
        assert_eq!(waits(&failure("other", 5 * SECOND), FetchReason::First), Some(5 * SECOND));
        assert_eq!(waits(&failure("me", 5 * SECOND), FetchReason::First), None, "one's own backoff is enough");
        assert_eq!(waits(&failure("other", 5 * SECOND), FetchReason::Asked), None);
        assert_eq!(waits(&failure("other", Duration::ZERO), FetchReason::First), Some(Duration::ZERO));
        assert_eq!(waits(&failure("other", 10_000 * SECOND), FetchReason::First), None, "clocks that don't agree");
    }

    #[test]
    fn a_failure_of_another_counts_for_as_long_as_anybody_waits_and_clocks_agree() {
        let first = request(FetchReason::First, None);
        for (asked, left, at, counts) in [
            (true, 3_601, 0, true),
            (true, 3_602, 0, false),
            (false, 60, 0, true),
            (false, 61, 0, false),
            (false, 60, 2, true),
            (false, 60, 3, false),
        ] {
            let failure = Failure {
                at: now() + at * SECOND,
                server_asked: asked,
                ..failure("other", now() + left * SECOND, None)
            };
            let record = Record { failure: Some(failure), ..Record::default() };
            let fails = matches!(plan(&record, &ask(&first, None, Duration::ZERO), rotating), Plan::Fail(_));
            assert_eq!(fails, counts, "{asked} {left} {at}");
        }
    }

    /// No two machines have the same time. By a clock that is behind, the longest waits seem to be longer still.
    #[test]
    fn a_failure_counts_for_a_machine_whose_clock_is_a_little_behind_too() {
        let due = request(FetchReason::Due, None);
        for (asked, wait, refused) in [(true, 3_601, None), (false, 60, None), (false, 300, Some(String::new()))] {
            for behind in [1, 1_000, 2_000].map(Duration::from_millis) {
                let (at, until) = (now() + behind, now() + behind + wait * SECOND);
                let failure = failure("other", until, None);
                let failure = Failure { at, server_asked: asked, refused: refused.clone(), ..failure };
                let record = Record { failure: Some(failure), ..Record::default() };
                let fails = matches!(plan(&record, &ask(&due, None, Duration::ZERO), rotating), Plan::Fail(_));
                assert!(fails, "{wait} s, {behind:?} behind");
            }
        }
    }

    #[test]
    fn a_final_guess_of_another_says_that_the_user_must_authorize_again() {
        let first = request(FetchReason::First, None);
        for (verdict, seen, expected) in [
            (Suspicion::User, 3, FetchErrorKind::ReauthorizationRequired),
            (Suspicion::User, 2, FetchErrorKind::TryAgain),
            (Suspicion::Client, 3, FetchErrorKind::TryAgain),
        ] {
            let guess = Guess { verdict, since: now(), seen };
            let failure = failure("other", now() + 90 * SECOND, Some(guess));
            let record = Record { failure: Some(failure), ..Record::default() };
            let Plan::Fail(error) = plan(&record, &ask(&first, None, 60 * SECOND), rotating) else { panic!() };
            assert_eq!(error.kind(), expected, "{verdict:?} {seen}");
        }
    }
}
