use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use buttress_core::BoxError;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// A body that can be sent again: keeps what was read of it, up to a limit, for as long as another attempt may
/// want it.
///
/// [`ReplayBodyLayer`](crate::ReplayBodyLayer) makes it, [`HttpReplay`](crate::HttpReplay) saves it. Until it is saved
/// it is the body inside and nothing else: what is sent once is neither kept nor copied. Saved, it is read by one
/// attempt at a time, and each gets all of it from the beginning, in order, trailers included. Where the body turns
/// out larger than the limit, or breaks, the attempt under way goes on without being followed by another.
///
/// # Cancellation
/// An attempt that was given up may still hold its body (a connection that has not noticed yet). Once the next attempt
/// is certain, it reads no further, and when that attempt reads, it fails.
///
/// A body inside that panics counts as broken. It is read under a lock by which copies are saved and dropped: it must
/// not do that itself, nor wait for it.
pub struct ReplayBody<B> {
    // Locked only to save it, which has a shared reference; whoever reads it has it alone.
    inner: Mutex<Inner<B>>,
    max_bytes: usize,
}

enum Inner<B> {
    /// Nobody has saved it.
    Own {
        body: B,
        begun: bool,
    },
    /// Saved, and has nothing in it.
    Empty,
    Shared(Reader<B>),
}

/// What one attempt has of a body that was saved.
struct Reader<B> {
    shared: Arc<Mutex<Shared<B>>>,
    /// Of two copies, the later one has the greater.
    number: u32,
    /// Whether it has been read from.
    begun: bool,
    /// How much of the buffer it has given out.
    at: usize,
    gave_trailers: bool,
}

struct Shared<B> {
    body: B,
    max_bytes: usize,
    /// What was read of `body` while copies were waiting to be read.
    buffer: Buffer,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Why no further copy can be read from its beginning.
    lost: Option<Lost>,
    /// The number of the last copy.
    last: u32,
    /// How many saved copies have not been read from.
    waiting: u32,
    /// The copy that reads. Earlier ones never read again: what they would need may be gone.
    current: u32,
    /// The copy that is about to: until it does, or is dropped, nobody else reads.
    promised: Option<u32>,
    /// Who was told to wait, by number: for the body, or because somebody else is promised it. The body wakes
    /// only the last one that asked.
    parked: Vec<(u32, Waker)>,
}

/// Bytes in blocks: what is there is not moved when more come, so no more memory is used than bytes are kept, and a
/// block can be sent as it is.
#[derive(Default)]
struct Buffer {
    /// All of [`BLOCK`] bytes but the last one.
    blocks: Vec<Vec<u8>>,
    len: usize,
}

/// The size of a frame of HTTP/2, unless the peer wants larger ones.
const BLOCK: usize = 16 * 1024;

impl Buffer {
    fn push(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (at, room) = (self.len / BLOCK, BLOCK - self.len % BLOCK);
            if at == self.blocks.len() {
                self.blocks.push(Vec::new());
            }
            let (part, rest) = data.split_at(room.min(data.len()));
            let block = &mut self.blocks[at];
            if block.capacity() - block.len() < part.len() {
                // As a `Vec` grows, but not beyond a block.
                let capacity = (2 * block.capacity()).max(block.len() + part.len()).min(BLOCK);
                block.reserve_exact(capacity - block.len());
            }
            block.extend_from_slice(part);
            self.len += part.len();
            data = rest;
        }
    }

    /// What is there from this byte on, up to the end of its block.
    fn after(&self, at: usize) -> Bytes {
        Bytes::copy_from_slice(&self.blocks[at / BLOCK][at % BLOCK..])
    }

    /// The same, and then it is there no more.
    fn take_after(&mut self, at: usize) -> Bytes {
        Bytes::from(mem::take(&mut self.blocks[at / BLOCK])).split_off(at % BLOCK)
    }
}

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    TooLarge,
    Broken,
    Superseded,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is too large to be sent again",
            Self::Broken => "the body broke off before",
            Self::Superseded => "a later attempt sends this body",
        })
    }
}

impl std::error::Error for Lost {}

impl<B> ReplayBody<B> {
    /// Makes a body of which up to `max_bytes` are kept.
    pub fn new(body: B, max_bytes: usize) -> Self {
        Self { inner: Mutex::new(Inner::Own { body, begun: false }), max_bytes }
    }

    fn locked(&self) -> MutexGuard<'_, Inner<B>> {
        locked(&self.inner)
    }
}

