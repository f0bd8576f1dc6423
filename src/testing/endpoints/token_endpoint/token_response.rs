//! The successful token response (RFC 6749 §5.1).

use std::{borrow::Cow, time::Duration};

use super::grants::Granted;
use crate::testing::{
    reply::{Member, Reply, member},
    rules::Rules,
};

/// The response with the quirks of the provider.
pub(crate) fn token_response(granted: &Granted, rules: &Rules) -> Reply {
    let quirks = &rules.quirks;
    let mut members: Vec<Member> = vec![member("access_token", &granted.access)];
    members.extend(quirks.token_type.map(|text| member("token_type", text)));
    let announced = granted.lifetime.filter(|_| quirks.announce_lifetime);
    members.extend(announced.map(|lifetime| (Cow::Borrowed("expires_in"), seconds(lifetime))));
    if let Some(token) = &granted.refresh {
        members.push(member("refresh_token", token));
        let announced = rules.refresh_lifetime.filter(|_| rules.tell_refresh_lifetime);
        members.extend(announced.map(|lifetime| (Cow::Borrowed("refresh_expires_in"), seconds(lifetime))));
    }
    members.extend(quirks.scope.name(granted.scope.as_deref()).map(|scope| member("scope", &scope)));
    members.extend(quirks.extra_members.iter().map(|(name, json)| (Cow::Borrowed(*name), (*json).to_owned())));
    Reply::token(members)
}

/// A whole number if possible, as RFC 6749 requires. Otherwise a fraction.
fn seconds(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => time.as_secs().to_string(),
        _ => time.as_secs_f64().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_whole_numbers_where_they_can_be() {
        assert_eq!(seconds(Duration::from_secs(3600)), "3600");
        assert_eq!(seconds(Duration::from_millis(500)), "0.5");
        assert_eq!(seconds(Duration::from_millis(1250)), "1.25");
        assert_eq!(seconds(Duration::ZERO), "0");
    }
}
