//! A hint for people: how to configure the shape of a response in which no token was found. Pure.

use super::{byte_search, members::Members, shape::ResponseShape};

/// The calls with which the access token would be found.
pub(super) fn that_fits(body: &[u8]) -> Option<String> {
    let path = |path: &str| if path.is_empty() { Vec::new() } else { vec![path.to_owned()] };
    let is_there = |name: &str| name.is_empty() || byte_search::holds(body, name.as_bytes());
    let mut shapes = WRAPPERS.iter().flat_map(|wrapper| NAMES.iter().map(move |name| (*wrapper, *name)));
    let (wrapper, name) = shapes.find(|(wrapper, name)| {
        let shape = ResponseShape::of_access_token(path(wrapper), name);
        let members = || Members::of_json::<false>(&shape, body);
        is_there(wrapper) && is_there(name) && members().is_ok_and(|members| members.access_token.is_some())
    })?;
    let within = if wrapper.is_empty() { String::new() } else { format!(".answer_in(\"{wrapper}\")") };
    let called = match name {
        "access_token" => String::new(),
        name => format!(".answer_member(AnswerMember::AccessToken, \"{name}\")"),
    };
    Some(format!("`TokenEndpoint{within}{called}` reads one"))
}

/// Members in which servers wrap a token.
const WRAPPERS: [&str; 7] = ["", "data", "body", "result", "response", "payload", "content"];

const NAMES: [&str; 3] = ["access_token", "accessToken", "token"];
