//! Which failures the proxies are the reason for: those of a connection that a proxy broke while it was used, and those of a wait that nothing
//! could end. Nobody is excused because a fault was on somewhere.

use std::time::Duration;

use tower_bearer::ErrorKind;

use super::{
    plan::{Plan, Policy, Side},
    story::{MOST_ATTEMPTS, Request, Story},
    trace::{Answer, End, Port},
};

impl Story {
    /// Why this request may end as it does; what is wrong if it may not.
    pub fn excuse(&self, plan: &Plan, request: &Request) -> Result<(), String> {
        let Some((at, end)) = &request.end else { return Err("it never ended".into()) };
        let last = request.attempts.last();
        match end {
            End::Status(200) => Ok(()),
            End::Status(401) => self.may_be_refused(plan, request, *at),
            End::Status(status) => Err(format!("nobody answers {status}")),
            End::Failed(ErrorKind::ForeignOrigin, _) if last.is_none() => Ok(()),
            End::Failed(ErrorKind::Inner, _) | End::Cut(_) => {
                let last = last.ok_or("nothing was sent that could fail")?;
                let (answered, port, answer) = last.answered.as_ref().ok_or("nothing was answered that could fail")?;
                match (end, answer) {
                    // Its time counts until the head of an answer; the body came, or not, later.
                    (End::Cut(_), _) => self.was_broken(Side::Api, *port, last.at, *at),
                    (_, Answer::GivenUp) => self.was_slowed(Side::Api, *port, last.at, *answered),
                    _ => self.was_broken(Side::Api, *port, last.at, *at),
                }
            }
            End::Failed(ErrorKind::Timeout | ErrorKind::Unavailable, _) => self.may_miss_a_token(request, *at),
            End::Failed(ErrorKind::ReauthorizationRequired, _) if self.reused.is_some_and(|reused| reused < *at) => {
                Ok(())
            }
            End::Failed(kind, _) => Err(format!("{kind:?} is never right here")),
        }
    }

    /// Why an exchange may have failed like this.
    pub fn excuse_exchange(
        &self,
        from: Duration,
        ended: Duration,
        port: Option<Port>,
        answer: &Answer,
    ) -> Result<(), String> {
        match answer {
            _ if self.over.is_some_and(|over| ended >= over) => Ok(()),
            Answer::Whole(200) => Ok(()),
            Answer::Whole(400) if self.reused.is_some_and(|reused| reused < ended) => Ok(()),
            Answer::Whole(status) => Err(format!("nobody answers {status}")),
            Answer::Failed(_) => self.was_broken(Side::TokenEndpoint, port, from, ended),
            Answer::GivenUp => self.was_slowed(Side::TokenEndpoint, port, from, ended),
        }
    }

    /// A proxy broke this connection while it was used, or one that was being made.
    fn was_broken(&self, on: Side, port: Option<Port>, from: Duration, to: Duration) -> Result<(), String> {
        // A connection that lies idle may be broken for a moment before its client knows.
        let from = from.saturating_sub(self.slack());
        let is_it = |touched: Port| port.is_none_or(|port| port == touched);
        let broke = self.touches.iter().any(|touch| {
            touch.on == on && touch.what.breaks() && is_it(touch.port) && (from..=to + self.slack()).contains(&touch.at)
        });
        if broke || self.was_flooded(on, port, from, to) {
            Ok(())
        } else {
            Err(format!("no proxy broke the connection {port:?} then"))
        }
    }

    /// A proxy held up this connection until then, and attempts on it were given up meanwhile. With HTTP/2 all their resets arrive at once,
    /// and a server takes so many of them for an attack: it closes the connection.
    fn was_flooded(&self, on: Side, port: Option<Port>, from: Duration, to: Duration) -> bool {
        let ends_then = |until: Duration| (from..=to + self.slack()).contains(&(until + self.slack()));
        let mut held_up = self.touches.iter().filter(|touch| touch.on == on && Some(touch.port) == port);
        let given_up =
            |answered: &(Duration, Option<Port>, Answer)| answered.1 == port && answered.2 == Answer::GivenUp;
        held_up.any(|touch| touch.until.is_some_and(ends_then))
            && self
                .requests
                .values()
                .flat_map(|request| &request.attempts)
                .any(|attempt| attempt.answered.as_ref().is_some_and(given_up))
    }

