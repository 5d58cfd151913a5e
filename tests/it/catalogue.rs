//! The catalogue of all kinds: its names, its buckets, and its table in the guide.

use std::{collections::BTreeSet, path::Path};

use buttress::{
    KINDS,
    metrics::{DURATION_BUCKETS, MetricKind, OTHER, buckets, catalog},
};
use metrics::Unit;

#[test]
fn names_follow_the_conventions_of_prometheus() {
    let catalog = catalog(KINDS);
    for def in &catalog {
        let (name, kind, unit, labels, help) = (def.name, def.kind, def.unit, &def.labels, def.help);
        assert_eq!(kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(unit == Some(Unit::Seconds), name.ends_with("_seconds"), "{name}");
        assert!(kind != MetricKind::Histogram || unit.is_some(), "{name}");
        assert!(help.ends_with('.'), "{name}");
        assert!(name == "buttress_build_info" || labels[0].key == "name", "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    }
    let names: BTreeSet<_> = catalog.iter().map(|def| def.name).collect();
    assert_eq!(names.len(), catalog.len());
}

#[test]
fn every_histogram_has_buckets_in_ascending_order() {
    let (catalog, buckets) = (catalog(KINDS), buckets(KINDS));
    let histograms = catalog.iter().filter(|def| def.kind == MetricKind::Histogram);
    let named: BTreeSet<_> = buckets.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, histograms.map(|def| def.name).collect());
    for (name, bounds) in buckets {
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{name}");
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn table() -> String {
    let mut table = String::from("| metric | kind | labels | what it tells |\n|---|---|---|---|\n");
    for def in catalog(KINDS) {
        let labels = def.labels.iter().map(|label| {
            let values: Vec<_> = label.values.iter().copied().map(code).collect();
            if values.is_empty() {
                code(label.key)
            } else {
                format!("`{}` = {}", label.key, values.join(" "))
            }
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        table += &format!("| `{}` | {} | {labels} | {} |\n", def.name, def.kind.as_str(), def.help);
    }
    table
}

/// Run with `BUTTRESS_UPDATE=1` to write the table anew.
#[test]
fn table_of_the_guide_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- catalogue -->\n", "<!-- end of catalogue -->");
    let from = page.find(begin).unwrap() + begin.len();
    let to = page.find(end).unwrap();
    if std::env::var_os("BUTTRESS_UPDATE").is_some() {
        std::fs::write(&path, [&page[..from], &table(), &page[to..]].concat()).unwrap();
        return;
    }
    assert_eq!(&page[from..to], table(), "run this test with BUTTRESS_UPDATE=1");
    // What the page says in words about buckets and the overflow name.
    assert!(page.contains(OTHER));
    let bounds: Vec<_> = DURATION_BUCKETS.iter().map(f64::to_string).collect();
    assert!(page.contains(&bounds.join(", ")));
}
