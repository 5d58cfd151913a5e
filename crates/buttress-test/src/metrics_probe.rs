use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::on_record::{self, OnRecord};

/// A metrics recorder that can be read as often as one likes: nothing is emptied by looking.
///
/// Clones are the same one. Labels in queries choose: a series counts if it has all of them, whatever further
/// ones it has.
///
/// ```
/// use buttress_test::MetricsProbe;
///
/// let probe = MetricsProbe::new();
/// probe.with_local(|| metrics::counter!("calls", "name" => "payments", "result" => "ok").increment(2));
/// assert_eq!(probe.counter("calls", &[("name", "payments")]), 2);
/// assert_eq!(probe.counter("calls", &[("name", "payments")]), 2);
/// ```
///
/// Where the environment names a folder in `BUTTRESS_EMITTED`, each process writes a file there of the series
/// that buttress told to its probes, in Prometheus' text format: what a whole test run emitted. A test that
/// makes up its events uses [`off_the_record`](Self::off_the_record).
#[derive(Clone, Default)]
pub struct MetricsProbe {
    store: Arc<Store>,
}

#[derive(Default)]
struct Store {
    series: Mutex<BTreeMap<Series, Cell>>,
    described: Mutex<BTreeMap<String, Description>>,
    off_the_record: bool,
}

/// Which sort of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Counts up.
    Counter,
    /// Has a current value.
    Gauge,
    /// Has many values.
    Histogram,
}

/// One time series: a metric with values for its labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Series {
    /// The name of the metric.
    pub name: String,
    /// Which sort of metric.
    pub kind: MetricKind,
    /// Labels, sorted.
    pub labels: Vec<(String, String)>,
}

impl Series {
    fn new(kind: MetricKind, key: &Key) -> Self {
        let mut labels: Vec<_> =
            key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        labels.sort();
        Self { name: key.name().to_owned(), kind, labels }
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(key, value)| self.labels.iter().any(|(k, v)| k == key && v == value))
    }

    /// That there is one, in Prometheus' text format.
    fn exposed(&self) -> String {
        let Self { name, kind, labels } = self;
        let (kind, part) = match kind {
            MetricKind::Counter => ("counter", ""),
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Histogram => ("histogram", "_count"),
        };
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        format!("# TYPE {name} {kind}\n{name}{part}{{{}}} 1\n", labels.join(","))
    }
}

/// How a metric was described.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Which sort of metric.
    pub kind: MetricKind,
    /// The unit, where one was given.
    pub unit: Option<Unit>,
    /// The text.
    pub text: String,
}

#[derive(Clone)]
enum Cell {
    Counter(Arc<OnRecord<AtomicU64>>),
    Gauge(Arc<OnRecord<AtomicU64>>),
    Histogram(Arc<OnRecord<Samples>>),
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        unpoisoned(&self.0).push(value);
    }
}

impl MetricsProbe {
    /// Makes a probe that is installed nowhere.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a probe that is installed nowhere and writes nothing to the folder of `BUTTRESS_EMITTED`: for tests
    /// of which the events are made up, or the names have a prefix.
    pub fn off_the_record() -> Self {
        let store = Store { off_the_record: true, ..Store::default() };
        Self { store: Arc::new(store) }
    }

    /// Installs a probe as the recorder of the process. All calls in one process give the same one, so several
    /// tests of one binary may use it, told apart by the names of their policies.
    ///
    /// # Panics
    /// Where another recorder is installed already.
    pub fn install_global() -> Self {
        static GLOBAL: OnceLock<MetricsProbe> = OnceLock::new();
        let install = || {
            let probe = Self::new();
            assert!(
                metrics::set_global_recorder(probe.clone()).is_ok(),
                "another metrics recorder is installed in this process"
            );
            probe
        };
        GLOBAL.get_or_init(install).clone()
    }

