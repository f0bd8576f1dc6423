//! Who the user is: a cookie with a random name for the session, and what this app knows about the session.
//!
//! Sessions are in memory and don't expire, which is enough for an example. A real app keeps sessions in a store, encrypted, and lets them
//! expire.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use tower_bearer::BoxError;

use crate::account::Account;

pub(crate) struct Sessions {
    sessions: Mutex<HashMap<String, Session>>,
    secure: bool,
}

#[derive(Default)]
struct Session {
    /// By their `state`. There may be several, because a user may press "Connect" in two tabs, or twice.
    pending: VecDeque<(String, String)>,
    account: Option<Account>,
}

impl Sessions {
    pub(crate) fn new(secure: bool) -> Self {
        Self { sessions: Mutex::default(), secure }
    }

    /// Keeps an authorization that has begun, in a new session if there is none. Returns the cookie to set.
    pub(crate) fn remember(&self, headers: &HeaderMap, state: &str, pending: String) -> Result<HeaderValue, BoxError> {
        let mut sessions = self.lock();
        let known = id(headers).filter(|id| sessions.contains_key(*id)).map(str::to_owned);
        let id = known.map_or_else(random, Ok)?;
        let session = sessions.entry(id.clone()).or_default();
        session.pending.push_back((state.to_owned(), pending));
        if session.pending.len() > MOST_PENDING {
            session.pending.pop_front();
        }
        self.cookie(&id)
    }

    /// The authorization with this `state`. It can be taken once.
    pub(crate) fn recall(&self, headers: &HeaderMap, state: &str) -> Option<String> {
        let mut sessions = self.lock();
        let pending = &mut sessions.get_mut(id(headers)?)?.pending;
        let at = pending.iter().position(|(known, _)| known == state)?;
        pending.remove(at).map(|(_, pending)| pending)
    }

    /// Keeps the account. The session gets another name, so that the previous one is of no use to anybody who knew it.
    pub(crate) fn connected(&self, headers: &HeaderMap, account: Account) -> Result<HeaderValue, BoxError> {
        let new = random()?;
        let mut sessions = self.lock();
        let session = id(headers).and_then(|old| sessions.remove(old)).unwrap_or_default();
        sessions.insert(new.clone(), Session { account: Some(account), ..session });
        self.cookie(&new)
    }

    pub(crate) fn account(&self, headers: &HeaderMap) -> Option<Account> {
        self.lock().get(id(headers)?)?.account.clone()
    }

    pub(crate) fn forget(&self, headers: &HeaderMap) -> Option<Account> {
        self.lock().remove(id(headers)?)?.account
    }

    /// `Lax`, because the cookie must be sent when the provider sends the browser back.
    fn cookie(&self, id: &str) -> Result<HeaderValue, BoxError> {
        let secure = if self.secure { "; Secure" } else { "" };
        Ok(HeaderValue::try_from(format!("{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Lax{secure}"))?)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

/// 256 random bits.
fn random() -> Result<String, BoxError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// A browser sends a cookie to all ports of a host, so the name is one that no provider under test uses.
const COOKIE_NAME: &str = "web_app_session";

const MOST_PENDING: usize = 8;
