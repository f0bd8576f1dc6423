//! A token in a file that somebody else keeps up to date: Kubernetes, SPIFFE, Vault's agent, a secrets volume.

use std::{
    fs::{self, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time;
use zeroize::Zeroizing;

use super::one_thread::OneThread;
use crate::{
    AccessToken, FetchError, FetchRequest, TokenSource,
    clock::{Clock, SystemClock},
};

/// A file that holds the token. It is read every five seconds. If somebody rewrites or replaces it, or changes a symlink on its path (as
/// Kubernetes does), requests carry the new token within that time, without a restart. White space around the token, line ends of any
/// system and a byte order mark are ignored. Quotes, JSON and the word `Bearer` before the token are errors.
///
/// While the file is missing, empty or unreadable, or contains no token, the last token stays in use. A file that was written within the
/// last two seconds may be incomplete: it is read again until it stays the same for 100 ms, so that half of a token is never taken for a
/// token. (A writer that pauses for longer in the middle defeats this. Replace files by renaming, as Kubernetes and SPIFFE do.) If reading
/// hangs, as on a network mount whose server is gone, at most one thread waits for it.
///
/// The lifetime of the token is unknown, even if the file contains a JWT that tells it. Whoever writes the file renews the token in time,
/// and a wrong wall clock on this machine must not end a valid token. Kubernetes' own clients do the same.
///
/// Mounts by `subPath` never change: Kubernetes doesn't renew tokens in them.
///
/// ```no_run
/// use tower_bearer::{BearerAuthLayer, Origin, TokenFile};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), tower_bearer::InvalidOrigin> {
/// let source = TokenFile::new("/var/run/secrets/kubernetes.io/serviceaccount/token");
/// let layer = BearerAuthLayer::spawn(source, Origin::parse("https://kubernetes.default.svc")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
    recheck: Duration,
    known: Option<AccessToken>,
    reader: OneThread<io::Result<Reading>>,
}

impl TokenFile {
    /// A source that reads the file at this path. The file need not exist yet. See the example of [`TokenFile`].
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), recheck: RECHECK, known: None, reader: OneThread::default() }
    }

    /// How often the file is read: at most once a second. Default: every 5 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::TokenFile;
    ///
    /// let source = TokenFile::new("/run/secrets/token").recheck_every(Duration::from_secs(60));
    /// # let _ = source;
    /// ```
    #[must_use]
    pub fn recheck_every(mut self, period: Duration) -> Self {
        self.recheck = period;
        self
    }

    /// The token in the file, once nobody is writing it.
    async fn complete(&mut self) -> Result<AccessToken, String> {
        let mut last = self.read().await?;
        for _ in 0..READS {
            if last.is_complete || self.known.as_ref().is_some_and(|known| known.expose_secret() == last.token()) {
                return bare(last.token());
            }
            time::sleep(PAUSE).await;
            let next = self.read().await?;
            last = Reading { is_complete: next.is_complete || next.text == last.text, text: next.text };
        }
        Err("it is being written all the time".into())
    }

    async fn read(&mut self) -> Result<Reading, String> {
        let path = self.path.clone();
        match self.reader.run(move || read(&path)).await {
            Some(read) => read.map_err(|error| error.to_string()),
            None => Err("reading it panicked".into()),
        }
    }
}

impl TokenSource for TokenFile {
    async fn fetch(&mut self, request: FetchRequest) -> Result<AccessToken, FetchError> {
        let limit = request.timeout();
        let read = time::timeout(limit, self.complete()).await;
        let token =
            read.unwrap_or_else(|_| Err(format!("reading it takes longer than {limit:?}"))).map_err(|error| {
                // Reading a file is cheap: the backoff doesn't grow while the file is missing.
                FetchError::try_again(format!("{}: {error}", self.path.display())).pace(self.recheck)
            })?;
        self.known = Some(token.clone());
        Ok(token.recheck_after(self.recheck).known_to_api())
    }
}

