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
            let error = StoreError::unreachable("Redis: the runtime of this call has ended");
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
        let mut commands = Pipeline::new();
        for write in &writes {
            if write.is_asking {
                commands.cmd("ASKING");
            }
            commands.add_command(write.command.clone());
        }
        commands.add_command(wait.clone());
        let mut values = match send(connection, &commands, self.limit()).await {
            Ok(values) => values.into_iter(),
            Err(why) => {
                self.end(number).await;
                return tell_all(writes, || Failure { why: why.clone(), was_new, is_about_the_key: false });
            }
        };
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
        let mut writes: Vec<_> = state.writes.extract_if(.., is_alike).collect();
        let later = writes.split_off(writes.len().min(AT_ONCE));
        state.writes.splice(..0, later);
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

/// Redis does nothing else while it runs one command, and others want to be served between.
const AT_ONCE: usize = 1_000;
