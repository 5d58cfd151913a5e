//! The shipped dashboard and alerts may refer to nothing that is not in the catalogue.

use std::{collections::BTreeSet, path::Path};

use buttress::{
    KINDS,
    metrics::{MetricDef, MetricKind, catalog},
};
use serde_json::Value;

use crate::promql::{References, references};

/// Labels that the scrape and the histogram format add.
const ADDED: [&str; 2] = ["job", "instance"];

fn contrib(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The definition of a series as Prometheus has it, and whether it is a part of a histogram.
fn definition(series: &str) -> Option<(MetricDef, bool)> {
    catalog(KINDS).into_iter().find_map(|def| {
        let part = series.strip_prefix(def.name)?;
        match (def.kind, part) {
            (MetricKind::Histogram, "_bucket") => Some((def, true)),
            (MetricKind::Histogram, "_sum" | "_count") => Some((def, false)),
            (MetricKind::Histogram, _) => None,
            (_, "") => Some((def, false)),
            _ => None,
        }
    })
}

/// What is wrong with an expression. Empty: nothing.
fn faults(expression: &str) -> Vec<String> {
    let References { metrics, matched, grouped } = references(expression);
    let mut faults = Vec::new();
    let mut known = BTreeSet::from(ADDED);
    for metric in &metrics {
        match definition(metric) {
            None => faults.push(format!("no metric {metric}")),
            Some((def, bucket)) => {
                known.extend(def.labels.iter().map(|label| label.key));
                known.extend(bucket.then_some("le"));
            }
        }
    }
    faults.extend(
        grouped.iter().filter(|label| !known.contains(label.as_str())).map(|label| format!("by {label}")),
    );
    for [metric, label, how, value] in &matched {
        let Some((def, _)) = definition(metric) else { continue };
        match def.labels.iter().find(|one| one.key == label) {
            None if ADDED.contains(&label.as_str()) => {}
            None => faults.push(format!("{metric} has no label {label}")),
            Some(one) => {
                // Of patterns, only plain alternatives can be looked up.
                let plain = value.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '|'));
                if one.values.is_empty() || (how.ends_with('~') && !plain) {
                    continue;
                }
                let strange = value.split('|').filter(|value| !one.values.contains(value));
                faults.extend(strange.map(|value| format!("{metric}{{{label}=\"{value}\"}} never occurs")));
            }
        }
    }
    if metrics.is_empty() {
        faults.push("refers to no metric".to_owned());
    }
    faults
}

#[test]
fn faults_are_found() {
    assert!(faults("sum by (job, name) (rate(retry_calls_total{result=\"cancelled\"}[5m])) > 0").is_empty());
    assert!(faults("timeout_operation_duration_seconds_bucket").is_empty());
    for wrong in [
        "retry_cals_total",
        "retry_calls_total_bucket",
        "timeout_operation_duration_seconds", // a histogram has no series of its own name
        "retry_calls_total{outcome=\"success\"}",
        "retry_calls_total{result=\"sucess\"}",
        "retry_stopped_total{reason=~\"budget|deadlines\"}",
        "sum by (policy) (retry_calls_total)",
        "sum by (le) (retry_calls_total)",
        "1 + 1",
    ] {
        assert_eq!(faults(wrong).len(), 1, "{wrong}: {:?}", faults(wrong));
    }
}

/// All values of `key`, at any depth.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                found.extend(field.as_str().filter(|_| name == key));
                all(field, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| all(item, key, found)),
        _ => {}
    }
}

