//! The handles of one policy's series, resolved again and again.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use buttress_core::{Name, PolicyKind, Recorder, observe::Levels};
use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, SharedString};

use crate::{
    HandleMode, MetricDef, MetricKind,
    catalog::OTHER,
    clock,
    exported::{Settings, Shared},
};

/// How old a handle may get. One that was made before the recorder was installed is dead for ever, and so is
/// one whose series an exporter evicted while it was idle; neither can be asked whether it is.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

const METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some(module_path!()));

/// A level that was never told. No policy tells it: NaN is stored as `f64::NAN`.
const UNTOLD: u64 = u64::MAX;

#[derive(Clone, Copy)]
pub(crate) struct CounterSlot(usize);

#[derive(Clone, Copy)]
pub(crate) struct GaugeSlot(usize);

#[derive(Clone, Copy)]
pub(crate) struct HistogramSlot(usize);

/// The series of one metric, by the value of the second label.
pub(crate) struct Family<S>(Vec<(&'static str, S)>);

impl<S: Copy> Family<S> {
    /// The series of a value that is written out in the catalogue.
    pub(crate) fn of(&self, value: &'static str) -> S {
        self.get(value).expect("the catalogue has each value that a recorder names")
    }

    /// `None` where the catalogue does not have the value: no series is made up for it.
    pub(crate) fn get(&self, value: &str) -> Option<S> {
        let found = self.0.iter().find(|(known, _)| *known == value).map(|(_, slot)| *slot);
        debug_assert!(found.is_some(), "{value:?} is not in the catalogue");
        found
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, S)> {
        self.0.iter().copied()
    }
}

/// All series of one policy.
pub(crate) struct Panel {
    shared: Arc<Shared>,
    kind: PolicyKind,
    name: SharedString,
    per_call: bool,
    /// Many policies behind one name could only overwrite each other's levels.
    has_levels: bool,
    counters: Vec<(Key, Start)>,
    gauges: Vec<Measured>,
    histograms: Vec<Key>,
    /// Who knows the levels.
    levels: OnceLock<Weak<dyn Levels>>,
    /// Replaced as a whole. A reader never waits: it loads, and where what it got is too old, makes its own.
    handles: ArcSwap<Handles>,
}

/// When a counter's series appears.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// With the policy, at 0: `rate` and `increase` see the first increment.
    AtZero,
    /// When it is first counted.
    WhenCounted,
}

/// A gauge and its present value. The value is kept here because a handle that is resolved anew must be set
/// again, and because exporters differ in whether `increment` works.
struct Measured {
    key: Key,
    bits: AtomicU64,
    /// What to leave behind when the policy is gone, so that a dropped breaker is not open for ever.
    at_rest: Option<f64>,
}

struct Handles {
    good_until: Instant,
    counters: Box<[OnceLock<Counter>]>,
    gauges: Box<[OnceLock<Gauge>]>,
    histograms: Box<[OnceLock<Histogram>]>,
}

impl Panel {
    /// The panel of one policy, or, without a name, of all whose names are too many.
    pub(crate) fn new(shared: &Arc<Shared>, kind: PolicyKind, name: Option<&Name>) -> Self {
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
            handles: ArcSwap::from_pointee(Handles::new(clock::now(), 0, 0, 0)),
        }
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn key(&self, def: &MetricDef, values: &[&'static str]) -> Key {
        let mut all = vec![self.name.clone()];
        all.extend(values.iter().copied().map(SharedString::const_str));
        def.key(&self.settings().prefix, &all)
    }

    pub(crate) fn counter(&mut self, def: &MetricDef, values: &[&'static str], start: Start) -> CounterSlot {
        debug_assert_eq!(def.kind, MetricKind::Counter);
        self.counters.push((self.key(def, values), start));
        CounterSlot(self.counters.len() - 1)
    }

    pub(crate) fn gauge(
        &mut self,
        def: &MetricDef,
        values: &[&'static str],
        at_rest: Option<f64>,
    ) -> GaugeSlot {
        debug_assert_eq!(def.kind, MetricKind::Gauge);
        let key = self.key(def, values);
        self.gauges.push(Measured { key, bits: AtomicU64::new(UNTOLD), at_rest });
        GaugeSlot(self.gauges.len() - 1)
    }

    pub(crate) fn histogram(&mut self, def: &MetricDef, values: &[&'static str]) -> HistogramSlot {
        debug_assert_eq!(def.kind, MetricKind::Histogram);
        self.histograms.push(self.key(def, values));
        HistogramSlot(self.histograms.len() - 1)
    }

    pub(crate) fn counters(&mut self, def: &MetricDef) -> Family<CounterSlot> {
        let values = def.labels[1].values.iter();
        Family(values.map(|value| (*value, self.counter(def, &[value], Start::AtZero))).collect())
    }

    pub(crate) fn gauges(&mut self, def: &MetricDef, at_rest: Option<f64>) -> Family<GaugeSlot> {
        let values = def.labels[1].values.iter();
        Family(values.map(|value| (*value, self.gauge(def, &[value], at_rest))).collect())
    }

    pub(crate) fn histograms(&mut self, def: &MetricDef) -> Family<HistogramSlot> {
        let values = def.labels[1].values.iter();
        Family(values.map(|value| (*value, self.histogram(def, &[value]))).collect())
    }

    /// Whether policies should tell how long calls take.
    pub(crate) fn wants_durations(&self) -> bool {
        self.settings().histograms
    }

    /// Ends the construction: resolves all handles for the first time.
    pub(crate) fn ready(self) -> Self {
        if !self.per_call {
            self.handles.store(Arc::new(self.resolve(clock::now())));
        }
        self
    }

    /// Says who knows the levels. Only the first one counts.
    pub(crate) fn follow(&self, levels: &Weak<dyn Levels>) {
        let _ = self.levels.set(levels.clone());
    }

    /// Handles that are at most [`MAX_AGE`] old, for `recorder`, which has this panel. Reads the clock.
    ///
    /// With new handles, `recorder` is told the levels anew: of two threads that tell a level at the same time,
    /// the one with the older value may have come last.
    pub(crate) fn fresh(&self, recorder: &dyn Recorder) -> At<'_> {
        let cached = self.handles.load();
        if self.per_call {
            return At { panel: self, cached };
        }
        let now = clock::now();
        if now < cached.good_until {
            return At { panel: self, cached };
        }
        self.renewed(recorder, now)
    }

    #[cold]
    fn renewed(&self, recorder: &dyn Recorder, now: Instant) -> At<'_> {
        // Every thread that finds them too old makes its own, for a thread that went on with the old ones
        // could count into a series that is gone. The last one to store wins; all lead to the same series.
        let resolved = Arc::new(self.resolve(now));
        self.handles.store(resolved.clone());
        if let Some(levels) = self.levels.get().filter(|_| self.has_levels).and_then(Weak::upgrade) {
            levels.levels(&mut |event| recorder.record(&event));
        }
        At { panel: self, cached: Guard::from_inner(resolved) }
    }

    /// The handles at hand, whatever their age. For levels that are told beside an event that asks for fresh
    /// ones: resolving sets all levels again.
    pub(crate) fn latest(&self) -> At<'_> {
        At { panel: self, cached: self.handles.load() }
    }

    fn resolve(&self, now: Instant) -> Handles {
        self.shared.describe_now_and_then(now);
        let handles = Handles::new(now, self.counters.len(), self.gauges.len(), self.histograms.len());
        for (slot, (_, start)) in self.counters.iter().enumerate() {
            if *start == Start::AtZero {
                handles.counter(self, slot).increment(0);
            }
        }
        if self.has_levels {
            for (slot, level) in self.gauges.iter().enumerate() {
                if level.bits.load(Relaxed) != UNTOLD {
                    publish(level, handles.gauge(self, slot));
                }
            }
        }
        handles
    }
}

/// Sets a gauge to its level, and again where the level moved meanwhile: whoever sets an old value last sees
/// that it is old.
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

impl Drop for Panel {
    fn drop(&mut self) {
        if !self.has_levels || !self.shared.leave(self.kind, &self.name) {
            return;
        }
        let at = self.latest();
        for (slot, level) in self.gauges.iter().enumerate() {
            // Only what is exported: a series must not begin because its policy went.
            if level.bits.load(Relaxed) != UNTOLD {
                if let Some(value) = level.at_rest {
                    at.set(GaugeSlot(slot), value);
                }
            }
        }
    }
}

impl Handles {
    fn new(now: Instant, counters: usize, gauges: usize, histograms: usize) -> Self {
        Self {
            good_until: now.checked_add(MAX_AGE).unwrap_or(now),
            counters: empty(counters),
            gauges: empty(gauges),
            histograms: empty(histograms),
        }
    }

    fn counter(&self, panel: &Panel, slot: usize) -> &Counter {
        self.counters[slot].get_or_init(|| register_counter(&panel.counters[slot].0))
    }

    fn gauge(&self, panel: &Panel, slot: usize) -> &Gauge {
        self.gauges[slot].get_or_init(|| register_gauge(&panel.gauges[slot].key))
    }

    fn histogram(&self, panel: &Panel, slot: usize) -> &Histogram {
        self.histograms[slot].get_or_init(|| register_histogram(&panel.histograms[slot]))
    }
}

fn empty<T>(len: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(len).collect()
}

pub(crate) fn register_counter(key: &Key) -> Counter {
    metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA))
}