/// The token, if the file contains nothing else.
///
/// RFC 6750 §2.1 allows neither quotes nor braces. [`AccessToken`] accepts them, because a server may issue anything. In a file they mean
/// that somebody has mounted a whole token response, quoted the token as for a shell, or not filled in a template.
fn bare(text: &str) -> Result<AccessToken, String> {
    let looks_like = match text.as_bytes() {
        [b'{' | b'[', ..] => Some("it looks like JSON"),
        [first @ (b'"' | b'\'' | b'`'), .., last] if first == last => Some("it is in quotes"),
        _ if text.contains(['"', '\'', '`', '{', '}']) => Some("there is a quote or a brace in it"),
        _ if text.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("bearer ")) => {
            Some("it begins with the word `Bearer`")
        }
        _ => None,
    };
    match looks_like {
        Some(what) => Err(format!("{what}; the file must hold the token alone")),
        None => AccessToken::new(text).map_err(|error| error.to_string()),
    }
}

/// The content of the file at one moment.
struct Reading {
    text: Zeroizing<String>,
    /// Nobody seems to be writing it.
    is_complete: bool,
}

impl Reading {
    fn token(&self) -> &str {
        self.text.trim_start_matches(BYTE_ORDER_MARK).trim()
    }
}

fn read(path: &Path) -> io::Result<Reading> {
    // Opening a pipe waits, perhaps for ever, until somebody writes to it. Nothing can stop a thread that waits there.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = fs::File::open(path)?;
    // One byte more than allowed, to tell "too long" from "just fits", whatever size the file reports (in /proc: zero). The whole capacity
    // is reserved at once: a growing buffer would leave parts of the token in memory that nobody overwrites.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 1));
    (&file).take(LONGEST as u64 + 1).read_to_string(&mut text)?;
    if text.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 64 KiB: not a file with just a token"));
    }
    // After reading, so that it shows what was written meanwhile.
    let is_complete = is_complete(&file.metadata()?, SystemClock.wall());
    Ok(Reading { text, is_complete })
}

/// Whether nobody has written to the file lately, by its modification time. A time in the future says nothing.
fn is_complete(metadata: &Metadata, now: SystemTime) -> bool {
    let age = metadata.modified().ok().and_then(|written| now.duration_since(written).ok());
    age.is_some_and(|age| age >= FRESH)
}

/// Kubernetes replaces a projected token when some 20 % of its lifetime are left, and at least two minutes, so a few seconds are soon
/// enough. Twelve reads of a small file a minute cost nothing.
const RECHECK: Duration = Duration::from_secs(5);

/// No server accepts a header this long.
const LONGEST: usize = 64 * 1024;

/// An older file is taken after one read. File systems store times to two seconds at worst (FAT).
const FRESH: Duration = Duration::from_secs(2);

/// The time between two reads of a file that may be incomplete.
const PAUSE: Duration = Duration::from_millis(100);

/// How often to read the file before giving up until the next check. Nobody keeps a token in a file that changes faster than this.
const READS: u32 = 20;

