use std::{
    fmt, ptr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use buttress_core::{ConfigError, Kind, Name, Observer, Recorder, observe};
use buttress_kit::unpoisoned;
use metrics::{Key, Label};

use crate::{
    catalog::{self, BUILD_INFO},
    clock, namesakes,
    places::Places,
    recorder::TableRecorder,
    series::{MAX_AGE, Series, register_gauge},
};

/// The metrics of this process, once set. Processes have one recorder of metrics; they have one of these too.
static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// The most often that a refresher refreshes.
const OFTEN: Duration = Duration::from_millis(10);

/// Exports all policies of the process, those that exist and those to come, with the default settings.
///
/// It needs no recorder yet: one that is installed later is found within a second. Calling it again, or after
/// [`MetricsBuilder::install`], changes nothing, so libraries may call it too.
pub fn install() {
    Metrics::default().set_up();
}

/// Describes the metrics of these kinds to the recorder at hand: `# HELP` lines and units, with the prefix that is
/// installed. The kinds of buttress itself are `buttress::KINDS`.
///
/// A kind is described when its first policy is made, and policies that see traffic repeat that for all about once a
/// second, so a recorder that came late has its descriptions soon. Call it to have them at once.
pub fn describe_all(kinds: &[Kind]) {
    match INSTALLED.get() {
        Some(metrics) => metrics.describe_all(kinds),
        None => Metrics::default().describe_all(kinds),
    }
}

/// Tells the gauges of all live policies as they are now, of what is [installed](install): see [`Metrics::refresh`].
pub fn refresh() {
    if let Some(metrics) = INSTALLED.get() {
        metrics.refresh();
    }
}

/// [Refreshes](refresh) for ever, each time `every` has passed: see [`Metrics::refresher`].
///
/// ```
/// # mod buttress { pub mod metrics { pub use buttress_metrics::*; } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// buttress::metrics::install();
/// tokio::spawn(buttress::metrics::refresher(std::time::Duration::from_secs(10)));
/// # }
/// ```
pub fn refresher(every: Duration) -> impl Future<Output = ()> + Send + 'static {
    repeat(every, refresh)
}

async fn repeat(every: Duration, refresh: impl Fn() + Send + 'static) {
    loop {
        refresh();
        tokio::time::sleep(every.max(OFTEN)).await;
    }
}

/// Exports policies through the `metrics` facade: an observer for the whole process ([`install`]), or for
/// single policies (`.observe(metrics)` in their builders). Not for both, or calls are counted twice.
///
/// Clones share the settings and the count of names.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
    /// The recorders of all policies whose names are too many: a million names cost no more memory than one. Not
    /// in `shared`, which they hold.
    others: Arc<Mutex<Vec<Arc<TableRecorder>>>>,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// When the metrics were last described: ms since `started`, plus 1.
    described: AtomicU64,
    started: Instant,
    /// The kinds that have had a policy.
    kinds: Mutex<Vec<Kind>>,
    pub(crate) places: Places,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) prefix: String,
    pub(crate) histograms: bool,
    pub(crate) handles: HandleMode,
    pub(crate) max_names: usize,
}

/// How handles of series come to a recorder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandleMode {
    /// Kept, and resolved again when a second old. A count costs a few nanoseconds. The default.
    #[default]
    Cached,
    /// Resolved for each event, at some hundred nanoseconds. For recorders that depend on the moment: local ones
    /// (`metrics::with_local_recorder`) and `metrics-tracing-context`, which labels series by the span.
    PerCall,
}

/// Settings for [`Metrics`]; from [`Metrics::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is exported before `install`"]
pub struct MetricsBuilder {
    settings: Settings,
}

impl Default for Metrics {
    fn default() -> Self {
        let settings = Settings {
            prefix: String::new(),
            histograms: true,
            handles: HandleMode::Cached,
            max_names: 1000,
        };
        Self::with_settings(settings)
    }
}

impl Metrics {
    /// Makes metrics with settings of your own.
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder { settings: Self::default().shared.settings.clone() }
    }

    fn with_settings(settings: Settings) -> Self {
        let shared = Shared {
            places: Places::new(settings.max_names),
            settings,
            described: AtomicU64::new(0),
            started: clock::now(),
            kinds: Mutex::default(),
        };
        Self { shared: Arc::new(shared), others: Arc::default() }
    }

    /// Describes the metrics of these kinds to the recorder at hand, with this one's prefix.
    pub fn describe_all(&self, kinds: &[Kind]) {
        self.shared.describe(kinds);
    }

    /// Tells the gauges of all live policies as they are now.
    ///
    /// Some move by time alone, and a policy that nobody calls tells nothing: an open breaker whose wait is over is
    /// half-open, a retry budget fills up. So call this before the page is made;
    #[cfg_attr(
        feature = "prometheus",
        doc = "[`prometheus::render`](crate::prometheus::render) does both for what is installed."
    )]
    #[cfg_attr(not(feature = "prometheus"), doc = "`prometheus::render` does both for what is installed.")]
    /// It also brings back what the exporter evicted, or never had because it came late. A policy is known from its
    /// first event on. For a thousand policies it takes some milliseconds.
    pub fn refresh(&self) {
        let Self { shared, others } = self;
        shared.describe_now_and_then(clock::now());
        let others = unpoisoned(others.lock()).clone();
        shared.places.live().iter().chain(&others).for_each(|recorder| recorder.refresh());
    }

    /// [Refreshes](Self::refresh) for ever, each time `every` has passed, at most every 10 ms: for exporters that push,
    /// and for those that answer scrapes themselves. Spawn it; it ends when its task does.
    ///
    /// It sleeps by tokio's clock, so paused time drives it in tests.
    pub fn refresher(&self, every: Duration) -> impl Future<Output = ()> + Send + use<> {
        let metrics = self.clone();
        repeat(every, move || metrics.refresh())
    }

    /// Whether it is this one that is installed now.
    fn set_up(self) -> bool {
        let mut first = false;
        INSTALLED.get_or_init(|| {
            first = true;
            self.describe_all(&[]);
            observe::install(self.clone());
            self
        });
        first
    }
}

