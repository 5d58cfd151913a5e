//! `cargo xtask test`: what a change must pass.

use serde_json::{Value, json};

use crate::{
    Result,
    command::Cmd,
    dependencies, emitted, prove,
    report::{Done, Step},
    tools,
    workspace::{Workspace, selecting},
};

/// The steps, quickest to fail first.
pub(crate) fn steps(workspace: &Workspace, install: bool) -> Vec<Step<'_>> {
    vec![
        Step::new("tools", move || {
            tools::ensure_components(install)?;
            tools::ensure(tools::TEST, install)
        }),
        Step::new("dependencies", || dependencies::check(workspace)),
        Step::new("format", || passed(Cmd::cargo("fmt --all --check").run())),
        Step::new("clippy", || {
            let clippy = Cmd::cargo("clippy").args(workspace.without_benches());
            passed(clippy.words("--all-targets --all-features -- -D warnings").run())
        }),
        Step::new("time arithmetic", || time_arithmetic(workspace)),
        Step::new("tests", move || tests(workspace, install)),
        Step::new("metrics", || emitted::compare(workspace)),
        Step::new("alerts", move || alerts(workspace, install)),
        Step::new("loom models", || loom(workspace)),
        Step::new("rustdoc", || {
            passed(
                Cmd::cargo("doc --no-deps --all-features")
                    .args(workspace.without_benches())
                    .env("RUSTDOCFLAGS", "-D warnings")
                    .run(),
            )
        }),
        Step::new("features", || features(workspace)),
        Step::new("a further pattern", move || prove::toy(workspace, install)),
    ]
}

fn passed(outcome: Result) -> Result<Done> {
    outcome.map(|()| Done::Passed)
}

/// Those over a real redis-server too, where there is one; else they are left out as ignored.
fn tests(workspace: &Workspace, install: bool) -> Result<Done> {
    let emitted = emitted::empty_folder(workspace)?;
    let tests = Cmd::cargo("test --all-features --no-fail-fast")
        .args(workspace.without_benches())
        .env(emitted::VARIABLE, emitted);
    let (tests, without) = match tools::redis_server(workspace, install)? {
        Some(server) => (tests.env("BUTTRESS_REDIS_SERVER", server).words("-- --include-ignored"), ""),
        None => {
            (tests, "; redis-server is not installed, its tests were left out (on Debian, --install gets it)")
        }
    };
    let tally = tests.run_tests()?;
    Ok(Done::Noted(format!("{} tests{without}", tally.passed)))
}

/// The shipped alerts and the dashboard as Prometheus reads them; and when the alerts fire, and when not.
fn alerts(workspace: &Workspace, install: bool) -> Result<Done> {
    let Some(program) = tools::promtool(workspace, install)? else {
        return Ok(Done::Skipped("promtool is not installed; on Debian, --install gets it".into()));
    };
    let contrib = workspace.root.join("contrib");
    let promtool = |arguments: &str| {
        Cmd::new(&program.to_string_lossy()).words(arguments).dir(&contrib.join("prometheus"))
    };
    promtool("check rules --lint=all --lint-fatal alerts.yml").run()?;
    promtool("test rules alerts_test.yml").run()?;

    let dashboard = workspace.scratch("dashboard.yml");
    let (rules, queries) = rules_of(&std::fs::read_to_string(contrib.join("grafana/buttress.json"))?)?;
    std::fs::write(&dashboard, rules)?;
    promtool("check rules").arg(&dashboard).run()?;
    Ok(Done::Noted(format!("and {queries} queries of the dashboard")))
}

/// The queries of a dashboard as rules, which promtool can check, and how many there are. JSON is YAML.
fn rules_of(dashboard: &str) -> Result<(String, usize)> {
    fn find(value: &Value, rules: &mut Vec<Value>) {
        if let Some(query) = value.get("expr").and_then(Value::as_str) {
            let values = [("${prefix}", ""), ("$__rate_interval", "5m"), ("$__interval", "1m")];
            let query =
                values.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value));
            rules.push(json!({ "record": format!("query_{}", rules.len()), "expr": query }));
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| find(item, rules)),
            Value::Object(fields) => fields.values().for_each(|field| find(field, rules)),
            _ => {}
        }
    }
    let mut rules = Vec::new();
    find(&serde_json::from_str(dashboard)?, &mut rules);
    let queries = rules.len();
    Ok((json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string(), queries))
}

/// Unchecked arithmetic on times panics on overflow, and the times of a config come from a file. Numbers are
/// left out by `clippy.toml`; tests are left out because they add times they know.
fn time_arithmetic(workspace: &Workspace) -> Result<Done> {
    let clippy = Cmd::cargo("clippy --lib --all-features").args(selecting(workspace.crates()));
    passed(clippy.words("-- -D clippy::arithmetic_side_effects").run())
}

/// Runs the models of what is synchronised by hand, with loom's types in place of std's.
pub(crate) fn loom(workspace: &Workspace) -> Result<Done> {
    let modelled = workspace.modelled();
    if modelled.is_empty() {
        return Ok(Done::Skipped("no crate has models".into()));
    }
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    // A folder of its own, or every other build would start anew after this one. Crate by crate: with more
    // than one `-p`, cargo joins their features.
    let mut models = 0;
    for package in modelled {
        let tally = Cmd::cargo("test --profile loom --lib --target-dir")
            .arg(workspace.scratch("loom"))
            .args(["-p", &package.name, "models"])
            .env("RUSTFLAGS", format!("{flags} --cfg buttress_loom").trim())
            .run_tests()?;
        models += tally.passed;
    }
    Ok(Done::Noted(format!("{models} tests")))
}

/// Each crate by itself, without what its tests would add: with no feature, with each, with all.
fn features(workspace: &Workspace) -> Result<Done> {
    let mut choices = 0;
    for package in workspace.crates() {
        for choice in package.feature_choices() {
            // Clippy, not check: it denies warnings in our crates and leaves the flags of all others alone.
            let clippy = Cmd::cargo("clippy --lib").args(["-p", &package.name]).words(&choice);
            clippy.words("-- -D warnings").run_quietly()?;
            choices += 1;
        }
    }
    Ok(Done::Noted(format!("{choices} choices of features")))
}