/// Windows editors begin a UTF-8 file with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    use super::*;

    /// A file for one test, in a directory that is removed with it.
    struct Scrap(PathBuf);

    impl Scrap {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("tower-bearer-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("token")
        }

        fn write(&self, content: impl AsRef<[u8]>) {
            fs::write(self.path(), content).unwrap();
        }

        /// Makes the file look as old as this.
        fn age(&self, age: Duration) {
            let file = fs::File::options().write(true).open(self.path()).unwrap();
            file.set_modified(SystemClock.wall() - age).unwrap();
        }
    }

    impl Drop for Scrap {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn fetch(source: &mut TokenFile) -> Result<AccessToken, FetchError> {
        source.fetch(FetchRequest::new(Duration::from_secs(10))).await
    }

    #[allow(clippy::disallowed_methods, reason = "tests measure the time that they control")]
    async fn timed(source: &mut TokenFile) -> (String, Duration) {
        let start = time::Instant::now();
        let text = match fetch(source).await {
            Ok(token) => token.expose_secret().to_owned(),
            Err(error) => error.to_string(),
        };
        (text, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn takes_the_token_out_of_what_editors_and_shells_put_around_it() {
        let scrap = Scrap::new("around");
        let mut source = TokenFile::new(scrap.path());
        for content in ["one", "one\n", " one\r\n", "\u{feff}one\r\n\r\n", "\n\tone\n"] {
            scrap.write(content);
            let token = fetch(&mut source).await.unwrap();
            assert_eq!(token.expose_secret(), "one", "{content:?}");
            assert_eq!(token.recheck_period(), Some(Duration::from_secs(5)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_long_ago_or_is_known_is_taken_at_the_first_look() {
        let scrap = Scrap::new("age");
        scrap.write("one");
        scrap.age(Duration::from_secs(3));
        let mut source = TokenFile::new(scrap.path());
        assert_eq!(timed(&mut source).await, ("one".into(), Duration::ZERO));
        scrap.write("one\n");
        assert_eq!(timed(&mut source).await, ("one".into(), Duration::ZERO));
        // A file server whose clock is ahead.
        scrap.write("two");
        let file = fs::File::options().write(true).open(scrap.path()).unwrap();
        file.set_modified(SystemClock.wall() + Duration::from_secs(3600)).unwrap();
        let (text, took) = timed(&mut source).await;
        assert!(text == "two" && took >= PAUSE && took <= PAUSE + Duration::from_millis(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_a_token_is_not_taken_for_one() {
        let scrap = Scrap::new("half");
        for pieces in [1, 2, 5] {
            let mut source = TokenFile::new(scrap.path());
            scrap.write("");
            let writing = async {
                for _ in 0..pieces {
                    let text = fs::read_to_string(scrap.path()).unwrap() + "piece";
                    scrap.write(text);
                    time::sleep(Duration::from_millis(60)).await;
                }
            };
            let ((), (text, _)) = tokio::join!(writing, timed(&mut source));
            assert_eq!(text, "piece".repeat(pieces));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_never_settles_is_no_token() {
        let scrap = Scrap::new("restless");
        let mut source = TokenFile::new(scrap.path());
        let restless = async {
            for number in 1.. {
                // Longer each time: on a paused clock two writes may come within one tick of the file's time.
                scrap.write("marked".repeat(number));
                time::sleep(Duration::from_millis(60)).await;
            }
        };
        let text = tokio::select! {
            () = restless => unreachable!("it goes on"),
            (text, took) = timed(&mut source) => {
                assert!(took < Duration::from_secs(3), "{took:?}");
                text
            }
        };
        assert!(text.contains("written all the time") && !text.contains("marked"), "{text}");
    }

    #[tokio::test]
    async fn what_is_no_token_is_an_error_that_names_the_file() {
        let scrap = Scrap::new("wrong");
        let cases: [(&str, &[u8]); 15] = [
            ("it is empty", b""),
            ("it is empty", b" \n"),
            ("UTF-8", b"\xff\xfem\0a\0r\0k\0e\0d\0"),
            ("byte 6 is white space", b"marked secret"),
            ("byte 6 is white space", b"marked\nsecret\n"),
            ("longer than 64 KiB", &[b'a'; 70_000]),
            ("it looks like JSON; the file must hold the token alone", br#"{"access_token":"marked"}"#),
            ("it looks like JSON;", b"\xef\xbb\xbf{\n  \"token\": \"marked\"\n}\n"),
            ("it looks like JSON;", br#"["marked"]"#),
            ("it is in quotes; the file must hold the token alone", b"\"marked\"\n"),
            ("it is in quotes;", b"'marked'"),
            ("there is a quote or a brace in it; the file must hold the token alone", b"\"marked"),
            ("there is a quote or a brace in it;", b"TOKEN=\"marked\"\n"),
            ("there is a quote or a brace in it;", b"${marked}"),
            ("it begins with the word `Bearer`;", b"bearer marked\n"),
        ];
        for (said, content) in cases {
            scrap.write(content);
            let mut source = TokenFile::new(scrap.path());
            let error = fetch(&mut source).await.expect_err(said).to_string();
            assert!(error.contains(said), "{error} should say {said}");
            assert!(error.contains(&scrap.path().display().to_string()), "{error}");
            assert!(!error.contains("marked"), "{error}");
        }
    }
}
