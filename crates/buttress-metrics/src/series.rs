//! The series of one policy, and their handles, resolved again and again.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, Release, SeqCst},
            fence,
        },
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use buttress_core::{Kind, Level, Word, observe::Levels};
use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, SharedString};

use crate::{
    HandleMode,
    catalog::{self, MISSED, OTHER},
    clock,
    exported::Shared,
    places::Seat,
};

/// How old a handle may get. One that was made before the recorder was installed is dead for ever, and so is
/// one whose series an exporter evicted while it was idle; neither can be asked whether it is.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

/// How often a level that keeps moving is asked for again when handles are renewed.
const TRIES: usize = 4;

const METADATA: Metadata<'static> = Metadata::new("buttress", metrics::Level::INFO, Some(module_path!()));

/// A level that was never told. No policy tells it: NaN is stored as `f64::NAN`.
const UNTOLD: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct CounterSlot(usize);

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct GaugeSlot(usize);

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct HistogramSlot(usize);

/// All series of one policy.
pub(crate) struct Series {
    pub(crate) shared: Arc<Shared>,
    /// Its place among those of its kind and name. `None`: many policies behind one name, none of which has levels.
    pub(crate) seat: Option<Seat>,
    name: SharedString,
    per_call: bool,
    /// Whether its levels are exported. Once they are, they are until it goes.
    speaks: AtomicBool,
    counters: Vec<(Key, StartAt)>,
    gauges: Vec<Measured>,
    histograms: Vec<Key>,
    /// Who knows the levels, and how many events were missed.
    levels: OnceLock<Weak<dyn Levels>>,
    missed_key: Key,
    /// How many missed events were counted.
    missed: AtomicU64,
    /// Replaced as a whole. A reader never waits: it loads, and if what it got is too old, makes its own.
    resolved: ArcSwap<Resolved>,
}

/// When a counter's series appears.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum StartAt {
    /// With the policy, at 0: `rate` and `increase` see the first increment.
    Zero,
    /// When it is first counted.
    FirstCount,
}

/// A gauge and its present value. The value is kept here because a handle that is resolved anew must be set
/// again, and because exporters differ in whether `increment` works.
struct Measured {
    key: Key,
    bits: AtomicU64,
    /// What to leave behind when the policy is gone, so that a dropped breaker is not open for ever.
    at_rest: Option<f64>,
}

struct Resolved {
    good_until: Instant,
    counters: Box<[OnceLock<Counter>]>,
    gauges: Box<[OnceLock<Gauge>]>,
    histograms: Box<[OnceLock<Histogram>]>,
}

impl Series {
    /// Those of one policy, or, without a seat, of all whose names are too many.
    pub(crate) fn new(shared: &Arc<Shared>, kind: Kind, seat: Option<Seat>) -> Self {
        let name = seat.as_ref().map(|seat| SharedString::from(seat.name.to_string()));
        let name = name.unwrap_or(SharedString::const_str(OTHER));
        let of = vec![Label::new("name", name.clone()), Label::from_static_parts("kind", kind.name)];
        Self {
            shared: shared.clone(),
            seat,
            name,
            missed_key: Key::from_parts(catalog::prefixed(&shared.settings.prefix, MISSED), of),
            missed: AtomicU64::new(0),
            per_call: shared.settings.handles == HandleMode::PerCall,
            speaks: AtomicBool::new(false),
            counters: Vec::new(),
            gauges: Vec::new(),
            histograms: Vec::new(),
            levels: OnceLock::new(),
            resolved: ArcSwap::from_pointee(Resolved::new(clock::now(), 0, 0, 0)),
        }
    }

