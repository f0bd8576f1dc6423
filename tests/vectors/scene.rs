//! The format of a scene of a token's life.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::read::{Answer, Range};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scene {
    #[serde(rename = "name")]
    pub(crate) _name: String,
    /// The rule that it shows, by its name in the README.
    pub(crate) rule: String,
    pub(crate) source: String,
    pub(crate) maps: Option<String>,
    pub(crate) departs: Option<String>,
    #[serde(default)]
    pub(crate) client: Client,
    /// What the token endpoint does, request by request; the last for ever.
    pub(crate) endpoint: Vec<Act>,
    #[serde(default)]
    pub(crate) api: Api,
    pub(crate) script: Vec<Step>,
    pub(crate) until: f64,
    /// All of them.
    pub(crate) fetches: Vec<Fetch>,
}

/// What is set.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    #[serde(default)]
    pub(crate) grant: Grant,
    pub(crate) max_wait: Option<f64>,
    pub(crate) fetch_timeout: Option<f64>,
    pub(crate) assumed_lifetime: Option<f64>,
    pub(crate) renew_at: Option<f64>,
    pub(crate) renew_before: Option<f64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grant {
    #[default]
    ClientCredentials,
    RefreshToken,
    Password,
}

/// What the token endpoint does.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    #[serde(default)]
    pub(crate) takes: f64,
    pub(crate) issue: Option<Issue>,
    pub(crate) repeat: Option<Issue>,
    pub(crate) answer: Option<Answer>,
    #[serde(default)]
    pub(crate) hang: bool,
    #[serde(default)]
    pub(crate) gone: bool,
}

/// A token, and the members of the answer beside it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issue {
    pub(crate) expires_in: Option<Value>,
    pub(crate) refresh_token: Option<String>,
    /// How long the API takes it, if that isn't what is said.
    pub(crate) lives: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Api {
    #[serde(default)]
    pub(crate) takes: f64,
    /// How long after its issue a token isn't known yet.
    #[serde(default)]
    pub(crate) knows_after: f64,
    /// What is answered there, to every token.
    #[serde(default)]
    pub(crate) paths: BTreeMap<String, Answer>,
}

/// One of the things that happen.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) at: f64,
    pub(crate) request: Option<Request>,
    pub(crate) refresh: Option<Refresh>,
    pub(crate) status: Option<Status>,
    pub(crate) suspend: Option<f64>,
    pub(crate) step_wall_clock: Option<f64>,
    /// These tokens, or `all`.
    pub(crate) revoke: Option<String>,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) endpoint: Option<Vec<Act>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default = "default_path")]
    pub(crate) path: String,
    #[serde(default = "one")]
    pub(crate) count: usize,
    /// It can't be sent again.
    #[serde(default)]
    pub(crate) once: bool,
    pub(crate) max_wait: Option<f64>,
    pub(crate) dropped_after: Option<f64>,
    /// With which tokens it was sent, one after another.
    pub(crate) sent: Option<Vec<String>>,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<Error>,
    pub(crate) took: Option<Range>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    #[serde(default = "one")]
    pub(crate) count: usize,
    pub(crate) error: Option<Error>,
    pub(crate) took: Option<Range>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shutdown {
    pub(crate) took: Option<Range>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Error {
    Timeout,
    Unavailable,
    Rejected,
    Reauthorize,
    Stopped,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) state: Option<State>,
    pub(crate) usable: Option<bool>,
    pub(crate) failures: Option<u32>,
    pub(crate) fetching: Option<bool>,
    pub(crate) tokens: Option<u64>,
    pub(crate) time_left: Option<Left>,
    pub(crate) next_fetch: Option<Left>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Starting,
    Live,
    Failing,
    Expired,
    Rejected,
    Reauthorize,
    Stopped,
}

/// A time that may not be there.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(crate) enum Left {
    In(Range),
    Unknown(Unknown),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unknown {
    None,
}

/// One request to the token endpoint, or several like it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fetch {
    /// Since the beginning.
    pub(crate) between: Option<Range>,
    /// Since the one before it began.
    pub(crate) after_start: Option<Range>,
    /// Since the one before it ended.
    pub(crate) after_end: Option<Range>,
    /// How long until the client had an answer, or gave it up.
    pub(crate) took: Option<Range>,
    pub(crate) refresh_token: Option<String>,
    /// How many of this kind there are. Default: one.
    pub(crate) times: Option<Range>,
}

fn default_path() -> String {
    "/a".into()
}

fn one() -> usize {
    1
}
