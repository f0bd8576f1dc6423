//! The channels that the stores of a family listen to.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::{servers::Servers, subscription};
use crate::store::heard::Heard;

/// All channels of a family, for one task that listens to them. Without a channel there is no task.
///
/// A channel is there from the first [`changed`](crate::store::TokenStore::changed) of a store to the end of its last store, or until nobody
/// has waited there for a while.
pub(super) struct Hub {
    state: Mutex<State>,
    /// Channels were made or left.
    pub(super) touched: Notify,
    /// The last channel was left.
    deserted: Notify,
    ping_every: Duration,
}

#[derive(Default)]
struct State {
    channels: HashMap<Arc<str>, Channel>,
    touched: Vec<Arc<str>>,
    /// The number of the task that listens.
    listener: Option<u64>,
    /// Counts the tasks.
    listeners: u64,
    /// The highest number of an event in any channel that was removed. A channel that is made again counts on from it, so that a store doesn't
    /// take new events for known ones.
    floor: u64,
}

struct Channel {
    heard: Arc<watch::Sender<Heard>>,
    stores: usize,
    /// Nobody was waiting when it was looked at last.
    was_idle: bool,
}

/// A store's part in a channel. The last one takes the channel with it.
pub(super) struct Seat {
    hub: Arc<Hub>,
    channel: Arc<str>,
    heard: Arc<watch::Sender<Heard>>,
}

