//! Writes that wait together for replicas or disks.
//!
//! `WAIT` holds up its connection, and is about all writes of this connection so far. So such writes have a connection of their own, where
//! those that come while others wait are sent together, with one `WAIT` for all. If replicas are gone, no call waits longer than twice for
//! them, however many users there are, and nobody else waits at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::oneshot;

use super::connection::{Answers, Connection, Failure, Why, send};
use crate::store::StoreError;

/// The writes that were not sent yet.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writes: Vec<Write>,
    is_sending: bool,
}

struct Write {
    command: Cmd,
    wait: Cmd,
    is_asking: bool,
    done: oneshot::Sender<Result<Answers, Failure>>,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Sends a command with others that wait as it does.
    pub(super) async fn ask_in_group(
        self: &Arc<Self>,
        command: &Cmd,
        wait: &Cmd,
        is_asking: bool,
    ) -> Result<Answers, Failure> {
        let (done, answered) = oneshot::channel();
        let starts = {
            let mut state = self.group.state();
            state.writes.push(Write { command: command.clone(), wait: wait.clone(), is_asking, done });
            !std::mem::replace(&mut state.is_sending, true)
        };
        if starts {
            // A task, because the others must not end with the call that came first.
            tokio::spawn(Sending { connection: self.clone(), is_over: false }.run());
        }
        answered.await.unwrap_or_else(|_| {
            let error = StoreError::unreachable("Redis: the runtime that sent it has ended");
            Err(Failure { why: Why::Ended(error), was_new: true, is_about_the_key: false })
        })
    }

    /// Sends these writes, and tells each caller.
    async fn send_group(self: &Arc<Self>, writes: Vec<Write>, wait: &Cmd) {
        let (number, connection, was_new) = match self.connected(true).await {
            Ok(connected) => connected,
            Err(error) => {
                return tell_all(writes, || Failure {
                    why: Why::NotConnected(error.clone()),
                    was_new: true,
                    is_about_the_key: false,
                });
            }
        };
        let mut values = Vec::with_capacity(writes.len() + 1);
        let mut parts = writes.chunks(AT_ONCE).peekable();
        while let Some(some) = parts.next() {
            let mut commands = Pipeline::new();
            for write in some {
                if write.is_asking {
                    commands.cmd("ASKING");
                }
                commands.add_command(write.command.clone());
            }
            if parts.peek().is_none() {
                // Once for all of them, or those who came last would wait for as many others as there are parts.
                commands.add_command(wait.clone());
            }
            match send(connection.clone(), &commands, self.limit()).await {
                Ok(answered) => values.extend(answered),
                Err(why) => {
                    self.end(number).await;
                    return tell_all(writes, || Failure { why: why.clone(), was_new, is_about_the_key: false });
                }
            }
        }
        let mut values = values.into_iter();
        let waited = values.next_back().unwrap_or(Value::Nil);
        let (mut has_worked, mut is_in_doubt) = (false, false);
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            if write.is_asking {
                values.next();
            }
            let answer = match values.next().unwrap_or(Value::Nil) {
                Value::ServerError(error) => {
                    let failure = self.refused(RedisError::from(error), was_new);
                    is_in_doubt |= !failure.is_about_the_key;
                    Err(failure)
                }
                value => {
                    has_worked = true;
                    let connection = (self.clone(), number);
                    Ok(Answers { value, waited: Some(waited.clone()), doubt: None, connection })
                }
            };
            answers.push((write.done, answer));
        }
        if has_worked {
            self.note_that_it_works(number);
        }
        if is_in_doubt {
            self.end(number).await;
        }
        for (done, answer) in answers {
            // Who is gone needs no answer.
            let _ = done.send(answer);
        }
    }
}

fn tell_all(writes: Vec<Write>, failure: impl Fn() -> Failure) {
    for write in writes {
        let _ = write.done.send(Err(failure()));
    }
}

/// The task that sends the writes of a connection, until there are none.
struct Sending {
    connection: Arc<Connection>,
    is_over: bool,
}

impl Sending {
    async fn run(mut self) {
        while let Some((writes, wait)) = self.next() {
            self.connection.send_group(writes, &wait).await;
        }
    }

    /// Those that wait as the first one does.
    fn next(&mut self) -> Option<(Vec<Write>, Cmd)> {
        let mut state = self.connection.group.state();
        state.writes.retain(|write| !write.done.is_closed());
        let Some(wait) = state.writes.first().map(|first| first.wait.clone()) else {
            (state.is_sending, self.is_over) = (false, true);
            return None;
        };
        let packed = wait.get_packed_command();
        let is_alike = |write: &mut Write| write.wait.get_packed_command() == packed;
        let writes = state.writes.extract_if(.., is_alike).collect();
        Some((writes, wait))
    }
}

