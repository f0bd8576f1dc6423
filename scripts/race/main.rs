//! What ThreadSanitizer must report, so that its silence elsewhere means something: two threads write what one of them should lock.
//! `race locked` does the same with a lock, and nothing may be reported.

use std::{
    cell::UnsafeCell,
    env, hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

#[derive(Default)]
struct Header {
    text: UnsafeCell<String>,
    lock: AtomicBool,
}

// SAFETY: there is none, which is what this program is for.
unsafe impl Sync for Header {}

impl Header {
    fn write(&self, text: &str, locked: bool) {
        while locked && self.lock.swap(true, Ordering::Acquire) {
            hint::spin_loop();
        }
        // SAFETY: none without the lock.
        let header = unsafe { &mut *self.text.get() };
        // Never longer than it is from the beginning: what is reported is a race, and not what comes of it.
        header.clear();
        header.push_str(text);
        self.lock.store(false, Ordering::Release);
    }
}

fn main() {
    let locked = env::args().nth(1).as_deref() == Some("locked");
    let header = Arc::new(Header { text: String::with_capacity(100).into(), ..Header::default() });
    let threads = ["Bearer t1", "Bearer t2"].map(|text| {
        let header = header.clone();
        thread::spawn(move || (0..10_000).for_each(|_| header.write(text, locked)))
    });
    threads.into_iter().for_each(|thread| thread.join().expect("nothing panics"));
}
