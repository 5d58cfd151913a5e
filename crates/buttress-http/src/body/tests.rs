use std::collections::VecDeque;

use buttress_test::CountingWaker;
use proptest::{collection::vec, prelude::*};

use super::*;

/// What a body does next.
#[derive(Clone, Debug)]
enum Step {
    Data(Vec<u8>),
    Trailers,
    /// Once, and then goes on at once.
    Pending,
    /// Until somebody takes this away.
    Hangs,
    Breaks,
    Panics,
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
            Some(Step::Hangs) => {
                self.left.push_front(Step::Hangs);
                return Poll::Pending;
            }
            Some(Step::Panics) => panic!("in the body"),
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
fn kept<B>(body: &ReplayBody<B>) -> usize {
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
    assert_eq!(error_of(&mut saved), "the body broke off before");
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

// Known from an upload that waited in a queue while the next attempt went out whole: as nothing was left to read, it
// was an empty file of known length to HTTP/1.1.
#[test]
fn copy_that_can_be_read_no_more_is_neither_empty_nor_of_known_length() {
    let unread = |body: &ReplayBody<Steps>| (body.is_end_stream(), body.size_hint().exact());

    let mut late = body(100, [data("one"), data("two")]);
    let mut second = late.save().unwrap();
    while poll(&mut second) != Some(None) {}
    assert_eq!(unread(&late), (false, None));
    assert_eq!(error_of(&mut late), "a later attempt sends this body");

    let mut first = of_unknown_length(3, [data("one"), data("two")]);
    let large = first.save().unwrap();
    while poll(&mut first) != Some(None) {}
    assert_eq!((unread(&first), unread(&large)), ((true, Some(0)), (false, None)));

    let mut first = body(100, [data("one"), Step::Breaks]);
    let broken = first.save().unwrap();
    assert_eq!((data_of(&mut first), error_of(&mut first)), ("one".into(), "broken".into()));
    assert_eq!((unread(&first), unread(&broken)), ((false, None), (false, None)));
}

#[test]
fn attempt_given_up_that_waits_for_the_body_is_told_when_the_next_one_reads() {
    let mut first = body(100, [Step::Hangs]);
    let mut second = first.save().unwrap();
    let woken = CountingWaker::new();
    assert!(Pin::new(&mut first).poll_frame(&mut Context::from_waker(&woken.waker())).is_pending());
    assert!(second.can_resend());
    assert_eq!(poll(&mut second), None);
    assert_eq!(woken.count(), 1, "the body wakes the second one only");
    assert_eq!(error_of(&mut first), "a later attempt sends this body");
}

// A frame may be gone: the next attempt would send the body without it.
#[test]
fn body_that_panics_is_not_sent_again() {
    let mut first = body(100, [data("one"), Step::Panics, data("three")]);
    let mut saved = first.save().unwrap();
    assert_eq!(data_of(&mut first), "one");
    let panics = std::panic::AssertUnwindSafe(|| poll(&mut first));
    std::panic::catch_unwind(panics).unwrap_err();
    assert!(!saved.can_resend() && saved.save().is_none());
    assert_eq!(error_of(&mut saved), "the body broke off before");
    assert_eq!((first.is_end_stream(), first.size_hint().exact()), (false, None));
    assert_eq!(error_of(&mut first), "the body broke off before");
}

#[test]
fn attempt_given_up_is_told_though_the_body_panics_in_the_next_one() {
    let mut first = body(100, [Step::Panics]);
    let mut second = first.save().unwrap();
    assert!(second.can_resend());
    let woken = CountingWaker::new();
    assert!(Pin::new(&mut first).poll_frame(&mut Context::from_waker(&woken.waker())).is_pending());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut second))).unwrap_err();
    assert_eq!(woken.count(), 1);
}

#[test]
fn one_waker_is_kept_of_each_attempt() {
    let mut first = body(100, [data("one")]);
    let saved = first.save().unwrap();
    assert!(saved.can_resend());
    let wakers = [(); 3].map(|()| CountingWaker::new());
    for woken in &wakers {
        assert!(Pin::new(&mut first).poll_frame(&mut Context::from_waker(&woken.waker())).is_pending());
    }
    drop(saved);
    assert_eq!(wakers.map(|woken| woken.count()), [0, 0, 1]);
}

/// What is done with the copies of a body, each by its number.
#[derive(Clone, Copy, Debug)]
enum Do {
    Poll(usize),
    Save(usize),
    Ask(usize),
    Drop(usize),
    /// The body goes on where it is pending.
    GoOn,
}

fn doing() -> impl Strategy<Value = Do> {
    prop_oneof![
        8 => (0_usize..4).prop_map(Do::Poll),
        2 => (0_usize..4).prop_map(Do::Save),
        1 => (1_usize..4).prop_map(Do::Ask),
        1 => (0_usize..4).prop_map(Do::Drop),
        2 => Just(Do::GoOn),
    ]
}