    fn key(&self, metric: &'static str, labels: &[(&'static str, Word)]) -> Key {
        let mut all = vec![Label::new("name", self.name.clone())];
        all.extend(labels.iter().map(|(key, value)| Label::from_static_parts(key, value)));
        Key::from_parts(catalog::prefixed(&self.shared.settings.prefix, metric), all)
    }

    pub(crate) fn counter(
        &mut self,
        metric: &'static str,
        labels: &[(&'static str, Word)],
        start: StartAt,
    ) -> CounterSlot {
        self.counters.push((self.key(metric, labels), start));
        CounterSlot(self.counters.len() - 1)
    }

    pub(crate) fn gauge(
        &mut self,
        metric: &'static str,
        labels: &[(&'static str, Word)],
        at_rest: Option<f64>,
    ) -> GaugeSlot {
        self.gauges.push(Measured { key: self.key(metric, labels), bits: AtomicU64::new(UNTOLD), at_rest });
        GaugeSlot(self.gauges.len() - 1)
    }

    pub(crate) fn histogram(
        &mut self,
        metric: &'static str,
        labels: &[(&'static str, Word)],
    ) -> HistogramSlot {
        self.histograms.push(self.key(metric, labels));
        HistogramSlot(self.histograms.len() - 1)
    }

    /// Whether policies should tell how long calls take.
    pub(crate) fn wants_durations(&self) -> bool {
        self.shared.settings.histograms
    }

    /// Ends the construction: resolves all handles for the first time.
    pub(crate) fn ready(self) -> Self {
        if !self.per_call {
            self.resolved.store(Arc::new(self.resolve(clock::now())));
        }
        self
    }

    /// Says who knows the levels. Only the first one counts: of policies that share a name that is one too many, only
    /// the first one's missed events are exported.
    pub(crate) fn follow(&self, levels: &Weak<dyn Levels>) {
        let _ = self.levels.set(levels.clone());
    }

    /// Handles that are at most [`MAX_AGE`] old. Reads the clock. With new handles the levels are told anew to
    /// `put`, for some move by time alone and nobody tells of that.
    pub(crate) fn fresh(&self, put: impl Fn(&Handles<'_>, Level)) -> Handles<'_> {
        let resolved = self.resolved.load();
        if self.per_call {
            return Handles { series: self, resolved };
        }
        let now = clock::now();
        if now < resolved.good_until {
            return Handles { series: self, resolved };
        }
        let handles = self.renewed(now);
        self.tell(&handles, put);
        handles
    }

    /// Tells all anew that moves by time alone, with handles that are at most [`MAX_AGE`] old.
    pub(crate) fn refresh(&self, put: impl Fn(&Handles<'_>, Level)) {
        let (handles, now) = (self.latest(), clock::now());
        let is_good = self.per_call || now < handles.resolved.good_until;
        self.tell(&if is_good { handles } else { self.renewed(now) }, put);
    }

    fn renewed(&self, now: Instant) -> Handles<'_> {
        // Every thread that finds them too old makes its own, for a thread that went on with the old ones
        // could count into a series that is gone. The last one to store wins; all lead to the same series.
        let resolved = Arc::new(self.resolve(now));
        self.resolved.store(resolved.clone());
        Handles { series: self, resolved: Guard::from_inner(resolved) }
    }

    fn tell(&self, handles: &Handles<'_>, put: impl Fn(&Handles<'_>, Level)) {
        let Some(levels) = self.levels.get().and_then(Weak::upgrade) else { return };
        if self.speaks() {
            retell(&*levels, |level| put(handles, level));
        }
        let missed = levels.missed();
        let counted = self.missed.fetch_max(missed, Relaxed);
        if missed > counted {
            register_counter(&self.missed_key).increment(missed - counted);
        }
    }

    /// The handles at hand, whatever their age. For levels that are told beside an event that asks for fresh
    /// ones: resolving sets all levels again.
    pub(crate) fn latest(&self) -> Handles<'_> {
        Handles { series: self, resolved: self.resolved.load() }
    }

    fn resolve(&self, now: Instant) -> Resolved {
        self.shared.describe_now_and_then(now);
        let resolved = Resolved::new(now, self.counters.len(), self.gauges.len(), self.histograms.len());
        for (slot, (_, start)) in self.counters.iter().enumerate() {
            if *start == StartAt::Zero {
                resolved.counter(self, slot).increment(0);
            }
        }
        if self.speaks() {
            self.publish_all(|slot, level| publish(level, resolved.gauge(self, slot)));
        }
        resolved
    }

    fn speaks(&self) -> bool {
        self.speaks.load(Relaxed)
    }

    /// From now on its levels are exported, beginning with what is known of them.
    pub(crate) fn speak(&self) {
        self.speaks.store(true, Relaxed);
        // See `Handles::set`: who set a level and did not see this yet has it seen here.
        fence(SeqCst);
        let handles = self.latest();
        self.publish_all(|slot, level| handles.with_gauge(slot, |gauge| publish(level, gauge)));
    }

    fn publish_all(&self, publish: impl Fn(usize, &Measured)) {
        let told = self.gauges.iter().enumerate().filter(|(_, level)| level.is_told());
        told.for_each(|(slot, level)| publish(slot, level));
    }

    /// Leaves the gauges as those of a policy that is gone; not those that `next` exports in its place.
    pub(crate) fn rest(&self, next: Option<&Self>) {
        let handles = self.latest();
        // Only what is exported: a series must not begin because its policy went.
        for (slot, level) in self.gauges.iter().enumerate().filter(|(_, level)| level.is_told()) {
            let goes_on = |next: &Self| next.gauges.iter().any(|one| one.is_told() && one.key == level.key);
            if let Some(value) = level.at_rest.filter(|_| !next.is_some_and(goes_on)) {
                handles.with_gauge(slot, |gauge| gauge.set(value));
            }
        }
    }
}

impl Measured {
    fn is_told(&self) -> bool {
        self.bits.load(Relaxed) != UNTOLD
    }
}

/// Tells each level, and again if it moved meanwhile.
///
/// The policy itself tells its levels from one thread at a time, after they moved; this thread is a second one. So what
/// it tells must not be older than what the policy told in between. A level that moves again later is told again by the
/// policy; one that never rests, such as a share that grows with time, is told often enough.
fn retell(levels: &dyn Levels, put: impl Fn(Level)) {
    for number in 0.. {
        let Some(mut told) = levels.level(number) else { return };
        for _ in 0..TRIES {
            put(told);
            fence(SeqCst);
            match levels.level(number) {
                Some(level) if !is_same(level, told) => told = level,
                _ => break,
            }
        }
    }
}

fn is_same(one: Level, other: Level) -> bool {
    (one.what, one.of, one.value.to_bits()) == (other.what, other.of, other.value.to_bits())
}

/// Sets a gauge to its level, and again if the level moved meanwhile: a thread that sets an old value last sees that
/// it is old.
fn publish(level: &Measured, gauge: &Gauge) {
    loop {
        let bits = level.bits.load(Relaxed);
        gauge.set(f64::from_bits(bits));
        fence(SeqCst);
        if level.bits.load(Relaxed) == bits {
            return;
        }
    }
}

impl Resolved {
    fn new(now: Instant, counters: usize, gauges: usize, histograms: usize) -> Self {
        Self {
            good_until: now.checked_add(MAX_AGE).unwrap_or(now),
            counters: empty(counters),
            gauges: empty(gauges),
            histograms: empty(histograms),
        }
    }

    fn counter(&self, series: &Series, slot: usize) -> &Counter {
        self.counters[slot].get_or_init(|| register_counter(&series.counters[slot].0))
    }

    fn gauge(&self, series: &Series, slot: usize) -> &Gauge {
        self.gauges[slot].get_or_init(|| register_gauge(&series.gauges[slot].key))
    }

    fn histogram(&self, series: &Series, slot: usize) -> &Histogram {
        self.histograms[slot].get_or_init(|| register_histogram(&series.histograms[slot]))
    }
}

fn empty<T>(len: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(len).collect()
}

fn register_counter(key: &Key) -> Counter {
    metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA))
}

pub(crate) fn register_gauge(key: &Key) -> Gauge {
    metrics::with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
}

fn register_histogram(key: &Key) -> Histogram {
    metrics::with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
}

/// A policy's series and the handles to write with.
///
/// Only `Counter::increment`, `Gauge::set` and `Histogram::record` are used: bridges to OpenTelemetry lack the
/// others.
pub(crate) struct Handles<'a> {
    series: &'a Series,
    resolved: Guard<Arc<Resolved>>,
}

impl Handles<'_> {
    pub(crate) fn count(&self, CounterSlot(slot): CounterSlot) {
        if self.series.per_call {
            register_counter(&self.series.counters[slot].0).increment(1);
        } else {
            self.resolved.counter(self.series, slot).increment(1);
        }
    }

    /// For series too many to have a slot each.
    pub(crate) fn count_rare(&self, metric: &'static str, labels: &[(&'static str, Word)]) {
        register_counter(&self.series.key(metric, labels)).increment(1);
    }

    /// Sets a gauge, also to what it was: two threads may be here with different values (see `retell`), and the one
    /// that comes last must leave its own behind.
    pub(crate) fn set(&self, GaugeSlot(slot): GaugeSlot, value: f64) {
        let series = self.series;
        if series.seat.is_none() {
            return;
        }
        let level = &series.gauges[slot];
        let value = if value.is_nan() { f64::NAN } else { value };
        // A thread that resolves at this moment sees the level, or else sets the gauge before this does.
        level.bits.store(value.to_bits(), Relaxed);
        if series.speaks() {
            fence(Release);
            self.with_gauge(slot, |gauge| gauge.set(value));
            return;
        }
        // Another one's are exported. If this one's are at this very moment, either `speak` sees the value or this
        // sees that.
        fence(SeqCst);
        if series.speaks() {
            self.with_gauge(slot, |gauge| publish(level, gauge));
        }
    }

    fn with_gauge(&self, slot: usize, then: impl FnOnce(&Gauge)) {
        if self.series.per_call {
            then(&register_gauge(&self.series.gauges[slot].key));
        } else {
            then(self.resolved.gauge(self.series, slot));
        }
    }

    pub(crate) fn observe(&self, HistogramSlot(slot): HistogramSlot, took: Duration) {
        if !self.series.shared.settings.histograms {
            return;
        }
        let seconds = took.as_secs_f64();
        if self.series.per_call {
            register_histogram(&self.series.histograms[slot]).record(seconds);
        } else {
            self.resolved.histogram(self.series, slot).record(seconds);
        }
    }
}
