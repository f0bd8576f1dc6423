//! A token that somebody else keeps in a file: Kubernetes, SPIFFE, Vault's agent, a secrets volume.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{AccessToken, FetchError, FetchRequest, TokenSource};

/// A file that holds the token, re-read every five seconds: whoever rewrites it, replaces it, or swaps a symlink on the way to it
/// (as Kubernetes does) has the new token on requests within that time. White space around the token is ignored.
///
/// While the file is missing, empty or unreadable, the token read last stays in use.
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
}

impl TokenFile {
    /// The file at this path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), recheck: RECHECK }
    }

    /// How often the file is read: every 5 s unless said otherwise, once a second at the most.
    #[must_use]
    pub fn recheck_every(mut self, period: Duration) -> Self {
        self.recheck = period;
        self
    }
}

impl TokenSource for TokenFile {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await.map_err(FetchError::try_again)?;
        let text = read.map_err(|error| FetchError::try_again(format!("{}: {error}", self.path.display())))?;
        let token = AccessToken::new(text.trim())
            .map_err(|error| FetchError::try_again(format!("{}: {error}", self.path.display())))?;
        Ok(token.recheck_after(self.recheck))
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // To open a pipe waits for somebody to write to it, perhaps for ever, and no thread can be called back from there.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    // One byte more than allowed tells "too long" from "just fits", whatever the file says of its size (in /proc: zero).
    fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 64 KiB: not a file with just a token"));
    }
    Ok(text)
}

/// Kubernetes swaps a projected token some 20 % of its life (at least two minutes) before it ends, so seconds are plenty; twelve
/// reads of a small file a minute cost nothing.
const RECHECK: Duration = Duration::from_secs(5);

/// No server takes a header this long.
const LONGEST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, content: Option<&[u8]>) -> (TokenFile, PathBuf) {
        let path = std::env::temp_dir().join(format!("tower-bearer-{}-{name}", std::process::id()));
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => drop(fs::remove_file(&path)),
        }
        (TokenFile::new(&path), path)
    }

    async fn fetch(source: &mut TokenFile) -> Result<AccessToken, FetchError> {
        source.fetch(FetchRequest::new(Duration::from_secs(1))).await
    }

    #[tokio::test]
    async fn reads_the_file_anew_each_time() {
        let (mut source, path) = source("anew", Some(b"one\n"));
        assert_eq!(fetch(&mut source).await.unwrap().expose_secret(), "one");
        fs::write(&path, "  two\r\n").unwrap();
        let token = fetch(&mut source).await.unwrap();
        assert_eq!(token.expose_secret(), "two");
        assert_eq!(token.recheck_period(), Some(Duration::from_secs(5)));
        fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_token_is_an_error_that_names_the_file() {
        let cases: [(&str, Option<&[u8]>); 5] = [
            ("missing", None),
            ("empty", Some(b" \n")),
            ("binary", Some(b"\xff\xfe")),
            ("two-words", Some(b"marked secret")),
            ("huge", Some(&[b'a'; 70_000])),
        ];
        for (name, content) in cases {
            let (mut source, path) = source(name, content);
            let error = fetch(&mut source).await.expect_err(name).to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(!error.contains("marked"), "{error}");
            let _ = fs::remove_file(path);
        }
    }
}
