//! Files of vectors, and what both kinds have in common. A field that isn't known is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use http_body_util::Full;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(rename = "about")]
    _about: String,
    pub(crate) of: Of,
    pub(crate) cases: Vec<Value>,
}

/// What is shown to the client.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Of {
    #[serde(rename = "token endpoint")]
    TokenEndpoint,
    #[serde(rename = "api")]
    Api,
    #[serde(rename = "lifecycle")]
    Lifecycle,
}

impl File {
    /// All in a folder, by name.
    pub(crate) fn all(folder: &str) -> Result<Vec<(String, Self)>, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            files.push((name.clone(), Self::parse(&text).map_err(|error| format!("{name}: {error}"))?));
        }
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        if files.is_empty() { Err(format!("{} has no files", folder.display())) } else { Ok(files) }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let names: BTreeSet<_> = file.cases.iter().map(name_of).collect();
        if file.cases.is_empty() {
            return Err("it has no cases".into());
        }
        if names.len() < file.cases.len() {
            return Err("two of its cases have one name".into());
        }
        Ok(file)
    }
}

/// The name of a case.
pub(crate) fn name_of(case: &Value) -> &str {
    case["name"].as_str().unwrap_or("a case without a name")
}

/// A case.
pub(crate) fn parse<T: DeserializeOwned>(case: &Value) -> Result<T, String> {
    serde_json::from_value(case.clone()).map_err(|error| error.to_string())
}

/// Where a case comes from.
pub(crate) struct Origin<'a> {
    pub(crate) source: &'a str,
    pub(crate) maps: Option<&'a str>,
    pub(crate) departs: Option<&'a str>,
}

impl Origin<'_> {
    /// Whether it is told as the README asks for.
    pub(crate) fn check(&self) -> Result<(), String> {
        let made_up = self.source.strip_prefix("made up: ").is_some_and(|why| !why.is_empty());
        if !made_up && !["https://", "RFC "].iter().any(|start| self.source.starts_with(start)) {
            return Err(format!("its source is no URL, no RFC, and not `made up: …`: {}", self.source));
        }
        match (self.maps, self.departs) {
            (None, Some(_)) => Err("it departs from nothing".into()),
            (_, Some("")) => Err("it doesn't say why it departs".into()),
            _ => Ok(()),
        }
    }
}

/// From one number to another, both included.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Range(f64, f64);

impl Range {
    pub(crate) const fn new(from: f64, to: f64) -> Self {
        Self(from, to)
    }

    /// Whether this many seconds lie in it; timers fire on whole milliseconds, and a little late.
    pub(crate) fn holds(self, seconds: f64) -> bool {
        (self.0 - SLACK..=self.1 + SLACK).contains(&seconds)
    }

    pub(crate) fn holds_more_than(self, seconds: f64) -> bool {
        self.1 > seconds
    }

    pub(crate) fn counts(self, number: usize) -> bool {
        #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
        let number = number as f64;
        (self.0..=self.1).contains(&number)
    }
}

/// In seconds.
const SLACK: f64 = 0.01;

/// An HTTP response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    #[serde(default)]
    headers: BTreeMap<String, OneOrMore>,
    json: Option<Value>,
    text: Option<String>,
    hex: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Answer {
    pub(crate) fn response(&self) -> Result<Response<Full<Bytes>>, String> {
        let mut response = Response::builder().status(self.status);
        for (name, values) in &self.headers {
            let values = match values {
                OneOrMore::One(value) => std::slice::from_ref(value),
                OneOrMore::More(values) => values,
            };
            for value in values {
                // A character of Latin-1 is a byte.
                let bytes: Result<Vec<u8>, _> = value.chars().map(|c| u8::try_from(u32::from(c))).collect();
                let value = bytes.ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
                let name: HeaderName = name.parse().map_err(|_| format!("{name} is no header"))?;
                response = response.header(name, value.ok_or("a header's value is none")?);
            }
        }
        response.body(Full::from(self.body()?)).map_err(|error| error.to_string())
    }

    fn body(&self) -> Result<Bytes, String> {
        match (&self.json, &self.text, &self.hex) {
            (None, None, None) => Ok(Bytes::new()),
            (Some(json), None, None) => Ok(json.to_string().into()),
            (None, Some(text), None) => Ok(text.clone().into()),
            (None, None, Some(hex)) => {
                let digits: Vec<u32> = hex.chars().map_while(|c| c.to_digit(16)).collect();
                let bytes = digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]));
                let bytes: Result<Vec<u8>, _> = bytes.collect();
                let bytes = bytes.ok().filter(|bytes| bytes.len() * 2 == hex.chars().count());
                Ok(bytes.ok_or_else(|| format!("{hex} is no hex"))?.into())
            }
            _ => Err("it has more than one body".into()),
        }
    }
}
