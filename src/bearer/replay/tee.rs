//! A body with two senders. A copy is made of what the first one reads, and the second one may take over at any time.

use std::{
    error, fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::BoxError;

/// The body of a request that [`Buffered`](super::Buffered) keeps: it returns the frames of the original body, and copies them until the
/// limit is reached or a response has come that isn't a 401. See the examples of [`Buffered`](super::Buffered).
///
/// Its length and its trailers are those of the original. When the request is sent again, the body of the first attempt fails: if it just
/// ended, a server could believe that it has the whole body.
pub struct Tee<B> {
    shared: Arc<Shared<B>>,
    sender: Sender,
}

/// Which attempt reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    First,
    Second,
}

/// What both senders share. Neither holds the lock for longer than one poll of the original takes.
pub(super) struct Shared<B>(Mutex<State<B>>);

struct State<B> {
    /// `None` only while the senders are being made.
    original: Option<Pin<Box<B>>>,
    phase: Phase,
    /// Copied, not shared: a few shared bytes could keep the large buffer in memory that they are a part of.
    copy: BytesMut,
    trailers: Option<HeaderMap>,
    limit: usize,
    /// The original has ended.
    ended: bool,
    /// The first sender had read everything when the second one took over.
    first_had_all: bool,
    /// Wakes the first sender when the phase changes.
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first sender reads, and a copy is made.
    Copied,
    /// The first sender waits: its attempt was refused, and the second one may take over.
    Held,
    /// The second sender reads. The first one gets an error.
    HandedOver,
    /// The first sender reads, and there will be no second one.
    Single,
}

impl<B> Tee<B> {
    /// The bodies of both attempts, still without the original, which [`begin`](Shared::begin) sets.
    pub(super) fn pair(limit: usize) -> (Self, Self, Arc<Shared<B>>) {
        let shared = Arc::new(Shared(Mutex::new(State {
            original: None,
            phase: Phase::Copied,
            copy: BytesMut::new(),
            trailers: None,
            limit,
            ended: false,
            first_had_all: false,
            waiting: None,
        })));
        let sender = |sender| Self { shared: shared.clone(), sender };
        (sender(Sender::First), sender(Sender::Second), shared.clone())
    }
}

impl<B> Shared<B> {
    pub(super) fn begin(&self, original: B) {
        self.lock().original = Some(Box::pin(original));
    }

    /// Stops the first sender until it is decided who goes on. `false` if the second one couldn't send the whole body.
    pub(super) fn hold(&self) -> bool {
        let mut state = self.lock();
        if state.phase == Phase::Copied {
            state.phase = Phase::Held;
        }
        state.phase == Phase::Held
    }

    /// The second sender takes over.
    pub(super) fn hand_over(&self) -> bool {
        let mut state = self.lock();
        let held = state.phase == Phase::Held;
        if held {
            state.phase = Phase::HandedOver;
            state.first_had_all = state.ended;
        }
        let waiting = state.waiting.take();
        drop(state);
        if let Some(first) = waiting {
            first.wake();
        }
        held
    }

