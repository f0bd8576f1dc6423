//! What the worst answers and callbacks cost that a server or a browser can send: the longest time that one takes from its bytes to a
//! token or an error, reading and masking together. A program of one thread stands still for so long.
//!
//! Each input is measured several times, and the shortest time counts: what the machine does besides isn't the input's fault. An
//! exchange is timed as a whole, through an HTTP service that answers at once, so that making the form and the masks are part of it.

use std::{
    convert::Infallible,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tower_bearer::oauth2::{AuthorizationCode, Form, TokenEndpoint};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it runs.
    let bench = std::env::args().any(|arg| arg == "--bench");
    let (sizes, tries) = if bench { (&SIZES[..], TRIES) } else { (&SIZES[..1], 1) };
    println!("the longest time that an answer or a callback takes, of {} kinds of each\n", FILLS.len());
    println!("| {:>9} | {:<8} | {:>9} | the longest |", "bytes", "", "us");
    let mut result = serde_json::Map::new();
    let mut worst = Duration::ZERO;
    for size in sizes {
        let took = good(*size, tries).await;
        println!("| {size:>9} | good     | {:>9.1} | |", micros(took));
        result.insert(format!("good_{size}_us"), micros(took).into());
        for status in [200, 400] {
            if status == 400 && *size > LONGEST_REFUSAL {
                continue;
            }
            let (took, what) = answers(*size, status, tries).await;
            println!("| {size:>9} | {:<8} | {:>9.1} | {what} |", status, micros(took));
            result.insert(format!("answer_{status}_{size}_us"), micros(took).into());
            worst = worst.max(if *size <= LONGEST_REFUSAL { took } else { Duration::ZERO });
        }
        if *size <= LONGEST_CALLBACK {
            let (took, what) = callbacks(*size, tries).await;
            println!("| {size:>9} | callback | {:>9.1} | {what} |", micros(took));
            result.insert(format!("callback_{size}_us"), micros(took).into());
            worst = worst.max(took);
        }
    }
    println!("\nRESULT {}", serde_json::Value::Object(result));
    if !bench || worst <= LIMIT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A good answer of this size, for comparison: in one member that is passed over. With the secret that takes longest.
async fn good(size: usize, tries: usize) -> Duration {
    let body = Around::Text("{\"access_token\":\"a\",\"x\":\"", "\"}").fill(b"abc ", size).into();
    let mut longest = Duration::ZERO;
    for secret in secrets() {
        longest = longest.max(measure(200, &body, &secret, tries).await);
    }
    longest
}

/// The longest of all answers of this size.
async fn answers(size: usize, status: u16, tries: usize) -> (Duration, String) {
    let mut longest = (Duration::ZERO, String::new());
    for secret in secrets() {
        for (name, fill) in FILLS {
            let fill = repeated(fill, &secret.text);
            for (place, around) in PLACES {
                let body = Bytes::from(around.fill(&fill, size));
                let best = measure(status, &body, &secret, tries).await;
                if best > longest.0 {
                    longest = (best, format!("{name}, {place}, {}", secret.name));
                }
            }
        }
    }
    longest
}

/// The shortest time of an exchange that is answered so.
async fn measure(status: u16, body: &Bytes, secret: &Secret, tries: usize) -> Duration {
    let body = body.clone();
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let answer = Response::builder().status(status).body(Full::new(body.clone())).expect("an answer");
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let endpoint = TokenEndpoint::new("https://id.test/token").expect("a URL");
    let endpoint = endpoint.client_secret_post("client-id", secret.text.as_str()).http_service(service);
    let mut best = Duration::MAX;
    for _ in 0..tries {
        let form = Form::grant("refresh_token").param("refresh_token", &secret.text);
        let began = Instant::now();
        let outcome = endpoint.exchange(form, Duration::from_secs(60)).await;
        let text = outcome.map_err(|error| error.to_string());
        best = best.min(began.elapsed());
        std::hint::black_box(&text);
    }
    best
}

/// The longest of all callbacks of this size.
async fn callbacks(size: usize, tries: usize) -> (Duration, String) {
    let mut longest = (Duration::ZERO, String::new());
    // Refused, and at length: what was sent with the code is masked in it.
    let refusal = format!(r#"{{"error":"invalid_grant","error_description":"{}"}}"#, "no such code ".repeat(200));
    let refusal = Bytes::from(refusal);
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let answer = Response::builder().status(400).body(Full::new(refusal.clone())).expect("an answer");
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    for secret in secrets() {
        let endpoint = TokenEndpoint::new("https://id.test/token").expect("a URL");
        let endpoint = endpoint.client_secret_post("client-id", secret.text.as_str()).http_service(service.clone());
        let login = AuthorizationCode::new(endpoint, "https://id.test/", "https://app.test/cb").expect("URLs");
        let login = login.issuer("https://id.test");
        for (name, fill) in FILLS {
            let fill = repeated(fill, &secret.text);
            for (place, front) in CALLBACKS {
                let mut best = Duration::MAX;
                for _ in 0..tries {
                    let pending = login.start();
                    let front = front.replace('@', pending.state());
                    let fill = String::from_utf8_lossy(&fill).replace(['#', '?'], "");
                    let mut callback = front.clone();
                    while callback.len() + fill.len() < size && !fill.is_empty() {
                        callback += &fill;
                    }
                    let began = Instant::now();
                    let outcome = login.finish(pending, &callback).await.map_err(|error| error.to_string());
                    best = best.min(began.elapsed());
                    std::hint::black_box(&outcome.is_ok());
                }
                if best > longest.0 {
                    longest = (best, format!("{name}, {place}, {}", secret.name));
                }
            }
        }
    }
    longest
}

/// What the body repeats; `@` is the secret.
const FILLS: [(&str, &[u8]); 25] = [
    ("letters", b"abc "),
    ("blanks", b" "),
    ("backslashes", b"\\"),
    ("percent signs", b"%"),
    ("percent signs, encoded", b"%2525"),
    ("backslashes, escaped", b"\\u005c"),
    ("entities", b"&amp;amp;"),
    ("entities that don't end", b"&abcdefgh"),
    ("question marks", b"?"),
    ("U+FFFD", "\u{fffd}".as_bytes()),
    ("not UTF-8", b"\xff\xfe"),
    ("UTF-16", b"a\0b\0"),
    ("quotes", b"\""),
    ("nested objects", b"{\"a\":"),
    ("nested arrays", b"["),
    ("members", b"\"a\":{},"),
    ("base64", b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIx"),
    ("names of tokens", b"token\"\"\"\"\"\"\"\""),
    ("members of tokens", b"\"refresh_token\":7,"),
    ("refresh tokens in forms", b" refresh_token=%25"),
    ("refresh tokens in URLs", b"?refresh_token="),
    ("refresh tokens in URLs, and what is none", b"?refresh_token=("),
    ("members of tokens in a text", b"\"refresh_token\":\"\\"),
    ("the secret", b"@ "),
    ("the secret without its end", b"^"),
];

/// Where it stands.
const PLACES: [(&str, Around); 10] = [
    ("alone", Around::Raw("", "")),
    ("in a description", Around::Text("{\"error\":\"e\",\"error_description\":\"", "\"}")),
    ("in a message", Around::Text("{\"message\":\"", "\"}")),
    ("in a code", Around::Text("{\"error\":\"", "\"}")),
    ("beside a token", Around::Text("{\"access_token\":null,\"id_token\":\"a\",\"error\":\"e\",\"message\":\"", "\"}")),
    ("in a token", Around::Text("{\"access_token\":\"", "\"}")),
    ("in an object", Around::Raw("{\"access_token\":null,", "\"z\":0}")),
    ("in a form", Around::Raw("expires_in", "")),
    ("in a form that ends", Around::Raw("expires_in", ")&")),
    ("in a page", Around::Raw("<!doctype html><html><title>", "</title>")),
];

/// What callbacks begin with; `@` is the state.
const CALLBACKS: [(&str, &str); 5] = [
    ("in a description", "?state=@&iss=https%3A%2F%2Fid.test&error=e&error_description="),
    ("in a code", "?state=@&iss=https%3A%2F%2Fid.test&code="),
    ("in an issuer", "?state=@&code=abcdefghijklmnopqrst&iss="),
    ("in a URL", "https://app.test/cb?state=@&iss=https%3A%2F%2Fid.test&x="),
    ("in a path", "https://app.test/cb/"),
];

#[derive(Clone, Copy)]
enum Around {
    Raw(&'static str, &'static str),
    /// In a string of JSON, escaped where it must be.
    Text(&'static str, &'static str),
}

impl Around {
    /// A body of about this size.
    fn fill(self, fill: &[u8], size: usize) -> Vec<u8> {
        let (front, end, fill) = match self {
            Self::Raw(front, end) => (front, end, fill.to_vec()),
            Self::Text(front, end) => {
                let json = serde_json::to_string(&String::from_utf8_lossy(fill)).expect("a text");
                (front, end, json.as_bytes()[1..json.len() - 1].to_vec())
            }
        };
        let times = (size - front.len() - end.len()) / fill.len().max(1);
        [front.as_bytes(), &fill.repeat(times), end.as_bytes()].concat()
    }
}

fn repeated(fill: &[u8], secret: &str) -> Vec<u8> {
    match fill {
        b"@ " => format!("{secret} ").into_bytes(),
        b"^" => secret.as_bytes()[..secret.len() - 1].to_vec(),
        fill => fill.to_vec(),
    }
}

struct Secret {
    name: String,
    text: String,
}

/// Random ones, and such as somebody may have chosen to make it take long.
fn secrets() -> Vec<Secret> {
    let lengths = [20, 250, 4000];
    let kinds = [
        ("random", "wX7kQ2vR9pL4mN8sT1yB6zD3"),
        ("of escapes", "%25\\u005c&amp;"),
        ("of one letter", "a"),
        ("of backslashes", "\\"),
    ];
    lengths
        .into_iter()
        .flat_map(|length| {
            kinds.iter().map(move |(kind, piece)| Secret {
                name: format!("a secret of {length} bytes, {kind}"),
                text: piece.chars().cycle().take(length).collect(),
            })
        })
        .collect()
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

/// What real answers have, the longest of them, the longest callback, the longest refusal and the longest success that are read.
const SIZES: [usize; 5] = [2400, 16 * 1024, LONGEST_CALLBACK, LONGEST_REFUSAL, 1024 * 1024];

const LONGEST_REFUSAL: usize = 64 * 1024;

const LONGEST_CALLBACK: usize = 32 * 1024;

/// What no callback takes, and no answer of up to 64 KiB. A longer success has to be read too, which takes as long as its JSON takes.
const LIMIT: Duration = Duration::from_millis(1);

/// Of an input.
const TRIES: usize = 5;
