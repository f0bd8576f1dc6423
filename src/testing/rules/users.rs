//! Users of the password grant, and their counts.

use std::{collections::HashMap, fmt};

use crate::testing::recorded::password_counts::PasswordCounts;

/// The users, by name.
#[derive(Default)]
pub(crate) struct Users(HashMap<String, User>);

struct User {
    password: String,
    counts: PasswordCounts,
}

impl Users {
    /// Registers a user, or changes a password. A known user keeps the counts.
    pub(crate) fn set(&mut self, name: String, password: String) {
        let counts = self.counts(&name);
        self.0.insert(name, User { password, counts });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the password is right. The attempt is counted.
    pub(crate) fn check(&mut self, name: &str, password: &str) -> bool {
        let Some(user) = self.0.get_mut(name) else { return false };
        let right = user.password == password;
        *(if right { &mut user.counts.accepted } else { &mut user.counts.rejected }) += 1;
        right
    }

    pub(crate) fn counts(&self, name: &str) -> PasswordCounts {
        self.0.get(name).map(|user| user.counts).unwrap_or_default()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_for_known_users_and_shown_without_passwords() {
        let mut users = Users::default();
        users.set("ann".into(), "hidden".into());
        assert!(users.check("ann", "hidden") && !users.check("ann", "x") && !users.check("bob", "x"));
        users.set("ann".into(), "next".into());
        assert_eq!(users.counts("ann"), PasswordCounts { accepted: 1, rejected: 1 });
        assert_eq!(users.counts("bob"), PasswordCounts::default());
        assert_eq!(format!("{users:?}"), r#"{"ann"}"#);
    }
}