impl Drop for Sending {
    /// If its runtime ends or a bug makes it panic, the callers are told by the end of their channels, and the next write begins anew.
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.connection.group.state();
            state.is_sending = false;
            state.writes.clear();
        }
    }
}

/// How many are sent in one piece. Each piece has the answer limit for itself.
const AT_ONCE: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::future::join_all;
    use redis::Client;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::watch,
        time::{sleep, timeout},
    };

    use super::{
        super::connection::{NoAnswers, Server},
        *,
    };

    /// What the server has seen.
    #[derive(Default)]
    struct Seen {
        connections: AtomicUsize,
        /// In the order in which they came.
        commands: Mutex<Vec<String>>,
        /// Whether `WAIT` is answered.
        is_open: watch::Sender<bool>,
    }

    impl Seen {
        fn count(&self, name: &str) -> usize {
            self.commands.lock().unwrap().iter().filter(|command| *command == name).count()
        }

        async fn until_waits(&self, count: usize) {
            while self.count("WAIT") < count {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Answers `EVAL "refuse"` and `EVAL "moved"` with errors, any other with 1, and `WAIT` with 1 when it may.
    async fn server() -> (Arc<Connection>, Arc<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::open(format!("redis://{}/", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::new(Seen::default());
        let counted = seen.clone();
        tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let seen = counted.clone();
                tokio::spawn(async move {
                    let (mut text, mut buffer) = (String::new(), [0; 65_536]);
                    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                        text += std::str::from_utf8(&buffer[..read]).unwrap();
                        while let Some((command, argument, rest)) = first_command(&text) {
                            seen.commands.lock().unwrap().push(command.clone());
                            let answer = match (&*command, &*argument) {
                                ("EVAL", "refuse") => "-WRONGTYPE Operation against a key\r\n",
                                ("EVAL", "split") => "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
                                ("EVAL", "moved") => "-READONLY You can't write against a read only replica.\r\n",
                                ("EVAL", _) => ":1\r\n",
                                ("WAIT", _) => {
                                    seen.is_open.subscribe().wait_for(|is_open| *is_open).await.unwrap();
                                    ":1\r\n"
                                }
                                _ => "+OK\r\n",
                            };
                            text = rest;
                            peer.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        (Connection::to_node(Server::At(client), Duration::from_secs(10), watch::Sender::new(0)), seen)
    }

    /// Its name, its first argument, and what comes after it. `None` if it isn't there as a whole.
    fn first_command(text: &str) -> Option<(String, String, String)> {
        let (count, mut rest) = text.strip_prefix('*')?.split_once("\r\n")?;
        let mut words = Vec::new();
        for _ in 0..count.parse::<usize>().unwrap() {
            let (length, after) = rest.strip_prefix('$')?.split_once("\r\n")?;
            let length: usize = length.parse().unwrap();
            words.push(after.get(..length)?.to_owned());
            rest = after.get(length + 2..)?;
        }
        words.resize(words.len().max(2), String::new());
        let argument = words.swap_remove(1);
        Some((words.swap_remove(0), argument, rest.to_owned()))
    }

    fn eval(script: &str) -> Cmd {
        redis::cmd("EVAL").arg(script).arg(0).to_owned()
    }

    fn wait(replicas: u32) -> Cmd {
        redis::cmd("WAIT").arg(replicas).arg(100).to_owned()
    }

    /// Begins it, and finds that it isn't over.
    async fn begin(asking: impl Future + Unpin) {
        assert!(timeout(Duration::ZERO, asking).await.is_err());
    }

    #[tokio::test]
    async fn those_who_come_while_others_wait_are_sent_together() {
        let (connection, seen) = server().await;
        let (command, wait) = (eval("write"), wait(1));
        let mut first = Box::pin(connection.ask_in_group(&command, &wait, false));
        begin(&mut first).await;
        seen.until_waits(1).await;
        let mut others = Box::pin(join_all((0..100).map(|_| connection.ask_in_group(&command, &wait, false))));
        begin(&mut others).await;
        seen.is_open.send_replace(true);
        let (first, others) = tokio::join!(first, others);
        for answers in others.into_iter().chain([first]) {
            assert_eq!(answers.ok().unwrap().waited, Some(Value::Int(1)));
        }
        assert_eq!((seen.count("EVAL"), seen.count("WAIT")), (101, 2));
        assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn however_many_there_are_none_waits_longer_than_twice() {
        let (connection, seen) = server().await;
        let (command, wait) = (eval("write"), wait(1));
        let mut first = Box::pin(connection.ask_in_group(&command, &wait, false));
        begin(&mut first).await;
        seen.until_waits(1).await;
        let count = 3 * AT_ONCE + 1;
        let mut others = Box::pin(join_all((0..count).map(|_| connection.ask_in_group(&command, &wait, false))));
        begin(&mut others).await;
        seen.is_open.send_replace(true);
        let (first, others) = tokio::join!(first, others);
        assert!(first.is_ok() && others.iter().all(Result::is_ok));
        assert_eq!((seen.count("EVAL"), seen.count("WAIT")), (count + 1, 2));
    }

    #[tokio::test]
    async fn each_is_told_what_became_of_its_own() {
        let (connection, seen) = server().await;
        seen.is_open.send_replace(true);
        let wait = wait(1);
        let writes = [("write", false), ("refuse", false), ("write", true), ("refuse", true), ("write", false)];
        let asked = join_all(writes.map(|(script, is_asking)| {
            let (connection, wait) = (&connection, &wait);
            async move { connection.ask_in_group(&eval(script), wait, is_asking).await }
        }));
        for (asked, (script, _)) in asked.await.into_iter().zip(writes) {
            match asked {
                Ok(answers) => assert_eq!((answers.value, script), (Value::Int(1), "write")),
                Err(failure) => assert!(failure.is_about_the_key && script == "refuse"),
            }
        }
        assert_eq!((seen.count("ASKING"), seen.count("WAIT")), (2, 1));
        connection.ask_in_group(&eval("write"), &wait, false).await.ok().unwrap();
        assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "they were about their keys");

        let failure = connection.ask_in_group(&eval("split"), &wait, false).await.err().unwrap();
        assert!(failure.is_about_the_key && NoAnswers::from(failure).is_split);
        connection.ask_in_group(&eval("write"), &wait, false).await.ok().unwrap();
        assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "nor is a slot that is on its way");

        let failure = connection.ask_in_group(&eval("moved"), &wait, false).await.err().unwrap();
        assert!(!failure.was_new && !failure.is_about_the_key);
        connection.ask_in_group(&eval("write"), &wait, false).await.ok().unwrap();
        assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn who_waits_for_other_servers_waits_apart() {
        let (connection, seen) = server().await;
        seen.is_open.send_replace(true);
        let asked = join_all([1, 2, 1, 2].map(|replicas| {
            let connection = &connection;
            async move { connection.ask_in_group(&eval("write"), &wait(replicas), false).await }
        }));
        assert!(asked.await.iter().all(Result::is_ok));
        assert_eq!(seen.count("WAIT"), 2);
    }

    /// The first call sends for all. If it is dropped, the others have their answers all the same.
    #[tokio::test]
    async fn a_call_that_is_dropped_takes_no_other_with_it() {
        let (connection, seen) = server().await;
        let (command, wait) = (eval("write"), wait(1));
        let ask = || Box::pin(connection.ask_in_group(&command, &wait, false));
        let (mut first, mut others) = (ask(), [ask(), ask()]);
        begin(&mut first).await;
        seen.until_waits(1).await;
        for other in &mut others {
            begin(other).await;
        }
        drop(first);
        // It is never sent.
        let mut dropped = ask();
        begin(&mut dropped).await;
        drop(dropped);
        seen.is_open.send_replace(true);
        assert!(join_all(others).await.iter().all(Result::is_ok));
        assert_eq!((seen.count("EVAL"), seen.count("WAIT")), (3, 2));
    }

    /// The first call's runtime sends for all.
    #[test]
    fn who_waits_in_another_runtime_is_not_told_that_its_own_has_ended() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (servers, first, second) = (runtime(), runtime(), runtime());
        let (connection, _) = servers.block_on(server());
        let (command, wait) = (eval("write"), wait(1));
        first.block_on(async { begin(Box::pin(connection.ask_in_group(&command, &wait, false))).await });
        let mut other = Box::pin(connection.ask_in_group(&command, &wait, false));
        second.block_on(async { begin(&mut other).await });
        drop(first);
        let failure = second.block_on(other).err().unwrap();
        let Why::Ended(error) = failure.why else { panic!("it was not sent") };
        assert!(!error.to_string().contains("the runtime of this call has ended"), "{error}");
    }

    #[test]
    fn a_task_that_ended_with_its_runtime_is_replaced() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let servers = runtime();
        let (connection, _) = servers.block_on(server());
        for _ in 0..2 {
            // It ends while the call waits.
            runtime().block_on(async {
                let (command, wait) = (eval("write"), wait(1));
                begin(Box::pin(connection.ask_in_group(&command, &wait, false))).await;
            });
        }
        assert!(!connection.group.state().is_sending);
    }
}
