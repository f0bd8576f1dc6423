//! How often a user's password was right or wrong.

/// How the password grant was answered for one user, from
/// [`AuthorizationServer::password_attempts`](crate::testing::AuthorizationServer::password_attempts).
///
/// ```
/// use tower_bearer::testing::PasswordCounts;
///
/// let counts = PasswordCounts::default();
/// assert_eq!((counts.accepted, counts.rejected), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PasswordCounts {
    /// The password was right.
    pub accepted: u64,
    /// The password was wrong: 400 `invalid_grant`. Real servers lock accounts over this.
    pub rejected: u64,
}