impl Hub {
    pub(super) fn new(ping_every: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), touched: Notify::new(), deserted: Notify::new(), ping_every })
    }

    pub(super) fn ping_every(&self) -> Duration {
        self.ping_every
    }

    /// Waits in a channel from now on. `seat` is the store's part in it, if it has one. Starts the task if there is none.
    pub(super) fn listen(
        self: &Arc<Self>,
        servers: &Arc<Servers>,
        seat: &mut Option<Seat>,
        channel: &str,
    ) -> watch::Receiver<Heard> {
        let receiver = self.wait_in(seat, channel);
        self.start(servers, Duration::ZERO);
        receiver
    }

    /// Called when something was heard: if the task has ended, with its runtime or by a panic, those who wait in another runtime start the
    /// next one. It begins late, because it may end in the same way.
    pub(super) fn go_on(self: &Arc<Self>, servers: &Arc<Servers>) {
        self.start(servers, AFTER_ITS_END);
    }

    /// Starts the task if there is none.
    fn start(self: &Arc<Self>, servers: &Arc<Servers>, after: Duration) {
        let mut state = self.state();
        if state.listener.is_some() {
            return;
        }
        state.listeners += 1;
        state.listener = Some(state.listeners);
        let listener = Listener { hub: self.clone(), number: state.listeners };
        // A runtime that ends drops the task at once, and that takes the lock.
        drop(state);
        tokio::spawn(listener.listen(servers.clone(), after));
    }

    fn wait_in(self: &Arc<Self>, seat: &mut Option<Seat>, channel: &str) -> watch::Receiver<Heard> {
        // Dropped after the lock, which it takes as well.
        let _left;
        let mut state = self.state();
        if let Some(seat) = seat.as_ref().filter(|seat| state.has(seat)) {
            return seat.heard.subscribe();
        }
        let known = state.channels.get_key_value(channel).map(|(name, _)| name.clone());
        let (name, floor): (Arc<str>, _) = (known.unwrap_or_else(|| channel.into()), state.floor);
        let entered = state.channels.entry(name.clone()).or_insert_with(|| Channel::after(floor));
        entered.stores += 1;
        let (heard, is_new) = (entered.heard.clone(), entered.stores == 1);
        if is_new {
            state.touched.push(name.clone());
            self.touched.notify_one();
        }
        let receiver = heard.subscribe();
        _left = seat.replace(Seat { hub: self.clone(), channel: name, heard });
        receiver
    }

    fn leave(&self, seat: &Seat) {
        let mut state = self.state();
        if !state.has(seat) {
            return;
        }
        if let Some(channel) = state.channels.get_mut(&seat.channel) {
            channel.stores -= 1;
            if channel.stores == 0 {
                state.remove(&seat.channel);
                self.note_removal(&state);
            }
        }
    }

    /// Removes channels in which nobody has waited since the last time.
    fn sweep(&self) {
        let mut state = self.state();
        let mut idle = Vec::new();
        for (name, channel) in &mut state.channels {
            let is_idle = channel.heard.receiver_count() == 0;
            if is_idle && channel.was_idle {
                idle.push(name.clone());
            }
            channel.was_idle = is_idle;
        }
        if !idle.is_empty() {
            idle.iter().for_each(|name| state.remove(name));
            self.note_removal(&state);
        }
    }

    fn note_removal(&self, state: &State) {
        self.touched.notify_one();
        if state.channels.is_empty() {
            self.deserted.notify_one();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<str>> {
        let mut state = self.state();
        state.touched.clear();
        state.channels.keys().cloned().collect()
    }

    /// What has changed since the last time: channels to enter, and channels to leave. `entered` is what was entered so far.
    pub(super) fn changes(&self, entered: &mut HashSet<Arc<str>>) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut state = self.state();
        let mut touched: HashSet<_> = std::mem::take(&mut state.touched).into_iter().collect();
        let (mut enter, mut leave) = (Vec::new(), Vec::new());
        for name in touched.drain() {
            match (state.channels.get(&name), entered.contains(&name)) {
                (Some(_), false) => {
                    entered.insert(name.clone());
                    enter.push(name);
                }
                // It was left and made anew meanwhile.
                (Some(channel), true) => channel.heard.send_modify(Heard::subscribed),
                (None, true) => {
                    entered.remove(&name);
                    leave.push(name);
                }
                (None, false) => {}
            }
        }
        (enter, leave)
    }

    /// What happened in one channel, if there is somebody to hear it.
    pub(super) fn tell(&self, channel: &str, what: impl FnOnce(&mut Heard)) {
        if let Some(channel) = self.state().channels.get(channel) {
            channel.heard.send_modify(what);
        }
    }

    /// The same in these channels.
    pub(super) fn tell_all<'a>(&self, channels: impl IntoIterator<Item = &'a Arc<str>>, what: impl Fn(&mut Heard)) {
        let state = self.state();
        for channel in channels {
            if let Some(channel) = state.channels.get(channel) {
                channel.heard.send_modify(&what);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn without_task(&self) {
        self.state().listener = Some(0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the channel of this seat is still the one with its name.
    fn has(&self, seat: &Seat) -> bool {
        self.channels.get(&seat.channel).is_some_and(|channel| Arc::ptr_eq(&channel.heard, &seat.heard))
    }

    fn remove(&mut self, name: &Arc<str>) {
        if let Some(channel) = self.channels.remove(name) {
            self.floor = self.floor.max(channel.heard.borrow().number);
            self.touched.push(name.clone());
        }
    }
}

impl Channel {
    fn after(floor: u64) -> Self {
        Self { heard: Arc::new(watch::Sender::new(Heard::after(floor))), stores: 0, was_idle: false }
    }
}

impl Seat {
    /// What was heard so far.
    pub(super) fn heard(&self) -> Heard {
        *self.heard.borrow()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let hub = self.hub.clone();
        hub.leave(self);
    }
}

/// The task that listens, as long as there are channels.
struct Listener {
    hub: Arc<Hub>,
    number: u64,
}

impl Listener {
    async fn listen(self, servers: Arc<Servers>, after: Duration) {
        let sweeps = async {
            loop {
                sleep(self.hub.ping_every).await;
                self.hub.sweep();
            }
        };
        tokio::select! {
            () = self.is_over() => {}
            () = sweeps => {}
            never = async { sleep(after).await; subscription::for_ever(&self.hub, &servers).await } => match never {},
        }
    }

    /// Resolves when there is no channel any more. From then on this is not the task that listens.
    async fn is_over(&self) {
        loop {
            self.hub.deserted.notified().await;
            let mut state = self.hub.state();
            if state.channels.is_empty() {
                state.listener = None;
                return;
            }
        }
    }
}

impl Drop for Listener {
    /// Also when its runtime ends, or a bug makes it panic: the next store that listens starts another one, and so do those who wait.
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if state.listener == Some(self.number) {
            state.listener = None;
            state.channels.values().for_each(|channel| channel.heard.send_modify(|_| {}));
        }
    }
}

const AFTER_ITS_END: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use redis::Client;

    use tokio::time::timeout;

    use super::{super::servers::Place, *};
    use crate::store::{RedisStore, TokenStore, heard::Change};

    const EVERY: Duration = Duration::from_secs(30);

    /// Nobody is at that port.
    fn servers() -> Arc<Servers> {
        let client = Client::open("redis://127.0.0.1:1").unwrap();
        Arc::new(Servers::new(Place::server(client), Duration::from_secs(1)))
    }

    fn names(channels: &[Arc<str>]) -> Vec<&str> {
        let mut names: Vec<_> = channels.iter().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_channel_is_entered_by_its_first_store_and_left_by_its_last() {
        let (hub, servers, mut entered) = (Hub::new(EVERY), servers(), HashSet::new());
        hub.without_task();
        let (mut one, mut other, mut third) = (None, None, None);
        hub.listen(&servers, &mut one, "a");
        let (enter, leave) = hub.changes(&mut entered);
        assert_eq!((names(&enter), names(&leave)), (vec!["a"], vec![]));
        hub.listen(&servers, &mut one, "a");
        hub.listen(&servers, &mut other, "a");
        hub.listen(&servers, &mut third, "b");
        let (enter, leave) = hub.changes(&mut entered);
        assert_eq!((names(&enter), names(&leave)), (vec!["b"], vec![]));
        drop(one);
        assert_eq!(hub.changes(&mut entered), (vec![], vec![]), "another store listens there");
        drop(other);
        let (enter, leave) = hub.changes(&mut entered);
        assert_eq!((names(&enter), names(&leave)), (vec![], vec!["a"]));
        assert_eq!(names(&hub.all()), ["b"]);
    }

    #[test]
    fn where_nobody_has_waited_for_a_while_is_left() {
        let (hub, servers, mut entered) = (Hub::new(EVERY), servers(), HashSet::new());
        hub.without_task();
        let (mut idle, mut busy) = (None, None);
        drop(hub.listen(&servers, &mut idle, "idle"));
        let waiting = hub.listen(&servers, &mut busy, "busy");
        hub.changes(&mut entered);
        hub.sweep();
        assert_eq!(names(&hub.all()), ["busy", "idle"], "somebody may have been between two calls");
        drop(hub.listen(&servers, &mut idle, "idle"));
        hub.sweep();
        assert_eq!(names(&hub.changes(&mut entered).1), ["idle"]);
        assert_eq!(names(&hub.all()), ["busy"]);
        drop(waiting);

        // The store is still there, and listens again.
        let heard = hub.listen(&servers, &mut idle, "idle");
        assert_eq!(names(&hub.changes(&mut entered).0), ["idle"]);
        assert!(heard.borrow().is_silent());
        drop(idle);
        assert_eq!(names(&hub.changes(&mut entered).1), ["idle"], "and takes the channel with it");
    }

    /// The numbers of events go on, or a store would take new ones for those that it knows.
    #[test]
    fn what_happens_in_a_channel_that_was_left_and_made_anew_is_news() {
        let (hub, servers) = (Hub::new(EVERY), servers());
        hub.without_task();
        let mut seat = None;
        drop(hub.listen(&servers, &mut seat, "a"));
        for _ in 0..7 {
            hub.tell("a", Heard::subscribed);
        }
        let known_events = seat.as_ref().unwrap().heard().number;
        hub.sweep();
        hub.sweep();
        assert!(hub.all().is_empty());
        let heard = hub.listen(&servers, &mut seat, "a");
        assert_eq!(heard.borrow().change_for(known_events, 1), Change::None);
        hub.tell("a", Heard::subscribed);
        assert_eq!(heard.borrow().change_for(known_events, 1), Change::Other);
    }

    #[test]
    fn who_comes_to_a_channel_that_was_just_left_is_told_although_it_is_subscribed() {
        let (hub, servers, mut entered) = (Hub::new(EVERY), servers(), HashSet::new());
        hub.without_task();
        let (mut one, mut other) = (None, None);
        hub.listen(&servers, &mut one, "a");
        hub.changes(&mut entered);
        drop(one);
        let heard = hub.listen(&servers, &mut other, "a");
        assert_eq!(hub.changes(&mut entered), (vec![], vec![]));
        assert!(!heard.borrow().is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_the_last_store_and_begins_with_the_next() {
        let (hub, servers) = (Hub::new(EVERY), servers());
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks(), 0);
        for _ in 0..3 {
            let (mut one, mut other) = (None, None);
            drop(hub.listen(&servers, &mut one, "a"));
            drop(hub.listen(&servers, &mut other, "b"));
            sleep(Duration::from_secs(1)).await;
            assert_eq!(tasks(), 1, "one for all");
            drop(one);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(tasks(), 1);
            drop(other);
            sleep(Duration::from_secs(1)).await;
            assert_eq!(tasks(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_when_nobody_waits() {
        let (hub, servers) = (Hub::new(EVERY), servers());
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let mut seat = None;
        let waiting = hub.listen(&servers, &mut seat, "a");
        sleep(10 * EVERY).await;
        assert_eq!(tasks(), 1);
        drop(waiting);
        sleep(3 * EVERY).await;
        assert_eq!(tasks(), 0);
        drop(hub.listen(&servers, &mut seat, "a"));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(tasks(), 1);
    }

    #[test]
    fn a_task_that_ended_with_its_runtime_is_replaced_by_those_who_wait_in_another() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second) = (runtime(), runtime());
        // It says nothing, so there is no news.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::open(format!("redis://{}", silent.local_addr().unwrap())).unwrap();
        let family = RedisStore::family(client, "users");
        let (one, other) = (family.of("one"), family.of("other"));
        let mut waits = std::pin::pin!(other.changed(0));
        let mut waits_for = |time| {
            second.block_on(async {
                timeout(time, waits.as_mut()).await.expect_err("nothing was heard");
                tokio::runtime::Handle::current().metrics().num_alive_tasks()
            })
        };
        let moment = Duration::from_millis(20);
        first.block_on(async { timeout(moment, one.changed(0)).await.unwrap_err() });
        assert_eq!(waits_for(moment), 0, "the task is in the first one");
        drop(first);
        assert_eq!(waits_for(moment), 1, "nobody listens for those who wait");
    }

    #[test]
    fn a_task_that_never_ran_is_replaced_as_well() {
        let (hub, servers, mut seat) = (Hub::new(EVERY), servers(), None);
        // The runtime is ending: it drops the task at once.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        {
            let _within = handle.enter();
            hub.listen(&servers, &mut seat, "a");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            drop(hub.listen(&servers, &mut seat, "a"));
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
        });
    }

    /// A family may outlive a runtime, as in tests.
    #[test]
    fn a_task_that_ended_with_its_runtime_is_replaced() {
        let (hub, servers, mut seat) = (Hub::new(EVERY), servers(), None);
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                drop(hub.listen(&servers, &mut seat, "a"));
                assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
            });
        }
    }
}
