//! What is alike in every pattern: its front page, its public methods, what must be used.

use std::fs;

use buttress::{
    BoxError, Breaker, BreakerConfig, Bulkhead, BulkheadConfig, ConfigError, Events, Fallback,
    FallbackConfig, Handle, Health, Name, Retry, RetryConfig, Timeout, TimeoutConfig,
    breaker::BreakerBuilder, breaker::BreakerSnapshot, bulkhead::BulkheadBuilder, bulkhead::BulkheadSnapshot,
    fallback::FallbackBuilder, fallback::FallbackSnapshot, kit::Config, retry::RetryBuilder,
    retry::RetrySnapshot, timeout::TimeoutBuilder, timeout::TimeoutSnapshot,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::floors::{PATTERNS, closing, tokens};

/// What each front page has besides what is the pattern's own, in this order; the own sections stand after the first
/// two.
const BEGINS: [&str; 2] = ["When not", "Place in a stack"];
const ENDS: [&str; 5] = ["Results", "What is told", "Settings", "Cost", "Panics"];

#[test]
fn front_pages_have_the_same_sections_in_the_same_order() {
    for pattern in PATTERNS {
        let lib = fs::read_to_string(pattern.src().join("lib.rs")).unwrap();
        let page: Vec<_> = lib.lines().map_while(|line| line.strip_prefix("//!")).collect();
        // Within a piece of code, `#` hides a line.
        let (mut in_code, mut sections, mut first_example) = (false, Vec::new(), None);
        for (at, line) in page.iter().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            first_example = first_example.or(in_code.then_some(sections.len()));
            if let (Some(section), false) = (line.strip_prefix(" # "), in_code) {
                let text = page[at + 1..].iter().take_while(|line| !line.starts_with(" # "));
                assert!(text.clone().any(|line| !line.is_empty()), "{}: {section} is empty", pattern.name);
                sections.push(section);
            }
        }
        let name = pattern.name;
        assert_eq!(first_example, Some(0), "{name}: an example comes first");
        assert!(sections.starts_with(&BEGINS), "{name}: {sections:?}, and not first {BEGINS:?}");
        assert!(sections.ends_with(&ENDS), "{name}: {sections:?}, and not last {ENDS:?}");
        let told = lib.split("# What is told").nth(1).unwrap().split("# Settings").next().unwrap();
        assert!(told.contains("`KIND`"), "{name}: what is told says where metrics and log lines are");
        // And every setting is on it.
        let config = tokens(&fs::read_to_string(pattern.src().join("config.rs")).unwrap());
        let table = lib.split("//! # Settings").nth(1).unwrap().split("//! # Cost").next().unwrap();
        let begin = config.iter().position(|token| token == "settings").unwrap();
        let open = config.iter().skip(begin).position(|token| token == "builder").unwrap() + begin;
        let end = closing(&config, open + 2).unwrap();
        let fields = config[open..end].windows(3).filter(|three| three[0] == "pub" && three[2] == ":");
        for field in fields.map(|three| &three[1]) {
            assert!(
                table.contains(&format!("`{field}`")),
                "{name}: `{field}` is not in the table of settings"
            );
        }
    }
}

/// Of a handle, its settings, its builder, its snapshot, and a layer of it: compiles only if all have the same methods.
macro_rules! alike {
    ($name:ident: $Handle:ty, $Config:ty, $Builder:ty, $Snapshot:ty, $layer:expr) => {
        #[tokio::test]
        async fn $name() {
            fn builders_are_data<T: Clone + std::fmt::Debug>(builder: &T) -> T {
                builder.clone()
            }
            fn is_handle<H: Handle + Clone + std::fmt::Debug>(_: &H) {}
            fn is_config<C: Config>() {}
            fn is_snapshot<T: Clone + std::fmt::Debug + PartialEq + serde::Serialize>(_: &T) {}

            is_config::<$Config>();
            let builder: $Builder = <$Handle>::builder("alike");
            let builder = builders_are_data(&builder).config(<$Config>::default()).on_event(|_| ());
            let handle: $Handle = builder.build().unwrap();
            is_handle(&handle);
            let name: &Name = handle.name();
            assert_eq!(name.as_str(), "alike");
            let config: $Config = handle.config();
            let changed: Result<(), ConfigError> = handle.reconfigure(config.clone());
            changed.unwrap();
            let changed: Result<(), ConfigError> =
                handle.update(|config: &mut $Config| *config = config.clone());
            changed.unwrap();
            assert_eq!(handle.config(), config);
            let before: $Snapshot = handle.snapshot();
            is_snapshot(&before);
            let _events: Events = handle.events();
            assert_eq!(Handle::health(&handle), Health::Up);
            let _: $Handle = <$Handle>::new("alike", config).unwrap();

            let echo = || service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
            let layer = ($layer)(&handle);
            let way_back: &$Handle = layer.handle();
            assert_eq!(way_back.name(), handle.name());
            let _ = (layer.clone(), format!("{layer:?}"));
            let mut service = layer.layer(echo());
            assert_eq!(service.get_ref().clone().oneshot(1).await.unwrap(), 1);
            assert_eq!(service.get_mut().ready().await.unwrap().call(2).await.unwrap(), 2);
            assert_eq!(service.clone().oneshot(3).await.unwrap(), 3);
            assert_eq!(service.into_inner().oneshot(4).await.unwrap(), 4);
            handle.reset();
        }
    };
}

alike!(breaker: Breaker, BreakerConfig, BreakerBuilder, BreakerSnapshot, |handle: &Breaker| handle.layer());
alike!(retry: Retry, RetryConfig, RetryBuilder, RetrySnapshot, |handle: &Retry| handle.layer());
alike!(timeout: Timeout, TimeoutConfig, TimeoutBuilder, TimeoutSnapshot, |handle: &Timeout| handle.layer());
alike!(bulkhead: Bulkhead, BulkheadConfig, BulkheadBuilder, BulkheadSnapshot, |handle: &Bulkhead| handle.layer());
alike!(fallback: Fallback, FallbackConfig, FallbackBuilder, FallbackSnapshot, |handle: &Fallback| {
    handle.layer().value(7_u32)
});

#[test]
fn futures_of_all_patterns_must_be_used() {
    let mut futures = 0;
    for pattern in PATTERNS {
        for file in pattern.order().flat_map(|module| pattern.files(module)) {
            let source = fs::read_to_string(&file).unwrap();
            let tokens = tokens(&source);
            for implemented in tokens.windows(3).filter(|three| three[0] == "Future" && three[1] == "for") {
                let name = &implemented[2];
                let public = format!("pub struct {name}<");
                let plain = format!("pub struct {name} ");
                let Some(at) = source.find(&public).or_else(|| source.find(&plain)) else { continue };
                let above = source[..at].rsplit("\n\n").next().unwrap();
                assert!(above.contains("#[must_use"), "{}: {name}", file.display());
                futures += 1;
            }
        }
    }
    assert!(futures >= 8, "only {futures}");
}