    /// There will be no second sender.
    fn release(&self) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Copied | Phase::Held) {
            return;
        }
        state.go_single();
        let waiting = state.waiting.take();
        drop(state);
        if let Some(first) = waiting {
            first.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        // An original that panics isn't polled again: its panic ends the attempt.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> State<B> {
    fn go_single(&mut self) {
        self.phase = Phase::Single;
        self.copy = BytesMut::new();
        self.trailers = None;
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B> State<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Polled {
        match self.phase {
            Phase::Held => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Phase::HandedOver if self.first_had_all => Poll::Ready(None),
            Phase::HandedOver => Poll::Ready(Some(Err(Replaced.into()))),
            Phase::Copied => {
                let polled = self.poll_original(cx);
                match &polled {
                    // If the second sender takes over, the original wakes only that one.
                    Poll::Pending => self.waiting = Some(cx.waker().clone()),
                    Poll::Ready(Some(Ok(frame))) if !self.keep(frame) => self.go_single(),
                    Poll::Ready(Some(Err(_))) => self.go_single(),
                    Poll::Ready(_) => {}
                }
                polled
            }
            Phase::Single => self.poll_original(cx),
        }
    }

    fn poll_second(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.phase != Phase::HandedOver {
            return Poll::Ready(Some(Err(Replaced.into())));
        }
        if !self.copy.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.copy).freeze()))));
        }
        match self.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => self.poll_original(cx),
        }
    }

    fn poll_original(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(original) = self.original.as_mut().filter(|_| !self.ended) else { return Poll::Ready(None) };
        let frame = ready!(original.as_mut().poll_frame(cx));
        self.ended = !matches!(frame, Some(Ok(_))) || original.is_end_stream();
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    /// Copies a frame. `false` if there is no room for it.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            let fits = data.len() <= self.limit - self.copy.len();
            if fits {
                self.copy.extend_from_slice(data);
            }
            fits
        } else if let Some(trailers) = frame.trailers_ref() {
            let length: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            self.trailers = Some(trailers.clone());
            length <= self.limit - self.copy.len()
        } else {
            false
        }
    }

    fn is_at_end(&self) -> bool {
        self.ended || self.original.as_ref().is_some_and(|original| original.is_end_stream())
    }

    fn rest(&self) -> SizeHint {
        match &self.original {
            _ if self.ended => SizeHint::with_exact(0),
            Some(original) => original.size_hint(),
            None => SizeHint::default(),
        }
    }
}

impl<B> Body for Tee<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let mut state = self.shared.lock();
        match self.sender {
            Sender::First => state.poll_first(cx),
            Sender::Second => state.poll_second(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        match self.sender {
            Sender::First if state.phase == Phase::HandedOver => state.first_had_all,
            Sender::First => state.is_at_end(),
            Sender::Second => state.copy.is_empty() && state.trailers.is_none() && state.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.lock();
        let rest = state.rest();
        match self.sender {
            Sender::First if state.phase == Phase::HandedOver => SizeHint::default(),
            Sender::First => rest,
            Sender::Second => {
                let kept = state.copy.len() as u64;
                let mut whole = SizeHint::new();
                whole.set_lower(rest.lower().saturating_add(kept));
                if let Some(upper) = rest.upper() {
                    whole.set_upper(upper.saturating_add(kept));
                }
                whole
            }
        }
    }
}

impl<B> Drop for Tee<B> {
    fn drop(&mut self) {
        if self.sender == Sender::Second {
            self.shared.release();
        }
    }
}

impl<B> fmt::Debug for Tee<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// The error of the first sender after the second one took over.
#[derive(Debug)]
struct Replaced;

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request is sent again: this attempt ends here")
    }
}