impl MetricsBuilder {
    /// Puts this before every name: `"buttress_"` makes `buttress_circuit_breaker_state`. Default: nothing.
    ///
    /// Takes letters, digits, `_` and `:`, and no digit first. A process that also uses another library with
    /// metrics such as `retry_attempts_total` needs one, for series of both would be summed up together. The
    /// shipped dashboard has a variable for it.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// Whether histograms are exported. Default: true. Without them policies read no clock for them.
    pub fn histograms(mut self, histograms: bool) -> Self {
        self.settings.histograms = histograms;
        self
    }

    /// How handles are resolved. Default: [`HandleMode::Cached`].
    pub fn handle_mode(mut self, handles: HandleMode) -> Self {
        self.settings.handles = handles;
        self
    }

    /// How many different names of policies get series of their own, from 1. Default: 1000.
    ///
    /// Policies beyond it are counted together as [`OTHER`](crate::OTHER), without gauges, so that names made
    /// from what users send cannot flood the exporter.
    pub fn max_names(mut self, max_names: usize) -> Self {
        self.settings.max_names = max_names;
        self
    }

    /// Makes an observer with these settings, for single policies.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Metrics, ConfigError> {
        let Settings { prefix, max_names, .. } = &self.settings;
        let fits = |(at, c): (usize, char)| {
            matches!(c, 'a'..='z' | 'A'..='Z' | '_' | ':') || (at > 0 && c.is_ascii_digit())
        };
        if !prefix.chars().enumerate().all(fits) {
            return Err(ConfigError::new(
                "prefix",
                prefix,
                "may have letters, digits, `_` and `:` only, and no digit first",
            ));
        }
        if *max_names == 0 {
            return Err(ConfigError::new("max_names", max_names, "must be at least 1"));
        }
        Ok(Metrics::with_settings(self.settings))
    }

    /// Exports all policies of the process with these settings. It lasts for the life of the process.
    ///
    /// Calling it again with the same settings changes nothing.
    ///
    /// # Errors
    /// Where a setting cannot work, and where other settings are installed already: names cannot change under
    /// series that exist.
    pub fn install(self) -> Result<(), ConfigError> {
        let settings = self.settings.clone();
        if self.build()?.set_up() || INSTALLED.get().is_some_and(|one| one.shared.settings == settings) {
            return Ok(());
        }
        Err(ConfigError::new(
            "metrics",
            settings,
            "other settings are installed in this process already; install once, before the libraries do",
        ))
    }
}

impl Observer for Metrics {
    fn attach(&self, kind: Kind, name: &Name) -> Option<Arc<dyn Recorder>> {
        if kind.metrics.is_empty() {
            return None;
        }
        self.shared.know(kind);
        let make = |seat| Arc::new(TableRecorder::new(kind, Series::new(&self.shared, kind, seat)));
        if let Some(seat) = self.shared.places.reserve(kind, name) {
            let recorder = make(Some(seat));
            if self.shared.places.take(&recorder) {
                namesakes::tell(kind, name);
            }
            return Some(recorder);
        }
        let mut others = unpoisoned(self.others.lock());
        if let Some(recorder) = others.iter().find(|one| ptr::eq(one.kind, kind)) {
            return Some(recorder.clone());
        }
        let recorder = make(None);
        others.push(recorder.clone());
        Some(recorder)
    }
}

impl Shared {
    /// Describes a kind at once when its first policy comes. Statics of one name may have different tables.
    fn know(&self, kind: Kind) {
        let mut kinds = unpoisoned(self.kinds.lock());
        if !kinds.iter().any(|known| ptr::eq(*known, kind)) {
            kinds.push(kind);
            drop(kinds);
            self.describe(&[kind]);
        }
    }

    fn describe(&self, kinds: &[Kind]) {
        let prefix = &self.settings.prefix;
        metrics::with_recorder(|recorder| {
            kinds.iter().for_each(|kind| catalog::describe(kind, prefix, recorder));
            catalog::describe_common(prefix, recorder);
        });
        let version = Label::from_static_parts("version", env!("CARGO_PKG_VERSION"));
        register_gauge(&Key::from_parts(catalog::prefixed(prefix, BUILD_INFO), vec![version])).set(1.0);
    }

    /// Describes all that is known for a recorder that may be new, once in [`MAX_AGE`] for the whole process.
    pub(crate) fn describe_now_and_then(&self, now: Instant) {
        let ms = u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        let stamp = ms.saturating_add(1);
        let last = self.described.load(Relaxed);
        let due = last == 0 || u128::from(stamp.saturating_sub(last)) >= MAX_AGE.as_millis();
        if due && self.described.compare_exchange(last, stamp, Relaxed, Relaxed).is_ok() {
            let kinds = unpoisoned(self.kinds.lock()).clone();
            self.describe(&kinds);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
