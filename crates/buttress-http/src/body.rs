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
    /// Who is kept from reading meanwhile.
    parked: Vec<Waker>,
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
            Self::Broken => "the body broke off in an earlier attempt",
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
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        if self.begun || shared.lost.is_some() || self.number < shared.current {
            return None;
        }
        shared.last += 1;
        shared.waiting += 1;
        Some(Self::new(self.shared.clone(), shared.last))
    }

    fn promise(&self) -> bool {
        let mut shared = self.locked();
        let can = !self.begun && shared.lost.is_none() && self.number >= shared.current;
        if can {
            shared.promised = Some(self.number);
        }
        can
    }

    /// Whether it is one of those in `Shared::waiting` until it is read from.
    fn is_saved(&self) -> bool {
        self.number > 0
    }
}

fn locked<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        let mut shared = locked(&self.shared);
        if self.is_saved() {
            shared.waiting -= 1;
        }
        let mut parked = Vec::new();
        if shared.promised == Some(self.number) {
            shared.promised = None;
            parked = mem::take(&mut shared.parked);
        }
        drop(shared);
        parked.into_iter().for_each(Waker::wake);
    }
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
            if !shared.parked.iter().any(|parked| parked.will_wake(cx.waker())) {
                shared.parked.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let mut superseded = Vec::new();
        if !self.begun {
            if let Some(lost) = shared.lost {
                return Poll::Ready(Some(Err(lost.into())));
            }
            self.begun = true;
            if self.number > 0 {
                shared.waiting -= 1;
            }
            (shared.current, shared.promised) = (self.number, None);
            superseded = mem::take(&mut shared.parked);
        }
        let frame = shared.poll_frame(&mut self.at, &mut self.gave_trailers, cx);
        drop(shared);
        superseded.into_iter().for_each(Waker::wake);
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
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
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
        let frame = frame.map_data(|mut data| {
            let data = data.copy_to_bytes(data.remaining());
            if wanted {
                self.keep(&data);
            }
            data
        });
        if let Some(trailers) = frame.trailers_ref() {
            *gave_trailers = true;
            self.trailers = wanted.then(|| trailers.clone());
        }
        *at = self.buffer.len;
        Poll::Ready(Some(Ok(frame)))
    }
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
                let whole = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                Pin::new(body).poll_frame(cx).map(|frame| {
                    frame.map(|frame| frame.map(|frame| frame.map_data(whole)).map_err(Into::into))
                })
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
                let readable = copy.begun || shared.lost.is_none();
                !kept && readable && (shared.ended || shared.body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.locked() {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Own { body, .. } => body.size_hint(),
            Inner::Shared(copy) => {
                let shared = copy.locked();
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
mod tests {
    use std::collections::VecDeque;

    use buttress_test::CountingWaker;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What a body does next.
    #[derive(Clone, Debug)]
    enum Step {
        Data(Vec<u8>),
        Trailers,
        Pending,
        Breaks,
    }

    struct Steps {
        left: VecDeque<Step>,
        knows_length: bool,
    }

    impl Body for Steps {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(match self.left.pop_front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data.into()))),
                Some(Step::Trailers) => Some(Ok(Frame::trailers(trailers()))),
                Some(Step::Breaks) => {
                    self.left.clear();
                    Some(Err("broken".into()))
                }
                Some(Step::Pending) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            })
        }

        fn is_end_stream(&self) -> bool {
            self.left.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            if !self.knows_length {
                return SizeHint::default();
            }
            let data = |step: &Step| if let Step::Data(data) = step { data.len() } else { 0 };
            SizeHint::with_exact(self.left.iter().map(data).sum::<usize>() as u64)
        }
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(http::header::ETAG, "t".parse().unwrap())])
    }

    fn body(max_bytes: usize, steps: impl IntoIterator<Item = Step>) -> ReplayBody<Steps> {
        // Of unknown length: one step that nobody sees.
        ReplayBody::new(Steps { left: steps.into_iter().collect(), knows_length: true }, max_bytes)
    }

    fn of_unknown_length(max_bytes: usize, steps: impl IntoIterator<Item = Step>) -> ReplayBody<Steps> {
        ReplayBody::new(Steps { left: steps.into_iter().collect(), knows_length: false }, max_bytes)
    }

    fn data(text: &str) -> Step {
        Step::Data(text.into())
    }

    /// Polls once; `None` while it is pending.
    fn poll(body: &mut ReplayBody<Steps>) -> Option<Option<Result<String, String>>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(frame) => Some(frame.map(|frame| {
                match frame {
                    Ok(frame) => Ok(frame
                        .into_data()
                        .map_or("trailers".to_owned(), |data| String::from_utf8(data.to_vec()).unwrap())),
                    Err(error) => Err(error.to_string()),
                }
            })),
        }
    }

    fn data_of(body: &mut ReplayBody<Steps>) -> String {
        poll(body).unwrap().unwrap().unwrap()
    }

    fn error_of(body: &mut ReplayBody<Steps>) -> String {
        poll(body).unwrap().unwrap().unwrap_err()
    }

    /// How many bytes are kept.
    fn kept(body: &ReplayBody<Steps>) -> usize {
        match &*body.locked() {
            Inner::Shared(copy) => copy.locked().buffer.blocks.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }

    #[test]
    fn later_attempt_gets_all_of_it_however_far_the_first_one_read() {
        for read in 0..=5 {
            let steps = [data("one"), Step::Pending, data("two"), data("three"), Step::Trailers];
            let mut first = body(100, steps);
            let mut second = first.save().unwrap();
            (0..read).for_each(|_| drop(poll(&mut first)));
            assert!(second.can_resend());
            let mut all = String::new();
            let mut third = second.save().unwrap();
            for copy in [&mut second, &mut third] {
                all.clear();
                while let Some(frame) = poll(copy).unwrap_or(Some(Ok(String::new()))) {
                    all += &frame.unwrap();
                }
                assert_eq!(all, "onetwothreetrailers", "after {read} polls of the first");
                assert!(copy.is_end_stream());
                assert_eq!(copy.size_hint().exact(), Some(0));
            }
            assert_eq!(error_of(&mut first), "a later attempt sends this body");
        }
    }

    #[test]
    fn length_is_that_of_the_whole_body_for_every_attempt() {
        let mut first = body(100, [data("one"), data("two")]);
        let mut second = first.save().unwrap();
        assert_eq!(data_of(&mut first), "one");
        assert_eq!((first.size_hint().exact(), second.size_hint().exact()), (Some(3), Some(6)));
        assert_eq!(data_of(&mut second), "one");
        assert_eq!((second.size_hint().exact(), second.is_end_stream()), (Some(3), false));
    }

    #[test]
    fn nothing_is_kept_once_nobody_waits_for_it() {
        let mut first = body(100, [data("one"), data("two"), data("three")]);
        let saved = first.save().unwrap();
        assert_eq!(data_of(&mut first), "one");
        assert!(kept(&first) > 0);
        drop(saved);
        assert_eq!(data_of(&mut first), "two");
        assert_eq!(kept(&first), 0);

        let mut first = body(100, [data("one"), data("two"), data("three")]);
        let mut last = first.save().unwrap();
        assert_eq!(data_of(&mut first), "one");
        assert_eq!((data_of(&mut last).as_str(), kept(&last)), ("one", 0));
        assert_eq!((data_of(&mut last).as_str(), kept(&last)), ("two", 0));
    }

    #[test]
    fn body_that_is_not_saved_is_the_one_inside() {
        let mut once = body(1, [data("larger than the limit"), Step::Trailers]);
        assert_eq!(data_of(&mut once), "larger than the limit");
        assert!(matches!(*once.locked(), Inner::Own { .. }));
        assert!(once.save().is_none(), "it was read from");
        assert!(!once.can_resend());
    }

    #[test]
    fn empty_body_is_saved_without_sharing_anything() {
        let mut first = body(0, []);
        let mut saved = first.save().unwrap();
        assert!(saved.is_end_stream() && saved.save().is_some_and(|again| again.can_resend()));
        assert_eq!((poll(&mut first), poll(&mut saved)), (Some(None), Some(None)));
        assert!(matches!(*first.locked(), Inner::Own { .. }));
    }

    // vector fault R12
    #[test]
    fn larger_body_goes_out_whole_once_and_not_again() {
        let known = body(10, [data("eleven chars")]);
        assert!(known.save().is_none());

        let steps = [data("seven c"), data("and"), data("more"), data("and more")];
        let mut first = of_unknown_length(10, steps);
        let mut saved = first.save().unwrap();
        let mut sent = String::new();
        while let Some(frame) = poll(&mut first).unwrap() {
            sent += &frame.unwrap();
            let fits = sent.len() <= 10;
            assert_eq!((saved.save().is_some(), kept(&first)), (fits, if fits { sent.len() } else { 0 }));
        }
        assert_eq!(sent, "seven candmoreand more");
        assert!(!saved.can_resend());
        assert_eq!(error_of(&mut saved), "the body is too large to be sent again");
    }

    #[test]
    fn body_that_breaks_off_is_not_sent_again() {
        let mut first = body(100, [data("one"), Step::Breaks]);
        let mut saved = first.save().unwrap();
        assert_eq!(data_of(&mut first), "one");
        assert_eq!(error_of(&mut first), "broken");
        assert_eq!(poll(&mut first), Some(None));
        assert!(!saved.can_resend());
        assert_eq!(error_of(&mut saved), "the body broke off in an earlier attempt");
    }

    #[test]
    fn attempt_given_up_reads_no_further_while_the_next_one_is_about_to() {
        let mut first = body(100, [data("one"), data("two"), data("three")]);
        let saved = first.save().unwrap();
        assert_eq!(data_of(&mut first), "one");
        assert!(saved.can_resend());
        let woken = CountingWaker::new();
        let waker = woken.waker();
        assert!(Pin::new(&mut first).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        // There was no next one after all: an answer that came early goes out, and the body after it.
        drop(saved);
        assert_eq!(woken.count(), 1);
        assert_eq!(data_of(&mut first), "two");
    }

    #[test]
    fn attempt_that_never_read_does_not_begin_while_the_next_one_is_about_to() {
        let mut first = body(100, [data("one")]);
        let mut saved = first.save().unwrap();
        assert!(saved.can_resend());
        assert_eq!(poll(&mut first), None);
        assert_eq!(data_of(&mut saved), "one");
        assert_eq!(error_of(&mut first), "a later attempt sends this body");
        assert!(first.save().is_none());
    }

    #[test]
    fn blocks_are_filled_and_given_out_in_order() {
        let whole: Vec<u8> = (0..3 * BLOCK + 7).map(|n| (n % 251) as u8).collect();
        for part in [1, 3, 1000, BLOCK - 1, BLOCK, 3 * BLOCK] {
            let mut buffer = Buffer::default();
            whole.chunks(part).for_each(|data| buffer.push(data));
            assert_eq!((buffer.len, buffer.blocks.len()), (whole.len(), 4));
            assert!(buffer.blocks.iter().all(|block| block.capacity() <= BLOCK));
            assert_eq!(buffer.after(BLOCK + 5), whole[BLOCK + 5..2 * BLOCK]);
            let mut at = 5;
            while at < buffer.len {
                let taken = buffer.take_after(at);
                assert_eq!(taken, whole[at..][..taken.len()]);
                at += taken.len();
            }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => vec(any::<u8>(), 0..20).prop_map(Step::Data),
            2 => Just(Step::Pending),
            1 => Just(Step::Breaks),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        // vector fault R10: the bytes go out once and in order, whoever reads when
        #[test]
        fn attempts_read_the_body_from_its_beginning_or_not_at_all(
            steps in vec(step(), 0..12), known: bool, limit in 0_usize..120, reads in vec((0_usize..12, any::<bool>()), 1..5),
        ) {
            let mut whole = Vec::new();
            for step in &steps {
                match step {
                    Step::Data(data) => whole.extend_from_slice(data),
                    Step::Breaks => break,
                    _ => {}
                }
            }
            let mut current = if known { body(limit, steps) } else { of_unknown_length(limit, steps) };
            let mut given_up: Vec<ReplayBody<Steps>> = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            for (polls, zombies) in reads {
                let saved = current.save();
                let mut sent = Vec::new();
                for _ in 0..polls {
                    // Attempts given up read nothing, whenever they are polled.
                    for old in given_up.iter_mut().filter(|_| zombies) {
                        let read = Pin::new(old).poll_frame(&mut cx);
                        prop_assert!(matches!(read, Poll::Pending | Poll::Ready(None | Some(Err(_)))));
                    }
                    if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut current).poll_frame(&mut cx) {
                        sent.extend_from_slice(frame.data_ref().unwrap());
                    }
                    prop_assert!(kept(&current) <= limit);
                }
                prop_assert_eq!(&sent, &whole[..sent.len()]);
                match saved {
                    Some(saved) if saved.can_resend() => given_up.push(mem::replace(&mut current, saved)),
                    _ => break,
                }
            }
        }
    }
}
