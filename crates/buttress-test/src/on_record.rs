//! What the policies of a whole test run emitted, for whoever holds it against a catalogue.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use metrics::{CounterFn, GaugeFn, HistogramFn};

/// Names the folder. Where it is not set, nothing is written.
const FOLDER: &str = "BUTTRESS_EMITTED";

/// A value that goes on record when it is first told to be anything but 0.
///
/// Then, and not when the probe is dropped: one that is installed for the process is never dropped.
pub(crate) struct OnRecord<T> {
    pub(crate) value: T,
    /// As Prometheus' text format has it; `None` for what stays off the record.
    line: Option<String>,
    written: AtomicBool,
}

impl<T> OnRecord<T> {
    pub(crate) fn new(value: T, line: Option<String>) -> Self {
        Self { value, line, written: AtomicBool::new(false) }
    }

    fn told(&self, something: bool) {
        let line = self.line.as_ref().filter(|_| something);
        if let Some(line) = line.filter(|_| !self.written.swap(true, Relaxed)) {
            write(line);
        }
    }
}

impl<T: CounterFn> CounterFn for OnRecord<T> {
    fn increment(&self, by: u64) {
        self.value.increment(by);
        self.told(by > 0);
    }

    fn absolute(&self, value: u64) {
        self.value.absolute(value);
        self.told(value > 0);
    }
}

impl<T: GaugeFn> GaugeFn for OnRecord<T> {
    fn increment(&self, by: f64) {
        self.value.increment(by);
        self.told(by != 0.0);
    }

    fn decrement(&self, by: f64) {
        self.value.decrement(by);
        self.told(by != 0.0);
    }

    fn set(&self, value: f64) {
        self.value.set(value);
        self.told(value != 0.0);
    }
}

impl<T: HistogramFn> HistogramFn for OnRecord<T> {
    fn record(&self, value: f64) {
        self.value.record(value);
        self.told(true);
    }
}

pub(crate) fn is_kept() -> bool {
    file().is_some()
}

/// One file for a process; another process that gets the same number later adds to it.
fn file() -> Option<&'static Mutex<File>> {
    static FILE: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    let open = || {
        let path = Path::new(&std::env::var_os(FOLDER)?).join(format!("{}.prom", std::process::id()));
        OpenOptions::new().create(true).append(true).open(path).ok().map(Mutex::new)
    };
    FILE.get_or_init(open).as_ref()
}

fn write(line: &str) {
    if let Some(file) = file() {
        // What is lost is missed by whoever compares.
        let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}
