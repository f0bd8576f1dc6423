//! The discovery document: the metadata of the server (RFC 8414).

use http::StatusCode;
use serde_json::{Value, json};

use super::{AUTHORIZE, INTROSPECT, REVOKE};
use crate::testing::{
    reply::{Member, Reply},
    rules::Rules,
};

pub(crate) fn document(rules: &Rules) -> Reply {
    let issuer = &rules.issuer;
    let methods = rules.client_auth.names();
    let grants: Vec<_> = rules.all_offered().collect();
    let codes = rules.offers("authorization_code");
    let mut members: Vec<Member> = Vec::new();
    let mut add = |name: &'static str, value: Value| members.push((name.into(), value.to_string()));
    add("issuer", json!(issuer));
    add("token_endpoint", json!(format!("{issuer}{}", rules.token_path)));
    add("token_endpoint_auth_methods_supported", json!(methods));
    add("grant_types_supported", json!(grants));
    add("introspection_endpoint", json!(format!("{issuer}{INTROSPECT}")));
    add("introspection_endpoint_auth_methods_supported", json!(methods));
    add("revocation_endpoint", json!(format!("{issuer}{REVOKE}")));
    add("revocation_endpoint_auth_methods_supported", json!(methods));
    // RFC 8414 §2 requires it, even if it is empty.
    add("response_types_supported", if codes { json!(["code"]) } else { json!([]) });
    if codes {
        add("authorization_endpoint", json!(format!("{issuer}{AUTHORIZE}")));
        add("authorization_response_iss_parameter_supported", json!(rules.announce_issuer));
        if rules.pkce {
            add("code_challenge_methods_supported", json!(["S256"]));
        }
    }
    if let Some(scopes) = &rules.scopes {
        add("scopes_supported", json!(scopes));
    }
    Reply::json(StatusCode::OK, &members)
}