impl<B: Body> ReplayBody<B> {
    /// Another copy, to be sent later; `None` for a body that is known to be larger than the limit, that was read
    /// from before, or that was lost.
    pub fn save(&self) -> Option<Self> {
        let mut inner = self.locked();
        let saved = match &mut *inner {
            Inner::Empty => Inner::Empty,
            Inner::Own { begun: true, .. } => return None,
            Inner::Own { body, .. } if body.is_end_stream() => Inner::Empty,
            Inner::Own { body, .. } if body.size_hint().lower() > self.max_bytes as u64 => return None,
            Inner::Own { .. } => {
                let Inner::Own { body, .. } = mem::replace(&mut *inner, Inner::Empty) else { return None };
                let (first, saved) = Reader::two(Shared::new(body, self.max_bytes));
                *inner = Inner::Shared(first);
                Inner::Shared(saved)
            }
            Inner::Shared(copy) => Inner::Shared(copy.save()?),
        };
        drop(inner);
        Some(Self { inner: Mutex::new(saved), max_bytes: self.max_bytes })
    }

    /// Whether this copy, which was saved before an attempt, can be sent now that the attempt has failed. If so the
    /// failed attempt reads nothing more, until this copy is dropped.
    pub fn can_resend(&self) -> bool {
        match &*self.locked() {
            Inner::Own { begun, .. } => !begun,
            Inner::Empty => true,
            Inner::Shared(copy) => copy.promise(),
        }
    }
}

impl<B> Reader<B> {
    /// The copy for the attempt that follows, and the first one to be saved.
    fn two(mut shared: Shared<B>) -> (Self, Self) {
        (shared.last, shared.waiting) = (1, 1);
        let shared = Arc::new(Mutex::new(shared));
        (Self::new(shared.clone(), 0), Self::new(shared, 1))
    }

    fn new(shared: Arc<Mutex<Shared<B>>>, number: u32) -> Self {
        Self { shared, number, begun: false, at: 0, gave_trailers: false }
    }

    fn locked(&self) -> MutexGuard<'_, Shared<B>> {
        locked(&self.shared)
    }

    fn save(&self) -> Option<Self> {
        let mut shared = self.locked();
        if self.begun || self.lost(&shared).is_some() {
            return None;
        }
        shared.last += 1;
        shared.waiting += 1;
        Some(Self::new(self.shared.clone(), shared.last))
    }

    fn promise(&self) -> bool {
        let mut shared = self.locked();
        let can = !self.begun && self.lost(&shared).is_none();
        let mut own = None;
        if can {
            shared.promised = Some(self.number);
            own = shared.unpark(self.number);
        }
        drop(shared);
        own.into_iter().for_each(Waker::wake);
        can
    }

    /// Why it does not give out the whole body, if so. Whoever reads goes on beyond the limit.
    fn lost(&self, shared: &Shared<B>) -> Option<Lost> {
        if self.number < shared.current {
            return Some(Lost::Superseded);
        }
        shared.lost.filter(|lost| !self.begun || *lost == Lost::Broken)
    }

    /// Whether it is one of those in `Shared::waiting` until it is read from.
    fn is_saved(&self) -> bool {
        self.number > 0
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        let mut shared = locked(&self.shared);
        let own = shared.unpark(self.number);
        if self.is_saved() && !self.begun {
            shared.waiting -= 1;
        }
        let mut parked = Vec::new();
        if shared.promised == Some(self.number) {
            shared.promised = None;
            parked = mem::take(&mut shared.parked);
        }
        drop(shared);
        drop(own);
        wake(parked);
    }
}

// Wakers are called and dropped without the lock: the last one of a task may drop the task, and with it a copy.
fn wake(parked: Vec<(u32, Waker)>) {
    parked.into_iter().for_each(|(_, waker)| waker.wake());
}

impl<B> Reader<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut shared = locked(&self.shared);
        if self.number < shared.current {
            return Poll::Ready(Some(Err(Lost::Superseded.into())));
        }
        if shared.promised.is_some_and(|promised| promised != self.number) {
            let former = shared.park(self.number, cx.waker());
            drop(shared);
            drop(former);
            return Poll::Pending;
        }
        if !self.begun {
            if let Some(lost) = shared.lost {
                return Poll::Ready(Some(Err(lost.into())));
            }
            self.begun = true;
            if self.is_saved() {
                shared.waiting -= 1;
            }
            (shared.current, shared.promised) = (self.number, None);
            let superseded = mem::take(&mut shared.parked);
            if !superseded.is_empty() {
                drop(shared);
                wake(superseded);
                // Looks again: a later one may have begun meanwhile.
                return self.poll_frame(cx);
            }
        }
        let frame = shared.poll_frame(&mut self.at, &mut self.gave_trailers, cx);
        let former = if frame.is_pending() { shared.park(self.number, cx.waker()) } else { None };
        drop(shared);
        drop(former);
        frame
    }
}

