//! Boxed bodies. A box hides the type of a body, but not that it is empty, or that its first frame is all of it.

use std::{
    any::Any,
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, MapErr, UnsyncBoxBody},
};
use sync_wrapper::SyncWrapper;

use super::auto::same;

/// A copy of a boxed body that is empty or in memory.
pub(super) fn copy<B>(body: &mut B) -> Option<B>
where
    B: Body<Data: 'static, Error: Send + 'static> + 'static,
{
    if let Some(body) = (body as &mut dyn Any).downcast_mut::<BoxBody<B::Data, B::Error>>() {
        if body.is_end_stream() {
            return same(infallible::<_, B::Error>(Empty::<B::Data>::new()).boxed());
        }
        let body = (body as &mut dyn Any).downcast_mut::<BoxBody<Bytes, B::Error>>()?;
        copy_first_frame(body, |full| infallible(full).boxed(), |begun| begun.boxed()).and_then(same)
    } else if let Some(body) = (body as &mut dyn Any).downcast_mut::<UnsyncBoxBody<B::Data, B::Error>>() {
        if body.is_end_stream() {
            return same(infallible::<_, B::Error>(Empty::<B::Data>::new()).boxed_unsync());
        }
        let body = (body as &mut dyn Any).downcast_mut::<UnsyncBoxBody<Bytes, B::Error>>()?;
        copy_first_frame(body, |full| infallible(full).boxed_unsync(), |begun| begun.boxed_unsync()).and_then(same)
    } else {
        None
    }
}

/// Reads the first frame, if it is ready, and puts it back. Only for a body that tells its length: most streams don't, and their senders
/// may rely on nobody reading them before the connection is there.
fn copy_first_frame<B, E>(body: &mut B, full: fn(Full<Bytes>) -> B, box_up: fn(Begun<B, E>) -> B) -> Option<B>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
{
    let length = body.size_hint().exact()?;
    // The client polls it again with its own waker.
    let Poll::Ready(Some(first)) = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) else {
        return None;
    };
    let data = first.as_ref().ok().and_then(Frame::data_ref).filter(|data| data.len() as u64 == length).cloned();
    match data {
        // Nothing follows it, no trailers either.
        Some(data) if body.is_end_stream() => {
            *body = full(Full::new(data.clone()));
            Some(full(Full::new(data)))
        }
        _ => {
            let rest = mem::replace(body, full(Full::default()));
            *body = box_up(Begun { first: Some(SyncWrapper::new(first)), length, rest });
            None
        }
    }
}

fn infallible<B: Body<Error = Infallible>, E>(body: B) -> MapErr<B, fn(Infallible) -> E> {
    body.map_err(|never| match never {})
}

/// A body whose first frame was read.
struct Begun<B, E> {
    first: Option<SyncWrapper<Result<Frame<Bytes>, E>>>,
    /// The length of the whole body.
    length: u64,
    rest: B,
}

impl<B, E> Body for Begun<B, E>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first.into_inner())),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_some() { SizeHint::with_exact(self.length) } else { self.rest.size_hint() }
    }
}

// Nothing in it is pinned: a boxed body is on the heap.
impl<B: Unpin, E> Unpin for Begun<B, E> {}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io};

    use http::HeaderMap;

    use super::*;
    use crate::BoxError;

    /// A body of these frames, and the length that it tells.
    struct Scripted<E>(VecDeque<Poll<Result<Frame<Bytes>, E>>>, u64);

    impl<E: Unpin> Body for Scripted<E> {
        type Data = Bytes;
        type Error = E;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
            match self.0.pop_front() {
                Some(frame) => frame.map(Some),
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.1)
        }
    }

    /// All frames of a body, as texts.
    fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {}
                Poll::Ready(None) => return read,
                Poll::Ready(Some(Err(_))) => read.push("error".into()),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => read.push(String::from_utf8(data.to_vec()).unwrap()),
                    Err(_) => read.push("trailers".into()),
                },
            }
        }
    }

    #[test]
    fn what_is_empty_or_in_memory_is_copied_whatever_its_error() {
        fn is_copied<E: Send + 'static>() {
            let both = [Bytes::new(), Bytes::from("text")].map(|data| {
                let mut body: BoxBody<Bytes, E> = infallible(Full::new(data.clone())).boxed();
                assert_eq!(read(copy(&mut body).unwrap()).concat().as_bytes(), data);
                assert_eq!(body.size_hint().exact(), Some(data.len() as u64));
                assert_eq!(read(body).concat().as_bytes(), data);
                let mut body: UnsyncBoxBody<Bytes, E> = infallible(Full::new(data.clone())).boxed_unsync();
                assert_eq!(read(copy(&mut body).unwrap()).concat().as_bytes(), data);
                assert_eq!(read(body).concat().as_bytes(), data);
            });
            assert_eq!(both.len(), 2);
        }
        struct Unknown;
        is_copied::<Infallible>();
        is_copied::<io::Error>();
        is_copied::<BoxError>();
        is_copied::<Unknown>();
        let mut body: BoxBody<&[u8], Unknown> = infallible(Empty::new()).boxed();
        assert!(copy(&mut body).unwrap().is_end_stream());
    }

    #[test]
    fn what_is_more_than_its_first_frame_is_left_as_it_was() {
        let data = |text: &'static str| Poll::Ready(Ok(Frame::data(Bytes::from(text))));
        let trailers = || Poll::Ready(Ok(Frame::trailers(HeaderMap::new())));
        for (frames, length, expected) in [
            (vec![data("ab"), data("cd")], 4, &["ab", "cd"][..]),
            (vec![Poll::Pending, data("abcd")], 4, &["abcd"]),
            (vec![data("abcd"), trailers()], 4, &["abcd", "trailers"]),
            (vec![trailers()], 0, &["trailers"]),
            (vec![data("abcdef")], 4, &["abcdef"]),
            (vec![Poll::Ready(Err(io::Error::other("broken")))], 4, &["error"]),
            (vec![data("ab"), Poll::Ready(Err(io::Error::other("broken")))], 4, &["ab", "error"]),
            (vec![data(""), data("abcd")], 4, &["", "abcd"]),
        ] {
            let mut body = Scripted(frames.into(), length).boxed();
            assert!(copy(&mut body).is_none(), "{expected:?}");
            assert_eq!(body.size_hint().exact(), Some(length));
            assert!(!body.is_end_stream());
            assert_eq!(read(body), expected);
        }
    }
}
