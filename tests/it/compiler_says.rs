//! docs/compiler-says.md: what the compiler says of mistakes that our own notes cannot reach, and what mends them. Each is
//! compiled, as it stands in `compiler_says/` and with its remedy.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/compiler-says.md");

const MANIFEST: &str = r#"
[package]
name = "compiler-says"
edition = "2024"

[features]
remedy = []

[dependencies]
buttress = { path = 'ROOT/crates/buttress', default-features = false, features = [
    "breaker", "retry", "timeout", "bulkhead", "fallback", "http",
] }
axum = { version = "0.8", default-features = false }
reqwest = { version = "0.13", default-features = false }
tokio = { version = "1", default-features = false, features = ["rt"] }
tower = { version = "0.5", default-features = false, features = ["util", "retry", "timeout"] }

[workspace]
"#;

/// The programs, and the first line that the page has for each.
const MISTAKES: &[(&str, &str)] = &[
    (
        "call_with_a_foreign_error",
        "`Standard` cannot tell what an outcome `Result<…, std::io::Error>` says about the service",
    ),
    (
        "closure_over_another_error",
        "the method `ready` exists for struct `BreakerService<LiftErrors<…>, …>`, but its trait bounds were not satisfied",
    ),
    (
        "extension_not_imported",
        "no method named `breaker` found for struct `ServiceBuilder<L>` in the current scope",
    ),
    (
        "fallback_without_an_answer",
        "the method `ready` exists for struct `FallbackService<LiftErrors<…>, …>`, but its trait bounds were not satisfied",
    ),
    ("function_that_changes_what_it_captures", "`ByClone` cannot send a request `{async closure@…}` again"),
    ("functions_without_last_word", "`std::io::Error` cannot carry a buttress rejection"),
    ("handle_for_a_layer", "mismatched types"),
    (
        "handle_in_layer",
        "the method `service` exists for struct `ServiceBuilder<Stack<LiftErrorsLayer, Stack<Breaker, Identity>>>`, but its trait bounds were not satisfied",
    ),
    ("hidden_future_spawned", "`<… as Service<u32>>::Future` cannot be sent between threads safely"),
    (
        "http_classify_on_reqwest",
        "the method `ready` exists for struct `BreakerService<LiftErrors<Client>, HttpClassify>`, but its trait bounds were not satisfied",
    ),
    (
        "lifted_outermost",
        "the method `ready` exists for struct `LiftErrors<BreakerService<…>>`, but its trait bounds were not satisfied",
    ),
    (
        "no_last_word",
        "the method `ready` exists for struct `BreakerService<ServiceFn<…>>`, but its trait bounds were not satisfied",
    ),
    ("replay_closure_without_a_type", "type annotations needed for `&_`"),
    ("respond_innermost", "`Infallible` cannot carry a buttress rejection"),
    ("retry_of_axum_requests", "`ByClone` cannot send a request `…Request<Body>` again"),
    (
        "retry_of_reqwest_requests",
        "the method `ready` exists for struct `RetryService<LiftErrors<Client>>`, but its trait bounds were not satisfied",
    ),
    ("router_without_last_word", "`Infallible` cannot carry a buttress rejection"),
    ("router_without_respond", "the trait bound `Infallible: …From<Box<…>>` is not satisfied"),
    ("timeout_call_with_a_foreign_error", "`std::io::Error` cannot carry a buttress rejection"),
    (
        "towers_retry",
        "the method `ready` exists for struct `Retry<RetryLayer, …>`, but its trait bounds were not satisfied",
    ),
    ("towers_timeout", "mismatched types"),
];

/// What is first said of each program that does not compile, with the code. The compiler itself is run, once for all.
fn first_lines(remedy: bool) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiler-says");
    let bins = package.join("src/bin");
    let _ = fs::remove_dir_all(&bins);
    fs::create_dir_all(&bins).unwrap();
    for (program, _) in MISTAKES {
        let file = format!("{program}.rs");
        fs::copy(root.join("tests/it/compiler_says").join(&file), bins.join(&file)).unwrap();
    }
    fs::write(package.join("Cargo.toml"), MANIFEST.replace("ROOT", root.to_str().unwrap())).unwrap();
    // The versions of this workspace, which are here already: nothing is fetched.
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["check", "--offline", "--quiet", "--bins", "--keep-going", "--message-format", "json"])
        .args(remedy.then_some("--features=remedy"))
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        // Each is compiled once, and what is kept for a second time can be out of date.
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let mut lines = BTreeMap::new();
    for told in String::from_utf8_lossy(&output.stdout).lines() {
        let told: Value = serde_json::from_str(told).unwrap();
        let message = &told["message"];
        if message["level"] == "error" && message["code"].is_object() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let line = format!("error[{}]: {}", text(&message["code"]["code"]), text(&message["message"]));
            lines.entry(text(&told["target"]["name"])).or_insert(line);
        }
    }
    assert_eq!(output.status.success(), lines.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    lines
}

/// Whether a line is this one, in which `…` stands for anything.
fn is_as(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn each_mistake_is_told_as_the_page_says_and_mended_by_its_remedy() {
    let told = first_lines(false);
    for (program, line) in MISTAKES {
        let told = told.get(*program).unwrap_or_else(|| panic!("{program} compiles"));
        let (_, message) = told.split_once("]: ").unwrap();
        assert!(is_as(message, line), "{program}: {told}");
        let code = &told[..told.len() - message.len()];
        assert!(PAGE.contains(&format!("```text\n{code}{line}\n```")), "the page has no {code}{line}");
    }
    assert_eq!(first_lines(true), BTreeMap::new());
}

#[test]
fn page_has_no_line_that_no_program_makes() {
    for entry in PAGE.split("```text\n").skip(1) {
        let line = entry.split("\n```").next().unwrap();
        assert!(MISTAKES.iter().any(|(_, made)| line.ends_with(&format!("]: {made}"))), "{line}");
    }
    let programs =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/compiler_says")).unwrap();
    let mut programs: Vec<_> =
        programs.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    programs.sort();
    assert_eq!(programs, MISTAKES.iter().map(|(program, _)| format!("{program}.rs")).collect::<Vec<_>>());
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    assert!(is_as("struct `A<B<C>>`, but", "struct `A<…>`, but"));
    assert!(is_as("plain", "plain"));
    assert!(!is_as("plainer", "plain"));
    assert!(!is_as("struct `B<C>`, but", "struct `A<…>`, but"));
    assert!(!is_as("struct `A<C>`, and", "struct `A<…>`, but"));
}
