//! Where a server has the members of its responses, and what it calls them, if not as in RFC 6749 §5.1.

/// A member of a token endpoint's response, for [`TokenEndpoint::answer_member`](crate::oauth2::TokenEndpoint::answer_member), which has an
/// example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerMember {
    /// `access_token` (RFC 6749 §5.1).
    AccessToken,
    /// `refresh_token` (RFC 6749 §5.1).
    RefreshToken,
    /// `token_type` (RFC 6749 §5.1).
    TokenType,
    /// `expires_in` (RFC 6749 §5.1): the lifetime in seconds.
    ExpiresIn,
    /// `expires_at`, not in a standard: a time in seconds or milliseconds since 1970. Used if there is no `expires_in`.
    ExpiresAt,
    /// `refresh_expires_in`, not in a standard: the refresh token's lifetime in seconds.
    RefreshExpiresIn,
    /// `scope` (RFC 6749 §5.1).
    Scope,
}

/// The path to the object with the members, and their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseShape {
    pub(crate) path: Vec<String>,
    names: Vec<(AnswerMember, String)>,
}

impl ResponseShape {
    /// Whether it is that of RFC 6749.
    pub(crate) fn is_standard(&self) -> bool {
        *self == Self::default()
    }

    /// Gives a member another name.
    pub(crate) fn rename(&mut self, member: AnswerMember, name: String) {
        self.names.retain(|(known, _)| *known != member);
        self.names.push((member, name));
    }

    /// The standard name of the server's member. `None` if the server has another name for the member with this standard name.
    pub(crate) fn standard_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.names.iter().find(|(_, own)| own == name) {
            Some((member, _)) => Some(member.name()),
            None => self.names.iter().all(|(member, _)| member.name() != name).then_some(name),
        }
    }

    /// The server's name for a member.
    pub(crate) fn name_of(&self, member: AnswerMember) -> &str {
        self.names.iter().find(|(known, _)| *known == member).map_or(member.name(), |(_, own)| own)
    }

    /// A shape with an access token of this name at this path.
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
