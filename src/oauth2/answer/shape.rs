//! Where an answer has its members, if not where RFC 6749 §5.1 puts them.

/// A member of a token endpoint's answer, for [`TokenEndpoint::answer_member`](crate::oauth2::TokenEndpoint::answer_member).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerMember {
    /// `access_token` (RFC 6749 §5.1).
    AccessToken,
    /// `refresh_token` (RFC 6749 §5.1).
    RefreshToken,
    /// `token_type` (RFC 6749 §5.1).
    TokenType,
    /// `expires_in` (RFC 6749 §5.1): a time in seconds.
    ExpiresIn,
    /// `expires_at`, of no standard: a moment, in seconds or milliseconds since 1970. Read where there is no `expires_in`.
    ExpiresAt,
    /// `refresh_expires_in`, of no standard: the refresh token's time in seconds.
    RefreshExpiresIn,
    /// `scope` (RFC 6749 §5.1).
    Scope,
}

/// Where the members are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerShape {
    pub(crate) path: Vec<String>,
    names: Vec<(AnswerMember, String)>,
}

impl AnswerShape {
    /// As RFC 6749 has it.
    pub(crate) fn is_standard(&self) -> bool {
        *self == Self::default()
    }

    /// Calls a member otherwise.
    pub(crate) fn call(&mut self, member: AnswerMember, name: String) {
        self.names.retain(|(known, _)| *known != member);
        self.names.push((member, name));
    }

    /// The name that RFC 6749 has for what a server calls so. `None` if that member has another name.
    pub(crate) fn standard<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.names.iter().find(|(_, own)| own == name) {
            Some((member, _)) => Some(member.name()),
            None => self.names.iter().all(|(member, _)| member.name() != name).then_some(name),
        }
    }

    /// What the server calls it.
    pub(crate) fn name_of(&self, member: AnswerMember) -> &str {
        self.names.iter().find(|(known, _)| *known == member).map_or(member.name(), |(_, own)| own)
    }

    /// One with an access token of this name at the end of this path.
    pub(crate) fn of_access_token(path: Vec<String>, name: &str) -> Self {
        Self { path, names: vec![(AnswerMember::AccessToken, name.to_owned())] }
    }
}

impl AnswerMember {
    fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::TokenType => "token_type",
            Self::ExpiresIn => "expires_in",
            Self::ExpiresAt => "expires_at",
            Self::RefreshExpiresIn => "refresh_expires_in",
            Self::Scope => "scope",
        }
    }
}