impl<B> Shared<B> {
    fn new(body: B, max_bytes: usize) -> Self {
        Self {
            body,
            max_bytes,
            buffer: Buffer::default(),
            trailers: None,
            ended: false,
            lost: None,
            last: 0,
            waiting: 0,
            current: 0,
            promised: None,
            parked: Vec::new(),
        }
    }

    /// Has this copy woken when it may go on, or never. What was to be woken for it before.
    fn park(&mut self, number: u32, waker: &Waker) -> Option<Waker> {
        match self.parked.iter_mut().find(|(parked, _)| *parked == number) {
            Some((_, known)) => (!known.will_wake(waker)).then(|| mem::replace(known, waker.clone())),
            None => {
                self.parked.push((number, waker.clone()));
                None
            }
        }
    }

    fn unpark(&mut self, number: u32) -> Option<Waker> {
        let at = self.parked.iter().position(|(parked, _)| *parked == number)?;
        Some(self.parked.swap_remove(at).1)
    }

    fn lose(&mut self, why: Lost) {
        self.lost = Some(why);
        self.buffer = Buffer::default();
        self.trailers = None;
    }

    /// Keeps what goes out for those that wait.
    fn keep(&mut self, data: &[u8]) {
        if data.len() > self.max_bytes.saturating_sub(self.buffer.len) {
            self.lose(Lost::TooLarge);
        } else {
            self.buffer.push(data);
        }
    }
}

impl<B> Shared<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// The next frame of the copy that reads, which has given out so much.
    fn poll_frame(
        &mut self,
        at: &mut usize,
        gave_trailers: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if *at < self.buffer.len {
            // With nobody waiting, nobody else will read it.
            let kept = if self.waiting == 0 { self.buffer.take_after(*at) } else { self.buffer.after(*at) };
            *at += kept.len();
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        if let Some(trailers) = self.trailers.as_ref().filter(|_| !*gave_trailers) {
            *gave_trailers = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(Lost::Broken) = self.lost {
            return Poll::Ready(Some(Err(Lost::Broken.into())));
        }
        // Stays if the body panics: a frame may be gone then, and nobody must go on without it.
        let lost = self.lost.replace(Lost::Broken);
        let polled = Pin::new(&mut self.body).poll_frame(cx).map_ok(|frame| frame.map_data(whole));
        self.lost = lost;
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.ended = true;
                self.lose(Lost::Broken);
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        let wanted = self.waiting > 0 && self.lost.is_none();
        if !wanted {
            self.buffer = Buffer::default();
        }
        if let Some(data) = frame.data_ref().filter(|_| wanted) {
            self.keep(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            *gave_trailers = true;
            self.trailers = wanted.then(|| trailers.clone());
        }
        *at = self.buffer.len;
        Poll::Ready(Some(Ok(frame)))
    }
}

fn whole(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let inner = self.get_mut().inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        match inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Own { body, begun } => {
                *begun = true;
                Pin::new(body).poll_frame(cx).map_ok(|frame| frame.map_data(whole)).map_err(Into::into)
            }
            Inner::Shared(copy) => copy.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &*self.locked() {
            Inner::Empty => true,
            Inner::Own { body, .. } => body.is_end_stream(),
            Inner::Shared(copy) => {
                let shared = copy.locked();
                let trailers = shared.trailers.is_some() && !copy.gave_trailers;
                let kept = copy.at < shared.buffer.len || trailers;
                // Of a copy that is lost nothing is left either, and HTTP/1.1 would take it for an empty body.
                copy.lost(&shared).is_none() && !kept && (shared.ended || shared.body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.locked() {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Own { body, .. } => body.size_hint(),
            Inner::Shared(copy) => {
                let shared = copy.locked();
                if copy.lost(&shared).is_some() {
                    return SizeHint::new();
                }
                let kept = shared.buffer.len.saturating_sub(copy.at) as u64;
                let rest = if shared.ended { SizeHint::with_exact(0) } else { shared.body.size_hint() };
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(kept));
                if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept)) {
                    hint.set_upper(upper);
                }
                hint
            }
        }
    }
}

impl<B: Default> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::new(B::default(), 0)
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
