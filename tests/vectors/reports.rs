//! That the runner can fail: on what is wrong, and on what is no vector.

use serde_json::{Value, json};

use crate::{
    read::{File, Of},
    run,
};

/// Small vectors that are right, and the same with one expectation that is wrong.
pub(crate) fn what_is_wrong_is_reported() -> Result<(), String> {
    let token = json!({
        "name": "a", "provider": "none", "source": "RFC 6749 §5.1", "grant": "client_credentials",
        "answer": {"status": 200, "json": {"access_token": "a", "expires_in": 60}},
        "verdict": {"token": {"access_token": "a", "lifetime": 60}}
    });
    let refusal = json!({
        "name": "a", "provider": "none", "source": "RFC 6749 §5.2", "grant": "refresh_token",
        "answer": {"status": 400, "json": {"error": "invalid_grant"}},
        "verdict": {"failure": {"kind": "reauthorize", "certain": true, "code": "invalid_grant"}}
    });
    let api = json!({
        "name": "a", "provider": "none", "source": "RFC 6750 §3.1", "answer": {"status": 401}, "verdict": "renew"
    });
    let scene = json!({
        "name": "a", "rule": "renewal", "source": "made up: for this test",
        "endpoint": [{"issue": {"expires_in": 100}}],
        "script": [{"at": 1, "request": {"sent": ["t1"], "status": 200, "took": [0, 0]}}, {"at": 2, "status": {"state": "live"}}],
        "until": 95, "fetches": [{"between": [0, 0]}, {"between": [75, 85]}]
    });
    for (of, right, wrong) in [
        (
            Of::TokenEndpoint,
            &token,
            [
                ("/verdict/token/lifetime", json!(61), "instead of"),
                ("/verdict/token/access_token", json!("b"), "instead of"),
            ],
        ),
        (
            Of::TokenEndpoint,
            &refusal,
            [
                ("/verdict/failure/kind", json!("rejected"), "instead of Rejected"),
                ("/verdict/failure/code", json!("x"), "the code is"),
            ],
        ),
        (
            Of::Api,
            &api,
            [("/verdict", json!("hand_on"), "instead of HandOn"), ("/answer/status", json!(403), "instead of Renew")],
        ),
        (
            Of::Lifecycle,
            &scene,
            [
                ("/fetches/1/between", json!([10, 20]), "the fetch 2"),
                ("/script/0/request/sent", json!(["t2"]), "sent with"),
            ],
        ),
        (
            Of::Lifecycle,
            &scene,
            [
                ("/script/1/status/state", json!("failing"), "the state"),
                ("/until", json!(50), "0 fetches of the kind 2"),
            ],
        ),
    ] {
        run(of, right, 1).map_err(|error| format!("{right}: {error}"))?;
        for (place, with, report) in wrong {
            let mut case = right.clone();
            *case.pointer_mut(place).ok_or_else(|| format!("there is no {place}"))? = with;
            let error = run(of, &case, 1).err().ok_or_else(|| format!("wrong at {place}, and nobody noticed"))?;
            if !error.contains(report) {
                return Err(format!("wrong at {place}, and reported as {error}"));
            }
        }
    }
    Ok(())
}

/// Fields that nobody knows, files without cases, cases without an origin.
pub(crate) fn what_is_no_vector_is_reported() -> Result<(), String> {
    for (file, report) in [
        (json!({"about": "", "of": "api", "cases": []}), "no cases"),
        (json!({"about": "", "of": "api"}), "missing field `cases`"),
        (json!({"about": "", "of": "api", "cases": [{"name": "a"}], "more": 1}), "unknown field `more`"),
        (json!({"about": "", "of": "moon", "cases": [{"name": "a"}]}), "unknown variant `moon`"),
        (json!({"about": "", "of": "api", "cases": [{"name": "a"}, {"name": "a"}]}), "one name"),
    ] {
        let error = File::parse(&file.to_string()).err().ok_or_else(|| format!("{file} passes"))?;
        if !error.contains(report) {
            return Err(format!("{file}: {error}"));
        }
    }
    let case = |source: &str, more: Value| {
        let mut case = json!({
            "name": "a", "provider": "none", "source": source, "answer": {"status": 200}, "verdict": "hand_on"
        });
        more.as_object().into_iter().flatten().for_each(|(name, value)| case[name] = value.clone());
        case
    };
    let rfc = "RFC 6750 §3.1";
    run(Of::Api, &case(rfc, json!({})), 1)?;
    for (case, report) in [
        (case(rfc, json!({"verdct": "renew"})), "unknown field `verdct`"),
        (case(rfc, json!({"answer": {"status": 200, "body": ""}})), "unknown field `body`"),
        (case(rfc, json!({"answer": {"status": 200, "text": "", "json": {}}})), "more than one body"),
        (case(rfc, json!({"answer": {"status": 200, "hex": "0"}})), "no hex"),
        (case("somewhere", json!({})), "no URL"),
        (case("made up: ", json!({})), "no URL"),
        (case(rfc, json!({"departs": "because"})), "departs from nothing"),
    ] {
        let error = run(Of::Api, &case, 1).err().ok_or_else(|| format!("{case} passes"))?;
        if !error.contains(report) {
            return Err(format!("{case}: {error}"));
        }
    }
    Ok(())
}