pub(crate) fn register_gauge(key: &Key) -> Gauge {
    metrics::with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
}

fn register_histogram(key: &Key) -> Histogram {
    metrics::with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
}

/// A panel and the handles to write with.
///
/// Only `Counter::increment`, `Gauge::set` and `Histogram::record` are used: bridges to OpenTelemetry lack the
/// others.
pub(crate) struct At<'a> {
    panel: &'a Panel,
    cached: Guard<Arc<Handles>>,
}

impl At<'_> {
    pub(crate) fn count(&self, CounterSlot(slot): CounterSlot) {
        if self.panel.per_call {
            register_counter(&self.panel.counters[slot].0).increment(1);
        } else {
            self.cached.counter(self.panel, slot).increment(1);
        }
    }

    /// For series too many to have a slot each.
    pub(crate) fn count_rare(&self, def: &MetricDef, values: &[&'static str]) {
        register_counter(&self.panel.key(def, values)).increment(1);
    }

    pub(crate) fn set(&self, GaugeSlot(slot): GaugeSlot, value: f64) {
        if !self.panel.has_levels {
            return;
        }
        let level = &self.panel.gauges[slot];
        let bits = if value.is_nan() { f64::NAN } else { value }.to_bits();
        if level.bits.load(Relaxed) == bits && !self.panel.per_call {
            // Set already, and set again with every new handle.
            return;
        }
        level.bits.store(bits, Relaxed);
        if self.panel.per_call {
            register_gauge(&level.key).set(value);
        } else {
            // Whoever resolves at this moment sees the level above, or else sets the gauge before this does.
            self.cached.gauge(self.panel, slot).set(value);
        }
    }

    pub(crate) fn observe(&self, HistogramSlot(slot): HistogramSlot, took: Duration) {
        if !self.panel.settings().histograms {
            return;
        }
        let seconds = took.as_secs_f64();
        if self.panel.per_call {
            register_histogram(&self.panel.histograms[slot]).record(seconds);
        } else {
            self.cached.histogram(self.panel, slot).record(seconds);
        }
    }
}