    /// A proxy held up what this connection carries, for a while at least. One that was told to say nothing more to its client did, too.
    fn was_slowed(&self, on: Side, port: Option<Port>, from: Duration, to: Duration) -> Result<(), String> {
        let is_it = |touched: Port| port.is_none_or(|port| port == touched);
        let slowed = self.touches.iter().any(|touch| {
            touch.on == on
                && is_it(touch.port)
                && touch.until.is_some_and(|until| touch.at <= to && until + self.slack() >= from)
        });
        if slowed { Ok(()) } else { Err(format!("no proxy held up the connection {port:?} then")) }
    }

    /// It waited for a token, and there was none: none was valid, and the last exchange failed or isn't over.
    fn may_miss_a_token(&self, request: &Request, ended: Duration) -> Result<(), String> {
        // After the last attempt, if there was one: it was answered 401.
        let refused = request.attempts.last().and_then(|attempt| Some((attempt.token, attempt.answered.as_ref()?.0)));
        let (not, from) = refused.unwrap_or((None, request.made));
        let slack = self.slack();
        let there = self.tokens.iter().find(|token| {
            Some(token.number) != not
                && token.since + slack < ended
                && token.ends > from + slack
                && token.ends.min(ended).saturating_sub(token.since.max(from)) > slack
        });
        if let Some(token) = there {
            return Err(format!("token {} was there", token.number));
        }
        self.is_without_success(ended)
    }

    /// The last exchange before this moment failed, or isn't over.
    fn is_without_success(&self, at: Duration) -> Result<(), String> {
        let last = self.exchanges.values().rfind(|exchange| exchange.at < at);
        let token = last.and_then(|last| self.tokens.iter().find(|token| Some(token.number) == last.issued));
        match token {
            // One that came too late is as good as none.
            Some(token) if token.since + self.slack() < at.min(token.ends) => {
                Err("the last exchange had worked".into())
            }
            _ => Ok(()),
        }
    }

    /// Its 401 is handed on: it can't be sent again, or nothing better came while it waited.
    fn may_be_refused(&self, plan: &Plan, request: &Request, ended: Duration) -> Result<(), String> {
        let last = request.attempts.last().ok_or("nobody can have refused it")?;
        let (refused, ..) = last.answered.as_ref().ok_or("nobody can have refused it")?;
        if last.arrived != Some(401) {
            return Err("the API did not refuse it".into());
        }
        if plan.policy == Policy::Never || request.attempts.len() >= MOST_ATTEMPTS {
            return Ok(());
        }
        let was_tried = |token: u64| request.attempts.iter().any(|attempt| attempt.token == Some(token));
        let newer = self.tokens.iter().find(|token| {
            Some(token.number) > last.token
                && !was_tried(token.number)
                && token.since + self.slack() < ended
                && token.ends > *refused + self.slack()
        });
        if let Some(token) = newer {
            return Err(format!("token {} was there", token.number));
        }
        // It waited as long as it may. Or the next exchange is farther off than that: because of the distance to the last one, because it
        // failed, or because there was one for another 401 just before.
        let max_wait = Duration::from_millis(plan.max_wait);
        // What it has waited between its attempts counts, too.
        let before = request
            .attempts
            .windows(2)
            .filter_map(|two| Some(two[1].at.saturating_sub(two[0].answered.as_ref()?.0)))
            .sum();
        let left = max_wait.saturating_sub(before);
        let waited = ended - *refused + self.slack() >= left;
        let last = self.exchanges.values().rfind(|exchange| exchange.at < *refused);
        let is_far = last.is_some_and(|last| last.at + plan.distance() + self.slack() >= *refused + left);
        let paused = || self.revoked.iter().filter(|revoked| **revoked < *refused).count() > 1;
        if waited || is_far || self.is_without_success(ended).is_ok() || paused() {
            Ok(())
        } else {
            Err("nothing kept a new token from coming".into())
        }
    }
}
