//! The vectors of `vectors/`: each is a test, and each of its expectations is shown to be one by bending it. Their README describes them.

mod answers;
mod bend;
mod clock;
mod lifecycle;
mod read;
mod scene;
mod world;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};
use read::{File, Of};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut trials = vec![
        Trial::test("what_is_wrong_is_reported", || Ok(what_is_wrong_is_reported()?)),
        Trial::test("what_is_no_vector_is_reported", || Ok(what_is_no_vector_is_reported()?)),
    ];
    for folder in ["answers", "lifecycle"] {
        match File::all(folder) {
            Ok(files) => {
                trials.extend(files.into_iter().flat_map(|(name, file)| of_file(&format!("{folder}/{name}"), file)))
            }
            Err(error) => trials.push(Trial::test(folder, || Err(Failed::from(error)))),
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn of_file(file: &str, File { of, cases, .. }: File) -> Vec<Trial> {
    let trials = cases.into_iter().flat_map(|case| {
        let name = format!("{file}: {}", read::name_of(&case));
        let (case, again) = (Arc::new(case), name.clone() + ", bent");
        let bent = case.clone();
        [
            Trial::test(name, move || Ok(run(of, &case, SEEDS)?)),
            Trial::test(again, move || Ok(each_bend_is_noticed(of, &bent)?)),
        ]
    });
    trials.collect()
}

fn run(of: Of, case: &Value, seeds: u64) -> Result<(), String> {
    match of {
        Of::TokenEndpoint => answers::run(case),
        Of::Api => answers::run_of_api(case),
        Of::Lifecycle => lifecycle::run(case, seeds),
    }
}

/// What is random must not matter.
const SEEDS: u64 = 10;

/// Bends what is expected, place by place.
fn each_bend_is_noticed(of: Of, case: &Value) -> Result<(), String> {
    let places = match of {
        Of::TokenEndpoint | Of::Api => bent_within(case, &["verdict"]),
        Of::Lifecycle => {
            let mut places = bent_within(case, &["fetches"]);
            for (at, step) in case["script"].as_array().into_iter().flatten().enumerate() {
                for (act, inputs) in ACTS {
                    let expected: Value = match step[act].as_object() {
                        Some(members) => members
                            .iter()
                            .filter(|(name, _)| !inputs.contains(&&***name))
                            .map(|(name, value)| (name.clone(), value.clone()))
                            .collect::<serde_json::Map<_, _>>()
                            .into(),
                        None => continue,
                    };
                    for (place, others) in bend::bent(&expected) {
                        let put = |with: Value| {
                            let mut case = case.clone();
                            let step = &mut case["script"][at][act];
                            with.as_object().into_iter().flatten().for_each(|(name, value)| step[name] = value.clone());
                            case
                        };
                        places.push((format!("script[{at}].{act}{place}"), others.into_iter().map(put).collect()));
                    }
                }
            }
            places
        }
    };
    if places.is_empty() {
        return Err("it expects nothing".into());
    }
    let unnoticed: Vec<_> =
        places.into_iter().filter(|(_, cases)| !is_noticed(of, cases)).map(|(place, _)| place).collect();
    if unnoticed.is_empty() { Ok(()) } else { Err(format!("bending these isn't noticed: {unnoticed:?}")) }
}

/// What is no expectation in a step.
const ACTS: [(&str, &[&str]); 4] = [
    ("request", &["path", "count", "once", "max_wait", "dropped_after"]),
    ("refresh", &["count"]),
    ("status", &[]),
    ("shutdown", &[]),
];

fn bent_within(case: &Value, names: &[&str]) -> Vec<(String, Vec<Value>)> {
    let mut places = Vec::new();
    for name in names {
        for (place, others) in bend::bent(&case[*name]) {
            let put = |with: Value| {
                let mut case = case.clone();
                case[*name] = with;
                case
            };
            places.push((format!("{name}{place}"), others.into_iter().map(put).collect()));
        }
    }
    places
}

/// Whether the first of these that can be read fails.
fn is_noticed(of: Of, cases: &[Value]) -> bool {
    cases.iter().find(|case| is_readable(of, case)).is_some_and(|case| run(of, case, 1).is_err())
}

fn is_readable(of: Of, case: &Value) -> bool {
    match of {
        Of::TokenEndpoint => answers::is_readable(case),
        Of::Api => answers::is_readable_of_api(case),
        Of::Lifecycle => lifecycle::is_readable(case),
    }
}

/// Small vectors that are right, and the same with one expectation that is wrong.
fn what_is_wrong_is_reported() -> Result<(), String> {
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
fn what_is_no_vector_is_reported() -> Result<(), String> {
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
