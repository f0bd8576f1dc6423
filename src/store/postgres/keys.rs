//! The keys that the stores of a process use: what was heard of each, and whether somebody waits for news of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::store::heard::Heard;

/// The keys of a store, or of a family.
pub(super) struct Keys {
    state: Mutex<State>,
    /// Changes when a key wants to be polled, when somebody begins or ends to wait, and at the end.
    woken: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    keys: HashMap<Arc<str>, Key>,
    /// How many calls wait for news.
    waiting: usize,
    /// The number of the task that listens, if there is one; and of the last one.
    task: Option<u64>,
    tasks: u64,
    /// No store is left.
    is_over: bool,
}

impl State {
    fn begins(&mut self) -> Option<u64> {
        self.task.is_none().then(|| {
            self.tasks += 1;
            self.task = Some(self.tasks);
            self.tasks
        })
    }
}

struct Key {
    heard: watch::Sender<Heard>,
    stores: usize,
    waiting: usize,
    /// Notifications may have been missed, so it must be polled when somebody waits for it.
    is_stale: bool,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), woken: watch::Sender::new(()) }
    }

    /// What is heard of this key from now on.
    pub(super) fn subscribe(self: &Arc<Self>, key: &str) -> Subscription {
        let key: Arc<str> = key.into();
        let new = || Key { heard: watch::Sender::default(), stores: 0, waiting: 0, is_stale: true };
        let mut state = self.state();
        let entry = state.keys.entry(key.clone()).or_insert_with(new);
        entry.stores += 1;
        Subscription { heard: entry.heard.subscribe(), key, keys: self.clone() }
    }

    /// A notification has come.
    pub(super) fn announced(&self, key: &str, version: u64) {
        if let Some(key) = self.state().keys.get(key) {
            key.heard.send_modify(|heard| heard.announced(Some(version)));
        }
    }

    /// A poll found this version.
    pub(super) fn polled(&self, key: &str, version: u64) {
        if let Some(key) = self.state().keys.get(key) {
            key.heard.send_modify(|heard| heard.polled(version));
        }
    }

    /// Notifications of all keys may have been missed.
    pub(super) fn all_are_stale(&self) {
        self.state().keys.values_mut().for_each(|key| key.is_stale = true);
        self.woken.send_replace(());
    }

    /// The keys to poll: those that somebody waits for, all of them or only the stale ones. They are stale no more: what is missed from now
    /// on makes them so again.
    pub(super) fn take(&self, all: bool) -> Vec<String> {
        let mut taken = Vec::new();
        for (name, key) in &mut self.state().keys {
            if key.waiting > 0 && (all || key.is_stale) {
                key.is_stale = false;
                taken.push(name.to_string());
            }
        }
        taken
    }

    /// The poll of these failed.
    pub(super) fn give_back(&self, keys: &[String]) {
        let mut state = self.state();
        for key in keys {
            if let Some(key) = state.keys.get_mut(key.as_str()) {
                key.is_stale = true;
            }
        }
    }

    /// Changes with everything that the task must look at.
    pub(super) fn woken(&self) -> watch::Receiver<()> {
        self.woken.subscribe()
    }

    /// No store is left.
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.woken.send_replace(());
    }

    /// Resolves when the task with this number has nothing to do any more. Another one may begin from then on.
    pub(super) async fn nobody_waits(&self, task: u64) {
        let mut woken = self.woken();
        loop {
            let (is_over, waiting) = {
                let state = self.state();
                (state.is_over, state.waiting)
            };
            if is_over {
                return;
            } else if waiting > 0 {
                let _ = woken.changed().await;
            } else if timeout(LINGER, woken.changed()).await.is_err() && self.ends_if_nobody_waits(task) {
                return;
            }
        }
    }

    fn ends_if_nobody_waits(&self, task: u64) -> bool {
        let mut state = self.state();
        let ends = state.waiting == 0;
        if ends && state.task == Some(task) {
            state.task = None;
        }
        ends
    }

    #[cfg(test)]
    pub(super) fn task(&self) -> Option<u64> {
        self.state().task
    }

    /// The task with this number has ended. If it left somebody waiting, because its runtime ended or it panicked, they must look for another.
    pub(super) fn task_ended(&self, task: u64) {
        let mut state = self.state();
        if state.task == Some(task) {
            state.task = None;
            state.keys.values().for_each(|key| key.heard.send_modify(|_| {}));
        }
    }

    /// A poisoned lock is used on: nothing under it is left half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One store's part in [`Keys`].
