//! Marked secrets, the shapes in which servers send them back, and the search for them in everything that comes out.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part, and is nobody's library")]

use std::{
    collections::BTreeSet,
    error::Error,
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex, OnceLock},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use tracing::{Event, Metadata, Subscriber, field, span};

/// A secret with a part that no text has by accident: what is in `core` survives nearly every encoding, and is searched for.
#[derive(Clone, Copy)]
pub struct Marked {
    pub secret: &'static str,
    pub core: &'static [&'static str],
}

/// Short ones with signs in them: nothing but knowing them hides them.
pub const SECRET: Marked = Marked { secret: "zq7k+/ w%=xj4v", core: &["zq7k", "xj4v"] };
pub const PARAM: Marked = Marked { secret: "vq3j&\"<ü>'~!*w8zx", core: &["vq3j", "w8zx"] };
pub const QUERY: Marked = Marked { secret: "jx6q9wz", core: &["jx6q9wz"] };
pub const CLIENT: Marked = Marked { secret: "k9xv:q2zw", core: &["k9xv", "q2zw"] };
/// What servers bring, and users have on their requests.
pub const ACCESS: Marked = Marked { secret: "wz5q-kx8j", core: &["wz5q", "kx8j"] };
pub const REFRESH: Marked = Marked { secret: "xk2w_jq9z", core: &["xk2w", "jq9z"] };
pub const OWN_HEADER: Marked = Marked { secret: "Custom qv4z.xw7k", core: &["qv4z", "xw7k"] };
pub const URL_PART: Marked = Marked { secret: "jz8x-vw3q", core: &["jz8x", "vw3q"] };
pub const FILE: Marked = Marked { secret: "zx9v kw6j", core: &["zx9v", "kw6j"] };
pub const ALL: [Marked; 9] = [SECRET, PARAM, QUERY, CLIENT, ACCESS, REFRESH, OWN_HEADER, URL_PART, FILE];

/// Whatever of the marked secrets is in a text, in whatever encoding.
pub fn leaks(text: &str) -> Vec<String> {
    let mut readings = vec![text.to_owned()];
    // Twice: what was encoded twice is a leak as well.
    for _ in 0..2 {
        let last = readings.last().expect("the text itself").clone();
        readings.push(decode(&last));
    }
    readings.push(text.chars().filter(char::is_ascii_alphanumeric).collect());
    // Nearly always all of them but the last are the same.
    let readings: BTreeSet<_> = readings.into_iter().map(|reading| reading.to_lowercase()).collect();
    let seen = |needle: &&String| readings.iter().any(|reading| reading.contains(needle.as_str()));
    needles().iter().filter(seen).cloned().collect()
}

/// The cores as they are and in base64, in lower case.
fn needles() -> &'static BTreeSet<String> {
    static NEEDLES: OnceLock<BTreeSet<String>> = OnceLock::new();
    let cores = || ALL.iter().flat_map(|marked| marked.core);
    let all = |core: &&str| std::iter::once((*core).to_owned()).chain(in_base64(core));
    NEEDLES.get_or_init(|| cores().flat_map(all).map(|needle| needle.to_lowercase()).collect())
}

/// Fails if anything marked is in the text.
#[track_caller]
pub fn assert_clean(what: &str, text: &str) {
    let found = leaks(text);
    assert!(found.is_empty(), "{what}: {found:?} in {text}");
    assert!(!text.contains('\u{1b}'), "{what}: an escape in {text}");
}

/// Everything that an error says: itself, its causes, and what `Debug` shows.
pub fn said(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{error:?}\n{error:#?}");
    for error in std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()) {
        let _ = write!(text, "\n{error}\n{error:?}");
    }
    text
}

#[track_caller]
pub fn assert_debug_clean(what: &str, value: &impl Debug) {
    assert_clean(what, &format!("{value:?}\n{value:#?}"));
}

/// The characters of base64 that a text leaves its mark on, wherever it begins in what was encoded.
fn in_base64(text: &str) -> Vec<String> {
    let aligned = (0..3).map(|shift| {
        let encoded = BASE64_STANDARD_NO_PAD.encode([vec![0; shift], text.as_bytes().to_vec()].concat());
        encoded[(shift * 8).div_ceil(6)..(shift + text.len()) * 8 / 6].to_owned()
    });
    aligned.collect()
}

