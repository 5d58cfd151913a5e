//! The series of one policy, and their handles, resolved again and again.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, Release, SeqCst},
            fence,
        },
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use buttress_core::{Kind, Level, Name, Word, observe::Levels};
use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, SharedString};

use crate::{HandleMode, catalog, catalog::OTHER, clock, exported::Shared};

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
    shared: Arc<Shared>,
    kind: Kind,
    name: SharedString,
    per_call: bool,
    /// Many policies behind one name could only overwrite each other's levels.
    has_levels: bool,
    counters: Vec<(Key, StartAt)>,
    gauges: Vec<Measured>,
    histograms: Vec<Key>,
    /// Who knows the levels.
    levels: OnceLock<Weak<dyn Levels>>,
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
    /// Those of one policy, or, without a name, of all whose names are too many.
    pub(crate) fn new(shared: &Arc<Shared>, kind: Kind, name: Option<&Name>) -> Self {
        Self {
            shared: shared.clone(),
            kind,
            name: name.map_or(SharedString::const_str(OTHER), |name| SharedString::from(name.to_string())),
            per_call: shared.settings.handles == HandleMode::PerCall,
            has_levels: name.is_some(),
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

    /// Says who knows the levels. Only the first one counts.
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
        self.renewed(now, put)
    }

    #[cold]
    fn renewed(&self, now: Instant, put: impl Fn(&Handles<'_>, Level)) -> Handles<'_> {
        // Every thread that finds them too old makes its own, for a thread that went on with the old ones
        // could count into a series that is gone. The last one to store wins; all lead to the same series.
        let resolved = Arc::new(self.resolve(now));
        self.resolved.store(resolved.clone());
        let handles = Handles { series: self, resolved: Guard::from_inner(resolved) };
        if let Some(levels) = self.levels.get().filter(|_| self.has_levels).and_then(Weak::upgrade) {
            retell(&*levels, |level| put(&handles, level));
        }
        handles
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
        if self.has_levels {
            for (slot, level) in self.gauges.iter().enumerate() {
                if level.bits.load(Relaxed) != UNTOLD {
                    publish(level, resolved.gauge(self, slot));
                }
            }
        }
        resolved
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

impl Drop for Series {
    fn drop(&mut self) {
        if !self.has_levels || !self.shared.leave(self.kind, &self.name) {
            return;
        }
        let handles = self.latest();
        for (slot, level) in self.gauges.iter().enumerate() {
            // Only what is exported: a series must not begin because its policy went.
            if level.bits.load(Relaxed) != UNTOLD {
                if let Some(value) = level.at_rest {
                    handles.set(GaugeSlot(slot), value);
                }
            }
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
        if !self.series.has_levels {
            return;
        }
        let level = &self.series.gauges[slot];
        let value = if value.is_nan() { f64::NAN } else { value };
        // A thread that resolves at this moment sees the level, or else sets the gauge before this does.
        level.bits.store(value.to_bits(), Relaxed);
        fence(Release);
        if self.series.per_call {
            register_gauge(&level.key).set(value);
        } else {
            self.resolved.gauge(self.series, slot).set(value);
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