pub(super) struct Subscription {
    key: Arc<str>,
    keys: Arc<Keys>,
    pub(super) heard: watch::Receiver<Heard>,
}

impl Subscription {
    /// Waits until this is dropped. If a task must begin to listen for it, that task's number.
    pub(super) fn wait(&self) -> (Waits<'_>, Option<u64>) {
        let mut state = self.keys.state();
        let Some(key) = state.keys.get_mut(&self.key) else { return (Waits(self), None) };
        key.waiting += 1;
        let wakes = key.is_stale || state.waiting == 0;
        state.waiting += 1;
        let begins = state.begins();
        drop(state);
        if wakes {
            self.keys.woken.send_replace(());
        }
        (Waits(self), begins)
    }
}

impl Waits<'_> {
    /// If the task has ended meanwhile: the number of the one that must begin.
    pub(super) fn begins_again(&self) -> Option<u64> {
        self.0.keys.state().begins()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.keys.state();
        let Some(key) = state.keys.get_mut(&self.key) else { return };
        key.stores -= 1;
        if key.stores == 0 {
            state.keys.remove(&self.key);
        }
    }
}

/// Somebody waits for news of a key.
pub(super) struct Waits<'a>(&'a Subscription);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Subscription { key, keys, .. } = self.0;
        let mut state = keys.state();
        if let Some(key) = state.keys.get_mut(key) {
            key.waiting -= 1;
        }
        state.waiting -= 1;
        let nobody = state.waiting == 0;
        drop(state);
        if nobody {
            keys.woken.send_replace(());
        }
    }
}

/// How long the connection stays open for the next one who waits: a live token stops waiting for a moment with each fetch.
const LINGER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_somebody_waits_for_are_polled() {
        let keys = Arc::new(Keys::new());
        let (idle, busy) = (keys.subscribe("idle"), keys.subscribe("busy"));
        assert!(keys.take(true).is_empty());
        let (waits, begins) = busy.wait();
        assert_eq!(begins, Some(1));
        assert_eq!(keys.take(false), ["busy"]);
        assert!(keys.take(false).is_empty(), "it was polled");
        assert_eq!(keys.take(true), ["busy"]);
        keys.all_are_stale();
        assert_eq!(keys.take(false), ["busy"]);
        keys.give_back(&["busy".into()]);
        assert_eq!(keys.take(false), ["busy"]);
        drop(waits);
        assert!(keys.take(true).is_empty());
        let (_waits, begins) = idle.wait();
        assert_eq!(begins, None, "the task is there");
        assert_eq!(keys.take(false), ["idle"], "it was never polled");
    }

    #[test]
    fn a_key_is_forgotten_with_its_last_store() {
        let keys = Arc::new(Keys::new());
        let (one, other) = (keys.subscribe("key"), keys.subscribe("key"));
        drop(one);
        keys.announced("key", 3);
        assert_eq!(other.heard.borrow().number, 1);
        drop(other);
        assert!(keys.state().keys.is_empty());
        keys.announced("key", 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_a_minute_after_the_last_one_who_waited() {
        let keys = Arc::new(Keys::new());
        let one = keys.subscribe("key");
        let (waits, begins) = one.wait();
        let task = begins.unwrap();
        timeout(10 * LINGER, keys.nobody_waits(task)).await.expect_err("somebody waits");
        drop(waits);
        timeout(LINGER / 2, keys.nobody_waits(task)).await.expect_err("too soon");
        timeout(2 * LINGER, keys.nobody_waits(task)).await.expect("nobody waits");
        let (_waits, begins) = one.wait();
        assert_eq!(begins, Some(task + 1), "another one begins");
        keys.task_ended(task);
        assert_eq!(one.wait().1, None, "the end of the first one says nothing of the second");
        keys.end();
        timeout(LINGER, keys.nobody_waits(task + 1)).await.expect("no store is left");
    }
}
