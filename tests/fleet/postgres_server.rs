//! A PostgreSQL server of the test's own: on a free port, in a directory that goes with it, with fsync on. And a PgBouncer before it.

use std::{
    env, fs,
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use sqlx::{
    Connection, Executor, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use tower_bearer::store::PostgresStore;

use crate::redis_server::{Directory, free_port, signal};

/// Ended when it is dropped.
pub(crate) struct PostgresServer {
    child: Child,
    port: u16,
    directory: Directory,
}

impl PostgresServer {
    /// Starts it with the table; the test fails if there is none to start.
    pub(crate) async fn start() -> Self {
        let server = Self::start_without_table().await;
        let pool = server.pool(1);
        PostgresStore::migrate(&pool).await.unwrap();
        pool.close().await;
        server
    }

    /// One that follows another, until it is promoted.
    pub(crate) async fn standby_of(primary: &Self) -> Self {
        let directory = own_directory();
        let (data, port) = (directory.file("data"), primary.port.to_string());
        let arguments = [
            "--pgdata",
            &data,
            "--host=127.0.0.1",
            "--port",
            &port,
            "--username=app",
            "--checkpoint=fast",
            "--no-sync",
        ];
        let copied = program("pg_basebackup").args(arguments).arg("--write-recovery-conf").status().await.unwrap();
        assert!(copied.success(), "pg_basebackup: {copied}");
        let port = free_port();
        let child = spawn(&directory, port).await;
        Self { child, port, directory }
    }

    pub(crate) async fn start_without_table() -> Self {
        let directory = own_directory();
        let data = directory.file("data");
        // What is made here is worth nothing, so it need not be synced.
        let arguments =
            ["--pgdata", &data, "--username=app", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"];
        let made = program("initdb").args(arguments).stdout(Stdio::null()).status().await.unwrap();
        assert!(made.success(), "initdb: {made}");
        let rules =
            format!("host all {LOCKED} 127.0.0.1/32 scram-sha-256\nhost all,replication all 127.0.0.1/32 trust\n");
        fs::write(Path::new(&data).join("pg_hba.conf"), rules).unwrap();
        let port = free_port();
        let child = spawn(&directory, port).await;
        Self { child, port, directory }
    }

    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The same for another database.
    pub(crate) fn url_of(&self, database: &str) -> String {
        format!("postgres://app@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A new database, with the table.
    pub(crate) async fn new_database(&self, name: &str) -> String {
        self.order(&format!("CREATE DATABASE {name}")).await;
        let url = self.url_of(name);
        let pool = pool(&url, 1);
        PostgresStore::migrate(&pool).await.unwrap();
        pool.close().await;
        url
    }

    pub(crate) fn pool(&self, connections: u32) -> PgPool {
        pool(&self.url(), connections)
    }

    pub(crate) fn store(&self, name: &str) -> PostgresStore {
        PostgresStore::new(self.pool(2), name)
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(self.child.id(), what);
    }

    /// What an operator would type.
    pub(crate) async fn order(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        // Whatever the role has.
        connection.execute("SET statement_timeout = 0").await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A number that an operator would ask for.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        let number = connection.fetch_one(sql).await.unwrap().get(0);
        connection.close().await.unwrap();
        number
    }

    /// How many sessions there are but for the operator's. One that was closed may be there for a moment.
    pub(crate) async fn sessions(&self) -> i64 {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.number(sql).await
    }

    /// Changes a parameter for all sessions from now on.
    pub(crate) async fn set(&self, parameter: &str) {
        self.order(&format!("ALTER SYSTEM SET {parameter}")).await;
        self.order("SELECT pg_reload_conf()").await;
        // It takes a moment until the server has read it.
        sleep(Duration::from_millis(500)).await;
    }

    /// Ends it as an operator would, and starts it on the same port with the same data.
    pub(crate) async fn restart(&mut self, pause: Duration) {
        self.end().await;
        sleep(pause).await;
        self.begin().await;
    }

    /// Ends it as an operator would: `fast`, because it would wait for its clients otherwise.
    pub(crate) async fn end(&mut self) {
        self.signal(Signal::SIGINT);
        timeout(Duration::from_secs(60), self.child.wait()).await.expect("it ends when asked").unwrap();
    }

    /// As if the machine had lost its power, but for what the kernel has.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().await.unwrap();
    }

    /// After its end: on the same port with the same data.
    pub(crate) async fn begin(&mut self) {
        self.child = spawn(&self.directory, self.port).await;
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.child.id().is_none() {
            return;
        }
        // At once, but not by SIGKILL, after which its shared memory would stay.
        self.signal(Signal::SIGQUIT);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn own_directory() -> Directory {
    let directory = Directory::new();
    if let Some(user) = other_user() {
        chown(&directory.0, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    directory
}

/// A role with the password `right`, for tests that create it.
pub(crate) const LOCKED: &str = "locked";

pub(crate) fn pool(url: &str, connections: u32) -> PgPool {
    pool_with(url.parse().unwrap(), connections)
}

pub(crate) fn pool_with(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).connect_lazy_with(options)
}

async fn spawn(directory: &Directory, port: u16) -> Child {
    let data = directory.file("data");
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        "fsync=on",
        "synchronous_commit=on",
        "shared_buffers=16MB",
        "log_min_messages=panic",
    ];
    // After a kill its processes may still use the old shared memory for a moment; then it doesn't start.
    for _ in 0..40 {
        let mut command = program("postgres");
        command.args(["-D", &data, "-p", &port.to_string()]).args(settings.iter().flat_map(|setting| ["-c", setting]));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        for _ in 0..1200 {
            let url = format!("postgres://app@127.0.0.1:{port}/postgres");
            if PgConnection::connect(&url).await.is_ok() {
                return child;
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(25)).await;
        }
        sleep(Duration::from_millis(250)).await;
    }
    panic!("postgres listens on no port");
}

/// PgBouncer in transaction mode. Ended when it is dropped.
pub(crate) struct PgBouncer {
    _child: Child,
    port: u16,
    _directory: Directory,
}

impl PgBouncer {
    /// With two connections to the server for all clients.
    pub(crate) async fn before(server: &PostgresServer) -> Self {
        let (directory, port) = (Directory::new(), free_port());
        let file = directory.file("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=app\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n\
             ignore_startup_parameters = extra_float_digits\n",
            server.port()
        );
        fs::write(&file, settings).unwrap();
        let mut command = program("pgbouncer");
        let child = command.args(["-q", &file]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.kill_on_drop(true).spawn().unwrap();
        let bouncer = Self { _child: child, port, _directory: directory };
        for _ in 0..400 {
            if PgConnection::connect(&bouncer.url()).await.is_ok() {
                return bouncer;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("pgbouncer listens on no port after ten seconds");
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://app@{}:{}/postgres", Ipv4Addr::LOCALHOST, self.port)
    }
}

/// A program that refuses to run as root.
fn program(name: &str) -> Command {
    let mut command = Command::new(find(name));
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    // Readable for that user as well.
    command.current_dir("/");
    command
}

/// Debian has the server's programs in a directory for each version, which is in nobody's path.
fn find(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    let directories = versions.into_iter().rev().chain(env::split_paths(&path)).chain(["/usr/sbin".into()]);
    let found = directories.map(|directory| directory.join(name)).find(|program| program.exists());
    found.unwrap_or_else(|| panic!("{name} is needed: scripts/test installs it"))
}

/// If this is root: whom to run as instead.
fn other_user() -> Option<User> {
    let user = |name| User::from_name(name).unwrap();
    geteuid().is_root().then(|| user("postgres").or_else(|| user("nobody")).expect("a user to run PostgreSQL as"))
}
