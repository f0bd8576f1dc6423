//! A Redis server of the test's own: on a free port, in a directory that goes with it, durable as the documentation asks for.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{Client, Value};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// Killed when it is dropped.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    directory: Directory,
}

impl RedisServer {
    /// Starts it; the test fails if there is none to start.
    pub(crate) async fn start() -> Self {
        Self::start_with(Directory::new(), &[]).await
    }

    /// The same with more arguments, and files in a directory that is there already.
    pub(crate) async fn start_with(directory: Directory, more: &[String]) -> Self {
        Self::start_on(free_port(), directory, more).await
    }

    /// A node of a cluster that isn't made yet. Nodes talk on a second port, ten thousand above.
    pub(crate) async fn start_node() -> Self {
        let port = free_port();
        let more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"];
        Self::start_on(port, Directory::new(), &more.map(str::to_owned)).await
    }

    /// A sentinel of this primary, which it knows as `main`.
    pub(crate) async fn start_sentinel(primary: &Self) -> Self {
        let (port, directory) = (free_port(), Directory::new());
        let file = directory.file("sentinel.conf");
        let lines = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nloglevel warning\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
            directory.0.display(),
            primary.port,
        );
        fs::write(&file, lines).unwrap();
        let arguments = vec![file, "--sentinel".to_owned()];
        let child = spawn(&arguments, port).await;
        Self { child, port, arguments, directory }
    }

    async fn start_on(port: u16, directory: Directory, more: &[String]) -> Self {
        let plain = if more.iter().any(|argument| argument == "--tls-port") { 0 } else { port };
        let own = [
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
            "--loglevel",
            "warning",
        ];
        let mut arguments: Vec<String> = own.map(str::to_owned).into();
        arguments.extend(["--port".into(), plain.to_string(), "--dir".into(), directory.0.display().to_string()]);
        arguments.extend(more.iter().map(|argument| argument.replace("{port}", &port.to_string())));
        let child = spawn(&arguments, port).await;
        Self { child, port, arguments, directory }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(self.child.id(), what);
    }

    /// What an operator would type.
    pub(crate) async fn order(&self, words: &str) -> Value {
        self.order_as(&self.url(), words).await
    }

    /// The same, under this name and with this password.
    pub(crate) async fn order_as(&self, url: &str, words: &str) -> Value {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        let mut connection = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        command.query_async(&mut connection).await.unwrap()
    }

    /// Runs a script that returns nothing.
    pub(crate) async fn script(&self, lua: &str) {
        let mut connection = Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        redis::cmd("EVAL").arg(lua).arg(0).exec_async(&mut connection).await.unwrap();
    }

    /// Its release, as far as commands depend on it.
    pub(crate) async fn version(&self) -> (u32, u32) {
        let about: String = redis::from_redis_value(self.order("INFO server").await).unwrap();
        let version = about.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("a version");
        let mut numbers = version.trim().split('.').map(|number| number.parse().expect("a number"));
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// The key of the one entry that there is.
    pub(crate) async fn entry(&self) -> String {
        let found: Vec<String> = redis::from_redis_value(self.order("KEYS tower-bearer:*}").await).unwrap();
        let [key] = &found[..] else { panic!("not one entry: {found:?}") };
        key.clone()
    }

    /// Makes it a replica of another one.
    pub(crate) async fn follows(&self, other: &Self) {
        self.order(&format!("REPLICAOF 127.0.0.1 {}", other.port)).await;
    }

    /// Makes another one its replica, and waits until it is.
    pub(crate) async fn is_followed_by(&self, replica: &Self) {
        // A replica is sent what there is after five seconds otherwise, for others to come at the same time.
        self.order("CONFIG SET repl-diskless-sync-delay 0").await;
        replica.follows(self).await;
        let followed = async {
            loop {
                let about: String = redis::from_redis_value(replica.order("INFO replication").await).unwrap();
                if about.contains("master_link_status:up") {
                    return;
                }
                sleep(Duration::from_millis(25)).await;
            }
        };
        timeout(Duration::from_secs(30), followed).await.expect("it never follows");
        // The replica has everything, but to its primary it is online only when it has said so, up to a second later.
        self.is_caught_up_with().await;
    }

    /// Waits until its replicas have all that it has.
    pub(crate) async fn is_caught_up_with(&self) {
        let mut connection = Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        connection.set_response_timeout(Duration::from_secs(30));
        let mut orders = redis::pipe();
        orders.cmd("SET").arg("caught-up").arg(1).cmd("WAIT").arg(1).arg(20_000);
        let (_, replicas): (Value, u64) = orders.query_async(&mut connection).await.unwrap();
        assert_eq!(replicas, 1, "a replica that has it");
    }

    /// A copy of what it has on disk now.
    pub(crate) fn backup(&self) -> Directory {
        let copy = Directory::new();
        copy_all(&self.directory.0, &copy.0);
        copy
    }

    /// Ends it as an operator would, and starts it on the same port with the same data.
    pub(crate) async fn restart(&mut self, pause: Duration) {
        self.end().await;
        sleep(pause).await;
        self.begin().await;
    }

    /// Ends it as an operator would.
    pub(crate) async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        timeout(Duration::from_secs(30), self.child.wait()).await.expect("it ends when asked").unwrap();
    }

    /// After its end: on the same port with the same data.
    pub(crate) async fn begin(&mut self) {
        self.child = spawn(&self.arguments, self.port).await;
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn spawn(arguments: &[String], port: u16) -> Child {
    let mut command = Command::new("redis-server");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("redis-server is needed: scripts/test installs it");
    for _ in 0..400 {
        if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return child;
        }
        assert!(child.try_wait().unwrap().is_none(), "redis-server ended at once");
        sleep(Duration::from_millis(25)).await;
    }
    panic!("redis-server listens on no port after ten seconds");
}

/// Sends a signal to one process of this test.
pub(crate) fn signal(pid: Option<u32>, signal: Signal) {
    let pid = pid.expect("a process that wasn't waited for yet");
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// A port that no other server of this process gets, and that was free a moment ago, as was the one 10 000 above it, which a node of a
/// cluster uses too. Both are below the ports that the system gives to connections (Linux: from 32 768 on).
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 10_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Each process begins somewhere else.
    let start = std::process::id().wrapping_mul(97);
    let next = || (FIRST + start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS) as u16;
    let mut ports = std::iter::repeat_with(next).take(PORTS as usize);
    ports.find(|port| is_free(*port) && is_free(port + 10_000)).expect("two free ports")
}

/// A directory that is removed when this is dropped.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tower-bearer-fleet-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