impl error::Error for Replaced {}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicU64, Ordering},
        task::Wake,
    };

    use super::*;

    /// A body of these frames, which panics if it is polled after its end.
    #[derive(Default)]
    struct Scripted {
        frames: VecDeque<Option<Result<Frame<Bytes>, &'static str>>>,
        over: bool,
    }

    impl Body for Scripted {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            assert!(!self.over, "asked after its end");
            match self.frames.pop_front() {
                Some(Some(frame)) => Poll::Ready(Some(frame)),
                Some(None) => Poll::Pending,
                None => {
                    self.over = true;
                    Poll::Ready(None)
                }
            }
        }

        fn size_hint(&self) -> SizeHint {
            let data = |frame: &Option<Result<Frame<Bytes>, _>>| match frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
                _ => 0,
            };
            SizeHint::with_exact(self.frames.iter().map(data).sum())
        }
    }

    const PENDING: Option<Result<Frame<Bytes>, &'static str>> = None;

    fn data(text: &'static str) -> Option<Result<Frame<Bytes>, &'static str>> {
        Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
    }

    fn trailers() -> Option<Result<Frame<Bytes>, &'static str>> {
        Some(Ok(Frame::trailers([("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect())))
    }

    type Frames = Vec<Option<Result<Frame<Bytes>, &'static str>>>;

    fn tee(limit: usize, frames: Frames) -> (Tee<Scripted>, Tee<Scripted>, Arc<Shared<Scripted>>) {
        let (first, second, shared) = Tee::pair(limit);
        shared.begin(Scripted { frames: frames.into(), over: false });
        (first, second, shared)
    }

    /// What one poll returns, as a text: data as it is, `trailers`, `pending`, `end`, or the error in brackets.
    fn look(body: &mut Tee<Scripted>) -> String {
        look_with(body, Waker::noop())
    }

    fn look_with(body: &mut Tee<Scripted>, waker: &Waker) -> String {
        match Pin::new(body).poll_frame(&mut Context::from_waker(waker)) {
            Poll::Pending => "pending".into(),
            Poll::Ready(None) => "end".into(),
            Poll::Ready(Some(Err(error))) => format!("[{error}]"),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => String::from_utf8(data.into()).unwrap(),
                Err(_) => "trailers".into(),
            },
        }
    }

    fn all(body: &mut Tee<Scripted>) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last: &String| last != "end" && !last.starts_with('[')) {
            seen.push(look(body));
        }
        seen
    }

    fn replaced() -> String {
        "[the request is sent again: this attempt ends here]".to_owned()
    }

    #[test]
    fn the_second_gets_what_the_first_got_and_the_rest() {
        for read in 0..=4 {
            let (mut first, mut second, shared) = tee(100, vec![data("ab"), data("cd"), data("ef"), trailers()]);
            for _ in 0..read {
                look(&mut first);
            }
            assert!(shared.hold() && shared.hand_over());
            assert_eq!(second.size_hint().exact(), Some(6), "after {read}");
            assert!(!second.is_end_stream());
            let mut seen = all(&mut second);
            assert_eq!(seen.pop().as_deref(), Some("end"));
            assert_eq!(seen.pop().as_deref(), Some("trailers"));
            assert_eq!(seen.concat(), "abcdef", "after {read}");
            assert!(second.is_end_stream());
            assert_eq!(look(&mut first), replaced(), "after {read}");
            assert!(!first.is_end_stream() && first.size_hint().exact().is_none(), "after {read}");
        }
    }

    #[test]
    fn the_first_never_sees_an_end_that_is_none() {
        let (mut first, second, shared) = tee(100, vec![data("ab"), data("cd")]);
        look(&mut first);
        assert!(shared.hold() && shared.hand_over());
        drop(second);
        assert!(!first.is_end_stream());
        for _ in 0..3 {
            assert_eq!(look(&mut first), replaced());
        }
        assert_ne!(first.size_hint().exact(), Some(0));
        // Only a sender that has seen the end sees it again.
        let (mut first, _second, shared) = tee(100, vec![data("ab")]);
        assert_eq!(all(&mut first), ["ab", "end"]);
        assert!(first.is_end_stream());
        assert!(shared.hold() && shared.hand_over());
        assert!(first.is_end_stream());
        assert_eq!(look(&mut first), "end");
    }

    #[test]
    fn up_to_the_limit_and_not_one_byte_more() {
        for (limit, kept) in [(0, false), (5, false), (6, true)] {
            let (mut first, mut second, shared) = tee(limit, vec![data("ab"), data("cd"), data("ef")]);
            assert_eq!(all(&mut first).concat(), "abcdefend", "the limit is nothing to the first");
            assert_eq!(shared.hold(), kept, "{limit}");
            assert_eq!(shared.hand_over(), kept);
            assert_eq!(all(&mut second).concat(), if kept { "abcdefend".to_owned() } else { replaced() });
            assert!(shared.lock().copy.is_empty(), "nothing is kept for nobody");
        }
        // A frame that doesn't fit ends the copy for good, even if a smaller one follows.
        let (mut first, _second, shared) = tee(4, vec![data("abcde"), data("f")]);
        all(&mut first);
        assert!(!shared.hold());
        // Trailers count too.
        for (limit, kept) in [(7, false), (8, true)] {
            let (mut first, _second, shared) = tee(limit, vec![data("ab"), trailers()]);
            all(&mut first);
            assert_eq!(shared.hold(), kept, "{limit}");
        }
        // Nothing was read, so nothing was copied: the limit doesn't matter.
        let (_first, mut second, shared) = tee(1, vec![data("abc")]);
        assert!(shared.hold() && shared.hand_over());
        assert_eq!(all(&mut second).concat(), "abcend");
    }

    #[test]
    fn who_is_refused_waits_and_goes_on_if_nobody_takes_over() {
        let (mut first, second, shared) = tee(100, vec![data("ab"), data("cd")]);
        look(&mut first);
        assert!(shared.hold());
        let woken = Arc::new(Count::default());
        assert_eq!(look_with(&mut first, &woken.clone().into()), "pending");
        drop(second);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(all(&mut first), ["cd", "end"]);
    }

    #[test]
    fn a_first_sender_that_waits_for_the_original_learns_that_it_is_replaced() {
        let (mut first, mut second, shared) = tee(100, vec![data("ab"), PENDING, data("cd")]);
        look(&mut first);
        let woken = Arc::new(Count::default());
        assert_eq!(look_with(&mut first, &woken.clone().into()), "pending");
        assert!(shared.hold() && shared.hand_over());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(look(&mut first), replaced());
        assert_eq!(all(&mut second), ["ab", "cd", "end"]);
    }

    #[test]
    fn what_failed_is_not_sent_again() {
        let (mut first, _second, shared) = tee(100, vec![data("ab"), Some(Err("broken")), data("cd")]);
        assert_eq!(all(&mut first), ["ab", "[broken]"]);
        assert_eq!(first.size_hint().exact(), Some(0), "nothing more comes of it");
        assert!(!shared.hold() && !shared.hand_over());
        // If it fails later, it fails for the second sender.
        let (mut first, mut second, shared) = tee(100, vec![data("ab"), Some(Err("broken"))]);
        look(&mut first);
        assert!(shared.hold() && shared.hand_over());
        assert_eq!(all(&mut second), ["ab", "[broken]"]);
    }

    #[test]
    fn once_nobody_wants_it_again_nothing_more_is_kept() {
        let (mut first, second, shared) = tee(100, vec![data("ab"), data("cd")]);
        look(&mut first);
        assert_eq!(shared.lock().copy.len(), 2);
        drop(second); // the response is there
        look(&mut first);
        assert_eq!(shared.lock().copy.capacity(), 0);
        assert_eq!(first.size_hint().exact(), Some(0));
    }

    #[test]
    fn the_second_can_be_sent_after_the_first_is_gone() {
        let (mut first, mut second, shared) = tee(100, vec![data("ab"), data("cd")]);
        look(&mut first);
        drop(first);
        assert!(shared.hold() && shared.hand_over());
        assert_eq!(all(&mut second).concat(), "abcdend");
    }

    #[test]
    fn it_goes_to_other_threads_if_the_original_does() {
        fn anywhere<T: Send + Sync + Unpin>() {}
        struct OnlySent(#[allow(dead_code)] std::cell::Cell<u8>, std::marker::PhantomPinned);
        anywhere::<Tee<OnlySent>>();
    }

    #[test]
    fn debug_shows_who_sends_and_nothing_of_what() {
        let (mut first, second, _) = tee(100, vec![data("marked")]);
        look(&mut first);
        assert_eq!(format!("{first:?} {second:?}"), "Tee { sender: First, .. } Tee { sender: Second, .. }");
    }

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}