    /// Makes it the recorder of this thread while `work` runs.
    pub fn with_local<T>(&self, work: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self, work)
    }

    /// Makes it the recorder of this thread until the guard is dropped: for async tests on one thread.
    pub fn set_local(&self) -> metrics::LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(self)
    }

    /// The sum of the counters of this name that have these labels; 0 where there is none.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.matching(name, labels)
            .iter()
            .filter_map(|(_, cell)| match cell {
                Cell::Counter(count) => Some(count.value.load(SeqCst)),
                _ => None,
            })
            .sum()
    }

    /// The value of the one gauge of this name that has these labels; `None` where there is none.
    ///
    /// # Panics
    /// Where several gauges have these labels.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<_> = self
            .matching(name, labels)
            .into_iter()
            .filter_map(|(_, cell)| match cell {
                Cell::Gauge(bits) => Some(f64::from_bits(bits.value.load(SeqCst))),
                _ => None,
            })
            .collect();
        assert!(values.len() <= 1, "{} gauges `{name}` have the labels {labels:?}", values.len());
        values.first().copied()
    }

    /// The samples of all histograms of this name that have these labels; in order within each.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.matching(name, labels)
            .iter()
            .filter_map(|(_, cell)| match cell {
                Cell::Histogram(samples) => Some(unpoisoned(&samples.value.0).clone()),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// All series, sorted by name, kind and labels.
    pub fn series(&self) -> Vec<Series> {
        self.cells().keys().cloned().collect()
    }

    /// All names, each with the keys of its labels over all its series.
    pub fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Series { name, labels, .. } in self.series() {
            names.entry(name).or_default().extend(labels.into_iter().map(|(key, _)| key));
        }
        names
    }

    /// What was described, by name.
    pub fn descriptions(&self) -> BTreeMap<String, Description> {
        unpoisoned(&self.store.described).clone()
    }

    /// Forgets the series of this name that have these labels, as exporters do with idle ones: handles made
    /// before write to nowhere, whoever registers anew begins at zero. Returns how many there were.
    pub fn evict(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        let mut series = self.cells();
        let before = series.len();
        series.retain(|series, _| !(series.name == name && series.has(labels)));
        before - series.len()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(Series, Cell)> {
        self.cells()
            .iter()
            .filter(|(series, _)| series.name == name && series.has(labels))
            .map(|(series, cell)| (series.clone(), cell.clone()))
            .collect()
    }

    fn cells(&self) -> MutexGuard<'_, BTreeMap<Series, Cell>> {
        unpoisoned(&self.store.series)
    }

    fn cell(&self, kind: MetricKind, key: &Key, metadata: &Metadata<'_>) -> Cell {
        let series = Series::new(kind, key);
        if let Some(cell) = self.cells().get(&series) {
            return cell.clone();
        }
        // Only what buttress tells is anybody's business there.
        let kept =
            !self.store.off_the_record && metadata.target().starts_with("buttress") && on_record::is_kept();
        let line = kept.then(|| series.exposed());
        let cell = match kind {
            MetricKind::Counter => Cell::Counter(Arc::new(OnRecord::new(Default::default(), line))),
            MetricKind::Gauge => Cell::Gauge(Arc::new(OnRecord::new(Default::default(), line))),
            MetricKind::Histogram => Cell::Histogram(Arc::new(OnRecord::new(Default::default(), line))),
        };
        self.cells().entry(series).or_insert(cell).clone()
    }

    fn describe(&self, kind: MetricKind, key: KeyName, unit: Option<Unit>, text: SharedString) {
        let description = Description { kind, unit, text: text.into_owned() };
        unpoisoned(&self.store.described).insert(key.as_str().to_owned(), description);
    }
}

impl fmt::Debug for MetricsProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (Series { name, labels, .. }, cell) in &*self.cells() {
            match cell {
                Cell::Counter(count) => map.entry(&(name, labels), &count.value.load(SeqCst)),
                Cell::Gauge(bits) => map.entry(&(name, labels), &f64::from_bits(bits.value.load(SeqCst))),
                Cell::Histogram(samples) => map.entry(&(name, labels), &*unpoisoned(&samples.value.0)),
            };
        }
        map.finish()
    }
}

impl Recorder for MetricsProbe {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(MetricKind::Counter, key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(MetricKind::Gauge, key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(MetricKind::Histogram, key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match self.cell(MetricKind::Counter, key, metadata) {
            Cell::Counter(count) => Counter::from_arc(count),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match self.cell(MetricKind::Gauge, key, metadata) {
            Cell::Gauge(bits) => Gauge::from_arc(bits),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match self.cell(MetricKind::Histogram, key, metadata) {
            Cell::Histogram(samples) => Histogram::from_arc(samples),
            _ => Histogram::noop(),
        }
    }
}

fn unpoisoned<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
