//! A token that somebody else keeps in a file: Kubernetes, SPIFFE, Vault's agent, a secrets volume.

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

/// A file that holds the token, read every five seconds: whoever rewrites it, replaces it, or swaps a symlink on the way to it (as
/// Kubernetes does) has the new token on requests within that time, without a restart. White space around the token, line ends
/// of any system and a byte order mark are ignored; quotes, JSON, and the word `Bearer` before it are errors.
///
/// While the file is missing, empty, unreadable or no token, the one read last stays in use. A file that was written within the
/// last two seconds may be written still: it is read again until it stays the same for 100 ms, so that half of a token isn't taken
/// for one. (A writer that pauses for longer in the middle fools it: replace files by renaming, as Kubernetes and SPIFFE do.)
/// Where reading hangs, as on a network mount whose server is gone, one thread waits for it and no more.
///
/// The end of the token isn't known, even where the file holds a JWT that says it: whoever writes the file renews the token in
/// time, and a wall clock that is wrong here must not end a token that works. Kubernetes' own clients do the same.
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
    /// The file at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), recheck: RECHECK, known: None, reader: OneThread::default() }
    }

    /// How often the file is read: every 5 s unless said otherwise, once a second at the most.
    #[must_use]
    pub fn recheck_every(mut self, period: Duration) -> Self {
        self.recheck = period;
        self
    }

    /// What the file holds, once it isn't being written.
    async fn settled(&mut self) -> Result<AccessToken, String> {
        let mut last = self.read().await?;
        for _ in 0..LOOKS {
            if last.settled || self.known.as_ref().is_some_and(|known| known.expose_secret() == last.token()) {
                return bare(last.token());
            }
            time::sleep(PAUSE).await;
            let next = self.read().await?;
            last = Reading { settled: next.settled || next.text == last.text, text: next.text };
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
        let read = time::timeout(limit, self.settled()).await;
        let token =
            read.unwrap_or_else(|_| Err(format!("reading it takes longer than {limit:?}"))).map_err(|error| {
                // A file costs nobody anything: no reason to look more seldom the longer it is missing.
                FetchError::try_again(format!("{}: {error}", self.path.display())).pace(self.recheck)
            })?;
        self.known = Some(token.clone());
        Ok(token.recheck_after(self.recheck).settled())
    }
}

/// The token, if it stands alone.
///
/// RFC 6750 §2.1 has neither quotes nor braces. [`AccessToken`] takes them, since a server may give out anything; but where they are in a
/// file, somebody has mounted a whole answer, quoted the token as for a shell, or left a template as it was.
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

/// What was in the file at one moment.
struct Reading {
    text: Zeroizing<String>,
    /// Nobody has written to it for a while.
    settled: bool,
}

impl Reading {
    fn token(&self) -> &str {
        self.text.trim_start_matches(BYTE_ORDER_MARK).trim()
    }
}

fn read(path: &Path) -> io::Result<Reading> {
    // To open a pipe waits for somebody to write to it, perhaps for ever, and no thread can be called back from there.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = fs::File::open(path)?;
    // One byte more than allowed tells "too long" from "just fits", whatever the file says of its size (in /proc: zero). The room
    // for it is there from the start: what a growing buffer leaves behind nobody would overwrite.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 1));
    (&file).take(LONGEST as u64 + 1).read_to_string(&mut text)?;
    if text.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 64 KiB: not a file with just a token"));
    }
    // After reading: what was written meanwhile shows.
    let settled = is_settled(&file.metadata()?, SystemClock.wall());
    Ok(Reading { text, settled })
}

/// Whether nobody wrote to the file of late, by its own account. A time to come says nothing.
fn is_settled(metadata: &Metadata, now: SystemTime) -> bool {
    let age = metadata.modified().ok().and_then(|written| now.duration_since(written).ok());
    age.is_some_and(|age| age >= FRESH)
}

/// Kubernetes swaps a projected token some 20 % of its life (at least two minutes) before it ends, so seconds are plenty; twelve
/// reads of a small file a minute cost nothing.
const RECHECK: Duration = Duration::from_secs(5);

/// No server takes a header this long.
const LONGEST: usize = 64 * 1024;

/// A file older than this is taken at the first look. File systems keep times to two seconds at the worst (FAT).
const FRESH: Duration = Duration::from_secs(2);

/// Between two looks at a file that may be written still.
const PAUSE: Duration = Duration::from_millis(100);

/// How often to look before giving up until the next check: a file that changes faster than this isn't kept by anybody sane.
const LOOKS: u32 = 20;

/// Editors on Windows begin a file of UTF-8 with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of this test's own, in a directory that goes with it.
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

        /// As if it had been written long ago.
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
        // A file server with another clock.
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
