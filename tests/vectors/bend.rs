//! What is expected, bent in one place: that must be noticed, or the place is no expectation.

use serde_json::{Value, json};

/// Every place within, with several values to take its place: one of them is another expectation that can be read.
pub(crate) fn bent(expected: &Value) -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    bend("", expected, &mut |path, instead| all.push((path.to_owned(), instead)));
    all
}

fn bend(path: &str, value: &Value, tell: &mut dyn FnMut(&str, Vec<Value>)) {
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                bend(&format!("{path}.{name}"), inner, &mut |place, instead| {
                    let put = |with: Value| {
                        let mut members = members.clone();
                        members.insert(name.clone(), with);
                        Value::Object(members)
                    };
                    tell(place, instead.into_iter().map(put).collect());
                });
            }
        }
        Value::Array(items) if is_range(items) => {
            let end = items[1].as_f64().unwrap_or_default();
            tell(path, vec![json!([end + 1000.0, end + 1001.0])]);
        }
        Value::Array(items) if items.is_empty() => tell(path, vec![json!(["other"])]),
        Value::Array(items) => {
            tell(&format!("{path} without its end"), vec![items[..items.len().saturating_sub(1)].into()]);
            for (at, inner) in items.iter().enumerate() {
                bend(&format!("{path}[{at}]"), inner, &mut |place, instead| {
                    let put = |with: Value| {
                        let mut items = items.clone();
                        items[at] = with;
                        Value::Array(items)
                    };
                    tell(place, instead.into_iter().map(put).collect());
                });
            }
        }
        Value::Bool(is_so) => tell(path, vec![json!(!is_so)]),
        Value::Number(number) => {
            let one_more =
                number.as_u64().map_or(json!(number.as_f64().unwrap_or_default() + 1.0), |number| json!(number + 1));
            tell(path, vec![one_more]);
        }
        Value::String(text) => {
            let others = OTHERS.iter().filter(|other| *other != text).map(|other| json!(other));
            tell(path, others.chain([json!([1000.0, 1001.0])]).collect());
        }
        Value::Null => tell(path, vec![json!(1), json!("other")]),
    }
}

fn is_range(items: &[Value]) -> bool {
    items.len() == 2 && items.iter().all(Value::is_number)
}

/// Each word that may stand for an expectation has another among these that means something else.
const OTHERS: [&str; 12] = [
    "hand_on",
    "renew",
    "rejected",
    "reauthorize",
    "try_again",
    "stopped",
    "starting",
    "timeout",
    "unavailable",
    "none",
    "never",
    "other",
];