#[test]
fn dashboard_refers_to_the_catalogue_only() {
    let dashboard: Value = serde_json::from_str(&contrib("grafana/buttress.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert_eq!(panels.len(), 7);
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            // `$prefix` stands before every name, so that the dashboard fits either way of naming.
            for metric in &references(&expression.replace("${prefix}", "prefixed_")).metrics {
                assert!(metric.starts_with("prefixed_"), "{title}: {metric}");
            }
        }
    }
    let mut expressions = Vec::new();
    all(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() >= 10, "{expressions:?}");
    for expression in expressions {
        let faults = faults(&expression.replace("${prefix}", ""));
        assert!(faults.is_empty(), "{expression}: {faults:?}");
    }
    // The variables ask for values of labels: `label_values(SELECTOR, LABEL)`.
    let mut queries = Vec::new();
    all(&dashboard["templating"], "definition", &mut queries);
    assert_eq!(queries.len(), 3);
    for query in queries {
        let plain = query.replace("${prefix}", "");
        let inside = plain.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (selector, label) = inside.rsplit_once(", ").unwrap();
        assert!(["job", "instance", "name"].contains(&label), "{query}");
        // One of them chooses by a pattern of names; each of its alternatives must exist.
        let names = match selector.strip_prefix("{__name__=~\"(") {
            Some(pattern) => pattern.split_once(")\"").unwrap().0.split('|').collect(),
            None => vec![selector.split('{').next().unwrap()],
        };
        assert!(names.iter().all(|name| definition(name).is_some()), "{query}");
    }
}

/// One alert: `(its name, its fields as path and text)`, by indentation. Enough YAML for this file, and no more.
fn alerts(yaml: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut alerts: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let (mut section, mut block) = (String::new(), None);
    for line in yaml.lines() {
        let (indent, text) = (line.len() - line.trim_start().len(), line.trim());
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(name) = text.strip_prefix("- alert: ") {
            alerts.push((name.to_owned(), Vec::new()));
            (section, block) = (String::new(), None);
            continue;
        }
        let Some((_, fields)) = alerts.last_mut() else { continue };
        if let Some(at) = block {
            if indent > at {
                let (_, expression) = fields.last_mut().unwrap();
                *expression += text;
                expression.push('\n');
                continue;
            }
            block = None;
        }
        let (key, value) = text.split_once(':').unwrap_or_else(|| panic!("not a field: {line}"));
        match (indent, value.trim()) {
            (8, "") => section = format!("{key}."),
            (8, "|") => {
                fields.push((key.to_owned(), String::new()));
                (section, block) = (String::new(), Some(8));
            }
            (8, value) => {
                fields.push((key.to_owned(), value.to_owned()));
                section = String::new();
            }
            (10, value) if !section.is_empty() => {
                fields.push((format!("{section}{key}"), value.trim_matches('"').to_owned()));
            }
            _ => panic!("unexpected: {line}"),
        }
    }
    alerts
}

/// The headings of a page as links to them end.
fn sections(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-');
    headings.map(|text| text.to_lowercase().replace(|c| !kept(c), "").replace(' ', "-")).collect()
}

#[test]
fn alerts_refer_to_the_catalogue_only_and_say_what_to_do() {
    let alerts = alerts(&contrib("prometheus/alerts.yml"));
    let runbook = sections(&contrib("../docs/first-outage.md"));
    let names: Vec<_> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ButtressCircuitOpen",
            "ButtressKeysOpen",
            "ButtressCircuitFlapping",
            "ButtressRetryAmplificationHigh",
            "ButtressBulkheadRejecting"
        ]
    );
    for (name, fields) in &alerts {
        let field = |key| {
            let found = fields.iter().find(|(one, _)| one == key);
            found.unwrap_or_else(|| panic!("{name} has no {key}")).1.as_str()
        };
        let faults = faults(field("expr"));
        assert!(faults.is_empty(), "{name}: {faults:?}");
        assert!(field("for").ends_with('m'), "{name}");
        assert!(["critical", "warning", "info"].contains(&field("labels.severity")), "{name}");
        assert!(!field("annotations.summary").is_empty() && !field("annotations.description").is_empty());
        let (_, section) = field("annotations.runbook_url").split_once("/docs/first-outage.md#").unwrap();
        assert!(runbook.contains(&section.to_owned()), "{name}: {section}");
        // What the texts refer to must be what the expression is grouped by.
        let grouped = references(field("expr")).grouped;
        let texts = [field("annotations.summary"), field("annotations.description")].concat();
        for label in texts.split("$labels.").skip(1) {
            let label = label.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            assert!(grouped.contains(label), "{name}: {label}");
        }
    }
}