/// A body that is pending until it is told to go on, and wakes the last one that asked.
#[derive(Clone)]
struct Gated(Arc<Mutex<(Steps, Option<Waker>)>>);

impl Gated {
    fn go_on(&self) {
        let mut gated = locked(&self.0);
        if let Some(Step::Hangs) = gated.0.left.front() {
            gated.0.left.pop_front();
            gated.1.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Body for Gated {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut gated = locked(&self.0);
        let polled = Pin::new(&mut gated.0).poll_frame(cx);
        gated.1 = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.0).0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        locked(&self.0).0.size_hint()
    }
}

/// What was seen of one copy.
#[derive(Default)]
struct Seen {
    begun: bool,
    data: Vec<u8>,
    trailers: usize,
    ended: bool,
    failed: bool,
    woken: CountingWaker,
    /// Pending, and not to be polled with success before it is woken.
    waits: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn copy_is_read_whole_or_fails_whatever_becomes_of_the_others(
        datas in vec(prop_oneof![
            6 => vec(any::<u8>(), 0..20).prop_map(Step::Data),
            2 => Just(Step::Hangs),
            1 => Just(Step::Pending),
        ], 0..10),
        end in prop_oneof![3 => Just(None), 1 => Just(Some(Step::Trailers)), 1 => Just(Some(Step::Breaks))],
        known: bool, limit in 0_usize..100, doings in vec(doing(), 1..60),
    ) {
        let mut whole = Vec::new();
        datas.iter().for_each(|step| if let Step::Data(data) = step { whole.extend_from_slice(data) });
        let (breaks, trailers) = (matches!(end, Some(Step::Breaks)), matches!(end, Some(Step::Trailers)));
        let left = datas.into_iter().chain(end).collect();
        let gated = Gated(Arc::new(Mutex::new((Steps { left, knows_length: known }, None))));
        let mut copies = vec![Some((ReplayBody::new(gated.clone(), limit), Seen::default()))];
        // The last one that was told that it can be sent, until it or a later one is read.
        let mut promised = None;
        for doing in doings.into_iter().chain((0..4).map(Do::Poll)) {
            match doing {
                Do::GoOn => gated.go_on(),
                Do::Drop(at) => if let Some(copy) = copies.get_mut(at) {
                    *copy = None;
                    promised = promised.filter(|promised| *promised != at);
                }
                Do::Save(at) => if let Some(Some((copy, seen))) = copies.get(at) {
                    if let Some(saved) = copy.save().filter(|_| copies.len() < 4) {
                        prop_assert!(!seen.begun && !seen.failed);
                        copies.push(Some((saved, Seen::default())));
                    }
                }
                Do::Ask(at) => if let Some(Some((copy, seen))) = copies.get(at) {
                    if copy.can_resend() {
                        prop_assert!(!seen.begun && !seen.failed);
                        promised = Some(at);
                    }
                }
                Do::Poll(at) => if let Some(Some((copy, seen))) = copies.get_mut(at) {
                    let waker = seen.woken.waker();
                    let woken = seen.woken.take() > 0;
                    let polled = Pin::new(copy).poll_frame(&mut Context::from_waker(&waker));
                    let is_promised = promised == Some(at);
                    match polled {
                        Poll::Pending => seen.waits = true,
                        Poll::Ready(frame) => {
                            prop_assert!(!seen.waits || woken, "could have gone on, and was not told");
                            seen.waits = false;
                            match frame {
                                Some(Ok(frame)) => {
                                    seen.begun = true;
                                    prop_assert!(!seen.failed && !seen.ended && seen.trailers == 0);
                                    match frame.into_data() {
                                        Ok(data) => seen.data.extend_from_slice(&data),
                                        Err(_) => seen.trailers += 1,
                                    }
                                }
                                None => {
                                    seen.ended = true;
                                    prop_assert!(seen.failed || !breaks);
                                }
                                Some(Err(error)) => {
                                    seen.failed = true;
                                    let own = error.to_string() == "broken";
                                    prop_assert!(own || !is_promised, "{} though it was promised", error);
                                }
                            }
                        }
                    }
                    if is_promised {
                        promised = None;
                    }
                }
            }
            for (copy, seen) in copies.iter().flatten() {
                prop_assert_eq!(&seen.data, &whole[..seen.data.len()]);
                let is_whole = seen.data.len() == whole.len() && seen.trailers == usize::from(trailers);
                prop_assert!(is_whole || seen.failed || !(seen.ended || copy.is_end_stream()));
                let (hint, rest) = (copy.size_hint(), (whole.len() - seen.data.len()) as u64);
                prop_assert!(hint.lower() <= rest && hint.upper().is_none_or(|upper| rest <= upper));
                prop_assert!(kept(copy) <= limit);
            }
        }
    }
}
