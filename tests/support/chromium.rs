//! A real browser: headless Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>) by chromedriver.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A window of a browser with a profile of its own: ends when this is dropped.
pub struct Chromium {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT/session/ID`
    session: String,
    /// Chromium's: chromedriver would leave it behind when it is killed.
    process: u64,
    _driver: Child,
    /// Where the browser writes.
    scratch: PathBuf,
    screenshots: PathBuf,
    shots: usize,
}

impl Chromium {
    /// Starts one. Screenshots go to a folder of that name in cargo's folder for tests, which is printed, and stay until the
    /// next time.
    ///
    /// # Panics
    /// With what to do, if something is missing.
    pub async fn start(name: &str) -> Self {
        // Not in cargo's folder: Chromium makes a socket here, whose path must not be longer than 107 bytes.
        let scratch = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&screenshots);
        for folder in [&scratch, &screenshots] {
            std::fs::create_dir_all(folder).expect("a folder to write to");
        }
        println!("screenshots: {}", screenshots.display());
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", &scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver is needed (Debian: chromium, chromium-driver): {error}"));
        let port = port(&mut driver).await;
        let mut browser = Self {
            http: reqwest::Client::new(),
            session: format!("http://127.0.0.1:{port}"),
            process: 0,
            _driver: driver,
            scratch,
            screenshots,
            shots: 0,
        };
        let args = FLAGS.iter().map(|flag| (*flag).to_owned());
        let profile = format!("--user-data-dir={}", browser.scratch.join("profile").display());
        let options = json!({"args": args.chain([profile]).collect::<Vec<_>>()});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options});
        let made = browser.post("/session", json!({"capabilities": {"alwaysMatch": wanted}})).await;
        browser.process = made["capabilities"]["goog:processID"].as_u64().expect("Chromium's process id");
        let id = made["sessionId"].as_str().expect("a session id");
        browser.session += &format!("/session/{id}");
        browser
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    pub async fn url(&self) -> String {
        self.get("/url").await.as_str().expect("a URL").to_owned()
    }

    /// Clicks on what there is one of and leads to another page, and waits for that.
    pub async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.run("window.isLeft = true").await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
        for _ in 0..500 {
            if self.run("return !window.isLeft && document.readyState === 'complete'").await == json!(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a click on {css} leads nowhere from {}", self.url().await);
    }

    pub async fn type_into(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        self.post(&format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// The text as it is shown.
    pub async fn text(&self, css: &str) -> String {
        let element = self.find(css).await;
        self.get(&format!("/element/{element}/text")).await.as_str().expect("a text").to_owned()
    }

    pub async fn has(&self, css: &str) -> bool {
        !self.find_all(css).await.is_empty()
    }

    /// The names that assistive technology reads out for these.
    pub async fn names(&self, css: &str) -> Vec<String> {
        let mut names = Vec::new();
        for element in self.find_all(css).await {
            let name = self.get(&format!("/element/{element}/computedlabel")).await;
            names.push(name.as_str().expect("a name").to_owned());
        }
        names
    }

    /// The result of a function body.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// A command of Chromium's own, beyond WebDriver.
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": params})).await
    }

    /// The status that the page came with.
    pub async fn status(&self) -> u64 {
        let status = self.run("return performance.getEntriesByType('navigation')[0].responseStatus").await;
        status.as_u64().expect("a status")
    }

    /// Asserts what can be told by a program of whether everybody can use the page: see `accessibility.js`.
    pub async fn assert_accessible(&self) {
        let problems = self.run(include_str!("accessibility.js")).await;
        assert_eq!(problems, json!([]), "at {}", self.url().await);
        for name in self.names("a, button, input").await {
            assert!(!name.trim().is_empty(), "something without a name at {}", self.url().await);
        }
    }

    /// Keeps what the whole page looks like, as `NUMBER-NAME.png`.
    pub async fn shoot(&mut self, name: &str) {
        let shot = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
        let picture = BASE64_STANDARD.decode(shot["data"].as_str().expect("Base64")).expect("Base64");
        self.shots += 1;
        let path = self.screenshots.join(format!("{:02}-{name}.png", self.shots).replace(' ', "-"));
        std::fs::write(path, picture).expect("a file in the temporary folder");
    }

    async fn find(&self, css: &str) -> String {
        let found = self.find_all(css).await;
        let [element] = &found[..] else {
            let page = self.run("return document.body.innerText").await;
            panic!("{} of {css} at {}:\n{}", found.len(), self.url().await, page.as_str().unwrap_or_default());
        };
        element.clone()
    }

    async fn find_all(&self, css: &str) -> Vec<String> {
        let found = self.post("/elements", json!({"using": "css selector", "value": css})).await;
        let elements = found.as_array().expect("a list").iter();
        elements.map(|element| element[ELEMENT].as_str().expect("a reference").to_owned()).collect()
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, String::new()).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.send(Method::POST, path, body.to_string()).await
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Value {
        let url = format!("{}{path}", self.session);
        let request = self.http.request(method, url).header("content-type", "application/json").body(body);
        let response = request.timeout(Duration::from_secs(30)).send().await.expect("chromedriver answers");
        let status = response.status();
        let text = response.text().await.expect("a text");
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert!(status.is_success(), "{path}: {}", answer["value"]["message"]);
        answer["value"].take()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if self.quit().is_err() && self.process != 0 {
            let _ = std::process::Command::new("kill").args(["-KILL", &self.process.to_string()]).status();
        }
        // What is left is a matter of tidiness.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

impl Chromium {
    /// Ends the session, by hand since nothing can be awaited here; chromedriver answers when all of Chromium's processes are gone.
    fn quit(&self) -> io::Result<()> {
        let address = self.session.trim_start_matches("http://");
        let (host, path) = address.split_once('/').ok_or(io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "DELETE /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        // It keeps the connection open whatever it is told: the beginning of the answer is enough.
        stream.read_exact(&mut [0])
    }
}

/// "ChromeDriver was started successfully on port N."
async fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
    let found = async {
        loop {
            let line = lines.next_line().await.expect("stdout can be read").expect("chromedriver starts");
            let port = line.split("successfully on port ").nth(1);
            if let Some(port) = port.and_then(|port| port.trim_end_matches('.').parse().ok()) {
                return port;
            }
        }
    };
    let port = tokio::time::timeout(Duration::from_secs(30), found).await;
    // What else it prints is read by nobody, and must not stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    port.expect("chromedriver starts within 30 s")
}

/// What WebDriver calls the member that holds a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Without a sandbox, since tests may run as root or in a container, and see only pages of their own; and without what calls
/// elsewhere.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1000,900",
];