/// A shape, and a name for it.
pub type Shape = (&'static str, fn(&str) -> String);

/// The ways in which servers (and what stands before them) write back what they were sent.
pub const SHAPES: &[Shape] = &[
    ("raw", |s| s.to_owned()),
    ("upper case", |s| s.to_ascii_uppercase()),
    ("lower case", |s| s.to_ascii_lowercase()),
    ("form", |s| form_urlencoded::byte_serialize(s.as_bytes()).collect()),
    ("form, lower case", |s| lower_percent(&form_urlencoded::byte_serialize(s.as_bytes()).collect::<String>())),
    ("percent", |s| percent(s, "")),
    ("percent, lower case", |s| lower_percent(&percent(s, ""))),
    ("percent, all of it", |s| s.bytes().map(|b| format!("%{b:02X}")).collect()),
    ("percent, RFC 3986", |s| percent(s, "-._~")),
    ("percent, JavaScript", |s| percent(s, "-_.!~*'()")),
    ("percent, as a path", |s| percent(s, "-._~!$&'()*+,;=:@/")),
    ("percent, twice", |s| percent(&percent(s, "-._~"), "-._~")),
    ("form, then percent", |s| percent(&form_urlencoded::byte_serialize(s.as_bytes()).collect::<String>(), "")),
    ("JSON", |s| json(s, |_| false)),
    ("JSON, PHP", |s| json(s, |c| !c.is_ascii()).replace('/', "\\/")),
    ("JSON, .NET", |s| json(s, |c| !c.is_ascii() || "<>&'\"+".contains(c))),
    ("JSON, Gson", |s| json(s, |c| "<>&'=".contains(c)).to_ascii_lowercase()),
    ("JSON, all of it", |s| json(s, |_| true)),
    ("HTML", |s| html(s).replace('"', "&quot;").replace('\'', "&#39;")),
    ("HTML, hexadecimal", |s| s.chars().map(|c| entity(c, |c| format!("&#x{:X};", c as u32))).collect()),
    ("HTML, decimal", |s| s.chars().map(|c| entity(c, |c| format!("&#{:03};", c as u32))).collect()),
    ("HTML, named", |s| html(s).replace('ü', "&uuml;").replace('+', "&plus;").replace('/', "&sol;")),
    ("HTML, then JSON", |s| json(&html(s), |_| false)),
    ("Rust", |s| format!("{s:?}")),
    ("base64", |s| BASE64_STANDARD.encode(s)),
    ("base64 without padding", |s| BASE64_STANDARD_NO_PAD.encode(s)),
    ("base64 for URLs", |s| BASE64_URL_SAFE.encode(s)),
    ("base64 for URLs without padding", |s| BASE64_URL_SAFE_NO_PAD.encode(s)),
    ("base64 in a form", |s| form_urlencoded::byte_serialize(BASE64_STANDARD.encode(s).as_bytes()).collect()),
    ("base64 in PHP's JSON", |s| BASE64_STANDARD.encode(s).replace('/', "\\/")),
    ("base64 of a pair", |s| BASE64_STANDARD.encode(format!("{}:{s}", CLIENT.secret))),
    ("base64 of a pair of forms", |s| {
        let form = |s: &str| form_urlencoded::byte_serialize(s.as_bytes()).collect::<String>();
        BASE64_STANDARD.encode(format!("{}:{}", form(CLIENT.secret), form(s)))
    }),
    ("base64 behind one letter", |s| BASE64_STANDARD.encode(format!("x{s}"))),
    ("base64 between others", |s| BASE64_STANDARD.encode(format!("x={s}&y"))),
    ("Basic", |s| format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{s}", CLIENT.secret)))),
    ("UTF-8 taken for Latin-1", |s| s.bytes().map(char::from).collect()),
    ("in ASCII", |s| s.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()),
];

fn percent(text: &str, unreserved: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || unreserved.contains(char::from(byte));
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn lower_percent(text: &str) -> String {
    let mut left = 0;
    let lower = |c: char| {
        left = if c == '%' { 3_u8 } else { left.saturating_sub(1) };
        if left > 0 { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(lower).collect()
}

fn json(text: &str, escaped: impl Fn(char) -> bool) -> String {
    let mut units = [0; 2];
    let mut write = |c: char| match c {
        c if escaped(c) => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
        '"' | '\\' => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(&mut write).collect()
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn entity(c: char, write: impl Fn(char) -> String) -> String {
    if c.is_ascii_alphanumeric() { c.to_string() } else { write(c) }
}

/// Undoes percent-encoding, and the escapes of JSON and HTML that are numbers.
fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hex = |prefix: &str, digits: std::ops::RangeInclusive<usize>, suffix: &str, radix| {
            let after = rest.strip_prefix(prefix)?;
            digits.rev().find_map(|n| {
                let code = u32::from_str_radix(after.get(..n)?, radix).ok()?;
                after[n..].starts_with(suffix).then_some((code, prefix.len() + n + suffix.len()))
            })
        };
        let read = hex("%", 2..=2, "", 16)
            .or_else(|| hex("\\u", 4..=4, "", 16))
            .or_else(|| hex("&#x", 1..=6, ";", 16))
            .or_else(|| hex("&#", 1..=7, ";", 10));
        match read {
            Some((code, len)) => {
                out.extend(u8::try_from(code).ok());
                rest = &rest[len..];
            }
            None => {
                out.extend_from_slice(first.to_string().as_bytes());
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Collects what this crate logs, at every level, in this process.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// The one of this process.
    pub fn of_the_process() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            tracing::subscriber::set_global_default(log.clone()).expect("nobody else has set one");
            log
        })
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn write(&self, metadata: &Metadata<'_>, what: &str, record: impl FnOnce(&mut Line)) {
        // The test programs themselves have other names.
        if metadata.target().split("::").next() == Some("tower_bearer") {
            let mut line = Line(format!("{} {} {what}", metadata.level(), metadata.target()));
            record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
}

struct Line(String);

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.write(span.metadata(), "span", |line| span.record(line));
        span::Id::from_u64(1)
    }

    /// This crate has no spans that learn something later; a span of its own would be seen above.
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.write(event.metadata(), "event", |line| event.record(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
